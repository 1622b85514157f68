//! The Fleet document: hardware, promises, planner settings.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::floors;
use super::limits::{self, LimitDraft};
use crate::perf::{DataSheet, Generation, data_sheet, known_accelerators};
use crate::policy::document::{Place, Placed, Report};
use crate::policy::names::{LABEL_HINT, SUBDOMAIN_HINT, is_dns_label, is_dns_subdomain, is_label_value};
use crate::policy::problem::{did_you_mean, listed};
use crate::policy::resolved::{Accelerator, Planner, Promise, SloClass};
use crate::policy::schedule::Schedule;
use crate::policy::schema::{AcceleratorSpec, ClassSpec, FleetDocument, PlannerSpec};

/// Above this a price is a slip of the pen in any currency.
const HIGHEST_PRICE: f64 = 1e9;

/// The Fleet as far as it could be resolved. Lists are in the order of the document; `None` marks an
/// entry with a problem of its own, so that references to it are not reported as dangling.
pub struct Fleet<'d> {
    pub place: &'d Place,
    pub currency: String,
    pub accelerators: Vec<(String, Option<Accelerator>)>,
    /// What all pools may use together, the stocks first.
    pub limits: Vec<LimitDraft>,
    pub schedules: Vec<(String, Option<Schedule>)>,
    pub classes: Vec<(String, Option<SloClass>)>,
    pub planner: Planner,
}

impl<'d> Fleet<'d> {
    pub fn resolve((place, document): &'d Placed<FleetDocument>, report: &mut Report) -> Self {
        let spec = &document.spec;
        if !is_dns_subdomain(&document.metadata.name) {
            let message = format!("`{}` is no object name", document.metadata.name);
            report.add(place, "metadata.name", message, Some(SUBDOMAIN_HINT.to_owned()));
        }
        if document.metadata.namespace.is_some() {
            report.add(place, "metadata.namespace", "a Fleet has no namespace", Some("remove it".to_owned()));
        }
        if spec.currency.trim().is_empty() {
            report.add(place, "spec.currency", "is empty", Some("write for example USD".to_owned()));
        }
        let names = |i: usize, kind: &str| format!("spec.{kind}[{i}].name");
        unique(place, report, "accelerator", spec.accelerators.iter().map(|a| a.name.as_str()), |i| {
            names(i, "accelerators")
        });
        unique(place, report, "class", spec.classes.iter().map(|c| c.name.as_str()), |i| names(i, "classes"));
        if spec.accelerators.is_empty() {
            report.add(place, "spec.accelerators", "is empty", Some("a fleet needs at least one type".to_owned()));
        }
        if spec.classes.is_empty() {
            report.add(place, "spec.classes", "is empty", Some("promise at least one thing".to_owned()));
        }
        let accelerators: Vec<(String, Option<Accelerator>)> = spec
            .accelerators
            .iter()
            .enumerate()
            .map(|(i, a)| (a.name.clone(), accelerator(place, i, a, report)))
            .collect();
        Self {
            place,
            currency: spec.currency.clone(),
            limits: limits::resolve(place, spec, &accelerators, report),
            accelerators,
            schedules: floors::schedules(place, &spec.schedules, report),
            classes: spec
                .classes
                .iter()
                .enumerate()
                .map(|(i, c)| (c.name.clone(), class(place, i, c, report)))
                .collect(),
            planner: planner(place, &spec.planner, report),
        }
    }

    /// Position of an accelerator; reports a name that the Fleet does not have.
    pub fn accelerator(&self, name: &str, place: &Place, path: &str, report: &mut Report) -> Option<usize> {
        let known = self.accelerators.iter().map(|(name, _)| name.as_str());
        self.find("accelerator", known, "accelerators", name, place, path, report)
    }

    /// Position of a schedule; reports a name that the Fleet does not have.
    pub fn schedule(&self, name: &str, place: &Place, path: &str, report: &mut Report) -> Option<usize> {
        let known = self.schedules.iter().map(|(name, _)| name.as_str());
        self.find("schedule", known, "schedules", name, place, path, report)
    }

    /// Position of a class; reports a name that the Fleet does not have.
    pub fn class(&self, name: &str, place: &Place, path: &str, report: &mut Report) -> Option<usize> {
        let known = self.classes.iter().map(|(name, _)| name.as_str());
        self.find("class", known, "classes", name, place, path, report)
    }

    #[allow(clippy::too_many_arguments)] // the three callers above differ in three words
    fn find<'n>(
        &self,
        what: &str,
        known: impl Iterator<Item = &'n str> + Clone,
        list: &str,
        name: &str,
        place: &Place,
        path: &str,
        report: &mut Report,
    ) -> Option<usize> {
        if let Some(at) = known.clone().position(|k| k == name) {
            return Some(at);
        }
        // A name that could not be read may be the one that is looked for.
        let readable = |i: usize| self.place.is_sound(&format!("spec.{list}[{i}].name"));
        if (0..known.clone().count().max(1)).all(readable) {
            let meant = did_you_mean(name, known.clone()).map(|m| format!(" ({m})")).unwrap_or_default();
            let names: BTreeSet<&str> = known.collect();
            let hint = format!("the fleet has {}{meant}", listed(names));
            report.add(place, path, format!("no {what} `{name}`"), Some(hint));
        }
        None
    }
}

