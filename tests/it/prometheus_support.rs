//! A real Prometheus for the length of a test, and programs that tests run to their end.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest time a Prometheus may take to answer that it is ready.
const READY_SECONDS: u64 = 30;

fn there(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Prometheus, ended by the kernel when this process is killed and cannot do it itself.
fn prometheus() -> Command {
    if !there("setpriv") {
        return Command::new("prometheus");
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "prometheus"]);
    command
}

/// Whether the programs of Debian's package `prometheus` are there. Says loudly when they are not.
pub fn installed() -> bool {
    let installed = there("prometheus") && there("promtool");
    if !installed {
        // Straight to the terminal: what a passing test prints is otherwise not shown.
        let line = "SKIPPED: prometheus is not installed; `apt-get install prometheus` to run this test\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), line.as_bytes());
    }
    installed
}

/// Run `promtool` in the repository's root; panics with what it says when it is not content.
pub fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "promtool {arguments:?}: {}", text_of(&output));
}

/// Run the program under test without blocking the simulated fleet.
pub async fn poolwright(arguments: &[&str]) -> Output {
    let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
    let run = move || Command::new(env!("CARGO_BIN_EXE_poolwright")).args(arguments).output().unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Both streams, for messages.
pub fn text_of(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}{err}", output.status)
}

/// A Prometheus of its own on a free port, in a folder of its own; it is stopped when this is dropped.
pub struct Prometheus {
    child: Child,
    url: String,
    client: reqwest::Client,
    _folder: TempDir,
}

impl Prometheus {
    /// Scrape the given jobs (entries of `scrape_configs`) once a second.
    pub async fn start(jobs: Value) -> Self {
        // The first test of the process installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let config = json!({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs});
        // Every JSON text is YAML too.
        std::fs::write(folder.path().join("prometheus.yml"), config.to_string()).unwrap();
        let log = folder.path().join("log");
        let child = prometheus()
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut started = Self { child, url: String::new(), client, _folder: folder };
        started.wait(&log).await;
        started
    }

    /// Wait for the address in the log, then for the answer that it is ready.
    async fn wait(&mut self, log: &Path) {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(READY_SECONDS) {
            let text = std::fs::read_to_string(log).unwrap();
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("prometheus ended with {status}:\n{text}");
            }
            let line = text.lines().find(|line| line.contains("Listening on"));
            let address = line.and_then(|l| l.split("address=").nth(1)).and_then(|rest| rest.split_whitespace().next());
            if let Some(address) = address {
                self.url = format!("http://{address}");
                let answer = self.client.get(format!("{}/-/ready", self.url)).send().await;
                if answer.is_ok_and(|a| a.status().is_success()) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("prometheus was not ready within {READY_SECONDS} s:\n{}", std::fs::read_to_string(log).unwrap());
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The series that an instant query returns now.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let body = form_urlencoded::Serializer::new(String::new()).append_pair("query", expression).finish();
        let request = self.client.post(format!("{}/api/v1/query", self.url));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        match answer["data"]["result"].as_array() {
            Some(series) if answer["status"] == "success" => Ok(series.clone()),
            _ => Err(format!("{expression}: {}", answer["error"])),
        }
    }

    /// Stop it in the middle of its work.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.kill();
    }
}
