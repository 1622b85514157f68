//! `poolwright serve`: the daemon.

mod api;
mod cluster;
mod credentials;
mod keda;
mod looping;
mod web;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use anyhow::{Context, Result};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use self::api::{Api, ApiArgs};
use self::cluster::{ClusterArgs, ClusterTasks};
use self::credentials::CredentialArgs;
use self::keda::{KedaArgs, KedaSocket};
use self::web::{Web, WebArgs};
use super::kubernetes::KubernetesArgs;
use super::source::SourceArgs;
use super::{Exit, load_policy};
use crate::control::{Daemon, DaemonParts, Journal, JournalLimits, PolicyReload, State, StateStore, SystemClock};
use crate::observe::cluster::{ClusterView, ClusterWatch};
use crate::policy::Watcher;
use crate::policy::units::Duration;
use crate::serve::{Listener, ServeState, StopTimes, Upstream};

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Policy file or folder; edits are taken over while running, broken ones are not.
    #[arg(long, value_name = "FILE|DIR")]
    policy: PathBuf,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    web: WebArgs,
    /// Refuse external metric requests without a selector: HPA would add up all pools of the namespace.
    #[arg(long)]
    require_selector: bool,
    /// Folder for state and journal, on a volume in a cluster. Without it a restart forgets.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Size of one journal file; four are kept.
    #[arg(long, value_name = "MEGABYTES", default_value_t = 64)]
    journal_mb: u64,
    /// How far back the demand history is read from Prometheus at start.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    history: Duration,
    /// Time between "not ready" and closing the listeners when asked to stop.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    drain: Duration,
    #[command(flatten)]
    credentials: CredentialArgs,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    #[command(flatten)]
    api: ApiArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    keda: KedaArgs,
}

/// Reload of a policy from its files, for the loop.
pub fn reload(mut watcher: Watcher) -> PolicyReload {
    Box::new(move || watcher.poll().map(|answer| answer.map_err(|errors| errors.to_string())))
}

pub async fn run(args: ServeArgs) -> Result<Exit> {
    // The watcher reads first: an edit between the two readings is then seen as one.
    let mut watcher = Watcher::new(args.policy.clone());
    let _ = watcher.poll();
    let policy = match load_policy(&args.policy) {
        Ok(policy) => policy,
        Err(exit) => return Ok(exit),
    };
    let client = args.kubernetes.client().await?;
    if args.source.refuse_missing(&policy, client.is_some()) {
        return Ok(Exit::Usage);
    }
    if client.is_none() && args.cluster.needs_cluster() {
        eprintln!("poolwright: --api-tls-secret needs a cluster: run in a pod, or say --kubernetes on");
        return Ok(Exit::Usage);
    }
    let mut sockets = Sockets::open(&args, client.as_ref())?;
    let watch = client.map(|client| ClusterWatch::start(client, &policy));
    let store = args.state_dir.as_deref().map(StateStore::open).transpose()?;
    let _held = store.as_ref().map(StateStore::lock).transpose()?;
    let state = store.as_ref().map_or_else(State::default, load_state);
    let journal = store.as_ref().map(|s| {
        let limits = JournalLimits { file_bytes: args.journal_mb.max(1) << 20, ..JournalLimits::default() };
        Journal::new(s.directory(), limits)
    });
    let daemon = Daemon::new(DaemonParts {
        policy,
        reload: Some(reload(watcher)),
        source: args.source.build(watch.clone().map(ClusterView::Watch))?,
        state,
        store,
        journal,
        is_timed: true,
    });
    sockets.announce(&args)?;
    let serving =
        ServeState::new(daemon.published(), Arc::new(SystemClock)).with_selector_required(args.require_selector);
    let mut trust = sockets.api.as_mut().and_then(|api| api.following.take());
    let (listeners, serving, mut tasks) = sockets.listeners(serving);
    if let Some(tasks) = &mut tasks {
        tasks.tell_targets(daemon.published());
    }
    let readiness = serving.readiness().clone();
    let stop = CancellationToken::new();
    let mut control = tokio::spawn(looping::run(daemon, watch, args.history.seconds(), stop.clone()));
    let times = StopTimes { drain: args.drain.to_std(), grace: StdDuration::from_secs(10) };
    let web = crate::serve::run(listeners, readiness, stop.clone().cancelled_owned(), times);
    tokio::pin!(web);
    let exit = tokio::select! {
        result = stopped() => { result?; Exit::Done }
        result = &mut web => { result.context("the listener failed")?; Exit::Failed }
        result = &mut control => {
            // The loop only ends when asked to; anything else is a failure nobody may overlook.
            tracing::error!(?result, "the control loop ended");
            Exit::Failed
        }
        result = background(&mut tasks, &mut trust) => {
            tracing::error!(?result, "a task that watches the cluster ended");
            Exit::Failed
        }
    };
    tracing::info!("stopping");
    stop.cancel();
    if exit == Exit::Done {
        tokio::select! {
            result = async { tokio::join!(&mut web, &mut control) } => { result.0?; }
            () = second_signal() => tracing::warn!("asked twice: stopping at once"),
        }
    }
    drop(tasks);
    Ok(exit)
}

