//! One steady window of one pool, and what the model says of it.

use crate::perf::{Iteration, Limits, Parameters, Service, Shape};

/// Share of the time in which prompts are computed, beyond which the time to first token is mostly waiting and says
/// little about the server.
const MOST_PROMPT_LOAD: f64 = 0.4;

/// Means over a window in which load and replicas were steady.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Unix time of the window's end, seconds.
    pub at_seconds: f64,
    /// Requests per second of one replica.
    pub rate: f64,
    /// Requests that were seen, all replicas.
    pub requests: f64,
    /// Mean lengths of those, tokens.
    pub shape: Shape,
    /// Share of the prompt that the prefix cache spared, 0..1.
    pub prefix_hit_ratio: f64,
    pub limits: Limits,
    /// What the pool's figures were before any correction, and the same for requests of this shape: an estimate
    /// depends on it, and the attention of long prompts is part of `beta` here.
    pub usual: Parameters,
    pub here: Parameters,
    /// Mean time between output tokens, seconds.
    pub itl_seconds: f64,
    /// Mean time to first token, seconds; `None` where a queue makes it say nothing.
    pub ttft_seconds: Option<f64>,
}

impl Sample {
    /// True when every figure can be reckoned with.
    pub fn is_sound(&self) -> bool {
        let positive = [self.rate, self.requests, self.shape.output_tokens, self.itl_seconds];
        positive.iter().all(|v| v.is_finite() && *v > 0.0)
            && self.at_seconds.is_finite()
            && self.shape.input_tokens.is_finite()
            && self.shape.input_tokens >= 0.0
            && (0.0..1.0).contains(&self.prefix_hit_ratio)
            && self.ttft_seconds.is_none_or(|v| v.is_finite() && v > 0.0)
    }

    fn service(&self, parameters: &Parameters) -> Service {
        Service {
            parameters: self.here.changed_as(&self.usual, parameters),
            shape: Shape {
                input_tokens: (self.shape.input_tokens * (1.0 - self.prefix_hit_ratio)).max(1.0),
                output_tokens: self.shape.output_tokens.max(1.0),
            },
            token_budget: f64::from(self.limits.max_num_batched_tokens.max(1)),
        }
    }

    /// Requests in execution by Little's law, from what was seen alone; at most what the server takes.
    pub fn batch(&self, parameters: &Parameters) -> f64 {
        let service = self.service(parameters);
        let most = f64::from(self.limits.max_num_seqs.max(1));
        let mut chunks = 1.0;
        let mut batch = 0.0;
        // A larger batch may need more chunks, which make it larger; two rounds settle that.
        for _ in 0..2 {
            batch = (self.rate * (chunks + service.shape.output_tokens) * self.itl_seconds).min(most);
            chunks = service.chunks(batch.max(1.0), 1.0);
        }
        batch
    }

    /// What these parameters say of a request that arrives among the others: it sees their mean and itself.
    fn means(&self, parameters: &Parameters) -> Iteration {
        let service = self.service(parameters);
        let batch = (1.0 + self.batch(parameters)).min(f64::from(self.limits.max_num_seqs.max(1)));
        service.at(batch, service.chunks(batch, 1.0))
    }

    /// Predicted mean time between tokens, seconds.
    pub fn itl_of(&self, parameters: &Parameters) -> f64 {
        self.means(parameters).itl_seconds
    }

    /// Predicted mean time to first token, seconds; `None` where prompts queue for the server.
    pub fn ttft_of(&self, parameters: &Parameters) -> Option<f64> {
        let means = self.means(parameters);
        let own = self.service(parameters).prompt_work(means.chunks);
        let load = self.rate * own;
        let queue = own * load / (1.0 - load);
        let overhead = self.here.prompts.overhead_seconds;
        (load < MOST_PROMPT_LOAD).then_some(means.prefill_seconds + means.itl_seconds + queue + overhead)
    }
}
