//! Rates over time without single requests, in four layouts.
//!
//! It owns how each layout becomes a staircase of mean rates, one of them with the noise that its minutes had. It
//! draws nothing: noise is drawn when the recording is played.

use super::table::Table;
use super::{MAX_RATE, MAX_SECONDS};
use crate::simulate::TraceError;

/// Mean range of seven values of a normal distribution, in its standard deviations: the lines of the digitised plots
/// cover about seven minutes a pixel column.
const RANGE_OF_SEVEN: f64 = 2.704;
/// Rows of an envelope may be this far apart, minutes.
const ENVELOPE_GAP_MINUTES: f64 = 60.0;
/// Rows of an envelope are evenly spaced up to this factor.
const UNEVEN: f64 = 1.5;

/// Mean rates of a service over time.
#[derive(Clone, Debug, PartialEq)]
pub struct RateTrace {
    pub(super) name: String,
    pub(super) column: Option<String>,
    pub(super) steps: Vec<RateStep>,
    pub(super) end_seconds: f64,
}

/// A rate that holds until the next step begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateStep {
    /// Seconds on the clock of the recording.
    pub at_seconds: f64,
    /// Mean, requests per second.
    pub rate: f64,
    /// Standard deviation of the step's rate about its mean, requests per second; what chance adds when requests come
    /// independently of each other is not in it.
    pub sigma: f64,
}

impl RateTrace {
    /// Rates that come from no trace file; `steps` are in time order and not empty.
    pub(in crate::simulate::replay) fn of_steps(name: &str, steps: Vec<RateStep>, end_seconds: f64) -> Self {
        Self { name: name.to_owned(), column: None, steps, end_seconds }
    }

    /// Which column of the file, where it has several.
    pub fn column(&self) -> Option<&str> {
        self.column.as_deref()
    }

    /// In time order, never empty; the last holds until the end of the recording.
    pub fn steps(&self) -> &[RateStep] {
        &self.steps
    }

    /// Where the last step ends, seconds on the clock of the recording.
    pub fn end_seconds(&self) -> f64 {
        self.end_seconds
    }

    pub(super) fn requests(&self) -> f64 {
        let ends = self.steps.iter().skip(1).map(|s| s.at_seconds).chain([self.end_seconds]);
        self.steps.iter().zip(ends).map(|(step, end)| step.rate * (end - step.at_seconds)).sum()
    }
}

/// `minute,NAME[,NAME...]`: requests in every minute, without a gap.
pub(super) fn per_minute(mut table: Table<'_>, column: Option<&str>) -> Result<RateTrace, TraceError> {
    let names = &table.columns()[1..];
    if let Some((_, twice)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        let what = format!("two columns are named `{twice}`, expected different names");
        return Err(TraceError::Row { file: table.file().to_owned(), line: 1, what });
    }
    let chosen = 1 + choose(&table, "column", names, column)?;
    let mut steps: Vec<RateStep> = vec![];
    while table.advance()? {
        let minute = f64::from(table.whole(0, 0, (MAX_SECONDS / 60.0) as u32)?);
        if let Some(before) = steps.last().map(|s| s.at_seconds / 60.0).filter(|before| before + 1.0 != minute) {
            let next = before + 1.0;
            return Err(
                table.refuse(format!("minute goes from {before} to {minute}, expected {next}: no minute missing"))
            );
        }
        let rate = table.number(chosen, 0.0, MAX_RATE)? / 60.0;
        steps.push(RateStep { at_seconds: 60.0 * minute, rate, sigma: 0.0 });
    }
    let end_seconds = steps.last().ok_or_else(|| table.too_few(1))?.at_seconds + 60.0;
    let column = Some(table.columns()[chosen].clone());
    Ok(RateTrace { name: table.file().to_owned(), column, steps, end_seconds })
}

/// `t_s,rate_rps`: a rate holds until the next row, the last as long as the one before it.
pub(super) fn plain(mut table: Table<'_>) -> Result<RateTrace, TraceError> {
    let mut steps: Vec<RateStep> = vec![];
    while table.advance()? {
        let at_seconds = table.number(0, 0.0, MAX_SECONDS)?;
        if let Some(before) = steps.last().map(|s| s.at_seconds).filter(|&before| before >= at_seconds) {
            return Err(
                table.refuse(format!("t_s goes from {before} to {at_seconds}, expected ascending times, each once"))
            );
        }
        steps.push(RateStep { at_seconds, rate: table.number(1, 0.0, MAX_RATE)?, sigma: 0.0 });
    }
    ended(&table, None, steps)
}

