//! What the direct scrape remembers of every instance between two looks, and the readings it makes of it.
//!
//! Owns the life of an instance: listed, answering, silent, gone. No network: pages come in, readings go out.

use std::collections::{BTreeMap, BTreeSet};

use super::discovery::Target;
use super::reading::{Labels, MODEL_LABEL, Reading, State};
use super::snapshot::PageReading;
use super::window::{Ring, Window};
use super::{Finding, FindingKind, Observation, http};

/// Instances that are gone are remembered by name, so that one that comes back is not taken for a new one.
const REMEMBERED: usize = 20_000;

/// What a target answered.
pub type Answer = Result<PageReading, String>;

#[derive(Debug, Default)]
struct Instance {
    labels: Labels,
    pool: Option<usize>,
    /// It answered at least once.
    answered: bool,
    /// It was listed first after the first look, and was never listed before.
    is_new: bool,
    /// By served model.
    rings: BTreeMap<String, Ring>,
}

/// All instances that were ever listed and not forgotten.
#[derive(Debug, Default)]
pub struct Fleet {
    instances: BTreeMap<String, Instance>,
    /// Addresses that are no longer listed.
    former: BTreeSet<String>,
    first_look_seconds: Option<f64>,
    at_zero: BTreeSet<String>,
}

impl Fleet {
    /// Pools that had no instance and none of whose instances has answered since.
    pub fn at_zero(&self) -> &BTreeSet<String> {
        &self.at_zero
    }

    /// Take in one look: every listed target with its answer.
    pub fn look(
        &mut self,
        answers: Vec<(Target, Answer)>,
        window_seconds: f64,
        now_seconds: f64,
        findings: &mut Vec<Finding>,
    ) -> Vec<Reading> {
        let first_look = self.first_look_seconds;
        let origin_seconds = *self.first_look_seconds.get_or_insert(now_seconds);
        let window = Window { now_seconds, length_seconds: window_seconds, origin_seconds };
        let mut readings = Vec::with_capacity(answers.len());
        let mut listed = BTreeSet::new();
        for (target, answer) in answers {
            let is_new = first_look.is_some() && !self.former.contains(&target.url);
            let instance =
                self.instances.entry(target.url.clone()).or_insert_with(|| Instance { is_new, ..Instance::default() });
            instance.labels = target.labels;
            instance.pool = target.pool;
            match answer {
                Ok(page) if !page.models.is_empty() => {
                    report_bad_lines(&target.url, &page, findings);
                    instance.answer(page, first_look, &window, &mut readings);
                }
                Ok(page) => {
                    let why = match page.first_bad {
                        Some(bad) => format!("its page is not a metrics page ({bad})"),
                        None => "its page has no series of a known engine".to_owned(),
                    };
                    instance.fail(&why, &window, &mut readings);
                }
                Err(why) => instance.fail(&why, &window, &mut readings),
            }
            listed.insert(target.url);
        }
        self.retire(&listed, &window, &mut readings);
        readings
    }

    /// Instances that are no longer listed: what they counted in the window still counts, then they are forgotten.
    fn retire(&mut self, listed: &BTreeSet<String>, window: &Window, readings: &mut Vec<Reading>) {
        let former = &mut self.former;
        self.instances.retain(|url, instance| {
            if listed.contains(url) {
                return true;
            }
            instance.rings.retain(|_, ring| ring.last().is_some_and(|s| s.at_seconds > window.start_seconds()));
            for (model, ring) in &instance.rings {
                readings.push(instance.reading(model, ring, State::Gone, window));
            }
            let keep = !instance.rings.is_empty();
            if !keep {
                former.insert(url.clone());
            }
            keep
        });
        while self.former.len() > REMEMBERED {
            self.former.pop_first();
        }
    }

