//! Capacities of a large fleet from scratch and remembered: 1,000 pools that all differ, 20 cells of different
//! lengths, 3 latency tiers. `cargo bench --bench capacity` prints the times of one core.

use std::time::Instant;

use poolwright::perf::{Capacity, CapacityCache, Evidence, Limits, Parameters, Replica, Shape, Target, Traffic};

const POOLS: usize = 1000;
const CELLS: usize = 20;
const RUNS: usize = 5;

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

fn all(cache: &mut CapacityCache) -> f64 {
    let traffic = Traffic::default();
    let mut found = [Capacity { rate: 0.0, ..cache.capacity(&replica(0), &shape(0), &traffic, &TIERS[0]) }; 3];
    let mut sum = 0.0;
    for pool in 0..POOLS {
        let replica = replica(pool);
        for cell in 0..CELLS {
            cache.capacities(&replica, &shape(cell), &traffic, &TIERS, &mut found);
            sum += found.iter().map(|c| c.rate).sum::<f64>();
        }
    }
    sum
}

fn main() {
    let (mut cold, mut warm, mut sum) = (f64::INFINITY, f64::INFINITY, 0.0);
    for _ in 0..RUNS {
        let mut cache = CapacityCache::default();
        let started = Instant::now();
        sum = all(&mut cache);
        cold = cold.min(started.elapsed().as_secs_f64());
        let started = Instant::now();
        assert_eq!(std::hint::black_box(all(&mut cache)), sum);
        warm = warm.min(started.elapsed().as_secs_f64());
    }
    let count = POOLS * CELLS * TIERS.len();
    println!("{count} capacities (mean {:.3} req/s), one core, best of {RUNS}", sum / count as f64);
    println!("  from scratch  {:7.1} ms  ({:.2} us each)", cold * 1e3, cold * 1e6 / count as f64);
    println!("  unchanged     {:7.1} ms", warm * 1e3);
}
