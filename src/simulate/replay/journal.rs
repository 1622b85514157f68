//! The daemon's journal as recorded traffic: rates per model and minute, and the lengths that its servers counted.
//!
//! It owns how observed rates become a recording. Requests are drawn from it anew, their classes by the policy's shares:
//! a journal holds rates, not requests. It knows no fleet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::lengths::{LengthQuantiles, Lengths};
use super::recording::{RateStep, RateTrace, Recording};
use crate::control::{JournalTick, each_tick};
use crate::observe::Histogram;

const MINUTE_SECONDS: f64 = 60.0;
/// Longest time without a known rate that is bridged by the rate before it, seconds.
const BRIDGED_SECONDS: f64 = 300.0;
/// Requests of which lengths must be known, so that they are believed.
const BELIEVED: f64 = 100.0;

/// What a journal tells of the traffic.
#[derive(Debug)]
pub struct JournalTraffic {
    name: String,
    /// Unix time of the first decision, seconds.
    pub begin_seconds: f64,
    /// Unix time of the last decision, seconds.
    pub end_seconds: f64,
    /// By `namespace/name` of the model.
    models: BTreeMap<String, Observed>,
}

/// What was seen of one model.
#[derive(Debug, Default)]
struct Observed {
    rates: Vec<Seen>,
    /// Prompts and answers; those of servers that count with other bounds are kept apart.
    lengths: [Vec<Histogram>; 2],
}

#[derive(Debug)]
struct Seen {
    at_seconds: f64,
    rate: f64,
    file: PathBuf,
    line: usize,
}

/// A model's traffic of a stretch of the journal.
#[derive(Debug)]
pub struct ModelTraffic {
    /// Its clock begins with the journal.
    pub recording: Recording,
    /// `None` when too few requests finished to know them.
    pub lengths: Option<Lengths>,
    /// Times without a known rate that are bridged, and the longest, seconds.
    pub bridged: (usize, f64),
}

impl JournalTraffic {
    /// Read a journal: one of its files, or the folder that holds them.
    ///
    /// # Errors
    /// A file cannot be read, a line is no entry or goes back in time (with file and line), or there is no decision.
    pub fn read(path: &Path) -> Result<Self, String> {
        let mut told = Self {
            name: path.display().to_string(),
            begin_seconds: f64::NAN,
            end_seconds: f64::NAN,
            models: BTreeMap::new(),
        };
        each_tick(path, |tick| told.note(tick)).map_err(|error| format!("{error:#}"))?;
        if told.begin_seconds.is_nan() {
            return Err(format!("{}: holds no decision yet", told.name));
        }
        Ok(told)
    }

    /// Length, seconds.
    pub fn seconds(&self) -> f64 {
        self.end_seconds - self.begin_seconds
    }

