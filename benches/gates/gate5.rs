//! How much of what mixed hardware saves on paper is left when the load moves.

use anyhow::Result;
use poolwright::control::{State, size};
use poolwright::policy::Policy;
use poolwright::simulate::replay::{Hardware, Outcome, singles};

use crate::Bench;
use crate::contest::{Contest, attainment, keeps};
use crate::stage::Stage;
use crate::table::{Section, Table, percent};
use crate::workloads::{Workload, only_on, small};

/// Share of the saving on paper that has to be left.
const SURVIVES: f64 = 0.8;
/// Savings below this are none.
const LEAST_SAVING: f64 = 0.05;
/// Every so manieth minute is sized.
const EVERY: usize = 10;

pub fn play(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "5. Mixed hardware against the best single type",
        "conversations and code on a model of 8B, ITL 40 ms, about 16 requests/s: where the plan for the true rates saves \
         with mixed types, at least 80 % of that saving is left in the replay.",
    );
    let mut table = Table::new(&["sizes", "fleet", "on paper", "replayed", "in time", "changes/day"]);
    for (name, workload) in [("conversation", small(false)?), ("code", small(true)?)] {
        on(bench, name, &workload, &mut section, &mut table)?;
    }
    section.table(&table);
    section.say("Costs are per hour. On paper: the plan for the true rates of every tenth minute, without any reserve for start-up.");
    Ok(section)
}

fn on(bench: &Bench, name: &str, workload: &Workload, section: &mut Section, table: &mut Table) -> Result<()> {
    let seed = bench.seeds[0];
    let mixed = bench.stages(workload, &workload.policy)?;
    let on_paper = |policy: &Policy| {
        let each = mixed.iter().map(|stage| paper(stage, policy, seed) * stage.seconds()).sum::<f64>();
        each / mixed.iter().map(|stage| stage.seconds()).sum::<f64>()
    };
    let mut alone: Vec<(Hardware, f64)> = singles(&workload.policy)
        .into_iter()
        .map(|hardware| {
            let cost = on_paper(&only_on(&workload.policy, &hardware));
            (hardware, cost)
        })
        .filter(|(_, cost)| cost.is_finite())
        .collect();
    alone.sort_by(|a, b| a.1.total_cmp(&b.1));
    let Some((single, single_paper)) = alone.into_iter().next() else {
        section.judge(false, format!("{name}: no single type serves it"));
        return Ok(());
    };
    let mixed_paper = on_paper(&workload.policy);
    let restricted = bench.stages(workload, &only_on(&workload.policy, &single))?;
    let contest = Contest { runner: &bench.runner, stages: &mixed, seed, most_cost: &[] };
    let outcomes = [contest.ours()?, Contest { stages: &restricted, ..contest }.ours()?];
    let words = single.words(&workload.policy);
    for (fleet, cost, outcome) in [("mixed", mixed_paper, &outcomes[0]), (words.as_str(), single_paper, &outcomes[1])] {
        table.row(vec![
            name.to_owned(),
            fleet.to_owned(),
            format!("{cost:.2}"),
            format!("{:.2}", per_hour(outcome)),
            percent(attainment(outcome)),
            format!("{:.0}", outcome.actions_per_day()),
        ]);
    }
    let (planned, left) = (1.0 - mixed_paper / single_paper, 1.0 - outcomes[0].cost / outcomes[1].cost);
    if planned < LEAST_SAVING {
        section.say(&format!("{name}: the plan saves {} only; nothing to keep.", percent(planned)));
        section.judge(true, format!("{name}: no saving on paper"));
        return Ok(());
    }
    section.judge(
        left >= SURVIVES * planned,
        format!("{name}: {} of {} saved, {:.0} %", percent(left), percent(planned), 100.0 * left / planned),
    );
    section.judge(
        keeps(&outcomes[0]) || !keeps(&outcomes[1]),
        format!("{name}: in time {}", percent(attainment(&outcomes[0]))),
    );
    Ok(())
}

/// Mean cost per hour of the plans for the true rates; infinite when something is not served within its target.
fn paper(stage: &Stage, policy: &Policy, seed: u64) -> f64 {
    let truth = stage.truth(seed);
    let mut state = State::default();
    let costs: Vec<f64> = truth
        .minutes
        .iter()
        .step_by(EVERY)
        .map(|demands| {
            let sizing = size(policy, demands, &mut state);
            if sizing.shortfall_rate > 1e-6 { f64::INFINITY } else { sizing.cost_per_hour }
        })
        .collect();
    costs.iter().sum::<f64>() / costs.len().max(1) as f64
}

fn per_hour(outcome: &Outcome) -> f64 {
    outcome.cost * 3600.0 / outcome.seconds
}
