//! One instance at one moment: the typed fields of its metrics page.
//!
//! Owns the step from text to [`Snapshot`]: preferred names, ranks of one instance added up, values no counter can
//! have refused. Knows nothing of pools or of time windows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::dialect::{self, Kind, Measure, Part, Slot};
use super::exposition::{BadLine, Sample, samples_of};
use super::plausible::{self, Refusal};

/// A histogram since the start of the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Cumulative {
    /// Upper bounds, ascending, the last one `f64::MAX` for infinity. Shared between the snapshots of an instance.
    pub upper: Arc<[f64]>,
    /// Observations at or below each bound.
    pub counts: Box<[f64]>,
    pub sum: f64,
}

impl Cumulative {
    /// Number of observations.
    pub fn count(&self) -> f64 {
        self.counts.last().copied().unwrap_or(0.0)
    }
}

/// What one instance said at one moment. A field is `None` when the page does not have it or the value was refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Unix time, seconds.
    pub at_seconds: f64,
    /// Unix time at which the process started, as it says itself.
    pub started_seconds: Option<f64>,
    /// Data-parallel ranks that print their own series.
    pub ranks: BTreeSet<String>,
    /// Gauges as printed, not yet checked.
    pub running: Option<f64>,
    pub waiting: Option<f64>,
    pub kv_usage: Option<f64>,
    pub kv_capacity_tokens: Option<f64>,
    /// Counters since the start of the server.
    pub completions: Option<f64>,
    pub prefix_hits: Option<f64>,
    pub prefix_queries: Option<f64>,
    pub ttft: Option<Cumulative>,
    pub itl: Option<Cumulative>,
    pub input_tokens: Option<Cumulative>,
    pub output_tokens: Option<Cumulative>,
}

impl Snapshot {
    /// Requests inside the server, `None` unless both gauges are plausible.
    pub fn in_flight(&self) -> Option<f64> {
        let running = plausible::gauge(Measure::Running, self.running?).ok()?;
        Some(running + plausible::gauge(Measure::Waiting, self.waiting?).ok()?)
    }

    /// Use the bounds of `other` where they are the same, so that they are kept in memory once.
    pub fn share_bounds(&mut self, other: &Self) {
        let pairs = [
            (&mut self.ttft, &other.ttft),
            (&mut self.itl, &other.itl),
            (&mut self.input_tokens, &other.input_tokens),
            (&mut self.output_tokens, &other.output_tokens),
        ];
        for (mine, theirs) in pairs {
            if let (Some(mine), Some(theirs)) = (mine, theirs)
                && mine.upper == theirs.upper
            {
                mine.upper = Arc::clone(&theirs.upper);
            }
        }
    }
}

/// One served model of a page.
#[derive(Clone, Debug)]
pub struct ModelReading {
    /// Value of the model label; empty when the series have none.
    pub model: String,
    pub snapshot: Snapshot,
    pub refused: Vec<Refusal>,
}

/// A whole page.
#[derive(Clone, Debug, Default)]
pub struct PageReading {
    /// One entry per served model, nearly always one; none when no dialect knows any series of the page.
    pub models: Vec<ModelReading>,
    pub bad_lines: usize,
    pub first_bad: Option<BadLine>,
}

/// Read the metrics page of an instance, fetched at `at_seconds` (Unix time).
pub fn read_page(text: &str, at_seconds: f64) -> PageReading {
    let mut reader = Reader::default();
    let mut known: Option<(&str, Option<Slot>)> = None;
    let wanted = |name| {
        // The lines of one histogram follow each other: look its name up once.
        if known.is_none_or(|(last, _)| last != name) {
            known = Some((name, dialect::slot(name)));
        }
        name == dialect::PROCESS_START || known.is_some_and(|(_, slot)| slot.is_some())
    };
    let mut reading = PageReading::default();
    for line in samples_of(text, wanted) {
        match line {
            Ok(sample) => reader.take(&sample),
            Err(bad) => {
                reading.bad_lines += 1;
                reading.first_bad.get_or_insert(bad);
            }
        }
    }
    reading.models = reader.finish(at_seconds);
    reading
}

