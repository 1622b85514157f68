//! What one replica can do, for the targets of rules that have to be told it.
//!
//! An operator finds these out by a load test with requests like his own; here they are asked of the performance model
//! for the mean lengths of the whole run, without reserve for figures that are wrong.

use super::{Setting, Truth};
use crate::perf::{Capacity, Replica, Shape, Target, Traffic, capacity};
use crate::policy::{Policy, Pool, Promise};

/// Lengths where neither the run nor the policy says any, tokens.
const FALLBACK: (f64, f64) = (1024.0, 256.0);

/// What one replica of the pool does for its model within the tightest latency promised, or at full throughput where
/// none is promised or none can be kept. The rate is above 0.
pub(super) fn of(setting: &Setting<'_>, pool: usize) -> Capacity {
    let (policy, pool) = (setting.policy, &setting.policy.pools[pool]);
    let shape = mean_shape(policy, setting.truth, pool.model);
    let replica = replica_for(pool, &shape);
    let within = |target: &Target| capacity(&replica, &shape, &Traffic::default(), target);
    let found = [within(&tightest(policy, pool.model)), within(&Target::THROUGHPUT)];
    // A request that fits nowhere: any number is as good, but none may be divided by.
    let last = Capacity { rate: 1.0, batch: 1.0, ..found[1] };
    found.into_iter().find(|c| c.rate > 0.0 && c.batch > 0.0).unwrap_or(last)
}

/// One replica of the pool as the policy describes it, for requests of this shape, all of its capacity in use.
pub(super) fn replica_for(pool: &Pool, shape: &Shape) -> Replica {
    let (parameters, kv_tokens) = match &pool.paper {
        Some(paper) => (paper.parameters(shape), paper.kv_tokens(shape)),
        None => (pool.parameters, pool.kv_tokens),
    };
    Replica { spread: 0.0, ..Replica::new(parameters, pool.limits, kv_tokens, pool.evidence) }
}

/// Mean lengths of a model's requests over the run; what the policy expects when there are none.
fn mean_shape(policy: &Policy, truth: &Truth, model: usize) -> Shape {
    let (mut rate, mut input, mut output) = (0.0, 0.0, 0.0);
    for demand in truth.minutes.iter().filter_map(|minute| minute.get(model)) {
        let of_minute: f64 = demand.classes.iter().map(|(_, rate)| rate).sum();
        for bucket in &demand.buckets {
            let part = of_minute * bucket.share;
            rate += part;
            input += part * bucket.shape.input_tokens;
            output += part * bucket.shape.output_tokens;
        }
    }
    if rate > 0.0 {
        return Shape { input_tokens: (input / rate).max(1.0), output_tokens: (output / rate).max(1.0) };
    }
    let (input_tokens, output_tokens) = policy.models[model].expected_shape.unwrap_or(FALLBACK);
    Shape { input_tokens, output_tokens }
}

/// The tightest of the latencies that the model's classes are promised.
fn tightest(policy: &Policy, model: usize) -> Target {
    let promised = policy.models[model].classes.iter().filter_map(|(class, _)| match policy.classes[*class].promise {
        Promise::Latency { quantile, ttft_seconds, itl_seconds } => {
            Some(Target { quantile, ttft_seconds, itl_seconds })
        }
        Promise::Deadline { .. } => None,
    });
    let order = |a: &Target, b: &Target| {
        a.itl_seconds.total_cmp(&b.itl_seconds).then(a.ttft_seconds.total_cmp(&b.ttft_seconds))
    };
    promised.min_by(order).unwrap_or(Target::THROUGHPUT)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, demand};
    use super::*;

    #[test]
    fn lengths_are_weighted_by_the_requests() {
        let room = Room::on(0).with_minutes(&[1.0, 3.0]);
        let mut truth = room.truth.clone();
        truth.minutes[0][0] = demand(1.0, 100.0, 40.0);
        truth.minutes[1][0] = demand(3.0, 500.0, 80.0);
        let shape = mean_shape(&room.policy, &truth, 0);
        assert_eq!((shape.input_tokens, shape.output_tokens), (400.0, 70.0));
        let none = mean_shape(&room.policy, &Truth::default(), 0);
        assert_eq!((none.input_tokens, none.output_tokens), FALLBACK);
    }

    /// Longer requests, fewer of them; the larger accelerator does more.
    #[test]
    fn a_replica_does_less_of_longer_requests() {
        let room = Room::on(0).with_minutes(&[1.0]);
        let short = of(&room.setting(0.0), 0);
        let (small, large) = (of(&room.setting(0.0), 0).rate, of(&room.setting(0.0), 1).rate);
        assert!(small > 0.0 && large > small, "{small} {large}");
        let mut longer = room.truth.clone();
        longer.minutes[0][0] = demand(1.0, 8000.0, 800.0);
        let long = of(&Setting { truth: &longer, ..room.setting(0.0) }, 0);
        assert!(long.rate < short.rate && long.rate > 0.0, "{long:?} {short:?}");
    }
}
