//! Requests in front of one replica: a birth-death chain whose service rate depends on the batch.
//!
//! States 0..=N are requests in execution, the rest wait in arrival order. Probabilities are kept as
//! logarithms, because plain doubles overflow from a few hundred states on.

use super::iteration::{Iteration, Service};

/// Everything about one replica and one shape that does not depend on the arrival rate.
#[derive(Clone, Debug)]
pub struct Chain {
    service: Service,
    /// `at[n - 1]`: means with n requests in execution, n = 1..=N.
    at: Vec<Iteration>,
    /// `log_rates[n]`: sum of ln μ(1..=n).
    log_rates: Vec<f64>,
}

/// Long-run means at one arrival rate with a finite queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SteadyState {
    /// Served rate, requests per second: the offered one without the refused.
    pub throughput: f64,
    /// Time in the system, seconds.
    pub response_seconds: f64,
    /// Time in the queue, seconds.
    pub wait_seconds: f64,
    /// Requests in execution.
    pub in_service: f64,
    pub prefill_seconds: f64,
    pub itl_seconds: f64,
    /// Wait, prefill and one iteration, seconds.
    pub ttft_seconds: f64,
}

/// Latencies at a quantile of the requests, queue unbounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles {
    pub ttft_seconds: f64,
    pub itl_seconds: f64,
    /// Part of the TTFT that is spent waiting for a place in the batch, seconds.
    pub wait_seconds: f64,
    /// Mean number of requests in execution.
    pub batch: f64,
}

impl Chain {
    /// `concurrency` (at least 1) is the highest number of requests in execution.
    pub fn new(service: Service, concurrency: u32) -> Self {
        let n = concurrency.max(1) as usize;
        let mut at = Vec::with_capacity(n);
        let mut log_rates = Vec::with_capacity(n + 1);
        log_rates.push(0.0);
        let (mut chunks, mut sum) = (1.0, 0.0);
        for batch in 1..=n {
            let batch = batch as f64;
            chunks = service.chunks(batch, chunks);
            let means = service.at(batch, chunks);
            sum += (batch / means.residence_seconds).ln();
            log_rates.push(sum);
            at.push(means);
        }
        Self { service, at, log_rates }
    }

    /// Highest number of requests in execution.
    pub fn concurrency(&self) -> usize {
        self.at.len()
    }

    /// Service rate with `batch` requests in execution (1..=N), requests per second.
    pub fn rate(&self, batch: usize) -> f64 {
        batch as f64 / self.at[batch - 1].residence_seconds
    }

    /// Means with `batch` requests in execution (1..=N).
    pub fn means(&self, batch: usize) -> &Iteration {
        &self.at[batch - 1]
    }

    /// Service rate with the replica full, requests per second.
    pub fn full_rate(&self) -> f64 {
        self.rate(self.concurrency())
    }

    /// Means for arrivals of `rate` requests per second with at most `queue` waiting.
    pub fn steady_state(&self, rate: f64, queue: usize) -> SteadyState {
        let n = self.concurrency();
        let log_rate = rate.ln();
        let log_full = self.full_rate().ln();
        let log_weight = |i: usize| {
            let busy = i.min(n);
            i as f64 * log_rate - self.log_rates[busy] - (i - busy) as f64 * log_full
        };
        let states = n + queue;
        let top = (0..=states).map(log_weight).fold(f64::NEG_INFINITY, f64::max);
        let (mut total, mut in_system, mut in_service, mut last) = (0.0, 0.0, 0.0, 0.0);
        for i in 0..=states {
            let p = (log_weight(i) - top).exp();
            total += p;
            in_system += i as f64 * p;
            in_service += i.min(n) as f64 * p;
            last = p;
        }
        let (in_system, in_service) = (in_system / total, in_service / total);
        let throughput = rate * (1.0 - last / total);
        let response = in_system / throughput;
        let service_time = in_service / throughput;
        let wait = (response - service_time).max(0.0);
        let chunks = self.service.chunks(in_service.round().max(1.0), 1.0);
        let prefill = self.service.at(in_service, chunks).prefill_seconds;
        let itl = (service_time - prefill) / self.service.shape.output_tokens;
        SteadyState {
            throughput,
            response_seconds: response,
            wait_seconds: wait,
            in_service,
            prefill_seconds: prefill,
            itl_seconds: itl,
            ttft_seconds: wait + prefill + itl,
        }
    }

