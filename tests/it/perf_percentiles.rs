//! Percentiles against the iteration-by-iteration server: a thin cut of what `make bench-percentiles` prints.

use super::perf_grid::{Case, cases, compare, error};

/// Largest error of the 95th percentiles on this cut, at the requests that a test has time for.
const TTFT: f64 = 0.20;
const ITL: f64 = 0.15;

fn named(name: &str) -> Case {
    cases().into_iter().find(|c| c.name == name).unwrap()
}

fn check(name: &str, load: f64, requests: usize) {
    let case = named(name);
    let found = compare(&case, load, 1.0, requests.min(case.requests));
    let (ttft, itl) = (error(found.ttft[1]), error(found.itl[1]));
    assert!(ttft.abs() <= TTFT, "{name} at {load}, {:.2}/s: p95 TTFT {ttft:+.2}", found.rate);
    assert!(itl.abs() <= ITL, "{name} at {load}, {:.2}/s: p95 ITL {itl:+.2}", found.rate);
}

#[test]
fn short_requests_are_predicted() {
    check("128/128", 0.5, 6000);
    check("871/567 cv 1", 0.6, 4000);
}

#[test]
fn long_prompts_and_short_answers_are_predicted() {
    check("1024/32", 0.7, 6000);
    check("4096/64 cv 0.6", 0.5, 6000);
    check("4096/64 budget 2048", 0.7, 6000);
}

#[test]
fn long_answers_and_experts_are_predicted() {
    check("256/1024", 0.7, 3000);
    check("1024/256 experts", 0.5, 4000);
}

/// Twice the burstiness hurts, in both.
#[test]
fn bursts_cost_what_they_cost() {
    let smooth = compare(&named("1024/32"), 0.5, 1.0, 4000);
    let bursty = compare(&named("1024/32"), 0.5, 4.0, 4000);
    let ratio = |pick: fn((f64, f64)) -> f64| pick(bursty.ttft[1]) / pick(smooth.ttft[1]);
    let (simulated, predicted) = (ratio(|p| p.0), ratio(|p| p.1));
    assert!(simulated > 2.0 && (predicted / simulated - 1.0).abs() < 0.3, "{simulated} {predicted}");
}
