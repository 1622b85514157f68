//! Stationary state of a birth-death chain with a finite queue.
//!
//! Probabilities are kept as logarithms: plain doubles overflow from a few hundred states on.

/// Service rates of a chain: 1..=N in execution, the rest waits.
#[derive(Clone, Debug)]
pub struct BirthDeath {
    /// `log_sums[n]`: sum of ln μ(1..=n).
    log_sums: Vec<f64>,
    log_full: f64,
}

/// Long-run means at one arrival rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Occupancy {
    /// Served rate, the unit of the given rates: the offered one without the refused.
    pub throughput: f64,
    /// Customers in the system.
    pub in_system: f64,
    /// Customers in execution.
    pub in_service: f64,
}

impl BirthDeath {
    /// `rates[n - 1]` is the service rate with n in execution; at least one.
    pub fn new(rates: impl IntoIterator<Item = f64>) -> Self {
        let mut log_sums = vec![0.0];
        let (mut sum, mut log_full) = (0.0, 0.0);
        for rate in rates {
            log_full = rate.ln();
            sum += log_full;
            log_sums.push(sum);
        }
        Self { log_sums, log_full }
    }

    /// Means for arrivals of `rate` with at most `queue` waiting. A rate above the service rate of the full server
    /// is answered too: what finds the queue full is lost.
    pub fn occupancy(&self, rate: f64, queue: usize) -> Occupancy {
        let n = self.log_sums.len() - 1;
        let log_rate = rate.ln();
        let log_weight = |i: usize| {
            let busy = i.min(n);
            i as f64 * log_rate - self.log_sums[busy] - (i - busy) as f64 * self.log_full
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
        Occupancy {
            throughput: rate * (1.0 - last / total),
            in_system: in_system / total,
            in_service: in_service / total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, wanted: f64, tolerance: f64) {
        assert!((got / wanted - 1.0).abs() < tolerance, "{got} against {wanted}");
    }

    /// A chain with one rate is the M/M/1/K queue, whose mean is known in closed form.
    #[test]
    fn one_rate_is_the_single_server_queue() {
        let (rate, service, places) = (1.5_f64, 3.0_f64, 5);
        let load = rate / service;
        let total: f64 = (0..=places).map(|i| load.powi(i)).sum();
        let mean = (0..=places).map(|i| f64::from(i) * load.powi(i)).sum::<f64>() / total;
        let split = [(1, 4), (3, 2), (5, 0)].map(|(n, queue)| {
            let chain = BirthDeath::new(std::iter::repeat_n(service, n));
            chain.occupancy(rate, queue)
        });
        for found in split {
            close(found.in_system, mean, 1e-12);
            close(found.throughput, rate * (1.0 - load.powi(places) / total), 1e-12);
        }
    }

    /// Customers in the system are throughput times the time they spend there, whatever way it is summed.
    #[test]
    fn littles_law_holds() {
        for (rate, service) in [(0.5_f64, 2.0_f64), (1.5, 3.0), (2.8, 4.0)] {
            let found = BirthDeath::new([service]).occupancy(rate, 9);
            close(found.in_service, found.throughput / service, 1e-12);
            let load = rate / service;
            let mean_wait = {
                let weights: Vec<f64> = (0..10).map(|i| load.powi(i)).collect();
                let total: f64 = weights.iter().sum();
                weights.iter().enumerate().map(|(i, w)| w / total * (i as f64 + 1.0) / service).sum::<f64>()
            };
            close(found.in_system, found.throughput * mean_wait, 1e-12);
        }
    }

    #[test]
    fn ten_thousand_states_neither_overflow_nor_vanish() {
        for rate in [1e-3, 5.0, 200.0] {
            let chain = BirthDeath::new((1..=1000).map(|n| f64::from(n) / (1.0 + 0.01 * f64::from(n))));
            let found = chain.occupancy(rate, 9000);
            assert!(found.in_system.is_finite() && found.throughput > 0.0, "{found:?}");
            assert!(found.throughput <= rate && found.in_service <= 1000.0 + 1e-6, "{found:?}");
        }
    }
}
