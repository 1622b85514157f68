//! Contests at equal attainment: everything a rule may try on some windows, and the cheapest that serves as well.

use std::sync::Arc;

use anyhow::Result;
use poolwright::simulate::replay::{Comparison, Hardware, Kind, Outcome, fixed_splits, kind_named, singles};

use crate::stage::{Job, Runner, Stage};

/// Share of late requests at which a setting of another rule is given up: no level is reached any more.
const HOPELESS: f64 = 0.2;

/// A rule on its hardware with its target, and what came of it on all windows together.
#[derive(Clone, Debug)]
pub struct Tried {
    pub kind: &'static dyn Kind,
    pub hardware: Hardware,
    pub target: f64,
    pub outcome: Outcome,
}

/// A rule, its hardware and its target.
pub type Setting = (&'static dyn Kind, Hardware, f64);

impl Tried {
    /// Whether it was played to the end.
    pub fn is_played_out(&self, seconds: f64) -> bool {
        self.outcome.seconds >= seconds
    }

    pub fn setting(&self) -> Setting {
        (self.kind, self.hardware.clone(), self.target)
    }

    /// Whether it differs in the target at most.
    fn is_beside(&self, other: &Self) -> bool {
        self.kind.name() == other.kind.name() && self.hardware == other.hardware
    }

    pub fn words(&self) -> String {
        let Outcome { rule, hardware, target, .. } = &self.outcome;
        let target = target.map_or(String::new(), |t| format!(" at {t:.2}"));
        if hardware.is_empty() { format!("{rule}{target}") } else { format!("{rule} on {hardware}{target}") }
    }
}

/// What is tried of a rule.
#[derive(Clone, Copy, Debug)]
pub struct Breadth {
    /// Every how manieth target.
    pub every: usize,
    pub hardware: Tries,
}

/// Hardware that a rule may try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tries {
    /// The type that is best for the busiest minute.
    BestType,
    EachType,
    /// And fixed splits of the two that do best alone.
    EachTypeAndSplits,
}

/// The windows of one contest.
#[derive(Clone, Copy, Debug)]
pub struct Contest<'a> {
    pub runner: &'a Runner,
    pub stages: &'a [Arc<Stage>],
    pub seed: u64,
    /// What a setting may cost on each window before it is given up; without an entry, anything.
    pub most_cost: &'a [f64],
}

impl Contest<'_> {
    /// Our planner on all windows.
    pub fn ours(&self) -> Result<Outcome> {
        Outcome::joined(&self.ours_by_window()?).ok_or_else(|| anyhow::anyhow!("no window was played"))
    }

    /// Our planner on each window.
    pub fn ours_by_window(&self) -> Result<Vec<Outcome>> {
        let jobs: Result<Vec<Job>> = self.stages.iter().map(|stage| Job::ours(stage, self.seed)).collect();
        Ok(self.runner.run(&jobs?))
    }

    /// These settings on all windows.
    pub fn try_all(&self, settings: &[Setting]) -> Result<Vec<Tried>> {
        let jobs = settings.iter().flat_map(|(kind, hardware, target)| {
            self.stages.iter().enumerate().map(|(index, stage)| {
                let most_cost = self.most_cost.get(index).copied().unwrap_or(f64::INFINITY);
                let job = Job::of(kind.name(), stage, hardware.clone(), *target, self.seed)?;
                Ok(job.unless_hopeless(HOPELESS, most_cost))
            })
        });
        let outcomes = self.runner.run(&jobs.collect::<Result<Vec<_>>>()?);
        let joined = outcomes.chunks(self.stages.len().max(1)).filter_map(Outcome::joined);
        let tried = settings.iter().zip(joined);
        Ok(tried
            .map(|((kind, hardware, target), outcome)| Tried {
                kind: *kind,
                hardware: hardware.clone(),
                target: *target,
                outcome,
            })
            .collect())
    }

    /// Everything that these rules may try; fixed splits are of the two types that do best alone against `ours`.
    pub fn sweep(&self, rules: &[&str], single: &Hardware, breadth: Breadth, ours: &Outcome) -> Result<Vec<Tried>> {
        let kinds: Vec<&'static dyn Kind> = rules.iter().filter_map(|rule| kind_named(rule)).collect();
        let policy = &self.stages[0].policy;
        let alone = if breadth.hardware == Tries::BestType { vec![single.clone()] } else { singles(policy) };
        let with = |kind: &'static dyn Kind, hardware: &[Hardware]| -> Vec<Setting> {
            let own = [Hardware::default()];
            let hardware = if kind.is_given_hardware() { hardware } else { &own };
            let targets: Vec<f64> = targets(kind).into_iter().step_by(breadth.every).collect();
            let each = |h: &Hardware| targets.iter().map(|t| (kind, h.clone(), *t)).collect::<Vec<_>>();
            hardware.iter().flat_map(each).collect()
        };
        let settings: Vec<_> = kinds.iter().flat_map(|kind| with(*kind, &alone)).collect();
        let mut tried = self.try_all(&settings)?;
        if breadth.hardware == Tries::EachTypeAndSplits {
            let given = kinds.iter().filter(|kind| kind.is_given_hardware());
            let settings = given.flat_map(|kind| {
                let of_kind: Vec<Tried> = tried.iter().filter(|t| t.kind.name() == kind.name()).cloned().collect();
                with(*kind, &splits(&alone, &of_kind, ours))
            });
            tried.extend(self.try_all(&settings.collect::<Vec<_>>())?);
        }
        Ok(tried)
    }
}

