//! Lists of one item, as HPAs ask for them through the aggregator: 2,000 a second, every one for another pool, by a
//! caller whose right was asked for a moment ago.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Version};
use poolwright::control::SystemClock;
use poolwright::serve::ServeState;
use poolwright::serve::auth::PeerCertificates;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::client::{CALLER, FrontProxy};
use crate::fleet;
use crate::load::{Figures, Load, Schedule, busy, header, load, row, runtime};
use crate::server::{self, FLOOR, Server, What};

const MOST_POOLS: usize = 10_000;

const WARM_UP: Duration = Duration::from_secs(2);
/// Longer than an answer about a right is remembered.
const DURATION: Duration = Duration::from_secs(12);

/// 30,000 HPAs, each every 15 seconds.
const STEADY: Schedule = Schedule { rate: 2_000, burst: 0, warm_up: WARM_UP, duration: DURATION };
const STEADY_P99: Duration = Duration::from_millis(2);

/// 1,000 HPAs, each every 15 seconds, and more of them at the same moment each second.
const BURSTS: Schedule = Schedule { rate: 67, burst: 300, warm_up: WARM_UP, duration: DURATION };
const BURSTS_P99: Duration = Duration::from_millis(5);

/// What HPA's client accepts.
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf,application/json";
const JSON: &str = "application/json";

pub fn run() {
    println!("lists of one item behind a front proxy, rights cached; h2 over TLS, one server thread; {}", busy());
    println!("{}", header());
    let front = FrontProxy::new();
    for pools in [100, MOST_POOLS] {
        let server = Server::start(What::Api, pools, &front);
        steady(&server, &front, pools);
        if pools == MOST_POOLS {
            bursts(&server, &front);
        }
    }
    println!("{}", busy());
}

fn steady(server: &Server, front: &FrontProxy, pools: usize) {
    let of_pool = |index: usize| path(index, pools);
    let run = |path: &dyn Fn(usize) -> String, accept| load(server, front, &Load { schedule: STEADY, path, accept });
    let floor = run(&|_| FLOOR.to_owned(), PROTOBUF);
    println!("{}", row(&format!("2000/s, bare route, {pools} pools held"), &floor, None));
    for (name, accept) in [("protobuf", PROTOBUF), ("JSON", JSON)] {
        let figures = run(&of_pool, accept);
        println!("{}", row(&format!("2000/s, list, {name}, {pools} pools"), &figures, Some(STEADY_P99)));
    }
}

fn bursts(server: &Server, front: &FrontProxy) {
    let run = |path: &dyn Fn(usize) -> String| load(server, front, &Load { schedule: BURSTS, path, accept: PROTOBUF });
    println!("{}", row("67/s + 300 at once, bare route", &run(&|_| FLOOR.to_owned()), None));
    println!("{}", row("67/s + 300 at once, list, protobuf", &run(&|index| path(index, MOST_POOLS)), None));
    let inside = runtime().block_on(in_process(MOST_POOLS, front));
    println!("{}", row("67/s + 300 at once, without a socket", &inside, Some(BURSTS_P99)));
}

/// Path of the n-th request: all pools in turns, not in the order in which they are kept.
fn path(index: usize, pools: usize) -> String {
    let pool = index.wrapping_mul(7_919) % pools;
    format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/poolwright_desired_replicas?labelSelector=pool%3D{}",
        fleet::namespace(pool),
        fleet::pool_name(pool)
    )
}

/// The same router without socket, TLS and HTTP/2, on this one thread: what the daemon itself adds.
async fn in_process(pools: usize, front: &FrontProxy) -> Figures {
    let published = Arc::new(ArcSwap::from_pointee(fleet::published(pools, 0)));
    let state = ServeState::new(published, Arc::new(SystemClock));
    let router = server::api(&state, &server::access_for(&front.authority_pem));
    let peer = PeerCertificates::new(vec![front.certificate.clone()]).map(Arc::new).expect("one certificate");
    let (start, cpu) = (Instant::now(), own_cpu());
    let (mut tasks, mut figures) = (JoinSet::new(), Figures::default());
    for (index, since) in BURSTS.times().into_iter().enumerate() {
        let due = start + since;
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        let (router, peer, path) = (router.clone(), Arc::clone(&peer), path(index, pools));
        tasks.spawn(async move {
            let answered = answer(router, peer, &path).await;
            (since >= WARM_UP, answered.then(|| due.elapsed()))
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        let (measured, taken) = outcome.unwrap_or((true, None));
        if measured || taken.is_none() {
            figures.count(taken);
        }
    }
    figures.cpu = (own_cpu() - cpu, start.elapsed());
    figures
}

async fn answer(router: Router, peer: Arc<PeerCertificates>, path: &str) -> bool {
    let request = Request::get(path).version(Version::HTTP_2).header("accept", PROTOBUF).extension(peer);
    let request = CALLER.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Body::empty()).expect("a good request");
    let Ok(response) = router.oneshot(request).await;
    response.status() == 200 && to_bytes(response.into_body(), usize::MAX).await.is_ok()
}

/// Processor time of this thread, the waiting in a circle included.
fn own_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default())
}