    /// Models of which something was seen, `namespace/name`.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.models.keys().map(String::as_str)
    }

    fn note(&mut self, tick: &JournalTick<'_>) -> anyhow::Result<()> {
        let JournalTick { file, line, at_seconds, observation, decision } = *tick;
        let place = || format!("{}:{line}", file.display());
        anyhow::ensure!(at_seconds.is_finite(), "{}: the time of the decision is {at_seconds}", place());
        anyhow::ensure!(
            self.end_seconds.is_nan() || at_seconds > self.end_seconds,
            "{}: the decision is of {at_seconds:.0}, not after the one before it, of {:.0}",
            place(),
            self.end_seconds,
        );
        if self.begin_seconds.is_nan() {
            self.begin_seconds = at_seconds;
        }
        self.end_seconds = at_seconds;
        for model in &decision.models {
            let seen = self.models.entry(format!("{}/{}", model.namespace, model.name)).or_default();
            let Some(rate) = model.offered_rate else { continue };
            anyhow::ensure!(rate.is_finite() && rate >= 0.0, "{}: offered_rate is {rate}, expected 0 or more", place());
            seen.rates.push(Seen { at_seconds, rate, file: file.to_owned(), line });
            let pools = decision.pools.iter().filter(|p| p.namespace == model.namespace && p.model == model.model);
            for pool in pools.map(|p| format!("{}/{}", p.namespace, p.pool)) {
                let Some(pool) = observation.pools.iter().find(|p| p.pool == pool) else { continue };
                for (kept, seen) in seen.lengths.iter_mut().zip([&pool.input_tokens, &pool.output_tokens]) {
                    if let Some(histogram) = &seen.value {
                        add(kept, histogram);
                    }
                }
            }
        }
        Ok(())
    }

    /// The traffic of a model from ..= to, seconds from the beginning of the journal; `None` when it knows none.
    ///
    /// # Errors
    /// For too long a time in it no rate is known; told with file and line.
    pub fn model(&self, id: &str, from: f64, to: f64) -> Result<Option<ModelTraffic>, String> {
        let Some(seen) = self.models.get(id).filter(|seen| !seen.rates.is_empty()) else { return Ok(None) };
        let bridged = self.gaps(id, seen, self.begin_seconds + from, self.begin_seconds + to)?;
        let end_seconds = MINUTE_SECONDS * (self.seconds() / MINUTE_SECONDS).floor().max(1.0);
        let mut minutes: Vec<(f64, u32)> = vec![(0.0, 0); (end_seconds / MINUTE_SECONDS) as usize];
        for one in &seen.rates {
            let minute = ((one.at_seconds - self.begin_seconds) / MINUTE_SECONDS) as usize;
            if let Some((sum, count)) = minutes.get_mut(minute) {
                (*sum, *count) = (*sum + one.rate, *count + 1);
            }
        }
        let mut rate = seen.rates.first().map_or(0.0, |first| first.rate);
        let steps = minutes.iter().enumerate().map(|(minute, (sum, count))| {
            if *count > 0 {
                rate = sum / f64::from(*count);
            }
            RateStep { at_seconds: MINUTE_SECONDS * minute as f64, rate, sigma: 0.0 }
        });
        let recording = Recording::Rates(RateTrace::of_steps(&self.name, steps.collect(), end_seconds));
        let [input, output] = &seen.lengths;
        let lengths = quantiles(input).zip(quantiles(output));
        let lengths = lengths.map(|(input, output)| Lengths::Quantiles { input, output });
        Ok(Some(ModelTraffic { recording, lengths, bridged }))
    }

    /// Times without a known rate that are longer than a minute, and the longest.
    fn gaps(&self, id: &str, seen: &Observed, from: f64, to: f64) -> Result<(usize, f64), String> {
        let (mut count, mut longest) = (0, 0.0_f64);
        let first = seen.rates.first().into_iter().map(|s| (self.begin_seconds, s.at_seconds, s));
        let between = seen.rates.windows(2).map(|pair| (pair[0].at_seconds, pair[1].at_seconds, &pair[1]));
        let last = seen.rates.last().into_iter().map(|s| (s.at_seconds, self.end_seconds, s));
        for (begin, end, at) in first.chain(between).chain(last) {
            let gap = end.min(to) - begin.max(from);
            if gap > BRIDGED_SECONDS {
                return Err(format!(
                    "{}:{}: no rate of {id} is known for {gap:.0} s, from {:.0} s to {:.0} s of the journal, expected \
                     at most {BRIDGED_SECONDS:.0} s; choose a stretch without it: --from, --to",
                    at.file.display(),
                    at.line,
                    begin - self.begin_seconds,
                    end - self.begin_seconds,
                ));
            }
            if gap > MINUTE_SECONDS {
                (count, longest) = (count + 1, longest.max(gap));
            }
        }
        Ok((count, longest))
    }
}

/// Windows overlap, all by the same share: the sums are weights.
fn add(kept: &mut Vec<Histogram>, seen: &Histogram) {
    match kept.iter_mut().find(|h| h.upper == seen.upper && h.cumulative.len() == seen.cumulative.len()) {
        Some(sum) => {
            sum.cumulative.iter_mut().zip(&seen.cumulative).for_each(|(sum, more)| *sum += more);
            (sum.sum, sum.count) = (sum.sum + seen.sum, sum.count + seen.count);
        }
        None => kept.push(seen.clone()),
    }
}

/// Those of the servers that counted most requests.
fn quantiles(kept: &[Histogram]) -> Option<LengthQuantiles> {
    let most = kept.iter().filter(|h| h.count >= BELIEVED).max_by(|a, b| a.count.total_cmp(&b.count))?;
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|q| most.quantile(q));
    Some(LengthQuantiles { p50: p50?, p90: p90?, p99: p99?, mean: most.mean()? }.possible())
}
