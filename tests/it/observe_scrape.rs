//! Direct scrape against small HTTP servers: the life of instances, rates, and every fault a page can have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use poolwright::observe::{FindingKind, HttpAccess, Observation, Quality, ScrapeOptions, ScrapeSource, Source};
use poolwright::policy::{Policy, Pool};
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::observe_support::{MODEL, NOW, Server, close, findings, fixture, kinds, policy, pool, seen};

type Pages = Arc<Mutex<BTreeMap<String, ResponseTemplate>>>;

struct Site(Pages);

impl Respond for Site {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let pages = self.0.lock().unwrap();
        pages.get(request.url.path()).cloned().unwrap_or_else(|| ResponseTemplate::new(404))
    }
}

/// A web server whose pages can be changed: `/sd` lists targets, `/<pod>` is the metrics page of a pod.
struct World {
    server: MockServer,
    pages: Pages,
    source: ScrapeSource,
    policy: Arc<Policy>,
}

fn text(body: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_string(body)
}

impl World {
    async fn new(pools: Vec<Pool>, with_discovery: bool) -> Self {
        let server = MockServer::start().await;
        let pages = Pages::default();
        Mock::given(any()).respond_with(Site(Arc::clone(&pages))).mount(&server).await;
        let discovery = if with_discovery { vec![format!("{}/sd", server.uri())] } else { Vec::new() };
        let source = ScrapeSource::new(ScrapeOptions { discovery, ..ScrapeOptions::default() }).unwrap();
        Self { server, pages, source, policy: policy(pools) }
    }

    fn set(&self, path: &str, answer: ResponseTemplate) {
        self.pages.lock().unwrap().insert(path.to_owned(), answer);
    }

    fn serve(&self, pod: &str, server: &Server) {
        self.set(&format!("/{pod}"), text(&server.page()));
    }

    fn list(&self, pods: &[&str]) {
        let address = self.server.address().to_string();
        let groups: Vec<Value> = pods
            .iter()
            .map(|pod| {
                json!({"targets": [address],
                    "labels": {"namespace": "inference", "pod": pod, "__metrics_path__": format!("/{pod}")}})
            })
            .collect();
        self.set("/sd", ResponseTemplate::new(200).set_body_json(groups));
    }

    async fn look(&mut self, after_seconds: f64) -> Observation {
        self.source.observe(&self.policy, NOW + after_seconds).await
    }
}

#[tokio::test]
async fn two_looks_give_rates_and_the_first_gives_gauges() {
    let mut world = World::new(vec![pool("a")], true).await;
    world.list(&["a-1", "a-2"]);
    world.serve("a-1", &Server { running: 1.0, ..Server::busy(1000.0) });
    world.serve("a-2", &Server::busy(7.0));
    let first = world.look(0.0).await;
    let a = seen(&first, "a");
    assert_eq!(
        (a.ready.value, a.running.value, a.waiting.value, a.kv_usage.value),
        (Some(2), Some(5.0), Some(2.0), Some(0.5))
    );
    assert_eq!(
        (a.running.quality, a.arrival_rate.quality, a.arrival_rate.value),
        (Quality::Fresh, Quality::Missing, None)
    );
    assert_eq!(a.kv_capacity_tokens.value, Some(16_000.0));

    world.serve("a-1", &Server { running: 4.0, ..Server::busy(1060.0) });
    world.serve("a-2", &Server::busy(67.0));
    let second = world.look(60.0).await;
    let a = seen(&second, "a");
    close(a.arrival_rate.value, 2.05);
    close(a.completion_rate.value, 2.0);
    assert_eq!((a.arrival_rate.quality, a.arrival_rate.at_seconds), (Quality::Fresh, NOW + 60.0));
    let ttft = a.ttft.value.as_ref().unwrap();
    assert_eq!((ttft.count, ttft.quantile(0.5)), (120.0, Some(0.175)));
    close(a.input_tokens.value.as_ref().unwrap().mean(), 100.0);
    assert_eq!(second.findings, Vec::new());
}

