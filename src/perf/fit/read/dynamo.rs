//! The sweeps of Dynamo's profiler, as JSON or as NPZ turned into JSON: prompt length against TTFT on an otherwise
//! empty engine, and KV use and context length against ITL while nothing is prefilled.

use super::super::super::Shape;
use super::super::point::{Load, Point};
use super::json::At;
use super::{Measurements, ReadError};

/// Any of these says that it is such a file.
pub const KEYS: [&str; 4] = ["prefill_isl", "x_kv_usage", "prefill_raw_data.json", "decode_raw_data.json"];

const HINT: &str = "the profiler writes prefill_raw_data.json and decode_raw_data.json with lists of equal length";
/// How far the accelerators of the two engines may be apart before they count as different.
const SAME: f64 = 1.3;

pub fn read(at: &At) -> Result<Measurements, ReadError> {
    let mut found = Measurements { format: "Dynamo profiler", ..Measurements::default() };
    let parts = [at.maybe("prefill_raw_data.json"), at.maybe("decode_raw_data.json"), Some(at.clone())];
    let (mut prefill_engine, mut decode_engine) = (None, None);
    for part in parts.iter().flatten() {
        if part.maybe("prefill_isl").is_some() {
            prefill_engine = prefill(part, &mut found)?;
        }
        if part.maybe("x_kv_usage").is_some() {
            decode_engine = decode(part, &mut found)?;
        }
    }
    if let (Some(p), Some(d)) = (prefill_engine, decode_engine)
        && (p > SAME * d || d > SAME * p)
    {
        found.notes.push(format!(
            "{}: the prefill engine has {p:.0} accelerators and the decode engine {d:.0}: they are two servers",
            at.file
        ));
    }
    if found.points.is_empty() {
        return Err(at.refuse("it holds no point", HINT));
    }
    Ok(found)
}

/// Adds the points; returns the accelerators of the engine that the throughput speaks of.
fn prefill(at: &At, found: &mut Measurements) -> Result<Option<f64>, ReadError> {
    let [isl, ttft, throughput] = columns(at, ["prefill_isl", "prefill_ttft"], "prefill_thpt_per_gpu")?;
    let mut engine = None;
    for (i, (isl, ttft)) in isl.iter().zip(&ttft).enumerate() {
        let (input, ms) = (isl.positive()?, ttft.positive()?);
        if let Some(per_gpu) = throughput.get(i) {
            engine = engine.or(Some(input / (ms / 1e3) / per_gpu.positive()?));
        }
        let shape = Shape { input_tokens: input, output_tokens: 1.0 };
        let point = Point::new(isl.origin(), Load::Closed { concurrency: 1 }, shape);
        found.points.push(point.with(Some(ms / 1e3), None));
    }
    Ok(engine)
}

fn decode(at: &At, found: &mut Measurements) -> Result<Option<f64>, ReadError> {
    let [usage, itl, throughput] = columns(at, ["x_kv_usage", "z_itl"], "z_thpt_per_gpu")?;
    let context = at.get("y_context_length", HINT)?.list()?;
    if context.len() != usage.len() {
        let message = format!("`y_context_length` has {} values, `x_kv_usage` {}", context.len(), usage.len());
        return Err(at.refuse(&message, HINT));
    }
    let capacity = at.get("max_kv_tokens", "the capacity of the decode engine, in tokens")?;
    let capacity = match capacity.value.as_array() {
        Some(_) => capacity.list()?.first().map_or(Err(capacity.refuse("is empty", "one number")), At::positive)?,
        None => capacity.positive()?,
    };
    found.kv_tokens = Some(capacity);
    let mut engine = None;
    for (i, usage) in usage.iter().enumerate() {
        let share = usage.positive()?;
        if share > 1.0 {
            return Err(usage.refuse(&format!("{share} is no share of the KV memory"), "a number from 0 to 1"));
        }
        let (context, ms) = (context[i].positive()?, itl[i].positive()?);
        let batch = (share * capacity / context).max(1.0);
        if let Some(per_gpu) = throughput.get(i) {
            engine = engine.or(Some(batch / (ms / 1e3) / per_gpu.positive()?));
        }
        let shape = Shape { input_tokens: context, output_tokens: 2.0 };
        found.points.push(Point::new(usage.origin(), Load::Decode { batch }, shape).with(None, Some(ms / 1e3)));
    }
    Ok(engine)
}

/// Two lists that must be there and be equally long, and one that may be.
fn columns<'v>(at: &At<'v>, needed: [&str; 2], optional: &str) -> Result<[Vec<At<'v>>; 3], ReadError> {
    let [a, b] = [at.get(needed[0], HINT)?.list()?, at.get(needed[1], HINT)?.list()?];
    if a.len() != b.len() {
        let message = format!("`{}` has {} values, `{}` {}", needed[0], a.len(), needed[1], b.len());
        return Err(at.refuse(&message, HINT));
    }
    let c = at.maybe(optional).map(|o| o.list()).transpose()?.unwrap_or_default();
    Ok([a, b, c])
}