/// `workload,t_s,rate_rps,...`: windows of several services, one of which is chosen by its name.
pub(super) fn of_workload(mut table: Table<'_>, workload: Option<&str>) -> Result<RateTrace, TraceError> {
    let mut names: Vec<String> = vec![];
    let mut all: Vec<Vec<RateStep>> = vec![];
    while table.advance()? {
        let name = table.text(0);
        let number = names.iter().position(|n| n == name).unwrap_or(names.len());
        if number == names.len() {
            names.push(name.to_owned());
            all.push(vec![]);
        }
        let at_seconds = table.number(1, 0.0, MAX_SECONDS)?;
        let steps = &mut all[number];
        let before = steps.last().map(|s| s.at_seconds);
        let width = (steps.len() > 1).then(|| steps[1].at_seconds - steps[0].at_seconds);
        if let Some(before) = before
            && (at_seconds <= before || width.is_some_and(|width| at_seconds != before + width))
        {
            let next =
                width.map_or("a later time".to_owned(), |width| format!("{}: no window missing", before + width));
            return Err(
                table.refuse(format!("t_s of workload {name} goes from {before} to {at_seconds}, expected {next}"))
            );
        }
        steps.push(RateStep { at_seconds, rate: table.number(2, 0.0, MAX_RATE)?, sigma: 0.0 });
    }
    if names.is_empty() {
        return Err(table.too_few(2));
    }
    let chosen = choose(&table, "workload", &names, workload)?;
    ended(&table, Some(names.swap_remove(chosen)), all.swap_remove(chosen))
}

/// `minute,rpm_mid,rpm_lo,rpm_hi`: middle and envelope of a plotted line. Between the rows the middle is taken as
/// straight, before the first and after the last as flat, and the recording covers one spacing beyond both.
pub(super) fn envelope(mut table: Table<'_>) -> Result<RateTrace, TraceError> {
    // minute, mean and standard deviation, both in requests per minute
    let mut points: Vec<[f64; 3]> = vec![];
    while table.advance()? {
        let minute = table.number(0, 0.0, MAX_SECONDS / 60.0)?;
        let spacing = (points.len() > 1).then(|| points[1][0] - points[0][0]);
        if let Some(&[before, ..]) = points.last() {
            let most = spacing.map_or(ENVELOPE_GAP_MINUTES, |spacing| UNEVEN * spacing);
            if !(minute > before && minute - before <= most) {
                return Err(table.refuse(format!(
                    "minute goes from {before} to {minute}, expected more than {before} and at most {most:.2} later"
                )));
            }
        }
        let [mid, low, high] =
            [table.number(1, 0.0, MAX_RATE)?, table.number(2, 0.0, MAX_RATE)?, table.number(3, 0.0, MAX_RATE)?];
        if !(low <= mid && mid <= high) {
            return Err(table.refuse(format!("rpm_mid is {mid}, expected a number from rpm_lo {low} to rpm_hi {high}")));
        }
        // The plotted minutes were counts: a Poisson count has its mean as variance, and playing adds that again.
        let spread = (high - low) / RANGE_OF_SEVEN;
        points.push([minute, mid, (spread * spread - mid).max(0.0).sqrt()]);
    }
    let [first, .., last] = points.as_slice() else { return Err(table.too_few(2)) };
    let spacing = (last[0] - first[0]) / (points.len() - 1) as f64;
    let begin = (first[0] - spacing).round().max(0.0) as usize;
    let end = ((last[0] + spacing).round() as usize).max(begin + 1);
    let steps = (begin..end).map(|minute| step_of_minute(&points, minute as f64)).collect();
    Ok(RateTrace { name: table.file().to_owned(), column: None, steps, end_seconds: 60.0 * end as f64 })
}

/// The step of one minute: what the line shows at its middle.
fn step_of_minute(points: &[[f64; 3]], minute: f64) -> RateStep {
    let middle = minute + 0.5;
    let after = points.partition_point(|p| p[0] < middle).min(points.len() - 1);
    let [from, to] = [points[after.saturating_sub(1)], points[after]];
    let part = if to[0] > from[0] { ((middle - from[0]) / (to[0] - from[0])).clamp(0.0, 1.0) } else { 0.0 };
    let between = |i: usize| (from[i] + part * (to[i] - from[i])) / 60.0;
    RateStep { at_seconds: 60.0 * minute, rate: between(1), sigma: between(2) }
}

/// A trace whose last step is as long as the one before it.
fn ended(table: &Table<'_>, column: Option<String>, steps: Vec<RateStep>) -> Result<RateTrace, TraceError> {
    let [.., before, last] = steps.as_slice() else { return Err(table.too_few(2)) };
    let end_seconds = 2.0 * last.at_seconds - before.at_seconds;
    Ok(RateTrace { name: table.file().to_owned(), column, steps, end_seconds })
}

/// Number of the column or workload that is asked for; the only one when none is.
fn choose(table: &Table<'_>, what: &str, names: &[String], asked: Option<&str>) -> Result<usize, TraceError> {
    let list = names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    let refuse = |said: String| TraceError::Row { file: table.file().to_owned(), line: 1, what: said };
    match asked {
        None if names.len() == 1 => Ok(0),
        None => Err(refuse(format!("no {what} is chosen, expected one of {list}"))),
        Some(asked) => match names.iter().position(|name| name == asked) {
            Some(number) => Ok(number),
            None => Err(refuse(format!("there is no {what} `{asked}`, expected one of {list}"))),
        },
    }
}
