//! The pictures of a report. It owns what is drawn over what and in which colour; how is said elsewhere.

use super::figures::{LatencyFigures, Report, TryFigures};
use super::series::RuleSeries;
use crate::plot::{Axis, Entry, GREY, Guide, Layout, Mark, Panel, Picture, Series};
use crate::simulate::replay::comparison::PromiseWords;
use crate::simulate::replay::outcome::Cause;

/// A picture with its file and what it shows.
pub(super) struct Shown {
    pub file: &'static str,
    pub about: &'static str,
    pub picture: Picture,
}

/// Colours of ours, of the best other and of demand.
const OURS: usize = 0;
const OTHER: usize = 1;
const DEMAND: usize = 2;
/// Colours of other rules beside each other, and of pools; grey is for who knows the future.
const RULES: [usize; 6] = [1, 2, 3, 4, 5, 7];
const POOLS: [usize; 8] = [0, 5, 2, 3, 4, 1, 7, 6];
/// Panels over time: readable where a page is 900 pixels wide.
const OVER_TIME: Layout = Layout { columns: 1, panel: (900, 230) };
/// Costs further apart than this need a logarithmic axis.
const WIDE: f64 = 5.0;
/// Classes with a panel of their own.
const MOST_CLASSES: usize = 4;

/// All pictures that have something to show.
pub(super) fn all(report: &Report) -> Vec<Shown> {
    let mut all = vec![
        Shown { file: "replicas.svg", about: "Demand and ready replicas over time.", picture: replicas(report) },
        Shown {
            file: "pools.svg",
            about: "Ready replicas of every pool, one above the other.",
            picture: pools(report),
        },
        Shown {
            file: "cost.svg",
            about: "Cost against the share of requests in time: every try of every rule. Ringed: the cheapest other \
                    try that serves every class as well as ours. The line joins the tries that no other beats in both.",
            picture: cost(report),
        },
        Shown {
            file: "latency.svg",
            about: "Latency percentiles of finished requests. Dashed: the target, which counts at the percentile named.",
            picture: latency(report),
        },
        Shown { file: "actions.svg", about: "Changes of the fleet.", picture: actions(report) },
        Shown {
            file: "late.svg",
            about: "Late requests by their time of arrival and what made them late.",
            picture: late(report),
        },
    ];
    all.retain(|shown| !shown.picture.panels.is_empty());
    all
}

fn entry(name: impl Into<String>, mark: Mark, colour: usize) -> Entry {
    Entry { name: name.into(), mark: Some(mark), colour: Some(colour) }
}

/// Hours from the start and values; the last value holds to the end of its point.
fn over_time(report: &Report, values: &[f64]) -> Vec<(f64, f64)> {
    let at = |point: usize| (60.0 * (point * report.minutes_per_point) as f64).min(report.seconds) / 3600.0;
    let points = values.iter().enumerate().map(|(i, value)| (at(i), *value));
    points.chain(values.last().map(|value| (at(values.len()), *value))).collect()
}

/// A panel over time from 0.
fn time_panel(title: String, y: &str, series: Vec<Series>) -> Panel {
    let (x_axis, y_axis) = (Axis::Span, Axis::Linear);
    Panel { title, x: "hours from the start".to_owned(), y: y.to_owned(), x_axis, y_axis, series, ..Panel::default() }
}

fn name_of(report: &Report, nth: usize) -> String {
    let rule = report.series.get(nth).map_or("", |s| s.rule.as_str());
    match (nth, report.best_other.is_some()) {
        (0, _) => "poolwright".to_owned(),
        (_, true) => format!("{rule}, best other"),
        (_, false) => format!("{rule}, nearest other"),
    }
}

fn sum(lines: &[Vec<f64>]) -> Vec<f64> {
    let points = lines.first().map_or(0, Vec::len);
    (0..points).map(|at| lines.iter().map(|line| line[at]).sum()).collect()
}

fn replicas(report: &Report) -> Picture {
    let steps = |values: &[f64], colour| Series { points: over_time(report, values), mark: Mark::Steps, colour };
    let demand = vec![steps(&sum(&report.demand), DEMAND)];
    let lines = |of: &dyn Fn(&RuleSeries) -> Vec<f64>| {
        // Ours over the other.
        let each = report.series.iter().enumerate().rev();
        each.map(|(nth, s)| steps(&of(s), if nth == 0 { OURS } else { OTHER })).collect::<Vec<_>>()
    };
    let mut legend = vec![entry("demand", Mark::Steps, DEMAND)];
    for nth in 0..report.series.len() {
        legend.push(entry(name_of(report, nth), Mark::Steps, if nth == 0 { OURS } else { OTHER }));
    }
    Picture {
        title: "Demand, and who runs how much for it".to_owned(),
        panels: vec![
            time_panel("Demand".to_owned(), "requests per second", demand),
            time_panel("Ready replicas".to_owned(), "replicas", lines(&RuleSeries::replicas)),
            time_panel(
                "Cost".to_owned(),
                &format!("{} per hour", report.currency),
                lines(&|s| s.cost_per_hour.clone()),
            ),
        ],
        legend,
        layout: OVER_TIME,
    }
}

