//! Health and the JSON API, as kubelet, KEDA's metrics-api scaler and the page use them.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use poolwright::control::Published;
use serde_json::json;

use crate::serve_support::{AT, Daemon, decision, published};

const POOL: &str = "/v1/namespaces/inference/pools/llama-a100";

#[tokio::test]
async fn one_pool_as_keda_reads_it() {
    let daemon = Daemon::new(decision());
    let answer = daemon.get(POOL).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(
        answer.json(),
        json!({
            "namespace": "inference", "pool": "llama-a100", "model": "meta-llama/Llama-3.1-70B", "accelerator": "H100",
            "mode": "act", "desired_replicas": 21, "advised_replicas": null, "current_replicas": 21, "ready_replicas": 20,
            "starting_replicas": 1, "active": true, "age_seconds": 4.0, "binding": "itl",
            "reason": "ITL of interactive binds", "missing": [], "quality": "fresh", "input_age_seconds": 3.5,
        })
    );
}

#[tokio::test]
async fn what_may_not_be_followed_is_an_error_without_a_number() {
    let mut mute = decision();
    mute.pools[1].desired = None;
    let daemon = Daemon::new(mute);
    for (path, code, reason) in [
        ("/v1/namespaces/inference/pools/small-advised", 409, "not-acting"),
        ("/v1/namespaces/inference/pools/small-off", 409, "not-acting"),
        ("/v1/namespaces/inference/pools/llama-h100", 503, "no-number"),
        ("/v1/namespaces/inference/pools/nobody", 404, "not-found"),
        ("/v1/namespaces/nowhere/pools/llama-a100", 404, "not-found"),
    ] {
        let answer = daemon.get(path).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["reason"]), (code, &json!(reason)), "{path}");
        assert!(answer.json().get("desired_replicas").is_none());
    }
    let pools = daemon.get("/v1/pools").await.json();
    let advised = &pools["pools"][2];
    assert_eq!((&advised["desired_replicas"], &advised["advised_replicas"]), (&json!(null), &json!(3)));
}

#[tokio::test]
async fn stale_and_not_yet_are_unavailable() {
    let daemon = Daemon::new(decision());
    daemon.clock.set(AT + 61.0);
    for path in [POOL, "/v1/decision", "/v1/pools"] {
        let answer = daemon.get(path).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["reason"]), (503, &json!("stale")), "{path}");
        assert!(!answer.headers.contains_key("retry-after"));
    }
    let status = daemon.get("/v1/status").await.json();
    assert_eq!(status["withheld"], "the decision is 61s old, limit 60s");
    assert_eq!(status["decision_age_seconds"], 61.0);

    let empty = Daemon::of(Published::empty(60.0), |state| state);
    assert_eq!(empty.get(POOL).await.json()["error"]["reason"], "not-yet");
    assert_eq!(empty.get("/v1/history").await.json(), json!({"pools": [], "points": []}));
}

#[tokio::test]
async fn the_whole_decision_the_history_and_the_status() {
    let daemon = Daemon::new(decision());
    let body = daemon.get("/v1/decision").await.json();
    assert_eq!(body["pools"].as_array().unwrap().len(), 5);
    assert_eq!(body["classes"][0]["promise"]["latency"]["itl_seconds"], json!(null), "an absent target is no number");
    let history = daemon.get("/v1/history").await.json();
    assert_eq!((&history["pools"][4], &history["points"][0]["pools"][4]), (&json!("other/llama-a100"), &json!(5)));
    let status = daemon.get("/v1/status").await.json();
    assert_eq!(
        (&status["withheld"], &status["ready"], &status["policy"]["rejected"]),
        (&json!(null), &json!(true), &json!(1))
    );
}

#[tokio::test]
async fn the_demonstration_is_shown_when_there_is_one() {
    let demo = Arc::new(ArcSwapOption::empty());
    let daemon = Daemon::of(published(decision()), |state| state.with_demo(demo.clone()));
    assert_eq!(daemon.get("/v1/demo").await.status.as_u16(), 404);
    demo.store(Some(Arc::new(json!({"speed": 20}))));
    assert_eq!(daemon.get("/v1/demo").await.json(), json!({"speed": 20}));
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let daemon = Daemon::new(decision());
    let page = daemon.get("/").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.header("content-security-policy").starts_with("default-src 'self' 'unsafe-inline'"));
    // The name space of SVG is a name, not an address that is loaded.
    let body = page.body.replace("http://www.w3.org/2000/svg", "");
    for foreign in ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
        assert!(!body.contains(foreign), "{foreign}");
    }
}

#[tokio::test]
async fn health() {
    let daemon = Daemon::new(decision());
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = daemon.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"), "{path}");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(
            (answer.header("x-content-type-options"), answer.header("cache-control")),
            ("nosniff", "no-cache, private")
        );
    }
    let verbose = daemon.get("/readyz?verbose").await.body;
    assert_eq!(verbose, "[+]ping ok\n[+]first-decision ok\n[+]shutdown ok\nreadyz check passed\n");

    daemon.state.readiness().stop();
    let stopping = daemon.get("/readyz").await;
    assert_eq!(stopping.status.as_u16(), 500);
    assert!(stopping.body.contains("[-]shutdown failed: reason withheld\n"), "{}", stopping.body);
    assert_eq!(daemon.get("/readyz?exclude=shutdown").await.status.as_u16(), 200);
    assert_eq!(daemon.get("/livez").await.status.as_u16(), 200);
}

#[tokio::test]
async fn not_ready_before_the_first_decision() {
    let daemon = Daemon::of(Published::empty(60.0), |state| state);
    assert_eq!(daemon.get("/readyz").await.status.as_u16(), 500);
    assert_eq!(daemon.get("/healthz").await.status.as_u16(), 200);
    daemon.published.store(Arc::new(published(decision())));
    assert_eq!(daemon.get("/readyz").await.status.as_u16(), 200);
}

#[tokio::test]
async fn the_two_listeners_have_their_own_paths() {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    let daemon = Daemon::new(decision());
    let status = async |router: axum::Router, path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        router.oneshot(request).await.unwrap().status().as_u16()
    };
    let api = |state| poolwright::serve::api_router(state, &poolwright::serve::Access::open());
    let web = poolwright::serve::web_router;
    for (path, on_api, on_web) in [
        ("/apis", 200, 404),
        ("/version", 200, 404),
        ("/", 404, 200),
        ("/metrics", 404, 200),
        (POOL, 404, 200),
        ("/readyz", 200, 200),
    ] {
        assert_eq!(status(api(daemon.state.clone()), path).await, on_api, "{path}");
        assert_eq!(status(web(daemon.state.clone()), path).await, on_web, "{path}");
    }
}
