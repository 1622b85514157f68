//! Who was served in time. Every request that arrived counts, finished or not.
//!
//! The rule: a request is *met* when it finished within all its targets (time to first token since its
//! arrival at the gateway and mean time per output token; a deadline class: the deadline). It is *missed*
//! when it finished late, failed, or is unfinished and can no longer be in time. A request that is
//! unfinished and still within its targets is *open*: neither, and shown apart.
//! Attainment = met / (met + missed); arrived = met + missed + open.

use std::collections::BTreeMap;

use serde::Serialize;

use super::engine::Completion;
use super::workload::Request;
use crate::policy::{Promise, SloClass};

/// Arrivals of one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MinuteLoad {
    pub requests: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// The fleet at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// Seconds since the start of the run.
    pub at_seconds: f64,
    /// One entry per pool of the policy, in its order.
    pub pools: Vec<PoolSnapshot>,
    /// One entry per class of the policy, in its order.
    pub classes: Vec<ClassSnapshot>,
    /// Requests at the gateway because their model has no ready replica.
    pub gateway_waiting: u64,
    /// Cost since the start of the run, in the policy's currency.
    pub cost: f64,
    /// Cost per hour of the replicas that are starting, ready or draining now.
    pub cost_per_hour: f64,
}

/// One pool at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PoolSnapshot {
    /// `namespace/name`.
    pub pool: String,
    /// Replicas asked for.
    pub spec: u32,
    pub ready: u32,
    pub starting: u32,
    /// Taken away, finishing their requests.
    pub draining: u32,
    /// Asked for, but there is no accelerator left.
    pub pending: u32,
    /// KV memory in use, 0..=1, mean over the ready replicas.
    pub kv_usage: f64,
    /// Requests in execution, draining replicas included.
    pub running: u64,
    /// Requests in the replicas' queues, draining replicas included.
    pub waiting: u64,
    /// How long the first of those has waited for its first token since it arrived, seconds; 0 when none waits.
    pub longest_wait_seconds: f64,
}

/// One class since the start of the run; see the module for the rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClassSnapshot {
    pub class: String,
    pub arrived: u64,
    pub met: u64,
    /// Finished outside its targets.
    pub late: u64,
    pub failed: u64,
    /// Unfinished, and too late already.
    pub overdue: u64,
    /// Unfinished, and still within its targets.
    pub open: u64,
    /// Share of the decided requests that were met, 0..=1; `None` before any.
    pub attainment: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    arrived: u64,
    met: u64,
    late: u64,
    failed: u64,
}

/// The books of a run.
#[derive(Debug)]
pub struct Ledger {
    classes: Vec<SloClass>,
    counts: Vec<Counts>,
    minutes: BTreeMap<(usize, usize), Vec<MinuteLoad>>,
}

impl Ledger {
    pub fn new(classes: &[SloClass]) -> Self {
        let counts = vec![Counts::default(); classes.len()];
        Self { classes: classes.to_vec(), counts, minutes: BTreeMap::new() }
    }

    pub fn arrived(&mut self, request: &Request) {
        if let Some(counts) = self.counts.get_mut(request.class) {
            counts.arrived += 1;
        }
        let minutes = self.minutes.entry((request.model, request.class)).or_default();
        let minute = (request.arrival_seconds / 60.0) as usize;
        if minutes.len() <= minute {
            minutes.resize(minute + 1, MinuteLoad::default());
        }
        let load = &mut minutes[minute];
        load.requests += 1;
        load.input_tokens += u64::from(request.input_tokens);
        load.output_tokens += u64::from(request.output_tokens);
    }

    pub fn finished(&mut self, completion: &Completion) {
        let class = completion.request.class;
        let (Some(counts), Some(class)) = (self.counts.get_mut(class), self.classes.get(class)) else { return };
        match completion.ttft_seconds {
            None => counts.failed += 1,
            Some(ttft) if is_met(&class.promise, completion, ttft) => counts.met += 1,
            Some(_) => counts.late += 1,
        }
    }

    /// The classes that the books are kept for.
    pub fn promises(&self) -> &[SloClass] {
        &self.classes
    }

    /// Arrivals by (model, class) and minute of the run.
    pub fn minutes(&self) -> &BTreeMap<(usize, usize), Vec<MinuteLoad>> {
        &self.minutes
    }

    /// Where every class stands, given the unfinished requests with the times of their first tokens.
    pub fn classes<'a>(
        &self,
        now_seconds: f64,
        unfinished: impl Iterator<Item = (&'a Request, Option<f64>)>,
    ) -> Vec<ClassSnapshot> {
        let entry = |(class, counts): (&SloClass, &Counts)| ClassSnapshot {
            class: class.name.clone(),
            arrived: counts.arrived,
            met: counts.met,
            late: counts.late,
            failed: counts.failed,
            ..ClassSnapshot::default()
        };
        let mut snapshots: Vec<ClassSnapshot> = self.classes.iter().zip(&self.counts).map(entry).collect();
        for (request, first_token) in unfinished {
            let Some(class) = self.classes.get(request.class) else { continue };
            let snapshot = &mut snapshots[request.class];
            if is_overdue(&class.promise, request, first_token, now_seconds) {
                snapshot.overdue += 1;
            } else {
                snapshot.open += 1;
            }
        }
        for s in &mut snapshots {
            let decided = s.met + s.late + s.failed + s.overdue;
            s.attainment = (decided > 0).then(|| s.met as f64 / decided as f64);
        }
        snapshots
    }
}