/// Areas over each other, the first at the bottom; drawn from the top.
fn stacked(report: &Report, layers: &[(usize, &[f64])]) -> Vec<Series> {
    let mut total: Vec<f64> = vec![];
    let mut areas = vec![];
    for (colour, layer) in layers {
        total.resize(layer.len(), 0.0);
        total.iter_mut().zip(*layer).for_each(|(sum, value)| *sum += value);
        areas.push(Series { points: over_time(report, &total), mark: Mark::Area, colour: *colour });
    }
    areas.reverse();
    areas
}

fn pools(report: &Report) -> Picture {
    let used = |pool: &usize| report.series.iter().any(|s| s.ready[*pool].iter().any(|n| *n > 0.0));
    let used: Vec<usize> = (0..report.pools.len()).filter(used).collect();
    let colour = |nth: usize| POOLS[nth % POOLS.len()];
    let panel = |nth: usize| {
        let s = &report.series[nth];
        let layers: Vec<(usize, &[f64])> =
            used.iter().enumerate().map(|(i, pool)| (colour(i), s.ready[*pool].as_slice())).collect();
        time_panel(name_of(report, nth), "replicas", stacked(report, &layers))
    };
    let panels = if used.is_empty() { vec![] } else { (0..report.series.len()).map(panel).collect() };
    let legend = used.iter().enumerate().map(|(i, pool)| entry(&report.pools[*pool], Mark::Area, colour(i)));
    Picture { title: "Replicas by pool".to_owned(), panels, legend: legend.collect(), layout: OVER_TIME }
}

/// Share in time that an axis of nines can show: without a late request as if half of one were.
fn shown_share(share: Option<f64>, arrived: u64) -> f64 {
    share.unwrap_or(1.0).min(1.0 - 0.5 / arrived.max(1) as f64)
}

fn cost(report: &Report) -> Picture {
    let mut rules: Vec<&str> = vec![];
    for other in report.others.iter().filter(|other| !other.knows_future) {
        rules.push(&other.rule);
    }
    let look = |t: &TryFigures| match rules.iter().position(|rule| *rule == t.rule) {
        _ if t.knows_future => (GREY, Mark::Rings),
        Some(nth) => (RULES[nth % RULES.len()], if nth < RULES.len() { Mark::Dots } else { Mark::Rings }),
        None => (OURS, Mark::Dots),
    };
    let costs = || report.tries.iter().map(|t| t.cost).filter(|cost| *cost > 0.0);
    let is_wide = costs().fold(0.0, f64::max) > WIDE * costs().fold(f64::INFINITY, f64::min);
    let panel = |title: String, share: &dyn Fn(&TryFigures) -> f64, has_edge: bool| {
        let mut series: Vec<Series> = vec![];
        if has_edge {
            let mut edge: Vec<(f64, f64)> =
                report.tries.iter().filter(|t| t.is_edge).map(|t| (share(t), t.cost)).collect();
            edge.sort_by(|a, b| a.0.total_cmp(&b.0));
            series.push(Series { points: edge, mark: Mark::Line, colour: GREY });
        }
        // Ours comes last: it is drawn over the others.
        for t in report.tries.iter().rev() {
            let (colour, mark) = look(t);
            match series.iter_mut().find(|s| (s.colour, s.mark) == (colour, mark)) {
                Some(of_rule) => of_rule.points.push((share(t), t.cost)),
                None => series.push(Series { points: vec![(share(t), t.cost)], mark, colour }),
            }
        }
        let is_ringed = |t: &&TryFigures| t.is_best && report.best_other.as_ref() == Some(&t.rule);
        let ringed = report.tries.iter().filter(is_ringed).map(|t| (share(t), t.cost)).collect();
        series.push(Series { points: ringed, mark: Mark::Halos, colour: OTHER });
        let ours = report.tries.first().map(|t| (share(t), t.cost));
        series.push(Series { points: ours.into_iter().collect(), mark: Mark::Halos, colour: OURS });
        Panel {
            title,
            x: "share of the requests in time".to_owned(),
            y: format!("cost, {}", report.currency),
            x_axis: Axis::Nines,
            y_axis: if is_wide { Axis::Log } else { Axis::Linear },
            series,
            guides: ours.map(|(at, _)| Guide { at, label: "ours".to_owned(), colour: OURS }).into_iter().collect(),
        }
    };
    let overall = panel("All requests".to_owned(), &|t| shown_share(t.attainment, t.arrived), true);
    let classes = report.promises.iter().enumerate().take(MOST_CLASSES).map(|(class, promise)| {
        panel(promise.class.clone(), &|t| shown_share(t.by_class.get(class).copied().flatten(), t.arrived), false)
    });
    let mut panels = vec![overall];
    if report.promises.len() > 1 {
        panels.extend(classes);
    }
    let mut legend = vec![entry("poolwright", Mark::Dots, OURS)];
    for (nth, rule) in rules.iter().enumerate() {
        let mark = if nth < RULES.len() { Mark::Dots } else { Mark::Rings };
        legend.push(entry(*rule, mark, RULES[nth % RULES.len()]));
    }
    if report.tries.iter().any(|t| t.knows_future) {
        legend.push(entry("knows the future", Mark::Rings, GREY));
    }
    Picture { title: "Cost against attainment".to_owned(), panels, legend, ..Picture::default() }
}

