//! Request lists: every request with its time and lengths, in one of two layouts.
//!
//! It owns what is known of such a list beside its rows: how coarse the clock was, and how much of the prompts had
//! been seen before.

use std::collections::HashSet;
use std::sync::Arc;

use super::table::Table;
use crate::simulate::trace::MAX_TOKENS;
use crate::simulate::{Trace, TraceError, TraceRow};

/// Tokens of one prefix block in lists with block hashes (Mooncake traces, FAST 2025).
const BLOCK_TOKENS: f64 = 512.0;
/// Latest time believed: a century, milliseconds.
const MAX_MILLISECONDS: f64 = 3.2e12;
/// A clock is coarse when no step of its time is shorter than this share of the usual step.
const EVEN_STEPS: f64 = 0.9;

/// A recorded list of requests.
#[derive(Clone, Debug)]
pub struct RequestTrace {
    trace: Arc<Trace>,
    quantum_seconds: f64,
    prefix_hit_share: Option<f64>,
}

impl RequestTrace {
    /// A list without prefix blocks; whether its clock was coarse is told from the times.
    pub fn new(trace: Arc<Trace>) -> Self {
        let quantum_seconds = quantum_seconds(trace.rows());
        Self { trace, quantum_seconds, prefix_hit_share: None }
    }

    pub fn trace(&self) -> &Arc<Trace> {
        &self.trace
    }

    /// Step of the clock that stamped the requests, seconds; 0 when it was fine. Requests are spread evenly over it
    /// when they are played.
    pub fn quantum_seconds(&self) -> f64 {
        self.quantum_seconds
    }

    /// Mean over the requests of the share of their prompt that lies in leading blocks seen in earlier requests,
    /// 0..=1: what an endless prefix cache would save. `None` when the list names no blocks.
    pub fn prefix_hit_share(&self) -> Option<f64> {
        self.prefix_hit_share
    }
}

/// `t_ms,input_tokens,output_tokens`, with or without `hash_ids`.
pub(super) fn in_milliseconds(mut table: Table<'_>) -> Result<RequestTrace, TraceError> {
    let has_blocks = table.columns().len() > 3;
    let mut rows: Vec<TraceRow> = vec![];
    let mut seen = HashSet::new();
    let mut hits = 0.0;
    let mut before = 0.0;
    while table.advance()? {
        let milliseconds = table.number(0, 0.0, MAX_MILLISECONDS)?;
        if milliseconds < before {
            return Err(
                table.refuse(format!("t_ms goes back from {before} to {milliseconds}, expected ascending times"))
            );
        }
        before = milliseconds;
        let input_tokens = table.whole(1, 1, MAX_TOKENS)?;
        let output_tokens = table.whole(2, 1, MAX_TOKENS)?;
        if has_blocks {
            hits += hit_share(&table, input_tokens, &mut seen)?;
        }
        rows.push(TraceRow { at_seconds: milliseconds / 1e3, input_tokens, output_tokens });
    }
    if rows.is_empty() {
        return Err(TraceError::Empty { file: table.file().to_owned() });
    }
    let prefix_hit_share = has_blocks.then(|| hits / rows.len() as f64);
    let trace = Arc::new(Trace::of_rows(table.file(), rows));
    Ok(RequestTrace { prefix_hit_share, ..RequestTrace::new(trace) })
}

/// Share of the prompt in leading blocks that were seen before; notes its blocks. A block depends on all that
/// precede it, so the first new one ends the match.
fn hit_share(table: &Table<'_>, input_tokens: u32, seen: &mut HashSet<u64>) -> Result<f64, TraceError> {
    let mut hit = 0.0;
    let mut is_matching = true;
    for id in table.text(3).split_whitespace() {
        let id = id.parse().map_err(|_| {
            table.refuse(format!("hash_ids holds `{id}`, expected whole numbers from 0 with spaces between them"))
        })?;
        is_matching &= !seen.insert(id);
        hit += if is_matching { BLOCK_TOKENS } else { 0.0 };
    }
    Ok((hit / f64::from(input_tokens)).min(1.0))
}

/// Step of a coarse clock: most requests share their stamp with another one and the stamps are evenly spaced.
fn quantum_seconds(rows: &[TraceRow]) -> f64 {
    let mut steps: Vec<f64> =
        rows.windows(2).map(|pair| pair[1].at_seconds - pair[0].at_seconds).filter(|&step| step > 0.0).collect();
    if steps.is_empty() || 2 * steps.len() >= rows.len() {
        return 0.0;
    }
    steps.sort_by(f64::total_cmp);
    let usual = steps[steps.len() / 2];
    if steps[0] >= EVEN_STEPS * usual { usual } else { 0.0 }
}
