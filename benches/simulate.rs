//! Requests per second of wall-clock time that the simulated fleet serves on one core, for fleets of several sizes.
//! `make bench-simulate` prints the table.

use std::time::Instant;

use poolwright::policy::from_text;
use poolwright::simulate::{Fleet, FleetOptions, Replay, Trace, Workload};

const POLICY: &str = include_str!("../policies/heterogeneous.yaml");
/// Simulated requests per second, one core, to reach.
const MARK: f64 = 100_000.0;

fn main() {
    let policy = from_text("policies/heterogeneous.yaml", POLICY).expect("the shipped policy is right");
    println!("conversation trace, Llama 3.1 8B on L40S, simulated for a quarter of an hour\n");
    println!("{:>8} {:>12} {:>12} {:>14} {:>10}", "replicas", "requests/s", "requests", "simulated/s", "attained");
    let model = policy.models.iter().position(|m| m.name == "llama-8b").expect("the policy has it");
    let pool = policy.pools.iter().position(|p| p.name == "llama-8b-l40s").expect("the policy has it");
    let mut reached = true;
    for replicas in [1_u32, 5, 20, 40] {
        let trace = std::sync::Arc::new(Trace::conversation().expect("embedded"));
        // 5.5 requests per second at scale 1
        let scale = 0.6 * f64::from(replicas) * 4.0 / 5.5;
        let replay = Replay { scale, ..Replay::default() };
        let workload = Workload::new(trace, model, &policy, replay).expect("a good scale");
        let options = FleetOptions { noise: 0.0, ..FleetOptions::default() };
        let mut fleet = Fleet::new(&policy, vec![], options);
        fleet.place_ready(pool, replicas);
        fleet.start_arrivals(vec![workload]);
        let started = Instant::now();
        for step in 1..=60 {
            fleet.advance(15.0 * f64::from(step));
        }
        let seconds = started.elapsed().as_secs_f64();
        let classes = fleet.snapshot().classes;
        let (arrived, met): (u64, u64) = classes.iter().fold((0, 0), |sum, c| (sum.0 + c.arrived, sum.1 + c.met));
        let speed = arrived as f64 / seconds;
        reached &= speed >= MARK;
        let attained = 100.0 * met as f64 / arrived as f64;
        println!("{replicas:>8} {:>12.1} {arrived:>12} {speed:>14.0} {attained:>9.1}%", arrived as f64 / 900.0);
    }
    println!("\nmark: {MARK:.0} requests/s, {}", if reached { "reached" } else { "missed" });
}
