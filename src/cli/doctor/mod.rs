//! `poolwright doctor`: one look at everything between a policy and replicas that follow it. Changes nothing.

mod print;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::kubernetes::KubernetesArgs;
use super::source::SourceArgs;
use super::{Exit, load_policy};
use crate::cluster::doctor::{Cluster, Settings, judge, reach, read};
use crate::control::{Clock, SystemClock};
use crate::observe::cluster::{ClusterSnapshot, ClusterView};

/// Check policy, metrics, cluster, scalers and rights, and say for every finding what to do. Changes nothing.
///
/// Exit code 0: nothing is wrong. 1: something is, or could not be reached. 2: the policy or the command line is wrong.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Policy file or folder.
    #[arg(long, value_name = "FILE|DIR")]
    policy: PathBuf,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    /// Service account that the daemon runs as, in its namespace. [default: the name of its Service]
    #[arg(long, value_name = "NAME", help_heading = "Kubernetes")]
    own_service_account: Option<String>,
    /// Form of the answer.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people: by subject, the worst first.
    Table,
    Json,
    Yaml,
}

pub async fn run(args: DoctorArgs) -> Result<Exit> {
    let policy = match load_policy(&args.policy) {
        Ok(policy) => Arc::new(policy),
        Err(exit) => return Ok(exit),
    };
    let client = args.kubernetes.client().await?;
    if args.source.refuse_missing(&policy, client.is_some()) {
        return Ok(Exit::Usage);
    }
    let identity = args.kubernetes.identity();
    let settings = Settings {
        account: args.own_service_account.unwrap_or_else(|| identity.service.clone()),
        identity,
        policy_path: args.policy.display().to_string(),
        source: args.source.describe(),
    };
    let now_seconds = SystemClock.now_seconds();
    let (cluster, view) = match &client {
        None => (Cluster::None, None),
        Some(client) => match reach(client).await {
            Err(why) => (Cluster::Silent(why), None),
            Ok(()) => {
                let snapshot = ClusterSnapshot::read_once(client, &policy, now_seconds).await;
                (read(client, &policy, &settings, &snapshot).await, Some(ClusterView::Once(Arc::new(snapshot))))
            }
        },
    };
    // A wrong file of the access options is a finding too, but one that leaves nothing to observe with.
    let mut source = args.source.build(view)?;
    let observation = source.observe(&policy, SystemClock.now_seconds()).await;
    let report = judge(&policy, &observation, &cluster, &settings);
    print::report(&report, args.output)?;
    Ok(if report.is_healthy() { Exit::Done } else { Exit::Failed })
}
