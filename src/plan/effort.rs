//! How much a decision may search: counted in units of work, so that a decision made under pressure replays
//! exactly, with a stop flag from outside.

use std::sync::atomic::{AtomicBool, Ordering};

/// How much search one solve may spend.
#[derive(Clone, Copy, Debug)]
pub struct Effort<'a> {
    /// Units of work. A unit is about a microsecond of one core of 2020; the daemon measures its own machine.
    /// The units used are reported: a solve with that number of units and no stop flag finds the same.
    pub units: u64,
    /// Set from outside: the search ends at its next step and the best plan so far is the answer.
    pub stop: Option<&'a AtomicBool>,
}

/// Units of a decision that has no time limit: a few seconds.
pub const DEFAULT_UNITS: u64 = 4_000_000;

impl Default for Effort<'_> {
    fn default() -> Self {
        Self { units: DEFAULT_UNITS, stop: None }
    }
}

/// Units spent so far.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    effort: Effort<'a>,
    used: u64,
    /// Once seen, a stop stays: the steps that follow must not depend on when the flag is read again.
    stopped: bool,
}

impl<'a> Meter<'a> {
    pub(super) fn new(effort: Effort<'a>) -> Self {
        Self { effort, used: 0, stopped: false }
    }

    pub(super) fn spend(&mut self, units: u64) {
        self.used = self.used.saturating_add(units);
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Whether the search must end now. Asked between steps only.
    pub(super) fn is_spent(&mut self) -> bool {
        let told = self.effort.stop.is_some_and(|flag| flag.load(Ordering::Relaxed));
        self.stopped = self.stopped || told || self.used >= self.effort.units;
        self.stopped
    }

    pub(super) fn was_stopped(&self) -> bool {
        self.stopped
    }
}
