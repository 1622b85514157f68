//! One line for each solve.

use poolwright::plot::{Axis, Entry, Layout, Mark as PlotMark, Panel, Picture, Series};

use crate::ladder::Mark;
use crate::measure::{Other, Run};

/// Time over a mark's that is still in it: the flag is seen a moment later.
const LATE: f64 = 1.1;

/// Relative gap of another solver that counts as a proof.
const PROVEN: f64 = 1e-4;

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

pub type Point = (f64, [Option<f64>; 4]);

/// Smallest excess that a logarithmic axis shows, percent.
const LEAST_SHOWN: f64 = 0.001;

/// The rows as a picture.
pub fn picture(points: &[Point]) -> Picture {
    let names = ["poolwright", "HiGHS", "Mélange's rule", "one per class"];
    let series = |i: usize| Series {
        points: points.iter().filter_map(|(pools, costs)| costs[i].map(|c| (*pools, c))).collect(),
        mark: if i == 1 { PlotMark::Rings } else { PlotMark::Dots },
        colour: i,
    };
    let entry = |i: usize| Entry {
        name: names[i].to_owned(),
        mark: Some(if i == 1 { PlotMark::Rings } else { PlotMark::Dots }),
        colour: Some(i),
    };
    Picture {
        title: "Cost above the proven bound, one core, each within its time".into(),
        panels: vec![Panel {
            title: "fleets of the benchmark, from nothing".into(),
            x: "pools".into(),
            y: "cost above the bound, %".into(),
            series: (0..names.len()).map(series).filter(|s| !s.points.is_empty()).collect(),
            guides: vec![],
            x_axis: Axis::default(),
            y_axis: Axis::default(),
        }],
        legend: (0..names.len()).map(entry).collect(),
        layout: Layout::default(),
    }
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
        // What another solver proved is as good as an own proof.
        let proven = self.highs.as_ref().filter(|h| h.objective - h.bound <= PROVEN * h.objective.abs());
        let counts = self.mark.of_best_known || proven.is_some();
        let best = self.best.filter(|best| counts && best.is_finite());
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

    /// Pools, and what ours, HiGHS, Mélange's rule and one pool for each class cost above our proven bound, in percent.
    pub fn point(&self) -> Point {
        let bound = self.run.solution.bound;
        let over = |cost: f64| ((cost / bound - 1.0) * 100.0).max(LEAST_SHOWN);
        let costs = [
            Some(self.run.solution.objective),
            self.highs.as_ref().map(|h| h.objective),
            self.melange,
            self.one_per_class,
        ];
        (self.pools as f64, costs.map(|c| c.filter(|c| c.is_finite()).map(over)))
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
