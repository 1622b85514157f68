//! One line for each solve.

use crate::ladder::Mark;
use crate::measure::{Other, Run};

/// Time over a mark's that is still in it: the flag is seen a moment later.
const LATE: f64 = 1.1;

pub struct Row<'a> {
    pub name: &'a str,
    pub pools: usize,
    pub cells: usize,
    pub run: &'a Run,
    pub highs: Option<Other>,
    /// Cost of running on as now; `None` where that breaks a limit.
    pub keep: Option<f64>,
    pub melange: Option<f64>,
    pub one_per_class: Option<f64>,
    /// Least cost that another search found.
    pub best: Option<f64>,
    pub mark: Mark,
}

pub fn print_head() {
    println!(
        "{:10} {:>5} {:>5} | {:>12} {:>12} {:>7} {:>6} {:>6} {:>5} {:13} | {:>8} {:>7} {:>6} | {:>8} {:>8} {:>8} | mark",
        "instance",
        "pools",
        "cells",
        "objective",
        "bound",
        "gap %",
        "s",
        "cpu s",
        "MiB",
        "solver",
        "HiGHS %",
        "gap %",
        "cpu s",
        "keep %",
        "Mélange%",
        "1/class%"
    );
}

impl Row<'_> {
    /// Gap that the mark speaks of.
    fn distance(&self) -> f64 {
        let ours = &self.run.solution;
        let to = |best: f64| (ours.objective - best) / best.abs().max(1e-9);
        let best = self.best.filter(|best| self.mark.of_best_known && best.is_finite());
        best.map_or(ours.gap, |best| to(best).min(ours.gap))
    }

    pub fn is_met(&self) -> bool {
        let keeps = self.keep.is_none_or(|keep| self.run.solution.objective <= keep * (1.0 + 1e-6));
        self.run.is_valid && keeps && self.distance() <= self.mark.gap && self.run.seconds <= self.mark.seconds * LATE
    }

    pub fn print(&self) {
        let ours = &self.run.solution;
        let over = |other: Option<f64>| match other {
            Some(other) if other.is_finite() => format!("{:+.2}", (other / ours.objective - 1.0) * 100.0),
            Some(_) => "none".to_owned(),
            None => "-".to_owned(),
        };
        let highs = self.highs.as_ref();
        let gap = highs.map_or_else(
            || "-".to_owned(),
            |h| format!("{:.2}", ((h.objective - h.bound) / h.objective.abs().max(1e-9)).max(0.0) * 100.0),
        );
        println!(
            "{:10} {:>5} {:>5} | {:>12.4} {:>12.4} {:>7.3} {:>6.2} {:>6.2} {:>5.0} {:13} | {:>8} {:>7} {:>6} | {:>8} {:>8} {:>8} | {} % in {} s: {}",
            self.name,
            self.pools,
            self.cells,
            ours.objective,
            ours.bound,
            ours.gap * 100.0,
            self.run.seconds,
            self.run.cpu_seconds,
            self.run.memory,
            ours.solver,
            over(highs.map(|h| h.objective)),
            gap,
            highs.map_or_else(|| "-".to_owned(), |h| format!("{:.2}", h.cpu_seconds)),
            over(self.keep),
            over(self.melange),
            over(self.one_per_class),
            self.mark.gap * 100.0,
            self.mark.seconds,
            self.verdict(),
        );
    }

    fn verdict(&self) -> String {
        if !self.run.is_valid {
            return "INVALID PLAN".into();
        }
        let of = if self.mark.of_best_known && self.best.is_some() { " of best known" } else { "" };
        let word = if self.is_met() { "met" } else { "MISSED" };
        format!("{word} ({:.3} %{of})", self.distance().max(0.0) * 100.0)
    }
}
