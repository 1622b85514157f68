//! The real program in the place of its pod: as the service account that the shipped manifests make, with the
//! arguments of the shipped Deployment, of which only the addresses and the files are this machine's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use serde_json::Value;

use super::engines::Engines;
use super::process::{Process, free_port};
use super::wait::until;
use super::{NAMESPACE, SERVICE, World};

/// The namespace of the shipped policy's pools.
pub const POOLS: &str = "inference";
pub const LARGE: &str = "llama-70b-h100";
pub const SMALL: &str = "llama-70b-a100";
const MODEL: &str = "meta-llama/Llama-3.1-70B-Instruct";

/// An APIService is looked at when it changes and every half minute after that.
const AVAILABLE: Duration = Duration::from_secs(45);

/// A part of the shipped manifests.
pub fn manifests(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(part)
}

/// The cluster as a user has it before the installation: the pools' Deployments with their servers, and nobody who
/// serves external metrics. The in-process server and its rights are gone.
pub async fn before_installation(world: &mut World) -> Engines {
    world.server.kill();
    let kubectl = &world.kubectl;
    for object in [
        ["clusterrolebinding", "poolwright-auth-delegator", "--namespace=default"],
        ["rolebinding", "poolwright-auth-reader", "--namespace=kube-system"],
        ["apiservice", "v1beta1.external.metrics.k8s.io", "--namespace=default"],
        ["namespace", POOLS, "--namespace=default"],
        ["secret", "poolwright-serving", "--namespace=poolwright-system"],
    ] {
        let [kind, name, namespace] = object;
        kubectl.run(&["delete", kind, name, namespace, "--ignore-not-found", "--wait", "--timeout=60s"]);
    }
    kubectl.ok(&["create", "namespace", POOLS]);
    let port = free_port();
    let engines = Engines::start(world.client.clone(), POOLS, MODEL, port);
    for name in [LARGE, SMALL] {
        kubectl.apply(&format!(
            r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {POOLS}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}, annotations: {{prometheus.io/port: "{port}"}}}}
    spec: {{containers: [{{name: server, image: none}}]}}
"#
        ));
    }
    engines
}

/// A folder to apply with `kubectl apply -k` in the place of manifests/hpa: only the way to the API is another one,
/// a port of this machine.
pub fn overlay(world: &World, port: u16) -> PathBuf {
    let patches = format!(
        r#"
- target: {{kind: Service, name: poolwright}}
  patch: |
    - {{op: replace, path: /spec, value: {{type: ExternalName, externalName: localhost, ports: [{{port: {port}}}]}}}}
- target: {{kind: APIService}}
  patch: |
    - {{op: replace, path: /spec/service/port, value: {port}}}
"#
    );
    changed(world, "hpa", &patches)
}

/// The same in the place of manifests/keda: KEDA finds the scaler at this port of this machine.
pub fn keda_overlay(world: &World, port: u16) -> PathBuf {
    let patches = format!(
        r#"
- target: {{kind: ScaledObject}}
  patch: |
    - {{op: replace, path: /spec/triggers/0/metadata/scalerAddress, value: "localhost:{port}"}}
"#
    );
    changed(world, "keda", &patches)
}

fn changed(world: &World, part: &str, patches: &str) -> PathBuf {
    let folder = world.plane.folder().join(format!("overlay-{part}"));
    fs::create_dir_all(&folder).expect("a folder can be made");
    // Bases are named by relative paths only.
    let depth = folder.components().count() - 1;
    let base = format!("{}{}", "..".to_owned() + &"/..".repeat(depth - 1), manifests(part).display());
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [\"{base}\"]\npatches:{patches}"
    );
    fs::write(folder.join("kustomization.yaml"), text).expect("a file can be written");
    folder
}

/// The running program.
pub struct Daemon {
    pub process: Process,
    pub web_port: u16,
    /// Where it would listen for KEDA, if the manifests say so.
    pub keda_port: u16,
    policy: PathBuf,
}

impl Daemon {
    /// Start what the Deployment in the cluster says, and these arguments more.
    pub async fn start(world: &World, name: &str, further: &[&str]) -> Self {
        Self::start_at(world, name, free_port(), further).await
    }

