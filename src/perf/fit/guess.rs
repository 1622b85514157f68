//! First guesses from one or two points: where a fit begins, and all there is when nothing else was measured.

/// Parameters of the plainest model, milliseconds or seconds as given: `ITL = alpha + beta x batch`,
/// `TTFT = gamma + delta x prompt tokens x batch`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TwoLines {
    pub alpha: f64,
    pub beta: f64,
    pub gamma: f64,
    pub delta: f64,
}

/// Two points of one prompt length, at batch 1 and at `batch`: (TTFT, ITL) of each.
pub fn two_points(input_tokens: f64, batch: f64, one: (f64, f64), many: (f64, f64)) -> TwoLines {
    let steps = batch - 1.0;
    let beta = (many.1 - one.1) / steps;
    let delta = (many.0 - one.0) / (input_tokens * steps);
    TwoLines { alpha: one.1 - beta, beta, gamma: one.0 - delta * input_tokens, delta }
}

/// (alpha, beta, gamma) from one point without load, when nothing is known of gamma. It takes a tenth of the ITL for
/// the work of the tokens and puts what is left on gamma, which makes gamma far too large on a lightly loaded server.
pub fn plain(ttft: f64, itl: f64, input_tokens: f64, output_tokens: f64) -> (f64, f64, f64) {
    let alpha = 0.9 * itl;
    let both = (ttft - alpha) / input_tokens;
    let gamma = (itl - alpha - both) / (input_tokens + (output_tokens + 1.0) / 2.0 - 1.0);
    (alpha, both - gamma, gamma)
}

/// (alpha, beta, gamma) from one point without load and a gamma known from elsewhere.
pub fn anchored(ttft: f64, itl: f64, input_tokens: f64, output_tokens: f64, gamma: f64) -> (f64, f64, f64) {
    let half = (output_tokens + 1.0) / 2.0;
    let beta = (ttft - itl + gamma * half) / (input_tokens - 1.0);
    (itl - beta - gamma * (input_tokens + half), beta, gamma)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, wanted: f64) {
        assert!((got / wanted - 1.0).abs() < 1e-4, "{got} against {wanted}");
    }

    /// Values of llm-inferno/model-tuner for one lightly loaded replica.
    #[test]
    fn one_point_with_a_known_gamma() {
        let (alpha, beta, gamma) = anchored(80.48, 15.911, 1123.0, 487.0, 5e-5);
        close(alpha, 15.785);
        close(beta, 0.057559);
        close(gamma, 5e-5);
    }

    #[test]
    fn one_point_alone_makes_gamma_twenty_times_too_large() {
        let (alpha, _, gamma) = plain(80.48, 15.911, 1123.0, 487.0);
        close(alpha, 14.3199);
        close(gamma, 1.1217e-3);
    }

    /// The worked example of llm-d's tutorial on parameter estimation.
    #[test]
    fn two_points_of_the_plainest_model() {
        let lines = two_points(128.0, 64.0, (15.0, 7.0), (26.0, 8.7));
        assert!((lines.beta - 0.027).abs() < 5e-4 && (lines.alpha - 6.973).abs() < 5e-4, "{lines:?}");
        assert!((lines.delta - 0.001364).abs() < 5e-7 && (lines.gamma - 14.825).abs() < 5e-4, "{lines:?}");
    }
}