/// Everything read so far of one measure of one model.
#[derive(Debug, Default)]
struct Field {
    preference: usize,
    total: f64,
    series: f64,
    /// What of it is of one rank, where several processes print the same.
    by_rank: BTreeMap<String, f64>,
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    refused: Option<Refusal>,
}

#[derive(Debug, Default)]
struct ModelFields {
    fields: BTreeMap<Measure, (Kind, Field)>,
    ranks: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Reader {
    models: BTreeMap<String, ModelFields>,
    /// Series without a model label, such as the cache configuration, hold for every model of the page.
    common: BTreeMap<Measure, (Kind, Field)>,
    started_seconds: Option<f64>,
    stamped_seconds: Option<f64>,
}

impl Reader {
    fn take(&mut self, sample: &Sample<'_>) {
        if sample.name == dialect::PROCESS_START {
            self.started_seconds = Some(sample.value).filter(|v| v.is_finite() && *v > 0.0);
            return;
        }
        let Some(slot) = dialect::slot(sample.name) else { return };
        if let Some(stamp) = sample.timestamp_seconds {
            self.stamped_seconds = Some(self.stamped_seconds.map_or(stamp, |s| s.max(stamp)));
        }
        let fields = if slot.series.kind == Kind::Info {
            &mut self.common
        } else {
            let model = sample.label(slot.dialect.model_label).unwrap_or("");
            if !self.models.contains_key(model) {
                self.models.insert(model.to_owned(), ModelFields::default());
            }
            let Some(entry) = self.models.get_mut(model) else { return };
            if let Some(rank) = sample.label(slot.dialect.rank_label)
                && !entry.ranks.contains(rank)
            {
                entry.ranks.insert(rank.to_owned());
            }
            &mut entry.fields
        };
        let (_, field) = fields
            .entry(slot.series.measure)
            .or_insert_with(|| (slot.series.kind, Field { preference: slot.preference, ..Field::default() }));
        if slot.preference < field.preference {
            *field = Field { preference: slot.preference, ..Field::default() };
        }
        if slot.preference == field.preference {
            field.take(slot, sample);
        }
    }

    fn finish(self, at_seconds: f64) -> Vec<ModelReading> {
        let at_seconds = self.stamped_seconds.unwrap_or(at_seconds);
        let started_seconds = self.started_seconds;
        let common = self.common;
        let finish_one = |(model, fields): (String, ModelFields)| {
            let mut snapshot = Snapshot { at_seconds, started_seconds, ranks: fields.ranks, ..Snapshot::default() };
            let mut refused = Vec::new();
            for (measure, (kind, field)) in fields.fields.iter().chain(&common) {
                if let Err(refusal) = field.store(*measure, *kind, &mut snapshot) {
                    refused.push(refusal);
                }
            }
            let of = |measure| fields.fields.get(&measure).and_then(|(kind, field)| field.value(*kind));
            if let (Some(blocks), Some(tokens)) = (of(Measure::KvBlocks), of(Measure::KvBlockTokens)) {
                snapshot.kv_capacity_tokens.get_or_insert(blocks * tokens);
            }
            // Counters appear with what they count: nothing in the server and no first token ever is nothing done.
            if snapshot.in_flight() == Some(0.0) && snapshot.ttft.is_none() && refused.is_empty() {
                snapshot.completions.get_or_insert(0.0);
            }
            ModelReading { model, snapshot, refused }
        };
        self.models.into_iter().map(finish_one).collect()
    }
}

impl Field {
    fn take(&mut self, slot: Slot, sample: &Sample<'_>) {
        let measure = slot.series.measure;
        let value = match (slot.series.kind, slot.part) {
            (Kind::Info, _) => match slot.dialect.capacity.tokens(|name| sample.label(name)) {
                Some(tokens) => tokens,
                None => return,
            },
            (Kind::GaugeSum | Kind::GaugeMean, _) => match self.original(slot, sample) {
                Some(value) => value,
                None => return,
            },
            (Kind::Counter | Kind::Histogram, _) => match plausible::counter(measure, sample.value) {
                Ok(value) => value,
                Err(refusal) => {
                    self.refused.get_or_insert(refusal);
                    return;
                }
            },
        };
        match slot.part {
            Part::Whole | Part::Sum => {
                self.total += value;
                self.series += 1.0;
            }
            Part::Count => self.count = Some(self.count.unwrap_or(0.0) + value),
            Part::Bucket => match sample.label("le").and_then(|le| le.parse::<f64>().ok()).filter(|le| !le.is_nan()) {
                Some(le) => add_bucket(&mut self.buckets, le.min(f64::MAX), value),
                None => {
                    let why = "a bucket without a readable `le`".to_owned();
                    self.refused.get_or_insert(Refusal { measure, percent: None, why });
                }
            },
        }
    }

