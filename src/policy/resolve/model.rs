//! A ServedModel document: names, shares; its architecture is resolved in `architecture`, its pools are resolved in `pool`.

use std::collections::BTreeMap;

use super::fleet::{Fleet, unique};
use super::pool::{self, PoolDraft};
use super::{architecture, floors};
use crate::perf::Architecture;
use crate::policy::document::{Place, Placed, Report, Texts};
use crate::policy::names::{LABEL_HINT, SUBDOMAIN_HINT, is_dns_label, is_dns_subdomain};
use crate::policy::resolved::Floor;
use crate::policy::schema::{ServedModelDocument, ServedModelSpec};

/// How far shares may sum from 1 before they are wrong rather than rounded.
const SHARE_TOLERANCE: f64 = 1e-6;

/// A ServedModel as far as it could be resolved.
pub struct ModelDraft<'d> {
    pub place: &'d Place,
    pub namespace: String,
    pub name: String,
    pub served_name: String,
    pub architecture: Option<Architecture>,
    /// (position in the Fleet's list, share, position in this document's list).
    pub classes: Vec<(usize, f64, usize)>,
    pub pools: Vec<PoolDraft>,
    /// Pools and classes by their position in the documents' lists.
    pub floors: Vec<Floor>,
    pub expected_shape: Option<(f64, f64)>,
    pub annotations: BTreeMap<String, String>,
}

impl<'d> ModelDraft<'d> {
    pub fn resolve(
        (place, document): &'d Placed<ServedModelDocument>,
        fleet: &Fleet,
        texts: &Texts,
        report: &mut Report,
    ) -> Self {
        let (metadata, spec) = (&document.metadata, &document.spec);
        let namespace = metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
        if !is_dns_subdomain(&metadata.name) {
            let message = format!("`{}` is no object name", metadata.name);
            report.add(place, "metadata.name", message, Some(SUBDOMAIN_HINT.to_owned()));
        }
        if !is_dns_label(&namespace) {
            let message = format!("`{namespace}` is no namespace");
            report.add(place, "metadata.namespace", message, Some(LABEL_HINT.to_owned()));
        }
        if spec.model.trim().is_empty() || spec.model.trim() != spec.model {
            let hint = "write the name that the servers put in the label `model_name`";
            report.add(place, "spec.model", format!("`{}` is no model name", spec.model), Some(hint.to_owned()));
        }
        if spec.pools.is_empty() {
            report.add(place, "spec.pools", "is empty", Some("a model needs at least one pool".to_owned()));
        }
        unique(place, report, "class", spec.classes.iter().map(|c| c.name.as_str()), |i| {
            format!("spec.classes[{i}].name")
        });
        let architecture = architecture::resolve(place, &spec.model, spec.architecture.as_ref(), texts, report);
        let expected_shape = spec.demand.shape.as_ref().map(|s| (s.input_tokens, s.output_tokens));
        let model = pool::ModelContext {
            place,
            namespace: &namespace,
            served_name: &spec.model,
            architecture: architecture.as_ref(),
            expected_shape,
            fleet,
            texts,
        };
        let pools: Vec<PoolDraft> =
            spec.pools.iter().enumerate().map(|(i, p)| pool::resolve(&model, i, p, report)).collect();
        let classes = shares(place, fleet, spec, report);
        Self {
            place,
            namespace: namespace.clone(),
            name: metadata.name.clone(),
            served_name: spec.model.clone(),
            floors: floors::resolve(place, fleet, spec, &classes, &pools, report),
            classes,
            pools,
            expected_shape,
            architecture: architecture.flatten(),
            annotations: metadata.annotations.clone(),
        }
    }
}

/// Shares that sum to 1; what is not given divides the rest.
fn shares(place: &Place, fleet: &Fleet, spec: &ServedModelSpec, report: &mut Report) -> Vec<(usize, f64, usize)> {
    if spec.classes.is_empty() {
        report.add(place, "spec.classes", "is empty", Some("name a class of the Fleet".to_owned()));
        return Vec::new();
    }
    let given: f64 = spec.classes.iter().filter_map(|c| c.share).sum();
    let without = spec.classes.iter().filter(|c| c.share.is_none()).count();
    let rest = 1.0 - given;
    let sum_hint = "they must sum to 1; a class without a share gets what is left";
    if rest < -SHARE_TOLERANCE {
        report.add(place, "spec.classes", format!("the shares sum to {given}"), Some(sum_hint.to_owned()));
    } else if without == 0 && rest > SHARE_TOLERANCE {
        report.add(place, "spec.classes", format!("the shares sum to {given} only"), Some(sum_hint.to_owned()));
    } else if without > 0 && rest <= SHARE_TOLERANCE {
        let message = "the shares given leave nothing for the classes without one";
        report.add(place, "spec.classes", message, Some("remove those classes or lower a share".to_owned()));
    }
    let each = rest.max(0.0) / without.max(1) as f64;
    let total = if without == 0 { given.max(f64::MIN_POSITIVE) } else { 1.0 };
    let mut shares = Vec::new();
    for (i, class) in spec.classes.iter().enumerate() {
        if let Some(at) = fleet.class(&class.name, place, &format!("spec.classes[{i}].name"), report) {
            shares.push((at, class.share.map_or(each, |s| s / total), i));
        }
    }
    shares
}
