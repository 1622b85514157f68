//! The external metrics API as HPA, kubectl and kube-apiserver's aggregator use it.

use std::sync::Arc;

use axum::http::Method;
use poolwright::control::Published;
use poolwright::policy::Mode;
use poolwright::serve::selectable;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::serve_support::{AT, Daemon, EM, decision, pool, published};

fn values(namespace: &str, metric: &str, selector: &str) -> String {
    let selector: String = form_urlencoded::byte_serialize(selector.as_bytes()).collect();
    format!("{EM}/namespaces/{namespace}/{metric}?labelSelector={selector}")
}

const DESIRED: &str = "poolwright_desired_replicas";
const ALIAS: &str = "wva_desired_replicas";

#[tokio::test]
async fn one_pool_is_one_exact_item() {
    let daemon = Daemon::new(decision());
    let answer = daemon.get(&values("inference", DESIRED, "pool=llama-a100")).await;
    let model = selectable("meta-llama/Llama-3.1-70B");
    assert_eq!(
        answer.body,
        format!(
            "{{\"kind\":\"ExternalMetricValueList\",\"apiVersion\":\"external.metrics.k8s.io/v1beta1\",\"metadata\":{{}},\
             \"items\":[{{\"metricName\":\"poolwright_desired_replicas\",\"metricLabels\":{{\"model\":\"{model}\",\
             \"model_name\":\"meta-llama/Llama-3.1-70B\",\"pool\":\"llama-a100\"}},\
             \"timestamp\":\"2026-11-22T13:00:00Z\",\"value\":\"21\"}}]}}\n"
        )
    );
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));

    let answer = daemon.get(&values("inference", ALIAS, "variant_name=llama-a100")).await;
    assert_eq!(
        answer.body,
        "{\"kind\":\"ExternalMetricValueList\",\"apiVersion\":\"external.metrics.k8s.io/v1beta1\",\"metadata\":{},\
         \"items\":[{\"metricName\":\"wva_desired_replicas\",\"metricLabels\":{\"accelerator_type\":\"H100\",\
         \"namespace\":\"inference\",\"variant_name\":\"llama-a100\"},\"timestamp\":\"2026-11-22T13:00:00Z\",\"value\":\"21\"}]}\n"
    );
}

#[tokio::test]
async fn without_a_selector_all_acting_pools_of_the_namespace_answer_in_order() {
    let daemon = Daemon::new(decision());
    let path = format!("{EM}/namespaces/inference/{DESIRED}");
    let items = daemon.get(&path).await.json()["items"].clone();
    let numbers: Vec<_> = items.as_array().unwrap().iter().map(|i| (&i["metricLabels"]["pool"], &i["value"])).collect();
    assert_eq!(numbers, [(&json!("llama-a100"), &json!("21")), (&json!("llama-h100"), &json!("7"))]);

    let other = daemon.get(&format!("{EM}/namespaces/other/{DESIRED}")).await.json();
    assert_eq!(other["items"].as_array().unwrap().len(), 1);
    assert_eq!(other["items"][0]["value"], "5");
}

#[tokio::test]
async fn answers_are_deterministic_and_indented_for_people() {
    let mut reversed = decision();
    reversed.pools.reverse();
    let (one, two) = (Daemon::new(decision()), Daemon::new(reversed));
    let path = format!("{EM}/namespaces/inference/{DESIRED}");
    let first = one.get(&path).await.body;
    for _ in 0..100 {
        assert_eq!(one.get(&path).await.body, first);
    }
    assert_eq!(two.get(&path).await.body, first);

    let curl = one.ask(Method::GET, &path, &[("user-agent", "curl/8.5.0")]).await;
    assert!(curl.body.starts_with("{\n  \"kind\": \"ExternalMetricValueList\",\n") && curl.body.ends_with("\n}"));
    assert_eq!(curl.json(), serde_json::from_str::<serde_json::Value>(&first).unwrap());
    let plain = one.ask(Method::GET, &format!("{path}?pretty=false"), &[("user-agent", "curl/8.5.0")]).await;
    assert_eq!(plain.body, first);
    assert_eq!(one.get(&format!("{path}?pretty=true")).await.body, curl.body);
}

