//! `poolwright serve`: the daemon.

mod api;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use anyhow::{Context, Result};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::api::ApiArgs;
use super::kubernetes::KubernetesArgs;
use super::source::SourceArgs;
use super::{Exit, load_policy};
use crate::control::{
    Clock, Daemon, DaemonParts, Journal, JournalLimits, PolicyReload, State, StateStore, SystemClock,
};
use crate::policy::Watcher;
use crate::policy::units::Duration;
use crate::serve::{ClientCertificates, Listener, ServeState, StopTimes, Tls};

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Policy file or folder; edits are taken over while running, broken ones are not.
    #[arg(long, value_name = "FILE|DIR")]
    policy: PathBuf,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    #[command(flatten)]
    api: ApiArgs,
    /// Address of everything that has no listener of its own. Nobody is authenticated there: keep it on loopback
    /// or behind a proxy.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// PEM file of the serving certificate; read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file of the serving certificate's key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve TLS with a certificate made at start, for a laboratory.
    #[arg(long, conflicts_with = "tls_cert")]
    tls_self_signed: bool,
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
    if args.source.is_missing(&policy) {
        eprintln!("poolwright: say where the metrics are: --prometheus URL, --scrape [URL…] or --scrape-sd URL");
        return Ok(Exit::Usage);
    }
    let cluster = args.kubernetes.client().await?;
    let tls = tls(&args)?;
    let api = args.api.open(cluster.as_ref(), None)?;
    let socket =
        std::net::TcpListener::bind(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    socket.set_nonblocking(true)?;
    let store = args.state_dir.as_deref().map(StateStore::open).transpose()?;
    let state = store.as_ref().map_or_else(State::default, load_state);
    let journal = store.as_ref().map(|s| {
        let limits = JournalLimits { file_bytes: args.journal_mb.max(1) << 20, ..JournalLimits::default() };
        Journal::new(s.directory(), limits)
    });
    let interval = StdDuration::from_secs_f64(policy.planner.interval_seconds);
    let daemon = Daemon::new(DaemonParts {
        policy,
        reload: Some(reload(watcher)),
        source: args.source.build()?,
        state,
        store,
        journal,
    });
    announce(&args, tls.is_some(), api.is_some(), socket.local_addr()?);
    let mut serving =
        ServeState::new(daemon.published(), Arc::new(SystemClock)).with_selector_required(args.require_selector);
    if let Some(api) = &api {
        api.announce()?;
        serving = api.settle(serving);
    }
    let readiness = serving.readiness().clone();
    let listeners = match api {
        None => vec![Listener { socket, router: crate::serve::router(serving), tls }],
        Some(api) => {
            let web = Listener { socket, router: crate::serve::web_router(serving.clone()), tls };
            vec![web, api.listener(serving)]
        }
    };
    let stop = CancellationToken::new();
    let mut control = tokio::spawn(control_loop(daemon, args.history.seconds(), interval, stop.clone()));
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
    };
    tracing::info!("stopping");
    stop.cancel();
    if exit == Exit::Done {
        tokio::select! {
            result = async { tokio::join!(&mut web, &mut control) } => { result.0?; }
            () = second_signal() => tracing::warn!("asked twice: stopping at once"),
        }
    }
    Ok(exit)
}

fn tls(args: &ServeArgs) -> Result<Option<Tls>> {
    match (&args.tls_cert, &args.tls_key, args.tls_self_signed) {
        (Some(cert), Some(key), _) => Ok(Some(Tls::from_files(cert, key, ClientCertificates::Ignored)?)),
        (_, _, true) => {
            Ok(Some(Tls::self_signed(&["localhost".into(), "127.0.0.1".into()], ClientCertificates::Ignored)?))
        }
        _ => Ok(None),
    }
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

fn announce(args: &ServeArgs, tls: bool, own_api: bool, address: SocketAddr) {
    let scheme = if tls { "https" } else { "http" };
    let what = if own_api { "page, JSON, /metrics" } else { "page, JSON, /metrics, external metrics" };
    eprintln!("poolwright {} serves {scheme}://{address}/ ({what})", env!("CARGO_PKG_VERSION"));
    if address.ip().is_loopback() {
        eprintln!("listening on loopback only; requests are not authenticated");
    } else {
        eprintln!("WARNING: requests are not authenticated and {address} is not loopback: restrict who can reach it");
    }
    if args.state_dir.is_none() {
        eprintln!("no --state-dir: a restart forgets demand history and published numbers, and no journal is kept");
    }
}

async fn control_loop(mut daemon: Daemon, history_seconds: f64, interval: StdDuration, stop: CancellationToken) {
    let clock = SystemClock;
    daemon.fill_back(clock.now_seconds(), history_seconds).await;
    let mut timer = tokio::time::interval(interval);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = timer.tick() => {}
        }
        let planned = StdDuration::from_secs_f64(daemon.policy().planner.interval_seconds);
        if planned != timer.period() {
            timer = tokio::time::interval_at(tokio::time::Instant::now() + planned, planned);
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        if let Some(decision) = daemon.tick(clock.now_seconds()).await {
            tracing::info!(
                cost_per_hour = decision.planned_cost_per_hour,
                work_units = decision.solve.work_units,
                findings = decision.findings.len(),
                "decided"
            );
        }
    }
    daemon.save();
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
