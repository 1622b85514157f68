//! Fits the constants of the roofline on measured points, and measures what they are worth on points of
//! groups that were left out.
//!
//! All groups share one set of constants; each engine may deviate from it, by a prior, in its overheads per
//! layer. Deviations by accelerator generation, by number format or in further terms were tried: they fit
//! better inside the data and predict worse outside.

use std::collections::BTreeMap;

use super::calibrate::Calibration;
use super::score::{deviation, quantile};
use super::subject::{Mode, Subject};
use crate::perf::log_fit::{LogFit, Row};
use crate::perf::roofline::{
    ByKind, Cell, Constant, Constants, EngineFamily, Latency, Provenance, Spread, Spreads, Term,
};

/// Where each constant is believed to be before any point is seen, and by which factor it may well be off.
#[rustfmt::skip]
const PRIORS: [(f64, f64); Term::COUNT] = [
    (1.2,    0.15), // weights
    (1.2,    0.3),  // experts
    (1.25,   0.3),  // kv
    (1.3,    0.3),  // compute
    (3.0,    0.6),  // expert compute
    (2.0,    0.5),  // attention
    (2.5,    0.5),  // communication
    (3.0,    0.8),  // expert communication
    (30e-6,  0.4),  // layer
    (18e-6,  0.4),  // split layer
    (12e-6,  0.4),  // doubling layer
    (25e-6,  0.7),  // expert layer
    (20e-6,  0.6),  // latent layer
    (15e-6,  0.6),  // shared expert layer
    (0.1e-3, 1.0),  // iteration
    (20e-6,  0.6),  // request
    (0.1e-6, 1.0),  // token
];
/// The same for the parts of the first token.
const FIRST_TOKEN_PRIORS: [(f64, f64); 4] = [(1.0, 1.0), (1.5, 1.0), (0.06, 1.0), (0.03, 1.0)];
/// Deviation of an engine from the common constant, of the logarithm.
const ENGINE_PRIOR: f64 = 0.25;
const FIRST_TOKEN_ENGINE_PRIOR: f64 = 0.4;
/// Error of the logarithm from which on a point loses force.
const SCALE: f64 = 0.1;
const FIRST_TOKEN_SCALE: f64 = 0.15;
/// All points together count as so many independent ones: points of one group err together.
const INDEPENDENT: f64 = 150.0;
/// A group of n points counts as n to the power of 1 less this.
const GROUP_DISCOUNT: f64 = 0.2;
/// Largest batches that are fitted; beyond, benchmark clients and engines' own limits decide.
const LARGEST_BATCH: f64 = 512.0;
const LARGEST_MIXTURE_BATCH: f64 = 256.0;
/// Largest replica that is fitted: one chassis.
const MOST_ACCELERATORS: u32 = 8;
/// Points per group, and seeds, with which the spread of calibrated predictions is measured.
const CALIBRATION_POINTS: usize = 8;
const CALIBRATION_SEEDS: u64 = 4;

/// With fewer there is nothing to leave out.
const NEEDED_GROUPS: usize = 3;

/// Why nothing can be fitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    #[error("{groups} groups of points that can be modelled; at least {needed} are needed to leave one out")]
    TooFewGroups { groups: usize, needed: usize },
}

/// Constants, and how each row was predicted with its group left out, in the order of the rows.
#[derive(Clone, Debug)]
pub struct Fitted {
    pub constants: Constants,
    pub left_out: Vec<Option<Latency>>,
}

/// A row that is fitted: its ideal terms, times the centre of the prior.
struct Prepared<'a> {
    subject: &'a Subject,
    iteration: Vec<f64>,
}

/// What is left out at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Model, system and engine.
    Group,
    /// A model on all systems, under all engines.
    Model,
    /// A system with all models.
    System,
}

/// What counts as one when it is left out: near-duplicates of a model are one.
fn independent(subject: &Subject, by: By) -> String {
    let architecture = &subject.architecture;
    let model = format!("{} {} {:.3e}", architecture.layers, architecture.hidden_size, architecture.total_parameters());
    match by {
        By::Group => format!("{model} {} {}", subject.group.system, subject.group.engine),
        By::Model => model,
        By::System => subject.group.system.clone(),
    }
}

fn independent_group(subject: &Subject) -> String {
    independent(subject, By::Group)
}

/// Whether the row tells of the server alone: it is no part of a larger system, no long queue thins its batch.
fn is_fitted(subject: &Subject) -> bool {
    let most = if subject.is_mixture() { LARGEST_MIXTURE_BATCH } else { LARGEST_BATCH };
    let decoding = subject.closed_loop.output_tokens * subject.tpot_seconds;
    subject.mode == Mode::Aggregated
        && subject.parallel.accelerators() <= MOST_ACCELERATORS
        && subject.closed_loop.concurrency <= most
        && subject.ttft_seconds < 0.5 * decoding
}

