//! etcd, kube-apiserver with the aggregation layer, and kube-controller-manager, on free ports of loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::Request;
use kube::Client;
use poolwright::cluster::{Connection, connect};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::audit;
use super::pki::{Authority, Pair, service_account_key};
use super::process::{Process, free_port};
use super::wait::until;

/// Time between two looks of an HPA; 15 s in a common cluster.
pub const HPA_SYNC: Duration = Duration::from_secs(2);

/// Time for a component to start.
const START: Duration = Duration::from_secs(90);

pub struct ControlPlane {
    apiserver: Process,
    controllers: Process,
    etcd: Process,
    apiserver_args: Vec<String>,
    programs: PathBuf,
    port: u16,
    pub authority: Authority,
    folder: TempDir,
}

impl ControlPlane {
    /// Start all and wait until they are ready.
    pub async fn start(programs: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("poolwright-cluster-").tempdir().expect("a temporary folder");
        let place = folder.path();
        let authority = Authority::new(place, "cluster-ca");
        let port = free_port();
        for (name, user, group) in [
            ("admin", "admin", Some("system:masters")),
            ("kcm", "system:kube-controller-manager", None),
            ("plain", "plain-user", None),
        ] {
            let pair = authority.client(name, user, group);
            let user = json!({"client-certificate": pair.certificate, "client-key": pair.key});
            write_kubeconfig(&place.join(format!("{name}.kubeconfig")), port, &authority, &user);
        }
        let tokens = service_account_key(place);
        let etcd_port = free_port();
        let etcd = start_etcd(programs, place, etcd_port);
        let apiserver_args = apiserver_args(place, etcd_port, port, &authority, &tokens);
        let apiserver = Process::start("kube-apiserver", &programs.join("kube-apiserver"), &apiserver_args, &[], place);
        let (mut etcd, mut apiserver) = (etcd, apiserver);
        let admin = place.join("admin.kubeconfig");
        wait_ready(&client(&admin).await, &mut [&mut etcd, &mut apiserver]).await;
        // It gives up when there is no kube-apiserver within ten seconds.
        let controllers = start_controllers(programs, place, &authority, &tokens);
        Self { apiserver, controllers, etcd, apiserver_args, programs: programs.to_owned(), port, authority, folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder().join("admin.kubeconfig")
    }

    /// Of a user without any right beyond those of every authenticated one.
    pub fn plain_kubeconfig(&self) -> PathBuf {
        self.folder().join("plain.kubeconfig")
    }

    /// Write a kubeconfig of whom this token is.
    pub fn kubeconfig_with_token(&self, name: &str, token: &str) -> PathBuf {
        let path = self.folder().join(format!("{name}.kubeconfig"));
        write_kubeconfig(&path, self.port, &self.authority, &json!({"token": token}));
        path
    }

    /// A client with all rights.
    pub async fn client(&self) -> Client {
        client(&self.admin_kubeconfig()).await
    }

    /// Stop kube-apiserver and start it again at the same address; returns when it is ready.
    pub async fn restart_apiserver(&mut self) {
        self.apiserver.stop().await;
        let program = self.programs.join("kube-apiserver");
        self.apiserver = Process::start("kube-apiserver", &program, &self.apiserver_args, &[], self.folder.path());
        let client = self.client().await;
        wait_ready(&client, &mut [&mut self.etcd, &mut self.apiserver, &mut self.controllers]).await;
    }

    /// Processor time that its processes have used, seconds.
    pub fn cpu_seconds(&self) -> f64 {
        [&self.etcd, &self.apiserver, &self.controllers].into_iter().map(Process::cpu_seconds).sum()
    }

    /// Do not remove the logs; where they are.
    pub fn keep_logs(&self) -> PathBuf {
        let kept = self.folder().with_extension("logs");
        let _ = fs::create_dir(&kept);
        for file in fs::read_dir(self.folder()).into_iter().flatten().flatten() {
            if file.path().extension().is_some_and(|e| e == "log") {
                let _ = fs::copy(file.path(), kept.join(file.file_name()));
            }
        }
        kept
    }
}

async fn client(kubeconfig: &Path) -> Client {
    let connection = Connection::Kubeconfig { file: Some(kubeconfig.to_owned()), context: None };
    connect(&connection).await.expect("the harness wrote the kubeconfig")
}

async fn wait_ready(client: &Client, processes: &mut [&mut Process]) {
    until("kube-apiserver is ready", START, async || {
        processes.iter_mut().for_each(|process| process.check());
        let request = Request::get("/readyz").body(Vec::new()).expect("a fixed request");
        client.request_text(request).await.map_err(|error| error.to_string())
    })
    .await;
}

fn write_kubeconfig(path: &Path, port: u16, authority: &Authority, user: &Value) {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority": authority.certificate(),
        }}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    });
    fs::write(path, config.to_string()).expect("a kubeconfig can be written");
}

fn start_etcd(programs: &Path, folder: &Path, port: u16) -> Process {
    let clients = format!("http://127.0.0.1:{port}");
    let peers = format!("http://127.0.0.1:{}", free_port());
    let args = vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        "--log-level=warn".into(),
        // Nothing here outlives the test.
        "--unsafe-no-fsync".into(),
    ];
    Process::start("etcd", &programs.join("etcd"), &args, &[], folder)
}

fn apiserver_args(folder: &Path, etcd_port: u16, port: u16, authority: &Authority, tokens: &Pair) -> Vec<String> {
    let serving = authority.server("kube-apiserver", &["localhost", "kubernetes.default.svc", "127.0.0.1", "10.0.0.1"]);
    let front = Authority::new(folder, "front-proxy-ca");
    let proxy = front.client("front-proxy-client", "front-proxy-client", None);
    vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".into(),
        "--advertise-address=127.0.0.1".into(),
        "--service-cluster-ip-range=10.0.0.0/24".into(),
        "--endpoint-reconciler-type=none".into(),
        "--authorization-mode=RBAC".into(),
        format!("--client-ca-file={}", authority.certificate().display()),
        format!("--tls-cert-file={}", serving.certificate.display()),
        format!("--tls-private-key-file={}", serving.key.display()),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", tokens.certificate.display()),
        format!("--service-account-signing-key-file={}", tokens.key.display()),
        format!("--requestheader-client-ca-file={}", front.certificate().display()),
        "--requestheader-allowed-names=front-proxy-client".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        format!("--proxy-client-cert-file={}", proxy.certificate.display()),
        format!("--proxy-client-key-file={}", proxy.key.display()),
        format!("--audit-policy-file={}", audit::policy(folder).display()),
        format!("--audit-log-path={}", folder.join(audit::LOG).display()),
    ]
}

fn start_controllers(programs: &Path, folder: &Path, authority: &Authority, tokens: &Pair) -> Process {
    let kubeconfig = folder.join("kcm.kubeconfig").display().to_string();
    let args = vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".into(),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={}", free_port()),
        format!("--service-account-private-key-file={}", tokens.key.display()),
        format!("--root-ca-file={}", authority.certificate().display()),
        "--use-service-account-credentials=true".into(),
        // There are no nodes but one that stands for all.
        "--controllers=*,-node-ipam-controller,-node-lifecycle-controller".into(),
        format!("--horizontal-pod-autoscaler-sync-period={}s", HPA_SYNC.as_secs()),
        "--concurrent-horizontal-pod-autoscaler-syncs=20".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
    ];
    Process::start("kube-controller-manager", &programs.join("kube-controller-manager"), &args, &[], folder)
}
