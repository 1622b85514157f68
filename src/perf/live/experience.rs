//! How much more than its figures say a replica may be given, because so few of its requests were late.
//!
//! A capacity is computed so that a class's percentile holds at that very load, while a promise is about all requests,
//! most of which come at less; and figures err to the safe side. What is left of the promise's error budget (the share
//! of requests that the percentile lets be late) is known from life only. Two things are counted: the share of late
//! requests at each load of a replica, and how the load of a replica spreads about the one that was planned for, which
//! is what forecasts, whole replicas and starts make of a plan. Both together say how many would be late if replicas
//! were planned to be given more; as long as that stays within a stated part of the budget they are, in small steps.
//! Loads that were never seen count as if everybody were late, so that nothing is risked at once. The factor never
//! falls below what the figures say: whether these are right is the calibration's to find out.
//!
//! This room owns that factor of one pool. It is told what was seen; it knows neither plans nor the clock.

use serde::{Deserialize, Serialize};

use crate::perf::Target;

/// Most that a replica is given over what its figures say.
const MOST: f64 = 2.0;
/// Width of a bin of loads, as a part of what the figures allow, and bins.
const WIDTH: f64 = 0.04;
const BINS: usize = 75;
/// Windows after which what was seen counts 1/e.
const MEMORY_WINDOWS: f64 = 1440.0;
/// Windows that make a load known.
const KNOWN_WINDOWS: f64 = 1.5;
/// Windows between two steps, and the steps.
const STEP_WINDOWS: u32 = 5;
const UP: f64 = 1.01;
const DOWN: f64 = 0.97;
/// Windows before the first step.
const LEAST_WINDOWS: f64 = 60.0;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Experience {
    /// What the load was planned within; `None` before the first plan and where nothing is promised.
    promise: Option<Promise>,
    /// Rate that the figures allow one replica, as last planned, requests per second.
    carried: f64,
    /// Load over `carried` that is allowed.
    stretch: f64,
    /// By load over `carried`.
    loads: Vec<Bin>,
    /// Requests by load over the planned one.
    spread: Vec<f64>,
    /// Weight of the windows seen.
    windows: f64,
    /// Windows since the last step.
    since_step: u32,
    /// Load of the window before, over `carried`: its queue is the next one's too.
    before: f64,
    /// Unix time of the last window, seconds.
    at_seconds: f64,
}

/// What was seen at about one load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bin {
    windows: f64,
    requests: f64,
    late: f64,
}

/// A [`Target`] that JSON can hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Promise {
    quantile: f64,
    ttft_seconds: Option<f64>,
    itl_seconds: Option<f64>,
}

impl Promise {
    fn of(target: &Target) -> Option<Self> {
        let finite = |seconds: f64| seconds.is_finite().then_some(seconds);
        let (ttft_seconds, itl_seconds) = (finite(target.ttft_seconds), finite(target.itl_seconds));
        (ttft_seconds.is_some() || itl_seconds.is_some()).then_some(Self {
            quantile: target.quantile,
            ttft_seconds,
            itl_seconds,
        })
    }

    /// Whether what keeps this promise keeps the other one too.
    fn covers(&self, other: &Self) -> bool {
        let tighter = |own: Option<f64>, other: Option<f64>| own.unwrap_or(f64::MAX) <= other.unwrap_or(f64::MAX);
        self.quantile >= other.quantile
            && tighter(self.ttft_seconds, other.ttft_seconds)
            && tighter(self.itl_seconds, other.itl_seconds)
    }
}

/// What a pool saw within a window.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Unix time at the end of the window, and its length, seconds.
    pub at_seconds: f64,
    pub window_seconds: f64,
    /// Requests per second that came to each replica.
    pub rate: f64,
    /// Requests that were answered, all replicas together, and the share of them that was late, 0..1.
    pub requests: f64,
    pub late: f64,
}

impl Default for Experience {
    fn default() -> Self {
        Self {
            promise: None,
            carried: 0.0,
            stretch: 1.0,
            loads: vec![],
            spread: vec![],
            windows: 0.0,
            since_step: 0,
            before: 0.0,
            at_seconds: f64::MIN,
        }
    }
}

impl Experience {
    /// Factor on the capacity within `target`, 1..=2: 1 where a looser promise was kept so far.
    pub fn stretch(&self, target: &Target) -> f64 {
        let covers = self.promise.zip(Promise::of(target)).is_some_and(|(own, asked)| own.covers(&asked));
        if covers { self.factor() } else { 1.0 }
    }

    /// Factor on the capacity where the pool runs now.
    pub fn factor(&self) -> f64 {
        self.stretch.clamp(1.0, MOST)
    }

    /// The next windows are planned within `target`, with `capacity` requests per second for a replica, this factor
    /// included.
    pub fn plan(&mut self, target: &Target, capacity: f64) {
        let promise = Promise::of(target);
        let stretch = self.stretch(target);
        self.carried = capacity / stretch;
        if promise != self.promise {
            *self = Self { promise, stretch, carried: self.carried, at_seconds: self.at_seconds, ..Self::default() };
        }
    }

