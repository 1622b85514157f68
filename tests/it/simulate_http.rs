use poolwright::simulate::{Fleet, FleetOptions, FleetServer, HpaFollower, HpaSpec, SharedFleet};
use serde_json::{Value, json};
use wiremock::matchers::{method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::simulate_policy::{FAST, SLOW, fleet, policy};

fn client() -> reqwest::Client {
    // the first test of the process installs it
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

async fn text(url: &str) -> String {
    client().get(url).send().await.unwrap().error_for_status().unwrap().text().await.unwrap()
}

async fn targets(server: &FleetServer) -> Vec<Value> {
    serde_json::from_str(&text(&server.discovery_url()).await).unwrap()
}

fn metrics_url(target: &Value) -> String {
    format!("http://{}/metrics", target["targets"][0].as_str().unwrap())
}

#[tokio::test]
async fn a_replica_answers_while_it_serves_and_only_then() {
    let shared = SharedFleet::new(fleet(0.5, 1));
    shared.lock().advance(60.0);
    let mut server = FleetServer::start(shared.clone()).await.unwrap();
    shared.lock().set_replicas(SLOW, 1);
    server.sync().unwrap();

    let listed = targets(&server).await;
    assert_eq!(listed.len(), 2);
    let pod = listed[1]["labels"]["pod"].as_str().unwrap();
    assert!(pod.starts_with("llama-l40s-"));
    assert_eq!(listed[1]["labels"], json!({"namespace": "inference", "pod": pod, "deployment": "llama-l40s"}));
    let early = client().get(metrics_url(&listed[1])).send().await.unwrap_err();
    assert!(early.is_connect(), "a starting replica refuses connections: {early:?}");
    let page = text(&metrics_url(&listed[0])).await;
    assert!(page.contains("vllm:num_requests_running{"));

    shared.lock().advance(130.0);
    server.sync().unwrap();
    assert_eq!(targets(&server).await, listed, "addresses stay");
    assert!(text(&metrics_url(&listed[1])).await.contains("vllm:kv_cache_usage_perc{"));

    shared.lock().set_replicas(SLOW, 0);
    shared.lock().stop_arrivals();
    shared.lock().advance(600.0);
    server.sync().unwrap();
    assert_eq!(targets(&server).await.len(), 1);
    assert!(client().get(metrics_url(&listed[1])).send().await.is_err(), "it is gone");
}

#[tokio::test]
async fn pages_move_with_virtual_time() {
    let shared = SharedFleet::new(fleet(0.5, 1));
    let server = FleetServer::start(shared.clone()).await.unwrap();
    let url = metrics_url(&targets(&server).await[0]);
    let tokens = |page: String| {
        let line = page.lines().find(|l| l.starts_with("vllm:prompt_tokens_total{")).unwrap().to_owned();
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    let (first, again) = (tokens(text(&url).await), tokens(text(&url).await));
    assert_eq!((first, again), (0.0, 0.0), "nothing moves unless the fleet is advanced");
    shared.lock().advance(60.0);
    assert!(tokens(text(&url).await) > 0.0);
}

#[tokio::test]
async fn the_clusters_state_tells_wanted_and_ready() {
    let mut fleet = Fleet::new(&policy(), Vec::new(), FleetOptions::default());
    fleet.set_replicas(FAST, 3);
    let server = FleetServer::start(SharedFleet::new(fleet)).await.unwrap();
    let page = text(&format!("http://{}/kube-state-metrics", server.address())).await;
    for line in [
        "# TYPE kube_deployment_spec_replicas gauge",
        r#"kube_deployment_spec_replicas{namespace="inference",deployment="llama-h100"} 3"#,
        r#"kube_deployment_status_replicas_ready{namespace="inference",deployment="llama-h100"} 1"#,
        r#"kube_deployment_spec_replicas{namespace="inference",deployment="llama-l40s"} 0"#,
    ] {
        assert!(page.lines().any(|l| l == line), "{line} in\n{page}");
    }
}

async fn api(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path("/apis/external.metrics.k8s.io/v1beta1/namespaces/inference/poolwright_desired_replicas"))
        .and(query_param("labelSelector", "pool=llama-h100"))
        .respond_with(answer)
        .mount(&server)
        .await;
    server
}

fn items(values: &[&str]) -> ResponseTemplate {
    let items: Vec<Value> = values.iter().map(|v| json!({"metricName": "m", "value": v})).collect();
    ResponseTemplate::new(200).set_body_json(json!({"kind": "ExternalMetricValueList", "items": items}))
}

fn llama() -> HpaSpec {
    HpaSpec { namespace: "inference".into(), pool: "llama-h100".into(), min: 0, max: 10, tolerance: 0.1 }
}

async fn follow(answer: ResponseTemplate) -> (u32, Option<String>) {
    let server = api(answer).await;
    let mut hpa = HpaFollower::new(client(), &server.uri(), llama());
    let replicas = hpa.sync(2, 2).await;
    (replicas, hpa.condition().map(str::to_owned))
}

#[tokio::test]
async fn the_follower_writes_what_the_metric_says() {
    assert_eq!(follow(items(&["4"])).await, (4, None));
    assert_eq!(follow(items(&["1", "2500m"])).await, (4, None), "items add up, fractions round up");
    assert_eq!(follow(items(&["1k"])).await, (10, None), "never beyond its maximum");
    assert_eq!(follow(items(&["0"])).await, (0, None));
}

#[tokio::test]
async fn the_follower_holds_on_any_trouble_and_recovers() {
    let held = |why: &str| (2, Some(why.to_owned()));
    assert_eq!(follow(items(&[])).await, held("no metrics returned from external metrics API"));
    let failed = follow(ResponseTemplate::new(503)).await;
    assert_eq!(failed, held("unable to fetch metrics: the API answered 503 Service Unavailable"));
    assert_eq!(follow(items(&["4", "NaN"])).await, held("value `NaN` is no quantity"));
    assert_eq!(follow(ResponseTemplate::new(200).set_body_string("hello")).await.0, 2);

    let server = api(items(&["5"])).await;
    let mut hpa = HpaFollower::new(client(), "http://127.0.0.1:1/", llama());
    assert_eq!(hpa.sync(3, 3).await, 3);
    assert!(hpa.condition().unwrap().starts_with("unable to fetch metrics"));
    hpa = HpaFollower::new(client(), &server.uri(), llama());
    assert_eq!((hpa.sync(3, 3).await, hpa.condition()), (5, None));
}