/// The constants before any point is seen.
fn prior() -> Constants {
    let of = |priors: &[(f64, f64)]| {
        priors.iter().map(|(value, _)| Constant { value: *value, engines: BTreeMap::new() }).collect()
    };
    let wide = Spread { low: 0.5, high: 2.0, deviation: 0.4 };
    let spreads = Spreads { tpot: wide, ttft: wide };
    let by_kind = ByKind { dense: spreads, mixture: spreads };
    Constants {
        provenance: Provenance { source: String::new(), rows: 0, rows_used: 0, groups: 0 },
        iteration: of(&PRIORS),
        first_token: of(&FIRST_TOKEN_PRIORS),
        spread: by_kind,
        calibrated: by_kind,
        cells: vec![],
    }
}

/// Parameters: the common ones, then for each known engine those of `deviating`.
fn links(engine: EngineFamily, terms: usize, deviating: &[usize]) -> Vec<Vec<usize>> {
    let place = EngineFamily::KNOWN.iter().position(|e| *e == engine);
    (0..terms)
        .map(|term| {
            let own = deviating.iter().position(|d| *d == term);
            let own = place.zip(own).map(|(engine, own)| terms + engine * deviating.len() + own);
            std::iter::once(term).chain(own).collect()
        })
        .collect()
}

/// Fits values for `terms` with their priors; each row is its engine, terms, measured seconds and weight.
fn fit(
    rows: &[(EngineFamily, Vec<f64>, f64, f64)],
    priors: &[(f64, f64)],
    deviating: &[usize],
    engine_prior: f64,
    scale: f64,
    start: &[f64],
) -> Vec<f64> {
    let by_engine: BTreeMap<EngineFamily, Vec<Vec<usize>>> =
        rows.iter().map(|(engine, ..)| (*engine, links(*engine, priors.len(), deviating))).collect();
    let total: f64 = rows.iter().map(|(.., weight)| weight).sum();
    let rows = rows.iter().map(|(engine, terms, measured, weight)| Row {
        terms,
        measured: measured.ln(),
        weight: weight / total * INDEPENDENT,
        links: &by_engine[engine],
    });
    let deviations = EngineFamily::KNOWN.len() * deviating.len();
    let priors = priors.iter().map(|(_, sd)| *sd).chain(std::iter::repeat_n(engine_prior, deviations)).collect();
    LogFit { rows: rows.collect(), priors, scale }.solve(start)
}

/// Constants from the parameters of a fit.
fn constants_of(found: &[f64], priors: &[(f64, f64)], deviating: &[usize]) -> Vec<Constant> {
    let constant = |term: usize, centre: f64| {
        let own = deviating.iter().position(|d| *d == term);
        let engines = own.map(|own| {
            let of = |(i, engine): (usize, &EngineFamily)| {
                (*engine, rounded(found[priors.len() + i * deviating.len() + own].exp()))
            };
            EngineFamily::KNOWN.iter().enumerate().map(of).collect()
        });
        Constant { value: rounded(centre * found[term].exp()), engines: engines.unwrap_or_default() }
    };
    priors.iter().enumerate().map(|(term, (centre, _))| constant(term, *centre)).collect()
}

/// Four digits: more would tell of the machine that fitted.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Start values of the two fits.
#[derive(Clone)]
struct Start {
    iteration: Vec<f64>,
    first_token: Vec<f64>,
}

impl Start {
    fn cold() -> Self {
        let known = EngineFamily::KNOWN.len();
        Self {
            iteration: vec![0.0; Term::COUNT + known * Term::OF_ENGINE.len()],
            first_token: vec![0.0; FIRST_TOKEN_PRIORS.len() * (1 + known)],
        }
    }
}

