//! What a running server teaches about itself: bounded factors on the parameters of its pool.
//!
//! This room owns the correction of one pool's [`Parameters`](super::Parameters) by what its servers showed: three
//! factors (fixed time and experts, tokens, KV memory) as logarithms with their covariance, an extended Kalman
//! filter around what was believed before. It is told steady windows only; who finds them, and what a stale or
//! starting pool is, is not known here.
//!
//! Windows at one operating point cannot tell the three apart. Nothing has to notice that: directions that the
//! observations do not speak of keep the prior, in which the factors move together. A correction is bounded,
//! fades slowly when nothing is seen, and follows a slower server as readily as a faster one.

mod experience;
mod filter;
mod sample;

pub use experience::{Experience, Seen};
pub use filter::{Calibration, Drift, Factors, Outcome, Prior};
pub use sample::Sample;

#[cfg(test)]
mod tests;