#[tokio::test]
async fn the_model_can_be_selected_although_its_name_cannot_stand_in_a_selector() {
    let daemon = Daemon::new(decision());
    let model = selectable("meta-llama/Llama-3.1-70B");
    let answer = daemon.get(&values("inference", DESIRED, &format!("model={model}"))).await.json();
    assert_eq!(answer["items"].as_array().unwrap().len(), 2);
    let message = daemon
        .get(&values("inference", DESIRED, "model=meta-llama/Llama-3.1-70B"))
        .await
        .status_error(400, "BadRequest");
    assert!(message.contains("meta-llama/Llama-3.1-70B"), "{message}");
}

#[tokio::test]
async fn selectors_apply_to_the_labels() {
    let daemon = Daemon::new(decision());
    for (selector, expected) in [
        ("pool in (llama-a100,llama-h100)", 2),
        ("pool!=llama-a100", 1),
        ("pool,!nothing", 2),
        ("pool=llama-a100,model=other", 0),
        ("pool=nobody", 0),
        ("variant_name=llama-a100", 0),
        ("pool", 2),
        ("", 2),
    ] {
        let answer = daemon.get(&values("inference", DESIRED, selector)).await;
        assert_eq!(answer.json()["items"].as_array().unwrap().len(), expected, "{selector:?}");
        assert!(answer.body.contains("\"items\":["), "never null");
    }
    for selector in ["a=b,", ",a", "a in", "a in (", "!a=b", "a>x", "a===b", "a b", "a=b=c", "a in (b)c"] {
        daemon.get(&values("inference", DESIRED, selector)).await.status_error(400, "BadRequest");
    }
    let twice = format!("{}&labelSelector=pool%3Dllama-h100", values("inference", DESIRED, "pool=llama-a100"));
    assert_eq!(daemon.get(&twice).await.json()["items"][0]["value"], "21");
    let plus = format!("{EM}/namespaces/inference/{DESIRED}?labelSelector=pool+in+(llama-a100)");
    assert_eq!(daemon.get(&plus).await.json()["items"][0]["value"], "21");
}

#[tokio::test]
async fn pools_that_do_not_act_give_an_empty_list() {
    let daemon = Daemon::new(decision());
    for name in ["small-advised", "small-off"] {
        for (metric, label) in [(DESIRED, "pool"), (ALIAS, "variant_name")] {
            let answer = daemon.get(&values("inference", metric, &format!("{label}={name}"))).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["items"]), (200, &json!([])), "{name}");
        }
    }
    let nowhere = daemon.get(&format!("{EM}/namespaces/nowhere/{DESIRED}")).await;
    assert_eq!((nowhere.status.as_u16(), &nowhere.json()["items"]), (200, &json!([])));
}

#[tokio::test]
async fn an_old_decision_is_an_error_with_age_and_limit() {
    let daemon = Daemon::new(decision());
    let path = values("inference", ALIAS, "variant_name=llama-a100");
    daemon.clock.set(AT + 60.0);
    assert_eq!(daemon.get(&path).await.status.as_u16(), 200);
    daemon.clock.set(AT + 95.0);
    let message = daemon.get(&path).await.status_error(503, "ServiceUnavailable");
    assert_eq!(message, "recommendation for wva_desired_replicas is 95s old, limit 60s");
    assert_eq!(daemon.get(EM).await.status.as_u16(), 200, "discovery does not depend on data");
    daemon.published.store(Arc::new(published(poolwright::control::Decision { at_seconds: AT + 94.0, ..decision() })));
    assert_eq!(daemon.get(&path).await.json()["items"][0]["timestamp"], "2026-11-22T13:01:34Z");
}