#[tokio::test]
async fn a_real_page_is_a_live_instance() {
    let mut world = World::new(vec![pool("a")], true).await;
    world.list(&["a-1"]);
    world.set("/a-1", text(&fixture("vllm-0.32.0-queued.prom")));
    let observation = world.look(0.0).await;
    let a = seen(&observation, "a");
    assert_eq!((a.ready.value, a.running.value, a.waiting.value), (Some(1), Some(20.0), Some(76.0)));
    assert_eq!((a.kv_capacity_tokens.value, observation.findings.len()), (Some(262_144.0), 0));
    assert_eq!(world.look(60.0).await.pools[0].arrival_rate.value, Some(0.0));
}

#[tokio::test]
async fn rest_and_zero_are_told_apart_from_not_knowing() {
    let mut world = World::new(vec![pool("a"), pool("b")], true).await;
    world.list(&["a-1"]);
    world.serve("a-1", &Server { finished: 5.0, ..Server::default() });
    assert_eq!(world.look(0.0).await.pools[0].arrival_rate.quality, Quality::Missing);
    let observation = world.look(60.0).await;
    assert_eq!(seen(&observation, "a").arrival_rate.quality, Quality::ConfirmedIdle);
    let b = seen(&observation, "b");
    assert_eq!((b.ready.value, b.starting.value, b.arrival_rate.quality), (Some(0), Some(0), Quality::ConfirmedIdle));

    world.set("/sd", ResponseTemplate::new(500).set_body_string("<html>oops</html>"));
    let observation = world.look(75.0).await;
    assert_eq!(seen(&observation, "b").ready.value, None, "without a list nothing proves zero");
    let a = seen(&observation, "a");
    assert_eq!((a.ready.value, a.arrival_rate.quality), (Some(1), Quality::Stale), "known instances are still read");
    assert!(findings(&observation, FindingKind::SourceFailed)[0].message.contains("500"));
}

#[tokio::test]
async fn a_list_that_suddenly_is_empty_is_not_believed_at_once() {
    let mut world = World::new(vec![pool("a")], true).await;
    world.list(&["a-1"]);
    world.serve("a-1", &Server::busy(10.0));
    world.look(0.0).await;
    world.list(&[]);
    let a = world.look(15.0).await.pools.remove(0);
    assert_eq!((a.ready.value, a.quality()), (Some(1), Quality::Stale));
    let a = world.look(76.0).await.pools.remove(0);
    assert_eq!((a.ready.value, a.ready.quality), (Some(0), Quality::Fresh));
}

#[tokio::test]
async fn a_new_replica_loses_no_arrivals_and_an_old_one_makes_no_spike() {
    let mut world = World::new(vec![pool("a")], true).await;
    world.list(&["a-1"]);
    for i in 0..5 {
        let finished = 1000.0 + 30.0 * f64::from(i);
        world.serve("a-1", &Server::busy(finished));
        world.look(15.0 * f64::from(i)).await;
    }
    // After 60 s at 2/s a replica is listed and starts, an old one is added to the list as well.
    world.list(&["a-1", "a-2", "a-3"]);
    world.serve("a-1", &Server::busy(1135.0));
    world.serve("a-3", &Server { started: Some(NOW - 86_400.0), ..Server::busy(1e6) });
    let a = world.look(75.0).await.pools.remove(0);
    assert_eq!((a.ready.value, a.starting.value), (Some(2), Some(1)));
    assert_eq!(a.arrival_rate.quality, Quality::Stale, "the old one has no rate yet");
    close(a.completion_rate.value, 105.0 / 60.0);

    world.serve("a-1", &Server::busy(1150.0));
    world.serve("a-2", &Server { running: 2.0, waiting: 0.0, ..Server::busy(12.0) });
    world.serve("a-3", &Server { started: Some(NOW - 86_400.0), ..Server::busy(1e6 + 15.0) });
    let a = world.look(90.0).await.pools.remove(0);
    assert_eq!((a.ready.value, a.starting.value, a.arrival_rate.quality), (Some(3), Some(0), Quality::Fresh));
    close(a.arrival_rate.value, 90.0 / 60.0 + (12.0 + 2.0) / 60.0 + 15.0 / 15.0);
}

