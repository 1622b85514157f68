//! The whole loop around simulated servers that are not what the profile says: engines, scrapes, decisions.

use std::sync::Arc;

use poolwright::control::{Daemon, DaemonParts, State};
use poolwright::observe::{FindingKind, ScrapeOptions, ScrapeSource};
use poolwright::policy::{Policy, Promise};
use poolwright::simulate::{Completion, Fleet, FleetOptions, FleetServer, Replay, SharedFleet, Trace, Workload};

use crate::live_support::{one_pool, told};
use crate::simulate_policy::FAST;

const START: f64 = 1_767_603_600.0;
const TICK: f64 = 15.0;
const TTFT_SECONDS: f64 = 2.0;
const ITL_SECONDS: f64 = 0.05;
/// Time that the loop is given to learn, and end of the run, seconds.
const LEARNT: f64 = 900.0;
const END: f64 = 2100.0;

/// How a run went, from the time on by which it should have learnt.
#[derive(Debug)]
struct Run {
    kept: f64,
    /// Mean replicas that were ready.
    replicas: f64,
    itl_factor: Option<f64>,
    drift: bool,
}

fn believed() -> Policy {
    let mut policy = one_pool();
    policy.classes[0].promise =
        Promise::Latency { quantile: 0.99, ttft_seconds: TTFT_SECONDS, itl_seconds: ITL_SECONDS };
    policy.pools[FAST].startup_seconds = 60.0;
    policy
}

/// Play the busy part of the conversation hour on servers `factor` times slower than `policy` says.
async fn play(policy: &Policy, factor: f64) -> Run {
    let truth = told(policy, &policy.pools[FAST].parameters.slowed(factor));
    let options =
        FleetOptions { seed: 5, error: 0.0, start_unix_seconds: START, keep_completions: true, ..Default::default() };
    let replay = Replay { scale: 5.0, seed: 5, ..Replay::default() };
    let requests = Workload::new(Arc::new(Trace::conversation().unwrap()), 0, policy, replay).unwrap();
    let mut fleet = Fleet::new(&truth, vec![requests], options);
    fleet.place_ready(FAST, 4);
    let fleet = SharedFleet::new(fleet);
    let mut server = FleetServer::start(fleet.clone()).await.unwrap();
    let source = ScrapeOptions { discovery: vec![server.discovery_url()], ..Default::default() };
    let mut daemon = Daemon::new(DaemonParts {
        policy: policy.clone(),
        reload: None,
        source: Box::new(ScrapeSource::new(source).unwrap()),
        state: State::default(),
        store: None,
        journal: None,
        is_timed: false,
    });
    daemon.warm_up(START).await;
    let mut run = Run { kept: 0.0, replicas: 0.0, itl_factor: None, drift: false };
    let (mut at, mut looks) = (0.0, 0.0);
    while at < END {
        at += TICK;
        fleet.lock().advance(at);
        server.sync().unwrap();
        let decision = daemon.tick(START + at).await.unwrap();
        if let Some(wanted) = decision.pools[FAST].desired {
            fleet.lock().set_replicas(FAST, wanted);
        }
        server.sync().unwrap();
        if at > LEARNT {
            looks += 1.0;
            run.replicas += f64::from(fleet.lock().snapshot().pools[FAST].ready);
        }
        run.itl_factor = decision.pools[FAST].live.map(|live| live.itl);
        run.drift = decision.findings.iter().any(|f| f.kind == FindingKind::ModelDrift);
    }
    fleet.lock().stop_arrivals();
    fleet.lock().advance(END + 600.0);
    let finished = fleet.lock().take_completions();
    run.kept = kept(&finished);
    run.replicas /= looks;
    run
}

/// Share within both targets of the requests that arrived late enough.
fn kept(finished: &[Completion]) -> f64 {
    let late = || finished.iter().filter(|c| c.request.arrival_seconds > LEARNT);
    let met = |c: &&Completion| {
        c.ttft_seconds.is_some_and(|t| t <= TTFT_SECONDS) && c.itl_seconds.is_none_or(|t| t <= ITL_SECONDS)
    };
    late().filter(met).count() as f64 / late().count().max(1) as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slower_servers_get_more_replicas_and_keep_the_promise() {
    let policy = believed();
    let (wrong, right) =
        (play(&policy, 1.6).await, play(&told(&policy, &policy.pools[FAST].parameters.slowed(1.6)), 1.0).await);
    assert!(wrong.kept >= 0.99, "{wrong:?}, with the truth {right:?}");
    assert!((wrong.itl_factor.unwrap() / 1.6 - 1.0).abs() < 0.1, "{wrong:?}");
    assert!(wrong.drift && !right.drift, "{wrong:?} {right:?}");
    assert!((wrong.replicas / right.replicas - 1.0).abs() < 0.25, "{wrong:?}, with the truth {right:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faster_servers_give_replicas_back_and_keep_the_promise() {
    let policy = believed();
    let factor = 1.0 / 1.6;
    let (wrong, right) =
        (play(&policy, factor).await, play(&told(&policy, &policy.pools[FAST].parameters.slowed(factor)), 1.0).await);
    assert!(wrong.kept >= 0.99, "{wrong:?}, with the truth {right:?}");
    assert!((wrong.itl_factor.unwrap() / factor - 1.0).abs() < 0.1, "{wrong:?}");
    assert!((wrong.replicas / right.replicas - 1.0).abs() < 0.25, "{wrong:?}, with the truth {right:?}");
}
