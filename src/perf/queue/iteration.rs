//! One engine iteration under continuous batching with chunked prefill, and what a request sees of it.
//!
//! Formulas: queue-analysis v0.7 (chunked prefill), `llm-inferno/queue-analysis:pkg/analyzer`.
//! Notation there: L input tokens, K decode steps, M token budget, B batch.

use crate::perf::{Parameters, Shape};

/// Chunks beyond which a prompt is not split further: far past anything an engine does.
const MOST_CHUNKS: f64 = 4096.0;

/// Means over one batch size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Iteration {
    /// Iterations a prompt needs at this batch.
    pub chunks: f64,
    /// Time of one iteration, seconds.
    pub iteration_seconds: f64,
    /// Time from the first to the last prefill iteration of a request, seconds.
    pub prefill_seconds: f64,
    /// Time between two output tokens of a request, seconds.
    pub itl_seconds: f64,
    /// Time a request spends in execution, seconds.
    pub residence_seconds: f64,
}

/// A replica that serves requests of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    pub parameters: Parameters,
    /// Input length is what must be computed: prefix-cache hits are already taken off.
    pub shape: Shape,
    /// Token budget of one iteration.
    pub token_budget: f64,
}

impl Service {
    /// Smallest number of chunks with which `batch` requests fit the token budget.
    ///
    /// `from` is a number of chunks known to be too small or just right for a smaller batch; the result
    /// never falls below it, so that a caller that walks up the batch sizes does linear work.
    pub fn chunks(&self, batch: f64, from: f64) -> f64 {
        let (l, k, m) = (self.shape.input_tokens, self.shape.output_tokens, self.token_budget);
        if l <= 0.0 {
            return 1.0;
        }
        let mut chunks = from.max(1.0);
        loop {
            let room = ((chunks + k) * (m - l / chunks) / (l + k)).max(0.0).floor();
            if room >= batch || chunks >= l || chunks >= MOST_CHUNKS {
                return chunks;
            }
            chunks += 1.0;
        }
    }

    /// Computation of one request's prompt alone, seconds.
    pub fn prompt_work(&self, chunks: f64) -> f64 {
        let p = &self.parameters;
        (p.beta_seconds_per_token + p.gamma_seconds_per_token * (chunks + 1.0) / 2.0) * self.shape.input_tokens
    }

    /// Share of one request in an iteration, seconds; experts are not in it.
    fn delta(&self, chunks: f64) -> f64 {
        let p = &self.parameters;
        let (l, k) = (self.shape.input_tokens, self.shape.output_tokens);
        let decode = p.decode_seconds_per_token * k + p.gamma_seconds_per_token * k * (l + (k + 1.0) / 2.0);
        (self.prompt_work(chunks) + decode) / (chunks + k)
    }

    /// Time of an iteration with `batch` requests, each at a random place of its way, seconds.
    fn mixed(&self, batch: f64, chunks: f64, delta: f64) -> f64 {
        let (l, k) = (self.shape.input_tokens, self.shape.output_tokens);
        let tokens = batch * (l + k) / (chunks + k);
        self.parameters.alpha_seconds + batch * delta + self.parameters.experts.seconds(tokens)
    }

    /// Means at `batch` requests in execution, the tagged one included; `chunks` as [`Service::chunks`]
    /// gives it for this batch.
    pub fn at(&self, batch: f64, chunks: f64) -> Iteration {
        let p = &self.parameters;
        let (l, k) = (self.shape.input_tokens, self.shape.output_tokens);
        let delta = self.delta(chunks);
        let iteration = self.mixed(batch, chunks, delta);
        let others = self.mixed(batch - 1.0, chunks, delta).max(0.0);
        // What the tagged request adds to the experts that the others read already.
        let own = |tokens: f64| {
            let before = (batch - 1.0) * (l + k) / (chunks + k);
            p.experts.seconds(before + tokens) - p.experts.seconds(before)
        };
        let prefill = if l <= 0.0 { 0.0 } else { chunks * (others + own(l / chunks)) + self.prompt_work(chunks) };
        Iteration {
            chunks,
            iteration_seconds: iteration,
            prefill_seconds: prefill,
            itl_seconds: others
                + own(1.0)
                + p.decode_seconds_per_token
                + p.gamma_seconds_per_token * (l + (k + 1.0) / 2.0),
            residence_seconds: (chunks + k) * iteration,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(alpha: f64, beta: f64, gamma: f64, l: f64, k: f64) -> Service {
        Service {
            parameters: Parameters::uniform(alpha / 1e3, beta / 1e3, gamma / 1e3),
            shape: Shape { input_tokens: l, output_tokens: k },
            token_budget: 8192.0,
        }
    }

    fn close(got: f64, wanted_ms: f64) {
        assert!((got * 1e3 / wanted_ms - 1.0).abs() < 1e-5, "{} against {wanted_ms}", got * 1e3);
    }

    /// Golden primitives of queue-analysis: (alpha, beta, gamma, L, K, B) in milliseconds and tokens, then
    /// iteration, prefill, ITL, residence, chunks.
    #[test]
    fn primitives_match_the_published_ones() {
        let vectors = [
            ((8.0, 0.033, 0.000333, 256.0, 1024.0, 1.0), (8.296954, 16.533249, 8.288911, 8504.378, 1.0)),
            ((8.0, 0.033, 0.000333, 256.0, 1024.0, 40.0), (19.878149, 28.114445, 19.870108, 20375.104, 1.0)),
            ((8.0, 0.033, 0.000333, 256.0, 1024.0, 80.0), (31.756298, 39.99259, 31.748257, 32550.205, 1.0)),
            ((16.0, 0.067, 0.000667, 256.0, 1024.0, 128.0), (92.278305, 109.005135, 92.26197, 94585.266, 1.0)),
            ((4.0, 0.017, 0.000167, 64.0, 128.0, 200.0), (13.335666, 14.387675, 13.327447, 1720.3009, 1.0)),
            ((8.0, 0.033, 0.000333, 1024.0, 256.0, 50.0), (35.3987, 68.98372, 35.26751, 9097.466, 1.0)),
            ((8.0, 0.033, 0.000333, 4096.0, 64.0, 128.0), (423.95038, 3085.5293, 422.10855, 30100.477, 7.0)),
            ((8.0, 0.033, 0.000333, 4096.0, 64.0, 200.0), (498.38052, 19503.664, 497.3364, 51333.195, 39.0)),
        ];
        for ((alpha, beta, gamma, l, k, b), (iteration, prefill, itl, residence, chunks)) in vectors {
            let s = service(alpha, beta, gamma, l, k);
            let c = s.chunks(b, 1.0);
            assert_eq!(c, chunks);
            let at = s.at(b, c);
            close(at.iteration_seconds, iteration);
            close(at.prefill_seconds, prefill);
            close(at.itl_seconds, itl);
            close(at.residence_seconds, residence);
        }
    }
}