    /// Targets of the time to first token and between tokens within which the load is planned, seconds; `None` where
    /// nothing is to be learnt.
    pub fn targets(&self) -> Option<(Option<f64>, Option<f64>)> {
        self.promise.map(|promise| (promise.ttft_seconds, promise.itl_seconds))
    }

    /// Learn from a window; `aim` is the part of the error budget that may be used, 0..1.
    pub fn observe(&mut self, seen: &Seen, aim: f64) {
        let Some(promise) = self.promise else { return };
        if aim <= 0.0 {
            self.stretch = 1.0;
            return;
        }
        // Windows that overlap would count the same requests twice.
        if seen.at_seconds < self.at_seconds + seen.window_seconds || self.carried <= 0.0 {
            return;
        }
        let known = [seen.rate, seen.requests, seen.late].iter().all(|v| v.is_finite() && *v >= 0.0);
        if !known {
            return;
        }
        self.at_seconds = seen.at_seconds;
        self.count(seen.rate / self.carried, seen.requests, seen.late.min(1.0) * seen.requests);
        self.since_step += 1;
        if self.since_step >= STEP_WINDOWS && self.windows >= LEAST_WINDOWS {
            self.since_step = 0;
            self.step(aim.min(1.0) * (1.0 - promise.quantile).max(1e-6));
        }
    }

    fn count(&mut self, load: f64, requests: f64, late: f64) {
        self.loads.resize(BINS, Bin::default());
        self.spread.resize(BINS, 0.0);
        let keep = (-1.0 / MEMORY_WINDOWS).exp();
        for bin in &mut self.loads {
            *bin = Bin { windows: keep * bin.windows, requests: keep * bin.requests, late: keep * bin.late };
        }
        self.spread.iter_mut().for_each(|weight| *weight *= keep);
        self.windows = keep * self.windows + 1.0;
        let bin = |load: f64| ((load / WIDTH) as usize).min(BINS - 1);
        // What waits since the window before is late by that one's load.
        let seen = &mut self.loads[bin(load.max(self.before))];
        *seen = Bin { windows: seen.windows + 1.0, requests: seen.requests + requests, late: seen.late + late };
        let of_planned = bin(load / self.factor());
        self.spread[of_planned] += requests;
        self.before = load;
    }

    fn step(&mut self, allowed: f64) {
        let curve = self.curve();
        if self.expected(&curve, UP * self.stretch) <= allowed {
            self.stretch *= UP;
        } else if self.expected(&curve, self.stretch) > allowed {
            self.stretch *= DOWN;
        }
        self.stretch = self.factor();
    }

    /// Share of late requests by load, never less for a higher one: neighbours that contradict each other are taken
    /// together (pool adjacent violators, Ayer et al. 1955).
    fn curve(&self) -> Vec<f64> {
        let mut blocks: Vec<(Bin, usize)> = vec![];
        let highest = self.loads.iter().rposition(|bin| bin.windows >= KNOWN_WINDOWS).map_or(0, |at| at + 1);
        let share = |bin: &Bin| if bin.requests > 0.0 { bin.late / bin.requests } else { 0.0 };
        for bin in &self.loads[..highest] {
            blocks.push((*bin, 1));
            while let [.., (low, low_bins), (high, high_bins)] = blocks.as_slice()
                && share(low) >= share(high)
            {
                let both = Bin {
                    windows: low.windows + high.windows,
                    requests: low.requests + high.requests,
                    late: low.late + high.late,
                };
                let bins = low_bins + high_bins;
                blocks.truncate(blocks.len() - 2);
                blocks.push((both, bins));
            }
        }
        let mut curve: Vec<f64> =
            blocks.iter().flat_map(|(bin, bins)| std::iter::repeat_n(share(bin), *bins)).collect();
        // One bin further is tried; beyond, everybody counts as late.
        curve.push(curve.last().copied().unwrap_or(0.0));
        curve
    }

