//! The JSON report of guidellm: one point per entry of `benchmarks`. The strategy stands under `config` since 0.4,
//! under `args` before; distributions stand under `metrics`, by the fate of the requests.

use super::super::super::Shape;
use super::super::point::{Latency, Load, Point};
use super::json::At;
use super::{Measurements, ReadError};

const HINT: &str = "write the report with `guidellm benchmark --output-path report.json`";
/// Burstiness that stands for evenly spaced arrivals.
const EVEN: f64 = 1000.0;

pub fn read(at: &At) -> Result<Measurements, ReadError> {
    let mut found = Measurements { format: "guidellm", ..Measurements::default() };
    for benchmark in at.get("benchmarks", HINT)?.list()? {
        let strategy = ["config", "args"].iter().find_map(|k| benchmark.maybe(k)?.maybe("strategy"));
        let strategy =
            strategy.ok_or_else(|| benchmark.refuse("there is no `config.strategy` (or `args.strategy`)", HINT))?;
        let Some(load) = load(&strategy)? else {
            found.notes.push(format!("{}: throughput without a concurrency is left out", benchmark.origin()));
            continue;
        };
        found.points.push(point(&benchmark, load)?);
    }
    if found.points.is_empty() {
        return Err(at.refuse("no benchmark has a concurrency or a rate", "run guidellm with `--rate-type concurrent`"));
    }
    Ok(found)
}

fn load(strategy: &At) -> Result<Option<Load>, ReadError> {
    let kind = strategy.get("type_", HINT)?;
    let streams = || match strategy.maybe("streams").or_else(|| strategy.maybe("max_concurrency")) {
        Some(n) => n.positive().map(|n| Some(Load::Closed { concurrency: n as u32 })),
        None => Ok(None),
    };
    let open = |burstiness| {
        let rate = strategy.get("rate", "a rate in requests per second")?.positive()?;
        Ok(Some(Load::Open { rate, burstiness }))
    };
    match kind.value.as_str().unwrap_or_default() {
        "synchronous" => Ok(Some(Load::Closed { concurrency: 1 })),
        "concurrent" => match streams()? {
            Some(load) => Ok(Some(load)),
            None => Err(strategy.refuse("`streams` is missing", HINT)),
        },
        "throughput" => streams(),
        "constant" => open(EVEN),
        "poisson" | "async" => open(1.0),
        _ => Err(kind.refuse(
            &format!("{} is no strategy that is known", kind.shown()),
            "synchronous, concurrent, throughput, constant or poisson",
        )),
    }
}

fn point(benchmark: &At, load: Load) -> Result<Point, ReadError> {
    let metrics = benchmark.get("metrics", HINT)?;
    let of = |key: &str| metrics.get(key, HINT)?.get("successful", HINT);
    let (input, output) = (of("prompt_token_count")?, of("output_token_count")?);
    let shape = Shape {
        input_tokens: input.get("mean", HINT)?.positive()?,
        output_tokens: output.get("mean", HINT)?.positive()?,
    };
    let ttft = of("time_to_first_token_ms")?;
    let mut point = Point::new(benchmark.origin(), load, shape);
    point.ttft = latency(&ttft)?;
    point.itl = match metrics.maybe("inter_token_latency_ms").and_then(|m| m.maybe("successful")) {
        Some(itl) if shape.output_tokens > 1.0 => latency(&itl)?,
        _ => None,
    };
    if point.ttft.is_none() {
        return Err(ttft.refuse("no request was successful", "look at the server's log and measure again"));
    }
    point.input_spread = input.maybe_number("std_dev")?.unwrap_or(0.0) / shape.input_tokens;
    point.output_spread = output.maybe_number("std_dev")?.unwrap_or(0.0) / shape.output_tokens;
    point.completed = ttft.maybe_number("count")?.map(|n| n as u64).filter(|n| *n > 0);
    point.duration_seconds = benchmark.maybe_number("duration")?;
    Ok(point)
}

/// A distribution in milliseconds; `None` when it is of no request.
fn latency(at: &At) -> Result<Option<Latency>, ReadError> {
    let mean = at.get("mean", HINT)?.number()?;
    if mean <= 0.0 {
        return Ok(None);
    }
    let percentiles = at.maybe("percentiles");
    let of = |key: &str| -> Result<Option<f64>, ReadError> {
        let value = percentiles.as_ref().map(|p| p.maybe_number(key)).transpose()?.flatten();
        Ok(value.map(|ms| ms / 1e3))
    };
    Ok(Some(Latency {
        mean_seconds: mean / 1e3,
        p50_seconds: of("p50")?,
        p95_seconds: of("p95")?,
        p99_seconds: of("p99")?,
    }))
}