#[tokio::test]
async fn the_load_of_a_removed_replica_fades_with_the_window() {
    let mut world = World::new(vec![pool("a")], true).await;
    world.list(&["a-1", "a-2"]);
    for (time, count) in [(0.0, 0.0), (30.0, 30.0), (60.0, 60.0)] {
        world.serve("a-1", &Server::busy(100.0 + count));
        world.serve("a-2", &Server::busy(500.0 + count));
        world.look(time).await;
    }
    world.list(&["a-1"]);
    world.serve("a-1", &Server::busy(100.0 + 60.0 + 60.0));
    let a = world.look(90.0).await.pools.remove(0);
    assert_eq!((a.ready.value, a.silent), (Some(1), 0));
    // 90 by the one that stays, 30 by the other in the half of the window it was there.
    close(a.arrival_rate.value, (90.0 + 30.0) / 60.0);
    assert_eq!(a.arrival_rate.quality, Quality::Fresh);
}

#[tokio::test]
async fn one_pod_missing_is_silent_and_comes_back() {
    let mut world = World::new(vec![pool("a")], true).await;
    world.list(&["a-1", "a-2"]);
    for (time, count) in [(0.0, 0.0), (60.0, 60.0)] {
        world.serve("a-1", &Server::busy(count));
        world.serve("a-2", &Server::busy(count));
        world.look(time).await;
    }
    world.set("/a-2", ResponseTemplate::new(503));
    let observation = world.look(75.0).await;
    let a = seen(&observation, "a");
    assert_eq!((a.ready.value, a.silent, a.quality()), (Some(1), 1, Quality::Stale));
    assert_eq!(a.running.quality, Quality::Stale);
    assert!(findings(&observation, FindingKind::InstanceSilent)[0].message.contains("503"));
    world.serve("a-2", &Server::busy(90.0));
    world.serve("a-1", &Server::busy(90.0));
    let observation = world.look(90.0).await;
    assert_eq!((seen(&observation, "a").silent, seen(&observation, "a").quality()), (0, Quality::Fresh));
}

#[tokio::test]
async fn a_restart_is_counted_from_zero_and_named() {
    let mut world = World::new(vec![pool("a")], true).await;
    world.list(&["a-1"]);
    world.serve("a-1", &Server::busy(1000.0));
    world.look(0.0).await;
    world.serve("a-1", &Server { running: 0.0, waiting: 0.0, ..Server::busy(30.0) });
    let observation = world.look(60.0).await;
    close(seen(&observation, "a").arrival_rate.value, 0.5);
    assert_eq!(kinds(&observation), vec![FindingKind::CounterReset]);
}

#[tokio::test]
async fn no_faulty_answer_becomes_zero() {
    let huge = "x".repeat(9 << 20);
    let faults: Vec<(&str, ResponseTemplate, &str)> = vec![
        ("401", ResponseTemplate::new(401), "credentials"),
        ("500", ResponseTemplate::new(500).set_body_string("<html>"), "500"),
        ("redirect", ResponseTemplate::new(302).insert_header("location", "/elsewhere"), "302"),
        ("html", text("<html><body>It works!</body></html>"), "not a metrics page"),
        ("binary", ResponseTemplate::new(200).set_body_bytes(vec![0xff, 0, 0xfe, b'\n', b'"']), "not a metrics page"),
        ("empty", text(""), "no series"),
        ("other", text("node_load1 1\n"), "no series"),
        ("huge", ResponseTemplate::new(200).set_body_string(huge), "longer than 8 MiB"),
    ];
    for (name, fault, word) in faults {
        let mut world = World::new(vec![pool("a")], true).await;
        world.list(&["a-1"]);
        world.serve("a-1", &Server::busy(10.0));
        world.look(0.0).await;
        world.set("/a-1", fault);
        let observation = world.look(15.0).await;
        let a = seen(&observation, "a");
        assert_eq!((a.ready.value, a.running.value, a.silent), (None, None, 1), "{name}");
        assert!(a.quality() >= Quality::Stale && a.arrival_rate.trusted().is_none(), "{name}");
        let found = findings(&observation, FindingKind::InstanceSilent);
        assert!(found[0].message.contains(word), "{name}: {found:?}");
    }
}

