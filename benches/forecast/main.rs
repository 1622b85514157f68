//! Upper bounds of the peak minute of the next minutes on recorded services, beside the published rules.
//! `make bench-forecast` prints the tables and, for each service and horizon, whether the marks are met.
//!
//! Every minute after a warm-up is an origin. Pinball loss, the mean of bound over peak and the mean change of the
//! bound from minute to minute are relative to the mean rate (loss, change) and to the peak (over).

mod rules;
mod series;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use poolwright::demand::RateMemory;

use rules::{peaks, pinball};
use series::Series;

/// Loss over that of the best published rule that is allowed.
const MOST_LOSS: f64 = 1.03;
/// Share of peaks that the bound has to hold, %.
const COVERAGE: std::ops::RangeInclusive<f64> = 93.0..=97.0;

#[derive(Debug, Parser)]
struct Options {
    /// Folder of the traces.
    #[arg(long, default_value = "data/traces")]
    dir: PathBuf,
    /// Only series whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Horizons, minutes.
    #[arg(long, value_delimiter = ',', default_value = "1,5,15")]
    horizons: Vec<usize>,
    /// Share of peaks that should be held.
    #[arg(long, default_value_t = 0.95)]
    quantile: f64,
    /// Seeds of the noise of the digitised weeks.
    #[arg(long, value_delimiter = ',', default_value = "11,12,13")]
    seeds: Vec<u64>,
    /// Only the first day of every series, origins after six hours.
    #[arg(long)]
    first_day: bool,
    /// Only the verdicts.
    #[arg(long)]
    brief: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How a rule did.
#[derive(Clone, Copy)]
struct Score {
    loss: f64,
    coverage: f64,
    over: f64,
    change: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut verdicts = vec![];
    let (mut calls, mut spent) = (0, 0.0);
    let mut all = series::all(&options.dir, &options.seeds)?;
    all.retain(|s| s.name.contains(&options.only));
    if options.first_day {
        all.iter_mut().for_each(Series::keep_first_day);
    }
    for series in &all {
        for horizon in &options.horizons {
            let started = Instant::now();
            let ours = ours(&series.rates, *horizon, options.quantile);
            spent += started.elapsed().as_secs_f64();
            calls += series.rates.len();
            let rules = rules::all(&series.rates, *horizon, options.quantile);
            let score = |bounds: &[f64]| score(series, bounds, *horizon, options.quantile);
            let others: Vec<(&str, Score)> = rules.iter().map(|(name, bounds)| (*name, score(bounds))).collect();
            if !options.brief {
                table(series, *horizon, score(&ours), &others);
            }
            verdicts.push(verdict(series, *horizon, score(&ours), &others));
        }
    }
    println!("\nmarks: loss at most 3 % above the best published rule, coverage 93-97 %");
    for (line, _) in &verdicts {
        println!("{line}");
    }
    let met = verdicts.iter().filter(|(_, met)| *met == Some(true)).count();
    let gated = verdicts.iter().filter(|(_, met)| met.is_some()).count();
    println!(
        "{met} of {gated} met; {:.1} us for a minute and its bound",
        1e6 * spent / f64::max(f64::from(calls as u32), 1.0)
    );
    Ok(())
}

/// The project's own bound after every minute.
fn ours(rates: &[f64], horizon: usize, quantile: f64) -> Vec<f64> {
    let mut memory = RateMemory::default();
    rates
        .iter()
        .enumerate()
        .map(|(minute, rate)| {
            memory.note(60.0 * (minute + 1) as f64, *rate);
            memory.peak(60.0 * horizon as f64, quantile).map_or(f64::NAN, |f| f.rate)
        })
        .collect()
}

fn score(series: &Series, bounds: &[f64], horizon: usize, quantile: f64) -> Score {
    let peaks = peaks(&series.rates, horizon);
    let origins = series.warm_up..peaks.len();
    let count = origins.len() as f64;
    let mean = series.rates[series.warm_up..].iter().sum::<f64>() / (series.rates.len() - series.warm_up) as f64;
    let sum = |of: &dyn Fn(usize) -> f64| 100.0 * origins.clone().map(of).sum::<f64>() / count;
    Score {
        loss: sum(&|at| pinball(quantile, peaks[at], bounds[at])) / mean,
        coverage: sum(&|at| f64::from(u8::from(peaks[at] <= bounds[at]))),
        over: sum(&|at| bounds[at]) / sum(&|at| peaks[at]) * 100.0 - 100.0,
        change: sum(&|at| (bounds[at] - bounds[at - 1]).abs()) / mean,
    }
}

fn table(series: &Series, horizon: usize, ours: Score, others: &[(&str, Score)]) {
    println!(
        "\n{}, next {horizon} min{:>17} {:>9} {:>10} {:>8}",
        series.name, "pinball %", "coverage", "over peak", "change"
    );
    for (name, s) in [("poolwright", ours)].iter().chain(others) {
        println!("  {name:<28} {:>9.3} {:>8.1}% {:>9.1}% {:>7.2}%", s.loss, s.coverage, s.over, s.change);
    }
}

/// One line, and whether the marks are met where they count.
fn verdict(series: &Series, horizon: usize, ours: Score, others: &[(&str, Score)]) -> (String, Option<bool>) {
    let best = others.iter().filter(|(_, s)| s.loss.is_finite()).min_by(|a, b| a.1.loss.total_cmp(&b.1.loss));
    let Some((name, best)) = best else {
        return (format!("  {} {horizon} min: nothing to compare", series.name), None);
    };
    let more = 100.0 * (ours.loss / best.loss - 1.0);
    let (loss, coverage) = (ours.loss <= MOST_LOSS * best.loss, COVERAGE.contains(&ours.coverage));
    let word = match (series.gated, loss, coverage) {
        (false, ..) => "report only",
        (_, true, true) => "met",
        (_, false, true) => "MISSED by loss",
        (_, true, false) => "MISSED by coverage",
        _ => "MISSED by both",
    };
    let line = format!(
        "  {:<22} {horizon:>2} min  loss {:.3} {more:>+6.1} % against {:.3} ({name}), coverage {:.1} %, change {:.2} (best rule {:.2}): {word}",
        series.name, ours.loss, best.loss, ours.coverage, ours.change, best.change
    );
    (line, series.gated.then_some(loss && coverage))
}
