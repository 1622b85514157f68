//! From snapshots of one instance to what happened in the window: increments that survive a restart of the server.
//!
//! Both sources use this arithmetic on the samples' own times, so that they agree: nothing is extrapolated to the
//! edges of the window. Pure.

use std::collections::VecDeque;

use super::Histogram;
use super::plausible::MAX_INCREASE;
use super::snapshot::{Cumulative, Snapshot};

/// How much older than the window its first sample may be, as a multiple of the window: beyond, the increment says
/// nothing of the window.
const OLDEST_BASE: f64 = 3.0;

/// Share of the window that samples are kept apart; closer ones are thinned out.
const THINNING: f64 = 1.0 / 16.0;

/// Uncertainty of a process's own start time, seconds.
const START_TOLERANCE_SECONDS: f64 = 1.0;

/// The time that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Unix time of the look.
    pub now_seconds: f64,
    pub length_seconds: f64,
    /// Unix time since when the source has watched at all; nothing earlier can be counted.
    pub origin_seconds: f64,
}

impl Window {
    /// Unix time of its beginning.
    pub fn start_seconds(&self) -> f64 {
        self.now_seconds - self.length_seconds
    }

    /// The part of the window that the source has watched.
    fn watched_from(&self) -> f64 {
        self.start_seconds().max(self.origin_seconds)
    }
}

/// What one instance counted in the window. Increments divided by `span_seconds` are rates that may be added over
/// the instances of a pool: an instance that came or went inside the window has the whole window as its span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Increments {
    /// Length of time the increments belong to, seconds; above 0.
    pub span_seconds: f64,
    /// Finished requests.
    pub completions: f64,
    /// Finished requests plus growth of the requests inside the server; `None` when the gauges are unknown.
    pub arrivals: Option<f64>,
    /// Some counter moved, or a request was inside the server.
    pub moved: bool,
    /// The server restarted in the window.
    pub restarted: bool,
    /// Sum of increments that no server can have, e.g. 1e308; the increments must then not be used.
    pub absurd: bool,
}

/// Increments of everything that is only used as a distribution or a ratio.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distributions {
    pub ttft: Option<Histogram>,
    pub itl: Option<Histogram>,
    pub input_tokens: Option<Histogram>,
    pub output_tokens: Option<Histogram>,
    pub prefix_hits: Option<f64>,
    pub prefix_queries: Option<f64>,
}

/// The recent snapshots of one instance, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    samples: VecDeque<Snapshot>,
    /// The counters stood at zero just before the first snapshot: the instance started while it was watched.
    born: bool,
}

impl Ring {
    /// A ring of an instance that began to serve between the last look and its first snapshot.
    pub fn newborn() -> Self {
        Self { samples: VecDeque::new(), born: true }
    }

    /// A ring with its snapshots in the order of their times.
    pub fn of(samples: impl IntoIterator<Item = Snapshot>, born: bool) -> Self {
        Self { samples: samples.into_iter().collect(), born }
    }

    pub fn last(&self) -> Option<&Snapshot> {
        self.samples.back()
    }

    pub fn first(&self) -> Option<&Snapshot> {
        self.samples.front()
    }