impl Contest<'_> {
    /// More targets between every rule's cheapest setting that serves as well as one of `ours` and the next target on the
    /// same hardware, which does not: `parts` of them, so that nobody loses by the steps of its list.
    pub fn refine(&self, rules: &[&str], tried: &mut Vec<Tried>, ours: &[Outcome], parts: u32) -> Result<()> {
        let mut settings: Vec<Setting> = vec![];
        for rule in rules {
            let of_rule: Vec<Tried> = tried.iter().filter(|t| t.kind.name() == *rule).cloned().collect();
            for ours in ours {
                let Some(best) = best(&of_rule, ours) else { continue };
                let Some(next) = riskier(best, &of_rule, ours) else { continue };
                for part in 1..=parts {
                    let target = best.target + (next.target - best.target) * f64::from(part) / f64::from(parts + 1);
                    let setting = (best.kind, best.hardware.clone(), target);
                    let is_new = settings.iter().all(|s| (s.0.name(), &s.1, s.2) != (*rule, &setting.1, target));
                    settings.extend(is_new.then_some(setting));
                }
            }
        }
        tried.extend(self.try_all(&settings)?);
        Ok(())
    }
}

/// The setting with the next target on the same hardware that does not serve as well as `ours`.
fn riskier<'a>(best: &Tried, tried: &'a [Tried], ours: &Outcome) -> Option<&'a Tried> {
    let worse = |t: &&Tried| t.is_beside(best) && !Comparison::serves_as_well(&t.outcome, ours);
    let distance = |t: &Tried| (t.target - best.target).abs();
    tried.iter().filter(worse).min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

/// Targets that a rule is swept over; one that means nothing where it has none.
fn targets(kind: &dyn Kind) -> Vec<f64> {
    if kind.targets().is_empty() { vec![0.0] } else { kind.targets() }
}

/// Fixed splits of the two types that do best alone.
fn splits(alone: &[Hardware], tried: &[Tried], ours: &Outcome) -> Vec<Hardware> {
    // Whoever never serves as well is compared by how few are late.
    let late = |o: &Outcome| o.classes.iter().map(|c| c.arrived - c.met).sum::<u64>() as f64;
    let rank = |hardware: &&Hardware| {
        let on_it: Vec<Tried> = tried.iter().filter(|t| t.hardware == **hardware).cloned().collect();
        match best(&on_it, ours) {
            Some(best) => (false, best.outcome.cost),
            None => (true, on_it.iter().map(|t| late(&t.outcome)).fold(f64::INFINITY, f64::min)),
        }
    };
    let mut ranked: Vec<&Hardware> = alone.iter().collect();
    ranked.sort_by(|a, b| {
        let (a, b) = (rank(a), rank(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    match ranked.as_slice() {
        [first, second, ..] => fixed_splits(first, second),
        _ => vec![],
    }
}

/// The cheapest that serves every class as well as `ours`.
pub fn best<'a>(tried: &'a [Tried], ours: &Outcome) -> Option<&'a Tried> {
    let good = tried.iter().filter(|t| Comparison::serves_as_well(&t.outcome, ours));
    good.min_by(|a, b| a.outcome.cost.total_cmp(&b.outcome.cost))
}

/// The cheapest that serves every class of a promised share as promised.
pub fn cheapest_at(tried: &[Tried], level: f64) -> Option<&Tried> {
    let keeps = |t: &&Tried| t.outcome.classes.iter().all(|c| c.attainment.unwrap_or(1.0) >= level);
    tried.iter().filter(keeps).min_by(|a, b| a.outcome.cost.total_cmp(&b.outcome.cost))
}

/// The one that serves most requests in time, the cheaper of two.
pub fn nearest(tried: &[Tried]) -> Option<&Tried> {
    tried.iter().max_by(|a, b| {
        attainment(&a.outcome).total_cmp(&attainment(&b.outcome)).then(b.outcome.cost.total_cmp(&a.outcome.cost))
    })
}

/// A setting and those that were tried with the next targets on either side.
pub fn with_neighbours(of: &Tried, tried: &[Tried]) -> Vec<Setting> {
    let mut near: Vec<&Tried> = tried.iter().filter(|t| t.is_beside(of)).collect();
    near.sort_by(|a, b| a.target.total_cmp(&b.target));
    near.dedup_by(|a, b| a.target == b.target);
    let at = near.iter().position(|t| t.target == of.target).unwrap_or(0);
    let near = near.iter().enumerate().filter(|(index, _)| index.abs_diff(at) <= 1);
    near.map(|(_, t)| t.setting()).collect()
}

/// Share of all requests that were met.
pub fn attainment(outcome: &Outcome) -> f64 {
    let (arrived, met) = outcome.classes.iter().fold((0, 0), |sum, c| (sum.0 + c.arrived, sum.1 + c.met));
    if arrived == 0 { 1.0 } else { met as f64 / arrived as f64 }
}

/// Whether every class keeps its percentile.
pub fn keeps(outcome: &Outcome) -> bool {
    outcome.classes.iter().all(|c| c.attainment.unwrap_or(1.0) >= c.quantile)
}

/// The least share of hours kept of any class.
pub fn hours_kept(outcome: &Outcome) -> f64 {
    outcome.classes.iter().filter_map(|c| c.hours_kept).fold(1.0, f64::min)
}
