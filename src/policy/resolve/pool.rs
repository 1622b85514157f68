//! One pool of a ServedModel: its numbers, its scale target, its figures.

use super::fleet::Fleet;
use super::{performance, series};
use crate::perf::{Architecture, GivenLimits, Limits};
use crate::policy::document::{Place, Report, Texts};
use crate::policy::names::{LABEL_HINT, SUBDOMAIN_HINT, is_dns_label, is_dns_subdomain};
use crate::policy::resolved::{Pool, ScaleTarget};
use crate::policy::schema::{Engine, LimitsSpec, MetricsPort, PoolSpec, Role, TargetSpec};
use crate::policy::selector::SeriesSelector;

/// What the pools of one model share.
pub struct ModelContext<'m> {
    pub place: &'m Place,
    pub namespace: &'m str,
    pub served_name: &'m str,
    /// `None` when it was given wrongly, `Some(None)` when nothing is known.
    pub architecture: Option<&'m Option<Architecture>>,
    /// (input tokens, output tokens) of its requests.
    pub expected_shape: Option<(f64, f64)>,
    pub fleet: &'m Fleet<'m>,
    pub texts: &'m Texts,
}

/// A pool as far as it could be resolved.
pub struct PoolDraft {
    /// Position in the document's list.
    pub position: usize,
    pub name: String,
    /// `None` when it is not certain what it is called.
    pub target: Option<ScaleTarget>,
    /// `None` when it is not certain which series are meant.
    pub selector: Option<SeriesSelector>,
    pub scrape: Vec<String>,
    /// What a replica can do, also when other things about the pool are wrong.
    pub figures: Option<(performance::Figures, Limits)>,
    /// What `min` needs, when it is certain.
    pub need: Option<Need>,
    /// The pool, when nothing about it is wrong; the model's index is not known yet.
    pub pool: Option<Pool>,
}

/// The fewest replicas of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Position of the accelerator in the Fleet's list.
    pub accelerator: usize,
    pub accelerators_per_replica: u32,
    pub min: u32,
}

/// Resolves one pool and reports what is wrong with it alone.
pub fn resolve(model: &ModelContext, position: usize, spec: &PoolSpec, report: &mut Report) -> PoolDraft {
    let place = model.place;
    let here = format!("spec.pools[{position}]");
    let at = |key: &str| format!("{here}.{key}");
    let before = report.problems.len();
    check_alone(place, &here, spec, report);
    let target = target(place, &here, &spec.name, spec.target.as_ref(), report);
    let selector = series::selector(model, &here, spec.series.as_ref(), &target, report);
    let accelerator = model.fleet.accelerator(&spec.accelerator, place, &at("accelerator"), report);
    let resolved = accelerator.and_then(|i| model.fleet.accelerators[i].1.as_ref());
    let max = accelerator.and_then(|i| bounds(place, &here, spec, (model.fleet, i), report));
    let figures = performance::resolve(model, &here, spec, resolved.map(|a| &a.sheet), report);
    let given = given_limits(&spec.limits);
    let said = figures.as_ref().map_or(given, |f| given.or(given_limits(&f.limits)));
    let limits = limits(place, &here, &said, spec.engine, report);
    check_length(place, &here, said.max_model_len, model.expected_shape, report);

    let is_sound = |paths: &[&str]| paths.iter().all(|p| place.is_sound(p));
    let identified = is_sound(&["metadata.namespace", &at("name"), &at("target")]);
    let counted = is_sound(&[&at("accelerator"), &at("acceleratorsPerReplica"), &at("min")]);
    let is_whole = report.problems.len() == before && place.is_sound(&here) && place.is_sound("metadata.namespace");
    let measured = is_sound(&[&at("performance"), &at("acceleratorsPerReplica"), &at("limits"), &at("accelerator")]);
    let pool = || {
        let performance::Figures { parameters, evidence, kv_tokens, paper, margin, .. } = figures.clone()?;
        Some(Pool {
            namespace: model.namespace.to_owned(),
            name: spec.name.clone(),
            model: usize::MAX,
            accelerator: accelerator?,
            accelerators_per_replica: spec.accelerators_per_replica,
            role: spec.role,
            engine: spec.engine,
            mode: spec.mode,
            min: spec.min,
            max: max?,
            startup_seconds: spec.startup_time.seconds(),
            target: target.clone(),
            selector: selector.clone()?,
            scrape: spec.scrape.clone(),
            metrics_port: spec.metrics_port.clone(),
            parameters,
            evidence,
            kv_tokens,
            paper,
            margin,
            limits,
            limits_given: given,
            max_model_len: said.max_model_len,
        })
    };
    let certain = identified && is_sound(&["spec.model", &at("series")]);
    PoolDraft {
        position,
        name: spec.name.clone(),
        need: accelerator.filter(|_| counted).map(|accelerator| Need {
            accelerator,
            accelerators_per_replica: spec.accelerators_per_replica,
            min: spec.min,
        }),
        pool: if is_whole { pool() } else { None },
        selector: selector.clone().filter(|_| certain),
        target: identified.then(|| target.clone()),
        scrape: spec.scrape.clone(),
        figures: figures.filter(|_| measured).map(|f| (f, limits)),
    }
}

