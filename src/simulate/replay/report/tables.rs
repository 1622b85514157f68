//! The tables of a report, before they are a page or Markdown: heads and cells as text.

use super::figures::{LatencyFigures, Report, RuleFigures};
use super::numbers::{grouped, percent};

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    pub title: &'static str,
    /// One sentence: how to read it.
    pub about: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// Row of ours, to be marked.
    pub marked: Option<usize>,
}

/// All tables of a report.
pub(super) fn tables(report: &Report) -> Vec<Table> {
    let mut tables = vec![rules(report), settings(report)];
    tables.extend(latencies(report));
    tables
}

fn all(report: &Report) -> impl Iterator<Item = &RuleFigures> {
    report.ours.iter().chain(&report.others)
}

fn name(report: &Report, rule: &RuleFigures) -> String {
    let seeds = report.ours.len() > 1 && report.ours.iter().any(|run| run == rule);
    if seeds { format!("{} (seed {})", rule.rule, rule.seed) } else { rule.rule.clone() }
}

fn rules(report: &Report) -> Table {
    let mut head = vec!["rule".to_owned(), format!("cost, {}", report.currency), "over ours".to_owned()];
    head.extend(report.promises.iter().map(|p| format!("{} in time", p.class)));
    head.extend(
        ["as well as ours", "changes/day", "type changes/day", "accelerator hours", "wasted start hours"]
            .map(str::to_owned),
    );
    let row = |rule: &RuleFigures| {
        let mut cells = vec![name(report, rule), grouped(rule.cost, 2), format!("{:.3}", rule.cost_ratio)];
        cells.extend(rule.classes.iter().map(|c| c.attainment.map_or("-".to_owned(), percent)));
        let hours = rule.accelerator_hours.iter().map(|(name, hours)| format!("{name} {}", grouped(*hours, 1)));
        let as_well = match (rule.knows_future, rule.serves_as_well) {
            (true, true) => "yes, knows the future",
            (true, false) => "no, knows the future",
            (false, true) => "yes",
            (false, false) => "no",
        };
        cells.extend([
            as_well.to_owned(),
            grouped(rule.actions_per_day, 0),
            grouped(rule.type_changes_per_day, 0),
            hours.collect::<Vec<_>>().join(", "),
            grouped(rule.wasted_start_hours, 1),
        ]);
        cells
    };
    Table {
        title: "Every rule at equal attainment",
        about: "Of every other rule the cheapest try that serves each class at least as well as our first run; where \
                there is none, the one with most requests in time."
            .to_owned(),
        head,
        rows: all(report).map(row).collect(),
        marked: Some(0),
    }
}

fn settings(report: &Report) -> Table {
    let row = |rule: &RuleFigures| {
        let target = rule.target.map_or("-".to_owned(), |t| format!("{t}"));
        let hardware = if rule.hardware.is_empty() { "any".to_owned() } else { rule.hardware.clone() };
        let swept = if rule.target_name.is_empty() { "-".to_owned() } else { rule.target_name.clone() };
        vec![name(report, rule), hardware, target, swept, rule.tries.to_string(), rule.about.clone()]
    };
    Table {
        title: "Their settings",
        about: "Ours is not tuned; the others' hardware and targets are chosen in hindsight.".to_owned(),
        head: ["rule", "hardware", "target", "what the target is", "tries", "what it is"].map(str::to_owned).to_vec(),
        rows: all(report).map(row).collect(),
        marked: Some(0),
    }
}

/// Milliseconds of the rules that the pictures show.
fn latencies(report: &Report) -> Option<Table> {
    let ms = |seconds: Option<f64>| seconds.map_or("-".to_owned(), |s| grouped(1e3 * s, if s < 0.1 { 1 } else { 0 }));
    let mut rows = vec![];
    for (index, promise) in report.promises.iter().enumerate() {
        let shown = (0..report.series.len()).filter_map(|nth| report.figures_of(nth));
        for (rule, class) in shown.filter_map(|rule| Some((rule, rule.classes.get(index)?))) {
            let each: [(&str, Option<f64>, LatencyFigures); 2] =
                [("TTFT", promise.ttft_seconds, class.ttft), ("ITL", promise.itl_seconds, class.itl)];
            for (what, target, found) in each {
                rows.push(vec![
                    promise.class.clone(),
                    what.to_owned(),
                    rule.rule.clone(),
                    ms(found.p50),
                    ms(found.p95),
                    ms(found.p99),
                    ms(found.p999),
                    target.map_or("-".to_owned(), |t| format!("{} at {} %", ms(Some(t)), 100.0 * promise.quantile)),
                ]);
            }
        }
    }
    (!rows.is_empty()).then(|| Table {
        title: "Latency",
        about: "Milliseconds, of the requests that finished.".to_owned(),
        head: ["class", "what", "rule", "p50", "p95", "p99", "p99.9", "target"].map(str::to_owned).to_vec(),
        rows,
        marked: None,
    })
}
