use std::net::{Ipv4Addr, SocketAddr};

use poolwright::simulate::{Fleet, FleetOptions, FleetServer, LiveFleet, PodError, SharedFleet, Window};
use serde_json::{Value, json};

use crate::simulate_policy::{BATCH, FAST, INTERACTIVE, SLOW, conversation, policy};

const NAMESPACE: &str = "inference";

fn options() -> FleetOptions {
    FleetOptions { seed: 3, keep_completions: true, ..FleetOptions::default() }
}

fn fleet(scale: f64) -> Fleet {
    let policy = policy();
    let workload = conversation(&policy, scale, 3);
    Fleet::external(&policy, vec![workload], options())
}

/// A fleet with pods that serve from the start.
fn serving(scale: f64, pods: &[(usize, &str)]) -> Fleet {
    let mut fleet = fleet(scale);
    for (pool, pod) in pods {
        fleet.add_pod(*pool, pod, None).unwrap();
        fleet.pod_ready(NAMESPACE, pod).unwrap();
    }
    fleet
}

fn phases(fleet: &Fleet, pool: usize) -> (u32, u32, u32, u32) {
    let p = &fleet.snapshot().pools[pool];
    (p.spec, p.ready, p.starting, p.draining)
}

#[test]
fn a_pod_starts_for_as_long_as_it_takes_and_costs_meanwhile() {
    let mut fleet = fleet(0.2);
    assert_eq!(phases(&fleet, FAST), (0, 0, 0, 0), "not even the minimum is there");
    fleet.add_pod(FAST, "a", None).unwrap();
    fleet.advance(3600.0);
    assert_eq!(phases(&fleet, FAST), (1, 0, 1, 0));
    assert!((fleet.snapshot().cost - 16.0).abs() < 1e-9);
    let waiting = fleet.snapshot();
    assert_eq!(waiting.gateway_waiting, waiting.classes.iter().map(|c| c.arrived).sum::<u64>());
    fleet.pod_ready(NAMESPACE, "a").unwrap();
    let served = fleet.snapshot();
    assert_eq!((phases(&fleet, FAST), served.gateway_waiting), ((1, 1, 0, 0), 0));
    assert_eq!(served.pools[FAST].running + served.pools[FAST].waiting, waiting.gateway_waiting);
}

#[test]
fn a_pod_that_drains_gets_nothing_new_and_stays_until_it_is_removed() {
    let mut fleet = serving(1.0, &[(FAST, "a"), (FAST, "b")]);
    fleet.advance(120.0);
    fleet.drain_pod(NAMESPACE, "a").unwrap();
    fleet.drain_pod(NAMESPACE, "a").unwrap();
    let before = fleet.pod_outstanding(NAMESPACE, "a").unwrap();
    assert!(before > 2, "there must be something to finish: {before}");
    fleet.advance(300.0);
    assert_eq!(fleet.pod_outstanding(NAMESPACE, "a"), Some(0));
    assert_eq!(phases(&fleet, FAST), (1, 1, 0, 1), "it still holds its accelerators");
    assert_eq!(fleet.snapshot().cost_per_hour, 32.0);
    fleet.remove_pod(NAMESPACE, "a").unwrap();
    assert_eq!(phases(&fleet, FAST), (1, 1, 0, 0));
    let after = fleet.snapshot();
    assert_eq!((after.cost_per_hour, after.classes.iter().map(|c| c.failed).sum::<u64>()), (16.0, 0));
    fleet.advance(600.0);
    assert!((fleet.snapshot().cost - (16.0 * 300.0 + 16.0 * 600.0) / 3600.0).abs() < 1e-9);
}