    /// Share of late requests if replicas were planned to be given `stretch` times what the figures say.
    fn expected(&self, curve: &[f64], stretch: f64) -> f64 {
        let total: f64 = self.spread.iter().sum();
        let late = |(bin, weight): (usize, &f64)| {
            let load = (bin as f64 + 0.5) * WIDTH * stretch / WIDTH - 0.5;
            // Between the middles of two bins the share is taken to grow evenly.
            let (low, part) = (load.max(0.0).floor() as usize, load.max(0.0).fract());
            let at = |bin: usize| curve.get(bin).copied().unwrap_or(1.0);
            weight * (at(low) + part * (at(low + 1) - at(low)))
        };
        self.spread.iter().enumerate().filter(|(_, w)| **w > 0.0).map(late).sum::<f64>() / total.max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target { quantile: 0.99, ttft_seconds: 2.0, itl_seconds: 0.08 };
    /// Loads over the planned one that follow each other.
    const USUAL: [f64; 6] = [0.6, 0.8, 0.9, 0.95, 0.85, 0.7];

    /// Plays minutes at `loads` times what is planned, of which `late` of the load over what the figures say are late.
    fn play(e: &mut Experience, minutes: usize, loads: &[f64], late: impl Fn(f64) -> f64) {
        for minute in 0..minutes {
            e.plan(&TARGET, 10.0 * e.factor());
            let rate = loads[minute % loads.len()] * 10.0 * e.factor();
            let at_seconds = if e.at_seconds < 0.0 { 60.0 } else { e.at_seconds + 60.0 };
            let late = late(rate / 10.0);
            e.observe(&Seen { at_seconds, window_seconds: 60.0, rate, requests: 3000.0, late }, 0.25);
        }
    }

    #[test]
    fn a_replica_is_given_more_until_the_aim_is_reached() {
        let mut e = Experience::default();
        play(&mut e, 5000, &USUAL, |load| if load < 1.3 { 0.0 } else { 0.5 });
        // The highest load is 0.95 of the planned one.
        assert!((1.26..=1.38).contains(&e.factor()), "{}", e.factor());
        let mut e = Experience::default();
        play(&mut e, 5000, &USUAL, |_| 0.0);
        assert_eq!(e.factor(), MOST);
        play(&mut e, 5000, &USUAL, |_| 0.01);
        assert_eq!(e.factor(), 1.0, "more than the aim at every load: never below the figures");
    }

    #[test]
    fn what_forecasts_miss_counts() {
        let mut e = Experience::default();
        let jumps = [0.6, 0.8, 0.9, 0.95, 0.85, 1.3];
        play(&mut e, 5000, &jumps, |load| if load < 1.31 { 0.0 } else { 0.5 });
        assert!(e.factor() < 1.06, "a sixth of the time brings 1.3 times what was planned: {}", e.factor());
    }

    #[test]
    fn the_first_hour_proves_nothing_and_what_was_not_seen_is_not_risked() {
        let mut e = Experience::default();
        play(&mut e, 59, &USUAL, |_| 0.0);
        assert_eq!(e.factor(), 1.0);
        play(&mut e, 10, &USUAL, |_| 0.0);
        assert!(e.factor() > 1.0);
        let mut e = Experience::default();
        play(&mut e, 90, &[0.3], |_| 0.0);
        let idle = e.factor();
        play(&mut e, 5000, &[0.3, 0.3, 0.3, 0.95], |load| if load < 0.99 { 0.0 } else { 1.0 });
        assert!(e.factor() < 1.09 && idle < 1.08, "{idle} {}", e.factor());
    }

    #[test]
    fn a_queue_is_late_by_the_load_that_made_it() {
        let mut e = Experience::default();
        e.plan(&TARGET, 10.0);
        for (minute, (rate, late)) in [(9.0, 0.0), (15.0, 0.2), (5.0, 0.9), (5.0, 0.0)].into_iter().enumerate() {
            let at_seconds = 60.0 * (minute + 1) as f64;
            e.observe(&Seen { at_seconds, window_seconds: 60.0, rate, requests: 100.0, late }, 0.25);
        }
        let late = |load: f64| e.loads[(load / WIDTH) as usize].late;
        assert_eq!(late(0.5), 0.0);
        assert!(late(1.5) > 109.0, "{}", late(1.5));
    }

    #[test]
    fn contradicting_loads_are_taken_together() {
        let mut e = Experience { loads: vec![Bin::default(); BINS], ..Experience::default() };
        for (bin, late) in [(10, 0.0), (11, 4.0), (12, 2.0), (13, 9.0)] {
            e.loads[bin] = Bin { windows: 2.0, requests: 100.0, late };
        }
        let curve = e.curve();
        assert_eq!(&curve[10..], &[0.0, 0.03, 0.03, 0.09, 0.09], "and one bin further");
        assert!(curve.is_sorted());
    }

    #[test]
    fn a_tighter_promise_begins_anew_and_a_looser_one_does_not() {
        let mut e = Experience::default();
        play(&mut e, 500, &USUAL, |_| 0.0);
        let grown = e.factor();
        let looser = Target { itl_seconds: 0.1, ..TARGET };
        let tighter = Target { quantile: 0.999, ..TARGET };
        assert!(grown > 1.2, "{grown}");
        assert_eq!((e.stretch(&looser), e.stretch(&tighter)), (grown, 1.0));
        e.plan(&looser, 10.0);
        assert_eq!(e.factor(), grown);
        e.plan(&TARGET, 10.0);
        assert_eq!(e.factor(), 1.0);
    }

    #[test]
    fn what_is_learnt_survives_as_json() {
        let mut e = Experience::default();
        play(&mut e, 500, &USUAL, |_| 0.0);
        e.plan(&Target { ttft_seconds: f64::INFINITY, ..TARGET }, 10.0);
        for e in [e, Experience::default()] {
            let text = serde_json::to_string(&e).unwrap();
            assert_eq!(serde_json::from_str::<Experience>(&text).unwrap(), e);
        }
    }
}
