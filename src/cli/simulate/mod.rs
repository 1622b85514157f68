//! `poolwright simulate`: recorded traffic on a simulated fleet, scaled by our planner and by others, side by side.

mod faults;
mod print;
mod report;
mod traffic;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::Exit;
use super::set::SetArgs;
use crate::policy::units::Duration;
use crate::simulate::replay::{
    Comparison, Hardware, Kind, ModelError, Outcome, PromiseWords, RunOptions, Stretch, Traffic, Tries, kind_named,
    kinds,
};
use faults::FaultArgs;
use traffic::TrafficArgs;

/// Rules that are set beside ours when none is named.
const USUAL: [&str; 4] = ["static-peak", "hpa-running", "keda-rate", "oracle"];
/// Name of our own rule.
const OURS: &str = "poolwright";

#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// The policy: models, pools, prices, promises.
    #[arg(long, value_name = "FILE|DIR", required_unless_present = "list")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    traffic: TrafficArgs,
    /// Other rules to compare with, or `all`, or `none`. [default: static-peak,hpa-running,keda-rate,oracle]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    against: Vec<String>,
    /// List the rules that there are, and end.
    #[arg(long)]
    list: bool,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs of our planner, each with the next seed; the others run with the first.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seeds: u64,
    /// How wrong the performance model is, share: every pool is slower or faster by up to this.
    #[arg(long, default_value_t = 0.08, conflicts_with = "slower")]
    error: f64,
    /// All servers take this many times as long as the policy's figures say.
    #[arg(long, value_name = "FACTOR")]
    slower: Option<f64>,
    /// Age of the metrics that every rule sees.
    #[arg(long, default_value = "0s", value_name = "DURATION")]
    lag: Duration,
    /// Share of every prompt that prefix caches spare.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    prefix_hits: f64,
    #[command(flatten)]
    faults: FaultArgs,
    /// Give the others this hardware, `POOL` or `POOL=SHARE,POOL=SHARE`, instead of every pool alone and splits.
    #[arg(long, value_name = "POOL[=SHARE],...")]
    hardware: Vec<String>,
    /// Give the others these targets instead of all of their list.
    #[arg(long, value_name = "X,...", value_delimiter = ',')]
    targets: Vec<f64>,
    /// Show every try of the others, not only the cheapest that serves as well as ours.
    #[arg(long)]
    points: bool,
    /// Runs at once. [default: the processors there are]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Form of the answer.
    #[arg(short, long, default_value = "table")]
    output: Output,
    /// Write a report into this folder: a page (`index.html`), Markdown with pictures (`report.md`, `*.svg`) and the
    /// figures (`report.json`).
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// What is wrong with the command line, one line.
type Wrong = String;

pub fn run(args: &SimulateArgs) -> Result<Exit> {
    let Some(policy) = args.policy.as_ref().filter(|_| !args.list) else {
        std::io::stdout().write_all(print::rules().as_bytes())?;
        return Ok(Exit::Done);
    };
    let policy = match args.set.load(policy) {
        Ok(policy) => policy,
        Err(exit) => return Ok(exit),
    };
    let wrong = |wrong: Wrong| {
        eprintln!("poolwright: {wrong}");
        Ok(Exit::Usage)
    };
    let Read { others, options, tries, traffic, notes } = match read(args, &policy) {
        Ok(read) => read,
        Err(what) => return wrong(what),
    };
    let truth = match traffic.truth(&policy, args.seed) {
        Ok(truth) => truth,
        Err(error) => return wrong(error.to_string()),
    };
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let requests = |seed: u64| traffic.requests(&policy, seed);
    let stretch =
        Stretch { policy: &policy, requests: &requests, truth: &truth, seconds: traffic.seconds(), options, threads };
    let Some(ours) = kind_named(OURS) else { anyhow::bail!("no rule is called {OURS}") };
    let seeds: Vec<u64> = (0..args.seeds.max(1)).map(|n| args.seed.wrapping_add(n)).collect();
    let ours: Vec<Outcome> = stretch.with_seeds(ours, &seeds);
    let Some(first) = ours.first().cloned() else { anyhow::bail!("nothing was run") };
    let comparison = Comparison {
        traffic: traffic.words(&policy),
        circumstances: [notes, args.set.words(), args.faults.words()].concat(),
        currency: policy.currency.clone(),
        pools: policy.pools.iter().map(crate::policy::Pool::id).collect(),
        promises: policy.classes.iter().map(PromiseWords::of).collect(),
        others: others.iter().map(|kind| stretch.contest(*kind, &tries, &first)).collect(),
        ours,
    };
    if let Some(folder) = &args.report {
        report::write(folder, &comparison)?;
    }
    let text = match args.output {
        Output::Table => print::table(&comparison, args.points),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&comparison)?),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

