//! Which accelerators meet a server's targets, and how many replicas its load takes on each.

use super::{Candidate, Target};
use crate::perf::{Chain, Linear, Means, Parameters, Shape, size};

/// What one replica of a model on an accelerator does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Performance {
    pub accelerator: usize,
    /// Accelerators of one replica.
    pub count: u32,
    /// Requests in execution at once when each has `at_tokens` tokens of answer.
    pub max_batch: u32,
    pub at_tokens: u32,
    /// Of the iteration time, milliseconds: fixed, per token, per token of context.
    pub alpha: f64,
    pub beta: f64,
    pub gamma: f64,
}

/// What a server is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    /// Requests per second.
    pub rate: f64,
    pub input_tokens: u32,
    pub output_tokens: u32,
    pub min_replicas: u32,
    /// The server's own batch, in place of that of the model's file.
    pub max_batch: Option<u32>,
}

/// Requests that may wait for one that is in execution.
const QUEUE_PER_PLACE: usize = 10;
/// Share of the stable rate at which a target of tokens per second is taken to be met.
const TOKENS_MARGIN: f64 = 0.9;
/// Replicas beyond which an accelerator is no candidate: its rate is next to nothing.
const MOST_REPLICAS: f64 = 1e6;

impl Performance {
    /// The candidate, if the targets can be met at all.
    pub(super) fn candidate(&self, load: &Load, target: &Target) -> Option<Candidate> {
        if self.alpha <= 0.0 && self.beta <= 0.0 && self.gamma <= 0.0 {
            return None;
        }
        let of_file = u64::from(self.max_batch) * u64::from(self.at_tokens) / u64::from(load.output_tokens.max(1));
        let batch = load.max_batch.unwrap_or(u32::try_from(of_file).unwrap_or(u32::MAX)).max(1);
        let blank = Candidate {
            accelerator: self.accelerator,
            count: self.count,
            batch,
            rate: f64::MAX,
            replicas: load.min_replicas,
            itl_seconds: None,
            ttft_seconds: None,
        };
        let wanted = target.rate(load);
        if wanted <= 0.0 {
            return Some(blank);
        }
        let execution = Linear {
            parameters: Parameters::uniform(self.alpha * 1e-3, self.beta * 1e-3, self.gamma * 1e-3),
            shape: Shape {
                input_tokens: f64::from(load.input_tokens),
                output_tokens: f64::from(load.output_tokens.max(1)),
            },
        };
        let chain = Chain::new(execution, batch);
        let queue = QUEUE_PER_PLACE * batch as usize;
        let sized = size(&chain, &target.means(), queue);
        let of_tokens = target.tokens_per_second.map_or(f64::INFINITY, |_| TOKENS_MARGIN * sized.max_rate);
        let rate = sized.rate.min(of_tokens);
        let replicas = (wanted / rate).ceil();
        if rate <= 0.0 || replicas > MOST_REPLICAS {
            return None;
        }
        // Checked to be small just now.
        let replicas = (replicas as u32).max(load.min_replicas).max(1);
        let means = chain.steady_state(wanted / f64::from(replicas), queue);
        let (itl, ttft) = (Some(means.itl_seconds), Some(means.ttft_seconds));
        Some(Candidate { rate, replicas, itl_seconds: itl, ttft_seconds: ttft, ..blank })
    }
}

impl Target {
    /// Requests per second that must be served: of the load, or what makes the promised tokens per second.
    pub(super) fn rate(&self, load: &Load) -> f64 {
        self.tokens_per_second.map_or(load.rate, |t| t / f64::from(load.output_tokens.max(1)))
    }

    fn means(&self) -> Means {
        Means {
            ttft_seconds: self.ttft_seconds.unwrap_or(f64::INFINITY),
            itl_seconds: self.itl_seconds.unwrap_or(f64::INFINITY),
        }
    }
}
