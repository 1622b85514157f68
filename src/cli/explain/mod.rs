//! `poolwright explain`: why this many, why this hardware, what would change it.

mod names;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::Exit;
use super::live::LiveArgs;
use super::set::SetArgs;
use crate::control::{Clock, Decision, Detail, SystemClock, moment};
use crate::policy::Policy;
use crate::policy::units::Duration;
use crate::simulate::{Stage, StageOptions};
use names::{Names, Subject, Wanted};

/// Longest demo, simulated seconds.
const LONGEST_SECONDS: f64 = 86_400.0;
/// How wrong the performance model is in the demo, share; the same as `poolwright demo` has.
const DEMO_ERROR: f64 = 0.08;

#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    wanted: Wanted,
    /// Explain a decision of this journal: the daemon's --state-dir, or one file of it. With --policy it is made again,
    /// so that all can be said of it.
    #[arg(long, value_name = "DIR|FILE", help_heading = "What is explained", conflicts_with = "demo")]
    journal: Option<PathBuf>,
    /// The newest decision of the journal at or before this time, e.g. 2026-01-05T09:00:00Z or Unix seconds.
    #[arg(long, value_name = "TIME", value_parser = time, requires = "journal", help_heading = "What is explained")]
    at: Option<f64>,
    /// Explain the simulated fleet of `poolwright demo`: no cluster, no metrics.
    #[arg(long, help_heading = "What is explained")]
    demo: bool,
    /// Simulated time after which the demo is looked at.
    #[arg(long, value_name = "DURATION", default_value = "20m", requires = "demo", help_heading = "What is explained")]
    after: Duration,
    /// Seed of the demo.
    #[arg(long, default_value_t = 1, requires = "demo", help_heading = "What is explained")]
    seed: u64,
    /// Policy file or folder: of the fleet that is looked at now, of the journal, or of the demo.
    #[arg(long, value_name = "FILE|DIR", help_heading = "What is explained")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    live: LiveArgs,
    /// Form of the answer.
    #[arg(short, long, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn time(text: &str) -> Result<f64, String> {
    if let Some(seconds) = text.parse::<f64>().ok().filter(|s| s.is_finite()) {
        return Ok(seconds);
    }
    match chrono::DateTime::parse_from_rfc3339(text) {
        Ok(time) => Ok(time.timestamp_millis() as f64 / 1e3),
        Err(_) => Err("expected a time such as 2026-01-05T09:00:00Z, or Unix seconds".to_owned()),
    }
}

/// A decision, what of it is asked for, and what could not be found out about it.
struct Found {
    decision: Arc<Decision>,
    subject: Subject,
    unknown: Vec<String>,
}

/// What ends the verb early: an exit code that was explained on standard error.
type Early<T> = Result<Result<T, Exit>>;

pub async fn run(args: ExplainArgs) -> Result<Exit> {
    if args.policy.is_none() && !args.set.changes.is_empty() {
        eprintln!("poolwright: --set changes a policy: give --policy FILE");
        return Ok(Exit::Usage);
    }
    let policy = match args.policy.as_deref().map(|path| args.set.load(path)).transpose() {
        Ok(policy) => policy,
        Err(exit) => return Ok(exit),
    };
    args.set.say();
    let found = match (&args.journal, args.demo, policy) {
        (Some(journal), _, policy) => from_journal(journal, &args, policy.as_ref())?,
        (None, true, policy) => from_demo(&args, policy).await?,
        (None, false, Some(policy)) => from_live(&args, policy).await?,
        (None, false, None) => {
            eprintln!("poolwright: say what to explain: --journal DIR, --demo, or --policy FILE and a metrics source");
            Err(Exit::Usage)
        }
    };
    let found = match found {
        Ok(found) => found,
        Err(exit) => return Ok(exit),
    };
    let explanation = text::explain(&found.decision, found.subject, found.unknown);
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Text => write!(out, "{explanation}")?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, &explanation)?;
            writeln!(out)?;
        }
    }
    Ok(Exit::Done)
}

/// The place of what was asked for, or one line on standard error.
fn place(wanted: &Wanted, names: &Names) -> Result<Subject, Exit> {
    names.find(wanted).map_err(|wrong| {
        eprintln!("poolwright: {wrong}");
        Exit::Usage
    })
}

fn from_journal(path: &Path, args: &ExplainArgs, policy: Option<&Policy>) -> Early<Found> {
    let moment = moment(path, args.at, policy.is_some())?;
    let recorded = moment.decision.clone();
    let subject = match place(&args.wanted, &Names::of_decision(&recorded)) {
        Ok(subject) => subject,
        Err(exit) => return Ok(Err(exit)),
    };
    let mut unknown = vec![];
    let again = policy.map(|policy| moment.decide_again(policy, Detail::Full { first: subject.pool() }));
    let decision = match again {
        Some(Ok(decision)) => decision,
        Some(Err(why)) => {
            unknown.push(format!("only what the journal holds is said: {why}"));
            *recorded
        }
        None => {
            unknown.push(
                "what more accelerators, looser targets or other numbers would bring: name the policy with --policy, \
                 and the decision is made again"
                    .to_owned(),
            );
            *recorded
        }
    };
    Ok(Ok(Found { decision: Arc::new(decision), subject, unknown }))
}

async fn from_demo(args: &ExplainArgs, policy: Option<Policy>) -> Early<Found> {
    if args.after.seconds() > LONGEST_SECONDS {
        eprintln!("poolwright: --after {}: expected at most 24 hours", args.after);
        return Ok(Err(Exit::Usage));
    }
    let policy = match policy {
        Some(policy) => policy,
        None => super::demo::built_in_policy()?,
    };
    let subject = match place(&args.wanted, &Names::of_policy(&policy)) {
        Ok(subject) => subject,
        Err(exit) => return Ok(Err(exit)),
    };
    let steps = (args.after.seconds() / policy.planner.interval_seconds).round().max(1.0) as u64;
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let options = StageOptions { seed: args.seed, error: DEMO_ERROR, length_seconds: None, listen };
    let mut stage = Stage::new(policy, &options).await?;
    for _ in 1..steps {
        stage.step().await?;
    }
    stage.set_detail(Detail::Full { first: subject.pool() });
    let decision = stage.step().await?.decision.context("the demo made no decision")?;
    Ok(Ok(Found { decision, subject, unknown: vec![] }))
}

async fn from_live(args: &ExplainArgs, mut policy: Policy) -> Early<Found> {
    let subject = match place(&args.wanted, &Names::of_policy(&policy)) {
        Ok(subject) => subject,
        Err(exit) => return Ok(Err(exit)),
    };
    // There is no memory to wait with.
    (policy.planner.scale_down_dwell_seconds, policy.planner.scale_down_starts) = (0.0, 0.0);
    let mut daemon = match args.live.daemon(policy, None).await? {
        Ok(daemon) => daemon,
        Err(exit) => return Ok(Err(exit)),
    };
    daemon.set_detail(Detail::Full { first: subject.pool() });
    let Some(decision) = daemon.tick(SystemClock.now_seconds()).await else { return Ok(Err(Exit::Failed)) };
    if let Some(error) = &decision.source_error {
        eprintln!("poolwright: {error}");
        return Ok(Err(Exit::Failed));
    }
    Ok(Ok(Found { decision, subject, unknown: vec![] }))
}