#[test]
fn a_pod_removed_with_requests_inside_fails_them() {
    let mut fleet = serving(1.0, &[(FAST, "a"), (FAST, "b")]);
    fleet.advance(120.0);
    let inside = fleet.pod_outstanding(NAMESPACE, "a").unwrap() as u64;
    assert!(inside > 2, "{inside}");
    fleet.remove_pod(NAMESPACE, "a").unwrap();
    let failed = |fleet: &Fleet| fleet.snapshot().classes.iter().map(|c| c.failed).sum::<u64>();
    assert_eq!(failed(&fleet), inside);
    fleet.remove_pod(NAMESPACE, "b").unwrap();
    fleet.advance(130.0);
    assert!(fleet.snapshot().gateway_waiting > 0, "new ones wait for a server");
    let snapshot = fleet.snapshot();
    let sum = |of: fn(&poolwright::simulate::ClassSnapshot) -> u64| snapshot.classes.iter().map(of).sum::<u64>();
    let all = sum(|c| c.met) + sum(|c| c.late) + sum(|c| c.failed) + sum(|c| c.overdue) + sum(|c| c.open);
    assert_eq!(sum(|c| c.arrived), all, "nothing is lost from the books");
}

#[test]
fn a_fault_is_counted_apart() {
    let mut fleet = serving(0.5, &[(FAST, "a"), (FAST, "b")]);
    fleet.advance(60.0);
    for pod in ["a", "b"] {
        fleet.remove_pod(NAMESPACE, pod).unwrap();
    }
    fleet.advance(90.0);
    for pod in ["c", "d"] {
        fleet.add_pod(FAST, pod, None).unwrap();
        fleet.pod_ready(NAMESPACE, pod).unwrap();
    }
    fleet.advance(180.0);
    fleet.stop_arrivals();
    fleet.advance(400.0);
    let whole = &fleet.service(&[])[INTERACTIVE];
    let split = &fleet.service(&[Window { from_seconds: 45.0, to_seconds: 90.0 }])[INTERACTIVE];
    assert_eq!(whole.outside.arrived, split.outside.arrived + split.inside.arrived);
    assert_eq!((whole.inside.arrived, split.outside.open, split.inside.open), (0, 0, 0));
    assert!(split.outside.attainment().unwrap() > 0.99, "{split:?}");
    assert!(split.inside.attainment().unwrap() < 0.5, "{split:?}");
    let books = &fleet.snapshot().classes[BATCH];
    let batch = &fleet.service(&[])[BATCH];
    assert_eq!((batch.outside.met, batch.outside.arrived), (books.met, books.arrived), "the same rule as the books");
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut fleet = serving(0.5, &[(FAST, "a")]);
    let before = fleet.snapshot();
    let unknown = || Err(PodError::Unknown("inference/x".into()));
    assert_eq!(fleet.add_pod(9, "x", None), Err(PodError::NoPool(9)));
    assert_eq!(fleet.add_pod(SLOW, "a", None), Err(PodError::Exists("inference/a".into())));
    assert_eq!(fleet.pod_ready(NAMESPACE, "a"), Err(PodError::NotStarting("inference/a".into())));
    assert_eq!(fleet.pod_ready(NAMESPACE, "x"), unknown());
    assert_eq!(fleet.drain_pod(NAMESPACE, "x"), unknown());
    assert_eq!(fleet.remove_pod(NAMESPACE, "x"), unknown());
    assert_eq!(fleet.remove_pod("elsewhere", "a"), Err(PodError::Unknown("elsewhere/a".into())));
    fleet.set_replicas(FAST, 5);
    fleet.place_ready(FAST, 5);
    assert_eq!(fleet.snapshot(), before, "such a fleet is scaled by its pods only");
    let mut own = Fleet::new(&policy(), Vec::new(), options());
    assert_eq!(own.add_pod(FAST, "a", None), Err(PodError::NotExternal));
    let pod = own.replicas()[0].pod.clone();
    assert_eq!(own.remove_pod(NAMESPACE, &pod), Err(PodError::NotExternal));
}

#[test]
fn requests_may_begin_in_the_middle_of_the_run() {
    let policy = policy();
    let run = |start: f64| {
        let mut fleet = Fleet::external(&policy, Vec::new(), options());
        fleet.add_pod(FAST, "a", None).unwrap();
        fleet.advance(start);
        fleet.pod_ready(NAMESPACE, "a").unwrap();
        fleet.start_arrivals(vec![conversation(&policy, 0.5, 3)]);
        fleet.advance(start + 60.0);
        fleet.take_completions().iter().map(|c| (c.request.id, c.request.input_tokens)).collect::<Vec<_>>()
    };
    assert!(run(0.0).len() > 50);
    assert_eq!(run(64.0), run(0.0));
}

