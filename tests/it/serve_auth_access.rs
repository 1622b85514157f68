//! May they: questions to the cluster, what is remembered of them, refusals word by word, limits.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use poolwright::serve::auth::{AccessVerdict, Action, Limits, ResourceAction, ReviewError, TokenVerdict};
use serde_json::json;

use crate::serve_auth_support::{Api, Ask, HPA, allowed, user, values};
use crate::serve_support::{AT, EM};

const METRIC: &str = "poolwright_desired_replicas";

#[tokio::test]
async fn a_request_for_values_asks_about_the_metric_as_a_resource() {
    let api = Api::new();
    let answer = api.send(api.proxied(&format!("{}?labelSelector=pool%3Dllama-a100", values()), HPA, &[])).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    let expected = ResourceAction {
        verb: "list".into(),
        group: "external.metrics.k8s.io".into(),
        version: "v1beta1".into(),
        namespace: "inference".into(),
        resource: METRIC.into(),
        ..ResourceAction::default()
    };
    assert_eq!(api.reviews.last().action, Action::Resource(expected));
    api.send(api.proxied(&format!("{EM}/namespaces/ns/status"), HPA, &[])).await.status_error(404, "NotFound");
    let Action::Resource(action) = api.reviews.last().action else { panic!("a resource") };
    assert_eq!((action.resource.as_str(), action.subresource.as_str()), ("namespaces", "status"));
}

#[tokio::test]
async fn refusals_are_said_in_kubernetes_words() {
    let api = Api::new();
    api.reviews.answer_access(|_| allowed(false));
    let answer = api.send(api.proxied(&values(), "u", &[])).await;
    let message = answer.status_error(403, "Forbidden");
    assert_eq!(
        message,
        format!(
            "{METRIC}.external.metrics.k8s.io is forbidden: User \"u\" cannot list resource \"{METRIC}\" in API group \
             \"external.metrics.k8s.io\" in the namespace \"inference\""
        )
    );
    assert_eq!(answer.json()["details"], json!({"group": "external.metrics.k8s.io", "kind": METRIC}));
    assert_eq!(answer.header("x-content-type-options"), "nosniff");

    api.reviews.answer_access(|_| Ok(AccessVerdict { allowed: false, reason: "no rule".into() }));
    let answer = api.send(api.proxied("/x", "u", &[])).await;
    assert_eq!(answer.status_error(403, "Forbidden"), "forbidden: User \"u\" cannot get path \"/x\": no rule");
    assert_eq!(answer.json()["details"], json!({}));
    let answer = api.send(api.proxied(&format!("{EM}/m/name"), "u", &[])).await;
    assert_eq!(
        answer.status_error(403, "Forbidden"),
        "m.external.metrics.k8s.io \"name\" is forbidden: User \"u\" cannot get resource \"m\" in API group \
         \"external.metrics.k8s.io\" at the cluster scope: no rule"
    );
    assert_eq!(answer.json()["details"]["name"], "name");
}