/// What can be said about a pool without looking at anything else.
fn check_alone(place: &Place, here: &str, spec: &PoolSpec, report: &mut Report) {
    let at = |key: &str| format!("{here}.{key}");
    if !is_dns_label(&spec.name) {
        report.add(place, &at("name"), format!("`{}` is no pool name", spec.name), Some(LABEL_HINT.to_owned()));
    }
    if spec.role != Role::Both {
        let hint = "use `both`: every replica prefills and decodes";
        report.add(
            place,
            &at("role"),
            "separate prefill and decode pools are not supported yet",
            Some(hint.to_owned()),
        );
    }
    if spec.startup_time.seconds() <= 0.0 {
        let hint = "the time from \"one more replica wanted\" to \"it serves\", for example 4m";
        report.add(place, &at("startupTime"), "must be longer than zero", Some(hint.to_owned()));
    }
    if spec.metrics_port.as_ref().is_some_and(|port| !is_port(port)) {
        let hint = "write a number, for example 8000, or the name of a container port, for example http";
        report.add(place, &at("metricsPort"), "is no port", Some(hint.to_owned()));
    }
    for (i, address) in spec.scrape.iter().enumerate() {
        check_address(place, &format!("{here}.scrape[{i}]"), address, report);
    }
}

/// A port number, or a name as a pod's template may give a port: at most 15 lower-case letters, digits and dashes.
fn is_port(port: &MetricsPort) -> bool {
    match port {
        MetricsPort::Number(number) => *number > 0,
        MetricsPort::Name(name) => {
            name.len() <= 15 && is_dns_label(name) && name.chars().any(|c| c.is_ascii_lowercase())
        }
    }
}

/// Most replicas, after the limits were held against each other and against those of the fleet.
fn bounds(
    place: &Place,
    here: &str,
    spec: &PoolSpec,
    (fleet, accelerator): (&Fleet, usize),
    report: &mut Report,
) -> Option<u32> {
    let at = |key: &str| format!("{here}.{key}");
    if let Some(max) = spec.max
        && max < spec.min
        && place.is_sound(&at("min"))
    {
        let hint = format!("max is at least min, {}", spec.min);
        report.add(place, &at("max"), format!("{max} is below min {}", spec.min), Some(hint));
        return None;
    }
    let mut most = spec.max.unwrap_or(u32::MAX);
    let per_replica = spec.accelerators_per_replica;
    for draft in fleet.limits_on(accelerator)? {
        let one = draft.limit.amount(accelerator);
        let each = one * f64::from(per_replica);
        let fitting = draft.fitting(accelerator, per_replica);
        let (there_is, more) = (draft.there_is(&fleet.currency), draft.more());
        if draft.limit.most > 0.0 && fitting == 0 {
            let message = format!("one replica needs {}, {there_is}", draft.amount(each, &fleet.currency));
            let hint = format!("at most {}, or {more}", draft.fitting(accelerator, 1));
            report.add(place, &at("acceleratorsPerReplica"), message, Some(hint));
        } else if spec.min > fitting && place.is_sound(&at("acceleratorsPerReplica")) {
            let need = draft.amount(f64::from(spec.min) * each, &fleet.currency);
            let message = format!("a minimum of {} needs {need}, {there_is}", spec.min);
            report.add(place, &at("min"), message, Some(format!("at most {fitting}, or {more}")));
        }
        most = most.min(fitting);
    }
    Some(most)
}

