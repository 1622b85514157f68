//! Which metric series belong to a pool, and that no two pools claim the same.

use std::collections::BTreeMap;

use super::model::ModelDraft;
use super::pool::{ModelContext, PoolDraft};
use crate::policy::document::Report;
use crate::policy::names::is_metric_label;
use crate::policy::resolved::ScaleTarget;
use crate::policy::schema::SeriesSpec;
use crate::policy::selector::{Condition, NAMESPACE_LABEL, SeriesSelector};

/// The conditions given, or those that follow from the scale target.
pub fn selector(
    model: &ModelContext,
    here: &str,
    spec: Option<&SeriesSpec>,
    target: &ScaleTarget,
    report: &mut Report,
) -> Option<SeriesSelector> {
    let conditions = match spec {
        Some(spec) => given(model, here, spec, report)?,
        None => BTreeMap::from([("pod".to_owned(), Condition::matches(&pod_pattern(target)).ok()?)]),
    };
    Some(SeriesSelector {
        namespace: model.namespace.to_owned(),
        model_name: model.served_name.to_owned(),
        conditions,
        derived: spec.is_none(),
    })
}

/// Names that the pods of a scale target get. A Deployment's pods carry the hash of their ReplicaSet and
/// five characters, a StatefulSet's their number, a LeaderWorkerSet's the numbers of group and worker.
fn pod_pattern(target: &ScaleTarget) -> String {
    let name = regex::escape(&target.name);
    match target.kind.as_str() {
        "Deployment" => format!("{name}-[0-9a-z]+-[0-9a-z]{{5}}"),
        "StatefulSet" => format!("{name}-[0-9]+"),
        "LeaderWorkerSet" => format!("{name}-[0-9]+(-[0-9]+)?"),
        _ => format!("{name}-.+"),
    }
}

fn given(
    model: &ModelContext,
    here: &str,
    spec: &SeriesSpec,
    report: &mut Report,
) -> Option<BTreeMap<String, Condition>> {
    let place = model.place;
    let before = report.problems.len();
    let mut conditions = BTreeMap::new();
    let equals = spec.equals.iter().map(|(label, value)| ("equals", label, value));
    let matches = spec.matches.iter().map(|(label, value)| ("matches", label, value));
    for (how, label, value) in equals.chain(matches) {
        let path = format!("{here}.series.{how}.{label}");
        if label == NAMESPACE_LABEL {
            let hint = "the namespace is the ServedModel's; remove it here";
            report.add(place, &path, "the label `namespace` is always compared", Some(hint.to_owned()));
            continue;
        }
        if !is_metric_label(label) {
            let hint = "use letters, digits and `_`, not starting with a digit";
            report.add(place, &path, format!("`{label}` is no label name"), Some(hint.to_owned()));
            continue;
        }
        let condition = match how {
            "equals" => Condition::Equals(value.clone()),
            _ => match Condition::matches(value) {
                Ok(condition) => condition,
                Err(why) => {
                    report.add(place, &path, format!("`{value}` is no regular expression: {why}"), None);
                    continue;
                }
            },
        };
        if conditions.insert(label.clone(), condition).is_some() {
            let hint = "keep `equals` or `matches`";
            report.add(place, &path, format!("the label `{label}` has two conditions"), Some(hint.to_owned()));
        }
    }
    if conditions.is_empty() && report.problems.len() == before {
        let hint = "remove `series`: pods of the scale target are meant then; or give a condition";
        report.add(place, &format!("{here}.series"), "names no label", Some(hint.to_owned()));
    }
    (report.problems.len() == before).then_some(conditions)
}

/// Reports pools that share a name, a scale target, a metrics page or series. The later one in the order
/// of the documents is told.
pub fn conflicts(models: &[ModelDraft], report: &mut Report) {
    let pools: Vec<(&ModelDraft, &PoolDraft)> =
        models.iter().flat_map(|m| m.pools.iter().map(move |p| (m, p))).collect();
    let mut pages: BTreeMap<&str, String> = BTreeMap::new();
    for (i, (model, pool)) in pools.iter().enumerate() {
        for (n, page) in pool.scrape.iter().enumerate() {
            if let Some(owner) = pages.insert(page, whose(model, pool)) {
                let path = format!("spec.pools[{}].scrape[{n}]", pool.position);
                let hint = "a metrics page belongs to one pool";
                report.add(model.place, &path, format!("`{page}` is already read for {owner}"), Some(hint.to_owned()));
            }
        }
        let mut shared = Vec::new();
        for (owner, earlier) in pools[..i].iter().filter(|(m, _)| m.namespace == model.namespace) {
            match conflict(&whose(owner, earlier), earlier, pool) {
                Some(Conflict::Series) => shared.push(whose(owner, earlier)),
                Some(Conflict::Other { key, message, hint }) => {
                    report.add(model.place, &format!("spec.pools[{}].{key}", pool.position), message, Some(hint));
                }
                None => {}
            }
        }
        if let Some(first) = shared.first() {
            let more = if shared.len() > 1 { format!(" and to {} more", shared.len() - 1) } else { String::new() };
            let message = format!("a series could belong to this pool and to {first}{more}");
            let hint = "give `series` conditions on a label that tells them apart, for example `job` or `service`";
            report.add(model.place, &format!("spec.pools[{}].series", pool.position), message, Some(hint.to_owned()));
        }
    }
}

fn whose(model: &ModelDraft, pool: &PoolDraft) -> String {
    format!("`{}` (spec.pools[{}] of {})", pool.name, pool.position, model.place.document)
}

/// What two pools of one namespace have in common that they must not.
enum Conflict {
    Series,
    Other { key: &'static str, message: String, hint: String },
}

fn conflict(whose: &str, earlier: &PoolDraft, pool: &PoolDraft) -> Option<Conflict> {
    let (target, other) = (pool.target.as_ref()?, earlier.target.as_ref()?);
    if earlier.name == pool.name {
        let message = format!("pool `{}` is named twice in this namespace", pool.name);
        return Some(Conflict::Other { key: "name", message, hint: format!("the first is {whose}") });
    }
    if same_target(other, target) {
        let message = format!("{} {} is already scaled by {whose}", target.kind, target.name);
        let hint = "every pool needs a scale target of its own".to_owned();
        return Some(Conflict::Other { key: "target", message, hint });
    }
    earlier.selector.as_ref()?.overlaps(pool.selector.as_ref()?).then_some(Conflict::Series)
}

/// The version does not tell objects apart, the group does.
fn same_target(a: &ScaleTarget, b: &ScaleTarget) -> bool {
    let group = |t: &ScaleTarget| t.api_version.rsplit_once('/').map_or(String::new(), |(g, _)| g.to_owned());
    a.kind == b.kind && a.name == b.name && group(a) == group(b)
}
