//! The figures of a report, in the form in which they are written as JSON.
//!
//! It owns which tries are compared: the cheapest one of every rule that serves each class as well as ours does, and
//! the edge of cost and attainment. Fields are only added to, never given another meaning, while [`SCHEMA`] stays.

use std::collections::BTreeMap;

use serde::Serialize;

use super::numbers::rounded;
use super::series::{RuleSeries, minutes_per_point, thinned};
use super::words;
use crate::simulate::replay::comparison::{Comparison, Contest, PromiseWords};
use crate::simulate::replay::opponents::{Kind, kind_named};
use crate::simulate::replay::outcome::{Cause, Outcome, Spread};

/// Name and version of the form of the figures.
pub const SCHEMA: &str = "poolwright.dev/simulate-report/v1";
const DAY_SECONDS: f64 = 86_400.0;

/// A comparison as it is told. Costs are in `currency`, shares 0..1, times seconds unless a name says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub schema: &'static str,
    /// What came out, in sentences.
    pub summary: Vec<String>,
    /// What was played.
    pub traffic: Vec<String>,
    /// What was set on the command line or went wrong on purpose, one line each.
    pub circumstances: Vec<String>,
    pub seconds: f64,
    pub currency: String,
    /// `namespace/name`.
    pub pools: Vec<String>,
    pub promises: Vec<PromiseWords>,
    /// Runs of our planner, one a seed; pictures show the first.
    pub ours: Vec<RuleFigures>,
    /// Of every other rule the cheapest try that serves each class as well as our first run, else the one that has
    /// most requests in time.
    pub others: Vec<RuleFigures>,
    /// Name of the cheapest other rule that serves as well and does not know the future.
    pub best_other: Option<String>,
    /// Every try of every rule, ours first.
    pub tries: Vec<TryFigures>,
    /// Minutes whose mean is one point of a series.
    pub minutes_per_point: usize,
    /// Requests per second by class, in the order of `promises`.
    pub demand: Vec<Vec<f64>>,
    /// Our first run, and the best other; where none serves as well, the other with most requests in time.
    pub series: Vec<RuleSeries>,
}

/// One rule at one setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleFigures {
    pub rule: String,
    pub about: String,
    pub hardware: String,
    /// What the swept setting is; empty when there is none.
    pub target_name: String,
    pub target: Option<f64>,
    pub seed: u64,
    /// Tries among which it was chosen.
    pub tries: usize,
    pub knows_future: bool,
    /// Whether it serves every class at least as well as our first run.
    pub serves_as_well: bool,
    pub cost: f64,
    /// Its cost over that of our first run.
    pub cost_ratio: f64,
    /// Share of all requests in time.
    pub attainment: Option<f64>,
    pub classes: Vec<ClassFigures>,
    pub actions_per_day: f64,
    pub type_changes_per_day: f64,
    pub accelerator_hours: BTreeMap<String, f64>,
    /// Accelerator hours of replicas that were taken away before they were ready.
    pub wasted_start_hours: f64,
    pub most_waiting: u64,
}

/// One class under one rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassFigures {
    pub class: String,
    pub arrived: u64,
    pub met: u64,
    pub attainment: Option<f64>,
    /// Share of the hours with at least 1,000 requests that kept the promise.
    pub hours_kept: Option<f64>,
    pub ttft: LatencyFigures,
    pub itl: LatencyFigures,
    pub late: BTreeMap<Cause, u64>,
}

/// Percentiles of finished requests, seconds; absent when none finished.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LatencyFigures {
    pub p50: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
}

/// A point of cost against attainment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TryFigures {
    pub rule: String,
    pub hardware: String,
    pub target: Option<f64>,
    pub knows_future: bool,
    pub cost: f64,
    /// Requests that arrived.
    pub arrived: u64,
    /// Share of all requests in time.
    pub attainment: Option<f64>,
    /// The same by class, in the order of `promises`.
    pub by_class: Vec<Option<f64>>,
    /// No other try without knowledge of the future costs less and has as many in time.
    pub is_edge: bool,
    /// The cheapest try of its rule that serves every class as well as our first run.
    pub is_best: bool,
}

impl Report {
    /// `None` without a run of ours.
    pub fn new(comparison: &Comparison) -> Option<Self> {
        let ours = comparison.ours.first()?;
        let best = comparison
            .others
            .iter()
            .filter(|contest| !knows_future(&contest.rule))
            .filter_map(|contest| Some((contest, &contest.points[contest.best?])))
            .min_by(|a, b| a.1.cost.total_cmp(&b.1.cost));
        let nearest = || {
            let others = comparison.others.iter().filter(|contest| !knows_future(&contest.rule));
            others.filter_map(|contest| contest.points.get(most_met(&contest.points)?)).max_by(|a, b| by_met(a, b))
        };
        let beside = best.map(|(_, point)| point).or_else(nearest);
        let per_point = minutes_per_point(ours.minutes.len());
        let series = |outcome: &Outcome| RuleSeries::of(outcome, comparison.pools.len(), per_point);
        let demand = |class: usize| {
            thinned(&ours.minutes, per_point, |m| m.arrived.get(class).map_or(0.0, |n| f64::from(*n) / 60.0))
        };
        let mut report = Self {
            schema: SCHEMA,
            summary: vec![],
            traffic: comparison.traffic.clone(),
            circumstances: comparison.circumstances.clone(),
            seconds: ours.seconds,
            currency: comparison.currency.clone(),
            pools: comparison.pools.clone(),
            promises: comparison.promises.clone(),
            ours: comparison.ours.iter().map(|run| RuleFigures::of(run, ours, None)).collect(),
            others: comparison.others.iter().filter_map(|contest| RuleFigures::chosen(contest, ours)).collect(),
            best_other: best.map(|(contest, _)| contest.rule.clone()),
            tries: tries(comparison),
            minutes_per_point: per_point,
            demand: (0..comparison.promises.len()).map(demand).collect(),
            series: [Some(ours), beside].into_iter().flatten().map(series).collect(),
        };
        report.summary = words::summary(&report);
        Some(report)
    }