    /// Stationary probabilities of 0..N-1 in the system and of N or more, for an unbounded queue;
    /// `None` when the replica cannot keep up with `rate`.
    fn occupancy(&self, rate: f64) -> Option<(Vec<f64>, f64)> {
        let n = self.concurrency();
        let load = rate / self.full_rate();
        if load.is_nan() || load >= 1.0 {
            return None;
        }
        let log_rate = rate.ln();
        let mut weights: Vec<f64> = (0..=n).map(|i| i as f64 * log_rate - self.log_rates[i]).collect();
        let top = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for w in &mut weights {
            *w = (*w - top).exp();
        }
        let full = weights.pop().unwrap_or(0.0) / (1.0 - load);
        let total: f64 = weights.iter().sum::<f64>() + full;
        for w in &mut weights {
            *w /= total;
        }
        Some((weights, full / total))
    }

    /// Latencies that the share `quantile` (0..1) of the requests stays below, for Poisson arrivals of
    /// `rate` requests per second; `None` when the replica cannot keep up.
    ///
    /// The wait of a request that finds the replica full is exponential with rate μ(N) − λ (the tail of
    /// the birth-death chain). Two effects the chain of means does not have are added, because they make
    /// the tail in a real engine: prompts queue behind each other for the token budget (a single-server
    /// queue of prompt work, exponential tail), and the number of foreign prompts computed during a
    /// request's decoding is random (Poisson), which moves the mean time per token of short answers.
    pub fn quantiles(&self, rate: f64, quantile: f64, z: f64) -> Option<Quantiles> {
        let (below, full) = self.occupancy(rate)?;
        let n = self.concurrency();
        let tail = 1.0 - quantile;

        let mut mean_batch = full * n as f64;
        let mut cumulative = 0.0;
        let mut level = n;
        for (i, p) in below.iter().enumerate() {
            mean_batch += i as f64 * p;
            if cumulative < quantile {
                cumulative += p;
                if cumulative >= quantile {
                    level = i + 1;
                }
            }
        }
        let level = level.min(n);
        let means = self.means(level);
        let wait = if full > tail { (full / tail).ln() / (self.full_rate() - rate) } else { 0.0 };

        let prompt = self.service.prompt_work(means.chunks);
        let typical = self.means((mean_batch.round() as usize).clamp(1, n));
        let shared =
            prompt * (1.0 + typical.iteration_seconds / (self.service.token_budget * prompt_rate(&self.service)));
        let busy = (rate * shared).min(0.999);
        let contention = if busy > tail { shared / (1.0 - busy) * (busy / tail).ln() } else { 0.0 };

        let k = self.service.shape.output_tokens.max(1.0);
        let foreign_prompts = rate * k * typical.itl_seconds;
        let jitter = z.max(0.0) * foreign_prompts.sqrt() * prompt * PROMPT_SPREAD / k;
        Some(Quantiles {
            ttft_seconds: wait + contention + means.prefill_seconds + means.itl_seconds,
            itl_seconds: means.itl_seconds + jitter,
            wait_seconds: wait,
            batch: mean_batch,
        })
    }
}

/// Root of 1 + squared coefficient of variation of prompt lengths: the real conversation and code traces
/// have a coefficient of 0.9 to 1.
const PROMPT_SPREAD: f64 = 1.35;