#[tokio::test]
async fn who_does_not_answer_in_time_or_at_all_is_not_zero() {
    let world = World::new(vec![pool("a")], true).await;
    world.list(&["a-1"]);
    world.set("/a-1", text(&Server::busy(10.0).page()).set_delay(Duration::from_secs(600)));
    let access = HttpAccess { timeout_seconds: 0.2, ..HttpAccess::default() };
    let targets = vec![format!("{}/a-1", world.server.uri())];
    let mut slow = ScrapeSource::new(ScrapeOptions { targets, access, ..ScrapeOptions::default() }).unwrap();
    let observation = slow.observe(&world.policy, NOW).await;
    assert_eq!((observation.pools[0].ready.value, observation.pools[0].quality()), (None, Quality::Missing));
    assert_eq!(kinds(&observation), vec![FindingKind::UnmatchedSeries, FindingKind::NoSeries]);

    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let discovery = vec![format!("http://127.0.0.1:{port}/sd")];
    let mut dead = ScrapeSource::new(ScrapeOptions { discovery, ..ScrapeOptions::default() }).unwrap();
    let observation = dead.observe(&world.policy, NOW).await;
    assert!(observation.source_error.as_ref().unwrap().contains("unreachable"), "{:?}", observation.source_error);
    assert_eq!(observation.pools[0].quality(), Quality::Missing);
}

#[tokio::test]
async fn absurd_values_on_a_page_are_refused() {
    let mut world = World::new(vec![pool("a")], true).await;
    world.list(&["a-1"]);
    world.serve("a-1", &Server::busy(10.0));
    world.look(0.0).await;
    world.serve("a-1", &Server { kv_usage: 7.3, running: f64::NAN, waiting: -1.0, finished: 1e308, started: None });
    let observation = world.look(60.0).await;
    let a = seen(&observation, "a");
    assert_eq!((a.kv_usage.value, a.running.value, a.waiting.value, a.arrival_rate.value), (None, None, None, None));
    assert_eq!((a.ttft.value.as_ref(), a.ready.value), (None, Some(1)));
    assert!(findings(&observation, FindingKind::Implausible).len() >= 4, "{:?}", observation.findings);
    world.serve("a-1", &Server::busy(130.0));
    let observation = world.look(120.0).await;
    close(seen(&observation, "a").arrival_rate.value, 1.0);
    assert_eq!(observation.findings, Vec::new(), "the next good page is compared with the last good one");
}

#[tokio::test]
async fn a_page_with_bad_lines_is_read_as_far_as_it_goes() {
    let mut world = World::new(vec![pool("a")], true).await;
    world.list(&["a-1"]);
    world.set("/a-1", text(&format!("{}vllm:num_requests_running{{broken\n", Server::busy(1.0).page())));
    let observation = world.look(0.0).await;
    assert_eq!(seen(&observation, "a").running.value, Some(4.0));
    assert!(findings(&observation, FindingKind::Implausible)[0].message.contains("1 lines"));
}

