//! `poolwright demo`: a simulated fleet, the daemon proper, and what it does, live.

mod screen;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration as StdDuration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::{Exit, load_policy};
use crate::policy::units::Duration;
use crate::simulate::{Scene, Stage, StageOptions, Summary};
use screen::Screen;

/// The policy that is played when none is named.
const DEMO_POLICY: &str = include_str!("../../../policies/demo.yaml");

/// Longest run, simulated seconds.
const LONGEST_SECONDS: f64 = 7.0 * 86_400.0;

/// Nominal time between two plain lines when standard output is no terminal.
const LINE_SECONDS: f64 = 5.0;

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Play this policy instead of the built-in one.
    #[arg(long, value_name = "FILE|DIR")]
    policy: Option<PathBuf>,
    /// Simulated seconds per nominal second.
    #[arg(long, default_value_t = 60.0)]
    speed: f64,
    /// End after this nominal time with a summary; on until interrupted when absent.
    #[arg(long = "for", value_name = "DURATION")]
    length: Option<Duration>,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How wrong the performance model is, share: every pool is slower or faster by up to this.
    #[arg(long, default_value_t = 0.08)]
    error: f64,
    /// Do not wait for nominal time: as fast as the machine can. The result is the same.
    #[arg(long)]
    fast: bool,
    /// Address of the page and the interfaces.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Form of the summary.
    #[arg(short, long, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// The policy of the demo.
pub(super) fn built_in_policy() -> Result<crate::policy::Policy> {
    crate::policy::from_text("policies/demo.yaml", DEMO_POLICY).context("the built-in policy")
}

pub async fn run(args: DemoArgs) -> Result<Exit> {
    if let Some(wrong) = wrong(&args) {
        eprintln!("poolwright: {wrong}");
        return Ok(Exit::Usage);
    }
    let policy = match &args.policy {
        Some(path) => match load_policy(path) {
            Ok(policy) => policy,
            Err(exit) => return Ok(exit),
        },
        None => built_in_policy()?,
    };
    let interval = policy.planner.interval_seconds;
    let simulated = args.length.map(|l| l.seconds() * args.speed);
    let options = StageOptions { seed: args.seed, error: args.error, length_seconds: simulated, listen: args.listen };
    let mut stage = Stage::new(policy, &options).await?;
    stage.show_speed(args.speed);
    let quiet = args.output == Output::Json;
    let mut screen = Screen::new(std::io::stdout().is_terminal() && !quiet, quiet, LINE_SECONDS * args.speed);
    screen.greet(&stage)?;

    let steps = simulated.map(|s| (s / interval).round().max(1.0) as u64);
    let started = Instant::now();
    let mut done = 0u64;
    while steps.is_none_or(|steps| done < steps) {
        let scene = stage.step().await?;
        done += 1;
        screen.show(&scene, args.speed)?;
        let due = StdDuration::from_secs_f64(if args.fast { 0.0 } else { done as f64 * interval / args.speed });
        tokio::select! {
            result = tokio::signal::ctrl_c() => { result?; break; }
            () = tokio::time::sleep_until((started + due).into()) => {}
        }
    }
    screen.leave()?;
    let summary = tokio::task::spawn_blocking(move || stage.finish(args.seed)).await?;
    print(&summary, args.output)?;
    Ok(Exit::Done)
}

fn wrong(args: &DemoArgs) -> Option<String> {
    if !(args.speed >= 0.01 && args.speed <= 10_000.0) {
        return Some(format!("--speed {}: expected a number from 0.01 to 10000", args.speed));
    }
    if let Some(length) = args.length.filter(|l| l.seconds() * args.speed > LONGEST_SECONDS) {
        return Some(format!("--for {length} at --speed {}: expected at most 7 simulated days", args.speed));
    }
    if !(0.0..=0.9).contains(&args.error) {
        return Some(format!("--error {}: expected a share from 0 to 0.9", args.error));
    }
    None
}

fn print(summary: &Summary, output: Output) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, summary)?;
            writeln!(out)?;
        }
        Output::Text => write!(out, "{}", screen::summary(summary))?,
    }
    Ok(())
}

/// Lines of the fleet as a whole, for table and plain output.
fn fleet_lines(scene: &Scene) -> Vec<String> {
    let currency = scene.decision.as_ref().map_or("", |d| d.currency.as_str());
    let share = |a: Option<f64>| a.map_or_else(|| "-".into(), |a| format!("{:.2} %", a * 100.0));
    let classes = |snapshot: &crate::simulate::Snapshot| {
        snapshot.classes.iter().map(|c| format!("{} {}", c.class, share(c.attainment))).collect::<Vec<_>>().join(", ")
    };
    vec![
        format!(
            "fleet         {:>8.2} {currency}/h   spent {:>8.2} {currency}   attainment: {}",
            scene.fleet.cost_per_hour,
            scene.fleet.cost,
            classes(&scene.fleet)
        ),
        format!(
            "static peak   {:>8.2} {currency}/h   spent {:>8.2} {currency}   attainment: {}",
            scene.fixed_cost_per_hour,
            scene.fixed.cost,
            classes(&scene.fixed)
        ),
    ]
}
