//! Who may do what: the daemon, and HPA towards the daemon. Pure.

use super::{Answer, Area, ClusterFacts, Lookup, Report, Settings, Severity, what};
use crate::cluster::manifests::{Grant, Right};
use crate::serve::Owner;

/// Group of what is good to have: without it nothing is decided or followed differently.
const EVENTS: &str = "events.k8s.io";
const KEDA: &str = "keda.sh";

pub(super) fn judge(facts: &ClusterFacts, needs_api: bool, settings: &Settings, report: &mut Report) {
    let user = settings.user();
    if facts.account == Lookup::Absent {
        let message = what(
            "does not exist, so the daemon's rights were not checked",
            format!(
                "poolwright manifests --policy {} --part daemon | kubectl apply -f -; name another one with \
                 --own-namespace and --own-service-account",
                settings.policy_path
            ),
        );
        report.add(Area::Rights, Severity::Warning, "service-account-absent", account(settings), message);
    } else {
        let asked: usize = facts.grants.iter().map(|(_, answers)| answers.len()).sum();
        report.checked.push(format!("{asked} rights of {user}"));
        let unknown = facts.grants.iter().flat_map(|(_, answers)| answers).find_map(|(_, answer)| match answer {
            Answer::Unknown(why) => Some(why),
            _ => None,
        });
        if let Some(why) = unknown {
            let message = what(
                format!("the rights of {user} could not be checked: {why}"),
                "run the check as a user who may create subjectaccessreviews: `kubectl auth can-i create \
                 subjectaccessreviews.authorization.k8s.io`",
            );
            report.add(Area::Rights, Severity::Info, "not-checked", account(settings), message);
        }
        // Whoever only advises writes no APIService, and the manifests give the right together with the object.
        let writes = needs_api || matches!(&facts.api, Lookup::Found(api) if api.owner == Owner::Ours);
        for (grant, answers) in &facts.grants {
            let of_writer = grant.rights.iter().all(|r| r.resource == "apiservices" && r.verb == "patch");
            if writes || !of_writer {
                missing(grant, answers, facts.keda_installed, settings, report);
            }
        }
    }
    if needs_api {
        for (namespace, _) in facts.hpa.iter().filter(|(_, answer)| *answer == Answer::No) {
            let message = what(
                format!(
                    "HPA's controller may not list external metrics in namespace {namespace}: every HPA there gets \
                     an error instead of a number"
                ),
                format!(
                    "poolwright manifests --policy {} --part api | kubectl apply -f - (ClusterRoleBinding \
                     {}-external-metrics-reader)",
                    settings.policy_path, settings.identity.service
                ),
            );
            let object = "ServiceAccount kube-system/horizontal-pod-autoscaler";
            report.add(Area::Rights, Severity::Error, "hpa-may-not-read", object, message);
        }
    }
}

fn account(settings: &Settings) -> String {
    format!("ServiceAccount {}/{}", settings.identity.namespace, settings.account)
}

/// The rights of one binding that are not there.
fn missing(grant: &Grant, answers: &[(Right, Answer)], keda_installed: bool, settings: &Settings, report: &mut Report) {
    let denied: Vec<&Right> = answers
        .iter()
        .filter(|(right, answer)| *answer == Answer::No && (keda_installed || right.group != KEDA))
        .map(|(right, _)| right)
        .collect();
    if denied.is_empty() {
        return;
    }
    let id = grant.binding.id();
    let severity = if denied.iter().all(|r| r.group == EVENTS) { Severity::Warning } else { Severity::Error };
    let why = match id.split_once(' ') {
        _ if grant.built_in && denied[0].resource == "configmaps" => {
            ": it does not learn whom the cluster trusts, and answers nobody"
        }
        _ if grant.built_in => ": it cannot ask the cluster who calls and what they may do, and answers nobody",
        _ => "",
    };
    let message = format!("is missing or gives too little: {} may not {}{why}", settings.user(), words(&denied));
    let action = if grant.built_in {
        let yaml = serde_saphyr::to_string(&grant.binding.object).unwrap_or_default();
        format!("kubectl apply -f - <<'EOF'\n{}\nEOF", yaml.trim_end())
    } else {
        format!("poolwright manifests --policy {} --part daemon,api | kubectl apply -f -", settings.policy_path)
    };
    report.add(Area::Rights, severity, "right-missing", id, what(message, action));
}

/// `get, list and watch pods in inference; get …`.
fn words(rights: &[&Right]) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for right in rights {
        let slash = |text: &str| if text.is_empty() { String::new() } else { format!("/{text}") };
        let dot = if right.group.is_empty() { String::new() } else { format!(".{}", right.group) };
        let name = if right.name.is_empty() { String::new() } else { format!(" {}", right.name) };
        let place = if right.namespace.is_empty() { String::new() } else { format!(" in {}", right.namespace) };
        let object = format!("{}{}{dot}{name}{place}", right.resource, slash(&right.subresource));
        match groups.iter_mut().find(|(known, _)| *known == object) {
            Some((_, verbs)) => verbs.push(&right.verb),
            None => groups.push((object, vec![&right.verb])),
        }
    }
    groups.iter().map(|(object, verbs)| format!("{} {object}", verbs.join(", "))).collect::<Vec<_>>().join("; ")
}
