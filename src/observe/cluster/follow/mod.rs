//! Whether what scales a pool's target will follow the published number, from the settings alone. Pure: plain
//! facts in, findings out, so that a watch and a single look say the same.

mod behavior;
mod hpa;
mod keda;

use super::scaler::{Condition, Hpa, ScaledObject, TargetRef};
use super::state::ScalerReport;
use crate::observe::{Finding, FindingKind};
use crate::policy::{Mode, Policy, Pool};

/// The pool that is asked about, and what is known besides its scalers.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub policy: &'a Policy,
    /// Index of the pool.
    pub pool: usize,
    /// Replicas its target asks for now, if known.
    pub wanted: Option<u32>,
    /// Minor version of the cluster (33 for 1.33), if known.
    pub server_minor: Option<u32>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub scaler: Option<ScalerReport>,
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
struct Problem {
    kind: FindingKind,
    /// The published number will not, or not at once, become the number of replicas.
    blocks: bool,
    message: String,
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn blocks(&mut self, kind: FindingKind, message: impl Into<String>) {
        self.0.push(Problem { kind, blocks: true, message: message.into() });
    }

    fn notes(&mut self, kind: FindingKind, message: impl Into<String>) {
        self.0.push(Problem { kind, blocks: false, message: message.into() });
    }
}

impl Subject<'_> {
    fn pool(&self) -> &Pool {
        &self.policy.pools[self.pool]
    }

    fn is_before(&self, minor: u32) -> bool {
        self.server_minor.is_some_and(|server| server < minor)
    }
}

/// Check a pool against all HPAs and ScaledObjects of its namespace.
pub fn check<'a>(
    subject: &Subject<'_>,
    hpas: impl IntoIterator<Item = &'a Hpa>,
    scaled: impl IntoIterator<Item = &'a ScaledObject>,
) -> Answer {
    let pool = subject.pool();
    let scaled: Vec<&ScaledObject> = scaled.into_iter().filter(|s| targets(pool, &s.target)).collect();
    let (of_keda, hpas): (Vec<&Hpa>, Vec<&Hpa>) =
        hpas.into_iter().filter(|h| targets(pool, &h.target)).partition(|hpa| is_kedas(hpa, &scaled));
    let mut names: Vec<(&str, &str)> = scaled.iter().map(|s| ("ScaledObject", s.name.as_str())).collect();
    names.extend(hpas.iter().map(|h| ("HorizontalPodAutoscaler", h.name.as_str())));
    names.sort_unstable();

    let mut problems = Problems::default();
    // At zero KEDA keeps watch, and its HPA rests.
    let asleep = subject.wanted == Some(0);
    if pool.mode == Mode::Act {
        match (scaled.as_slice(), hpas.as_slice()) {
            ([], []) => problems.blocks(FindingKind::NoScaler, nobody(subject)),
            _ => {
                two_scalers(&names, &mut problems);
                for object in &scaled {
                    keda::check(subject, object, &mut problems);
                    for hpa in of_keda.iter().filter(|_| !asleep) {
                        let whose = format!("KEDA's HPA {}", hpa.name);
                        conditions(&whose, &hpa.conditions, &mut problems);
                    }
                }
                hpas.iter().for_each(|hpa| hpa::check(subject, hpa, &mut problems));
            }
        }
    } else {
        waiting(subject, &hpas, &scaled, &mut problems);
    }
    Answer { scaler: report(pool, &names, &problems), findings: findings(pool, problems) }
}

fn targets(pool: &Pool, target: &TargetRef) -> bool {
    let group = pool.target.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    target.kind == pool.target.kind && target.name == pool.target.name && target.group == group
}

/// KEDA makes an HPA for every ScaledObject: one scaler, not two.
fn is_kedas(hpa: &Hpa, scaled: &[&ScaledObject]) -> bool {
    match &hpa.owner {
        Some(owner) => owner.kind == "ScaledObject",
        None => scaled.iter().any(|object| object.hpa == hpa.name),
    }
}

