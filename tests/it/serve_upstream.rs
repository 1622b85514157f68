//! Metrics that are not ours, passed on to another server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use poolwright::serve::auth::{Action, ReviewError};
use poolwright::serve::{Upstream, UpstreamSettings, api_router};

use crate::serve_auth_support::{Api, Ask, HPA, allowed};
use crate::serve_support::{Daemon, EM, decision, published};

const KEDA: &str = "labelSelector=scaledobject.keda.sh%2Fname%3Dllama";

/// A metrics server that records what it is asked.
#[derive(Clone)]
struct Other {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    uri: String,
    headers: axum::http::HeaderMap,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

impl Other {
    async fn answering<F, R>(answer: F) -> Self
    where
        F: Fn(String) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response> + Send,
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let record = seen.clone();
        let app = Router::new().fallback(move |request: Request| {
            let (method, uri) = (request.method().clone(), request.uri().to_string());
            record.lock().unwrap().push(Seen { method, uri: uri.clone(), headers: request.headers().clone() });
            answer(uri)
        });
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, seen }
    }

    async fn ok() -> Self {
        Self::answering(async |_| ([("content-type", "application/vnd.kubernetes.protobuf")], "k8s…").into_response())
            .await
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn settings(url: &str) -> UpstreamSettings {
    UpstreamSettings { url: url.to_owned(), own_names: vec!["poolwright.system.svc".into()], ..Default::default() }
}

fn daemon(settings: UpstreamSettings) -> Daemon {
    let upstream = Upstream::new(settings).unwrap();
    Daemon::of(published(decision()), |state| state.with_upstream(upstream))
}

#[tokio::test]
async fn unknown_metrics_are_asked_for_once_with_our_token() {
    let other = Other::ok().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let daemon = daemon(UpstreamSettings { token_file: Some(token.clone()), ..settings(&other.url) });
    let path = format!("{EM}/namespaces/inference/queue%3Alength?labelSelector=a%3Db%2Cc+in+(d)&limit=5");
    let headers = [
        ("accept", "application/vnd.kubernetes.protobuf, */*"),
        ("authorization", "Bearer of-the-user"),
        ("x-remote-user", "system:admin"),
        ("x-remote-group", "system:masters"),
        ("impersonate-user", "admin"),
        ("cookie", "c"),
    ];
    let answer = daemon.ask(Method::GET, &path, &headers).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "k8s…"));
    assert_eq!(answer.header("content-type"), "application/vnd.kubernetes.protobuf");
    let seen = other.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((&seen[0].method, seen[0].uri.as_str()), (&Method::GET, path.as_str()));
    assert_eq!(seen[0].header("authorization"), "Bearer first");
    assert_eq!(seen[0].header("accept"), "application/vnd.kubernetes.protobuf, */*");
    for name in ["x-remote-user", "x-remote-group", "impersonate-user", "cookie"] {
        assert_eq!(seen[0].header(name), "", "{name} is the user's and stays here");
    }
    std::fs::write(&token, "second").unwrap();
    daemon.get(&path).await;
    assert_eq!(other.seen()[1].header("authorization"), "Bearer second", "the token rotates");
    let metrics = daemon.get("/metrics").await.body;
    assert!(metrics.contains("poolwright_upstream_requests_total 2") && metrics.contains("upstream_failures_total 0"));
    std::fs::remove_file(&token).unwrap();
    let message = daemon.get(&path).await.status_error(502, "BadGateway");
    assert!(message.contains("token") && !message.contains("token:"), "{message}");
}