/// The constants of both latencies on these rows; spreads and cells are not filled in.
fn fit_rows(rows: &[&Prepared], start: &Start) -> (Constants, Start) {
    let sizes = sizes(rows.iter().map(|r| independent_group(r.subject)));
    let weight = |r: &Prepared| (sizes[&independent_group(r.subject)] as f64).powf(-GROUP_DISCOUNT);
    let deviating: Vec<usize> = Term::OF_ENGINE.iter().map(|t| *t as usize).collect();
    let iterations: Vec<_> =
        rows.iter().map(|r| (r.subject.engine, r.iteration.clone(), r.subject.tpot_seconds, weight(r))).collect();
    let iteration = fit(&iterations, &PRIORS, &deviating, ENGINE_PRIOR, SCALE, &start.iteration);
    let mut constants = Constants { iteration: constants_of(&iteration, &PRIORS, &deviating), ..prior() };

    // Twice: which rows queue is told by the prediction without queueing.
    let mut first_token = start.first_token.clone();
    let all: Vec<usize> = (0..FIRST_TOKEN_PRIORS.len()).collect();
    for _ in 0..2 {
        let centre = prior().first_token;
        let judged = constants.clone();
        let at_prior = Constants { first_token: centre, ..constants.clone() };
        let parts: Vec<_> = rows
            .iter()
            .filter_map(|r| {
                let predicted = r.subject.roofline(&judged).ok()?.closed_loop(&r.subject.closed_loop);
                let queued = is_queue_dominated(r.subject.ttft_seconds, predicted.ttft_seconds());
                let parts = r.subject.roofline(&at_prior).ok()?.closed_loop(&r.subject.closed_loop).first_token;
                (!queued).then(|| (r.subject.engine, parts.to_vec(), r.subject.ttft_seconds, weight(r)))
            })
            .collect();
        let (sd, scale) = (FIRST_TOKEN_ENGINE_PRIOR, FIRST_TOKEN_SCALE);
        first_token = fit(&parts, &FIRST_TOKEN_PRIORS, &all, sd, scale, &first_token);
        constants.first_token = constants_of(&first_token, &FIRST_TOKEN_PRIORS, &all);
    }
    (constants, Start { iteration, first_token })
}

/// A first token that waited for memory or for a place in the batch rather than for computation.
pub fn is_queue_dominated(ttft_seconds: f64, predicted_seconds: f64) -> bool {
    ttft_seconds > 3.0 * predicted_seconds && ttft_seconds > 2.0
}

fn sizes(groups: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut sizes = BTreeMap::new();
    for group in groups {
        *sizes.entry(group).or_insert(0) += 1;
    }
    sizes
}

/// Rows that are fitted, with their terms at the centre of the prior.
fn prepare<'a>(subjects: &'a [Subject], at: &Constants) -> Vec<Prepared<'a>> {
    let fitted = subjects.iter().filter(|s| is_fitted(s));
    fitted
        .filter_map(|subject| {
            let iteration = subject.roofline(at).ok()?.closed_loop(&subject.closed_loop).iteration.to_vec();
            Some(Prepared { subject, iteration })
        })
        .collect()
}

/// Fits the constants on all rows, and measures their spread with each group, model or
/// system left out.
///
/// # Errors
/// There are too few groups.
pub fn fit_constants(subjects: &[Subject], source: &str, by: By) -> Result<Fitted, FitError> {
    let centre = prior();
    let prepared = prepare(subjects, &centre);
    let groups: Vec<String> = sizes(prepared.iter().map(|r| independent(r.subject, by))).into_keys().collect();
    if groups.len() < NEEDED_GROUPS {
        return Err(FitError::TooFewGroups { groups: groups.len(), needed: NEEDED_GROUPS });
    }
    let all: Vec<&Prepared> = prepared.iter().collect();
    let (mut constants, warm) = fit_rows(&all, &Start::cold());
    let names: Vec<String> = subjects.iter().map(|s| independent(s, by)).collect();
    let mut without: BTreeMap<&str, Constants> = BTreeMap::new();
    for group in &groups {
        let rest: Vec<&Prepared> = all.iter().copied().filter(|r| independent(r.subject, by) != *group).collect();
        without.insert(group, fit_rows(&rest, &warm).0);
    }
    let base = |i: usize| without.get(names[i].as_str()).unwrap_or(&constants);
    let left_out: Vec<Option<Latency>> = subjects
        .iter()
        .enumerate()
        .map(|(i, subject)| Some(subject.roofline(base(i)).ok()?.closed_loop(&subject.closed_loop)))
        .collect();
    let residuals = residuals(subjects, &left_out);
    let calibrated = calibrated_residuals(subjects, &left_out);
    let rows_of = |mode| subjects.iter().filter(|s| s.mode == mode).count();
    constants.provenance = Provenance {
        source: source.to_owned(),
        rows: rows_of(Mode::Aggregated),
        rows_used: prepared.len(),
        groups: groups.len(),
    };
    constants.spread = spreads(&residuals);
    constants.calibrated = spreads(&calibrated);
    constants.cells = cells(subjects, &left_out);
    Ok(Fitted { constants, left_out })
}

/// Logarithms of measured by predicted, with the weight of the row.
#[derive(Default)]
struct Residuals {
    tpot: [Vec<(f64, f64)>; 2],
    ttft: [Vec<(f64, f64)>; 2],
}

