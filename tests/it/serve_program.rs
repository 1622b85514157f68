//! The daemon as a program: starts, reads a server, publishes, keeps a broken edit out, stops in order.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

const PAGE: &str = include_str!("../fixtures/engine-metrics/vllm-0.32.0-queued.prom");

/// Time that anything may take on a busy machine; nothing waits for it when it works.
const PATIENCE: Duration = Duration::from_secs(60);

fn policy(server: &str) -> String {
    format!(
        "apiVersion: poolwright.dev/v1alpha1\nkind: Fleet\nmetadata: {{name: test}}\nspec:\n\
         \x20 accelerators: [{{name: L40S, pricePerHour: 0.8, stock: 8}}]\n\
         \x20 classes: [{{name: interactive, percentile: 95, ttft: 5s, itl: 200ms}}]\n\
         \x20 planner: {{interval: 1s, maxAge: 30s}}\n\
         ---\n\
         apiVersion: poolwright.dev/v1alpha1\nkind: ServedModel\nmetadata: {{name: tiny, namespace: test}}\nspec:\n\
         \x20 model: tiny\n  architecture: llama-3.1-8b\n  classes: [{{name: interactive}}]\n\
         \x20 pools: [{{name: tiny, accelerator: L40S, mode: act, scrape: [\"{server}/metrics\"]}}]\n"
    )
}

/// The daemon; killed when a test fails before it has stopped.
struct Daemon {
    child: Child,
    address: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_poolwright"))
            .args(["serve", "--listen", "127.0.0.1:0", "--drain", "100ms"])
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let address = first.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
        // Keep reading, or the daemon would wait for a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}{path}", self.address)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Ask until the answer is as wanted.
    async fn until(&self, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let (status, body) = self.get(path).await;
            if wanted(status, &body) {
                return body;
            }
            assert!(started.elapsed() < PATIENCE, "{path}: still {status} {body}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn stop(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

#[tokio::test]
async fn the_daemon_publishes_keeps_a_broken_edit_out_and_stops_in_order() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = MockServer::start().await;
    Mock::given(path("/metrics")).respond_with(ResponseTemplate::new(200).set_body_string(PAGE)).mount(&server).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    let state = dir.path().join("state");
    fs::write(&file, policy(&server.uri())).unwrap();
    let args = ["--policy", file.to_str().unwrap(), "--state-dir", state.to_str().unwrap()];

    let daemon = Daemon::start(&args);
    daemon.until("/readyz", |status, _| status == 200).await;
    let values = "/apis/external.metrics.k8s.io/v1beta1/namespaces/test/poolwright_desired_replicas";
    let list: Value = serde_json::from_str(&daemon.until(values, |status, _| status == 200).await).unwrap();
    assert_eq!(list["items"][0]["metricLabels"]["pool"], "tiny");
    assert_eq!(list["items"][0]["value"], "1", "what runs is held until rates are known");

    fs::write(&file, policy(&server.uri()).replace("stock: 8", "stock: eight")).unwrap();
    let status = daemon.until("/v1/status", |_, body| body.contains("policy.yaml:5")).await;
    assert_eq!(serde_json::from_str::<Value>(&status).unwrap()["policy"]["rejected"], 1);
    assert_eq!(daemon.get(values).await.0, 200, "the last good policy stays in force");
    fs::write(&file, policy(&server.uri()).replace("stock: 8", "stock: 9")).unwrap();
    daemon.until("/v1/status", |_, body| body.contains("\"reloads\":1") && body.contains("\"error\":null")).await;

    assert_eq!(daemon.stop(), Some(0));
    let stored = fs::read_to_string(state.join("state.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&stored).unwrap()["pools"]["test/tiny"]["published"], 1);
    assert!(fs::read_to_string(state.join("journal.jsonl")).unwrap().lines().count() >= 2);

    // The server answers no more when the daemon comes back: what it remembers may be days old, so nothing is
    // said before something was seen, and HPA holds what runs.
    server.reset().await;
    let daemon = Daemon::start(&args);
    let body = daemon.until("/v1/pools", |status, _| status == 200).await;
    let pools: Value = serde_json::from_str(&body).unwrap();
    assert!(body.contains("\"binding\":\"hold\""), "{pools}");
    assert_eq!(daemon.get(values).await.0, 503);
    assert_eq!(daemon.get("/v1/namespaces/test/pools/tiny").await.0, 503);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn wrong_usage_and_wrong_policies_end_before_a_port_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    fs::write(&file, "kind: Fleet\nmisspelled: 1\n").unwrap();
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_poolwright")).args(args).output().unwrap();
    let broken = run(&["serve", "--policy", file.to_str().unwrap(), "--scrape"]);
    assert_eq!(broken.status.code(), Some(2));
    let text = String::from_utf8(broken.stderr).unwrap();
    assert!(text.lines().all(|l| l.contains("policy.yaml")) && text.contains("misspelled"), "{text}");
    fs::write(&file, policy("http://127.0.0.1:1").replace(", scrape: [\"http://127.0.0.1:1/metrics\"]", "")).unwrap();
    let aimless = run(&["serve", "--policy", file.to_str().unwrap()]);
    assert_eq!(aimless.status.code(), Some(2));
    assert!(String::from_utf8(aimless.stderr).unwrap().contains("--prometheus"));
    assert_eq!(run(&["serve"]).status.code(), Some(2));
}
