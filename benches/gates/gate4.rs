//! How far from a planner that knows the true rates of the minutes to come.

use anyhow::Result;
use poolwright::simulate::replay::{Kind, Outcome, kind_named};

use crate::Bench;
use crate::contest::{Contest, Tried, attainment, best, cheapest_at, nearest, with_neighbours};
use crate::stage::Job;
use crate::table::{Section, Table, percent};
use crate::workloads::{Workload, a, b, c};

const MARK: f64 = 1.25;
/// What the policies promise.
const LEVEL: f64 = 0.99;
/// Factors on the true rates; the plan for them serves more than is promised, so that less is enough.
const FACTORS: [f64; 13] = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1, 1.2];
const QUICK_EVERY: usize = 2;

pub fn play(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "4. Against a planner that knows the rates",
        "on A, B and C, promised to 99 %: at most 1.25 times the cost of the planner that knows the true rates of every \
         minute, not the requests, with the same start-up times and as good a service; 1.15 is the aim.",
    );
    let mut table = Table::new(&["on", "rule", "in time", "cost", "ours over it", "changes/day"]);
    for workload in [a()?, b()?, c()?].iter().filter(|w| bench.has(w.id)) {
        on(bench, workload, &mut section, &mut table)?;
    }
    section.table(&table);
    section.say(
        "The oracle is tried with factors on the true rates and judged by the cheapest that serves as well as ours. \
         `oracle-instant` has replicas that start at once: what no forecast can reach.",
    );
    Ok(section)
}

fn on(bench: &Bench, workload: &Workload, section: &mut Section, table: &mut Table) -> Result<()> {
    let stages = bench.stages(workload, &workload.policy)?;
    let contest = Contest { runner: &bench.runner, stages: &stages, seed: bench.seeds[0], most_cost: &[] };
    let long = bench.long(workload);
    let last = [workload.stage(workload.policy.clone(), long)?];
    let is_same = bench.windows(workload).len() == 1;
    let (mut least, mut promised): (Option<f64>, Option<f64>) = (None, None);
    for rule in ["oracle", "oracle-instant"] {
        let Some(kind) = kind_named(rule) else { continue };
        let swept = sweep(bench, &contest, kind)?;
        let short = contest.ours()?;
        let just = cheapest_at(&swept, LEVEL).cloned();
        let ours = bench.runner.run(&[Job::ours(&last[0], contest.seed)?]).remove(0);
        let finalists = match best(&swept, &short).or(nearest(&swept)) {
            Some(one) if !is_same => Contest { stages: &last, ..contest }.try_all(&with_neighbours(one, &swept))?,
            _ => swept,
        };
        if rule == "oracle" {
            table.row(row(workload, "poolwright", &ours, None));
        }
        let winner = best(&finalists, &ours);
        let Some(shown) = winner.or(nearest(&finalists)) else { continue };
        let note = if winner.is_some() { "" } else { " (serves no better; nearest)" };
        let ratio = ours.cost / shown.outcome.cost;
        table.row(row(workload, &format!("{}{note}", shown.words()), &shown.outcome, Some(ratio)));
        if rule == "oracle" {
            least = Some(ratio);
        }
        if let Some(just) = just {
            let ratio = short.cost / just.outcome.cost;
            promised = promised.or(Some(ratio));
            let words = format!("{}, as promised, swept windows only", just.words());
            table.row(row(workload, &words, &just.outcome, Some(ratio)));
        }
    }
    if let Some(ratio) = least {
        let just = promised.map_or(String::new(), |r| format!(" ({r:.3} x when it serves just as promised)"));
        section.judge(ratio <= MARK, format!("{}: {ratio:.3} x at equal service{just}", workload.id));
    }
    section.say(&format!("{}; played: {}, seed {}.", workload.words(), long.name, contest.seed));
    Ok(())
}

fn sweep(bench: &Bench, contest: &Contest<'_>, kind: &'static dyn Kind) -> Result<Vec<Tried>> {
    let every = if bench.is_quick { QUICK_EVERY } else { 1 };
    let settings: Vec<_> =
        FACTORS.into_iter().step_by(every).map(|target| (kind, Default::default(), target)).collect();
    contest.try_all(&settings)
}

fn row(workload: &Workload, who: &str, outcome: &Outcome, ratio: Option<f64>) -> Vec<String> {
    vec![
        workload.id.to_owned(),
        who.to_owned(),
        percent(attainment(outcome)),
        format!("{:.0}", outcome.cost),
        ratio.map_or(String::new(), |r| format!("{r:.3} x")),
        format!("{:.0}", outcome.actions_per_day()),
    ]
}