fn client() -> reqwest::Client {
    // the first test of the process installs it
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// An address that only this test uses, as the pod network would give it.
fn pod_address(last: u8) -> SocketAddr {
    let port = std::net::TcpListener::bind((Ipv4Addr::new(127, 40, 1, last), 0)).unwrap().local_addr().unwrap().port();
    SocketAddr::from((Ipv4Addr::new(127, 40, 1, last), port))
}

async fn page(address: SocketAddr) -> Result<String, reqwest::Error> {
    client().get(format!("http://{address}/metrics")).send().await?.error_for_status()?.text().await
}

#[tokio::test]
async fn a_pod_answers_at_its_own_address_from_ready_to_removed() {
    let address = pod_address(1);
    let shared = SharedFleet::new(fleet(0.5));
    let mut server = FleetServer::start(shared.clone()).await.unwrap();
    shared.lock().add_pod(FAST, "llama-h100-x-1", Some(address)).unwrap();
    shared.lock().add_pod(SLOW, "llama-l40s-x-1", None).unwrap();
    server.sync().unwrap();
    let listed: Vec<Value> = client().get(server.discovery_url()).send().await.unwrap().json().await.unwrap();
    let labels = json!({"namespace": NAMESPACE, "pod": "llama-h100-x-1", "deployment": "llama-h100"});
    assert_eq!(listed[0], json!({"targets": [address.to_string()], "labels": labels}));
    assert!(listed[1]["targets"][0].as_str().unwrap().starts_with("127.0.0.1:"), "{listed:?}");
    assert!(page(address).await.unwrap_err().is_connect(), "a starting pod refuses connections");

    shared.lock().pod_ready(NAMESPACE, "llama-h100-x-1").unwrap();
    server.sync().unwrap();
    assert!(page(address).await.unwrap().contains("vllm:num_requests_running{"));
    for pod in ["llama-h100-x-1", "llama-l40s-x-1"] {
        shared.lock().drain_pod(NAMESPACE, pod).unwrap();
    }
    server.sync().unwrap();
    assert!(page(address).await.is_ok(), "it answers while it drains");
    let slow = format!("http://{}/metrics", listed[1]["targets"][0].as_str().unwrap());
    assert!(client().get(slow).send().await.unwrap_err().is_connect(), "it never came up");
    let listed: Vec<Value> = client().get(server.discovery_url()).send().await.unwrap().json().await.unwrap();
    assert_eq!(listed, Vec::<Value>::new());

    shared.lock().remove_pod(NAMESPACE, "llama-h100-x-1").unwrap();
    server.sync().unwrap();
    assert!(page(address).await.is_err(), "it is gone");
}

#[tokio::test]
async fn the_address_of_a_pod_that_is_gone_serves_the_next_one() {
    let address = pod_address(2);
    let shared = SharedFleet::new(fleet(0.5));
    let mut server = FleetServer::start(shared.clone()).await.unwrap();
    for generation in 0..3 {
        let pod = format!("llama-h100-x-{generation}");
        shared.lock().add_pod(FAST, &pod, Some(address)).unwrap();
        shared.lock().pod_ready(NAMESPACE, &pod).unwrap();
        // the old listener closes on its own task; a call that came too early is repeated
        while server.sync().is_err() {
            tokio::task::yield_now().await;
        }
        let now = shared.lock().now_seconds();
        shared.lock().advance(now + 30.0);
        assert!(page(address).await.unwrap().contains("vllm:num_requests_running{"), "pod {generation}");
        shared.lock().remove_pod(NAMESPACE, &pod).unwrap();
    }
}

#[tokio::test]
async fn a_live_fleet_follows_its_pods_by_itself() {
    use poolwright::control::{Clock, SystemClock};
    let options = FleetOptions { start_unix_seconds: SystemClock.now_seconds(), ..options() };
    let live = LiveFleet::start(Fleet::external(&policy(), Vec::new(), options)).await.unwrap();
    let address = pod_address(3);
    live.fleet().lock().add_pod(FAST, "a", Some(address)).unwrap();
    live.fleet().lock().pod_ready(NAMESPACE, "a").unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while page(address).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the page never came");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
