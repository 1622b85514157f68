//! Several runs of one contestant told as one, and when a promise was kept again after a disturbance.

use super::books::hours_kept;
use super::outcome::{ClassOutcome, Outcome, Spread};

impl Outcome {
    /// Runs of the same contestant on several stretches as if they were one: what is counted is summed, hours and
    /// minutes follow each other, and of latencies and longest times the worst stretch is told. `None` without a run.
    pub fn joined(parts: &[Self]) -> Option<Self> {
        let (first, others) = parts.split_first()?;
        Some(others.iter().fold(first.clone(), Self::and))
    }

    fn and(mut self, other: &Self) -> Self {
        self.seconds += other.seconds;
        self.cost += other.cost;
        for (name, hours) in &other.accelerator_hours {
            *self.accelerator_hours.entry(name.clone()).or_insert(0.0) += hours;
        }
        let classes = self.classes.into_iter().zip(&other.classes);
        self.classes = classes.map(|(mine, theirs)| mine.and(theirs)).collect();
        self.actions += other.actions;
        self.type_changes += other.type_changes;
        self.wasted_start_hours += other.wasted_start_hours;
        self.most_waiting = self.most_waiting.max(other.most_waiting);
        self.minutes.extend(other.minutes.iter().cloned());
        self
    }

    /// Changes of a scale target per day.
    pub fn actions_per_day(&self) -> f64 {
        self.actions as f64 * 86_400.0 / self.seconds
    }

    /// The first minute from which on the requests of the next `span` minutes, taken together, keep the class's
    /// promise; `None` when there is no such minute.
    pub fn kept_from_minute(&self, class: usize, span: usize) -> Option<usize> {
        let quantile = self.classes.get(class)?.quantile;
        let keeps = |minutes: &[super::outcome::MinutePoint]| {
            let sum = |of: fn(&super::outcome::MinutePoint) -> &Vec<u32>| {
                minutes.iter().map(|m| f64::from(of(m)[class])).sum::<f64>()
            };
            sum(|m| &m.met) >= quantile * sum(|m| &m.arrived)
        };
        self.minutes.windows(span.max(1)).position(keeps)
    }
}

impl ClassOutcome {
    fn and(mut self, other: &Self) -> Self {
        self.arrived += other.arrived;
        self.met += other.met;
        self.attainment = (self.arrived > 0).then(|| self.met as f64 / self.arrived as f64);
        self.hours.extend(other.hours.iter().copied());
        self.hours_kept = hours_kept(&self.hours, self.quantile);
        self.longest_violation_minutes = self.longest_violation_minutes.max(other.longest_violation_minutes);
        for (cause, requests) in &other.late {
            *self.late.entry(*cause).or_default() += requests;
        }
        self.ttft = worse(self.ttft, other.ttft);
        self.itl = worse(self.itl, other.itl);
        self.longest_wake_seconds =
            [self.longest_wake_seconds, other.longest_wake_seconds].into_iter().flatten().max_by(f64::total_cmp);
        self
    }
}

fn worse(a: Spread, b: Spread) -> Spread {
    Spread { p50: a.p50.max(b.p50), p95: a.p95.max(b.p95), p99: a.p99.max(b.p99), p999: a.p999.max(b.p999) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::outcome::{HourOutcome, MinutePoint};
    use super::*;

    /// Requests that arrived and were met, minute by minute, all in one hour.
    fn outcome(minutes: &[(u32, u32)]) -> Outcome {
        let (arrived, met) = minutes.iter().fold((0, 0), |sum, m| (sum.0 + u64::from(m.0), sum.1 + u64::from(m.1)));
        let class = ClassOutcome {
            class: "chat".into(),
            quantile: 0.9,
            arrived,
            met,
            attainment: None,
            hours: vec![HourOutcome { arrived, met }],
            hours_kept: None,
            longest_violation_minutes: 1,
            late: BTreeMap::new(),
            ttft: Spread::default(),
            itl: Spread { p99: arrived as f64, ..Spread::default() },
            longest_wake_seconds: None,
        };
        let point = |&(arrived, met): &(u32, u32)| MinutePoint {
            arrived: vec![arrived],
            met: vec![met],
            ..MinutePoint::default()
        };
        Outcome {
            rule: "poolwright".into(),
            hardware: String::new(),
            target: None,
            seed: 1,
            seconds: 60.0 * minutes.len() as f64,
            cost: 2.0,
            accelerator_hours: [("h100".to_owned(), 1.5)].into(),
            classes: vec![class],
            actions: 3,
            type_changes: 1,
            wasted_start_hours: 0.5,
            most_waiting: 7,
            minutes: minutes.iter().map(point).collect(),
        }
    }

    #[test]
    fn runs_are_summed_and_hours_judged_again() {
        let joined = Outcome::joined(&[outcome(&[(2000, 1900)]), outcome(&[(2000, 1500), (0, 0)])]).unwrap();
        assert_eq!((joined.cost, joined.seconds, joined.actions, joined.minutes.len()), (4.0, 180.0, 6, 3));
        assert_eq!(joined.accelerator_hours["h100"], 3.0);
        let class = &joined.classes[0];
        assert_eq!((class.arrived, class.met, class.attainment), (4000, 3400, Some(0.85)));
        assert_eq!((class.hours_kept, class.itl.p99), (Some(0.5), 2000.0));
        assert!((joined.actions_per_day() - 2880.0).abs() < 1e-9);
        assert!(Outcome::joined(&[]).is_none());
    }

    #[test]
    fn the_promise_is_kept_from_the_minute_on_that_begins_a_good_stretch() {
        let bad_then_good = outcome(&[(100, 0), (100, 50), (100, 88), (100, 92), (100, 80), (100, 99), (100, 99)]);
        // minutes 2 and 3 together keep 90 %, minute 2 alone does not
        assert_eq!(bad_then_good.kept_from_minute(0, 2), Some(2));
        assert_eq!(bad_then_good.kept_from_minute(0, 1), Some(3));
        assert_eq!(bad_then_good.kept_from_minute(0, 7), None);
        assert_eq!(bad_then_good.kept_from_minute(1, 1), None);
    }
}