fn nobody(subject: &Subject<'_>) -> String {
    let target = &subject.pool().target;
    format!(
        "nothing scales {} {}: the pool is in mode act, but no HPA and no ScaledObject names it in scaleTargetRef; \
         apply what `poolwright manifests` prints",
        target.kind, target.name
    )
}

fn two_scalers(names: &[(&str, &str)], problems: &mut Problems) {
    if names.len() > 1 {
        let names: Vec<String> = names.iter().map(|(kind, name)| format!("{kind} {name}")).collect();
        let message =
            format!("{} scale the same target and undo each other's changes; delete all but one", names.join(" and "));
        problems.blocks(FindingKind::TwoScalers, message);
    }
}

/// A pool that does not act, with a scaler that waits for its number.
fn waiting(subject: &Subject<'_>, hpas: &[&Hpa], scaled: &[&ScaledObject], problems: &mut Problems) {
    let pool = subject.pool();
    let hpa = hpas.iter().find(|hpa| hpa::asks_us(hpa)).map(|hpa| ("HPA", &hpa.name));
    let object = scaled.iter().find(|object| keda::asks_us(object, pool)).map(|object| ("ScaledObject", &object.name));
    if let Some((kind, name)) = hpa.or(object) {
        let message = format!(
            "{kind} {name} asks for this pool's number, and gets none while the pool is in mode {}: its replicas stay \
             as they are until the policy says `mode: act`",
            pool.mode.as_str()
        );
        problems.notes(FindingKind::ScalerWaits, message);
    }
}

/// What the scaler itself reports.
fn conditions(whose: &str, conditions: &[Condition], problems: &mut Problems) {
    for kind in ["AbleToScale", "ScalingActive"] {
        let Some(c) = conditions.iter().find(|c| c.kind == kind && c.status == "False") else { continue };
        let message = format!(
            "{whose} reports {kind}=False, {}: {}; until that is mended replicas stay as they are",
            c.reason, c.message
        );
        problems.blocks(FindingKind::ScalerCondition, message);
    }
}

/// Where the scaler's limits cut the numbers that the policy allows.
fn limits(subject: &Subject<'_>, min: (&str, i64), max: (&str, i64), problems: &mut Problems) {
    let pool = subject.pool();
    let ((min_field, min), (max_field, max)) = (min, max);
    if max < i64::from(pool.max) {
        let message = format!(
            "{max_field} is {max}, the policy allows {}: larger numbers are cut; write {max_field}: {}, or `max: {max}` \
             in the policy",
            pool.max, pool.max
        );
        problems.blocks(FindingKind::ScalerLimits, message);
    }
    if min == 1 && pool.min == 0 && min_field.ends_with("minReplicas") && subject.is_before(37) {
        let message = format!(
            "{min_field} is 1, the policy allows 0, which this server's HPA knows only with the feature HPAScaleToZero \
             (on by default from 1.37): the last replica stays; use KEDA, or write `min: 1` in the policy"
        );
        problems.notes(FindingKind::ScalerServer, message);
    } else if min > i64::from(pool.min) {
        let message = format!(
            "{min_field} is {min}, the policy allows {}: smaller numbers are not reached; write {min_field}: {}, or \
             `min: {min}` in the policy",
            pool.min, pool.min
        );
        problems.blocks(FindingKind::ScalerLimits, message);
    }
}

fn report(pool: &Pool, names: &[(&str, &str)], problems: &Problems) -> Option<ScalerReport> {
    let (kind, name) = names.first()?;
    Some(ScalerReport {
        kind: (*kind).to_owned(),
        name: (*name).to_owned(),
        follows: pool.mode == Mode::Act && !problems.0.iter().any(|p| p.blocks),
        problems: problems.0.iter().map(|p| p.message.clone()).collect(),
    })
}

/// One finding per kind: what is wrong twice in the same way is one sentence after the other.
fn findings(pool: &Pool, problems: Problems) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for Problem { kind, message, .. } in problems.0 {
        match findings.iter_mut().find(|f| f.kind == kind) {
            Some(finding) => finding.message = format!("{}; {message}", finding.message),
            None => findings.push(Finding { kind, subject: pool.id(), message }),
        }
    }
    findings
}
