//! Large clients that come and go, against a fleet bought for the busiest minute.

use anyhow::Result;
use poolwright::simulate::replay::Outcome;

use crate::Bench;
use crate::contest::{attainment, hours_kept};
use crate::stage::Job;
use crate::table::{Section, Table, percent, spread};
use crate::workloads::{d, starting_in};

const LEVEL: f64 = 0.99;
/// Start-up time in minutes, and the share of the static fleet's cost that is allowed with it.
const MARKS: [(f64, f64); 2] = [(1.0, 0.5), (5.0, 0.6)];

pub fn play(bench: &Bench) -> Result<Section> {
    let mut section = Section::new(
        "3. Bursts of large clients",
        "on D, promised to 99 %: at least 99 % in time, at no more than 50 % of the static peak fleet's cost with one \
         minute of start-up and 60 % with five.",
    );
    let workload = d()?;
    let window = bench.long(&workload);
    section.say(&format!("{}. The static fleet is the one of the busiest minute of the first week.", workload.words()));
    let mut table = Table::new(&["start-up", "rule", "in time", "hours kept", "cost", "of static", "changes/day"]);
    let mut figures = vec![];
    for (minutes, mark) in MARKS {
        let stage = workload.stage(starting_in(&workload.policy, minutes), window)?;
        let jobs: Result<Vec<Job>> = bench.seeds.iter().map(|seed| Job::ours(&stage, *seed)).collect();
        let ours = bench.runner.run(&jobs?);
        let oracle = bench.runner.run(&[Job::of("oracle", &stage, Default::default(), 1.0, bench.seeds[0])?]);
        let fixed = workload.static_cost(stage.seconds());
        for (name, outcomes) in [("poolwright", &ours), ("oracle, true rates", &oracle)] {
            table.row(row(&format!("{minutes:.0} min"), name, outcomes, fixed));
        }
        let least = ours.iter().map(attainment).fold(1.0, f64::min);
        let share = ours.iter().map(|o| o.cost / fixed).fold(0.0, f64::max);
        figures.push((least >= LEVEL, format!("{minutes:.0} min: in time {}", percent(least))));
        figures.push((share <= mark, format!("{minutes:.0} min: {} of the static cost", percent(share))));
    }
    figures.into_iter().for_each(|(is_met, figure)| section.judge(is_met, figure));
    section.say(&format!("Played: {}, seeds {:?}.", window.name, bench.seeds));
    section.table(&table);
    Ok(section)
}

fn row(startup: &str, name: &str, outcomes: &[Outcome], fixed: f64) -> Vec<String> {
    let all = |of: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(of).collect::<Vec<f64>>();
    vec![
        startup.to_owned(),
        name.to_owned(),
        spread(&all(&attainment), percent),
        spread(&all(&hours_kept), |h| format!("{:.1} %", 100.0 * h)),
        spread(&all(&|o| o.cost), |c| format!("{c:.0}")),
        spread(&all(&|o| o.cost / fixed), percent),
        spread(&all(&Outcome::actions_per_day), |n| format!("{n:.0}")),
    ]
}
