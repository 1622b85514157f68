//! What the checks came to, for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::authenticate::Proof;
use super::trust::TrustSource;

/// Counts since the start; every family has a fixed set of labels.
#[derive(Debug, Default)]
pub(super) struct Counters {
    front_proxy: AtomicU64,
    certificate: AtomicU64,
    token: AtomicU64,
    anonymous: AtomicU64,
    refused: AtomicU64,
    allowed: AtomicU64,
    forbidden: AtomicU64,
    failed: AtomicU64,
    throttled: AtomicU64,
    timed_out: AtomicU64,
}

/// What became of the question whether a request is allowed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    Allowed,
    Forbidden,
    /// The cluster gave no answer.
    Failed,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub fn identified(&self, proof: Proof) {
        add(match proof {
            Proof::FrontProxy => &self.front_proxy,
            Proof::Certificate => &self.certificate,
            Proof::Token => &self.token,
            Proof::None => &self.anonymous,
        });
    }

    pub fn refused(&self) {
        add(&self.refused);
    }

    pub fn decided(&self, access: Access) {
        add(match access {
            Access::Allowed => &self.allowed,
            Access::Forbidden => &self.forbidden,
            Access::Failed => &self.failed,
        });
    }

    pub fn throttled(&self) {
        add(&self.throttled);
    }

    pub fn timed_out(&self) {
        add(&self.timed_out);
    }
}

/// Reads the counters and the state of trust; cloning is cheap.
#[derive(Clone)]
pub struct AccessReport {
    pub(super) counters: Arc<Counters>,
    pub(super) trust: Arc<dyn TrustSource>,
    pub(super) in_flight: Arc<dyn Fn() -> usize + Send + Sync>,
}

/// The numbers of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve) struct AccessNumbers {
    /// By label `result`.
    pub authentications: [(&'static str, u64); 5],
    /// By label `result`.
    pub authorizations: [(&'static str, u64); 3],
    pub throttled: u64,
    pub timed_out: u64,
    pub in_flight: usize,
    pub trust_known: bool,
    pub trust_confirmed: bool,
    /// Any client certificate of the cluster would pass for its front proxy.
    pub front_proxy_unguarded: bool,
}

impl AccessReport {
    pub(in crate::serve) fn numbers(&self) -> AccessNumbers {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let trust = self.trust.current();
        AccessNumbers {
            authentications: [
                ("front-proxy", read(&counters.front_proxy)),
                ("certificate", read(&counters.certificate)),
                ("token", read(&counters.token)),
                ("anonymous", read(&counters.anonymous)),
                ("refused", read(&counters.refused)),
            ],
            authorizations: [
                ("allowed", read(&counters.allowed)),
                ("forbidden", read(&counters.forbidden)),
                ("failed", read(&counters.failed)),
            ],
            throttled: read(&counters.throttled),
            timed_out: read(&counters.timed_out),
            in_flight: (self.in_flight)(),
            trust_confirmed: trust.is_some() && self.trust.is_confirmed(),
            front_proxy_unguarded: trust.as_ref().is_some_and(|t| t.lets_clients_pose_as_front_proxy()),
            trust_known: trust.is_some(),
        }
    }
}