#[tokio::test]
async fn addresses_in_the_policy_belong_to_their_pool() {
    let mut world = World::new(vec![pool("a"), pool("b"), pool("c")], false).await;
    world.serve("one", &Server::busy(1.0));
    world.serve("two", &Server::busy(1.0));
    let mut pools = vec![pool("a"), pool("b"), pool("c")];
    pools[2].selector.model_name = "third".into();
    pools[0].scrape = vec![format!("{}/one", world.server.uri())];
    pools[1].scrape = vec![format!("{}/two", world.server.uri()), format!("{}/later", world.server.uri())];
    pools[1].selector.model_name = "another".into();
    world.policy = policy(pools);
    let observation = world.look(0.0).await;
    assert_eq!(seen(&observation, "a").ready.value, Some(1));
    let b = seen(&observation, "b");
    assert_eq!((b.ready.value, b.starting.value), (None, Some(1)), "it serves another model than the policy says");
    assert!(findings(&observation, FindingKind::UnmatchedSeries)[0].message.contains(MODEL));
    assert_eq!(seen(&observation, "c").ready.value, Some(0), "the operator listed all pages, none for this pool");
}

#[tokio::test]
async fn bare_addresses_find_their_pool_by_the_model() {
    let mut world = World::new(vec![pool("a"), pool("b")], false).await;
    world.serve("x", &Server::busy(1.0));
    let mut pools = vec![pool("a"), pool("b")];
    pools[1].selector.model_name = "another".into();
    let options = ScrapeOptions { targets: vec![format!("{}/x", world.server.uri())], ..ScrapeOptions::default() };
    world.source = ScrapeSource::new(options).unwrap();
    world.policy = policy(pools);
    let observation = world.look(0.0).await;
    assert_eq!((seen(&observation, "a").ready.value, seen(&observation, "b").ready.value), (Some(1), Some(0)));
    assert_eq!(observation.findings, Vec::new());
}

#[tokio::test]
async fn a_target_listed_twice_is_scraped_once() {
    let mut world = World::new(vec![pool("a")], true).await;
    world.list(&["a-1", "a-1"]);
    world.serve("a-1", &Server::busy(1.0));
    let observation = world.look(0.0).await;
    assert_eq!(seen(&observation, "a").ready.value, Some(1));
    assert_eq!(kinds(&observation), vec![FindingKind::DuplicateSeries]);
    assert_eq!(world.server.received_requests().await.unwrap().len(), 2);
}

#[tokio::test]
async fn waking_from_zero_is_not_missing_data() {
    let mut world = World::new(vec![pool("a"), pool("b")], true).await;
    world.serve("b-1", &Server::busy(1.0));
    world.list(&["b-1"]);
    assert_eq!(world.look(0.0).await.pools[0].ready.value, Some(0));
    world.list(&["b-1", "a-1"]);
    let a = world.look(15.0).await.pools.remove(0);
    assert_eq!((a.ready.value, a.starting.value, a.arrival_rate.quality), (Some(0), Some(1), Quality::ConfirmedIdle));
    world.serve("a-1", &Server::busy(3.0));
    let a = world.look(30.0).await.pools.remove(0);
    assert_eq!((a.ready.value, a.starting.value), (Some(1), Some(0)));
    close(a.arrival_rate.value, 8.0 / 30.0);
    world.set("/a-1", ResponseTemplate::new(500));
    assert_eq!(world.look(45.0).await.pools[0].ready.value, None, "it served: silence is not zero");
}

#[tokio::test]
async fn credentials_are_read_anew_for_every_look() {
    let mut world = World::new(vec![pool("a")], true).await;
    world.list(&[]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let access = HttpAccess { bearer_token_file: Some(file.path().to_owned()), ..HttpAccess::default() };
    let discovery = vec![format!("{}/sd", world.server.uri())];
    world.source = ScrapeSource::new(ScrapeOptions { discovery, access, ..ScrapeOptions::default() }).unwrap();
    for token in ["first", "second"] {
        std::fs::write(file.path(), format!("{token}\n")).unwrap();
        world.look(0.0).await;
        let requests = world.server.received_requests().await.unwrap();
        assert_eq!(requests.last().unwrap().headers["authorization"], format!("Bearer {token}"));
    }
    std::fs::write(file.path(), "").unwrap();
    let observation = world.look(0.0).await;
    assert!(observation.source_error.unwrap().contains("is empty"));
}
