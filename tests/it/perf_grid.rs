//! Replicas, shapes and loads on which the percentiles are checked, and the check itself.

use poolwright::perf::{Curve, Evidence, Experts, Limits, Parameters, Replica, Shape, Traffic};

use super::perf_stepper::{Length, Server, Stream, serve};

/// A replica and the requests it gets.
pub struct Case {
    pub name: &'static str,
    pub parameters: Parameters,
    pub limits: Limits,
    pub kv_tokens: u64,
    pub shape: Shape,
    /// Of prompts and answers.
    pub cv: f64,
    /// Requests that make a percentile steady: many where few places make rare long queues.
    pub requests: usize,
}

/// Quantiles that are compared.
pub const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// What was found at one load.
pub struct Found {
    pub rate: f64,
    /// (simulated, predicted) seconds by quantile.
    pub ttft: [(f64, f64); 3],
    pub itl: [(f64, f64); 3],
}

/// Relative error of a prediction.
pub fn error((simulated, predicted): (f64, f64)) -> f64 {
    predicted / simulated - 1.0
}

fn case(
    name: &'static str,
    parameters: Parameters,
    (input, output, cv): (f64, f64, f64),
    (seqs, budget, kv_tokens): (u32, u32, u64),
) -> Case {
    Case {
        name,
        parameters,
        limits: Limits { max_num_seqs: seqs, max_num_batched_tokens: budget },
        kv_tokens,
        shape: Shape { input_tokens: input, output_tokens: output },
        cv,
        requests: if seqs < 32 || kv_tokens < 100_000 { 200_000 } else { 40_000 },
    }
}

/// Short and long prompts and answers, equal and different lengths, small and large budgets, dense models and a
/// mixture of experts; the last ones with few places or little memory.
pub fn cases() -> Vec<Case> {
    let middle = Parameters::uniform(10.645e-3, 4.176e-5, 5.77e-8);
    let small = Parameters::uniform(6.49e-3, 2.19e-5, 4.96e-8);
    let split = Parameters { decode_seconds_per_token: 8e-5, ..middle };
    let experts = Experts { all_seconds: 12e-3, left_out: 0.9375 };
    let mixture = Parameters { experts, ..Parameters::uniform(5e-3, 2e-5, 3e-8) };
    let wide = (256, 8192, 400_000);
    vec![
        case("128/128", middle, (128.0, 128.0, 0.0), wide),
        case("871/567", middle, (871.0, 567.0, 0.0), (60, 8192, 400_000)),
        case("871/567 cv 1", middle, (871.0, 567.0, 1.0), (60, 8192, 400_000)),
        case("1024/32", middle, (1024.0, 32.0, 0.0), wide),
        case("1024/32 cv 1", middle, (1024.0, 32.0, 1.0), wide),
        case("256/1024", small, (256.0, 1024.0, 0.0), wide),
        case("256/1024 cv 0.6", small, (256.0, 1024.0, 0.6), wide),
        case("4096/64", small, (4096.0, 64.0, 0.0), wide),
        case("4096/64 cv 0.6", small, (4096.0, 64.0, 0.6), wide),
        case("4096/64 budget 2048", small, (4096.0, 64.0, 0.0), (256, 2048, 400_000)),
        case("12000/200 cv 0.5", small, (12_000.0, 200.0, 0.5), wide),
        case("1024/256 cv 1 decode 2x", split, (1024.0, 256.0, 1.0), (256, 2048, 400_000)),
        case("1024/256 experts", mixture, (1024.0, 256.0, 0.0), (128, 8192, 400_000)),
        case("1024/256 cv 0.7 experts", mixture, (1024.0, 256.0, 0.7), wide),
        case("512/256 8 places", middle, (512.0, 256.0, 0.0), (8, 8192, 400_000)),
        case("512/256 cv 1 8 places", middle, (512.0, 256.0, 1.0), (8, 8192, 400_000)),
        case("2000/200 cv 0.7 KV 64k", middle, (2000.0, 200.0, 0.7), (256, 8192, 64_000)),
        case("512/512 KV 64k", middle, (512.0, 512.0, 0.0), (256, 8192, 64_000)),
        case("4096/512 KV 64k", small, (4096.0, 512.0, 0.0), (256, 8192, 64_000)),
        case("4096/512 cv 0.5 KV 64k", small, (4096.0, 512.0, 0.5), (256, 8192, 64_000)),
    ]
}

/// Serve the case at a load (share of its full rate) and predict it.
pub fn compare(case: &Case, load: f64, burstiness: f64, requests: usize) -> Found {
    let traffic = Traffic { burstiness, input_cv: case.cv, output_cv: case.cv };
    let replica = Replica::new(case.parameters, case.limits, case.kv_tokens as f64, Evidence::Curve);
    let curve = Curve::new(&replica, &case.shape, &traffic).expect("every case fits its memory");
    let rate = load * curve.full_rate();
    let server = Server { parameters: case.parameters, limits: case.limits, kv_tokens: case.kv_tokens, hit_ratio: 0.0 };
    let stream = Stream {
        rate,
        burstiness,
        input: Length { mean: case.shape.input_tokens, cv: case.cv },
        output: Length { mean: case.shape.output_tokens, cv: case.cv },
        requests,
        seed: 7,
    };
    let served = serve(&server, &stream);
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    let ttft = sorted(served.iter().map(|s| s.ttft).collect());
    let itl = sorted(served.iter().filter_map(|s| s.itl).collect());
    let at = |values: &[f64], q: f64| values[((values.len() - 1) as f64 * q).round() as usize];
    let predicted = QUANTILES.map(|q| curve.latencies(rate, q).expect("the load is below 1"));
    let pairs = |values: &[f64], predicted: [f64; 3]| std::array::from_fn(|i| (at(values, QUANTILES[i]), predicted[i]));
    Found {
        rate,
        ttft: pairs(&ttft, predicted.map(|p| p.ttft_seconds)),
        itl: pairs(&itl, predicted.map(|p| p.itl_seconds)),
    }
}
