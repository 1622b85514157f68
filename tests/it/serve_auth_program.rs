//! The daemon as a program with its own listener for kube-apiserver, against a cluster.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fake_kube::FakeKube;
use crate::serve_auth_support::{Ca, HPA, Shown, trust_data};
use crate::serve_support::EM;

const POLICY: &str = "apiVersion: poolwright.dev/v1alpha1
kind: Fleet
metadata: {name: test}
spec:
  accelerators: [{name: L40S, pricePerHour: 0.8, stock: 8}]
  classes: [{name: interactive, percentile: 95, ttft: 5s, itl: 200ms}]
  planner: {interval: 1s}
---
apiVersion: poolwright.dev/v1alpha1
kind: ServedModel
metadata: {name: tiny, namespace: test}
spec:
  model: tiny
  architecture: llama-3.1-8b
  classes: [{name: interactive}]
  pools: [{name: tiny, accelerator: L40S, mode: act, scrape: [\"http://127.0.0.1:1/metrics\"]}]
";

/// The daemon; killed at the end of its test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder with a policy and a serving certificate, and the certificate.
fn folder() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(dir.path().join("policy.yaml"), POLICY).unwrap();
    fs::write(dir.path().join("tls.crt"), made.cert.pem()).unwrap();
    fs::write(dir.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    (dir, made.cert.pem())
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolwright"));
    command.current_dir(dir).env_remove("KUBERNETES_SERVICE_HOST");
    command.args(["serve", "--policy", "policy.yaml", "--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"]);
    command.args(args);
    command
}

const FILES: [&str; 4] = ["--api-tls-cert", "tls.crt", "--api-tls-key", "tls.key"];

/// Start it; the addresses of the web listener and of the API, and what else was said until then.
fn start(dir: &Path, args: &[&str]) -> (Daemon, String, String, String) {
    let mut child = command(dir, args).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (mut said, mut addresses) = (String::new(), vec![]);
    while !said.contains("authenticate") || addresses.len() < 2 {
        let line = lines.next().expect("it says where it listens").unwrap();
        addresses.extend(line.split("://").nth(1).and_then(|rest| rest.split('/').next()).map(str::to_owned));
        // What is said of the web listener comes before the address of the API.
        said = if addresses.len() < 2 { String::new() } else { said + &line };
    }
    std::thread::spawn(move || lines.for_each(drop));
    (Daemon(child), addresses[0].clone(), addresses[1].clone(), said)
}

/// A client of the API that shows this certificate.
fn client(serving: &str, api: &str, shown: Option<&Shown>) -> reqwest::Client {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(serving.as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => builder.with_client_auth_cert(shown.chain.clone(), shown.key.clone_key()).unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let client = reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy();
    client.resolve("localhost", api.parse().unwrap()).build().unwrap()
}

#[tokio::test]
async fn the_cluster_says_who_may_ask_on_the_api_listener() {
    let kube = FakeKube::start().await;
    let front = Ca::new("front-proxy-ca");
    kube.put(
        "/api/v1/namespaces/kube-system/configmaps",
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
            "data": trust_data(&front.pem(), "", &["front-proxy-client"])}),
    );
    kube.review("/apis/authorization.k8s.io/v1/subjectaccessreviews", |review| {
        Ok(json!({"allowed": review["spec"]["user"] == HPA}))
    });
    let (dir, serving) = folder();
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": kube.url}}], "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]});
    fs::write(dir.path().join("kubeconfig"), config.to_string()).unwrap();
    let (_daemon, web, api, said) = start(dir.path(), &[&FILES[..], &["--kubeconfig", "kubeconfig"]].concat());
    assert!(said.contains("the cluster authenticates"), "{said}");

    let url = format!("https://localhost:{}{EM}", api.rsplit(':').next().unwrap());
    let proxy = client(&serving, &api, Some(&front.client("front-proxy-client", "")));
    let begin = Instant::now();
    let code = async |user: &str| proxy.get(&url).header("x-remote-user", user).send().await.unwrap().status().as_u16();
    // Refused until the cluster's trust is read.
    while code(HPA).await != 200 {
        assert!(begin.elapsed() < Duration::from_secs(60), "the front proxy is never believed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(code("jane").await, 403);
    assert_eq!(client(&serving, &api, None).get(&url).send().await.unwrap().status().as_u16(), 403);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let page = reqwest::get(format!("http://{web}/metrics")).await.unwrap().text().await.unwrap();
    assert!(page.contains("poolwright_api_trust_confirmed 1.0"), "{page}");
    assert_eq!(reqwest::get(format!("http://{web}{EM}")).await.unwrap().status().as_u16(), 404, "not there any more");
    let ready = reqwest::get(format!("http://{web}/readyz?verbose")).await.unwrap().text().await.unwrap();
    assert!(ready.contains("[+]authentication-trust ok\n"), "{ready}");
}

#[tokio::test]
async fn checks_are_off_only_by_name_and_it_is_said() {
    let (dir, serving) = folder();
    let args = [&FILES[..], &["--api-insecure-no-authentication"]].concat();
    let (_daemon, _, api, said) = start(dir.path(), &args);
    assert!(said.contains("WARNING: requests there are neither authenticated nor authorized"), "{said}");
    let url = format!("https://localhost:{}{EM}", api.rsplit(':').next().unwrap());
    assert_eq!(client(&serving, &api, None).get(&url).send().await.unwrap().status().as_u16(), 200);

    let refused = |args: &[&str]| -> String {
        let Output { status, stderr, .. } = command(dir.path(), args).output().unwrap();
        assert!(!status.success());
        String::from_utf8(stderr).unwrap()
    };
    assert!(refused(&FILES).contains("--api-listen needs a cluster that says who may ask"));
    assert!(
        refused(&["--api-insecure-no-authentication"])
            .contains("needs --api-tls-secret, or --api-tls-cert and --api-tls-key")
    );
}
