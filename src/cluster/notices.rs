//! What a decision says about scale targets, as Events: who scales them wrongly, and that it is right again. Pure;
//! what was said already is filtered where events are written.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ObjectReference;

use super::events::{Notice, Weight};
use crate::control::{Decision, PoolDecision};
use crate::observe::cluster::TargetObject;
use crate::observe::{FindingKind, Severity};

/// What was wrong with the decision before.
#[derive(Debug, Default)]
pub struct Notices {
    /// Pools, `namespace/name`, whose scaler did not follow.
    astray: BTreeSet<String>,
}

impl Notices {
    /// What there is to say about this decision.
    pub fn of(&mut self, decision: &Decision) -> Vec<Notice> {
        let mut notices = Vec::new();
        for pool in &decision.pools {
            let id = format!("{}/{}", pool.namespace, pool.pool);
            let Some(target) = pool.cluster.as_ref().and_then(|cluster| cluster.target.as_ref()) else { continue };
            let wrong = decision
                .findings
                .iter()
                .filter(|f| f.subject == id && f.kind.severity() > Severity::Info)
                .filter_map(|finding| Some((reason(finding.kind)?, &finding.message)));
            notices.extend(wrong.map(|(reason, message)| {
                let note = format!("pool {}: {message}", pool.pool);
                Notice { regarding: regarding(pool, target), weight: Weight::Warning, reason, action: "Check", note }
            }));
            match pool.cluster.as_ref().and_then(|cluster| cluster.scaler.as_ref()) {
                Some(scaler) if scaler.follows && self.astray.remove(&id) => {
                    let note = format!("pool {}: {} {} follows its number again", pool.pool, scaler.kind, scaler.name);
                    let (regarding, weight) = (regarding(pool, target), Weight::Normal);
                    notices.push(Notice { regarding, weight, reason: "ScalerFollows", action: "Check", note });
                }
                Some(scaler) if !scaler.follows => _ = self.astray.insert(id),
                Some(_) => {}
                None => {}
            }
        }
        notices
    }
}

fn regarding(pool: &PoolDecision, target: &TargetObject) -> ObjectReference {
    ObjectReference {
        api_version: Some(target.api_version.clone()),
        kind: Some(target.kind.clone()),
        name: Some(target.name.clone()),
        namespace: Some(pool.namespace.clone()),
        uid: target.uid.clone(),
        ..ObjectReference::default()
    }
}

/// One word for programs; nothing for what is not about who scales the target.
fn reason(kind: FindingKind) -> Option<&'static str> {
    Some(match kind {
        FindingKind::NoScaler => "NoScaler",
        FindingKind::TwoScalers => "TwoScalers",
        FindingKind::ScalerMetric => "ScalerMetric",
        FindingKind::ScalerSelector => "ScalerSelector",
        FindingKind::ScalerTolerance => "ScalerTolerance",
        FindingKind::ScalerLimits => "ScalerLimits",
        FindingKind::ScalerBehavior => "ScalerBehavior",
        FindingKind::ScalerOtherMetrics => "ScalerOtherMetrics",
        FindingKind::ScalerFallback => "ScalerFallback",
        FindingKind::ScalerPaused => "ScalerPaused",
        FindingKind::ScalerCondition => "ScalerCondition",
        FindingKind::Unschedulable => "Unschedulable",
        _ => return None,
    })
}
