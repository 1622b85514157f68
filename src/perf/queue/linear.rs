//! The first generation of the iteration model: every iteration carries an equal part of each request's prompt.
//!
//! Formulas: queue-analysis up to v0.6. Kept to read what was published with it; [`super::Service`] describes real
//! servers better.

use super::steady::Execution;
use crate::perf::{Parameters, Shape};

/// A replica that serves requests of one shape; experts and the price of a decoded token of its own are not part
/// of this generation.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    pub parameters: Parameters,
    pub shape: Shape,
}

impl Linear {
    /// Time of one iteration with `batch` requests, seconds.
    pub fn iteration_seconds(&self, batch: f64) -> f64 {
        let (p, l, k) = (&self.parameters, self.shape.input_tokens, self.shape.output_tokens);
        let each = p.beta_seconds_per_token * (l + k) / (k + 1.0) + p.gamma_seconds_per_token * (l + k / 2.0);
        p.alpha_seconds + batch * each
    }

    /// Time of one decode step of a request, seconds.
    pub fn decode_seconds(&self, batch: f64) -> f64 {
        let (p, l, k) = (&self.parameters, self.shape.input_tokens, self.shape.output_tokens);
        self.iteration_seconds(batch) + p.beta_seconds_per_token + p.gamma_seconds_per_token * (l + k / 2.0)
    }
}

impl Execution for Linear {
    fn residence_seconds(&self, batch: usize) -> f64 {
        self.prefill_seconds(batch as f64) + self.shape.output_tokens * self.decode_seconds(batch as f64)
    }

    fn prefill_seconds(&self, in_service: f64) -> f64 {
        let (p, l) = (&self.parameters, self.shape.input_tokens);
        if l <= 0.0 {
            return 0.0;
        }
        self.iteration_seconds(in_service) + (p.beta_seconds_per_token + p.gamma_seconds_per_token) * l
    }

    fn itl_seconds(&self, batch: usize) -> f64 {
        self.decode_seconds(batch as f64)
    }

    fn output_tokens(&self) -> f64 {
        self.shape.output_tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(alpha: f64, beta: f64, gamma: f64, l: f64, k: f64) -> Linear {
        Linear {
            parameters: Parameters::uniform(alpha, beta, gamma),
            shape: Shape { input_tokens: l, output_tokens: k },
        }
    }

    /// Published values: (alpha, beta, gamma), prompt, batch, result; in milliseconds there, the unit is free here.
    #[test]
    fn prefill_matches_the_published_values() {
        for (l, batch, wanted) in [(0.0, 1.0, 0.0), (1000.0, 1.0, 32.0), (2000.0, 8.0, 208.0), (500.0, 2.5, 29.25)] {
            let got = linear(10.0, 0.01, 0.001, l, 0.0).prefill_seconds(batch);
            assert!((got - wanted).abs() < 1e-9, "{got} against {wanted}");
        }
    }

    #[test]
    fn decode_matches_the_published_values() {
        for (batch, wanted) in [(1.0, 1.23), (4.0, 1.575), (8.0, 2.035), (2.5, 1.4025)] {
            let got = linear(1.0, 0.1, 0.01, 1.0, 1.0).decode_seconds(batch);
            assert!((got - wanted).abs() < 1e-9, "{got} against {wanted}");
        }
    }
}
