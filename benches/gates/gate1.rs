//! Conversations and code against the best settings of reactive rules, at equal attainment, on three levels.

use anyhow::Result;
use poolwright::simulate::replay::Outcome;

use crate::Bench;
use crate::contest::{
    Breadth, Contest, Setting, Tried, Tries, attainment, best, cheapest_at, hours_kept, nearest, with_neighbours,
};
use crate::stage::{Job, REACTIVE};
use crate::table::{Section, Table, percent, spread};
use crate::workloads::{Workload, a, at_level, b};

/// Promised shares.
const LEVELS: [f64; 3] = [0.95, 0.99, 0.999];
/// The policy of the swept rules promises this; the other levels are reached by other targets.
const SWEPT_LEVEL: f64 = 0.99;
/// Rules that are shown and not judged: they plan, as ours does.
const PLANNING: [&str; 3] = ["melange", "inferno", "forecast-only"];
const QUICK: [&str; 4] = ["hpa-running", "keda-rate", "kpa", "wva-v2"];
/// Rules whose winners go over the week.
const FINALISTS: usize = 3;
/// Times our cost on a window at which a setting is given up.
const TOO_DEAR: f64 = 3.0;
/// Share of the hours that have to be kept.
const HOURS: f64 = 0.95;
/// Our changes, over those of the winner, at most.
const ACTIONS: f64 = 1.0 / 3.0;

pub fn play(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "1. Against HPA, KEDA, KPA and WVA",
        "on A and B, promised to 95, 99 and 99.9 %: the share is reached, in 95 % of the hours too; the cost is at most \
         that of the cheapest reactive setting that serves as well; at most a third of its changes.",
    );
    for workload in [a()?, b()?].iter().filter(|w| bench.has(w.id)) {
        on(bench, workload, &mut section)?;
    }
    Ok(section)
}

fn on(bench: &Bench, workload: &Workload, section: &mut Section) -> Result<()> {
    section.say(&format!("{}.", workload.words()));
    let swept = bench.stages(workload, &at_level(&workload.policy, SWEPT_LEVEL))?;
    let contest = Contest { runner: &bench.runner, stages: &swept, seed: bench.seeds[0], most_cost: &[] };
    let by_window: Result<Vec<Vec<Outcome>>> = LEVELS
        .iter()
        .map(|level| {
            let stages = bench.stages(workload, &at_level(&workload.policy, *level))?;
            Contest { stages: &stages, ..contest }.ours_by_window()
        })
        .collect();
    let by_window = by_window?;
    let ours: Vec<Outcome> = by_window.iter().filter_map(|windows| Outcome::joined(windows)).collect();
    let dearest = |window: usize| by_window.iter().map(|level| level[window].cost).fold(0.0, f64::max);
    let most_cost: Vec<f64> = (0..swept.len()).map(|window| TOO_DEAR * dearest(window)).collect();
    let contest = Contest { most_cost: &most_cost, ..contest };
    let (rules, mut tried) = sweep(bench, workload, &contest, &ours)?;
    contest.refine(&rules, &mut tried, &ours, if bench.is_quick { 1 } else { 2 })?;
    let names = bench.windows(workload).iter().map(|w| w.name).collect::<Vec<_>>().join(" and ");
    section
        .say(&format!("Swept on {names}, seed {}: the cheapest setting that serves as well as ours.", bench.seeds[0]));
    section.table(&sweep_table(&rules, &tried, &ours, Measure::AsOurs));
    section.say("The same, not as well as ours but just as promised: what serving better than promised costs.");
    section.table(&sweep_table(&rules, &tried, &ours, Measure::AsPromised));

    let mut table = Table::new(&["promised", "who", "in time", "hours kept", "cost", "changes/day", "late, most by"]);
    for (level, ours) in LEVELS.iter().zip(&ours) {
        final_of(bench, workload, *level, ours, &tried, (section, &mut table))?;
    }
    section.say(&format!("{} on {}, seeds {:?}:", workload.id, bench.long(workload).name, bench.seeds));
    section.table(&table);
    Ok(())
}