pub(super) fn is_met(promise: &Promise, completion: &Completion, ttft: f64) -> bool {
    match *promise {
        Promise::Latency { ttft_seconds, itl_seconds, .. } => {
            ttft <= ttft_seconds && completion.itl_seconds.is_none_or(|itl| itl <= itl_seconds)
        }
        Promise::Deadline { seconds } => completion.finish_seconds - completion.request.arrival_seconds <= seconds,
    }
}

/// True when an unfinished request cannot be met any more, even if it finished now.
pub(super) fn is_overdue(promise: &Promise, request: &Request, first_token: Option<f64>, now_seconds: f64) -> bool {
    match *promise {
        Promise::Latency { ttft_seconds, itl_seconds, .. } => {
            let gaps = f64::from(request.output_tokens.saturating_sub(1));
            let decoding_seconds = first_token.map_or(0.0, |first| now_seconds - first);
            first_token.unwrap_or(now_seconds) - request.arrival_seconds > ttft_seconds
                || (gaps > 0.0 && decoding_seconds / gaps > itl_seconds)
        }
        Promise::Deadline { seconds } => now_seconds - request.arrival_seconds > seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Promise = Promise::Latency { quantile: 0.99, ttft_seconds: 1.0, itl_seconds: 0.1 };

    fn ledger() -> Ledger {
        let class = |name: &str, promise| SloClass { name: name.into(), priority: 0, promise, may_wait: false };
        Ledger::new(&[class("interactive", LATENCY), class("batch", Promise::Deadline { seconds: 60.0 })])
    }

    fn request(class: usize, arrival_seconds: f64) -> Request {
        Request { id: 0, model: 0, class, priority: 0, arrival_seconds, input_tokens: 10, output_tokens: 11 }
    }

    fn finished(class: usize, ttft: Option<f64>, itl: Option<f64>, finish_seconds: f64) -> Completion {
        Completion {
            request: request(class, 0.0),
            finish_seconds,
            ttft_seconds: ttft,
            itl_seconds: itl,
            preemptions: 0,
            pool: None,
        }
    }

    #[test]
    fn both_targets_count_and_failures_are_missed() {
        let mut ledger = ledger();
        let cases = [
            finished(0, Some(1.0), Some(0.1), 2.0),
            finished(0, Some(0.5), None, 0.5),
            finished(0, Some(1.1), Some(0.05), 2.0),
            finished(0, Some(0.5), Some(0.11), 2.0),
            finished(0, None, None, 0.0),
            finished(1, Some(50.0), Some(1.0), 60.0),
            finished(1, Some(50.0), Some(1.0), 60.1),
        ];
        for case in cases {
            ledger.arrived(&case.request);
            ledger.finished(&case);
        }
        let classes = ledger.classes(100.0, std::iter::empty());
        let interactive = &classes[0];
        assert_eq!((interactive.arrived, interactive.met, interactive.late, interactive.failed), (5, 2, 2, 1));
        assert_eq!(interactive.attainment, Some(0.4));
        assert_eq!((classes[1].met, classes[1].late, classes[1].attainment), (1, 1, Some(0.5)));
    }

    #[test]
    fn an_unfinished_request_is_missed_as_soon_as_it_cannot_be_in_time() {
        let ledger = ledger();
        let state = |request: Request, first, now| {
            let classes = ledger.classes(now, std::iter::once((&request, first)));
            (classes[request.class].overdue, classes[request.class].open)
        };
        assert_eq!(state(request(0, 0.0), None, 1.0), (0, 1));
        assert_eq!(state(request(0, 0.0), None, 1.01), (1, 0));
        assert_eq!(state(request(0, 0.0), Some(1.01), 1.02), (1, 0));
        assert_eq!(state(request(0, 0.0), Some(0.5), 1.5), (0, 1), "ten gaps of 0.1 s end at 1.5 s");
        assert_eq!(state(request(0, 0.0), Some(0.5), 1.51), (1, 0));
        assert_eq!(state(request(1, 0.0), None, 60.0), (0, 1));
        assert_eq!(state(request(1, 0.0), Some(1.0), 60.1), (1, 0));
    }

    #[test]
    fn arrivals_are_kept_by_minute() {
        let mut ledger = ledger();
        for at in [0.0, 59.9, 60.0, 185.0] {
            ledger.arrived(&request(1, at));
        }
        let minutes: Vec<u64> = ledger.minutes()[&(0, 1)].iter().map(|m| m.requests).collect();
        assert_eq!(minutes, vec![2, 1, 0, 1]);
        assert_eq!(ledger.minutes()[&(0, 1)][0].input_tokens, 20);
    }
}