#[tokio::test]
async fn before_the_first_decision_nothing_is_said() {
    let daemon = Daemon::of(Published::empty(60.0), |state| state);
    let message =
        daemon.get(&values("inference", DESIRED, "pool=llama-a100")).await.status_error(503, "ServiceUnavailable");
    assert!(message.contains("no decision was made yet"), "{message}");
    assert_ne!(daemon.get(EM).await.json()["resources"], json!([]));
}

#[tokio::test]
async fn an_acting_pool_without_a_number_spoils_every_answer_that_covers_it() {
    let mut decision = decision();
    decision.pools[0].desired = None;
    decision.pools[0].reason = "no series of this pool was ever seen".into();
    let daemon = Daemon::new(decision);
    for path in [values("inference", DESIRED, "pool=llama-a100"), values("inference", DESIRED, "")] {
        let message = daemon.get(&path).await.status_error(503, "ServiceUnavailable");
        assert!(message.contains("llama-a100") && message.contains("no series"), "{message}");
    }
    assert_eq!(daemon.get(&values("inference", DESIRED, "pool!=llama-a100")).await.json()["items"][0]["value"], "7");
}

/// HPA would stop what somebody started by hand while nothing was seen.
#[tokio::test]
async fn a_zero_that_is_only_held_is_an_error() {
    let zero = |source_error: Option<&str>| poolwright::control::Decision {
        pools: vec![pool("n", "p", 0)],
        source_error: source_error.map(str::to_owned),
        ..decision()
    };
    let seen = Daemon::new(zero(None)).get(&values("n", DESIRED, "pool=p")).await;
    assert_eq!(seen.json()["items"][0]["value"], "0");
    let message = Daemon::new(zero(Some("no answer"))).get(&values("n", DESIRED, "pool=p")).await;
    assert!(message.status_error(503, "ServiceUnavailable").contains("no answer"));
    // Nor does anybody else hear it: another adapter may read /metrics.
    let (seen, blind) = (Daemon::new(zero(None)), Daemon::new(zero(Some("no answer"))));
    let sample = "_desired_replicas{namespace=\"n\"";
    assert_eq!(seen.get("/metrics").await.body.matches(sample).count(), 2, "the metric and its alias");
    assert_eq!(blind.get("/metrics").await.body.matches(sample).count(), 0);
    let listed = async |daemon: &Daemon| daemon.get("/v1/pools").await.json()["pools"][0]["desired_replicas"].take();
    assert_eq!((listed(&seen).await, listed(&blind).await), (0.into(), serde_json::Value::Null));
}

#[tokio::test]
async fn what_is_no_number_to_publish_is_an_error() {
    let numbers = [(0, "0"), (1000, "1000"), (1_000_000_000, "1000000000")];
    for (desired, text) in numbers {
        let daemon = Daemon::new(poolwright::control::Decision { pools: vec![pool("n", "p", desired)], ..decision() });
        assert_eq!(daemon.get(&values("n", DESIRED, "pool=p")).await.json()["items"][0]["value"], text);
    }
    for decision in [
        poolwright::control::Decision { pools: vec![pool("n", "p", 1_000_000_001)], ..decision() },
        poolwright::control::Decision { pools: vec![pool("n", "p", 1), pool("n", "p", 2)], ..decision() },
    ] {
        let daemon = Daemon::new(decision);
        daemon.get(&values("n", DESIRED, "pool=p")).await.status_error(500, "InternalError");
    }
    // Without a usable time nothing shows that the number is young enough.
    let timeless = poolwright::control::Decision { pools: vec![pool("n", "p", 1)], at_seconds: f64::NAN, ..decision() };
    let daemon = Daemon::new(timeless);
    daemon.get(&values("n", DESIRED, "pool=p")).await.status_error(503, "ServiceUnavailable");
}

