//! The highest rate at which mean latencies stay within targets, and the concurrency at which it peaks.
//!
//! The chunked formulas are not monotone: the mean ITL falls a little where the load makes prompts take one chunk
//! more. Sizing therefore asks for the first rate at which a target is missed, not for any rate at which it is met.

use super::steady::{Chain, Execution, SteadyState};

/// Targets for means, seconds; infinite where nothing is promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Means {
    pub ttft_seconds: f64,
    pub itl_seconds: f64,
}

/// The largest rates within targets, requests per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sized {
    /// Largest rate of a stable replica.
    pub max_rate: f64,
    /// Largest rate within the TTFT target; 0 when not even an idle replica meets it.
    pub ttft_rate: f64,
    pub itl_rate: f64,
    /// The smaller of the two.
    pub rate: f64,
    /// Means at `rate`; `None` when it is 0.
    pub means: Option<SteadyState>,
}

/// Lowest and highest load that is looked at, shares of the service rate of one request and of a full replica.
const LEAST_LOAD: f64 = 1e-3;
const MOST_LOAD: f64 = 0.999;
const STEPS: usize = 100;
const PRECISION: f64 = 1e-9;
/// Loads at which a dip of the latency is looked for before the search.
const PROBES: usize = 32;

/// Largest rate of `chain` within `targets` with at most `queue` waiting.
pub fn size<E: Execution>(chain: &Chain<E>, targets: &Means, queue: usize) -> Sized {
    let low = LEAST_LOAD * chain.rate(1);
    let max_rate = MOST_LOAD * chain.full_rate();
    let largest = |target: f64, latency: fn(&SteadyState) -> f64| {
        let at = |rate: f64| latency(&chain.steady_state(rate, queue));
        if target.is_infinite() {
            return max_rate;
        }
        // With a single place the formulas let the latency fall with the load: no base for a rate, as the published
        // search has it.
        if at(max_rate) < at(low) { 0.0 } else { first_failure(low, max_rate, |rate| at(rate) <= target) }
    };
    let ttft_rate = largest(targets.ttft_seconds, |s| s.ttft_seconds);
    let itl_rate = largest(targets.itl_seconds, |s| s.itl_seconds);
    let rate = ttft_rate.min(itl_rate).min(max_rate);
    let means = (rate > 0.0).then(|| chain.steady_state(rate, queue));
    Sized { max_rate, ttft_rate, itl_rate, rate, means }
}

/// The rate up to which `fits` holds: 0 when it fails at `low`, `high` when it never fails.
fn first_failure(low: f64, high: f64, fits: impl Fn(f64) -> bool) -> f64 {
    if !fits(low) {
        return 0.0;
    }
    let (mut good, mut bad) = (low, high);
    let probe = |i: usize| low + (high - low) * i as f64 / PROBES as f64;
    match (1..=PROBES).map(probe).find(|rate| !fits(*rate)) {
        None => return high,
        Some(rate) => {
            good = good.max(rate - (high - low) / PROBES as f64);
            bad = bad.min(rate);
        }
    }
    for _ in 0..STEPS {
        if bad - good <= PRECISION * bad {
            break;
        }
        let middle = 0.5 * (good + bad);
        if fits(middle) { good = middle } else { bad = middle }
    }
    good
}

/// Smallest argument at which a rising function is near its peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Onset {
    pub at: u32,
    /// How often the function was asked.
    pub evaluations: u32,
}

/// Smallest argument in `low..=high` at which `f` reaches `threshold`, at most `steps` halvings; `high` when no
/// smaller one was found.
pub fn onset(low: u32, high: u32, threshold: f64, steps: u32, mut f: impl FnMut(u32) -> f64) -> Onset {
    let (mut low, mut high) = (low.min(high), high);
    let mut evaluations = 0;
    while low < high && evaluations < steps {
        let middle = low + (high - low) / 2;
        evaluations += 1;
        if f(middle) >= threshold { high = middle } else { low = middle + 1 }
    }
    Onset { at: high, evaluations }
}

/// The concurrency from which on more does not pay, for mean targets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BestConcurrency {
    pub concurrency: u32,
    /// Largest rate within the targets there, requests per second.
    pub rate: f64,
    /// Largest batch whose mean ITL is within its target.
    pub by_itl: u32,
    /// Largest batch whose prefill time is within the TTFT target.
    pub by_ttft: u32,
    /// How often a rate was computed.
    pub evaluations: u32,
}

/// Loss of rate that is accepted for a smaller batch.
const NEAR_PEAK: f64 = 0.02;
/// Halvings of the search, and how far beyond the larger bracket it looks.
const ONSET_STEPS: u32 = 6;
const REACH: u32 = 3;

/// Smallest concurrency up to `most` whose rate within `targets` is near the peak: with less the batch is the
/// limit, with more the latencies are.
pub fn best_concurrency<E: Execution + Clone>(
    execution: &E,
    targets: &Means,
    queue: usize,
    most: u32,
) -> BestConcurrency {
    let most = most.max(1);
    let largest = |fits: &dyn Fn(u32) -> bool| {
        let (mut low, mut high) = (1, most);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if fits(middle) { low = middle } else { high = middle - 1 }
        }
        low
    };
    let by_itl = largest(&|batch| execution.itl_seconds(batch as usize) <= targets.itl_seconds);
    let by_ttft = largest(&|batch| execution.prefill_seconds(f64::from(batch)) <= targets.ttft_seconds);
    let mut evaluations = 0;
    let mut rate = |concurrency: u32| {
        evaluations += 1;
        size(&Chain::new(execution.clone(), concurrency), targets, queue).rate
    };
    // The largest concurrency is on the plateau; the peak begins somewhere between the two brackets and a few times
    // the larger one.
    let threshold = (1.0 - NEAR_PEAK / 2.0) * rate(most);
    let low = by_itl.min(by_ttft);
    let high = by_itl.max(by_ttft).saturating_mul(REACH).max(low + 1).min(most);
    let concurrency = onset(low, high, threshold, ONSET_STEPS, &mut rate).at;
    let best = rate(concurrency);
    BestConcurrency { concurrency, rate: best, by_itl, by_ttft, evaluations }
}
