//! `poolwright plan`: the dry run.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::live::LiveArgs;
use super::set::SetArgs;
use super::{Exit, table};
use crate::control::{Binding, Clock, Decision, Detail, SystemClock};
use crate::policy::{Mode, Watcher};

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Policy file or folder.
    #[arg(long, value_name = "FILE|DIR")]
    policy: PathBuf,
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    live: LiveArgs,
    /// Print again every interval until interrupted.
    #[arg(long)]
    watch: bool,
    /// Form of the answer.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
    Yaml,
}

/// Print the recommendation once, or again and again. A dry run remembers nothing, so the dwell before a
/// scale-down, which needs memory, is not waited for.
pub async fn run(args: PlanArgs) -> Result<Exit> {
    let mut policy = match args.set.load(&args.policy) {
        Ok(policy) => policy,
        Err(exit) => return Ok(exit),
    };
    args.set.say();
    if !args.watch {
        (policy.planner.scale_down_dwell_seconds, policy.planner.scale_down_starts) = (0.0, 0.0);
    }
    let interval = policy.planner.interval_seconds;
    let mut watcher = Watcher::with(args.policy.clone(), args.set.changes.clone());
    let _ = watcher.poll();
    let mut daemon = match args.live.daemon(policy, args.watch.then_some(watcher)).await? {
        Ok(daemon) => daemon,
        Err(exit) => return Ok(exit),
    };
    if args.output != Output::Table {
        daemon.set_detail(Detail::Full { first: None });
    }
    let clock = SystemClock;
    loop {
        let Some(decision) = daemon.tick(clock.now_seconds()).await else { return Ok(Exit::Failed) };
        if let Some(error) = &decision.source_error {
            eprintln!("poolwright: {error}");
            if !args.watch {
                return Ok(Exit::Failed);
            }
        }
        print(&decision, args.output)?;
        if !args.watch {
            return Ok(verdict(&decision));
        }
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_secs_f64(interval)) => {}
            result = tokio::signal::ctrl_c() => {
                result?;
                return Ok(verdict(&decision));
            }
        }
    }
}

fn verdict(decision: &Decision) -> Exit {
    let held =
        decision.pools.iter().any(|p| p.mode != Mode::Off && (p.desired.is_none() || p.binding == Binding::Hold));
    if held { Exit::Held } else { Exit::Done }
}

fn print(decision: &Decision, output: Output) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Table => write!(out, "{}", table::plan(decision))?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, decision)?;
            writeln!(out)?;
        }
        Output::Yaml => write!(out, "---\n{}", serde_saphyr::to_string(decision)?)?,
    }
    Ok(())
}
