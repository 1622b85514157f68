//! Metrics pages that were read, judged: what a direct scrape and a simulated fleet have in common.
//!
//! Owns the memory of every instance between two looks. No network: pages come in, an observation goes out.

use std::collections::BTreeMap;

use super::cluster::ClusterState;
use super::discovery::{Listing, Target};
use super::fleet::Fleet;
use super::reading::{INSTANCE_LABEL, Meta, POD_LABEL};
use super::snapshot::PageReading;
use super::{Observation, assemble};
use crate::policy::{NAMESPACE_LABEL, Policy};

/// What is remembered of all instances.
#[derive(Debug, Default)]
pub struct Pages {
    fleet: Fleet,
}

/// A replica of a pool, and its page or why there is none.
#[derive(Debug)]
pub struct ReplicaPage<'a> {
    /// Index of the pool.
    pub pool: usize,
    pub pod: &'a str,
    pub page: Result<PageReading, String>,
}

impl Pages {
    /// Judge a look at everything that is listed. Every target of the listing must have its answer.
    pub(super) fn judge(
        &mut self,
        policy: &Policy,
        listing: Listing,
        answers: Vec<(Target, Result<PageReading, String>)>,
        cluster: Option<ClusterState>,
        now_seconds: f64,
    ) -> Observation {
        let Listing { complete, partial, error, mut findings, .. } = listing;
        let readings = self.fleet.look(answers, policy.planner.window_seconds, now_seconds, &mut findings);
        let meta = Meta {
            source_error: error,
            findings,
            listing_complete: complete,
            partial,
            replicas: BTreeMap::new(),
            at_zero: self.fleet.at_zero().clone(),
            cluster,
        };
        let observation = assemble(policy, readings, meta, now_seconds);
        self.fleet.remember(&observation);
        observation
    }

    /// Judge the pages of all replicas that exist; a pool of which none is given has none.
    pub fn look<'a>(
        &mut self,
        policy: &Policy,
        replicas: impl IntoIterator<Item = ReplicaPage<'a>>,
        now_seconds: f64,
    ) -> Observation {
        let answers = replicas
            .into_iter()
            .map(|ReplicaPage { pool, pod, page }| {
                let namespace = policy.pools[pool].namespace.as_str();
                let labels = [(NAMESPACE_LABEL, namespace), (POD_LABEL, pod), (INSTANCE_LABEL, pod)];
                let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
                (Target { url: format!("{namespace}/{pod}"), labels, pool: Some(pool) }, page)
            })
            .collect();
        let listing = Listing { complete: true, ..Listing::default() };
        self.judge(policy, listing, answers, None, now_seconds)
    }
}
