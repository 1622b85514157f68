//! How much a decision may search: counted in units of work, so that a decision made under pressure replays
//! exactly, with a stop flag from outside.

use std::sync::atomic::{AtomicBool, Ordering};

/// How much search one solve may spend.
#[derive(Clone, Copy, Debug)]
pub struct Effort<'a> {
    /// Units of work. A unit is a few microseconds of one core; the daemon measures its own machine.
    pub units: u64,
    /// Set from outside: the search ends at its next step and the best plan so far is the answer.
    pub stop: Option<&'a AtomicBool>,
    /// Units at which an earlier solve was told to stop (see [`Solution::stopped_at`](super::Solution)): this
    /// one ends at the same step and finds the same.
    pub stop_at: Option<u64>,
    /// Threads that price models at the same time; they change no answer.
    pub threads: usize,
}

/// Units of a decision that is given no time: some seconds for a large fleet, far more than a small one needs.
pub const DEFAULT_UNITS: u64 = 2_000_000;

impl Default for Effort<'_> {
    fn default() -> Self {
        Self { units: DEFAULT_UNITS, stop: None, stop_at: None, threads: 1 }
    }
}

/// Units spent so far.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    effort: Effort<'a>,
    used: u64,
    /// Once seen, a stop stays: the steps that follow must not depend on when the flag is read again.
    stopped: bool,
    /// Units at which the stop was seen.
    stopped_at: Option<u64>,
    /// Units at which the present phase ends.
    phase: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(effort: Effort<'a>) -> Self {
        Self { effort, used: 0, stopped: false, stopped_at: None, phase: u64::MAX }
    }

    pub(super) fn spend(&mut self, units: u64) {
        self.used = self.used.saturating_add(units);
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Whether the search must end now. Asked between steps only; the question itself is a unit of work, so that
    /// no two of them are at the same count.
    pub(super) fn is_spent(&mut self) -> bool {
        self.used += 1;
        if self.stopped_at.is_none() && self.is_told() {
            self.stopped_at = Some(self.used);
        }
        self.stopped = self.stopped || self.stopped_at.is_some() || self.used >= self.effort.units;
        self.stopped || self.used >= self.phase
    }

    fn is_told(&self) -> bool {
        let flag = self.effort.stop.is_some_and(|flag| flag.load(Ordering::Relaxed));
        flag || self.effort.stop_at.is_some_and(|at| self.used >= at)
    }

    pub(super) fn stopped_at(&self) -> Option<u64> {
        self.stopped_at
    }

    /// End the present phase when so many units are used in all.
    pub(super) fn until(&mut self, units: u64) {
        self.phase = units;
    }

    /// Do something with fewer units in all.
    fn with_most<T>(&mut self, units: u64, what: impl FnOnce(&mut Self) -> T) -> T {
        let (whole, stopped) = (self.effort.units, self.stopped);
        self.effort.units = units.min(whole);
        let answer = what(self);
        self.effort.units = whole;
        // What ended a part of the work for its own limit does not end the rest.
        self.stopped = stopped || self.stopped_at.is_some();
        answer
    }

    /// Do something with a share of the units that are left.
    pub(super) fn with_share<T>(&mut self, share: f64, what: impl FnOnce(&mut Self) -> T) -> T {
        let most = self.used.saturating_add((self.left() as f64 * share) as u64);
        self.with_most(most, what)
    }

    pub(super) fn left(&self) -> u64 {
        self.effort.units.saturating_sub(self.used)
    }

    pub(super) fn threads(&self) -> usize {
        self.effort.threads.max(1)
    }

    pub(super) fn was_stopped(&self) -> bool {
        self.stopped
    }
}
