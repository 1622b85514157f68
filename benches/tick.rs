//! One tick of a 200-pool fleet without the network, room by room. `make bench-tick` prints the table.
//!
//! 50 models with 4 pools each on 4 accelerator types, one vLLM page per replica in the dialect of a real
//! server. Every tick the load moves a little, as it does in life.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use poolwright::control::{State, decide, problem_of};
use poolwright::observe::exposition::parse;
use poolwright::observe::{Histogram, Observation, PoolObservation, RatePoint, Signal};
use poolwright::plan::{Effort, solve};
use poolwright::policy::{Policy, from_text};

const MODELS: usize = 50;
const TICKS: usize = 41;

fn policy() -> Policy {
    let mut text = String::from(
        "apiVersion: poolwright.dev/v1alpha1\nkind: Fleet\nmetadata: {name: bench}\nspec:\n  accelerators:\n",
    );
    for (name, price) in [("H100", 3.0), ("A100-80GB", 1.6), ("L40S", 0.9), ("H200", 3.8)] {
        let _ = writeln!(text, "    - {{name: {name}, pricePerHour: {price}, stock: 600}}");
    }
    text += "  classes:\n    - {name: interactive, priority: 100, percentile: 99, ttft: 2s, itl: 80ms}\n";
    text += "    - {name: batch, priority: 0, deadline: 10m}\n";
    for model in 0..MODELS {
        let _ = write!(
            text,
            "---\napiVersion: poolwright.dev/v1alpha1\nkind: ServedModel\nmetadata: {{name: m{model}, namespace: bench}}\n\
             spec:\n  model: org/model-{model}\n  architecture: llama-3.1-8b\n\
             \x20 classes: [{{name: interactive, share: 0.8}}, {{name: batch}}]\n  pools:\n"
        );
        for name in ["H100", "A100-80GB", "L40S", "H200"] {
            let pool = name.to_lowercase();
            let _ = writeln!(text, "    - {{name: m{model}-{pool}, accelerator: {name}, mode: act}}");
        }
    }
    from_text("bench.yaml", &text).expect("the policy of the benchmark is valid")
}

fn histogram(bounds: &[f64], shares: &[f64], mean: f64, count: f64) -> Histogram {
    Histogram {
        upper: bounds.to_vec(),
        cumulative: shares.iter().map(|s| s * count).collect(),
        sum: mean * count,
        count,
    }
}

fn observation(policy: &Policy, tick: usize) -> Observation {
    let at = 1_700_000_000.0 + 15.0 * tick as f64;
    let pools = policy
        .pools
        .iter()
        .enumerate()
        .map(|(i, pool)| {
            let rate = 4.0 + (i % 17) as f64 * 0.7 + ((tick * 7 + i * 3) % 11) as f64 * 0.2;
            let count = rate * 60.0;
            let lengths = |mean: f64| {
                histogram(
                    &[100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, f64::MAX],
                    &[0.1, 0.2, 0.45, 0.7, 0.9, 0.99, 1.0],
                    mean,
                    count,
                )
            };
            let latencies = |scale: f64| {
                let bounds: Vec<f64> = (1..=22).map(|k| scale * f64::from(k)).chain([f64::MAX]).collect();
                let shares: Vec<f64> = (1..=23).map(|k| (f64::from(k) / 22.0).min(1.0)).collect();
                histogram(&bounds, &shares, scale * 11.0, count)
            };
            PoolObservation {
                pool: pool.id(),
                ready: Signal::fresh(2, at),
                starting: Signal::fresh(0, at),
                silent: 0,
                arrival_rate: Signal::fresh(rate, at),
                completion_rate: Signal::fresh(rate, at),
                running: Signal::fresh(rate * 4.0, at),
                waiting: Signal::fresh(0.0, at),
                kv_usage: Signal::fresh(0.3, at),
                kv_capacity_tokens: Signal::fresh(400_000.0, at),
                prefix_hit_ratio: Signal::fresh(0.1, at),
                ttft: Signal::fresh(latencies(0.05), at),
                itl: Signal::fresh(latencies(0.004), at),
                input_tokens: Signal::fresh(lengths(900.0 + (tick % 5) as f64), at),
                output_tokens: Signal::fresh(lengths(210.0), at),
                cluster: None,
            }
        })
        .collect();
    Observation { at_seconds: at, source_error: None, pools, findings: vec![] }
}

