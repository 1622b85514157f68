//! Time as a parameter: the daemon asks a clock, the demo and the tests set it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the Unix time.
pub trait Clock: Send + Sync + 'static {
    /// Seconds since 1970-01-01 UTC.
    fn now_seconds(&self) -> f64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_seconds(&self) -> f64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
    }
}

/// A clock that stands still until it is set.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    pub fn new(now_seconds: f64) -> Self {
        Self(AtomicU64::new(now_seconds.to_bits()))
    }

    pub fn set(&self, now_seconds: f64) {
        self.0.store(now_seconds.to_bits(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_seconds(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::SeqCst))
    }
}
