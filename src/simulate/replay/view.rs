//! What a scaling rule sees of the fleet: every server's counters, read at once and judged as a direct scrape
//! judges them. Owns the memory of the scrape; nothing of the fleet but its metrics gets through.

use std::sync::Arc;

use super::opponents::ReplicaSeen;
use crate::observe::snapshot::{Cumulative, ModelReading, PageReading, Snapshot};
use crate::observe::{Observation, Pages, ReplicaPage};
use crate::policy::Policy;
use crate::simulate::Fleet;
use crate::simulate::engine::Engine;
use crate::simulate::meters::{Meter, Tally};
use crate::simulate::pool::Phase;

/// One look.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    /// Unix time, seconds.
    pub at_seconds: f64,
    pub observation: Observation,
    /// By pool, ready replicas only.
    pub replicas: Vec<Vec<ReplicaSeen>>,
    /// Nothing could be read at all.
    pub is_blind: bool,
}

/// Reads the servers.
#[derive(Debug)]
pub(super) struct View {
    pages: Pages,
    /// Upper bounds of the histograms that are read.
    bounds: [Arc<[f64]>; 4],
}

/// Histograms that are read, in the order of [`View::bounds`].
const READ: [Meter; 4] = [Meter::Ttft, Meter::Tpot, Meter::Prompt, Meter::Generation];

impl View {
    pub fn new() -> Self {
        let upper = |meter: Meter| meter.bounds().iter().copied().chain([f64::MAX]).collect();
        Self { pages: Pages::default(), bounds: READ.map(upper) }
    }

    /// Look at the whole fleet; pods for which `is_silent` says so do not answer.
    pub fn look(&mut self, policy: &Policy, fleet: &mut Fleet, is_silent: impl Fn(u64) -> bool) -> Sight {
        fleet.catch_up();
        let at_seconds = fleet.unix_seconds();
        let start_seconds = at_seconds - fleet.now_seconds();
        let mut replicas = vec![vec![]; policy.pools.len()];
        let bounds = &self.bounds;
        let pages = fleet.all().map(|(pool, replica)| {
            let answers = replica.serving() && !is_silent(replica.id.0);
            if replica.phase == Phase::Ready && answers {
                let engine = &replica.engine;
                replicas[pool].push(ReplicaSeen {
                    id: replica.id.0,
                    running: engine.running() as f64,
                    waiting: engine.waiting() as f64,
                    kv_usage: engine.kv_usage(),
                    kv_tokens: engine.spec().kv_tokens as f64,
                });
            }
            let page = if answers {
                let mut snapshot = snapshot(&replica.engine, bounds);
                snapshot.at_seconds = at_seconds;
                snapshot.started_seconds = Some(start_seconds + replica.created_seconds);
                let model = ModelReading { model: String::new(), snapshot, refused: vec![] };
                Ok(PageReading { models: vec![model], ..PageReading::default() })
            } else {
                Err("connection refused".to_owned())
            };
            ReplicaPage { pool, pod: &replica.pod, page }
        });
        let observation = self.pages.look(policy, pages, at_seconds);
        Sight { at_seconds, observation, replicas, is_blind: false }
    }
}

fn snapshot(engine: &Engine, bounds: &[Arc<[f64]>; 4]) -> Snapshot {
    let meters = engine.meters();
    let [ttft, itl, input_tokens, output_tokens] =
        std::array::from_fn(|i| Some(cumulative(meters.tally(READ[i]), &bounds[i])));
    Snapshot {
        running: Some(engine.running() as f64),
        waiting: Some(engine.waiting() as f64),
        kv_usage: Some(engine.kv_usage()),
        kv_capacity_tokens: Some(engine.spec().kv_tokens as f64),
        completions: Some((meters.finished + meters.failed) as f64),
        prefix_hits: Some(meters.prefix_hits as f64),
        prefix_queries: Some(meters.prefix_queries as f64),
        ttft,
        itl,
        input_tokens,
        output_tokens,
        ..Snapshot::default()
    }
}

fn cumulative(tally: &Tally, upper: &Arc<[f64]>) -> Cumulative {
    let mut count = 0;
    let mut add = |n: &u64| {
        count += n;
        count as f64
    };
    Cumulative { upper: Arc::clone(upper), counts: tally.buckets().iter().map(&mut add).collect(), sum: tally.sum }
}
