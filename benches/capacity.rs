//! Capacities of a large fleet from scratch and remembered: 1,000 pools that all differ, 20 cells of different
//! lengths, 3 latency tiers. `cargo bench --bench capacity` prints the times of one core.

use std::time::Instant;

use poolwright::perf::{
    Capacity, CapacityCache, Evidence, Limits, Parameters, Replica, Shape, Target, Traffic, capacity,
};

const POOLS: usize = 1000;
const CELLS: usize = 20;
const RUNS: usize = 7;

fn replica(pool: usize) -> Replica {
    let part = pool as f64 / POOLS as f64;
    let parameters = Parameters::uniform(5e-3 + 20e-3 * part, 1.5e-5 + 6e-5 * (1.0 - part), 2e-8 + 1e-7 * part);
    let limits = Limits { max_num_seqs: if pool.is_multiple_of(3) { 128 } else { 256 }, ..Limits::default() };
    Replica::new(parameters, limits, 150_000.0 + 800.0 * pool as f64, Evidence::Curve)
}

fn shape(cell: usize) -> Shape {
    Shape {
        input_tokens: [128.0, 512.0, 1024.0, 2500.0, 6000.0][cell % 5],
        output_tokens: [40.0, 150.0, 300.0, 700.0][cell / 5],
    }
}

const TIERS: [Target; 3] = [
    Target { quantile: 0.99, ttft_seconds: 1.0, itl_seconds: 0.05 },
    Target { quantile: 0.95, ttft_seconds: 3.0, itl_seconds: 0.1 },
    Target { quantile: 0.9, ttft_seconds: 10.0, itl_seconds: 0.3 },
];

/// Capacities of all pools; the time of each is noted when it is the shortest so far.
fn all(cache: &mut CapacityCache, fastest: &mut [f64]) -> f64 {
    let traffic = Traffic::default();
    let mut found = [Capacity { rate: 0.0, ..capacity(&replica(0), &shape(0), &traffic, &TIERS[0]) }; 3];
    let mut sum = 0.0;
    for (pool, fastest) in fastest.iter_mut().enumerate() {
        let started = Instant::now();
        let replica = replica(pool);
        for cell in 0..CELLS {
            cache.capacities(&replica, &shape(cell), &traffic, &TIERS, &mut found);
            sum += found.iter().map(|c| c.rate).sum::<f64>();
        }
        *fastest = fastest.min(started.elapsed().as_secs_f64());
    }
    sum
}

fn main() {
    let (mut cold, mut warm) = (vec![f64::INFINITY; POOLS], vec![f64::INFINITY; POOLS]);
    let (mut run, mut sum) = (f64::INFINITY, 0.0);
    for _ in 0..RUNS {
        let mut cache = CapacityCache::default();
        let started = Instant::now();
        sum = all(&mut cache, &mut cold);
        run = run.min(started.elapsed().as_secs_f64());
        assert_eq!(std::hint::black_box(all(&mut cache, &mut warm)), sum);
    }
    let count = POOLS * CELLS * TIERS.len();
    let total = |times: &[f64]| times.iter().sum::<f64>() * 1e3;
    println!("{count} capacities (mean {:.3} req/s) on one core, {RUNS} runs", sum / count as f64);
    println!("  from scratch   {:7.1} ms, each pool at its fastest; {:.1} ms the fastest run", total(&cold), run * 1e3);
    println!("  unchanged      {:7.1} ms, each pool at its fastest", total(&warm));
}