    /// The figures of a rule of the series: our first run, or another.
    pub(super) fn figures_of(&self, series: usize) -> Option<&RuleFigures> {
        match series {
            0 => self.ours.first(),
            nth => self.others.iter().find(|other| self.series.get(nth).is_some_and(|s| s.rule == other.rule)),
        }
    }
}

fn knows_future(rule: &str) -> bool {
    kind_named(rule).is_some_and(Kind::knows_future)
}

fn met_of(outcome: &Outcome) -> (u64, u64) {
    outcome.classes.iter().fold((0, 0), |(met, all), class| (met + class.met, all + class.arrived))
}

/// Share of all requests in time; `None` when none arrived.
fn attainment(outcome: &Outcome) -> Option<f64> {
    let (met, all) = met_of(outcome);
    (all > 0).then(|| met as f64 / all as f64)
}

/// By the requests in time, then by cost: the cheaper is greater.
fn by_met(a: &Outcome, b: &Outcome) -> std::cmp::Ordering {
    met_of(a).0.cmp(&met_of(b).0).then(b.cost.total_cmp(&a.cost))
}

/// The try with most requests in time.
fn most_met(points: &[Outcome]) -> Option<usize> {
    (0..points.len()).max_by(|a, b| by_met(&points[*a], &points[*b]).then(b.cmp(a)))
}

impl RuleFigures {
    /// The try that is shown of a rule.
    fn chosen(contest: &Contest, ours: &Outcome) -> Option<Self> {
        let index = contest.best.or_else(|| most_met(&contest.points))?;
        Some(Self::of(&contest.points[index], ours, Some(contest)))
    }

    fn of(outcome: &Outcome, ours: &Outcome, contest: Option<&Contest>) -> Self {
        let per_day = |count: u64| rounded(count as f64 * DAY_SECONDS / outcome.seconds);
        let about = contest.map(|c| c.about.clone());
        let class = |c: &crate::simulate::replay::outcome::ClassOutcome| ClassFigures {
            class: c.class.clone(),
            arrived: c.arrived,
            met: c.met,
            attainment: c.attainment,
            hours_kept: c.hours_kept,
            ttft: c.ttft.into(),
            itl: c.itl.into(),
            late: c.late.clone(),
        };
        Self {
            rule: outcome.rule.clone(),
            about: about.or_else(|| Some(kind_named(&outcome.rule)?.about().to_owned())).unwrap_or_default(),
            hardware: outcome.hardware.clone(),
            target_name: contest.map_or_else(String::new, |c| c.target.clone()),
            target: outcome.target,
            seed: outcome.seed,
            tries: contest.map_or(1, |c| c.points.len()),
            knows_future: knows_future(&outcome.rule),
            serves_as_well: Comparison::serves_as_well(outcome, ours),
            cost: rounded(outcome.cost),
            cost_ratio: if ours.cost > 0.0 { rounded(outcome.cost / ours.cost) } else { 1.0 },
            attainment: attainment(outcome),
            classes: outcome.classes.iter().map(class).collect(),
            actions_per_day: per_day(outcome.actions),
            type_changes_per_day: per_day(outcome.type_changes),
            accelerator_hours: outcome.accelerator_hours.iter().map(|(k, v)| (k.clone(), rounded(*v))).collect(),
            wasted_start_hours: rounded(outcome.wasted_start_hours),
            most_waiting: outcome.most_waiting,
        }
    }
}

impl From<Spread> for LatencyFigures {
    fn from(spread: Spread) -> Self {
        let told = |seconds: f64| (seconds > 0.0).then(|| rounded(seconds));
        Self { p50: told(spread.p50), p95: told(spread.p95), p99: told(spread.p99), p999: told(spread.p999) }
    }
}

fn tries(comparison: &Comparison) -> Vec<TryFigures> {
    let one = |outcome: &Outcome, is_best: bool| TryFigures {
        rule: outcome.rule.clone(),
        hardware: outcome.hardware.clone(),
        target: outcome.target,
        knows_future: knows_future(&outcome.rule),
        cost: rounded(outcome.cost),
        arrived: met_of(outcome).1,
        attainment: attainment(outcome),
        by_class: outcome.classes.iter().map(|c| c.attainment).collect(),
        is_edge: false,
        is_best,
    };
    let ours = comparison.ours.iter().enumerate().map(|(nth, outcome)| one(outcome, nth == 0));
    let others = comparison.others.iter().flat_map(|contest| {
        contest.points.iter().enumerate().map(move |(nth, outcome)| one(outcome, contest.best == Some(nth)))
    });
    let mut tries: Vec<TryFigures> = ours.chain(others).collect();
    let share = |t: &TryFigures| t.attainment.unwrap_or(1.0);
    let mut order: Vec<usize> = (0..tries.len()).filter(|i| !tries[*i].knows_future).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&tries[*a], &tries[*b]);
        share(b).total_cmp(&share(a)).then(a.cost.total_cmp(&b.cost))
    });
    let mut cheapest = f64::INFINITY;
    for index in order {
        if tries[index].cost < cheapest {
            cheapest = tries[index].cost;
            tries[index].is_edge = true;
        }
    }
    tries
}
