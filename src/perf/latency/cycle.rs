//! How prompts wait for each other.
//!
//! While one iteration runs, arrivals gather; the next one computes their prompts together, as far as the token
//! budget reaches, and lasts that much longer, so that more arrivals gather: a gated queue, whose first three
//! moments are known. Where the budget is short, prompts queue for it as for a single server (Pollaczek and
//! Khinchine), each paying for its part of the fixed time of an iteration.

use super::stage::Stage;

/// Highest share of the time that prompts are taken to keep the server busy.
const MOST_BUSY: f64 = 0.999;
/// Least part of the free budget that stays free for the queue.
const LEAST_SLACK: f64 = 0.3;
/// Least part of the token budget that is left for prompts.
const LEAST_ROOM: f64 = 0.02;

/// The iterations at one rate; times in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cycle {
    /// An iteration without prompts.
    pub base: f64,
    /// What one prompt adds.
    pub prompt: f64,
    /// Share of the time spent on prompts.
    pub busy: f64,
    /// The same with the iterations that the token budget makes them take.
    pub load: f64,
    /// Tokens of an iteration that are left for prompts.
    pub room: f64,
    /// Variance over mean of the arrivals while prompts queue.
    pub index: f64,
    /// Square of the work of an arrival, bursts and lengths included, seconds squared.
    pub square: f64,
    /// Mean of the iteration an arrival meets, and of its square.
    pub met: f64,
    pub met_square: f64,
    /// From the start of its first iteration to its first token, when a request is alone.
    pub own: f64,
    /// Rest of a running iteration without prompts.
    pub rest: f64,
    /// Variance of the wait for the budget beyond that of a wide budget.
    pub more_variance: f64,
    /// Mean time to the first token with a place free.
    pub first_token: f64,
    /// Work of prompts left behind when a request begins to decode, beyond what is usual.
    pub carry: f64,
}

impl Stage {
    /// The iterations with `batch` requests in execution; nobody is there with probability `idle`.
    pub(super) fn cycle(&self, rate: f64, batch: f64, idle: f64) -> Cycle {
        let decoding = batch * self.decoding_share();
        let base = self.decode_iteration(decoding);
        let prompt = self.prompt_in(decoding);
        let busy = (rate * prompt).min(MOST_BUSY);
        let mean = base / (1.0 - busy);
        let room = (self.budget - decoding).max(LEAST_ROOM * self.budget);
        let longest = prompt + base * self.input / room;
        // The queue ends where the budget does, whatever a batch larger than usual would make of it.
        let load = (rate * longest).min(1.0 - LEAST_SLACK * (1.0 - rate / self.rate_of_budget()).max(1e-3));
        let index = self.index_of_queue(rate, mean + prompt, prompt, busy);
        let lengths = 1.0 + self.traffic.input_cv * self.traffic.input_cv;
        let spread = index + lengths - 1.0;
        let (square, cube) = (prompt * prompt * spread, prompt.powi(3) * lengths * spread * spread);

        // The gated queue: moments of an iteration, then of the one that an arrival meets.
        let variance = rate * square * mean / (1.0 - busy * busy);
        let third = (rate * cube * mean + 3.0 * busy * rate * square * variance) / (1.0 - busy.powi(3));
        let met = mean + variance / mean;
        let met_square = (third + 3.0 * mean * variance + mean.powi(3)) / mean;

        // The queue for the budget, and what it would be with a wide one.
        let stretch = if prompt > 0.0 { longest / prompt } else { 1.0 };
        let mates = 0.5 * (index - 1.0).max(0.0);
        let wait = |work: f64, load: f64| {
            let mean = rate * square * work * work / (2.0 * (1.0 - load)) + mates * work * prompt;
            (mean, rate * cube * work.powi(3) / (3.0 * (1.0 - load)) + mean * mean)
        };
        let (wait_mean, wait_variance) = wait(stretch, load);
        let (wide_mean, wide_variance) = wait(1.0, busy);

        let own_iterations = if self.input > room { self.input / room + 0.5 } else { 1.0 };
        let own = base * own_iterations + prompt;
        let rest = 0.5 * base * (1.0 - idle);
        // A first token comes with the end of its iteration: prompts behind it that fit delay it too.
        let half_budget = 0.5 * self.prompt_token * room;
        let gated = (0.5 + busy) * met + 2.0 * mates * prompt;
        let behind = (gated - 0.5 * base - wide_mean).clamp(0.0, half_budget);
        let first_token = own + rest + behind + wait_mean;
        let joined = (0.5 * busy * met + mates * prompt).min(half_budget);
        let usual = busy * mean + (wait_mean - wide_mean).max(0.0);
        Cycle {
            base,
            prompt,
            busy,
            load,
            room,
            index,
            square,
            met,
            met_square,
            own,
            rest,
            more_variance: (wait_variance - wide_variance).max(0.0),
            first_token,
            // No iteration takes more prompts than its budget.
            carry: (busy * first_token - joined - usual).clamp(0.0, 2.0 * half_budget * self.gaps * (1.0 - busy)),
        }
    }

    /// Dispersion of the arrivals over the time that a burst of prompts takes to be computed.
    fn index_of_queue(&self, rate: f64, iteration: f64, prompt: f64, busy: f64) -> f64 {
        if self.traffic.burstiness <= 1.0 {
            return self.traffic.burstiness;
        }
        let first = self.traffic.index_over(rate * iteration);
        self.traffic.index_over(rate * (iteration + (first - 1.0) * prompt) / (1.0 - busy))
    }
}