    /// The same with this port for kube-apiserver.
    pub async fn start_at(world: &World, name: &str, api_port: u16, further: &[&str]) -> Self {
        let folder = world.plane.folder().join(format!("daemon-{name}"));
        let (policy, state) = (folder.join("policy"), folder.join("state"));
        fs::create_dir_all(&policy).expect("a folder can be made");
        refresh(world, &policy).await;
        let token = world.kubectl.token(NAMESPACE, SERVICE);
        let kubeconfig = world.plane.kubeconfig_with_token(&format!("daemon-{name}"), &token);
        let (web_port, keda_port) = (free_port(), free_port());
        let keda_tls = secret(world, "poolwright-keda-serving", &folder).await;
        let file = |name: &str| keda_tls.join(name).display().to_string();
        let ours = [
            ("--policy", policy.display().to_string()),
            ("--state-dir", state.display().to_string()),
            ("--kubernetes", "on".to_owned()),
            ("--listen", format!("127.0.0.1:{web_port}")),
            ("--api-listen", format!("127.0.0.1:{api_port}")),
            ("--keda-listen", format!("127.0.0.1:{keda_port}")),
            ("--keda-tls-cert", file("tls.crt")),
            ("--keda-tls-key", file("tls.key")),
            ("--keda-client-ca", file("ca.crt")),
        ];
        let mut args = shipped_arguments(world).await;
        for argument in &mut args {
            let replaced = argument.split_once('=').and_then(|(key, _)| ours.iter().find(|(ours, _)| *ours == key));
            if let Some((key, value)) = replaced {
                *argument = format!("{key}={value}");
            }
        }
        args.push(format!("--kubeconfig={}", kubeconfig.display()));
        args.extend(further.iter().map(|&argument| argument.to_owned()));
        let envs = [
            ("POOLWRIGHT_LOG", "info".to_owned()),
            ("POD_NAME", format!("poolwright-{name}")),
            ("POD_NAMESPACE", NAMESPACE.to_owned()),
        ];
        let program = Path::new(env!("CARGO_BIN_EXE_poolwright"));
        let process = Process::start(&format!("poolwright-{name}"), program, &args, &envs, world.plane.folder());
        let mut daemon = Self { process, web_port, keda_port, policy };
        until("the daemon answers", AVAILABLE, async || {
            daemon.process.check();
            reqwest::get(format!("http://127.0.0.1:{web_port}/livez")).await.map_err(|error| error.to_string())
        })
        .await;
        daemon
    }

    /// Give it the policy that the cluster has by now, as kubelet would after a while.
    pub async fn refresh_policy(&self, world: &World) {
        refresh(world, &self.policy).await;
    }

    /// What it says at this path, with the status.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", self.web_port)).await;
        let answer = answer.expect("the daemon answers");
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// What it says of its standing in the cluster, once that is so.
    pub async fn standing(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(what, AVAILABLE, async || match self.get("/v1/cluster").await {
            (200, standing) if wanted(&standing) => Ok(standing),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    /// The published number of a pool.
    pub async fn published(&self, pool: &str) -> Option<i64> {
        self.get(&format!("/v1/namespaces/{POOLS}/pools/{pool}")).await.1["desired_replicas"].as_i64()
    }
}

/// Wait until kube-apiserver reaches whoever the API is registered for.
pub async fn available(world: &World) {
    until("the API is available", AVAILABLE, async || match world.api_service_condition().await {
        seen if seen == "True Passed" => Ok(()),
        other => Err(other),
    })
    .await;
}

/// Reasons of the events that were written about our Service.
pub fn reasons(world: &World) -> Vec<String> {
    let path = "jsonpath={range .items[*]}{.reason}{\"\\n\"}{end}";
    let filter = "--field-selector=involvedObject.kind=Service,involvedObject.name=poolwright";
    let said = world.kubectl.ok(&["get", "events", "--namespace", NAMESPACE, filter, "--output", path]);
    said.lines().map(str::to_owned).collect()
}

async fn shipped_arguments(world: &World) -> Vec<String> {
    let api: Api<Deployment> = Api::namespaced(world.client.clone(), NAMESPACE);
    let deployment = api.get(SERVICE).await.expect("the manifests are applied");
    let pod = deployment.spec.and_then(|s| s.template.spec).expect("a Deployment has a template");
    pod.containers.into_iter().find_map(|c| c.args).expect("the container has arguments")
}

/// The files of a Secret, as its volume would hold them; none where it is absent.
async fn secret(world: &World, name: &str, folder: &Path) -> PathBuf {
    let folder = folder.join(name);
    fs::create_dir_all(&folder).expect("a folder can be made");
    let api: Api<Secret> = Api::namespaced(world.client.clone(), NAMESPACE);
    for (key, bytes) in api.get_opt(name).await.ok().flatten().and_then(|s| s.data).unwrap_or_default() {
        fs::write(folder.join(key), bytes.0).expect("a file can be written");
    }
    folder
}

async fn refresh(world: &World, folder: &Path) {
    let api: Api<ConfigMap> = Api::namespaced(world.client.clone(), NAMESPACE);
    let files = api.get("poolwright-policy").await.expect("the manifests are applied").data.unwrap_or_default();
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("a file can be written");
    }
}