/// Everything that listens, open but not served yet, and the daemon's standing in its cluster.
struct Sockets {
    web: Web,
    api: Option<Api>,
    keda: Option<KedaSocket>,
    upstream: Option<Upstream>,
    tasks: Option<ClusterTasks>,
}

impl Sockets {
    fn open(args: &ServeArgs, client: Option<&kube::Client>) -> Result<Self> {
        let identity = args.kubernetes.identity();
        let upstream = args.cluster.upstream(&identity)?;
        let web = args.web.open(args.credentials.load()?)?;
        let keda = args.keda.open()?;
        let (tasks, kept) = match client {
            None => (None, None),
            Some(client) => {
                let listeners = vec![args.api.client_certificates()];
                let (tasks, mut made) = args.cluster.start(client.clone(), identity, keda.is_some(), listeners)?;
                (Some(tasks), made.pop())
            }
        };
        let api = args.api.open(client, kept)?;
        Ok(Self { web, api, keda, upstream, tasks })
    }

    fn announce(&self, args: &ServeArgs) -> Result<()> {
        self.web.announce(self.api.is_some())?;
        if let Some(api) = &self.api {
            api.announce()?;
        }
        if let Some(keda) = &self.keda {
            args.keda.announce(keda)?;
        }
        if args.state_dir.is_none() {
            eprintln!("no --state-dir: a restart forgets demand history and published numbers, and no journal is kept");
        }
        Ok(())
    }

    /// The listeners and what they share.
    fn listeners(self, mut state: ServeState) -> (Vec<Listener>, ServeState, Option<ClusterTasks>) {
        if let Some(tasks) = &self.tasks {
            state = state.with_cluster(tasks.status.clone());
        }
        if let Some(upstream) = self.upstream {
            state = state.with_upstream(upstream);
        }
        state = self.web.settle(state);
        if let Some(api) = &self.api {
            state = api.settle(state);
        }
        if let Some(keda) = &self.keda {
            state = keda.settle(state);
        }
        let mut listeners = vec![self.web.listener(state.clone(), self.api.is_some())];
        listeners.extend(self.api.map(|api| api.listener(state.clone())));
        listeners.extend(self.keda.map(|keda| keda.listener(state.clone())));
        (listeners, state, self.tasks)
    }
}

/// Ends when a task ends that never should: the trust would grow old, or certificates run out.
async fn background(tasks: &mut Option<ClusterTasks>, trust: &mut Option<JoinHandle<()>>) -> Result<(), JoinError> {
    let watched = tasks.iter_mut().flat_map(ClusterTasks::handles).chain(trust.iter_mut());
    let watched: Vec<&mut JoinHandle<()>> = watched.collect();
    if watched.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(watched).await.0
}

fn load_state(store: &StateStore) -> State {
    match store.load() {
        Ok(Some(state)) => state,
        Ok(None) => State::default(),
        Err(error) => {
            tracing::error!("{error:#}; starting without memory, every number is held until it is known");
            State::default()
        }
    }
}

async fn stopped() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    Ok(())
}

async fn second_signal() {
    if stopped().await.is_err() {
        std::future::pending::<()>().await;
    }
}