    /// A gauge's value, when it is not the copy of one that was read: of copies the greatest counts.
    fn original(&mut self, slot: Slot, sample: &Sample<'_>) -> Option<f64> {
        if !slot.dialect.copy_labels.is_empty() {
            let rank = sample.label(slot.dialect.rank_label).unwrap_or("");
            if let Some(known) = self.by_rank.get(rank) {
                if *known >= sample.value {
                    return None;
                }
                self.total -= known;
                self.series -= 1.0;
            }
            self.by_rank.insert(rank.to_owned(), sample.value);
        }
        Some(sample.value)
    }

    /// The value of a gauge or a counter.
    fn value(&self, kind: Kind) -> Option<f64> {
        let of = if kind == Kind::GaugeMean { self.series } else { 1.0 };
        (self.series > 0.0).then(|| self.total / of)
    }

    fn store(&self, measure: Measure, kind: Kind, to: &mut Snapshot) -> Result<(), Refusal> {
        if let Some(refusal) = &self.refused {
            return Err(refusal.clone());
        }
        if kind == Kind::Histogram {
            let histogram = Some(cumulative(measure, self.buckets.clone(), self.total, self.count)?);
            match measure {
                Measure::Ttft => to.ttft = histogram,
                Measure::Itl => to.itl = histogram,
                Measure::InputTokens => to.input_tokens = histogram,
                _ => to.output_tokens = histogram,
            }
            return Ok(());
        }
        let Some(value) = self.value(kind).map(Some) else { return Ok(()) };
        match measure {
            Measure::Running => to.running = value,
            Measure::Waiting => to.waiting = value,
            Measure::KvUsage => to.kv_usage = value,
            Measure::KvCapacity => to.kv_capacity_tokens = value,
            // Half an answer each; the whole is made of both.
            Measure::KvBlocks | Measure::KvBlockTokens => {}
            Measure::Completions => to.completions = value,
            Measure::PrefixHits => to.prefix_hits = value,
            _ => to.prefix_queries = value,
        }
        Ok(())
    }
}

fn add_bucket(buckets: &mut Vec<(f64, f64)>, le: f64, value: f64) {
    match buckets.iter_mut().find(|(upper, _)| *upper == le) {
        Some((_, count)) => *count += value,
        None => buckets.push((le, value)),
    }
}

/// Make a histogram of (upper bound, observations at or below it) in any order.
///
/// # Errors
/// There is no bucket and no count, or the counts do not ascend.
pub fn cumulative(
    measure: Measure,
    mut buckets: Vec<(f64, f64)>,
    sum: f64,
    count: Option<f64>,
) -> Result<Cumulative, Refusal> {
    let refuse = |why: &str| Err(Refusal { measure, percent: None, why: why.to_owned() });
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    if buckets.last().is_none_or(|(upper, _)| *upper < f64::MAX) {
        match count {
            Some(count) => buckets.push((f64::MAX, count)),
            None => return refuse("a histogram without a `+Inf` bucket and without a count"),
        }
    }
    let mut highest = 0.0_f64;
    for (_, count) in &mut buckets {
        // Extrapolated increases differ in the last digits; anything more is a fault.
        if *count < highest - 1e-6 * highest.max(1.0) {
            return refuse("the buckets of a histogram do not ascend");
        }
        highest = highest.max(*count);
        *count = highest;
    }
    Ok(Cumulative {
        upper: buckets.iter().map(|(upper, _)| *upper).collect(),
        counts: buckets.iter().map(|(_, count)| *count).collect(),
        sum,
    })
}
