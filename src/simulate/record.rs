//! What was published, what HPA desired and what the scale target was told, and whether they agree.
//!
//! A record is filled by whoever watches a run, from polls or from watches: a number that was seen holds
//! until another one is seen. Times are seconds of the run, never before those already noted for the same
//! pool and side. The checks are pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::windows::Window;

/// Everything seen of a run, by pool (`namespace/name`).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Record {
    pools: BTreeMap<String, PoolRecord>,
    /// Latest time noted.
    end_seconds: f64,
}

/// One side that must follow the published number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// `status.desiredReplicas` of the HorizontalPodAutoscaler.
    Desired,
    /// `spec.replicas` of the scale target.
    Spec,
}

/// Within which time the published number must have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pace {
    /// Time between two looks of HPA, seconds.
    pub sync_seconds: f64,
    /// Time for requests and for the watcher on top of it, seconds.
    pub slack_seconds: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct PoolRecord {
    published: Vec<Tick>,
    desired: Vec<Seen>,
    spec: Vec<Seen>,
}

/// The number after one decision tick.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Tick {
    at_seconds: f64,
    /// `None`: the number is withheld, HPA holds.
    replicas: Option<u32>,
    /// Decided from complete and recent data.
    fresh: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Seen {
    at_seconds: f64,
    replicas: u32,
}

/// What went wrong at one pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Violation {
    /// The side had another number when it should have followed.
    NotFollowed { pool: String, side: Side, published_seconds: f64, published: u32, at_seconds: f64, seen: u32 },
    /// Nobody looked at the side.
    NotSeen { pool: String, side: Side, published_seconds: f64, published: u32 },
    /// The scale target shrank in a window though no decision from fresh data asked for it.
    Shrunk { pool: String, at_seconds: f64, from: u32, to: u32 },
}

/// Outcome of [`Record::followed`]; every tick is in one of the three counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Followed {
    /// Ticks whose number had to arrive.
    pub checked: u64,
    /// Ticks whose number was replaced or withheld, or after which the record ended, before it had to arrive.
    pub overtaken: u64,
    /// Ticks that touch a window.
    pub excused: u64,
    pub violations: Vec<Violation>,
}

/// How the scale target of a pool moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moves {
    pub pool: String,
    pub up: u32,
    pub down: u32,
    pub least: u32,
    pub most: u32,
}

impl Record {
    /// A decision tick was published: its number, `None` when it is withheld. `fresh` tells that the number
    /// was decided from complete and recent data, so that it may be smaller than the last.
    pub fn published(&mut self, pool: &str, at_seconds: f64, replicas: Option<u32>, fresh: bool) {
        self.pool(pool, at_seconds).published.push(Tick { at_seconds, replicas, fresh });
    }

    /// A side of a pool was seen.
    pub fn seen(&mut self, pool: &str, side: Side, at_seconds: f64, replicas: u32) {
        let record = self.pool(pool, at_seconds);
        let list = match side {
            Side::Desired => &mut record.desired,
            Side::Spec => &mut record.spec,
        };
        list.push(Seen { at_seconds, replicas });
    }

    fn pool(&mut self, pool: &str, at_seconds: f64) -> &mut PoolRecord {
        self.end_seconds = self.end_seconds.max(at_seconds);
        self.pools.entry(pool.to_owned()).or_default()
    }