#[tokio::test]
async fn only_what_is_not_ours_is_passed_on() {
    let other = Other::ok().await;
    let daemon = daemon(settings(&other.url));
    for path in [
        "/namespaces/inference/poolwright_desired_replicas",
        "/namespaces/inference/poolwright_desired_replicas?labelSelector=pool%3Dllama-h100",
        "/namespaces/inference/poolwright_desired_replicas?labelSelector=a%3Dscaledobject.keda.sh",
        "",
        "/namespaces/inference/queue/more",
        "/namespaces/inference/queue?watch=true",
        "/namespaces/inference/queue?limit=x",
    ] {
        daemon.get(&format!("{EM}{path}")).await;
    }
    daemon
        .ask(Method::POST, &format!("{EM}/namespaces/inference/queue"), &[])
        .await
        .status_error(405, "MethodNotAllowed");
    daemon.ask(Method::HEAD, &format!("{EM}/namespaces/inference/queue"), &[]).await;
    assert_eq!(other.seen().len(), 0);
    // KEDA's own HPA names its ScaledObject, whatever the metric is called.
    daemon.get(&format!("{EM}/namespaces/inference/poolwright_desired_replicas?{KEDA}")).await;
    daemon.get(&format!("{EM}/namespaces/inference/s0-external?{KEDA}")).await;
    assert_eq!(other.seen().len(), 2);
}

/// Whoever may not ask us asks nobody: who it is and whether they may is settled first.
#[tokio::test]
async fn who_may_not_ask_causes_no_question_to_the_other_server() {
    let other = Other::ok().await;
    let api = Api::new();
    let state = api.daemon.state.clone().with_upstream(Upstream::new(settings(&other.url)).unwrap());
    let router = api_router(state, &api.access);
    let path = format!("{EM}/namespaces/inference/s0-external?{KEDA}");
    api.reviews.answer_access(|question| match question.user.name.as_str() {
        "broken" => Err(ReviewError("down".into())),
        name => allowed(name == HPA),
    });
    for (ask, code) in [
        (api.proxied(&path, "somebody", &[]), 403),
        (Ask::get(&path), 403),
        (Ask::get(&path).header("authorization", "Bearer wrong"), 401),
        (api.proxied(&path, "broken", &[]), 500),
    ] {
        assert_eq!(ask.send(&router).await.status.as_u16(), code);
    }
    assert_eq!(other.seen().len(), 0);
    let asked = api.reviews.asked();
    assert_eq!(api.proxied(&path, HPA, &[]).send(&router).await.status.as_u16(), 200);
    assert_eq!((api.reviews.asked(), other.seen().len()), (asked + 1, 1));
    let Action::Resource(action) = api.reviews.last().action else { panic!("a resource") };
    assert_eq!((action.verb.as_str(), action.resource.as_str()), ("list", "s0-external"));
}

#[tokio::test]
async fn what_hurts_a_client_is_not_passed_on() {
    let other = Other::answering(async |uri: String| {
        let code: u16 = uri.rsplit('/').next().unwrap().trim_start_matches('m').parse().unwrap();
        let headers = [("retry-after", "30"), ("location", "https://elsewhere/"), ("set-cookie", "a=b")];
        (StatusCode::from_u16(code).unwrap(), headers, "{\"kind\":\"Status\"}").into_response()
    })
    .await;
    let daemon = daemon(settings(&other.url));
    for (code, passed) in [
        (301, 502),
        (302, 502),
        (304, 502),
        (307, 502),
        (401, 502),
        (204, 502),
        (400, 400),
        (403, 403),
        (404, 404),
        (429, 429),
        (500, 500),
        (503, 503),
    ] {
        let answer = daemon.get(&format!("{EM}/namespaces/x/m{code}")).await;
        assert_eq!(answer.status.as_u16(), passed, "{code}");
        for name in ["retry-after", "location", "set-cookie"] {
            assert_eq!(answer.header(name), "", "{name} of a {code}");
        }
        if passed == 502 {
            answer.status_error(502, "BadGateway");
        }
    }
    assert_eq!(other.seen().len(), 12, "no redirect was followed, nothing was asked twice");
}