#[tokio::test]
async fn a_required_selector_is_asked_for() {
    let daemon = Daemon::of(published(decision()), |state| state.with_selector_required(true));
    let message = daemon.get(&format!("{EM}/namespaces/inference/{ALIAS}")).await.status_error(400, "BadRequest");
    assert!(message.contains("variant_name"), "{message}");
    assert_eq!(daemon.get(&values("inference", ALIAS, "variant_name=llama-a100")).await.status.as_u16(), 200);
}

#[tokio::test]
async fn unknown_metrics_and_paths() {
    let daemon = Daemon::new(decision());
    for metric in ["nope", "status", "finalize", "a%3Ab", "a%252Fb", "Poolwright_desired_replicas", ".."] {
        daemon.get(&format!("{EM}/namespaces/inference/{metric}")).await.status_error(404, "NotFound");
    }
    for path in
        ["/nope", "/poolwright_desired_replicas", "/namespaces/n/a%2Fb", "/namespaces/n/m/deeper", "/namespaces/n/%00"]
    {
        let message = daemon.get(&format!("{EM}{path}")).await.status_error(404, "NotFound");
        assert_eq!(message, "the server could not find the requested resource", "{path}");
    }
    let malformed = daemon.get(&format!("{EM}/namespaces/n/%ff")).await;
    assert_eq!(malformed.status.as_u16(), 400);
    let outside = daemon.get("/nope").await;
    assert_eq!((outside.status.as_u16(), outside.body.as_str()), (404, "404 page not found\n"));
}

#[tokio::test]
async fn only_get_is_answered() {
    let daemon = Daemon::new(decision());
    let path = values("inference", DESIRED, "");
    for method in [Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        let answer = daemon.ask(method.clone(), &path, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET"), "{method}");
        if method != Method::HEAD {
            answer.status_error(405, "MethodNotAllowed");
        }
    }
}

#[tokio::test]
async fn list_options() {
    let daemon = Daemon::new(decision());
    let with = |query: &str| format!("{EM}/namespaces/inference/{DESIRED}?{query}");
    let all = daemon.get(&with("limit=5&continue=x&resourceVersion=0&watch=0&unknown=1")).await.json();
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    let message = daemon.get(&with("watch=true")).await.status_error(405, "MethodNotAllowed");
    assert_eq!(message, "watch is not supported on resources of kind \"*.external.metrics.k8s.io\"");
    daemon.get(&with("limit=abc")).await.status_error(400, "BadRequest");
    daemon.get(&with("resourceVersionMatch=Exact")).await.status_error(422, "Invalid");
}

#[tokio::test]
async fn legacy_discovery() {
    let daemon = Daemon::new(decision());
    for path in [EM.to_owned(), format!("{EM}/")] {
        let answer = daemon.ask(Method::GET, &path, &[("if-none-match", "*"), ("accept", "application/json")]).await;
        assert_eq!(answer.status.as_u16(), 200, "never 304");
        let body = answer.json();
        assert_eq!(
            (&body["kind"], &body["groupVersion"]),
            (&json!("APIResourceList"), &json!("external.metrics.k8s.io/v1beta1"))
        );
        let names: Vec<_> = body["resources"].as_array().unwrap().iter().map(|r| r["name"].clone()).collect();
        assert_eq!(names, [DESIRED, ALIAS]);
        for resource in body["resources"].as_array().unwrap() {
            assert_eq!(resource["verbs"], json!(["get"]));
            assert_eq!((&resource["kind"], &resource["namespaced"]), (&json!("ExternalMetricValueList"), &json!(true)));
        }
    }
    let groups = daemon.ask(Method::GET, "/apis", &[("accept", "application/json")]).await.json();
    assert_eq!(
        (&groups["kind"], &groups["groups"][0]["name"]),
        (&json!("APIGroupList"), &json!("external.metrics.k8s.io"))
    );
    let group = daemon.get("/apis/external.metrics.k8s.io").await.json();
    assert_eq!((&group["kind"], &group["preferredVersion"]["version"]), (&json!("APIGroup"), &json!("v1beta1")));
    let version = daemon.get("/version").await.json();
    assert!(["major", "minor", "gitVersion"].iter().all(|key| version[key].is_string()));
}

#[tokio::test]
async fn aggregated_discovery() {
    let daemon = Daemon::new(decision());
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let answer = daemon.ask(Method::GET, "/apis", &[("accept", &format!("{accept},application/json;q=0.9"))]).await;
    assert_eq!((answer.header("content-type"), answer.header("vary")), (accept, "Accept"));
    let resources = [DESIRED, ALIAS].map(|name| {
        json!({
            "resource": name, "scope": "Namespaced", "singularResource": "", "verbs": ["get"],
            "responseKind": {"group": "external.metrics.k8s.io", "version": "v1beta1", "kind": "ExternalMetricValueList"},
        })
    });
    assert_eq!(
        answer.json(),
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [{
            "metadata": {"name": "external.metrics.k8s.io", "creationTimestamp": null},
            "versions": [{"version": "v1beta1", "freshness": "Current", "resources": resources}],
        }]})
    );
    let tag = answer.header("etag").to_owned();
    let same = daemon.ask(Method::GET, "/apis", &[("accept", accept), ("if-none-match", &tag)]).await;
    assert_eq!((same.status.as_u16(), same.body.as_str(), same.header("etag")), (304, "", tag.as_str()));
    let other = daemon.ask(Method::GET, "/apis", &[("accept", accept), ("if-none-match", "\"0\"")]).await;
    assert_eq!(other.status.as_u16(), 200);
    let gone = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    daemon.ask(Method::GET, "/apis", &[("accept", gone)]).await.status_error(406, "NotAcceptable");
}