#[tokio::test]
async fn names_are_escaped_in_messages() {
    let api = Api::new();
    api.reviews.answer_access(|_| allowed(false));
    let message = api.send(api.proxied("/x", "<script>&\t\"", &[])).await.status_error(403, "Forbidden");
    assert_eq!(message, r#"forbidden: User "&lt;script&gt;&amp;\t\"" cannot get path "/x""#);
    // From a token a name may hold anything.
    api.reviews.answer_tokens(|_| Ok(TokenVerdict::Accepted(user("a\r\nx: y\u{0}", &[]))));
    let message = api.send(Ask::get("/x").header("authorization", "Bearer t")).await.status_error(403, "Forbidden");
    assert_eq!(message, r#"forbidden: User "a\r\nx: y\x00" cannot get path "/x""#);
}

#[tokio::test]
async fn answers_are_remembered_by_who_and_what_and_not_by_selector() {
    let api = Api::new();
    let ask = |query: &str| api.proxied(&format!("{}{query}", values()), HPA, &[]);
    let several = join_all((0..100).map(|_| api.send(ask(""))));
    assert!(several.await.iter().all(|answer| answer.status.as_u16() == 200));
    for number in 0..300 {
        api.send(ask(&format!("?labelSelector=pool%3Dp{number}"))).await;
    }
    assert_eq!(api.reviews.asked(), 1);
    api.send(api.proxied(&format!("{EM}/namespaces/inference/wva_desired_replicas"), HPA, &[])).await;
    assert_eq!(api.reviews.asked(), 2);
    api.reviews.answer_access(|_| allowed(false));
    for _ in 0..50 {
        assert_eq!(api.send(api.proxied(&values(), "u", &[])).await.status.as_u16(), 403);
    }
    assert_eq!(api.reviews.asked(), 3);
    assert_eq!(api.send(ask("")).await.status.as_u16(), 200, "the older answer still counts");
    api.clock().set(AT + 14.0);
    assert_eq!(api.send(ask("")).await.status.as_u16(), 403);
    assert_eq!(api.reviews.asked(), 4);
}

#[tokio::test]
async fn huge_questions_are_not_remembered() {
    let api = Api::new();
    let path = format!("/{}", "x".repeat(10_000));
    for asked in 1..=2 {
        assert_eq!(api.send(api.proxied(&path, HPA, &[])).await.status.as_u16(), 404);
        assert_eq!(api.reviews.asked(), asked);
    }
}

#[tokio::test]
async fn without_a_verdict_nothing_is_given_and_the_next_request_asks_again() {
    let api = Api::new();
    let known = api.proxied(&values(), HPA, &[]);
    assert_eq!(api.send(known.clone()).await.status.as_u16(), 200);
    api.reviews.answer_access(|_| Err(ReviewError("down <now>".into())));
    let path = format!("{EM}?a=%3Cb%3E");
    let answer = api.send(api.proxied(&path, HPA, &[])).await;
    assert_eq!(answer.status.as_u16(), 500);
    assert_eq!(answer.body, format!("Internal Server Error: \"{path}\": down &lt;now&gt;\n"));
    assert!(answer.header("content-type").starts_with("text/plain"));
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(api.send(known.clone()).await.status.as_u16(), 200, "remembered");
    api.clock().set(AT + 14.0);
    assert_eq!(api.send(known.clone()).await.status.as_u16(), 500, "no longer");
    api.reviews.answer_access(|_| allowed(true));
    assert_eq!(api.send(known).await.status.as_u16(), 200, "at once");
}

/// Wait until so many questions are under way.
async fn until_asked(api: &Api, questions: usize) {
    while api.reviews.asked() < questions {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn too_many_at_once_are_turned_away_but_administrators_are_not() {
    let api = Arc::new(Api::with(Limits { in_flight: 400, ..Limits::default() }));
    api.reviews.hold(true);
    let held: Vec<_> = (0..400)
        .map(|number| {
            let (api, ask) = (api.clone(), api.proxied(&values(), &format!("u{number}"), &[]));
            tokio::spawn(async move { api.send(ask).await.status.as_u16() })
        })
        .collect();
    until_asked(&api, 400).await;
    let busy = api.send(api.proxied(&values(), HPA, &[])).await;
    assert_eq!((busy.status.as_u16(), busy.header("retry-after")), (429, "1"));
    assert_eq!(busy.body, "Too many requests, please try again later.\n");
    // The aggregator's availability checks come as administrator, five at a time; health is always answered.
    let checks = join_all((0..5).map(|_| api.send(api.proxied(EM, "system:kube-aggregator", &["system:masters"]))));
    assert!(checks.await.iter().all(|answer| answer.status.as_u16() == 200));
    assert_eq!(api.send(Ask::get("/healthz")).await.status.as_u16(), 200);
    let state = api.daemon.state.clone().with_access_report(api.access.report());
    let page = Ask::get("/metrics").send(&poolwright::serve::web_router(state)).await.body;
    for line in [
        "poolwright_api_requests_in_flight 400.0",
        "poolwright_api_throttled_requests_total 1",
        "poolwright_api_authentications_total{result=\"front-proxy\"} 406",
        "poolwright_api_authorizations_total{result=\"failed\"} 0",
        "poolwright_api_trust_known 1.0",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    api.reviews.hold(false);
    assert!(join_all(held).await.into_iter().all(|code| code.unwrap() == 200));
    assert_eq!(api.send(api.proxied(&values(), HPA, &[])).await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_caller_who_leaves_gives_back_the_place_and_ends_the_question() {
    let api = Arc::new(Api::with(Limits { in_flight: 1, ..Limits::default() }));
    api.reviews.hold(true);
    let (other, ask) = (api.clone(), api.proxied(&values(), HPA, &[]));
    let leaving = tokio::spawn(async move { other.send(ask).await.status });
    until_asked(&api, 1).await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    api.reviews.hold(false);
    assert_eq!(api.send(api.proxied(&values(), HPA, &[])).await.status.as_u16(), 200);
    assert_eq!(api.reviews.asked(), 2, "the abandoned question was given up");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_ends() {
    let api = Api::with(Limits { request: Duration::from_secs(60), ..Limits::default() });
    api.reviews.hold(true);
    let started = tokio::time::Instant::now();
    let message = api.send(api.proxied(&values(), HPA, &[])).await.status_error(504, "Timeout");
    assert_eq!(message, "Timeout: request did not complete within the allotted timeout");
    assert_eq!(started.elapsed().as_secs(), 60);
}