#[tokio::test]
async fn a_slow_server_ends_in_504_and_never_delays_our_own_metrics() {
    let other = Other::answering(async |_| std::future::pending().await).await;
    let daemon = Arc::new(daemon(settings(&other.url)));
    let ask = |path: String| {
        let daemon = daemon.clone();
        tokio::spawn(async move { daemon.get(&path).await })
    };
    let waiting: Vec<_> = (0..64).map(|n| ask(format!("{EM}/namespaces/x/slow{n}"))).collect();
    while other.seen().len() < 64 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let local = daemon.get(&format!("{EM}/namespaces/inference/poolwright_desired_replicas")).await;
    assert_eq!(local.status.as_u16(), 200);
    let full = daemon.get(&format!("{EM}/namespaces/x/one-more")).await;
    full.status_error(503, "ServiceUnavailable");
    assert!(waiting.iter().all(|w| !w.is_finished()), "the others still wait");
    for waiting in waiting {
        let message = waiting.await.unwrap().status_error(504, "Timeout");
        assert!(message.contains("within 3 s"), "{message}");
    }
    // They are all free again.
    assert_eq!(daemon.get(&format!("{EM}/namespaces/x/later")).await.status.as_u16(), 504);
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let other = Other::answering(async |_| {
        let chunk = axum::body::Bytes::from(vec![b' '; 1 << 20]);
        let endless = futures::stream::repeat_with(move || Ok::<_, std::convert::Infallible>(chunk.clone()));
        axum::body::Body::from_stream(endless).into_response()
    })
    .await;
    let message =
        daemon(settings(&other.url)).get(&format!("{EM}/namespaces/x/y")).await.status_error(502, "BadGateway");
    assert!(message.contains("too long"), "{message}");
}

#[tokio::test]
async fn a_dead_server_is_502_and_says_no_addresses() {
    let message = daemon(settings("http://127.0.0.1:1")).get(&format!("{EM}/namespaces/x/y")).await;
    assert_eq!(message.status_error(502, "BadGateway"), "the upstream metrics server cannot be reached");
}

/// Two daemons that name each other: the question ends after one round.
#[tokio::test]
async fn a_loop_is_cut() {
    let (first, second) = (
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
    );
    let url = |l: &tokio::net::TcpListener| format!("http://{}", l.local_addr().unwrap());
    let (one, two) = (daemon(settings(&url(&second))), daemon(settings(&url(&first))));
    for (listener, router) in [(first, one.router.clone()), (second, two.router.clone())] {
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    }
    let message = one.get(&format!("{EM}/namespaces/x/y")).await.status_error(502, "BadGateway");
    assert!(message.contains("asked poolwright back"), "{message}");
    for (daemon, asked) in [(&one, 1), (&two, 1)] {
        let metrics = daemon.get("/metrics").await.body;
        assert!(metrics.contains(&format!("poolwright_upstream_requests_total {asked}\n")), "{metrics}");
    }
}

#[test]
fn unsafe_addresses_are_refused_at_the_start() {
    let error = |url: &str| Upstream::new(settings(url)).unwrap_err().to_string();
    assert!(error("https://poolwright.system.svc:443").contains("poolwright's own Service"));
    assert!(error("https://POOLWRIGHT.system.svc.").contains("poolwright's own Service"));
    assert!(error("http://keda.keda.svc").contains("must be https"));
    assert!(error("ftp://127.0.0.1").contains("must be https"));
    assert!(error("keda").contains("not an address"));
    assert!(Upstream::new(settings("https://keda.keda.svc:443")).is_ok());
}

/// The other server's certificate is verified with the given authorities only.
#[tokio::test]
async fn the_certificate_is_verified() {
    use poolwright::serve::{ClientCertificates, Http2, Listener, StopTimes, Tls, run};
    let tls = Tls::self_signed(&["localhost".into()], ClientCertificates::Ignored).unwrap();
    let trusted = String::from_utf8(tls.chain_pem()).unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    let router = Router::new().fallback(async || "{}");
    let times = StopTimes { drain: Duration::ZERO, grace: Duration::ZERO };
    let listeners = vec![Listener { socket, router, tls: Some(tls), http2: Http2::default() }];
    tokio::spawn(run(listeners, poolwright::serve::Readiness::default(), std::future::pending(), times));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    let ask = async |pem: &str| {
        std::fs::write(&file, pem).unwrap();
        let ca_file = Some(file.clone());
        let daemon = daemon(UpstreamSettings { ca_file, ..settings(&format!("https://localhost:{port}")) });
        daemon.get(&format!("{EM}/namespaces/x/y")).await.status.as_u16()
    };
    assert_eq!(ask(&trusted).await, 200);
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    assert_eq!(ask(&other).await, 502);
}
