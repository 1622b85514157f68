//! What a benchmark sees that keeps so many requests of one shape in flight: the form in which latencies
//! are published.

use super::{FirstToken, Load, PerTerm, Roofline, Term};

/// So many requests of one shape, each followed at once by another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClosedLoop {
    /// Requests in flight at the whole replica.
    pub concurrency: f64,
    pub input_tokens: f64,
    pub output_tokens: f64,
    /// Prompts are computed by other workers, one at a time.
    pub decode_only: bool,
    /// Most requests that the engine runs at once (`--max-num-seqs`), where that is known.
    pub most_running: Option<f64>,
}

/// Mean latencies of a closed loop, in parts that a calibration may multiply.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// The terms of the mean iteration, seconds; their sum is the time per output token.
    pub iteration: PerTerm,
    /// The parts of the time to first token while nothing waits for memory, seconds.
    pub first_token: FirstToken,
    /// Requests in flight by those that can run at once, for which there are memory and places; above 1 they queue.
    pub kv_use: f64,
    /// Requests that run at once.
    pub running: f64,
}

impl Latency {
    pub fn tpot_seconds(&self) -> f64 {
        self.iteration.iter().sum()
    }

    /// Without queueing for memory.
    pub fn ttft_seconds(&self) -> f64 {
        self.first_token.iter().sum()
    }
}

impl Roofline<'_> {
    /// Latencies of a closed loop.
    pub fn closed_loop(&self, measured: &ClosedLoop) -> Latency {
        let (load, room) = self.running(measured);
        let iteration = self.weighted(&self.ideal.iteration(&load));
        let [prompt, token, others, request] = self.constants.first_token(self.deployment.engine);
        let own: f64 = self.weighted(&self.ideal.prompt(load.input_tokens)).iter().sum();
        let in_group = if load.decode_only { 0.0 } else { load.batch / self.groups() };
        Latency {
            first_token: [prompt * own, token * iteration.iter().sum::<f64>(), others * in_group * own, request],
            iteration,
            kv_use: measured.concurrency / room,
            running: load.batch,
        }
    }

    /// Least time per output token that the data sheet allows: everything is read once at full bandwidth, with
    /// nothing else to do.
    pub fn floor_seconds(&self, measured: &ClosedLoop) -> f64 {
        let terms = self.ideal.iteration(&self.running(measured).0);
        [Term::Weights, Term::Experts, Term::Kv].iter().map(|t| terms[*t as usize]).sum()
    }

    /// What runs of the requests in flight, and how many could.
    fn running(&self, measured: &ClosedLoop) -> (Load, f64) {
        let ClosedLoop { concurrency, input_tokens, output_tokens, decode_only, most_running } = *measured;
        let load = Load { batch: concurrency, input_tokens, output_tokens, decode_only };
        let room = self.kv_tokens(load.context()) / load.context();
        let room = room.min(most_running.unwrap_or(f64::INFINITY));
        (Load { batch: concurrency.min(room.max(1.0)), ..load }, room)
    }

    fn groups(&self) -> f64 {
        f64::from(self.deployment.parallel.attention_data.max(1))
    }

    pub(super) fn weighted(&self, terms: &PerTerm) -> PerTerm {
        std::array::from_fn(|i| terms[i] * self.multipliers[i])
    }
}