impl Residuals {
    fn add(&mut self, subject: &Subject, tpot_seconds: f64, ttft_seconds: f64, weight: f64) {
        let kind = usize::from(subject.is_mixture());
        self.tpot[kind].push(((subject.tpot_seconds / tpot_seconds).ln(), weight));
        if !is_queue_dominated(subject.ttft_seconds, ttft_seconds) {
            self.ttft[kind].push(((subject.ttft_seconds / ttft_seconds).ln(), weight));
        }
    }
}

/// Weights between those of equal rows and those of equal groups.
fn spread_weight(sizes: &BTreeMap<String, usize>, subject: &Subject) -> f64 {
    sizes.get(&independent_group(subject)).map_or(1.0, |n| (*n as f64).powf(-0.25))
}

fn aggregated<'a>(subjects: &'a [Subject], left_out: &'a [Option<Latency>]) -> Vec<(&'a Subject, &'a Latency)> {
    let both = subjects.iter().zip(left_out).filter(|(s, _)| s.mode == Mode::Aggregated);
    both.filter_map(|(s, l)| Some((s, l.as_ref()?))).collect()
}

fn residuals(subjects: &[Subject], left_out: &[Option<Latency>]) -> Residuals {
    let rows = aggregated(subjects, left_out);
    let sizes = sizes(rows.iter().map(|(s, _)| independent_group(s)));
    let mut all = Residuals::default();
    for (subject, latency) in rows {
        all.add(subject, latency.tpot_seconds(), latency.ttft_seconds(), spread_weight(&sizes, subject));
    }
    all
}

/// The same after a calibration with a few points of the group.
fn calibrated_residuals(subjects: &[Subject], left_out: &[Option<Latency>]) -> Residuals {
    let rows = aggregated(subjects, left_out);
    let sizes = sizes(rows.iter().map(|(s, _)| independent_group(s)));
    let mut by_group: BTreeMap<_, Vec<(&Subject, &Latency)>> = BTreeMap::new();
    for (subject, latency) in rows {
        by_group.entry(&subject.group).or_default().push((subject, latency));
    }
    let mut all = Residuals::default();
    for seed in 0..CALIBRATION_SEEDS {
        for rows in by_group.values().filter(|rows| rows.len() > CALIBRATION_POINTS) {
            let (calibration, rest) = Calibration::of_some(rows, CALIBRATION_POINTS, seed);
            for i in rest {
                let (subject, latency) = rows[i];
                let (tpot, ttft) = calibration.apply(latency);
                all.add(subject, tpot, ttft, spread_weight(&sizes, subject));
            }
        }
    }
    all
}

fn spread(residuals: &[(f64, f64)]) -> Spread {
    let at = |share: f64| rounded(quantile(residuals, share).exp());
    Spread { low: at(0.05).min(0.99), high: at(0.95).max(1.01), deviation: rounded(deviation(residuals).max(0.01)) }
}

fn spreads(all: &Residuals) -> ByKind<Spreads> {
    let of = |kind: usize| Spreads { tpot: spread(&all.tpot[kind]), ttft: spread(&all.ttft[kind]) };
    ByKind { dense: of(0), mixture: of(1) }
}

fn cells(subjects: &[Subject], left_out: &[Option<Latency>]) -> Vec<Cell> {
    let mut by_cell: BTreeMap<_, Vec<(&Subject, &Latency)>> = BTreeMap::new();
    for (subject, latency) in aggregated(subjects, left_out) {
        let key = (subject.engine, subject.sheet.generation, subject.is_mixture());
        by_cell.entry(key).or_default().push((subject, latency));
    }
    let cell = |((engine, generation, is_mixture), rows): (_, Vec<(&Subject, &Latency)>)| {
        let errors: Vec<(f64, f64)> =
            rows.iter().map(|(s, l)| ((l.tpot_seconds() / s.tpot_seconds - 1.0).abs(), 1.0)).collect();
        let logs: Vec<(f64, f64)> = rows.iter().map(|(s, l)| ((s.tpot_seconds / l.tpot_seconds()).ln(), 1.0)).collect();
        Cell {
            engine,
            generation,
            kind: if is_mixture { "mixture" } else { "dense" }.to_owned(),
            groups: sizes(rows.iter().map(|(s, _)| independent_group(s))).len(),
            rows: rows.len(),
            tpot_mean_error: rounded(errors.iter().map(|e| e.0).sum::<f64>() / errors.len() as f64),
            tpot_median_error: rounded(quantile(&errors, 0.5)),
            tpot_deviation: rounded(deviation(&logs)),
        }
    };
    by_cell.into_iter().map(cell).collect()
}
