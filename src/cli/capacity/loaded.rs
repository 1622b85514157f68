//! `poolwright capacity --rate`: what requests see at given rates.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::print::{duration, significant};
use super::subject::Subject;
use crate::perf::{Curve, Shape, Traffic};

/// One line of the answer. Latencies are absent when the replica cannot keep up or a request does not fit.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    replica: String,
    input_tokens: f64,
    output_tokens: f64,
    /// Sent to one replica.
    requests_per_second: f64,
    /// Highest rate that one replica can work off, nothing kept in reserve.
    full_requests_per_second: f64,
    percentile: f64,
    ttft: Option<Seen>,
    itl: Option<Seen>,
    /// Mean requests in execution.
    batch: Option<f64>,
    /// Mean share of the KV memory in use.
    kv_use: Option<f64>,
    evidence: &'static str,
}

/// One latency over the requests, seconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    mean_seconds: f64,
    p50_seconds: f64,
    p95_seconds: f64,
    /// At the percentile asked for.
    at_percentile_seconds: f64,
}

pub(super) fn rows(subject: &Subject, shape: &Shape, traffic: &Traffic, rates: &[f64], percentile: f64) -> Vec<Row> {
    let curve = subject.takes(shape).then(|| Curve::new(&subject.at(shape), shape, traffic)).flatten();
    let row = |rate: &f64| {
        let moments = curve.as_ref().and_then(|c| c.moments(*rate));
        let at = |quantile: f64| curve.as_ref().and_then(|c| c.latencies(*rate, quantile));
        let seen = moments.zip(at(0.5)).zip(at(0.95)).zip(at(percentile / 100.0));
        let (ttft, itl) = seen.map_or((None, None), |(((moments, p50), p95), asked)| {
            let seen = |mean_seconds: f64, [p50_seconds, p95_seconds, at_percentile_seconds]: [f64; 3]| Seen {
                mean_seconds,
                p50_seconds,
                p95_seconds,
                at_percentile_seconds,
            };
            let ttft = seen(moments.ttft_mean_seconds(), [p50, p95, asked].map(|q| q.ttft_seconds));
            let itl = seen(moments.itl.mean, [p50, p95, asked].map(|q| q.itl_seconds));
            (Some(ttft), (shape.output_tokens > 1.0).then_some(itl))
        });
        Row {
            replica: subject.name.clone(),
            input_tokens: shape.input_tokens,
            output_tokens: shape.output_tokens,
            requests_per_second: *rate,
            full_requests_per_second: curve.as_ref().map_or(0.0, Curve::full_rate),
            percentile,
            ttft,
            itl,
            batch: moments.map(|m| m.batch),
            kv_use: curve.as_ref().and_then(|c| c.kv_use(*rate)),
            evidence: subject.replica.evidence.as_str(),
        }
    };
    rates.iter().map(row).collect()
}

/// The table for people; latencies as mean / p50 / p95, and the percentile asked for where it is another one.
pub(super) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    let percentile = rows.first().map_or(95.0, |r| r.percentile);
    let other = (percentile != 50.0 && percentile != 95.0).then_some(percentile);
    let head = other.map_or_else(|| "mean / p50 / p95".to_owned(), |p| format!("mean / p50 / p95 / p{p}"));
    let titles = ["replica", "in/out", "req/s", "load", &format!("TTFT {head}"), &format!("ITL {head}"), "batch", "KV"];
    table.set_header(titles);
    for row in rows {
        let full = row.full_requests_per_second;
        let none = || "-".to_owned();
        let latency = |seen: Option<Seen>| {
            let Some(seen) = seen else { return none() };
            let mut parts = vec![seen.mean_seconds, seen.p50_seconds, seen.p95_seconds];
            parts.extend(other.map(|_| seen.at_percentile_seconds));
            parts.into_iter().map(duration).collect::<Vec<_>>().join(" / ")
        };
        table.add_row([
            row.replica.clone(),
            format!("{}/{}", row.input_tokens, row.output_tokens),
            significant(row.requests_per_second),
            if full > 0.0 { format!("{:.0}%", 100.0 * row.requests_per_second / full) } else { none() },
            if row.ttft.is_none() { "cannot keep up".to_owned() } else { latency(row.ttft) },
            latency(row.itl),
            row.batch.map_or_else(none, |b| format!("{b:.1}")),
            row.kv_use.map_or_else(none, |share| format!("{:.0}%", share * 100.0)),
        ]);
    }
    for column in 2..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n")
}
