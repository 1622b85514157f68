//! Latencies of one replica at any quantile of the requests, as formulas.
//!
//! A continuous-batching server in four steps: [`Stage`] says what an iteration and a request cost, `places` how many
//! requests are in execution and how often all places are taken, `cycle` how prompts wait for each other, and
//! [`Moments`] adds up what a request sees; [`Part`]s of gamma distributions turn means and variances into quantiles.
//! An iteration-by-iteration simulation of the same server judges the result (`benches/percentiles.rs`). The room knows
//! no targets, no evidence and no memory sizes.

mod cycle;
mod mixture;
mod moments;
mod places;
mod stage;
mod traffic;

pub use mixture::Part;
pub(super) use mixture::growing_skew;
pub use moments::{Moments, Quantiles};
pub(super) use stage::mean_answer_held;
pub use stage::{Room, Stage, Work};
pub use traffic::{Traffic, dispersion};
