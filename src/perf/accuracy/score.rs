//! Errors of predictions, by group and over all.

use std::collections::BTreeMap;

use serde::Serialize;

use super::calibrate::Calibration;
use super::fitting::is_queue_dominated;
use super::subject::{Group, Mode, Subject};
use crate::perf::roofline::{ByKind, Constants, Latency, Spreads};

/// How points are scored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Points of each group that calibrate its predictions and are not scored.
    pub calibrate: Option<usize>,
    /// Which points are drawn.
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Dense,
    Mixture,
}

/// Relative errors of one latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Errors {
    pub rows: usize,
    pub mean: f64,
    pub median: f64,
    pub p90: f64,
    /// Mean of the groups' means; equal to `mean` in a single group.
    pub group_mean: f64,
    /// Share of the measured values inside the stated 90 % interval.
    pub covered: f64,
}

/// One group, or all of one mode and kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    pub name: String,
    pub mode: &'static str,
    pub kind: Kind,
    pub tpot: Errors,
    /// Rows whose first token waited for memory or for a place are left out.
    pub ttft: Errors,
    /// With points of the group; absent where none were asked for or the group has too few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrated_tpot: Option<Errors>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrated_ttft: Option<Errors>,
}

/// Aggregated rows by predicted use of the KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct KvBand {
    /// Use from, up to.
    pub from: f64,
    pub to: f64,
    pub rows: usize,
    /// Rows whose TTFT is more than 3 times the predicted one without queueing and more than 2 s.
    pub queue_dominated: usize,
}

/// Rows that cannot be modelled, by reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unmodelled {
    pub reason: String,
    pub rows: usize,
    pub first_line: u64,
}

/// All that is printed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub rows: usize,
    pub modelled: usize,
    pub groups: Vec<Score>,
    pub totals: Vec<Score>,
    pub kv: Vec<KvBand>,
    /// Modelled aggregated rows whose time per token is shorter than the data sheet allows for reading weights
    /// and cache once: served from a prefix cache, with speculative decoding, or with fewer requests at once than
    /// the row says. They are scored like all.
    pub faster_than_possible: usize,
    pub unmodelled: Vec<Unmodelled>,
}

/// Predicted and measured values of one row.
struct Judged {
    group: Group,
    mode: Mode,
    kind: Kind,
    plain: Pair,
    calibrated: Option<Pair>,
}

#[derive(Clone, Copy)]
struct Pair {
    tpot: Judgement,
    /// Absent when the row queued.
    ttft: Option<Judgement>,
}

#[derive(Clone, Copy)]
struct Judgement {
    error: f64,
    covered: bool,
}

/// Scores predictions, in the order of `subjects`; a prediction is missing where the row does not fit memory.
pub fn score(
    subjects: &[Subject],
    predictions: &[Option<Latency>],
    constants: &Constants,
    mut unmodelled: Vec<Unmodelled>,
    options: &Options,
) -> Report {
    let rows = subjects.len() + unmodelled.iter().map(|u| u.rows).sum::<usize>();
    let both: Vec<(&Subject, &Latency)> =
        subjects.iter().zip(predictions).filter_map(|(s, p)| Some((s, p.as_ref()?))).collect();
    let judged = judge(&both, constants, options);
    unmodelled.sort_by(|a, b| b.rows.cmp(&a.rows).then(a.reason.cmp(&b.reason)));
    let mut by_group: BTreeMap<(Mode, Kind, Group), Vec<&Judged>> = BTreeMap::new();
    let mut totals: BTreeMap<(Mode, Kind), Vec<&Judged>> = BTreeMap::new();
    for row in &judged {
        by_group.entry((row.mode, row.kind, row.group.clone())).or_default().push(row);
        totals.entry((row.mode, row.kind)).or_default().push(row);
    }
    let floor = |s: &Subject| s.roofline(constants).map_or(0.0, |r| r.floor_seconds(&s.closed_loop));
    Report {
        rows,
        modelled: both.len(),
        groups: by_group
            .iter()
            .map(|((mode, kind, group), rows)| scored(group.to_string(), *mode, *kind, rows))
            .collect(),
        totals: totals.iter().map(|((mode, kind), rows)| scored("all".to_owned(), *mode, *kind, rows)).collect(),
        kv: kv_bands(&both),
        faster_than_possible: both
            .iter()
            .filter(|(s, _)| s.mode == Mode::Aggregated && s.tpot_seconds < floor(s))
            .count(),
        unmodelled,
    }
}