fn latency(report: &Report) -> Picture {
    let names = ["p50", "p95", "p99", "p99.9"].map(str::to_owned).to_vec();
    let panel = |index: usize, promise: &PromiseWords, what: &str, target: Option<f64>| {
        let mut series = vec![];
        if let Some(target) = target {
            let ends = [-0.5, names.len() as f64 - 0.5];
            series.push(Series { points: ends.map(|x| (x, 1e3 * target)).to_vec(), mark: Mark::Dashes, colour: GREY });
        }
        for nth in (0..report.series.len()).rev() {
            let Some(class) = report.figures_of(nth).and_then(|rule| rule.classes.get(index)) else { continue };
            let LatencyFigures { p50, p95, p99, p999 } = if what == "TTFT" { class.ttft } else { class.itl };
            let found = [p50, p95, p99, p999].into_iter().enumerate();
            let points = found.filter_map(|(x, seconds)| Some((x as f64, 1e3 * seconds?))).collect();
            let (mark, colour) = if nth == 0 { (Mark::Dots, OURS) } else { (Mark::Rings, OTHER) };
            series.push(Series { points, mark, colour });
        }
        let promised = target.map_or(String::new(), |_| format!(", promised at {} %", 100.0 * promise.quantile));
        let is_empty = series.iter().all(|s| s.mark == Mark::Dashes || s.points.is_empty());
        (!is_empty).then(|| Panel {
            title: format!("{}: {what}{promised}", promise.class),
            y: "ms".to_owned(),
            x_axis: Axis::Names(names.clone()),
            series,
            ..Panel::default()
        })
    };
    let mut panels = vec![];
    for (index, promise) in report.promises.iter().enumerate().take(MOST_CLASSES) {
        panels.extend(panel(index, promise, "TTFT", promise.ttft_seconds));
        panels.extend(panel(index, promise, "ITL", promise.itl_seconds));
    }
    let mut legend: Vec<Entry> = (0..report.series.len())
        .map(|nth| match nth {
            0 => entry(name_of(report, 0), Mark::Dots, OURS),
            nth => entry(name_of(report, nth), Mark::Rings, OTHER),
        })
        .collect();
    legend.push(entry("target", Mark::Dashes, GREY));
    Picture {
        title: "Latency against target".to_owned(),
        panels,
        legend,
        layout: Layout { columns: 2, panel: (560, 300) },
    }
}

fn actions(report: &Report) -> Picture {
    let minutes = report.series.first().map_or(60, |s| s.actions.minutes);
    let hours = minutes as f64 / 60.0;
    let bars = |of: fn(&RuleSeries) -> &Vec<u64>| {
        let each = report.series.iter().enumerate();
        each.map(|(nth, s)| {
            let middle = |i: usize| hours * (i as f64 + 0.5);
            let points = of(s).iter().enumerate().map(|(i, count)| (middle(i), *count as f64)).collect();
            Series { points, mark: Mark::Bars, colour: if nth == 0 { OURS } else { OTHER } }
        })
        .collect()
    };
    let every = if minutes.is_multiple_of(60) { format!("{} h", minutes / 60) } else { format!("{minutes} min") };
    let legend = (0..report.series.len())
        .map(|nth| entry(name_of(report, nth), Mark::Bars, if nth == 0 { OURS } else { OTHER }));
    Picture {
        title: "Changes of the fleet".to_owned(),
        panels: vec![
            time_panel("Scale changes".to_owned(), &format!("in {every}"), bars(|s| &s.actions.actions)),
            time_panel("Type changes".to_owned(), &format!("in {every}"), bars(|s| &s.actions.type_changes)),
        ],
        legend: legend.collect(),
        layout: OVER_TIME,
    }
}

fn late(report: &Report) -> Picture {
    let mut causes: Vec<Cause> = report.series.iter().flat_map(|s| s.late_per_minute.keys().copied()).collect();
    causes.sort();
    causes.dedup();
    let colour = |nth: usize| POOLS[nth % POOLS.len()];
    let panel = |nth: usize| {
        let late = &report.series[nth].late_per_minute;
        let layers: Vec<(usize, &[f64])> =
            causes.iter().enumerate().filter_map(|(i, cause)| Some((colour(i), late.get(cause)?.as_slice()))).collect();
        (!layers.is_empty())
            .then(|| time_panel(name_of(report, nth), "late requests per minute", stacked(report, &layers)))
    };
    Picture {
        title: "Late requests by cause".to_owned(),
        panels: (0..report.series.len()).filter_map(panel).collect(),
        legend: causes.iter().enumerate().map(|(i, cause)| entry(cause.words(), Mark::Area, colour(i))).collect(),
        layout: OVER_TIME,
    }
}