/// What a setting is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    AsOurs,
    AsPromised,
}

/// Everything that the others try.
fn sweep(
    bench: &Bench,
    workload: &Workload,
    contest: &Contest<'_>,
    ours: &[Outcome],
) -> Result<(Vec<&'static str>, Vec<Tried>)> {
    let single = &workload.single;
    if bench.is_quick {
        let breadth = Breadth { every: 2, hardware: Tries::BestType };
        return Ok((QUICK.to_vec(), contest.sweep(&QUICK, single, breadth, &ours[1])?));
    }
    let breadth = Breadth { every: 1, hardware: Tries::EachTypeAndSplits };
    let mut tried = contest.sweep(&REACTIVE, single, breadth, &ours[1])?;
    tried.extend(contest.sweep(&PLANNING, single, Breadth { hardware: Tries::EachType, ..breadth }, &ours[1])?);
    Ok((REACTIVE.iter().chain(&PLANNING).copied().collect(), tried))
}

/// Every rule's cheapest setting at each level, as cost over ours.
fn sweep_table(rules: &[&str], tried: &[Tried], ours: &[Outcome], measure: Measure) -> Table {
    let words = if measure == Measure::AsOurs { "as ours at" } else { "just" };
    let heads: Vec<String> = LEVELS.iter().map(|level| format!("{words} {} %", 100.0 * level)).collect();
    let mut head = vec!["rule", "tries"];
    head.extend(heads.iter().map(String::as_str));
    let mut table = Table::new(&head);
    let own = |o: &Outcome| format!("{:.2}: {}", o.cost, percent(attainment(o)));
    let mut row = vec!["poolwright".to_owned(), String::new()];
    row.extend(ours.iter().map(own));
    table.row(row);
    for rule in rules {
        let of_rule: Vec<Tried> = tried.iter().filter(|t| t.kind.name() == *rule).cloned().collect();
        let mut row = vec![(*rule).to_owned(), of_rule.len().to_string()];
        let found = |ours: &Outcome, level: f64| match measure {
            Measure::AsOurs => best(&of_rule, ours),
            Measure::AsPromised => cheapest_at(&of_rule, level),
        };
        row.extend(ours.iter().zip(LEVELS).map(|(ours, level)| match (found(ours, level), nearest(&of_rule)) {
            (Some(best), _) => {
                let target = best.outcome.target.map_or(String::new(), |t| format!(" at {t:.2}"));
                // Given up for its cost: what it would have cost in the end is more.
                let more = if best.is_played_out(ours.seconds) { "" } else { "more than " };
                format!("{more}{:.3} x: {}{target}", best.outcome.cost / ours.cost, best.outcome.hardware)
            }
            (None, Some(nearest)) => format!("none; at most {}", percent(attainment(&nearest.outcome))),
            (None, None) => String::new(),
        }));
        table.row(row);
    }
    table
}

