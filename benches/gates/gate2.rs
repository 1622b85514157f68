//! One fleet for three classes against a fleet for each of them, under our own rule.

use anyhow::Result;
use poolwright::policy::Policy;
use poolwright::simulate::replay::Outcome;

use crate::Bench;
use crate::stage::Job;
use crate::table::{Section, Table, percent, spread};
use crate::workloads::{Workload, c, policy};

const SAVING: f64 = 0.10;
pub fn play(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "2. One fleet for all classes",
        "on C the shared fleet is at least 10 % cheaper than a fleet for each class, and serves as well.",
    );
    let workload = c()?;
    section.say(&format!("{}.", workload.words()));
    let shared = runs(bench, &workload, workload.policy.clone())?;
    let apart = runs(bench, &workload, policy("apart")?)?;
    let parts = [
        ("one for all, without batch work", runs_of(bench, &workload.with(&["chat", "code"]))?),
        ("one for all, batch work only", runs_of(bench, &workload.with(&["batch"]))?),
    ];
    let mut table = Table::new(&["fleet", "cost", "chat", "code", "batch", "changes/day"]);
    let judged = [("one for all", &shared), ("one for each", &apart)];
    for (name, outcomes) in judged.into_iter().chain(parts.iter().map(|(name, outcomes)| (*name, outcomes))) {
        let class = |class: usize| {
            let all: Vec<f64> = outcomes.iter().filter_map(|o| o.classes[class].attainment).collect();
            if all.is_empty() { String::new() } else { spread(&all, percent) }
        };
        let costs: Vec<f64> = outcomes.iter().map(|o| o.cost).collect();
        let actions: Vec<f64> = outcomes.iter().map(Outcome::actions_per_day).collect();
        let mut row = vec![name.to_owned(), spread(&costs, |c| format!("{c:.0}"))];
        row.extend((0..3).map(class));
        row.push(spread(&actions, |n| format!("{n:.0}")));
        table.row(row);
    }
    section.say(&format!("Played: {}, seeds {:?}.", bench.long(&workload).name, bench.seeds));
    section.table(&table);
    let saving = shared.iter().zip(&apart).map(|(s, a)| 1.0 - s.cost / a.cost).fold(f64::INFINITY, f64::min);
    section.judge(saving >= SAVING, format!("{:.1} % cheaper", 100.0 * saving));
    // A class that keeps its promise serves as well as is asked for, whatever the other fleet did beyond.
    let serves = |s: &Outcome, a: &Outcome| {
        s.classes.iter().zip(&a.classes).all(|(s, a)| {
            let share = s.attainment.unwrap_or(1.0);
            share >= s.quantile.min(a.attainment.unwrap_or(1.0))
        })
    };
    let is_equal = shared.iter().zip(&apart).all(|(s, a)| serves(s, a));
    section.judge(is_equal, if is_equal { "serves as well".into() } else { "does not serve as well".into() });
    Ok(section)
}

/// Under its own policy.
fn runs_of(bench: &Bench, workload: &Workload) -> Result<Vec<Outcome>> {
    runs(bench, workload, workload.policy.clone())
}

fn runs(bench: &Bench, workload: &Workload, policy: Policy) -> Result<Vec<Outcome>> {
    let stage = workload.stage(policy, bench.long(workload))?;
    let jobs: Result<Vec<Job>> = bench.seeds.iter().map(|seed| Job::ours(&stage, *seed)).collect();
    Ok(bench.runner.run(&jobs?))
}
