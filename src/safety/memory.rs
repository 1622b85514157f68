//! What was wanted and said of one pool before.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::perf::GivenLimits;

/// Wants kept at most, whatever the dwell: a day at one per 15 s would be 5,760.
const MOST_WANTS: usize = 6_000;

/// What a pool remembers between two decisions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolMemory {
    /// The number said last.
    pub published: Option<u32>,
    /// Unix time of that word, seconds; `None` in memories of older programs.
    #[serde(default)]
    pub said_at_seconds: Option<f64>,
    /// Whether the pool was in mode `act` then: a number that nobody followed is no base to hold.
    pub followed: bool,
    /// Whether anything of the pool was seen since the program started.
    pub seen: bool,
    /// (time, replicas wanted by the plan) over the dwell, oldest first.
    pub wants: VecDeque<(f64, u32)>,
    /// Since when wants are remembered without a gap.
    pub wants_since: Option<f64>,
    /// Since when more replicas are wanted than are ready, without another one having become ready.
    pub growing_since: Option<f64>,
    /// Replicas that were ready then.
    #[serde(default)]
    pub growing_from: u32,
    /// Replicas that were ready when those that were asked for on top of them did not come.
    #[serde(default)]
    pub withheld: Option<u32>,
    /// Latency level at which the plan operates it.
    pub tier: Option<usize>,
    /// KV-cache capacity of one replica as a server reported it, tokens.
    pub kv_tokens: Option<f64>,
    /// Limits that the servers were started with, as their pods show them.
    #[serde(default)]
    pub limits: GivenLimits,
    /// Share of prompt tokens found in the prefix cache, smoothed.
    pub prefix_hit_ratio: Option<f64>,
}

impl PoolMemory {
    /// Note that `wanted` replicas are asked for while `ready` are. Those that are missing count as withheld from when
    /// none has become ready for `patience_seconds` until one does.
    pub fn wait(&mut self, now_seconds: f64, wanted: u32, ready: u32, patience_seconds: f64) {
        if wanted <= ready || self.withheld.is_some_and(|had| ready > had) {
            self.withheld = None;
        }
        if wanted <= ready {
            self.growing_since = None;
            return;
        }
        if self.growing_since.is_none() || ready > self.growing_from {
            self.growing_since = Some(now_seconds);
        }
        self.growing_from = ready;
        let is_late = self.growing_since.is_some_and(|since| now_seconds - since > patience_seconds);
        if is_late {
            self.withheld = Some(self.withheld.map_or(ready, |had| had.min(ready)));
        }
    }

    /// Remember what the plan wanted; forgets what is older than the dwell.
    pub fn want(&mut self, now_seconds: f64, replicas: u32, dwell_seconds: f64) {
        self.wants_since.get_or_insert(now_seconds);
        while self.wants.front().is_some_and(|(t, _)| *t < now_seconds - dwell_seconds)
            || self.wants.len() >= MOST_WANTS
        {
            self.wants.pop_front();
        }
        self.wants.push_back((now_seconds, replicas));
    }

    /// A tick without a plan breaks the series: dwell starts again.
    pub fn interrupt(&mut self) {
        self.wants.clear();
        self.wants_since = None;
    }

    /// Forget what was said and wanted, but not what was learnt of the server: what runs is the base again.
    pub fn disown(&mut self) {
        self.published = None;
        self.growing_since = None;
        self.interrupt();
    }

    /// The most that was wanted over the dwell, `None` while the dwell is not yet over.
    pub fn most_wanted(&self, now_seconds: f64, dwell_seconds: f64) -> Option<u32> {
        let since = self.wants_since?;
        (now_seconds - since >= dwell_seconds).then(|| self.wants.iter().map(|(_, n)| *n).max()).flatten()
    }
}
