//! Documents to [`Policy`]: names become indices, defaults are filled in, and everything that makes no
//! sense is reported at once. Pure: texts in, policy or problems out.

mod architecture;
mod fleet;
mod floors;
mod limits;
mod model;
mod performance;
mod pool;
mod reach;
mod series;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use self::fleet::Fleet;
use self::limits::LimitDraft;
use self::model::ModelDraft;
use super::document::{Documents, Parsed, Report, Texts, documents, named_files, parse};
use super::problem::{PolicyErrors, Problem};
use super::resolved::{Accelerator, Floor, Least, Model, Policy, Pool, SloClass};

/// Resolves texts, the profile files they name included.
///
/// # Errors
/// Everything that is wrong.
pub fn resolve(texts: &Texts) -> Result<Policy, PolicyErrors> {
    let mut report = Report::default();
    let parsed: Vec<Parsed> = without_profiles(parse(texts, &mut report));
    let documents = documents(&parsed, &mut report);
    let policy = policy(&documents, texts, &mut report);
    match policy {
        Some(policy) if report.problems.is_empty() => Ok(policy),
        _ => Err(PolicyErrors::new(report.attributed())),
    }
}

/// A folder that is mounted as a whole holds the profiles among the documents.
pub(super) fn without_profiles(mut parsed: Vec<Parsed>) -> Vec<Parsed> {
    let profiles = named_files(&parsed);
    parsed.retain(|(file, _)| !profiles.contains(file));
    parsed
}

fn policy(documents: &Documents, texts: &Texts, report: &mut Report) -> Option<Policy> {
    let placed = one_fleet(documents, texts, report)?;
    let fleet = Fleet::resolve(placed, report);
    let models: Vec<ModelDraft> =
        documents.models.iter().map(|m| ModelDraft::resolve(m, &fleet, texts, report)).collect();
    if documents.complete && models.is_empty() {
        let hint = "add a document `kind: ServedModel`";
        report.add(fleet.place, "", "the policy serves no model", Some(hint.to_owned()));
    }
    models_once(&models, report);
    series::conflicts(&models, report);
    limits::floors_fit(&fleet, &models, report);
    reach::unreachable_targets(&fleet, &models, report);
    if report.problems.is_empty() { assemble(&fleet, &models, texts) } else { None }
}

fn one_fleet<'d>(
    documents: &'d Documents,
    texts: &Texts,
    report: &mut Report,
) -> Option<&'d super::document::Placed<super::schema::FleetDocument>> {
    for (place, _) in documents.fleets.iter().skip(1) {
        let first = &documents.fleets[0].0;
        let hint = format!("keep one; the first is {} in {}", first.document, first.file);
        report.add(place, "kind", "a policy has exactly one Fleet", Some(hint));
    }
    let first = documents.fleets.first();
    if first.is_none() && documents.complete {
        report.problems.push(Problem {
            file: texts.documents.first().map_or_else(String::new, |(name, _)| name.clone()),
            line: 0,
            document: String::new(),
            path: String::new(),
            message: "the policy has no Fleet".to_owned(),
            hint: Some("add a document `kind: Fleet` with accelerators and classes".to_owned()),
        });
    }
    first
}

fn models_once(models: &[ModelDraft], report: &mut Report) {
    for (i, model) in models.iter().enumerate() {
        for earlier in models[..i].iter().filter(|m| m.namespace == model.namespace) {
            if earlier.name == model.name && earlier.place.is_sound("metadata.name") {
                let message = format!("ServedModel `{}` exists twice in namespace `{}`", model.name, model.namespace);
                let hint = format!("the first is in {}", earlier.place.file);
                report.add(model.place, "metadata.name", message, Some(hint));
            } else if earlier.served_name == model.served_name && earlier.place.is_sound("spec.model") {
                let message = format!("`{}` is already served by {}", model.served_name, earlier.place.document);
                let hint = "list all pools of a model in one ServedModel".to_owned();
                report.add(model.place, "spec.model", message, Some(hint));
            }
        }
    }
}

/// Sorts and numbers. `None` only if something was wrong and reported before.
fn assemble(fleet: &Fleet, drafts: &[ModelDraft], texts: &Texts) -> Option<Policy> {
    let accelerators: Vec<Accelerator> = fleet.accelerators.iter().map(|(_, a)| a.clone()).collect::<Option<_>>()?;
    let unsorted: Vec<SloClass> = fleet.classes.iter().map(|(_, c)| c.clone()).collect::<Option<_>>()?;
    let mut order: Vec<usize> = (0..unsorted.len()).collect();
    order.sort_by_key(|i| (Reverse(unsorted[*i].priority), &unsorted[*i].name));
    let class_at: BTreeMap<usize, usize> = order.iter().enumerate().map(|(new, old)| (*old, new)).collect();

    let mut drafts: Vec<&ModelDraft> = drafts.iter().collect();
    drafts.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let mut pools: Vec<Pool> = drafts
        .iter()
        .enumerate()
        .flat_map(|(m, draft)| {
            draft.pools.iter().filter_map(|p| p.pool.clone()).map(move |pool| Pool { model: m, ..pool })
        })
        .collect();
    pools.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let models = drafts
        .iter()
        .enumerate()
        .map(|(m, draft)| {
            let mut classes: Vec<(usize, f64)> =
                draft.classes.iter().map(|(at, share, _)| (class_at[at], *share)).collect();
            classes.sort_by_key(|(class, _)| *class);
            Model {
                namespace: draft.namespace.clone(),
                name: draft.name.clone(),
                served_name: draft.served_name.clone(),
                architecture: draft.architecture.clone(),
                classes,
                pools: pools.iter().enumerate().filter(|(_, p)| p.model == m).map(|(i, _)| i).collect(),
                floors: draft.floors.iter().map(|floor| placed(floor, draft, &pools, &class_at)).collect(),
                expected_shape: draft.expected_shape,
                annotations: draft.annotations.clone(),
            }
        })
        .collect();
    Some(Policy {
        fingerprint: fingerprint(texts),
        currency: fleet.currency.clone(),
        limits: fleet.limits.iter().filter_map(LimitDraft::besides_stock).collect(),
        schedules: fleet.schedules.iter().map(|(_, s)| s.clone()).collect::<Option<_>>()?,
        accelerators,
        classes: order.iter().map(|i| unsorted[*i].clone()).collect(),
        models,
        pools,
        planner: fleet.planner.clone(),
    })
}

/// A floor with the final numbers of its pool and class.
fn placed(floor: &Floor, draft: &ModelDraft, pools: &[Pool], class_at: &BTreeMap<usize, usize>) -> Floor {
    let pool_at = |position: usize| {
        let name = &draft.pools[position].name;
        pools.iter().position(|p| p.namespace == draft.namespace && p.name == *name)
    };
    let least = match floor.least {
        Least::Replicas { pool, replicas } => Least::Replicas { pool: pool.and_then(pool_at), replicas },
        Least::Rate { class, requests_per_second } => {
            Least::Rate { class: class.map(|c| class_at[&c]), requests_per_second }
        }
    };
    Floor { least, ..floor.clone() }
}

/// SHA-256 over every text with its length, so that moving a line between files changes it, and over what is set
/// beside them.
fn fingerprint(texts: &Texts) -> String {
    let mut hash = Sha256::new();
    let documents = texts.documents.iter().map(|(_, text)| text);
    for text in documents.chain(texts.profiles.values()).flatten() {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    for change in &texts.changes {
        hash.update(format!("{change}\n"));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
