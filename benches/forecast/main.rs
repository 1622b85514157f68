//! Upper bounds of the peak minute of the next minutes on recorded services, beside the published rules.
//! `make bench-forecast` prints the tables and, for each service and horizon, whether the marks are met.
//!
//! Every minute after a warm-up is an origin. Pinball loss, the mean of bound over peak and the mean change of the
//! bound from minute to minute are relative to the mean rate (loss, change) and to the peak (over).

mod judge;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use judge::Contest;
use judge::series::{self, Series};

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

fn main() -> Result<()> {
    let options = Options::parse();
    let mut verdicts = vec![];
    let (mut calls, mut spent) = (0, 0.0);
    let mut all = series::all(&options.dir, &options.seeds)?;
    all.retain(|s| s.name.contains(&options.only));
    if options.first_day {
        all.iter_mut().for_each(keep_first_day);
    }
    for series in &all {
        for horizon in &options.horizons {
            let contest = Contest::play(series, *horizon, options.quantile);
            spent += contest.seconds;
            calls += series.rates.len();
            if !options.brief {
                table(series, *horizon, &contest);
            }
            verdicts.push(verdict(series, *horizon, &contest));
        }
    }
    println!("\nmarks: loss at most 3 % above the best published rule, coverage 93-97 %");
    for (line, _) in &verdicts {
        println!("  {line}");
    }
    let met = verdicts.iter().filter(|(_, met)| *met == Some(true)).count();
    let gated = verdicts.iter().filter(|(_, met)| met.is_some()).count();
    println!(
        "{met} of {gated} met; {:.1} us for a minute and its bound",
        1e6 * spent / f64::max(f64::from(calls as u32), 1.0)
    );
    Ok(())
}

fn table(series: &Series, horizon: usize, contest: &Contest) {
    println!(
        "\n{}, next {horizon} min{:>17} {:>9} {:>10} {:>8}",
        series.name, "pinball %", "coverage", "over peak", "change"
    );
    for (name, s) in [("poolwright", contest.ours)].iter().chain(&contest.others) {
        println!("  {name:<28} {:>9.3} {:>8.1}% {:>9.1}% {:>7.2}%", s.loss, s.coverage, s.over, s.change);
    }
}

fn keep_first_day(series: &mut Series) {
    series.rates.truncate(1440);
    series.warm_up = series.warm_up.min(360);
}

/// One line, and whether the marks are met where they count.
fn verdict(series: &Series, horizon: usize, contest: &Contest) -> (String, Option<bool>) {
    let Some((name, best)) = contest.best() else {
        return (format!("{} {horizon} min: nothing to compare", series.name), None);
    };
    let ours = contest.ours;
    let more = 100.0 * (ours.loss / best.loss - 1.0);
    let (loss, coverage) = contest.met();
    let word = match (series.gated, loss, coverage) {
        (false, ..) => "report only",
        (_, true, true) => "met",
        (_, false, true) => "MISSED by loss",
        (_, true, false) => "MISSED by coverage",
        _ => "MISSED by both",
    };
    let line = format!(
        "{:<22} {horizon:>2} min  loss {:.3} {more:>+6.1} % against {:.3} ({name}), coverage {:.1} %, change {:.2} (best rule {:.2}): {word}",
        series.name, ours.loss, best.loss, ours.coverage, ours.change, best.change
    );
    (line, series.gated.then_some(loss && coverage))
}
