//! The programs of the chain beside the control plane: a real Prometheus and poolwright itself, each with the
//! rights of a service account of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::process::{Process, free_port};
use crate::harness::wait::until;
use crate::harness::{NAMESPACE, SERVICE, World};

/// Wherever the system finds it.
const PROMETHEUS: &str = "prometheus";
const POOLWRIGHT: &str = env!("CARGO_BIN_EXE_poolwright");
/// Time for a program to start.
const START: Duration = Duration::from_secs(60);

/// A program that a fault takes away and that comes back at the same address.
pub struct Program {
    name: &'static str,
    path: PathBuf,
    args: Vec<String>,
    folder: PathBuf,
    process: Process,
    /// Processor time of its earlier lives, seconds.
    cpu_before: f64,
    pub port: u16,
}

impl Program {
    fn start(name: &'static str, path: &str, args: Vec<String>, folder: &Path, port: u16) -> Self {
        let path = PathBuf::from(path);
        let process = run(name, &path, &args, folder);
        Self { name, path, args, folder: folder.to_owned(), process, cpu_before: 0.0, port }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// End it without a warning.
    pub fn kill(&mut self) {
        self.cpu_before += self.process.cpu_seconds();
        self.process.kill();
    }

    pub fn restart(&mut self) {
        self.process = run(self.name, &self.path, &self.args, &self.folder);
    }

    pub fn cpu_seconds(&self) -> f64 {
        self.cpu_before + self.process.cpu_seconds()
    }

    /// Wait until it answers there.
    pub async fn answers(&mut self, path: &str) {
        let url = self.url(path);
        let process = &mut self.process;
        until(&format!("{} answers", self.name), START, async || {
            process.check();
            let answer = reqwest::get(&url).await.map_err(|e| e.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(answer.text().await.unwrap_or_default()) }
        })
        .await;
    }
}

fn run(name: &str, path: &Path, args: &[String], folder: &Path) -> Process {
    Process::start(name, path, args, &[("POOLWRIGHT_LOG", "info".to_owned())], folder)
}

/// Whether there is a Prometheus to run.
pub fn prometheus_is_installed() -> bool {
    let mut command = Command::new(PROMETHEUS);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Scrape the pods' servers, as `discovery` lists them: the Prometheus of many distributions is built without
/// discovery by kube-apiserver. The labels are the usual ones of pods.
pub async fn prometheus(world: &World, discovery: String) -> Program {
    let config = json!({
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s"},
        "scrape_configs": [{
            "job_name": "model-servers",
            "http_sd_configs": [{"url": discovery, "refresh_interval": "1s"}],
        }],
    });
    let folder = world.plane.folder();
    let file = folder.join("prometheus.yml");
    // Every JSON text is YAML too.
    fs::write(&file, config.to_string()).expect("a file can be written");
    let port = free_port();
    let args = vec![
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", folder.join("prometheus").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let mut program = Program::start("prometheus", PROMETHEUS, args, folder, port);
    program.answers("/-/ready").await;
    program
}

/// How many series an instant query finds now; none while Prometheus is away.
pub async fn series(prometheus: &Program, query: &str) -> usize {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
    let Ok(answer) = reqwest::get(prometheus.url(&format!("/api/v1/query?{query}"))).await else { return 0 };
    let answer: Value = answer.json().await.unwrap_or_default();
    answer["data"]["result"].as_array().map_or(0, Vec::len)
}

/// poolwright with exactly the rights that its manifests give it.
pub struct Installed {
    policy: PathBuf,
    kubeconfig: PathBuf,
    api_port: u16,
    pub state: PathBuf,
}

impl Installed {
    /// Apply what `poolwright manifests` prints, except what only a node can run; the Service is a name for this
    /// machine.
    pub fn apply(world: &World, policy: &Path) -> Self {
        let api_port = free_port();
        // What the harness gave to the same account for its own server.
        world.kubectl.ok(&["delete", "rolebinding", "poolwright-auth-reader", "--namespace=kube-system"]);
        let mut list = manifests(world, policy, "daemon,api");
        let items = list["items"].as_array_mut().expect("a list of objects");
        items.retain(|o| !["Deployment", "PersistentVolumeClaim"].contains(&o["kind"].as_str().unwrap_or_default()));
        for object in items.iter_mut() {
            match object["kind"].as_str() {
                Some("Service") => {
                    object["spec"] =
                        json!({"type": "ExternalName", "externalName": "localhost", "ports": [{"port": api_port}]});
                }
                Some("APIService") => object["spec"]["service"]["port"] = json!(api_port),
                _ => {}
            }
        }
        world.kubectl.apply(&list.to_string());
        let token = world.kubectl.token(NAMESPACE, SERVICE);
        let kubeconfig = world.plane.kubeconfig_with_token("poolwright", &token);
        Self { policy: policy.to_owned(), kubeconfig, api_port, state: world.plane.folder().join("state") }
    }

    pub fn start(&self, world: &World, prometheus: &Program) -> Program {
        let port = free_port();
        let args = vec![
            "serve".to_owned(),
            format!("--policy={}", self.policy.display()),
            format!("--prometheus={}", prometheus.url("")),
            format!("--state-dir={}", self.state.display()),
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--own-namespace={NAMESPACE}"),
            format!("--own-service={SERVICE}"),
            format!("--listen=127.0.0.1:{port}"),
            format!("--api-listen=127.0.0.1:{}", self.api_port),
            format!("--api-service-port={}", self.api_port),
            "--api-tls-secret=poolwright-serving".to_owned(),
            "--require-selector".to_owned(),
        ];
        Program::start("poolwright", POOLWRIGHT, args, world.plane.folder(), port)
    }

    /// Let the HPAs that `poolwright manifests` prints follow from now on.
    pub fn follow(&self, world: &World) {
        world.kubectl.apply(&manifests(world, &self.policy, "pools").to_string());
    }
}

fn manifests(world: &World, policy: &Path, part: &str) -> Value {
    let mut command = Command::new(POOLWRIGHT);
    command.args(["manifests", "--output=json", "--part", part]).stdin(Stdio::null());
    command.arg("--policy").arg(policy).arg("--kubeconfig").arg(world.plane.admin_kubeconfig());
    let output = command.output().expect("poolwright can be started");
    assert!(output.status.success(), "poolwright manifests: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("poolwright prints JSON")
}
