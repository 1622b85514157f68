//! `vllm bench serve --save-result` (one object, or one per line with `--append-result`).

use super::super::super::Shape;
use super::super::point::{Load, Point};
use super::json::At;
use super::{Measurements, ReadError};

/// Any of these says that it is such a file.
pub const KEYS: [&str; 3] = ["mean_ttft_ms", "request_throughput", "endpoint_type"];

const HINT: &str = "write the file with `vllm bench serve --save-result`";
/// Share of failed requests beyond which the rest says little.
const MOST_FAILED: f64 = 0.05;

pub fn read(at: &At) -> Result<Measurements, ReadError> {
    let completed = at.get("completed", HINT)?;
    let count = completed.number()?;
    if count < 1.0 {
        return Err(completed.refuse("no request was completed", "look at the server's log and measure again"));
    }
    if let Some(failed) = at.maybe("failed")
        && failed.number()? > MOST_FAILED * count
    {
        let message = format!("{} requests failed beside {count} completed ones", failed.shown());
        return Err(failed.refuse(&message, "find out why and measure again"));
    }
    let per_request = |key: &str| Ok::<_, ReadError>(at.get(key, HINT)?.positive()? / count);
    let shape =
        Shape { input_tokens: per_request("total_input_tokens")?, output_tokens: per_request("total_output_tokens")? };
    let mut point = Point::new(at.origin(), load(at, count)?, shape);
    point.ttft = at.latency_ms("mean_ttft_ms", "median_ttft_ms", "p95_ttft_ms", "p99_ttft_ms")?;
    // Of two means the one over requests: `itl` counts every gap alike.
    point.itl = at.latency_ms("mean_tpot_ms", "median_tpot_ms", "p95_tpot_ms", "p99_tpot_ms")?;
    if point.itl.is_none() {
        point.itl = at.latency_ms("mean_itl_ms", "median_itl_ms", "p95_itl_ms", "p99_itl_ms")?;
    }
    if point.ttft.is_none() && point.itl.is_none() {
        return Err(at.refuse("neither `mean_ttft_ms` nor `mean_tpot_ms` is there", HINT));
    }
    point.input_spread = spread(at, "input_lens")?;
    point.output_spread = spread(at, "output_lens")?;
    point.duration_seconds = at.maybe_number("duration")?;
    point.completed = Some(count as u64);
    Ok(Measurements {
        format: "vllm bench serve",
        points: vec![point],
        model: at.maybe("model_id").and_then(|m| m.text()),
        engine: Some("vllm".to_owned()),
        ..Measurements::default()
    })
}

fn load(at: &At, completed: f64) -> Result<Load, ReadError> {
    let rate = match at.maybe("request_rate") {
        Some(rate) if rate.value.as_str() == Some("inf") => None,
        Some(rate) => Some(rate.positive().map_err(|e| ReadError { hint: "a rate, or \"inf\"".to_owned(), ..e })?),
        None => None,
    };
    let burstiness = at.maybe_number("burstiness")?.filter(|b| *b > 0.0).unwrap_or(1.0);
    if let Some(rate) = rate {
        return Ok(Load::Open { rate, burstiness });
    }
    let concurrency = match at.maybe("max_concurrency") {
        Some(most) => most.positive()?.min(completed),
        // Without either everything was sent at once.
        None => completed,
    };
    Ok(Load::Closed { concurrency: concurrency as u32 })
}

/// Coefficient of variation of a list of lengths, 0 without it.
fn spread(at: &At, key: &str) -> Result<f64, ReadError> {
    let Some(list) = at.maybe(key) else { return Ok(0.0) };
    let values = list.list()?.iter().map(At::number).collect::<Result<Vec<f64>, _>>()?;
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    Ok(if mean > 0.0 { variance.sqrt() / mean } else { 0.0 })
}