    /// Whether each tick's number was HPA's desired number and the scale target's one sync later, and stayed
    /// so until the next number was due. Ticks overtaken by another number are not held against anybody, nor
    /// are those that touch a window, within which something may have been stopped on purpose.
    pub fn followed(&self, pace: Pace, windows: &[Window]) -> Followed {
        let mut outcome = Followed::default();
        for (name, pool) in &self.pools {
            for (index, tick) in pool.published.iter().enumerate() {
                let due = tick.at_seconds + pace.sync_seconds + pace.slack_seconds;
                let rest = &pool.published[index + 1..];
                let overtaken = rest.iter().find(|t| t.replicas != tick.replicas).map(|t| t.at_seconds);
                let until = overtaken.unwrap_or(f64::INFINITY);
                let Some(published) = tick.replicas.filter(|_| due < until && due <= self.end_seconds) else {
                    outcome.overtaken += 1;
                    continue;
                };
                if windows.iter().any(|w| w.from_seconds <= due && tick.at_seconds <= w.to_seconds) {
                    outcome.excused += 1;
                    continue;
                }
                outcome.checked += 1;
                let next_due = rest.first().map_or(f64::INFINITY, |t| t.at_seconds + due - tick.at_seconds);
                let held = Held { pool: name, tick, published, from: due, to: until.min(next_due), windows };
                outcome.violations.extend(held.by(Side::Desired, &pool.desired));
                outcome.violations.extend(held.by(Side::Spec, &pool.spec));
            }
        }
        outcome
    }

    /// Scale targets that shrank inside a window without a decision from fresh data that asked for it and
    /// was in force within the last sync.
    pub fn shrunk(&self, pace: Pace, windows: &[Window]) -> Vec<Violation> {
        let reach = pace.sync_seconds + pace.slack_seconds;
        let mut violations = vec![];
        for (name, pool) in &self.pools {
            for pair in pool.spec.windows(2) {
                let (before, after) = (pair[0], pair[1]);
                let inside = windows.iter().any(|w| w.contains(after.at_seconds));
                if inside && after.replicas < before.replicas && !pool.asked_for(after, reach) {
                    let at_seconds = after.at_seconds;
                    let (pool, from, to) = (name.clone(), before.replicas, after.replicas);
                    violations.push(Violation::Shrunk { pool, at_seconds, from, to });
                }
            }
        }
        violations
    }

    /// How every pool's scale target moved.
    pub fn moves(&self) -> Vec<Moves> {
        let moves = |(name, pool): (&String, &PoolRecord)| {
            let count = |is: fn(u32, u32) -> bool| {
                pool.spec.windows(2).filter(|pair| is(pair[0].replicas, pair[1].replicas)).count() as u32
            };
            let replicas = || pool.spec.iter().map(|s| s.replicas);
            Moves {
                pool: name.clone(),
                up: count(|before, after| after > before),
                down: count(|before, after| after < before),
                least: replicas().min().unwrap_or(0),
                most: replicas().max().unwrap_or(0),
            }
        };
        self.pools.iter().map(moves).collect()
    }
}

impl PoolRecord {
    /// Whether a fresh decision for this number was in force at `seen` or up to `reach` before.
    fn asked_for(&self, seen: Seen, reach: f64) -> bool {
        self.published.iter().enumerate().any(|(index, tick)| {
            let ended = self.published.get(index + 1).map_or(f64::INFINITY, |t| t.at_seconds);
            let in_force = tick.at_seconds <= seen.at_seconds && ended >= seen.at_seconds - reach;
            in_force && tick.fresh && tick.replicas == Some(seen.replicas)
        })
    }
}

/// A number that a side must have in a stretch of time.
struct Held<'a> {
    pool: &'a str,
    tick: &'a Tick,
    published: u32,
    from: f64,
    /// Not included.
    to: f64,
    windows: &'a [Window],
}

impl Held<'_> {
    fn by(&self, side: Side, seen: &[Seen]) -> Option<Violation> {
        let (pool, published_seconds, published) = (self.pool.to_owned(), self.tick.at_seconds, self.published);
        let first = seen.partition_point(|s| s.at_seconds <= self.from);
        let Some(position) = first.checked_sub(1) else {
            return Some(Violation::NotSeen { pool, side, published_seconds, published });
        };
        let in_time = seen[position..].iter().take_while(|s| s.at_seconds < self.to);
        let fair = |s: &&Seen| s.at_seconds <= self.from || !self.windows.iter().any(|w| w.contains(s.at_seconds));
        let wrong = in_time.filter(fair).find(|s| s.replicas != published)?;
        let at_seconds = wrong.at_seconds.max(self.from);
        Some(Violation::NotFollowed { pool, side, published_seconds, published, at_seconds, seen: wrong.replicas })
    }
}

#[cfg(test)]
mod tests;
