//! One look at a fleet without a daemon: the arguments and the preparation that `plan` and `explain` share.

use anyhow::Result;
use clap::Args;

use super::Exit;
use super::kubernetes::KubernetesArgs;
use super::source::SourceArgs;
use crate::control::{Clock, Daemon, DaemonParts, PolicyReload, State, SystemClock};
use crate::observe::cluster::{ClusterView, ClusterWatch};
use crate::policy::units::Duration;
use crate::policy::{Policy, Watcher};

/// How long the cluster's state is waited for.
const CLUSTER_LIMIT: std::time::Duration = std::time::Duration::from_secs(15);

/// Where measurements come from and how far back they are read.
#[derive(Debug, Args)]
pub struct LiveArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    /// Time between the two readings of a direct scrape: one reading has no rate.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    window: Duration,
    /// How far back the demand history is read from Prometheus.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    history: Duration,
}

impl LiveArgs {
    /// A daemon that remembers nothing and is ready for its first tick; it follows the policy's file when a
    /// `watcher` is given. An exit code, said on standard error, when there is nothing to read from.
    ///
    /// # Errors
    /// The cluster or the source cannot be used.
    pub async fn daemon(&self, mut policy: Policy, watcher: Option<Watcher>) -> Result<Result<Daemon, Exit>> {
        let client = self.kubernetes.client().await?;
        if self.source.refuse_missing(&policy, client.is_some()) {
            return Ok(Err(Exit::Usage));
        }
        let window = self.source.is_scrape().then(|| self.window.seconds().max(1.0));
        if let Some(window) = window {
            policy.planner.window_seconds = window;
        }
        // Watched, not read once: between the two readings of a scrape the pods may change.
        let cluster = client.map(|client| ClusterWatch::start(client, &policy));
        if let Some(watch) = &cluster
            && !watch.settled(CLUSTER_LIMIT).await
        {
            eprintln!("poolwright: the cluster did not answer within {} s; pools are held", CLUSTER_LIMIT.as_secs());
        }
        let mut daemon = Daemon::new(DaemonParts {
            policy,
            reload: watcher.map(|watcher| windowed(watcher, window)),
            source: self.source.build(cluster.map(ClusterView::Watch))?,
            state: State::default(),
            store: None,
            journal: None,
            is_timed: false,
        });
        let clock = SystemClock;
        if self.source.is_scrape() {
            daemon.warm_up(clock.now_seconds()).await;
            eprintln!("first reading done; the second follows in {}", self.window);
            tokio::time::sleep(self.window.to_std()).await;
        } else {
            daemon.fill_back(clock.now_seconds(), self.history.seconds()).await;
        }
        Ok(Ok(daemon))
    }
}

/// The policy's changes, with the window of a direct scrape.
fn windowed(watcher: Watcher, window: Option<f64>) -> PolicyReload {
    let mut reload = super::serve::reload(watcher);
    Box::new(move || {
        let mut answer = reload()?;
        if let (Ok(policy), Some(window)) = (&mut answer, window) {
            policy.planner.window_seconds = window;
        }
        Some(answer)
    })
}
