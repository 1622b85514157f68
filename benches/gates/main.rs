//! Is it better? All gates of the product with figures: replays of recorded weeks against the best settings of other
//! rules in hindsight, against a planner that knows the future, and under faults.
//!
//! `make bench` plays everything and writes docs/EVIDENCE.md; `make bench-quick` plays short windows of the same.
//! Figures hang on the seeds alone; times go to standard error.

mod ablation;
mod contest;
mod evidence;
mod gate1;
mod gate2;
mod gate3;
mod gate4;
mod gate5;
mod gate6;
mod gate7;
#[path = "../forecast/judge/mod.rs"]
mod judge;
mod stage;
mod table;
mod workloads;
mod zero;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use stage::{Runner, Stage};
use table::Section;
use workloads::{Window, Workload};

#[derive(Debug, Parser)]
struct Options {
    /// Short windows, few settings, one seed.
    #[arg(long)]
    quick: bool,
    /// Only these gates, e.g. `1,3`; 8 are the ablations, 9 is scaling to zero.
    #[arg(long, value_delimiter = ',')]
    only: Vec<u32>,
    /// Only these workloads of the gates that play several, e.g. `A,B`.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Play these hours of every recording instead of the named windows and the week, e.g. `24-48`.
    #[arg(long, value_parser = hours)]
    hours: Option<(f64, f64)>,
    /// Play these gates on the first named window of each workload with one seed only, e.g. `1,5`.
    #[arg(long, value_delimiter = ',')]
    short: Vec<u32>,
    /// Seeds of the runs over the week. [default: 3, quick: 1]
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep every finished run in this folder and take it from there the next time.
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Write the document here as well. Without `--quick` and `--only`: docs/EVIDENCE.md.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Runs at once. [default: the processors there are]
    #[arg(long)]
    threads: Option<usize>,
    /// `cargo bench` passes this.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What writes the same document again.
fn command(options: &Options) -> String {
    let name = if options.quick { "make bench-quick" } else { "make bench" };
    let short: Vec<String> = options.short.iter().map(u32::to_string).collect();
    if short.is_empty() { name.to_owned() } else { format!("{name} ARGS=\"--short {}\"", short.join(",")) }
}

fn hours(text: &str) -> Result<(f64, f64), String> {
    let parse = |text: &str| text.parse::<f64>().ok().filter(|h| h.is_finite() && *h >= 0.0);
    let both = text.split_once('-').and_then(|(from, to)| Some((parse(from)?, parse(to)?)));
    both.filter(|(from, to)| from < to).ok_or_else(|| "expected hours FROM-TO, e.g. 24-48".to_owned())
}

/// What a gate needs to be played.
#[derive(Debug)]
pub struct Bench {
    pub runner: Runner,
    pub is_quick: bool,
    /// One named window instead of all, and none over the week.
    is_short: bool,
    pub seeds: Vec<u64>,
    hours: Option<(f64, f64)>,
    workloads: Vec<String>,
}

impl Bench {
    /// The windows on which settings are swept.
    pub fn windows(&self, of: &Workload) -> Vec<Window> {
        match self.hours {
            Some((from, to)) => vec![Window { name: "chosen hours", from_hours: from, hours: to - from }],
            None if self.is_quick => vec![of.quick],
            None if self.is_short => of.windows.first().copied().into_iter().collect(),
            None => of.windows.to_vec(),
        }
    }

    /// What is played with all seeds in the end.
    pub fn long(&self, of: &Workload) -> Window {
        if self.is_quick || self.is_short || self.hours.is_some() { self.windows(of)[0] } else { of.week }
    }

    pub fn stages(&self, of: &Workload, policy: &poolwright::policy::Policy) -> Result<Vec<Arc<Stage>>> {
        self.windows(of).into_iter().map(|window| of.stage(policy.clone(), window)).collect()
    }

    pub fn has(&self, workload: &str) -> bool {
        self.workloads.is_empty() || self.workloads.iter().any(|w| w.eq_ignore_ascii_case(workload))
    }
}

type Gate = fn(&Bench) -> Result<Section>;

const GATES: [(u32, Gate); 9] = [
    (1, gate1::play),
    (2, gate2::play),
    (3, gate3::play),
    (4, gate4::play),
    (5, gate5::play),
    (6, gate6::play),
    (7, gate7::play),
    (8, ablation::play),
    (9, zero::play),
];

fn main() -> Result<()> {
    let options = Options::parse();
    let known = |only: &u32| GATES.iter().any(|(number, _)| number == only);
    ensure!(options.only.iter().all(known), "--only {:?}: there are gates 1 to {}", options.only, GATES.len());
    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let seeds = options.seeds.unwrap_or(if options.quick { 1 } else { 3 }).max(1);
    let mut bench = Bench {
        runner: Runner::new(threads, options.cache.clone())?,
        is_quick: options.quick,
        is_short: false,
        seeds: (0..seeds).map(|n| options.seed.wrapping_add(n)).collect(),
        hours: options.hours,
        workloads: options.workloads.clone(),
    };
    let (all, one) = (bench.seeds.clone(), vec![options.seed]);
    let mut sections = vec![];
    for (number, play) in GATES.iter().filter(|(n, _)| options.only.is_empty() || options.only.contains(n)) {
        bench.is_short = options.short.contains(number);
        bench.seeds.clone_from(if bench.is_short { &one } else { &all });
        let section = play(&bench).with_context(|| format!("gate {number}"))?;
        println!("{}", section.text());
        sections.push(section);
    }
    println!("{}", table::summary(&sections));
    let is_whole = !options.quick && options.only.is_empty() && options.workloads.is_empty() && options.hours.is_none();
    let evidence = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/EVIDENCE.md");
    if let Some(path) = options.write.clone().or_else(|| is_whole.then_some(evidence)) {
        std::fs::write(&path, evidence::document(&sections, &command(&options), &all))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}
