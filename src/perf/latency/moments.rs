//! What requests see at one rate: mean and variance of TTFT and ITL, and their quantiles.

use super::cycle::Cycle;
use super::mixture::{Part, above, quantile};
use super::places::Places;
use super::stage::Stage;

/// Distribution of the latencies at one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Requests per second.
    pub rate: f64,
    /// Mean number of requests in execution.
    pub batch: f64,
    /// Probability that a request has to wait for a place in execution.
    pub full: f64,
    /// Mean of that wait, seconds.
    pub place_wait_seconds: f64,
    /// Time to first token: no prompt before it, prompts before it, every place taken.
    pub ttft: [Part; 3],
    /// Mean time between the tokens of a request.
    pub itl: Part,
    /// No ITL is longer: an iteration that is full of prompts.
    pub longest_itl_seconds: f64,
}

/// Latencies at a quantile of the requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles {
    pub ttft_seconds: f64,
    pub itl_seconds: f64,
    /// Part of the TTFT that is spent waiting for a place in execution, seconds.
    pub wait_seconds: f64,
    /// Mean number of requests in execution.
    pub batch: f64,
}

impl Stage {
    /// Latencies at `rate` requests per second; `None` when the replica cannot keep up.
    pub fn moments(&self, rate: f64) -> Option<Moments> {
        if rate.is_nan() || rate <= 0.0 || rate >= self.full_rate() {
            return None;
        }
        let fluid = self.fluid(rate);
        let first = self.cycle(rate, fluid, 0.0);
        let slack = (1.0 - rate * self.work).max(0.0);
        let carried = first.carry * slack / (1.0 - first.busy);
        let places = self.places(rate, fluid, carried, first.busy);
        let cycle = self.cycle(rate, places.batch, places.idle);
        let wait = self.place_wait(rate);
        let slope = self.decoding_share() * self.token / (1.0 - cycle.busy);
        Some(Moments {
            rate,
            batch: places.batch,
            full: places.full,
            place_wait_seconds: wait,
            ttft: self.first_token(rate, &cycle, &places, slope, wait),
            itl: self.between_tokens(rate, &cycle, &places, slope),
            longest_itl_seconds: cycle.base
                + self.parameters.experts.seconds(self.budget)
                + self.prompt_token * cycle.room
                + self.parameters.gamma_seconds_per_token * self.input
                + 2.0 * self.decoding_share() * self.token * places.variance.sqrt(),
        })
    }

    /// Mean wait of those that wait for a place, seconds: that of memoryless service, scaled by the spread of the
    /// arrivals (Allen and Cunneen) and of the times in execution (Kimura, with Cosmetatos' equal times).
    fn place_wait(&self, rate: f64) -> f64 {
        let n = self.places;
        let load = rate / self.rate_of_places();
        let spread = (self.traffic.output_cv * self.decoding_share()).powi(2);
        let crowd = (1.0 - load) * (n - 1.0) * ((4.0 + 5.0 * n).sqrt() - 2.0) / (16.0 * load * n);
        let equal = 0.5 * (1.0 + crowd.clamp(0.0, 1.0));
        let service = if spread < 1.0 { spread + (1.0 - spread) * equal } else { 0.5 * (1.0 + spread) };
        (service + 0.5 * (self.traffic.burstiness - 1.0)).max(0.1) / (self.full_rate() - rate)
    }

    fn first_token(&self, rate: f64, c: &Cycle, places: &Places, slope: f64, wait: f64) -> [Part; 3] {
        let cv = self.traffic.input_cv;
        let live = 1.0 - places.idle;
        let least = 0.9 * c.base + c.prompt * (1.0 - cv).max(0.0);
        let own = self.prompt * self.prompt * cv * cv + slope * slope * places.variance;
        // Everything with a place free: the iteration met, those that gathered with it, bursts.
        let mean = c.first_token;
        let variance = (0.5 + c.busy).powi(2) * (c.met_square - c.met * c.met).max(0.0)
            + c.met_square / 12.0
            + rate * c.square * c.met
            + own
            + c.more_variance
            + c.prompt * c.prompt * (c.index * c.index - 1.0).max(0.0) / 2.0;
        // No prompt before it: the rest of a decode iteration, and who gathers in it.
        let alone = (c.own + c.rest + rate * c.base * live * c.prompt).min(mean);
        let alone_variance = own + c.base * c.base * (live / 3.0 - live * live / 4.0) + rate * c.base * c.square;
        let leads = (2.0 / (c.index + 1.0)).min(1.0);
        let behind = 1.0 - (1.0 - c.load) * leads;
        let behind_mean = (mean - (1.0 - behind) * alone) / behind.max(f64::MIN_POSITIVE);
        let second = variance + mean * mean - (1.0 - behind) * (alone_variance + alone * alone);
        let behind_variance = (second / behind.max(f64::MIN_POSITIVE) - behind_mean * behind_mean).max(alone_variance);
        let free = 1.0 - places.full;
        [
            Part { probability: free * (1.0 - behind), least, mean: alone, variance: alone_variance },
            Part { probability: free * behind, least, mean: behind_mean, variance: behind_variance },
            Part { probability: places.full, least, mean: mean + wait, variance: variance + wait * wait },
        ]
        .map(|part| Part { least: part.least + self.overhead, mean: part.mean + self.overhead, ..part })
    }

