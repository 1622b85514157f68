//! The registration of the external metrics API and the trust behind it. Pure.

use super::{ApiFacts, Area, ClusterFacts, Lookup, Report, Settings, Severity, what};
use crate::cluster::API_SERVICE;
use crate::serve::Owner;
use crate::serve::auth::Trust;

const CONFIG_MAP: &str = "ConfigMap kube-system/extension-apiserver-authentication";

pub(super) fn judge(facts: &ClusterFacts, needed: bool, settings: &Settings, report: &mut Report) {
    report.checked.push("APIService".to_owned());
    let object = format!("APIService {API_SERVICE}");
    let apply = format!("poolwright manifests --policy {} --part api | kubectl apply -f -", settings.policy_path);
    let weight = if needed { Severity::Error } else { Severity::Info };
    match &facts.api {
        Lookup::Unknown(why) => {
            let action = format!("run the check as a user who may get it: `kubectl get apiservice {API_SERVICE}`");
            let message = format!("could not be checked: {why}");
            report.add(Area::Api, Severity::Info, "not-checked", object, what(message, action));
        }
        Lookup::Absent => {
            let message = what("does not exist: nobody serves external metrics, no HPA gets a number", apply);
            report.add(Area::Api, weight, "api-service-absent", object, message);
            trust(facts, weight, report);
        }
        Lookup::Found(api) if api.owner.is_foreign() => {
            let action = "let that server read poolwright's numbers from Prometheus, or scale by KEDA's external scaler \
                          (`poolwright manifests --for keda`), or take it over on purpose: `poolwright serve \
                          --take-over --upstream URL`";
            let message = format!(
                "belongs to {} ({}): HPAs ask it for poolwright's numbers, and poolwright leaves it alone",
                service(api),
                api.owner.as_str()
            );
            report.add(Area::Api, weight, "api-service-foreign", object, what(message, action));
        }
        Lookup::Found(api) => {
            ours(api, facts, weight, &object, settings, report);
            trust(facts, weight, report);
        }
    }
}

fn service(api: &ApiFacts) -> String {
    let named = api.service.as_ref().map(|(namespace, name, _)| format!("Service {namespace}/{name}"));
    named.unwrap_or_else(|| "kube-apiserver itself".to_owned())
}

/// The first thing that keeps kube-apiserver from reaching it: what comes after is a consequence.
fn ours(
    api: &ApiFacts,
    facts: &ClusterFacts,
    weight: Severity,
    object: &str,
    settings: &Settings,
    report: &mut Report,
) {
    if api.owner != Owner::Ours {
        return;
    }
    let Settings { identity, policy_path, .. } = settings;
    let daemon = format!("poolwright manifests --policy {policy_path} --part daemon | kubectl apply -f -");
    let mut tell = |severity, kind, message: String, action: String| {
        report.add(Area::Api, severity, kind, object, what(message, action));
    };
    if api.insecure {
        let message = "kube-apiserver does not verify poolwright's certificate (insecureSkipTLSVerify: true)";
        let action = format!(
            "kubectl patch apiservice {API_SERVICE} --type merge -p \
             '{{\"spec\":{{\"insecureSkipTLSVerify\":false}}}}', with spec.caBundle filled in by `poolwright serve \
             --api-tls-secret NAME` or cert-manager"
        );
        tell(Severity::Warning, "api-service-insecure", message.to_owned(), action);
    }
    if let Some((namespace, name, port)) = &api.service {
        match facts.services.get(&(namespace.clone(), name.clone())) {
            Some(Lookup::Absent) => {
                let message = format!("points to Service {namespace}/{name}, which does not exist");
                return tell(weight, "api-service-backend", message, daemon);
            }
            Some(Lookup::Found(ports)) if !ports.contains(port) => {
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                let message =
                    format!("points to port {port} of Service {namespace}/{name}, which has {}", ports.join(", "));
                let action = format!("write `port: {}` under spec.service of the APIService", ports.join(" or "));
                return tell(weight, "api-service-backend", message, action);
            }
            _ => {}
        }
    }
    if !api.has_bundle && !api.insecure {
        let action = if api.injected {
            "see what cert-manager's injector says: `kubectl -n cert-manager logs deploy/cert-manager-cainjector`"
                .to_owned()
        } else {
            "run the daemon with --api-listen and --api-tls-secret NAME: it fills it in; or annotate the APIService for \
             cert-manager (`poolwright manifests --certificates cert-manager --part api`)"
                .to_owned()
        };
        return tell(weight, "api-service-bundle", "has no caBundle: no certificate is trusted".to_owned(), action);
    }
    match &api.available {
        Some((true, _)) => {}
        Some((false, why)) => {
            let action = format!(
                "see whether the daemon runs and is ready: `kubectl -n {} get pods,endpointslices`, `kubectl describe \
                 apiservice {API_SERVICE}`",
                identity.namespace
            );
            tell(weight, "api-service-unavailable", format!("kube-apiserver does not reach poolwright: {why}"), action);
        }
        None => {
            let message = "kube-apiserver has not said yet whether it reaches poolwright".to_owned();
            tell(Severity::Warning, "api-service-unavailable", message, "look again in a minute".to_owned());
        }
    }
}

/// Without these settings of kube-apiserver nobody's name arrives here.
fn trust(facts: &ClusterFacts, weight: Severity, report: &mut Report) {
    let mut tell = |severity, kind: &str, message: String, action: &str| {
        report.add(Area::Api, severity, kind, CONFIG_MAP, what(message, action));
    };
    let start = "start kube-apiserver with --requestheader-client-ca-file, --requestheader-allowed-names, \
                 --requestheader-username-headers=X-Remote-User, --requestheader-group-headers=X-Remote-Group and \
                 --requestheader-extra-headers-prefix=X-Remote-Extra-";
    match &facts.trust {
        Lookup::Unknown(why) => {
            let action = "run the check as a user who may read it: `kubectl -n kube-system get configmap \
                          extension-apiserver-authentication`";
            tell(Severity::Info, "not-checked", format!("could not be checked: {why}"), action);
        }
        Lookup::Absent => {
            tell(weight, "front-proxy-trust", "does not exist: every aggregated request is anonymous".into(), start);
        }
        Lookup::Found(data) => match Trust::from_data(data) {
            Err(error) => tell(weight, "front-proxy-trust", format!("is not usable: {error}"), start),
            Ok(_) if !data.contains_key("requestheader-client-ca-file") => {
                let message = "has no requestheader-client-ca-file: every aggregated request is anonymous and refused";
                tell(weight, "front-proxy-trust", message.into(), start);
            }
            Ok(trust) => {
                for warning in trust.warnings() {
                    tell(Severity::Warning, "front-proxy-trust", warning, start);
                }
            }
        },
    }
}
