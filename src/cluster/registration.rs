//! The APIService of the external metrics API: whose it is, whom it trusts, and the two changes that this program may
//! make to it. There is one such object in a cluster, so it may be another metrics server's.
//!
//! Nothing is written to an object that is not ours, except once where the operator said `--take-over`. It is never
//! created and never deleted here: the manifests do that.

use k8s_openapi::ByteString;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::identity::Identity;
use super::written::{Written, written};
use crate::serve::{ApiServiceStatus, Owner};

/// Name of the object.
pub const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";

/// cert-manager fills the `caBundle` of objects that carry one of these.
const INJECTED: &str = "cert-manager.io/inject-";

/// The APIService at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    pub owner: Owner,
    /// Namespace and name of the Service it points to.
    pub service: Option<(String, String)>,
    /// Port of that Service.
    pub port: Option<i32>,
    pub bundle: Vec<u8>,
    /// Whether kube-apiserver does not verify at all.
    pub insecure: bool,
    /// Whether cert-manager writes the bundle.
    pub injected: bool,
    /// Whether kube-apiserver reaches it, and its words.
    pub available: Option<(bool, String)>,
    version: String,
}

/// What came of reading it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    Seen(View),
    /// Not to be read with our rights; the words of the refusal.
    Forbidden(String),
    /// kube-apiserver did not answer.
    Failed(String),
}

/// Reads and, where allowed, writes the APIService.
#[derive(Clone, Debug)]
pub struct Registrar {
    api: Api<APIService>,
    identity: Identity,
}

impl Registrar {
    pub fn new(client: Client, identity: Identity) -> Self {
        Self { api: Api::all(client), identity }
    }

    pub fn api(&self) -> Api<APIService> {
        self.api.clone()
    }

    pub async fn read(&self) -> Reading {
        match self.api.get_opt(API_SERVICE).await {
            Ok(found) => Reading::Seen(self.view(found)),
            Err(kube::Error::Api(status)) if status.code == 403 || status.code == 401 => {
                Reading::Forbidden(status.message.clone())
            }
            Err(error) => Reading::Failed(error.to_string()),
        }
    }

    fn view(&self, found: Option<APIService>) -> View {
        let Some(found) = found else { return View { owner: Owner::Absent, ..View::default() } };
        let annotations = found.metadata.annotations.unwrap_or_default();
        let spec = found.spec.unwrap_or_default();
        let port = spec.service.as_ref().map(|s| s.port.unwrap_or(443));
        let service = spec.service.map(|s| (s.namespace.unwrap_or_default(), s.name.unwrap_or_default()));
        let owner = match &service {
            // kube-apiserver itself serves it.
            None => Owner::Other,
            Some((namespace, name)) if *namespace == self.identity.namespace && *name == self.identity.service => {
                Owner::Ours
            }
            Some((_, name)) => Owner::of_service(name),
        };
        let conditions = found.status.and_then(|s| s.conditions).unwrap_or_default();
        let available = conditions.into_iter().find(|c| c.type_ == "Available").map(|c| {
            let words = [c.reason.unwrap_or_default(), c.message.unwrap_or_default()].join(": ");
            (c.status == "True", words)
        });
        View {
            owner,
            service,
            port,
            bundle: spec.ca_bundle.map(|b| b.0).unwrap_or_default(),
            insecure: spec.insecure_skip_tls_verify.unwrap_or(false),
            injected: annotations.keys().any(|key| key.starts_with(INJECTED)),
            available,
            version: found.metadata.resource_version.unwrap_or_default(),
        }
    }

    /// Let kube-apiserver trust these authorities. Only for an object that `view` shows as ours.
    pub async fn trust(&self, view: &View, bundle: Vec<u8>) -> Written {
        let mut spec = json!({"caBundle": ByteString(bundle)});
        if view.insecure {
            spec["insecureSkipTLSVerify"] = json!(false);
        }
        self.patch(view, spec).await
    }

    /// Point the object to our Service, whoever it belonged to.
    pub async fn take_over(&self, view: &View, port: u16, bundle: Vec<u8>) -> Written {
        let Identity { namespace, service } = &self.identity;
        let service = json!({"namespace": namespace, "name": service, "port": port});
        let bundle = ByteString(bundle);
        self.patch(view, json!({"service": service, "caBundle": bundle, "insecureSkipTLSVerify": false})).await
    }

    /// Change these fields, if the object is still the one that was read.
    async fn patch(&self, view: &View, spec: Value) -> Written {
        let patch = json!({"metadata": {"resourceVersion": view.version}, "spec": spec});
        written(self.api.patch(API_SERVICE, &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ()))
    }
}

/// What is shown of a reading. `before`: what was shown last, which stays while kube-apiserver does not answer.
/// `was_ours`: whether the object was ours earlier in this life.
pub fn report(reading: &Reading, before: &ApiServiceStatus, was_ours: bool, now_seconds: f64) -> ApiServiceStatus {
    let view = match reading {
        Reading::Failed(why) => {
            let message = format!("kube-apiserver does not answer ({why})");
            return ApiServiceStatus { message, warning: true, ..before.clone() };
        }
        Reading::Forbidden(why) => {
            let message = format!(
                "it is not known who owns the external metrics API: let poolwright get, list and watch the APIService \
                 {API_SERVICE} ({why})"
            );
            let checked_at_seconds = Some(now_seconds);
            return ApiServiceStatus {
                owner: Owner::Unreadable,
                message,
                warning: true,
                checked_at_seconds,
                ..ApiServiceStatus::default()
            };
        }
        Reading::Seen(view) => view,
    };
    let service = view.service.as_ref().map(|(namespace, name)| format!("{namespace}/{name}"));
    let lost = view.owner.is_foreign() && was_ours;
    let unreachable = view.owner == Owner::Ours && view.available.as_ref().is_some_and(|(is, _)| !is);
    ApiServiceStatus {
        owner: view.owner,
        available: view.available.as_ref().map(|(is, _)| *is),
        message: message(view, service.as_deref().unwrap_or("kube-apiserver itself"), lost),
        warning: lost || unreachable || view.owner == Owner::Ours && view.insecure,
        checked_at_seconds: Some(now_seconds),
        service,
    }
}

fn message(view: &View, service: &str, lost: bool) -> String {
    if view.owner.is_foreign() {
        let what = if lost { "was taken over by" } else { "belongs to" };
        let how = if view.owner == Owner::Keda {
            "let KEDA ask poolwright as external scaler"
        } else {
            "let it read poolwright's numbers from Prometheus, or use KEDA's external scaler"
        };
        return format!("the external metrics API {what} {service} and is left alone: {how}");
    }
    match (view.owner, &view.available) {
        (Owner::Absent, _) => {
            format!("nobody serves external metrics: apply the APIService {API_SERVICE} to let HPA ask")
        }
        (Owner::Ours, Some((false, why))) => format!("kube-apiserver does not reach poolwright: {why}"),
        (Owner::Ours, _) if view.insecure => {
            "kube-apiserver does not verify poolwright's certificate (insecureSkipTLSVerify)".to_owned()
        }
        _ => String::new(),
    }
}