    pub fn len(&self) -> usize {
        self.samples.len()
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Add a snapshot; one that is not newer than the last is left out. Forgets what no window can need.
    pub fn push(&mut self, mut snapshot: Snapshot, window_seconds: f64) {
        if let Some(last) = self.samples.back() {
            if snapshot.at_seconds <= last.at_seconds {
                return;
            }
            snapshot.share_bounds(last);
        }
        let n = self.samples.len();
        if n >= 3 {
            let close = self.samples[n - 1].at_seconds - self.samples[n - 2].at_seconds < THINNING * window_seconds;
            // A sample beside a restart must stay, or the restart would be seen as a smaller increment.
            if close
                && !restarted(&self.samples[n - 2], &self.samples[n - 1])
                && !restarted(&self.samples[n - 1], &snapshot)
            {
                self.samples.pop_back();
            }
        }
        let now = snapshot.at_seconds;
        self.samples.push_back(snapshot);
        // One counted snapshot before the window is enough to count from; none is of use when it is too old.
        let useful = |s: &Snapshot| s.completions.is_some() && s.at_seconds <= now - window_seconds;
        let first = self.samples.iter().rposition(useful).unwrap_or(0);
        let too_old = self.samples.partition_point(|s| s.at_seconds < now - OLDEST_BASE * window_seconds);
        if first.max(too_old) > 0 {
            self.samples.drain(..first.max(too_old));
            self.born = false;
        }
    }

    /// Increments over the window; `None` as long as there is no pair of snapshots, or the older one is too old.
    /// `present`: the instance is alive, so that the last snapshot is its state now.
    pub fn increments(&self, window: &Window, present: bool) -> Option<Increments> {
        let newest = self.samples.back()?;
        if present && newest.completions.is_none() {
            return None;
        }
        let last = newest.at_seconds;
        let base = self.base(window, present)?;
        let from = match base {
            Base::Zero => f64::NEG_INFINITY,
            Base::At(time) => time,
        };
        let span_seconds = match base {
            Base::At(time) if present => last - time,
            Base::Zero if present => last - window.watched_from(),
            _ => window.now_seconds - window.watched_from(),
        };
        if span_seconds <= 0.0 {
            return None;
        }
        let mut walk = Walk::default();
        if base == Base::Zero {
            walk.completions = Some(0.0);
            walk.in_flight = Some(0.0);
        }
        for pair in self.pairs_from(from) {
            walk.step(pair.0, pair.1);
        }
        let known = newest.in_flight().is_some() || (!present && walk.in_flight.is_some());
        let arrivals = known.then_some(walk.counted + walk.growth);
        let absurd = walk.counted > MAX_INCREASE || arrivals.is_some_and(|a| a.abs() > MAX_INCREASE);
        Some(Increments {
            span_seconds,
            completions: walk.counted,
            arrivals,
            moved: walk.moved,
            restarted: walk.restarted,
            absurd,
        })
    }

    /// Increments of the histograms and of the prefix cache counters over the window.
    pub fn distributions(&self, window: &Window) -> Distributions {
        let from = match self.base(window, true) {
            Some(Base::At(time)) => time,
            Some(Base::Zero) => f64::NEG_INFINITY,
            None => return Distributions::default(),
        };
        let zero = from == f64::NEG_INFINITY;
        Distributions {
            ttft: self.histogram(from, zero, |s| s.ttft.as_ref()),
            itl: self.histogram(from, zero, |s| s.itl.as_ref()),
            input_tokens: self.histogram(from, zero, |s| s.input_tokens.as_ref()),
            output_tokens: self.histogram(from, zero, |s| s.output_tokens.as_ref()),
            prefix_hits: self.counter(from, zero, |s| s.prefix_hits),
            prefix_queries: self.counter(from, zero, |s| s.prefix_queries),
        }
    }

    /// Where the window begins for this instance: the counted snapshot nearest to its start. Of one that is present
    /// the newest cannot be it, so that a pair is found even when scrapes are as rare as the window is long.
    fn base(&self, window: &Window, present: bool) -> Option<Base> {
        let start = window.start_seconds();
        let counted = || self.samples.iter().filter(|s| s.completions.is_some()).map(|s| s.at_seconds);
        let first = counted().next()?;
        if self.born && first > start && self.samples[0].completions.is_some() {
            return Some(Base::Zero);
        }
        let candidates = counted().count() - usize::from(present);
        let nearest = counted().take(candidates).min_by(|a, b| (a - start).abs().total_cmp(&(b - start).abs()))?;
        (nearest >= window.now_seconds - OLDEST_BASE * window.length_seconds).then_some(Base::At(nearest))
    }

    /// Neighbouring snapshots from a time on; the first has no predecessor.
    fn pairs_from(&self, from: f64) -> impl Iterator<Item = (Option<&Snapshot>, &Snapshot)> {
        let tail = self.samples.iter().skip_while(move |s| s.at_seconds < from);
        tail.scan(None, |previous, snapshot| {
            let pair = (*previous, snapshot);
            *previous = Some(snapshot);
            Some(pair)
        })
    }

    fn histogram(&self, from: f64, zero: bool, of: impl Fn(&Snapshot) -> Option<&Cumulative>) -> Option<Histogram> {
        let mut total: Option<Histogram> = None;
        let mut previous: Option<(&Cumulative, &Snapshot)> = None;
        for (_, snapshot) in self.pairs_from(from) {
            let Some(current) = of(snapshot) else { continue };
            let increment = match previous {
                Some((before, at)) if !restarted(at, snapshot) => difference(before, current),
                // After a restart, or from the birth of the instance, everything counted is new.
                Some(_) => difference(&empty_like(current), current),
                None if zero => difference(&empty_like(current), current),
                None => {
                    previous = Some((current, snapshot));
                    continue;
                }
            };
            previous = Some((current, snapshot));
            total.get_or_insert_default().add(&increment);
        }
        total.filter(|h| h.count.is_finite() && h.count <= MAX_INCREASE && h.sum.is_finite())
    }

    fn counter(&self, from: f64, zero: bool, of: impl Fn(&Snapshot) -> Option<f64>) -> Option<f64> {
        let mut total: Option<f64> = None;
        let mut previous = zero.then_some(0.0);
        for (_, snapshot) in self.pairs_from(from) {
            let Some(current) = of(snapshot) else { continue };
            if let Some(before) = previous {
                *total.get_or_insert(0.0) += if current < before { current } else { current - before };
            }
            previous = Some(current);
        }
        total.filter(|t| t.is_finite())
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Base {
    /// The counters were zero at the beginning of the window: there was no such instance.
    Zero,
    /// Time of the snapshot that the increments are counted from.
    At(f64),
}

/// Adds increments up along the snapshots.
#[derive(Default)]
struct Walk {
    counted: f64,
    growth: f64,
    completions: Option<f64>,
    in_flight: Option<f64>,
    /// A restart was seen and the requests inside the server were not read since.
    emptied: bool,
    moved: bool,
    restarted: bool,
}

impl Walk {
    fn step(&mut self, previous: Option<&Snapshot>, current: &Snapshot) {
        if previous.is_some_and(|previous| restarted(previous, current)) {
            self.restarted = true;
            self.emptied = true;
            self.completions = self.completions.map(|_| 0.0);
        }
        if let Some(now) = current.completions {
            let before = match self.completions {
                Some(before) if now < before => {
                    self.restarted = true;
                    self.emptied = true;
                    0.0
                }
                Some(before) => before,
                None => now,
            };
            self.counted += now - before;
            self.moved |= now > before;
            self.completions = Some(now);
        }
        if let Some(now) = current.in_flight() {
            let before = if self.emptied { 0.0 } else { self.in_flight.unwrap_or(now) };
            self.growth += now - before;
            self.moved |= now > 0.0;
            self.in_flight = Some(now);
            self.emptied = false;
        }
    }
}

/// The server restarted between two snapshots: a counter went back, or the process says so.
fn restarted(before: &Snapshot, after: &Snapshot) -> bool {
    let back = |a: Option<f64>, b: Option<f64>| matches!((a, b), (Some(a), Some(b)) if b < a);
    let started =
        after.started_seconds.is_some_and(|t| t > before.at_seconds + START_TOLERANCE_SECONDS && t <= after.at_seconds);
    started
        || back(before.completions, after.completions)
        || back(before.ttft.as_ref().map(Cumulative::count), after.ttft.as_ref().map(Cumulative::count))
}

fn empty_like(histogram: &Cumulative) -> Cumulative {
    Cumulative {
        upper: histogram.upper.clone(),
        counts: vec![0.0; histogram.counts.len()].into_boxed_slice(),
        sum: 0.0,
    }
}

/// Increments between two states of one histogram; of `after` alone when the bounds changed or it went back.
fn difference(before: &Cumulative, after: &Cumulative) -> Histogram {
    if before.upper != after.upper || after.count() < before.count() {
        return difference(&empty_like(after), after);
    }
    let cumulative: Vec<f64> = after.counts.iter().zip(&before.counts).map(|(a, b)| (a - b).max(0.0)).collect();
    let count = cumulative.last().copied().unwrap_or(0.0);
    Histogram { upper: after.upper.to_vec(), cumulative, sum: (after.sum - before.sum).max(0.0), count }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: f64, completions: f64, in_flight: f64) -> Snapshot {
        Snapshot {
            at_seconds: time,
            completions: Some(completions),
            running: Some(in_flight),
            waiting: Some(0.0),
            ttft: Some(Cumulative {
                upper: [1.0, f64::MAX].into(),
                counts: Box::new([completions / 2.0, completions]),
                sum: completions,
            }),
            ..Snapshot::default()
        }
    }

    fn ring(samples: &[(f64, f64, f64)]) -> Ring {
        let mut ring = Ring::default();
        samples.iter().for_each(|&(t, c, f)| ring.push(at(t, c, f), 60.0));
        ring
    }

    fn window(now: f64) -> Window {
        Window { now_seconds: now, length_seconds: 60.0, origin_seconds: 0.0 }
    }

    #[test]
    fn arrivals_are_completions_and_growth() {
        let r = ring(&[(1000.0, 500.0, 10.0), (1030.0, 530.0, 20.0), (1060.0, 560.0, 40.0)]);
        let i = r.increments(&window(1060.0), true).unwrap();
        assert_eq!((i.span_seconds, i.completions, i.arrivals), (60.0, 60.0, Some(90.0)));
        assert!(i.moved && !i.restarted);
        let ttft = r.distributions(&window(1060.0)).ttft.unwrap();
        assert_eq!((ttft.count, ttft.cumulative, ttft.sum), (60.0, vec![30.0, 60.0], 60.0));
    }

    #[test]
    fn one_sample_has_no_rate() {
        let r = ring(&[(1000.0, 500.0, 10.0)]);
        assert_eq!(r.increments(&window(1000.0), true), None);
        assert_eq!(r.distributions(&window(1000.0)).ttft, None);
    }

    #[test]
    fn a_restart_counts_what_came_since_and_nothing_negative() {
        // 20 finished and 5 more inside until the crash; then 7 finished and 3 inside of the new process.
        let r = ring(&[(1000.0, 1000.0, 10.0), (1020.0, 1020.0, 15.0), (1040.0, 7.0, 3.0), (1060.0, 12.0, 2.0)]);
        let i = r.increments(&window(1060.0), true).unwrap();
        assert!(i.restarted);
        assert_eq!((i.completions, i.arrivals), (32.0, Some(20.0 + 5.0 + 7.0 + 3.0 + 5.0 - 1.0)));
        assert_eq!(r.distributions(&window(1060.0)).ttft.unwrap().count, 32.0);
    }

    #[test]
    fn a_restart_is_seen_by_the_start_time_even_when_the_counter_overtook() {
        let mut r = ring(&[(1000.0, 10.0, 0.0)]);
        let mut after = at(1060.0, 50.0, 0.0);
        after.started_seconds = Some(1030.0);
        r.push(after, 60.0);
        let i = r.increments(&window(1060.0), true).unwrap();
        assert_eq!((i.completions, i.restarted), (50.0, true));
        assert_eq!(r.distributions(&window(1060.0)).ttft.unwrap().count, 50.0);
    }

    #[test]
    fn who_was_born_in_the_window_counts_from_zero_over_the_whole_window() {
        let mut r = Ring::newborn();
        r.push(at(1050.0, 20.0, 2.0), 60.0);
        let i = r.increments(&window(1050.0), true).unwrap();
        assert_eq!((i.span_seconds, i.completions, i.arrivals), (60.0, 20.0, Some(22.0)));
        assert_eq!(r.distributions(&window(1050.0)).ttft.unwrap().count, 20.0);
        // A source that watches since 40 s cannot know of more.
        let young = Window { origin_seconds: 1010.0, ..window(1050.0) };
        assert_eq!(r.increments(&young, true).unwrap().span_seconds, 40.0);
        for t in [1080.0, 1110.0, 1140.0] {
            r.push(at(t, 20.0, 0.0), 60.0);
        }
        let i = r.increments(&window(1140.0), true).unwrap();
        assert_eq!((i.completions, i.moved), (0.0, false), "its birth is past");
    }

    #[test]
    fn who_is_gone_counts_until_its_samples_leave_the_window() {
        let r = ring(&[(1000.0, 100.0, 0.0), (1030.0, 130.0, 0.0)]);
        let i = r.increments(&window(1060.0), false).unwrap();
        assert_eq!((i.span_seconds, i.completions), (60.0, 30.0));
        let i = r.increments(&window(1085.0), false).unwrap();
        assert_eq!((i.span_seconds, i.completions), (60.0, 0.0));
    }

    #[test]
    fn scrapes_as_rare_as_the_window_still_give_rates() {
        let r = ring(&[(1000.0, 100.0, 0.0), (1060.0, 160.0, 0.0)]);
        for now in [1060.0, 1090.0, 1115.0] {
            let i = r.increments(&window(now), true).unwrap();
            assert_eq!((i.span_seconds, i.completions), (60.0, 60.0), "{now}");
            assert_eq!(r.distributions(&window(now)).ttft.unwrap().count, 60.0);
        }
    }

    #[test]
    fn a_sample_long_before_the_window_says_nothing() {
        let r = ring(&[(0.0, 100.0, 0.0), (1000.0, 5000.0, 0.0)]);
        assert_eq!(r.increments(&window(1000.0), true), None);
    }

    #[test]
    fn unknown_gauges_leave_arrivals_unknown() {
        let mut r = ring(&[(1000.0, 10.0, 1.0)]);
        let mut broken = at(1060.0, 20.0, 0.0);
        broken.waiting = Some(f64::NAN);
        r.push(broken, 60.0);
        let i = r.increments(&window(1060.0), true).unwrap();
        assert_eq!((i.completions, i.arrivals), (10.0, None));
    }

    #[test]
    fn the_ring_stays_small_and_covers_the_window() {
        let mut r = Ring::default();
        for i in 0..1000 {
            let t = f64::from(i);
            r.push(at(t, t, 0.0), 60.0);
            assert!(r.len() <= 20, "{}", r.len());
        }
        let i = r.increments(&window(999.0), true).unwrap();
        assert!((55.0..=65.0).contains(&i.span_seconds) && (i.completions - i.span_seconds).abs() < 1e-9, "{i:?}");
    }

    #[test]
    fn absurd_growth_is_marked() {
        let r = ring(&[(1000.0, 1.0, 0.0), (1060.0, 5e14, 0.0)]);
        assert!(r.increments(&window(1060.0), true).unwrap().absurd);
        assert_eq!(r.distributions(&window(1060.0)).ttft, None);
    }
}
