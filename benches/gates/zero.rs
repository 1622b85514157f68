//! Models that are not asked for: what they cost then, and how long the first request waits.

use anyhow::Result;
use poolwright::simulate::replay::MinutePoint;

use crate::Bench;
use crate::contest::attainment;
use crate::stage::Job;
use crate::table::{Section, Table, Verdict, percent};
use crate::workloads::{on_off, starting_in};

const STARTS_MINUTES: [f64; 3] = [0.5, 2.0, 5.0];

pub fn play(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("9. To zero and back", "no mark: a model that nobody asks for costs nothing.");
    let workload = on_off()?;
    let window = if bench.is_quick { workload.quick } else { workload.week };
    let jobs: Result<Vec<Job>> = STARTS_MINUTES
        .iter()
        .map(|minutes| {
            let stage = workload.stage(starting_in(&workload.policy, *minutes), window)?;
            Ok(Job { with_minutes: true, ..Job::ours(&stage, bench.seeds[0])? })
        })
        .collect();
    let outcomes = bench.runner.run(&jobs?);
    let mut table = Table::new(&[
        "start-up",
        "idle minutes at no cost",
        "first request waits at most",
        "in time",
        "cost",
        "changes/day",
    ]);
    for (minutes, outcome) in STARTS_MINUTES.iter().zip(&outcomes) {
        let idle: Vec<&MinutePoint> = outcome.minutes.iter().filter(|m| m.arrived.iter().all(|n| *n == 0)).collect();
        let free = idle.iter().filter(|m| m.cost_per_hour == 0.0).count();
        let wake = outcome.classes.iter().filter_map(|c| c.longest_wake_seconds).fold(0.0, f64::max);
        table.row(vec![
            format!("{minutes} min"),
            percent(free as f64 / idle.len().max(1) as f64),
            format!("{wake:.0} s"),
            percent(attainment(outcome)),
            format!("{:.2}", outcome.cost),
            format!("{:.0}", outcome.actions_per_day()),
        ]);
    }
    section.verdict = Verdict::Elsewhere;
    section.say(&format!(
        "{}, {}, seed {}. Requests that wait for the first replica are late.",
        workload.about, window.name, bench.seeds[0]
    ));
    section.table(&table);
    Ok(section)
}