/// Reports every name that was used before.
pub fn unique<'n>(
    place: &Place,
    report: &mut Report,
    what: &str,
    names: impl Iterator<Item = &'n str>,
    path: impl Fn(usize) -> String,
) {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, name) in names.enumerate() {
        match first.get(name) {
            Some(before) if place.is_sound(&path(*before)) => {
                let message = format!("{what} `{name}` is named twice");
                report.add(place, &path(i), message, Some(format!("the first is {}", path(*before))));
            }
            _ => drop(first.insert(name, i)),
        }
    }
}

fn accelerator(place: &Place, i: usize, spec: &AcceleratorSpec, report: &mut Report) -> Option<Accelerator> {
    let at = |key: &str| format!("spec.accelerators[{i}].{key}");
    let before = report.problems.len();
    if !is_label_value(&spec.name) {
        let hint = "use letters, digits, `-`, `_` and `.`, at most 63";
        report.add(place, &at("name"), format!("`{}` is no accelerator name", spec.name), Some(hint.to_owned()));
    }
    if !(0.0..=HIGHEST_PRICE).contains(&spec.price_per_hour) {
        let message = format!("{} is no price", spec.price_per_hour);
        report.add(place, &at("pricePerHour"), message, Some(format!("at most {HIGHEST_PRICE}")));
    }
    let sheet = sheet(place, i, spec, report)?;
    (report.problems.len() == before).then(|| Accelerator {
        name: spec.name.clone(),
        price_per_hour: spec.price_per_hour,
        stock: spec.stock,
        sheet,
    })
}

/// The built-in data sheet with the figures given instead.
fn sheet(place: &Place, i: usize, spec: &AcceleratorSpec, report: &mut Report) -> Option<DataSheet> {
    let wanted = spec.kind.as_deref().unwrap_or(&spec.name);
    let giga = |figure: Option<f64>, factor: f64| figure.map(|f| f * factor);
    let memory = giga(spec.memory_gb, 1e9);
    let bandwidth = giga(spec.bandwidth_gbps, 1e9);
    let bf16 = giga(spec.bf16_tflops, 1e12);
    let fp8 = giga(spec.fp8_tflops, 1e12);
    let link = giga(spec.link_gbps, 1e9);
    if let Some(known) = data_sheet(wanted) {
        return Some(DataSheet {
            memory_bytes: memory.unwrap_or(known.memory_bytes),
            bandwidth_bytes_per_second: bandwidth.unwrap_or(known.bandwidth_bytes_per_second),
            bf16_flops: bf16.unwrap_or(known.bf16_flops),
            fp8_flops: fp8.unwrap_or(known.fp8_flops),
            fp4_flops: bf16.map_or(known.fp4_flops, |given| known.fp4_flops * given / known.bf16_flops),
            link_bytes_per_second: link.unwrap_or(known.link_bytes_per_second),
            power_watts: spec.power_watts.unwrap_or(known.power_watts),
            ..known
        });
    }
    if let (Some(memory), Some(bandwidth), Some(bf16), Some(link)) = (memory, bandwidth, bf16, link) {
        return Some(DataSheet {
            name: Cow::Owned(wanted.to_owned()),
            memory_bytes: memory,
            bandwidth_bytes_per_second: bandwidth,
            bf16_flops: bf16,
            fp8_flops: fp8.unwrap_or(bf16),
            fp4_flops: bf16,
            link_bytes_per_second: link,
            power_watts: spec.power_watts.unwrap_or(0.0),
            generation: Generation::Other,
        });
    }
    let missing: Vec<&str> =
        [("memoryGB", memory), ("bandwidthGBps", bandwidth), ("bf16TFLOPS", bf16), ("linkGBps", link)]
            .iter()
            .filter(|(_, figure)| figure.is_none())
            .map(|(name, _)| *name)
            .collect();
    let known = known_accelerators();
    let meant = did_you_mean(wanted, known.iter().copied()).map(|m| format!("{m} ")).unwrap_or_default();
    let path = format!("spec.accelerators[{i}].{}", if spec.kind.is_some() { "type" } else { "name" });
    let hint = format!("{meant}set `type` to one of {}, or give {}", listed(known), missing.join(", "));
    // A figure that could not be read was meant to be given.
    if missing.iter().all(|name| place.is_sound(&format!("spec.accelerators[{i}].{name}"))) {
        report.add(place, &path, format!("no data sheet of `{wanted}` is built in"), Some(hint));
    }
    None
}