fn given_limits(spec: &LimitsSpec) -> GivenLimits {
    let LimitsSpec { max_num_seqs, max_num_batched_tokens, max_model_len } = *spec;
    GivenLimits { max_num_seqs, max_num_batched_tokens, max_model_len }
}

/// Limits as said, by the operator or by a profile, else the engine's own.
fn limits(place: &Place, here: &str, said: &GivenLimits, engine: Engine, report: &mut Report) -> Limits {
    let default = Limits::of(engine.family());
    let limits = Limits {
        max_num_seqs: said.max_num_seqs.unwrap_or(default.max_num_seqs),
        max_num_batched_tokens: said.max_num_batched_tokens.unwrap_or(default.max_num_batched_tokens),
    };
    if limits.max_num_batched_tokens < limits.max_num_seqs {
        let message = format!(
            "a token budget of {} is too small for {} sequences, each of which needs a token per iteration",
            limits.max_num_batched_tokens, limits.max_num_seqs
        );
        let hint = "give both as the server was started with them";
        report.add(place, &format!("{here}.limits"), message, Some(hint.to_owned()));
    }
    limits
}

/// The servers take the requests that are expected.
fn check_length(place: &Place, here: &str, most: Option<u32>, shape: Option<(f64, f64)>, report: &mut Report) {
    let (Some(most), Some((input, output))) = (most, shape.filter(|_| place.is_sound("spec.demand"))) else { return };
    if input + output > f64::from(most) {
        let message = format!("the expected requests have {} tokens, the servers take {most}", input + output);
        let hint = "give `maxModelLen` as the server was started with it, or correct `spec.demand.shape`";
        report.add(place, &format!("{here}.limits"), message, Some(hint.to_owned()));
    }
}

fn target(place: &Place, here: &str, pool: &str, spec: Option<&TargetSpec>, report: &mut Report) -> ScaleTarget {
    let target = ScaleTarget {
        api_version: spec.map_or_else(|| "apps/v1".to_owned(), |t| t.api_version.clone()),
        kind: spec.map_or_else(|| "Deployment".to_owned(), |t| t.kind.clone()),
        name: spec.and_then(|t| t.name.clone()).unwrap_or_else(|| pool.to_owned()),
    };
    if spec.is_some_and(|t| t.name.is_some()) && !is_dns_subdomain(&target.name) {
        let message = format!("`{}` is no object name", target.name);
        report.add(place, &format!("{here}.target.name"), message, Some(SUBDOMAIN_HINT.to_owned()));
    }
    let version = target.api_version.rsplit('/').next().unwrap_or_default();
    if !version.starts_with('v') || target.api_version.matches('/').count() > 1 {
        let message = format!("`{}` is no API version", target.api_version);
        let hint = "write for example apps/v1 or leaderworkerset.x-k8s.io/v1";
        report.add(place, &format!("{here}.target.apiVersion"), message, Some(hint.to_owned()));
    }
    let is_kind = target.kind.chars().all(|c| c.is_ascii_alphanumeric())
        && target.kind.chars().next().is_some_and(|c| c.is_ascii_uppercase());
    if !is_kind {
        let message = format!("`{}` is no kind", target.kind);
        let hint = "write for example Deployment or StatefulSet";
        report.add(place, &format!("{here}.target.kind"), message, Some(hint.to_owned()));
    }
    target
}

fn check_address(place: &Place, path: &str, address: &str, report: &mut Report) {
    let rest = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
    let host = rest.and_then(|r| r.split(['/', '?', '#']).next()).unwrap_or_default();
    if host.is_empty() || address.chars().any(char::is_whitespace) {
        let hint = "write the whole address, for example http://10.0.0.7:8000/metrics";
        report.add(place, path, format!("`{address}` is no address of a metrics page"), Some(hint.to_owned()));
    } else if host.contains('@') {
        let hint = "credentials do not belong in a policy";
        report.add(place, path, "the address holds a user name or password", Some(hint.to_owned()));
    }
}