    /// A request's mean over its iterations: the batch around it, the prompts that were waiting when it began, and
    /// those that came meanwhile.
    fn between_tokens(&self, rate: f64, c: &Cycle, places: &Places, slope: f64) -> Part {
        let experts = &self.parameters.experts;
        let gaps = self.gaps.max(1.0);
        let spread = 1.0 + self.traffic.output_cv * self.traffic.output_cv;
        // Means of 1 / gaps and of its square over answers of different length.
        let inverse = (spread / gaps).min(1.0);
        let inverse_square = (spread.powi(3) / (gaps * gaps)).min(inverse);
        let decoding = places.batch * self.decoding_share();
        let with_it = (1.0 - places.idle) * places.index.max(1.0) * self.token;
        let alone = c.base + with_it + experts.seconds(decoding + 1.0) - experts.seconds(decoding);
        let idle = 1.0 - c.busy;
        let mean = (alone + c.carry * inverse) / idle;
        // The batch moves slowly: over a life its fluctuation averages out only in part.
        let x = (1.0 - rate * self.work).clamp(0.05, 1.0);
        let averaged = 2.0 * (x - 1.0 + (-x).exp()) / (x * x);
        let batch = slope * slope * places.variance * averaged;
        let prompts = rate * mean * c.square * inverse;
        let before = c.own + c.busy * c.met;
        let met_variance = (c.met_square - c.met * c.met).max(0.0);
        let own = self.prompt * self.prompt * self.traffic.input_cv.powi(2) + slope * slope * places.variance;
        let left = rate * c.square * before
            + c.busy * c.busy * (own + rate * c.square * c.met + c.busy * c.busy * met_variance + c.more_variance);
        let carried = left * inverse_square + c.carry * c.carry * (inverse_square - inverse * inverse).max(0.0);
        Part {
            probability: 1.0,
            // Well below the shortest there is: close to the mean, it would cut the variance short.
            least: 0.5 * (self.parameters.alpha_seconds + experts.seconds(1.0)),
            mean,
            variance: batch + (prompts + carried) / (idle * idle),
        }
    }
}

impl Moments {
    /// Mean time to first token, seconds.
    pub fn ttft_mean_seconds(&self) -> f64 {
        self.ttft.iter().map(|part| part.probability * part.mean).sum()
    }

    /// Probability that a request's TTFT is above `seconds`, the skew of its parts at most `most_skew`.
    pub(in crate::perf) fn ttft_above(&self, seconds: f64, most_skew: f64) -> f64 {
        above(&self.ttft, seconds, most_skew)
    }

    /// The part of it that finds a place free.
    pub(in crate::perf) fn ttft_above_with_place(&self, seconds: f64, most_skew: f64) -> f64 {
        above(&self.ttft[..2], seconds, most_skew)
    }

    /// Probability that a request's ITL is above `seconds`.
    pub(in crate::perf) fn itl_above(&self, seconds: f64, most_skew: f64) -> f64 {
        if seconds >= self.longest_itl_seconds { 0.0 } else { above(&[self.itl], seconds, most_skew) }
    }

    /// Latencies that the share `at` (0..1) of the requests stays below; `z` is the normal quantile of it.
    pub fn quantiles(&self, at: f64, z: f64) -> Quantiles {
        let tail = 1.0 - at;
        let wait = if self.full > tail { self.place_wait_seconds * (self.full / tail).ln() } else { 0.0 };
        Quantiles {
            ttft_seconds: quantile(&self.ttft, at, z),
            itl_seconds: quantile(&[self.itl], at, z).min(self.longest_itl_seconds),
            wait_seconds: wait,
            batch: self.batch,
        }
    }
}
