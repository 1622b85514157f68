//! The tables of `poolwright accuracy`.

use std::fmt::Write as _;

use comfy_table::{Attribute, Cell, CellAlignment, Table, presets};

use crate::perf::accuracy::{Errors, Kind, Report, Score};

/// All that a person wants to see.
pub fn tables(report: &Report, calibrate: Option<u32>) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} rows, {} modelled; errors are |predicted - measured| / measured; `in 90 %` is the share of measured values \
         inside the stated interval\n",
        report.rows, report.modelled
    );
    for mode in ["aggregated", "disaggregated"] {
        let of = |scores: &[Score]| scores.iter().filter(|s| s.mode == mode).cloned().collect::<Vec<_>>();
        let (groups, totals) = (of(&report.groups), of(&report.totals));
        if !totals.is_empty() {
            let _ = writeln!(text, "{mode}\n{}\n", table(&groups, &totals, calibrate));
        }
    }
    let _ = writeln!(text, "aggregated rows by predicted use of the KV cache");
    for band in &report.kv {
        let share = 100.0 * band.queue_dominated as f64 / band.rows.max(1) as f64;
        let to = if band.to.is_finite() { format!("below {:.1}", band.to) } else { "and more".to_owned() };
        let _ = writeln!(
            text,
            "  {:.1} {to}: {} rows, {} queue-dominated ({share:.1} %)",
            band.from, band.rows, band.queue_dominated
        );
    }
    let _ = writeln!(
        text,
        "\n{} aggregated rows are faster than the data sheet allows (prefix cache, speculative decoding, or fewer \
         requests at once than the row says); they are scored like all",
        report.faster_than_possible
    );
    if !report.unmodelled.is_empty() {
        let _ = writeln!(text, "\nnot modelled");
        for entry in &report.unmodelled {
            let _ = writeln!(text, "  {} rows, first in line {}: {}", entry.rows, entry.first_line, entry.reason);
        }
    }
    text
}

fn table(groups: &[Score], totals: &[Score], calibrate: Option<u32>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    let mut header: Vec<String> =
        ["group", "kind", "rows", "TPOT mean", "median", "p90", "in 90 %"].map(str::to_owned).into();
    header.extend(["TTFT rows", "mean", "median", "p90", "in 90 %"].map(str::to_owned));
    if let Some(count) = calibrate {
        header.push(format!("{count} points: TPOT mean"));
        header.extend(["median", "in 90 %", "TTFT mean", "median", "in 90 %"].map(str::to_owned));
    }
    let columns = header.len();
    table.set_header(header.into_iter().map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
    for score in groups {
        table.add_row(row(score, calibrate.is_some()));
    }
    for score in totals {
        let bold = row(score, calibrate.is_some()).into_iter().map(|c| Cell::new(c).add_attribute(Attribute::Bold));
        table.add_row(bold);
        let mut means = vec![String::new(); columns];
        means[0] = "all, each group once".to_owned();
        means[1] = kind(score.kind).to_owned();
        means[3] = percent(score.tpot.group_mean);
        means[8] = percent(score.ttft.group_mean);
        if let (Some(tpot), Some(ttft), true) = (score.calibrated_tpot, score.calibrated_ttft, columns > 12) {
            means[12] = percent(tpot.group_mean);
            means[15] = percent(ttft.group_mean);
        }
        table.add_row(means);
    }
    for column in 2..columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Dense => "dense",
        Kind::Mixture => "MoE",
    }
}

fn row(score: &Score, calibrated: bool) -> Vec<String> {
    let mut cells = vec![score.name.clone(), kind(score.kind).to_owned(), score.tpot.rows.to_string()];
    cells.extend(latency(&score.tpot, true));
    cells.push(score.ttft.rows.to_string());
    cells.extend(latency(&score.ttft, true));
    if calibrated {
        for errors in [score.calibrated_tpot, score.calibrated_ttft] {
            match errors {
                Some(errors) => cells.extend(latency(&errors, false)),
                None => cells.extend(["", "", ""].map(str::to_owned)),
            }
        }
    }
    cells
}

fn latency(errors: &Errors, with_p90: bool) -> Vec<String> {
    if errors.rows == 0 {
        return vec![String::new(); if with_p90 { 4 } else { 3 }];
    }
    let mut cells = vec![percent(errors.mean), percent(errors.median)];
    if with_p90 {
        cells.push(percent(errors.p90));
    }
    cells.push(format!("{:.0} %", 100.0 * errors.covered));
    cells
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