/// The command line, read.
struct Read {
    others: Vec<&'static dyn Kind>,
    options: RunOptions,
    tries: Tries,
    traffic: Traffic,
    /// What is to be said of the traffic.
    notes: Vec<String>,
}

fn read(args: &SimulateArgs, policy: &crate::policy::Policy) -> Result<Read, Wrong> {
    let named: Vec<&str> = match args.against.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => USUAL.to_vec(),
        ["none"] => vec![],
        ["all"] => kinds().iter().map(|kind| kind.name()).filter(|name| *name != OURS).collect(),
        names => names.to_vec(),
    };
    let mut others = vec![];
    for name in named {
        let known = || kinds().iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        others.push(kind_named(name).ok_or_else(|| format!("--against {name}: expected one of {}", known()))?);
    }
    let share = |flag: &str, value: f64| match (0.0..1.0).contains(&value) {
        true => Ok(value),
        false => Err(format!("--{flag} {value}: expected a share from 0 to below 1")),
    };
    let error = match args.slower {
        Some(factor) if (0.01..=100.0).contains(&factor) => ModelError::Factor(factor),
        Some(factor) => return Err(format!("--slower {factor}: expected a factor from 0.01 to 100")),
        None => ModelError::Within(share("error", args.error)?),
    };
    let mut options = RunOptions { seed: args.seed, error, lag_seconds: args.lag.seconds(), ..RunOptions::default() };
    options.prefix_hit_ratio = share("prefix-hits", args.prefix_hits)?;
    let hardware: Result<Vec<Hardware>, Wrong> = args.hardware.iter().map(|text| hardware(text, policy)).collect();
    let hardware = Some(hardware?).filter(|h| !h.is_empty());
    let targets = Some(args.targets.clone()).filter(|t| !t.is_empty());
    if let Some(bad) = args.targets.iter().find(|t| !(t.is_finite() && **t > 0.0)) {
        return Err(format!("--targets {bad}: expected numbers above 0"));
    }
    let (traffic, notes) = args.traffic.read(policy)?;
    options.faults = args.faults.read(policy, traffic.seconds())?;
    Ok(Read { others, options, tries: Tries { targets, hardware }, traffic, notes })
}

/// `POOL` or `POOL=SHARE,POOL=SHARE`; shares of one model sum to 1.
fn hardware(text: &str, policy: &crate::policy::Policy) -> Result<Hardware, Wrong> {
    let mut shares: Vec<(usize, f64)> = vec![];
    for part in text.split(',') {
        let (name, share) = part.split_once('=').unwrap_or((part, "1"));
        let names = || policy.pools.iter().map(|p| p.name.clone()).collect::<Vec<_>>().join(", ");
        let pool = policy.pools.iter().position(|p| p.name == name || p.id() == name);
        let pool = pool.ok_or_else(|| format!("--hardware {text}: no pool `{name}`, expected one of {}", names()))?;
        let share = share.parse::<f64>().ok().filter(|s| *s > 0.0 && *s <= 1.0);
        shares.push((pool, share.ok_or_else(|| format!("--hardware {text}: a share is a number above 0, at most 1"))?));
    }
    for (m, model) in policy.models.iter().enumerate() {
        let sum: f64 = shares.iter().filter(|(p, _)| policy.pools[*p].model == m).map(|(_, share)| share).sum();
        if sum > 0.0 && (sum - 1.0).abs() > 1e-6 {
            return Err(format!("--hardware {text}: the shares of {} sum to {sum}, expected 1", model.id()));
        }
    }
    Ok(Hardware { shares })
}
