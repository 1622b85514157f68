//! What a wrong performance model, slow starts and late metrics do.

use anyhow::Result;
use poolwright::simulate::replay::{ModelError, Outcome, RunOptions};

use crate::Bench;
use crate::contest::attainment;
use crate::stage::Job;
use crate::table::{Section, Table, percent};
use crate::workloads::{Workload, a, starting_in};

/// Time that servers take over what the model says.
const FACTORS: [f64; 5] = [1.0, 1.25, 1.5, 0.75, 0.5];
/// Errors from which on a run is judged.
const JUDGED_ERROR: f64 = 0.5;
/// Time to recover, minutes.
const RECOVERY_MINUTES: usize = 15;
/// Minutes that are judged together.
const SPAN_MINUTES: usize = 10;
const STARTS_MINUTES: [f64; 4] = [0.5, 2.0, 5.0, 10.0];
const LAGS_SECONDS: [f64; 4] = [0.0, 15.0, 30.0, 60.0];
/// A step in a table is a cliff when so much more of the requests is late or the cost is so many times higher.
const CLIFF: (f64, f64) = (0.01, 1.25);

pub fn play(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "6. Wrong figures, slow starts, late metrics",
        "with servers 50 % slower or faster than their figures, the promised share is in time again within 15 minutes; \
         start-up of half a minute to ten, metrics 15 to 60 s old: no cliff.",
    );
    let workload = a()?;
    section.say(&format!("{}. Promised to 99 %.", workload.words()));
    errors(bench, &workload, &mut section)?;
    let starts: Result<Vec<Job>> = STARTS_MINUTES.iter().map(|m| job(bench, &workload, *m, 0.0)).collect();
    let names: Vec<String> = STARTS_MINUTES.iter().map(|m| format!("{m} min")).collect();
    steps(bench, ("start-up", &names), &starts?, &mut section);
    let lags: Result<Vec<Job>> = LAGS_SECONDS.iter().map(|s| job(bench, &workload, 5.0, *s)).collect();
    let names: Vec<String> = LAGS_SECONDS.iter().map(|s| format!("{s} s")).collect();
    steps(bench, ("metrics' age", &names), &lags?, &mut section);
    Ok(section)
}

fn job(bench: &Bench, workload: &Workload, startup_minutes: f64, lag_seconds: f64) -> Result<Job> {
    let policy = starting_in(&workload.policy, startup_minutes);
    let mut job = Job::ours(&workload.stage(policy, bench.windows(workload)[0])?, bench.seeds[0])?;
    job.options.lag_seconds = lag_seconds;
    Ok(job)
}

fn errors(bench: &Bench, workload: &Workload, section: &mut Section) -> Result<()> {
    let stage = workload.stage(workload.policy.clone(), bench.windows(workload)[0])?;
    let jobs: Result<Vec<Job>> = FACTORS
        .iter()
        .map(|factor| {
            let job = Job::ours(&stage, bench.seeds[0])?;
            let options = RunOptions { error: ModelError::Factor(*factor), ..job.options.clone() };
            Ok(Job { options, with_minutes: true, ..job })
        })
        .collect();
    let outcomes = bench.runner.run(&jobs?);
    let mut table =
        Table::new(&["servers take", "kept from minute", "first 15 min", "afterwards", "cost", "changes/day"]);
    for (factor, outcome) in FACTORS.iter().zip(&outcomes) {
        let level = outcome.classes.first().map_or(1.0, |c| c.quantile);
        let from = outcome.kept_from_minute(0, SPAN_MINUTES);
        let (first, then) = (between(outcome, 0, RECOVERY_MINUTES), between(outcome, RECOVERY_MINUTES, usize::MAX));
        table.row(vec![
            format!("{factor:.2} times"),
            from.map_or("never".into(), |minute| minute.to_string()),
            percent(first),
            percent(then),
            format!("{:.0}", outcome.cost),
            format!("{:.0}", outcome.actions_per_day()),
        ]);
        if (factor - 1.0).abs() >= JUDGED_ERROR {
            let minute = from.map_or("never".to_owned(), |minute| format!("from minute {minute}"));
            let is_met = from.is_some_and(|minute| minute <= RECOVERY_MINUTES) && then >= level;
            section.judge(is_met, format!("{factor:.2} times: {minute}, then {}", percent(then)));
        }
    }
    let window = bench.windows(workload)[0].name;
    section.say(&format!("All servers take this many times what the planner believes at the start; {window}:"));
    section.table(&table);
    Ok(())
}

fn between(outcome: &Outcome, from: usize, to: usize) -> f64 {
    let end = outcome.minutes.len();
    let minutes = &outcome.minutes[from.min(end)..to.min(end)];
    let sum = |of: fn(&poolwright::simulate::replay::MinutePoint) -> u32| {
        minutes.iter().map(|m| f64::from(of(m))).sum::<f64>()
    };
    let arrived = sum(|m| m.arrived[0]);
    if arrived > 0.0 { sum(|m| m.met[0]) / arrived } else { 1.0 }
}

/// A table of runs in which one thing gets worse step by step.
fn steps(bench: &Bench, (what, names): (&str, &[String]), jobs: &[Job], section: &mut Section) {
    let outcomes = bench.runner.run(jobs);
    let mut table = Table::new(&[what, "in time", "cost", "changes/day"]);
    for (name, outcome) in names.iter().zip(&outcomes) {
        table.row(vec![
            name.clone(),
            percent(attainment(outcome)),
            format!("{:.0}", outcome.cost),
            format!("{:.0}", outcome.actions_per_day()),
        ]);
    }
    let is_cliff = |pair: &[Outcome]| {
        attainment(&pair[0]) - attainment(&pair[1]) > CLIFF.0 || pair[1].cost > CLIFF.1 * pair[0].cost
    };
    let cliffs = outcomes.windows(2).filter(|pair| is_cliff(pair)).count();
    let worst = outcomes.iter().map(attainment).fold(1.0, f64::min);
    section.judge(cliffs == 0, format!("{what}: {cliffs} cliffs, in time at least {}", percent(worst)));
    section.table(&table);
}
