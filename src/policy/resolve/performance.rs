//! The figures of one pool: given, from a profile file, or estimated.

use super::pool::ModelContext;
use crate::perf::{Architecture, DataSheet, EstimateError, Evidence, PaperReplica, Parallelism, Parameters, Shape};
use crate::policy::document::{Report, profile_path};
use crate::policy::profile::{self, profile};
use crate::policy::schema::{
    EstimateSpec, LimitsSpec, NumberFormat, ParallelismSpec, ParametersSpec, PerformanceSpec, PoolSpec,
};

/// What one replica can do.
#[derive(Clone)]
pub struct Figures {
    pub parameters: Parameters,
    pub evidence: Evidence,
    pub kv_tokens: f64,
    /// What they are estimated from, when they are.
    pub paper: Option<PaperReplica>,
    /// Share of a capacity to keep in reserve, 0..1.
    pub margin: f64,
    /// Limits of the server that a profile was measured on.
    pub limits: LimitsSpec,
}

impl Figures {
    fn new(parameters: Parameters, evidence: Evidence, kv_tokens: f64) -> Self {
        let (margin, limits) = (evidence.safety_margin(), LimitsSpec::default());
        Self { parameters, evidence, kv_tokens, paper: None, margin, limits }
    }
}

/// `None` after a problem was reported, or when the accelerator or the architecture has one of its own.
pub fn resolve(
    model: &ModelContext,
    here: &str,
    spec: &PoolSpec,
    sheet: Option<&DataSheet>,
    report: &mut Report,
) -> Option<Figures> {
    let path = format!("{here}.performance");
    match spec.performance.as_ref() {
        None => estimated(model, here, &path, spec, &EstimateSpec::default(), sheet, report),
        Some(PerformanceSpec::Estimate(formats)) => estimated(model, here, &path, spec, formats, sheet, report),
        Some(PerformanceSpec::Parameters(given)) => {
            measured(model, here, &format!("{path}.parameters"), spec, given, sheet, report)
        }
        Some(PerformanceSpec::Profile(file)) => {
            let path = format!("{path}.profile");
            let given = read_profile(model, &path, file, report)?;
            let figures = measured(model, here, &path, spec, &given.parameters, sheet, report)?;
            let margin = given.margin().unwrap_or(figures.margin);
            Some(Figures { margin, limits: given.limits, ..figures })
        }
    }
}

fn estimated(
    model: &ModelContext,
    here: &str,
    path: &str,
    spec: &PoolSpec,
    formats: &EstimateSpec,
    sheet: Option<&DataSheet>,
    report: &mut Report,
) -> Option<Figures> {
    let place = model.place;
    let Some(architecture) = model.architecture?.as_ref() else {
        let message = format!("nothing is known about the architecture of `{}`", model.served_name);
        let hint = "give `spec.architecture`, or `performance` with `parameters` or a `profile`";
        report.add(place, path, message, Some(hint.to_owned()));
        return None;
    };
    let weights = formats.weights.unwrap_or_else(|| architecture.stored_format());
    let kv_cache = formats.kv_cache.unwrap_or(architecture.kv_format);
    let parallel = parallelism(model, here, spec, report)?;
    match on_paper(sheet?, &architecture.stored_as(weights), parallel, kv_cache, spec) {
        Ok(paper) => {
            let usual = paper.estimate();
            let expected =
                model.expected_shape.map(|(input_tokens, output_tokens)| Shape { input_tokens, output_tokens });
            let parameters = expected.map_or(usual.parameters, |shape| paper.parameters(&shape));
            let kv_tokens = expected.map_or(usual.kv_tokens, |shape| paper.kv_tokens(&shape));
            let margin = paper.margin();
            Some(Figures { margin, paper: Some(paper), ..Figures::new(parameters, Evidence::OutsideIn, kv_tokens) })
        }
        Err(error) => {
            let smaller = match weights {
                NumberFormat::Bf16 => {
                    Some("or say that the weights are stored in 8 bits: `performance: {estimate: {weights: fp8}}`")
                }
                _ => None,
            };
            report.add(place, &format!("{here}.acceleratorsPerReplica"), error.to_string(), smaller.map(str::to_owned));
            None
        }
    }
}