    /// Remember which pools are at zero.
    pub fn remember(&mut self, observation: &Observation) {
        for pool in &observation.pools {
            match (pool.ready.value, pool.starting.value) {
                (Some(0), Some(0)) => {
                    self.at_zero.insert(pool.pool.clone());
                }
                (Some(ready), _) if ready > 0 || pool.silent > 0 => {
                    self.at_zero.remove(&pool.pool);
                }
                (None, _) if pool.silent > 0 => {
                    self.at_zero.remove(&pool.pool);
                }
                _ => {}
            }
        }
    }
}

impl Instance {
    fn answer(&mut self, page: PageReading, first_look: Option<f64>, window: &Window, readings: &mut Vec<Reading>) {
        let models: BTreeSet<String> = page.models.iter().map(|m| m.model.clone()).collect();
        self.rings.retain(|model, _| models.contains(model));
        for read in page.models {
            let newborn =
                !self.answered && self.is_newborn(read.snapshot.started_seconds, first_look, window.now_seconds);
            let ring = self
                .rings
                .entry(read.model.clone())
                .or_insert_with(|| if newborn { Ring::newborn() } else { Ring::default() });
            let gauges = read.snapshot.clone();
            ring.push(read.snapshot, window.length_seconds);
            let mut reading = Reading {
                at_seconds: gauges.at_seconds,
                ranks: gauges.ranks,
                running: gauges.running,
                waiting: gauges.waiting,
                kv_usage: gauges.kv_usage,
                kv_capacity_tokens: gauges.kv_capacity_tokens,
                refused: read.refused,
                ..Reading::default()
            };
            if let Some(ring) = self.rings.get(&read.model) {
                let counted = self.reading(&read.model, ring, State::Live, window);
                reading.labels = counted.labels;
                reading.pool = counted.pool;
                reading.increments = counted.increments;
                reading.distributions = counted.distributions;
            }
            readings.push(reading);
        }
        self.answered = true;
    }

    /// The instance began to serve since the last look, so that its counters started at zero. The process's own
    /// start time decides where it is printed; else that the address was never listed before.
    fn is_newborn(&self, started_seconds: Option<f64>, first_look: Option<f64>, now_seconds: f64) -> bool {
        let Some(first_look) = first_look else { return false };
        match started_seconds.filter(|started| *started <= now_seconds) {
            Some(started) => started > first_look,
            None => self.is_new,
        }
    }

    fn fail(&self, why: &str, window: &Window, readings: &mut Vec<Reading>) {
        let first = readings.len();
        if self.answered {
            let silent = |(model, ring): (&String, &Ring)| self.reading(model, ring, State::Silent, window);
            readings.extend(self.rings.iter().map(silent));
        } else {
            let state = State::Starting;
            let labels = self.labels.clone();
            readings.push(Reading {
                labels,
                pool: self.pool,
                state,
                at_seconds: window.now_seconds,
                ..Reading::default()
            });
        }
        for reading in &mut readings[first..] {
            reading.error = Some(why.to_owned());
        }
    }

    fn reading(&self, model: &str, ring: &Ring, state: State, window: &Window) -> Reading {
        let mut labels = self.labels.clone();
        if !model.is_empty() {
            labels.insert(MODEL_LABEL.to_owned(), model.to_owned());
        }
        let at_seconds = ring.last().map_or(window.now_seconds, |s| s.at_seconds);
        let in_window = at_seconds > window.start_seconds();
        Reading {
            labels,
            pool: self.pool,
            state,
            at_seconds,
            ranks: ring.last().map(|s| s.ranks.clone()).unwrap_or_default(),
            increments: if in_window { ring.increments(window, state == State::Live) } else { None },
            distributions: if in_window { ring.distributions(window) } else { super::Distributions::default() },
            ..Reading::default()
        }
    }
}

fn report_bad_lines(url: &str, page: &PageReading, findings: &mut Vec<Finding>) {
    if let Some(bad) = &page.first_bad {
        let message = format!("{} lines of its page cannot be read and are left out, first {bad}", page.bad_lines);
        findings.push(Finding { kind: FindingKind::Implausible, subject: http::printable(url), message });
    }
}
