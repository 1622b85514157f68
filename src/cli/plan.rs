//! `poolwright plan`: the dry run.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::kubernetes::KubernetesArgs;
use super::source::SourceArgs;
use super::{Exit, load_policy, table};
use crate::control::{Binding, Clock, Daemon, DaemonParts, Decision, PolicyReload, State, SystemClock};
use crate::observe::cluster::{ClusterView, ClusterWatch};
use crate::policy::units::Duration;
use crate::policy::{Mode, Watcher};

/// How long the cluster's state is waited for.
const CLUSTER_LIMIT: std::time::Duration = std::time::Duration::from_secs(15);

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Policy file or folder.
    #[arg(long, value_name = "FILE|DIR")]
    policy: PathBuf,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    /// Print again every interval until interrupted.
    #[arg(long)]
    watch: bool,
    /// Time between the two readings of a direct scrape: one reading has no rate.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    window: Duration,
    /// How far back the demand history is read from Prometheus.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    history: Duration,
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
    let mut policy = match load_policy(&args.policy) {
        Ok(policy) => policy,
        Err(exit) => return Ok(exit),
    };
    let client = args.kubernetes.client().await?;
    if args.source.refuse_missing(&policy, client.is_some()) {
        return Ok(Exit::Usage);
    }
    if args.source.is_scrape() {
        policy.planner.window_seconds = args.window.seconds().max(1.0);
    }
    if !args.watch {
        policy.planner.scale_down_dwell_seconds = 0.0;
    }
    // Watched, not read once: between the two readings of a scrape the pods may change.
    let cluster = client.map(|client| ClusterWatch::start(client, &policy));
    if let Some(watch) = &cluster
        && !watch.settled(CLUSTER_LIMIT).await
    {
        eprintln!("poolwright: the cluster did not answer within {} s; pools are held", CLUSTER_LIMIT.as_secs());
    }
    let interval = policy.planner.interval_seconds;
    let mut watcher = Watcher::new(args.policy.clone());
    let _ = watcher.poll();
    let mut daemon = Daemon::new(DaemonParts {
        policy,
        reload: args.watch.then(|| {
            let mut reload = super::serve::reload(watcher);
            let window = args.source.is_scrape().then(|| args.window.seconds().max(1.0));
            let windowed: PolicyReload = Box::new(move || {
                let mut answer = reload()?;
                if let (Ok(policy), Some(window)) = (&mut answer, window) {
                    policy.planner.window_seconds = window;
                }
                Some(answer)
            });
            windowed
        }),
        source: args.source.build(cluster.map(ClusterView::Watch))?,
        state: State::default(),
        store: None,
        journal: None,
        is_timed: false,
    });
    let clock = SystemClock;
    if args.source.is_scrape() {
        daemon.warm_up(clock.now_seconds()).await;
        eprintln!("first reading done; the second follows in {}", args.window);
        tokio::time::sleep(args.window.to_std()).await;
    } else {
        daemon.fill_back(clock.now_seconds(), args.history.seconds()).await;
    }
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
