//! The table for people.

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};

use super::Row;
use crate::perf::Limit;

pub(super) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(
        ["replica", "in/out", "class", "req/s", "TTFT", "ITL", "batch", "KV", "what binds"]
            .map(|h| Cell::new(h).add_attribute(Attribute::Bold)),
    );
    for row in rows {
        table.add_row(cells(row));
    }
    for column in 3..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format!("{table}\n");
    let mut known: Vec<(&str, &str, f64)> = rows.iter().map(|r| (r.replica.as_str(), r.evidence, r.error)).collect();
    known.dedup();
    for (replica, evidence, error) in known {
        text +=
            &format!("{replica}: {evidence}; {:.0} % of the rate is kept back for the model's error\n", error * 100.0);
    }
    text
}

fn cells(row: &Row) -> Vec<String> {
    let rate = row.requests_per_second;
    vec![
        row.replica.clone(),
        format!("{}/{}", row.input_tokens, row.output_tokens),
        row.class.clone(),
        if rate > 0.0 { significant(rate) } else { "-".to_owned() },
        latency(row.ttft_seconds, row.ttft_target_seconds),
        latency(row.itl_seconds, row.itl_target_seconds),
        if rate > 0.0 { format!("{:.1}", row.batch) } else { "-".to_owned() },
        row.kv_use.map_or_else(|| "-".to_owned(), |share| format!("{:.0}%", share * 100.0)),
        words(row),
    ]
}

/// Three digits.
pub(super) fn significant(value: f64) -> String {
    let digits = (2.0 - value.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

/// `84/500ms`: at the rate against the target.
fn latency(seconds: Option<f64>, target: Option<f64>) -> String {
    let found = seconds.map_or_else(|| "-".to_owned(), duration);
    target.map_or_else(|| found.clone(), |target| format!("{found}/{}", duration(target)))
}

/// Seconds or milliseconds, three digits.
pub(super) fn duration(seconds: f64) -> String {
    if seconds >= 0.9995 {
        format!("{seconds:.1}s")
    } else if seconds >= 0.0995 {
        format!("{:.0}ms", seconds * 1e3)
    } else {
        format!("{:.1}ms", seconds * 1e3)
    }
}

fn words(row: &Row) -> String {
    let percentile = row.percentile;
    match row.limit {
        Limit::Ttft => format!("TTFT p{percentile}"),
        Limit::Itl => format!("ITL p{percentile}"),
        Limit::KvMemory => "waiting for KV memory".to_owned(),
        Limit::MaxSequences => "waiting for one of max-num-seqs".to_owned(),
        Limit::Throughput => "throughput".to_owned(),
        Limit::Infeasible if row.ttft_seconds.is_none() => "a request does not fit the KV memory".to_owned(),
        Limit::Infeasible => "out of reach; shown is an empty replica".to_owned(),
    }
}
