//! What single parts of our planner are worth: the same replay with one of them set aside.

use anyhow::Result;
use poolwright::policy::Policy;
use poolwright::simulate::replay::singles;

use crate::Bench;
use crate::contest::{attainment, hours_kept};
use crate::stage::Job;
use crate::table::{Section, Table, Verdict, percent};
use crate::workloads::{a, only_on};

pub fn play(bench: &Bench) -> Result<Section> {
    let mut section = Section::new("8. Parts of the planner", "no mark: the same replay with one part set aside.");
    let workload = a()?;
    let with = |change: fn(&mut Policy)| {
        let mut policy = workload.policy.clone();
        change(&mut policy);
        policy
    };
    let mut variants: Vec<(String, Policy)> = vec![
        ("as shipped".into(), workload.policy.clone()),
        ("planned for the median forecast".into(), with(|p| p.planner.demand_quantile = 0.5)),
        ("planned for the 99th percentile of the forecast".into(), with(|p| p.planner.demand_quantile = 0.99)),
        ("no dwell before giving back".into(), with(|p| p.planner.scale_down_dwell_seconds = 0.0)),
        ("ten minutes of dwell".into(), with(|p| p.planner.scale_down_dwell_seconds = 600.0)),
    ];
    for hardware in singles(&workload.policy) {
        variants.push((format!("only {}", hardware.words(&workload.policy)), only_on(&workload.policy, &hardware)));
    }
    let window = bench.windows(&workload)[0];
    let jobs: Result<Vec<Job>> = variants
        .iter()
        .map(|(_, policy)| Job::ours(&workload.stage(policy.clone(), window)?, bench.seeds[0]))
        .collect();
    let outcomes = bench.runner.run(&jobs?);
    let mut table = Table::new(&["variant", "in time", "hours kept", "cost", "changes/day"]);
    for ((name, _), outcome) in variants.iter().zip(&outcomes) {
        table.row(vec![
            name.clone(),
            percent(attainment(outcome)),
            percent(hours_kept(outcome)),
            format!("{:.0}", outcome.cost),
            format!("{:.0}", outcome.actions_per_day()),
        ]);
    }
    section.verdict = Verdict::Elsewhere;
    section.say(&format!("Workload A, {}, seed {}.", window.name, bench.seeds[0]));
    section.table(&table);
    Ok(section)
}
