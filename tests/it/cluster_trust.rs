//! The cluster's trust and reviews over a kube-apiserver: read, followed, kept, asked with patience.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use poolwright::cluster::{ClusterReviews, ClusterTrust, Patience};
use poolwright::control::ManualClock;
use poolwright::serve::auth::{
    AccessQuestion, Action, Limits, ResourceAction, Reviews, TokenVerdict, TrustSource, User,
};
use poolwright::serve::{Access, Health, api_router};
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::fake_kube::FakeKube;
use crate::serve_auth_support::{Ask, Ca, HPA, trust_data, user};
use crate::serve_support::{AT, Daemon, EM, decision};

const MAPS: &str = "/api/v1/namespaces/kube-system/configmaps";
const NAME: &str = "extension-apiserver-authentication";
const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

const QUICK: Patience = Patience { limit: Duration::from_secs(30), tries: 5, pause: Duration::from_millis(1) };

fn put(kube: &FakeKube, data: &BTreeMap<String, String>) {
    let metadata = json!({"name": NAME, "namespace": "kube-system"});
    kube.put(MAPS, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}));
}

fn follow(kube: &FakeKube) -> Arc<ClusterTrust> {
    let trust = Arc::new(ClusterTrust::default());
    let (following, client) = (trust.clone(), kube.client());
    tokio::spawn(async move { following.follow(client).await });
    trust
}

