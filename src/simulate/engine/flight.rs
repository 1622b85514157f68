//! Iterations that end together, and how long they take.

/// What is being computed: one iteration, or several that only decode.
#[derive(Debug)]
pub(super) struct Flight {
    pub start_seconds: f64,
    pub steps: u64,
    /// Time of the first iteration, and what each following one takes longer.
    pub first_seconds: f64,
    pub growth_seconds: f64,
    /// Tokens of each prompt computed in it; only in a single iteration.
    pub chunks: Vec<(u64, u64)>,
}

impl Flight {
    /// Time until the first `steps` iterations are over.
    pub fn span_seconds(&self, steps: u64) -> f64 {
        let steps = steps as f64;
        steps * self.first_seconds + self.growth_seconds * steps * (steps - 1.0) / 2.0
    }

    pub fn end_seconds(&self) -> f64 {
        self.start_seconds + self.span_seconds(self.steps)
    }

    /// Iterations that are over at `at_seconds`.
    pub fn steps_by(&self, at_seconds: f64) -> u64 {
        let span = at_seconds - self.start_seconds;
        if span < self.first_seconds {
            return 0;
        }
        // half growth x steps^2 + (first - half growth) x steps = span
        let (half, linear) = (self.growth_seconds / 2.0, self.first_seconds - self.growth_seconds / 2.0);
        let root = (linear * linear + 4.0 * half * span).max(0.0).sqrt();
        let mut steps = (2.0 * span / (linear + root)).floor().min(self.steps as f64).max(1.0) as u64;
        while steps > 0 && self.start_seconds + self.span_seconds(steps) > at_seconds {
            steps -= 1;
        }
        while steps < self.steps && self.start_seconds + self.span_seconds(steps + 1) <= at_seconds {
            steps += 1;
        }
        steps
    }
}
