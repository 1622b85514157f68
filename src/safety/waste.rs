//! What keeping more than is needed has cost.

use serde::{Deserialize, Serialize};

/// Longest time between two notes that counts, seconds: nothing is known of longer ones.
const LONGEST_SECONDS: f64 = 300.0;

/// Sum of what would have been saved since something cheaper began to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Waste {
    /// Currency.
    pub sum: f64,
    /// Unix time of the last note, seconds.
    pub at_seconds: f64,
}

impl Waste {
    /// Note what could be saved now, currency per hour. As soon as nothing could, the account is closed: what is kept
    /// was needed.
    pub fn add(&mut self, saved_per_hour: f64, now_seconds: f64) {
        let elapsed_seconds = now_seconds - self.at_seconds;
        let is_next = (0.0..=LONGEST_SECONDS).contains(&elapsed_seconds);
        self.at_seconds = now_seconds;
        if !(saved_per_hour.is_finite() && saved_per_hour > 0.0) {
            self.sum = 0.0;
        } else if is_next {
            self.sum += saved_per_hour * elapsed_seconds / 3600.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waste_adds_up_until_it_is_needed() {
        let mut waste = Waste::default();
        waste.add(6.0, 10_000.0);
        assert_eq!(waste.sum, 0.0, "nothing is known of the time before");
        waste.add(6.0, 10_060.0);
        waste.add(12.0, 10_120.0);
        assert!((waste.sum - 0.3).abs() < 1e-12, "{waste:?}");
        waste.add(12.0, 20_000.0);
        assert!((waste.sum - 0.3).abs() < 1e-12, "a gap counts nothing: {waste:?}");
        waste.add(0.0, 20_060.0);
        assert_eq!(waste.sum, 0.0);
        waste.add(f64::NAN, 20_120.0);
        assert_eq!(waste.sum, 0.0);
    }
}