/// Wait for something that comes over the network.
async fn eventually(what: &str, happened: impl Fn() -> bool) {
    let begin = Instant::now();
    while !happened() {
        assert!(begin.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn trust_is_followed_and_the_last_good_one_is_kept() {
    let kube = FakeKube::start().await;
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    put(&kube, &trust_data(&old.pem(), &old.pem(), &["p"]));
    let daemon = Daemon::new(decision());
    let trust = follow(&kube);
    eventually("read", || trust.health() == Health::Good).await;
    let reviews = Arc::new(ClusterReviews::new(kube.client(), QUICK));
    kube.review(ACCESS_REVIEWS, |_| Ok(json!({"allowed": true})));
    let access = Access::delegated(trust.clone(), reviews, daemon.clock.clone(), Limits::default());
    let router = api_router(daemon.state.clone(), &access);
    let ask = |ca: &Ca| Ask::get(EM).with(&ca.client("p", "")).header("x-remote-user", HPA);
    let code = async |ca: &Ca| ask(ca).send(&router).await.status.as_u16();
    assert_eq!((code(&old).await, code(&new).await), (200, 401));

    let before = trust.current().unwrap();
    put(&kube, &trust_data(&format!("{}{}", old.pem(), new.pem()), "", &["p"]));
    eventually("both", || !Arc::ptr_eq(&before, &trust.current().unwrap())).await;
    assert_eq!((code(&old).await, code(&new).await), (200, 200));
    let before = trust.current().unwrap();
    put(&kube, &trust_data(&new.pem(), "", &["p"]));
    eventually("the new one", || !Arc::ptr_eq(&before, &trust.current().unwrap())).await;
    assert_eq!((code(&old).await, code(&new).await), (401, 200));

    put(&kube, &trust_data("broken", "", &["p"]));
    eventually("broken", || trust.health() != Health::Good).await;
    assert_eq!((code(&old).await, code(&new).await), (401, 200));
    put(&kube, &trust_data(&new.pem(), "", &["p"]));
    eventually("repaired", || trust.health() == Health::Good).await;
    kube.remove(MAPS, NAME);
    eventually("removed", || trust.health() != Health::Good).await;
    assert!(matches!(trust.health(), Health::Worrying(_)));
    assert_eq!(code(&new).await, 200);
    let state = daemon.state.clone().with_check("authentication-trust", move || trust.health());
    let ready = Ask::get("/readyz?verbose").send(&api_router(state, &access)).await;
    assert_eq!(ready.status.as_u16(), 200);
    assert!(ready.body.contains("[+]authentication-trust ok: the cluster's"), "{}", ready.body);
}

#[tokio::test]
async fn until_the_trust_is_read_nothing_is_ready() {
    let kube = FakeKube::start().await;
    kube.fail(MAPS, Some(StatusCode::FORBIDDEN));
    let trust = follow(&kube);
    eventually("tried", || !kube.calls(MAPS).is_empty()).await;
    assert_eq!(trust.health(), Health::Failed);
    let daemon = Daemon::new(decision());
    let checked = trust.clone();
    let state = daemon.state.clone().with_check("authentication-trust", move || checked.health());
    let router = api_router(state, &Access::open());
    let ready = Ask::get("/readyz").send(&router).await;
    assert_eq!(ready.status.as_u16(), 500);
    assert!(ready.body.contains("[-]authentication-trust failed: reason withheld"), "{}", ready.body);
    assert_eq!(Ask::get("/livez").send(&router).await.status.as_u16(), 200);
    put(&kube, &trust_data(&Ca::new("ca").pem(), "", &[]));
    kube.fail(MAPS, None);
    eventually("read", || trust.health() == Health::Good).await;
    assert_eq!(Ask::get("/readyz").send(&router).await.status.as_u16(), 200);
}

fn question() -> AccessQuestion {
    let action = ResourceAction {
        verb: "list".into(),
        group: "g".into(),
        version: "v1".into(),
        namespace: "ns".into(),
        resource: "m".into(),
        ..ResourceAction::default()
    };
    let user = User { uid: "7".into(), extra: [("scopes/a".into(), vec!["v".into()])].into(), ..user("u", &["g1"]) };
    AccessQuestion { user, action: Action::Resource(action) }
}

#[tokio::test]
async fn reviews_carry_everything_and_are_read_strictly() {
    let kube = FakeKube::start().await;
    let reviews = ClusterReviews::new(kube.client(), QUICK);
    kube.review(ACCESS_REVIEWS, |_| Ok(json!({"allowed": false, "reason": "why"})));
    let verdict = reviews.access(&question()).await.unwrap();
    assert_eq!((verdict.allowed, verdict.reason.as_str()), (false, "why"));
    let attributes = json!({"verb": "list", "group": "g", "version": "v1", "namespace": "ns", "resource": "m"});
    let spec = json!({"user": "u", "uid": "7", "groups": ["g1"], "extra": {"scopes/a": ["v"]},
        "resourceAttributes": attributes});
    assert_eq!(kube.calls(ACCESS_REVIEWS)[0].body["spec"], spec);
    let path = Action::Path { verb: "get".into(), path: "/x".into() };
    kube.review(ACCESS_REVIEWS, |_| Ok(json!({"allowed": true, "denied": true})));
    assert!(!reviews.access(&AccessQuestion { action: path, ..question() }).await.unwrap().allowed);
    let spec = &kube.calls(ACCESS_REVIEWS)[1].body["spec"];
    assert_eq!(spec["nonResourceAttributes"], json!({"verb": "get", "path": "/x"}));

    kube.review(TOKEN_REVIEWS, |review| {
        assert_eq!(review["spec"], json!({"token": "t"}));
        Ok(json!({"authenticated": true, "user": {"username": "sa", "uid": "1", "groups": ["g"], "extra": {"a": ["b"]}}}))
    });
    let extra = [("a".to_owned(), vec!["b".to_owned()])].into();
    let sa = User { uid: "1".into(), extra, ..user("sa", &["g"]) };
    assert_eq!(reviews.token("t").await, Ok(TokenVerdict::Accepted(sa)));
    // A token for another audience comes back like this.
    for status in [json!({"authenticated": false, "error": "audience"}), json!({}), json!({"authenticated": true})] {
        kube.review(TOKEN_REVIEWS, move |_| Ok(status.clone()));
        assert_eq!(reviews.token("t").await, Ok(TokenVerdict::Refused));
    }
}

#[tokio::test]
async fn only_what_may_pass_is_tried_again() {
    let kube = FakeKube::start().await;
    let reviews = ClusterReviews::new(kube.client(), QUICK);
    for (status, tries) in [(StatusCode::INTERNAL_SERVER_ERROR, 5), (StatusCode::FORBIDDEN, 1)] {
        let before = kube.calls(ACCESS_REVIEWS).len();
        kube.review(ACCESS_REVIEWS, move |_| Err(status));
        let error = reviews.access(&question()).await.unwrap_err().to_string();
        assert_eq!(error, format!("the subject access review failed: kube-apiserver answers {status}"));
        assert_eq!(kube.calls(ACCESS_REVIEWS).len() - before, tries);
    }
    let failures = AtomicUsize::new(0);
    kube.review(ACCESS_REVIEWS, move |_| match failures.fetch_add(1, Ordering::SeqCst) {
        0..3 => Err(StatusCode::INTERNAL_SERVER_ERROR),
        _ => Ok(json!({"allowed": true})),
    });
    assert!(reviews.access(&question()).await.unwrap().allowed);
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_costs_a_limited_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::Config::new(format!("http://{}", silent.local_addr().unwrap()).parse().unwrap());
    let patience = Patience { limit: Duration::from_millis(50), ..Patience::default() };
    let reviews = ClusterReviews::new(kube::Client::try_from(config).unwrap(), patience);
    let error = reviews.token("secret").await.unwrap_err().to_string();
    assert_eq!(error, "the token review failed: no answer within 50ms");
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn tokens_are_in_no_log_at_any_level() {
    const SECRET: &str = "eyJhbGciOiJSUzI1NiJ9.secret";
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    // The test's runtime has one thread, so this sees the server's and the client's work alike.
    let _guard = tracing::subscriber::set_default(subscriber);
    let kube = FakeKube::start().await;
    put(&kube, &trust_data(&Ca::new("ca").pem(), "", &[]));
    let trust = follow(&kube);
    eventually("read", || trust.health() == Health::Good).await;
    let reviews = Arc::new(ClusterReviews::new(kube.client(), QUICK));
    let clock = Arc::new(ManualClock::new(AT));
    let access = Access::delegated(trust, reviews, clock.clone(), Limits::default());
    let daemon = Daemon::new(decision());
    let router = api_router(daemon.state.clone(), &access);
    let accepted = json!({"authenticated": true, "user": {"username": "sa"}});
    let answers =
        [Ok(accepted), Ok(json!({"authenticated": "nonsense"})), Ok(json!({})), Err(StatusCode::INTERNAL_SERVER_ERROR)];
    for (round, answer) in answers.into_iter().enumerate() {
        clock.set(AT + 100.0 * round as f64);
        kube.review(TOKEN_REVIEWS, move |_| answer.clone());
        let ask = Ask::get(EM).header("authorization", &format!("Bearer {SECRET}"));
        ask.send(&router).await;
    }
    assert!(kube.calls(TOKEN_REVIEWS).len() >= 4);
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(logged.contains("credentials are refused"), "something is logged");
    assert!(!logged.contains(SECRET) && !logged.contains("secret"), "{logged}");
}