/// A page of a real server's shape, for the reading part.
const PAGE: &str = include_str!("../tests/fixtures/engine-metrics/vllm-0.32.0-after-load.prom");
const REPLICAS: usize = 400;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A day of minutes for every model, so that the forecasts have everything to do that they ever have.
fn day(policy: &Policy, end: f64) -> BTreeMap<String, Vec<RatePoint>> {
    let rate = |minute: usize| 20.0 + 8.0 * (minute as f64 / 229.0).sin() + ((minute * 7919) % 13) as f64 * 0.3;
    let points = |_| -> Vec<RatePoint> {
        (0..1440).map(|m| RatePoint { at_seconds: end - 60.0 * (1440 - m) as f64, rate: rate(m) }).collect()
    };
    policy.models.iter().map(|m| (m.id(), points(m))).collect()
}

fn timed<T>(runs: usize, mut run: impl FnMut() -> T) -> f64 {
    median(
        (0..runs)
            .map(|_| {
                let started = Instant::now();
                std::hint::black_box(run());
                started.elapsed().as_secs_f64() * 1e3
            })
            .collect(),
    )
}

fn line(what: &str, milliseconds: f64) {
    println!("  {what:<58} {milliseconds:>8.2}");
}

fn main() {
    let policy = policy();
    println!(
        "one tick, {} pools of {MODELS} models, no network; one core, medians in milliseconds",
        policy.pools.len()
    );

    let read = timed(5, || (0..REPLICAS).map(|_| parse(PAGE).samples.len()).sum::<usize>());
    line(&format!("observe: read {REPLICAS} pages of a real server (2 a pool)"), read);

    let start = observation(&policy, 0).at_seconds;
    let mut state = State::default();
    state.fill_back(day(&policy, start));
    let mut times = vec![];
    let mut last = observation(&policy, 0);
    for tick in 0..TICKS {
        last = observation(&policy, tick);
        let started = Instant::now();
        let (decision, next) = decide(&policy, &last, state, last.at_seconds);
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        assert!(decision.pools.iter().all(|p| p.desired.is_some()));
        state = next;
        if tick == 0 {
            line("decide: first tick, no capacity known", milliseconds);
        } else {
            times.push(milliseconds);
        }
    }
    let mut memory = state.models.values().next().expect("there are models").rates.clone();
    let demand = timed(9, || (0..MODELS).filter_map(|_| memory.peak(270.0, 0.95)).count());
    line("demand: forecasts of all models from a full day", demand);

    let problem = problem_of(&policy, &last, state.clone(), last.at_seconds);
    let fresh = problem_of(&policy, &last, state.checkpoint(), last.at_seconds);
    assert_eq!(problem, fresh, "what is remembered changes nothing");
    let cold = timed(5, || problem_of(&policy, &last, state.checkpoint(), last.at_seconds));
    let warm = timed(5, || problem_of(&policy, &last, state.clone(), last.at_seconds));
    line("perf: all capacities anew", (cold - warm).max(0.0));
    let cells = format!("plan: solve ({} cells, {} ways to serve them)", problem.cells.len(), problem.serves.len());
    line(&cells, timed(5, || solve(&problem, &Effort::default())));
    let whole = median(times.clone());
    line(&format!("decide: the whole, {} ticks", times.len()), whole);
    line("decide: the slowest of them", times.iter().copied().fold(0.0, f64::max));
    line("tick: observe + decide", read + whole);
    println!("  {} capacities computed, {} remembered", state.capacities.misses, state.capacities.hits);
    println!("compared with the limit set for a tick without the network: 250 ms");
}