fn on_paper(
    sheet: &DataSheet,
    architecture: &Architecture,
    parallel: Parallelism,
    kv_cache: NumberFormat,
    spec: &PoolSpec,
) -> Result<PaperReplica, EstimateError> {
    PaperReplica::new(sheet, architecture, parallel, kv_cache, spec.engine.family())
}

/// How the pool's accelerators share the model; `None` after a problem was reported.
fn parallelism(model: &ModelContext, here: &str, spec: &PoolSpec, report: &mut Report) -> Option<Parallelism> {
    let all = spec.accelerators_per_replica;
    let given = spec.parallelism.clone().unwrap_or_default();
    let ParallelismSpec { tensor, pipeline, data, experts } = given;
    let (pipeline, data) = (pipeline.unwrap_or(1), data.unwrap_or(1));
    let others = pipeline.saturating_mul(data);
    let tensor = tensor.unwrap_or_else(|| all / others.max(1));
    if tensor == 0 || tensor.saturating_mul(others) != all {
        let message = format!(
            "{tensor} (tensor) x {pipeline} (pipeline) x {data} (data) is not the {all} accelerators of a replica"
        );
        let hint = "their product is acceleratorsPerReplica";
        report.add(model.place, &format!("{here}.parallelism"), message, Some(hint.to_owned()));
        return None;
    }
    let experts = if experts { tensor * data } else { 1 };
    Some(Parallelism { tensor, pipeline, attention_data: data, experts })
}

/// Given figures; the KV capacity is estimated when it is not among them.
fn measured(
    model: &ModelContext,
    here: &str,
    path: &str,
    spec: &PoolSpec,
    given: &ParametersSpec,
    sheet: Option<&DataSheet>,
    report: &mut Report,
) -> Option<Figures> {
    let place = model.place;
    let parameters = given.parameters();
    if !parameters.is_usable() {
        let hint = "alpha, beta and gamma must not all be zero";
        report.add(place, path, "an iteration would take no time", Some(hint.to_owned()));
        return None;
    }
    let kv_tokens = match given.kv_tokens {
        Some(0) => Err("is 0".to_owned()),
        Some(tokens) => Ok(tokens as f64),
        None => {
            let parallel = parallelism(model, here, spec, report)?;
            kv_estimate(model, spec, sheet?, parallel)
        }
    };
    match kv_tokens {
        Ok(kv_tokens) => Some(Figures::new(parameters, Evidence::Curve, kv_tokens)),
        Err(why) => {
            let hint = "give the number that the server prints at its start, for example 406000";
            if path.ends_with(".profile") {
                report.add(place, path, format!("kvTokens of the profile {why}"), Some(hint.to_owned()));
            } else {
                report.add(place, &format!("{path}.kvTokens"), why, Some(hint.to_owned()));
            }
            None
        }
    }
}

/// KV capacity with the weights as they are stored, or in fewer bits where those do not fit.
fn kv_estimate(model: &ModelContext, spec: &PoolSpec, sheet: &DataSheet, parallel: Parallelism) -> Result<f64, String> {
    let architecture = model.architecture.and_then(Option::as_ref);
    let architecture = architecture.ok_or("is missing and cannot be estimated without an architecture")?;
    [architecture.stored_format(), NumberFormat::Fp8, NumberFormat::Int4]
        .iter()
        .find_map(|weights| {
            on_paper(sheet, &architecture.stored_as(*weights), parallel, architecture.kv_format, spec).ok()
        })
        .map(|paper| paper.estimate().kv_tokens)
        .ok_or_else(|| "is missing and cannot be estimated: the weights do not fit".to_owned())
}

fn read_profile(model: &ModelContext, path: &str, file: &str, report: &mut Report) -> Option<profile::Figures> {
    let place = model.place;
    let name = match profile_path(&place.file, file) {
        Ok(name) => name,
        Err(why) => {
            report.add(place, path, format!("`{file}` {why}"), None);
            return None;
        }
    };
    let text = match model.texts.profiles.get(&name) {
        Some(Ok(text)) => text,
        Some(Err(why)) => {
            report.add(place, path, format!("the profile `{name}` {why}"), None);
            return None;
        }
        None => {
            report.add(place, path, format!("there is no profile file `{name}`"), None);
            return None;
        }
    };
    match profile(&name, text) {
        Ok(given) => Some(given),
        Err(problems) => {
            report.problems.extend(problems);
            None
        }
    }
}
