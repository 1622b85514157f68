//! Rules of other projects, written anew as opponents for benchmarks. Nothing here decides anything.
//!
//! Each rule answers with replicas only; to be fair they are priced with the best routing there is
//! ([`priced`](super::priced)). Rules that know no stock are held to it here.

mod greedy;
mod melange;

pub use greedy::{Choice, Claim, Given, greedy, of_servers, one_per_class, transition_value};
pub use melange::melange;

/// What a rule would run.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// By pool.
    pub replicas: Vec<u32>,
    /// Whether the rule's own program was solved to its end, where it has one.
    pub finished: bool,
}