/// Time per prompt token, seconds, at least a nanosecond so that it can divide.
fn prompt_rate(service: &Service) -> f64 {
    service.parameters.beta_seconds_per_token.max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::super::{Parameters, Shape};
    use super::*;

    fn chain(alpha: f64, beta: f64, gamma: f64, l: f64, k: f64, n: u32) -> Chain {
        Chain::new(
            Service {
                parameters: Parameters::uniform(alpha / 1e3, beta / 1e3, gamma / 1e3),
                shape: Shape { input_tokens: l, output_tokens: k },
                token_budget: 8192.0,
            },
            n,
        )
    }

    fn close(got: f64, wanted: f64, tolerance: f64) {
        assert!((got / wanted - 1.0).abs() < tolerance, "{got} against {wanted}");
    }

    /// Values in milliseconds as queue-analysis prints them.
    #[test]
    fn steady_state_matches_the_published_vectors() {
        let c = chain(12.0, 0.05, 0.0005, 128.0, 512.0, 48);
        close(c.full_rate() * 0.999, 3.86093, 5e-5);
        let s = c.steady_state(3.0, 128);
        close(s.response_seconds * 1e3, 10348.367, 5e-5);
        close(s.wait_seconds * 1e3, 21.405, 5e-4);
        close(s.in_service, 30.981, 5e-5);
        close(s.prefill_seconds * 1e3, 26.0905, 5e-5);
        close(s.itl_seconds * 1e3, 20.1189, 5e-5);
        close(s.ttft_seconds * 1e3, 67.615, 5e-4);

        let qwen = chain(10.645377, 0.041760195, 5.770509e-5, 871.0, 567.0, 60);
        for (rate, ttft, itl, in_service) in [
            (1.0, 59.998268, 11.927968, 6.811228),
            (2.0, 62.917573, 13.38762, 15.280621),
            (4.031, 91.512961, 17.799471, 40.899516),
            (4.5, 421.89456, 19.214284, 49.274493),
        ] {
            let s = qwen.steady_state(rate, 600);
            close(s.ttft_seconds * 1e3, ttft, 5e-5);
            close(s.itl_seconds * 1e3, itl, 5e-5);
            close(s.in_service, in_service, 5e-5);
        }
    }

    #[test]
    fn fixed_time_servers_match_the_closed_form() {
        let one = chain(10.0, 0.0, 0.0, 1.0, 1.0, 1);
        let s = one.steady_state(20.0, 4);
        close(s.throughput, 19.8766146, 1e-7);
        close(s.response_seconds * 1e3, 32.2987391, 1e-7);
        close(s.wait_seconds * 1e3, 12.2987391, 1e-7);
        close(s.in_service, 0.39753229, 1e-7);
        let four = chain(10.0, 0.0, 0.0, 1.0, 1.0, 4).steady_state(100.0, 4);
        close(four.throughput, 99.4535519, 1e-7);
        close(four.wait_seconds * 1e3, 1.4285714, 1e-7);
    }

    #[test]
    fn ten_thousand_states_do_not_overflow() {
        let s = chain(12.0, 0.05, 0.0005, 128.0, 512.0, 1000).steady_state(3.0, 9000);
        assert!(s.ttft_seconds.is_finite() && s.throughput > 2.9);
    }

    #[test]
    fn quantiles_grow_with_load_and_end_at_saturation() {
        let c = chain(10.645377, 0.041760195, 5.770509e-5, 871.0, 567.0, 60);
        let mut last = Quantiles { ttft_seconds: 0.0, itl_seconds: 0.0, wait_seconds: 0.0, batch: 0.0 };
        for step in 1..50 {
            let rate = c.full_rate() * f64::from(step) / 50.0;
            let q = c.quantiles(rate, 0.99, 2.326).unwrap();
            assert!(q.ttft_seconds >= last.ttft_seconds - 1e-9, "at {rate}");
            assert!(q.itl_seconds >= last.itl_seconds - 1e-9, "at {rate}");
            assert!(q.batch >= last.batch);
            last = q;
        }
        assert!(c.quantiles(c.full_rate(), 0.99, 2.326).is_none());
    }

    /// An arrival that finds the replica full waits longer than the mean: the 99th percentile of TTFT at
    /// the rate that is sized for the mean is far above the target.
    #[test]
    fn sizing_on_the_mean_would_break_the_promise() {
        let c = chain(10.645377, 0.041760195, 5.770509e-5, 871.0, 567.0, 60);
        let mean = c.steady_state(4.734, 600).ttft_seconds;
        let tail = c.quantiles(4.734, 0.9, 1.2816).unwrap().ttft_seconds;
        assert!(mean < 1.51 && tail > 4.0, "mean {mean}, p90 {tail}");
    }
}
