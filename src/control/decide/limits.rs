//! Limits of a pool's servers in a decision: who is believed, and what becomes of requests that are too long.

use std::borrow::Cow;

use crate::control::State;
use crate::demand::Bucket;
use crate::observe::{Finding, FindingKind};
use crate::perf::{Evidence, Limits, Shape};
use crate::policy::{Policy, Pool};
use crate::safety::PoolMemory;

/// Limits to plan with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Known {
    pub limits: Limits,
    /// Longest request, prompt and output, tokens.
    pub longest: Option<u32>,
    /// The servers' own arguments say what the policy does not.
    pub from_server: bool,
}

/// The operator's word, else the arguments of the pods, else a profile's, else the engine's own limits.
pub(super) fn limits_of(pool: &Pool, memory: Option<&PoolMemory>) -> Known {
    let mut seen = memory.map(|m| m.limits).unwrap_or_default();
    // Zeros come from no pod, but a memory may come from anywhere.
    for limit in [&mut seen.max_num_seqs, &mut seen.max_num_batched_tokens, &mut seen.max_model_len] {
        *limit = limit.filter(|limit| *limit > 0);
    }
    let given = pool.limits_given;
    let said = given.or(seen);
    let max_num_batched_tokens = said.max_num_batched_tokens.unwrap_or(pool.limits.max_num_batched_tokens);
    // Every sequence needs a token per iteration.
    let max_num_seqs = said.max_num_seqs.unwrap_or(pool.limits.max_num_seqs).min(max_num_batched_tokens);
    Known {
        limits: Limits { max_num_seqs, max_num_batched_tokens },
        longest: said.max_model_len.or(pool.max_model_len),
        from_server: (given.max_num_seqs.is_none() && seen.max_num_seqs.is_some())
            || (given.max_num_batched_tokens.is_none() && seen.max_num_batched_tokens.is_some()),
    }
}

/// Lengths as the servers let them be: they refuse a prompt that is too long, and end the output where the request
/// has become too long.
pub(super) fn clipped(buckets: &[Bucket], longest: Option<u32>) -> Cow<'_, [Bucket]> {
    let Some(longest) = longest.map(f64::from) else { return Cow::Borrowed(buckets) };
    if buckets.iter().all(|b| b.shape.input_tokens + b.shape.output_tokens <= longest) {
        return Cow::Borrowed(buckets);
    }
    let clip = |bucket: &Bucket| {
        let input_tokens = bucket.shape.input_tokens.min((longest - 1.0).max(1.0));
        let output_tokens = bucket.shape.output_tokens.min((longest - input_tokens).max(1.0));
        Bucket { shape: Shape { input_tokens, output_tokens }, ..bucket.clone() }
    };
    buckets.iter().map(clip).collect()
}

/// Pools whose memory does not hold one request of the greatest length. An estimate is not precise enough to say so.
pub(super) fn findings(policy: &Policy, state: &State) -> Vec<Finding> {
    let of_pool = |pool: &Pool| {
        let memory = state.pools.get(&pool.id());
        let given = || (pool.evidence >= Evidence::Curve).then_some(pool.kv_tokens);
        let held = memory.and_then(|m| m.kv_tokens).or_else(given)?;
        let longest = limits_of(pool, memory).longest.filter(|longest| f64::from(*longest) > held)?;
        let message = format!(
            "the KV memory of one server holds {held:.0} tokens, and a single request may have {longest}: the longest \
             requests fail; give the servers more memory or a smaller greatest length"
        );
        Some(Finding { kind: FindingKind::KvTooSmall, subject: pool.id(), message })
    };
    policy.pools.iter().filter_map(of_pool).collect()
}