#[tokio::test]
async fn the_snapshot_of_a_new_decision_replaces_the_prepared_answers() {
    let daemon = Daemon::new(decision());
    let path = values("inference", DESIRED, "pool=llama-a100");
    assert_eq!(daemon.get(&path).await.json()["items"][0]["value"], "21");
    let mut next = decision();
    next.pools[0].desired = Some(22);
    daemon.published.store(Arc::new(published(next.clone())));
    assert_eq!(daemon.get(&path).await.json()["items"][0]["value"], "22");
    next.pools[0].mode = Mode::Advise;
    daemon.published.store(Arc::new(published(next)));
    assert_eq!(daemon.get(&path).await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_large_selector_is_refused_or_answered() {
    let daemon = Daemon::new(decision());
    let many = |n: usize| vec!["!x"; n].join(",");
    assert_eq!(daemon.get(&values("inference", DESIRED, &many(200))).await.status.as_u16(), 200);
    daemon.get(&values("inference", DESIRED, &many(2000))).await.status_error(400, "BadRequest");
}

#[tokio::test]
async fn no_path_redirects_or_fails() {
    let daemon = Daemon::new(decision());
    let pieces = [
        "apis",
        "external.metrics.k8s.io",
        "v1beta1",
        "namespaces",
        "inference",
        DESIRED,
        "v1",
        "pools",
        "decision",
        "/",
        "//",
        "%2F",
        "%2e%2e",
        "..",
        ".",
        "%00",
        "%",
        "%ff",
        "a",
        "é",
        "?",
        "&",
        "labelSelector=",
        "=",
        ";",
        "+",
        "readyz",
        "metrics",
        "openapi",
        "v2",
        "v3",
        "version",
        "watch=1",
        "a in (b)",
        "%20",
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..10_000 {
        let mut path = String::new();
        for _ in 0..rng.random_range(0..9) {
            path += if rng.random_bool(0.6) { "/" } else { "" };
            path += pieces[rng.random_range(0..pieces.len())];
        }
        let path = format!("/{}", path.replace(' ', "%20"));
        if path.parse::<axum::http::Uri>().is_err() {
            continue;
        }
        let status = daemon.get(&path).await.status.as_u16();
        assert!(!(300..400).contains(&status) && status < 500, "{path} gave {status}");
    }
}
