//! One fleet for three classes against a fleet for each of them, under our own rule.

use anyhow::Result;
use poolwright::policy::Policy;
use poolwright::simulate::replay::{Comparison, Outcome};

use crate::Bench;
use crate::contest::keeps;
use crate::stage::Job;
use crate::table::{Section, Table, percent, spread};
use crate::workloads::{Workload, at_level, c, policy};

const SAVING: f64 = 0.10;
/// Promised shares that are tried with a fleet for each class; the first is the policy's.
const LEVELS: [f64; 4] = [0.99, 0.95, 0.9, 0.8];
pub fn play(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "2. One fleet for all classes",
        "on C the shared fleet is at least 10 % cheaper than a fleet for each class, and serves as well.",
    );
    let workload = c()?;
    section.say(&format!("{}.", workload.words()));
    let shared = runs(bench, &workload, workload.policy.clone())?;
    let (promised, apart) = apart(bench, &workload, &shared)?;
    let parts = [
        ("one for all, without batch work", runs_of(bench, &workload.with(&["chat", "code"]))?),
        ("one for all, batch work only", runs_of(bench, &workload.with(&["batch"]))?),
    ];
    let mut table = Table::new(&["fleet", "cost", "chat", "code", "batch", "changes/day"]);
    let words = format!("one for each, promised {} %", 100.0 * promised);
    let judged = [("one for all", &shared), (words.as_str(), &apart)];
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
    let is_kept = shared.iter().all(keeps);
    section.judge(
        is_kept,
        format!("every class of the shared fleet {} its promise", if is_kept { "keeps" } else { "breaks" }),
    );
    section.say(
        "A fleet for each class is tried with less promised than in the policy too, and judged by the cheapest that serves \
         every class as well as the shared fleet did; by the policy as it is when none does.",
    );
    Ok(section)
}

/// A fleet for each class: the cheapest that serves as well as the shared one, and what it was promised.
fn apart(bench: &Bench, workload: &Workload, shared: &[Outcome]) -> Result<(f64, Vec<Outcome>)> {
    let policy = policy("apart")?;
    let mut found = (LEVELS[0], runs(bench, workload, at_level(&policy, LEVELS[0]))?);
    for level in &LEVELS[1..] {
        let outcomes = runs(bench, workload, at_level(&policy, *level))?;
        let serves = outcomes.iter().zip(shared).all(|(apart, shared)| Comparison::serves_as_well(apart, shared));
        if serves && outcomes[0].cost < found.1[0].cost {
            found = (*level, outcomes);
        }
    }
    Ok(found)
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