fn judge(both: &[(&Subject, &Latency)], constants: &Constants, options: &Options) -> Vec<Judged> {
    let mut by_group: BTreeMap<(Mode, &Group), Vec<(&Subject, &Latency)>> = BTreeMap::new();
    for (subject, latency) in both {
        by_group.entry((subject.mode, &subject.group)).or_default().push((subject, latency));
    }
    let mut all = vec![];
    for ((mode, group), rows) in &by_group {
        let calibration = options
            .calibrate
            .filter(|count| rows.len() > *count && *mode == Mode::Aggregated)
            .map(|count| Calibration::of_some(rows, count, options.seed));
        for (i, (subject, latency)) in rows.iter().enumerate() {
            let is_mixture = subject.is_mixture();
            let plain = constants.spread(subject.sheet.generation, is_mixture);
            let scored = calibration.as_ref().filter(|(_, rest)| rest.contains(&i));
            all.push(Judged {
                group: (*group).clone(),
                mode: *mode,
                kind: if is_mixture { Kind::Mixture } else { Kind::Dense },
                plain: pair(subject, latency.tpot_seconds(), latency.ttft_seconds(), &plain),
                calibrated: scored.map(|(calibration, _)| {
                    let (tpot, ttft) = calibration.apply(latency);
                    pair(subject, tpot, ttft, &by_kind(&constants.calibrated, is_mixture))
                }),
            });
        }
    }
    all
}

fn by_kind(spreads: &ByKind<Spreads>, is_mixture: bool) -> Spreads {
    spreads.of(is_mixture)
}

fn pair(subject: &Subject, tpot: f64, ttft: f64, spreads: &Spreads) -> Pair {
    let judgement =
        |predicted: f64, measured: f64, covered| Judgement { error: (predicted / measured - 1.0).abs(), covered };
    let queued = is_queue_dominated(subject.ttft_seconds, ttft);
    Pair {
        tpot: judgement(tpot, subject.tpot_seconds, spreads.tpot.covers(tpot, subject.tpot_seconds)),
        ttft: (!queued).then(|| judgement(ttft, subject.ttft_seconds, spreads.ttft.covers(ttft, subject.ttft_seconds))),
    }
}

fn scored(name: String, mode: Mode, kind: Kind, rows: &[&Judged]) -> Score {
    let errors = |of: &dyn Fn(&Judged) -> Option<Judgement>| {
        let told: Vec<(&Group, Judgement)> = rows.iter().filter_map(|r| Some((&r.group, of(r)?))).collect();
        summary(&told)
    };
    let calibrated = |errors: Errors| (errors.rows > 0).then_some(errors);
    Score {
        name,
        mode: match mode {
            Mode::Aggregated => "aggregated",
            Mode::Disaggregated => "disaggregated",
        },
        kind,
        tpot: errors(&|r| Some(r.plain.tpot)),
        ttft: errors(&|r| r.plain.ttft),
        calibrated_tpot: calibrated(errors(&|r| Some(r.calibrated?.tpot))),
        calibrated_ttft: calibrated(errors(&|r| r.calibrated?.ttft)),
    }
}

fn summary(told: &[(&Group, Judgement)]) -> Errors {
    if told.is_empty() {
        return Errors::default();
    }
    let mut groups: BTreeMap<&Group, Vec<f64>> = BTreeMap::new();
    for (group, judgement) in told {
        groups.entry(group).or_default().push(judgement.error);
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let errors: Vec<(f64, f64)> = told.iter().map(|(_, j)| (j.error, 1.0)).collect();
    let means: Vec<f64> = groups.values().map(|errors| mean(errors)).collect();
    Errors {
        rows: told.len(),
        mean: errors.iter().map(|e| e.0).sum::<f64>() / errors.len() as f64,
        median: quantile(&errors, 0.5),
        p90: quantile(&errors, 0.9),
        group_mean: mean(&means),
        covered: told.iter().filter(|(_, j)| j.covered).count() as f64 / told.len() as f64,
    }
}

fn kv_bands(both: &[(&Subject, &Latency)]) -> Vec<KvBand> {
    let bounds = [0.0, 0.3, 0.8, 1.0, f64::INFINITY];
    let band = |pair: &[f64]| {
        let (from, to) = (pair[0], pair[1]);
        let inside: Vec<_> =
            both.iter().filter(|(s, l)| s.mode == Mode::Aggregated && l.kv_use >= from && l.kv_use < to).collect();
        let queued = inside.iter().filter(|(s, l)| is_queue_dominated(s.ttft_seconds, l.ttft_seconds()));
        KvBand { from, to, rows: inside.len(), queue_dominated: queued.count() }
    };
    bounds.windows(2).map(band).collect()
}

/// Quantile of weighted values; 0 of none.
pub(super) fn quantile(values: &[(f64, f64)], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = sorted.iter().map(|v| v.1).sum();
    let mut seen = 0.0;
    for (value, weight) in &sorted {
        seen += weight;
        if seen >= share * total {
            return *value;
        }
    }
    sorted.last().map_or(0.0, |v| v.0)
}

/// Standard deviation as the middle two thirds tell it: wild values do not matter.
pub(super) fn deviation(values: &[(f64, f64)]) -> f64 {
    (quantile(values, 0.841) - quantile(values, 0.159)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_follow_the_weights() {
        let values = [(3.0, 1.0), (1.0, 1.0), (2.0, 8.0)];
        assert_eq!([0.05, 0.5, 0.95].map(|q| quantile(&values, q)), [1.0, 2.0, 3.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn one_wild_value_leaves_the_deviation() {
        let mut values: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i) / 100.0, 1.0)).collect();
        let before = deviation(&values);
        values.push((1e6, 1.0));
        assert!((deviation(&values) / before - 1.0).abs() < 0.05);
    }
}