/// Ours and the winners with all seeds over the long window; judged.
fn final_of(
    bench: &Bench,
    workload: &Workload,
    level: f64,
    in_sweep: &Outcome,
    tried: &[Tried],
    (section, table): (&mut Section, &mut Table),
) -> Result<()> {
    let window = bench.long(workload);
    let ours_stage = workload.stage(at_level(&workload.policy, level), window)?;
    let ours_jobs: Result<Vec<Job>> = bench.seeds.iter().map(|seed| Job::ours(&ours_stage, *seed)).collect();
    let ours = bench.runner.run(&ours_jobs?);
    let stages = [workload.stage(at_level(&workload.policy, SWEPT_LEVEL), window)?];
    let contest = Contest { runner: &bench.runner, stages: &stages, seed: bench.seeds[0], most_cost: &[] };
    let candidates = contest.try_all(&candidates(tried, in_sweep))?;
    let winner = best(&candidates, &ours[0]);
    let shown = winner.or(nearest(&candidates));
    let of_seed = |seed: u64| -> Result<Vec<Outcome>> {
        let setting: Vec<_> = shown.iter().map(|t| t.setting()).collect();
        Ok(Contest { seed, ..contest }.try_all(&setting)?.into_iter().map(|t| t.outcome).collect())
    };
    let theirs: Result<Vec<Vec<Outcome>>> = bench.seeds.iter().map(|seed| of_seed(*seed)).collect();
    let theirs: Vec<Outcome> = theirs?.into_iter().flatten().collect();
    let promised = format!("{} %", 100.0 * level);
    table.row(row(&promised, "poolwright", &ours));
    if let Some(shown) = shown {
        let mark = if winner.is_some() { "" } else { " (nobody serves as well; nearest)" };
        table.row(row(&promised, &format!("{}{mark}", shown.words()), &theirs));
    }
    judge(section, &format!("{} {promised}", workload.id), level, &ours, winner.map(|_| theirs.as_slice()));
    Ok(())
}

/// The winners of the rules that cost least, and their neighbours: what wins on a day may fall short in a week.
fn candidates(tried: &[Tried], ours: &Outcome) -> Vec<Setting> {
    let of = |rule: &str| -> Vec<Tried> { tried.iter().filter(|t| t.kind.name() == rule).cloned().collect() };
    let mut winners: Vec<(bool, Tried)> = vec![];
    for rule in &REACTIVE {
        let of_rule = of(rule);
        match (best(&of_rule, ours), nearest(&of_rule)) {
            (Some(best), _) => winners.push((false, best.clone())),
            (None, Some(nearest)) => winners.push((true, nearest.clone())),
            (None, None) => {}
        }
    }
    winners.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.outcome.cost.total_cmp(&b.1.outcome.cost)));
    winners.truncate(FINALISTS);
    winners.iter().flat_map(|(_, winner)| with_neighbours(winner, tried)).collect()
}

fn row(promised: &str, who: &str, outcomes: &[Outcome]) -> Vec<String> {
    let all = |of: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(of).collect::<Vec<f64>>();
    let worst = outcomes.first().and_then(|o| {
        let late = o.classes.iter().flat_map(|c| &c.late).max_by_key(|(_, n)| **n)?;
        Some(format!("{} {}", late.0.words(), late.1))
    });
    let three = |share: f64| format!("{:.3} %", 100.0 * share);
    vec![
        promised.to_owned(),
        who.to_owned(),
        spread(&all(&attainment), three),
        spread(&all(&hours_kept), |share| format!("{:.1} %", 100.0 * share)),
        spread(&all(&|o| o.cost), |cost| format!("{cost:.0}")),
        spread(&all(&Outcome::actions_per_day), |n| format!("{n:.0}")),
        worst.unwrap_or_default(),
    ]
}

fn judge(section: &mut Section, of: &str, level: f64, ours: &[Outcome], winner: Option<&[Outcome]>) {
    let worst = ours.iter().map(attainment).fold(1.0, f64::min);
    section.judge(worst >= level, format!("{of}: in time {:.3} %", 100.0 * worst));
    let hours = ours.iter().map(hours_kept).fold(1.0, f64::min);
    section.judge(hours >= HOURS, format!("{of}: {:.1} % of the hours kept", 100.0 * hours));
    let Some(theirs) = winner else {
        section.judge(true, format!("{of}: nobody serves as well at any cost"));
        return;
    };
    let ratios = |of: &dyn Fn(&Outcome) -> f64| {
        ours.iter().zip(theirs).map(|(o, t)| of(o) / of(t).max(1e-9)).fold(0.0, f64::max)
    };
    let cost = ratios(&|o| o.cost);
    section.judge(cost <= 1.0, format!("{of}: {cost:.3} x the cost of {}", theirs[0].rule));
    let actions = ratios(&Outcome::actions_per_day);
    section.judge(actions <= ACTIONS, format!("{of}: {actions:.2} x its changes"));
}