fn class(place: &Place, i: usize, spec: &ClassSpec, report: &mut Report) -> Option<SloClass> {
    let here = format!("spec.classes[{i}]");
    let at = |key: &str| format!("{here}.{key}");
    let before = report.problems.len();
    if !is_dns_label(&spec.name) {
        report.add(place, &at("name"), format!("`{}` is no class name", spec.name), Some(LABEL_HINT.to_owned()));
    }
    for (key, target) in [("ttft", spec.ttft), ("itl", spec.itl), ("deadline", spec.deadline)] {
        if target.is_some_and(|t| t.seconds() <= 0.0) {
            report.add(place, &at(key), "must be longer than zero", None);
        }
    }
    if let Some(percentile) = spec.percentile
        && !(percentile > 0.0 && percentile < 100.0)
    {
        let hint = "a percentile lies between 0 and 100, both excluded, for example 95 or 99";
        report.add(place, &at("percentile"), format!("{percentile} is no percentile"), Some(hint.to_owned()));
    }
    check_promise(place, &here, spec, report);
    let promise = match (spec.deadline, spec.percentile) {
        (Some(deadline), _) => Promise::Deadline { seconds: deadline.seconds() },
        (None, percentile) => Promise::Latency {
            quantile: percentile? / 100.0,
            ttft_seconds: spec.ttft.map_or(f64::INFINITY, |t| t.seconds()),
            itl_seconds: spec.itl.map_or(f64::INFINITY, |t| t.seconds()),
        },
    };
    (report.problems.len() == before).then(|| SloClass {
        name: spec.name.clone(),
        priority: spec.priority,
        promise,
        may_wait: spec.may_wait,
    })
}

/// A class promises latencies at a percentile or a deadline, not both and not nothing.
fn check_promise(place: &Place, here: &str, spec: &ClassSpec, report: &mut Report) {
    let at = |key: &str| format!("{here}.{key}");
    let latency = spec.ttft.or(spec.itl);
    match (latency, spec.deadline, spec.percentile) {
        (None, None, _) => {
            let hint = "give `ttft` and `itl` with a `percentile`, or a `deadline`";
            report.add(place, here, format!("class `{}` promises nothing", spec.name), Some(hint.to_owned()));
        }
        (Some(_), Some(_), _) => {
            let message = format!("class `{}` has a deadline and latency targets", spec.name);
            report.add(place, &at("deadline"), message, Some("keep one of them, or make two classes".to_owned()));
        }
        (Some(_), None, None) => {
            let hint = "write for example `percentile: 99`: the share of the requests that must meet the targets";
            report.add(place, &at("percentile"), "is missing", Some(hint.to_owned()));
        }
        (None, Some(_), Some(_)) => {
            report.add(place, &at("percentile"), "a deadline has no percentile", Some("remove it".to_owned()));
        }
        _ => {}
    }
    if spec.may_wait && spec.deadline.is_none() && latency.is_some() {
        let hint = "remove it, or promise a `deadline` instead of latencies";
        report.add(place, &at("mayWait"), "only requests with a deadline may wait", Some(hint.to_owned()));
    }
}

/// Longest time in the planner's settings, seconds.
const LONGEST_SECONDS: f64 = 86_400.0;

fn planner(place: &Place, spec: &PlannerSpec, report: &mut Report) -> Planner {
    let planner = Planner {
        interval_seconds: spec.interval.seconds(),
        max_age_seconds: spec.max_age.seconds(),
        stale_after_seconds: spec.stale_after.seconds(),
        window_seconds: spec.window.seconds(),
        demand_quantile: spec.demand_quantile / 100.0,
        scale_down_dwell_seconds: spec.scale_down_dwell.seconds(),
        scale_down_starts: spec.scale_down_starts,
        error_budget_use: spec.error_budget_use / 100.0,
        route_by_length: spec.route_by_length,
        max_step_up: spec.max_step_up,
        max_step_down: spec.max_step_down,
    };
    if planner.interval_seconds < 1.0 {
        let hint = "at least 1s; metrics are not collected more often";
        report.add(place, "spec.planner.interval", format!("{} is too short", spec.interval), Some(hint.to_owned()));
    }
    for (key, value) in [
        ("interval", spec.interval),
        ("maxAge", spec.max_age),
        ("staleAfter", spec.stale_after),
        ("window", spec.window),
        ("scaleDownDwell", spec.scale_down_dwell),
    ] {
        if value.seconds() > LONGEST_SECONDS {
            let hint = "at most 24h".to_owned();
            report.add(place, &format!("spec.planner.{key}"), format!("{value} is too long"), Some(hint));
        }
    }
    let comparable = place.is_sound("spec.planner.interval");
    for (key, value, why) in [
        ("maxAge", spec.max_age, "every decision would expire before the next one"),
        ("staleAfter", spec.stale_after, "every measurement would be stale at the next decision"),
        ("window", spec.window, "what happens between two decisions would not be seen"),
    ] {
        if comparable && value.seconds() < planner.interval_seconds {
            let message = format!("{value} is shorter than the interval {}: {why}", spec.interval);
            let hint = format!("at least {}", spec.interval);
            report.add(place, &format!("spec.planner.{key}"), message, Some(hint));
        }
    }
    for (key, step) in [("maxStepUp", spec.max_step_up), ("maxStepDown", spec.max_step_down)] {
        if step == Some(0) {
            let hint = "remove it for no limit; use mode `advise` to change nothing";
            report.add(place, &format!("spec.planner.{key}"), "0 would never change a pool", Some(hint.to_owned()));
        }
    }
    planner
}
