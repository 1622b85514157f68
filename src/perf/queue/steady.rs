//! Mean latencies of a replica with a finite queue.

use super::birth_death::BirthDeath;
use super::iteration::{Iteration, Service};

/// What a generation of the iteration model says about requests in execution.
pub trait Execution {
    /// Time a request spends in execution with `batch` (at least 1) there, seconds.
    fn residence_seconds(&self, batch: usize) -> f64;
    /// Time to compute a prompt with a mean of `in_service` in execution, seconds.
    fn prefill_seconds(&self, in_service: f64) -> f64;
    /// Time between two tokens of a request with `batch` (at least 1) in execution, seconds.
    fn itl_seconds(&self, batch: usize) -> f64;
    fn output_tokens(&self) -> f64;
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

/// A replica and one shape: everything that does not depend on the arrival rate.
#[derive(Clone, Debug)]
pub struct Chain<E> {
    execution: E,
    states: BirthDeath,
    /// Service rate by requests in execution, requests per second; `rates[0]` belongs to one.
    rates: Vec<f64>,
}

impl<E: Execution> Chain<E> {
    /// `concurrency` (at least 1) is the highest number of requests in execution.
    pub fn new(execution: E, concurrency: u32) -> Self {
        let rates: Vec<f64> = (1..=concurrency.max(1) as usize)
            .map(|batch| batch as f64 / execution.residence_seconds(batch).max(f64::MIN_POSITIVE))
            .collect();
        Self { states: BirthDeath::new(rates.iter().copied()), execution, rates }
    }

    pub fn execution(&self) -> &E {
        &self.execution
    }

    /// Highest number of requests in execution.
    pub fn concurrency(&self) -> usize {
        self.rates.len()
    }

    /// Service rate with `batch` requests in execution (1..=N), requests per second.
    pub fn rate(&self, batch: usize) -> f64 {
        self.rates[batch.clamp(1, self.rates.len()) - 1]
    }

    /// Service rate with the replica full, requests per second.
    pub fn full_rate(&self) -> f64 {
        self.rate(self.concurrency())
    }

    /// Means for arrivals of `rate` (above 0) requests per second with at most `queue` waiting. Any rate is
    /// answered; beyond [`Self::full_rate`] the refused make the difference between `rate` and the throughput.
    pub fn steady_state(&self, rate: f64, queue: usize) -> SteadyState {
        let found = self.states.occupancy(rate, queue);
        let response = found.in_system / found.throughput;
        let service_time = found.in_service / found.throughput;
        let wait = (response - service_time).max(0.0);
        let prefill = self.execution.prefill_seconds(found.in_service);
        let itl = (service_time - prefill) / self.execution.output_tokens();
        SteadyState {
            throughput: found.throughput,
            response_seconds: response,
            wait_seconds: wait,
            in_service: found.in_service,
            prefill_seconds: prefill,
            itl_seconds: itl,
            ttft_seconds: wait + prefill + itl,
        }
    }
}

impl Service {
    fn means(&self, batch: usize) -> Iteration {
        self.at(batch as f64, self.chunks(batch as f64, 1.0))
    }
}

impl Execution for Service {
    fn residence_seconds(&self, batch: usize) -> f64 {
        self.means(batch).residence_seconds
    }

    fn prefill_seconds(&self, in_service: f64) -> f64 {
        self.at(in_service, self.chunks(in_service.round().max(1.0), 1.0)).prefill_seconds
    }

    fn itl_seconds(&self, batch: usize) -> f64 {
        self.means(batch).itl_seconds
    }

    fn output_tokens(&self) -> f64 {
        self.shape.output_tokens
    }
}
