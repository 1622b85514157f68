//! Who may call the external scaler: certificates of the server and of its clients, namespaces in them, and the
//! program's refusal to go without TLS unasked.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use poolwright::serve::{Authorities, ClientCertificates, KedaOptions, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use tonic::Code;

use crate::serve_keda_support::{Channel, Running, object};
use crate::serve_support::{Daemon, decision};

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate and its key.
struct Pair {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn sign(&self, names: Vec<SanType>) -> Pair {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        Pair { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    fn sign_client(&self, uris: &[&str]) -> Pair {
        self.sign(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect())
    }
}

/// A client's TLS that trusts this authority and shows this certificate.
fn trusting(authority: &Authority, shown: Option<&Pair>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.key.serialize_der()));
            builder.with_client_auth_cert(vec![pair.certificate.der().clone()], key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn serve(daemon: &Daemon, authority: &Authority, clients: ClientCertificates) -> Running {
    let pair = authority.sign(vec![SanType::DnsName("localhost".try_into().unwrap())]);
    let (chain, key) = (pair.certificate.pem(), pair.key.serialize_pem());
    let tls = Tls::from_pem(chain.as_bytes(), key.as_bytes(), clients).unwrap();
    Running::start(daemon, KedaOptions::default(), Some(tls))
}

fn required(authority: &Authority) -> ClientCertificates {
    ClientCertificates::Required(Authorities::Pem(authority.certificate.pem().into_bytes()))
}

/// Connect and ask for one pool: `Err(None)` when there is no connection to ask on.
async fn ask(server: &Running, config: ClientConfig, namespace: &str) -> Result<bool, Option<Code>> {
    let mut client = Channel::tls(server.address, config).await.map_err(|_| None)?.client();
    match client.is_active(object(namespace, "llama-a100")).await {
        Ok(answer) => Ok(answer.into_inner().result),
        // What has no code of ours is the connection's end.
        Err(status) if status.code() == Code::Unknown || status.code() == Code::Unavailable => Err(None),
        Err(status) => Err(Some(status.code())),
    }
}

#[tokio::test]
async fn tls_of_the_server_alone() {
    let (daemon, authority) = (Daemon::new(decision()), Authority::new());
    let server = serve(&daemon, &authority, ClientCertificates::Ignored);
    assert_eq!(ask(&server, trusting(&authority, None), "inference").await, Ok(true));
    assert_eq!(ask(&server, trusting(&Authority::new(), None), "inference").await, Err(None), "an unknown server");
    // Plaintext is not understood where TLS is on.
    let socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
    if let Ok(channel) = Channel::over(socket).await {
        assert!(channel.client().is_active(object("inference", "llama-a100")).await.is_err());
    }
}

#[tokio::test]
async fn clients_without_the_right_certificate_are_not_let_in() {
    let (daemon, authority, clients) = (Daemon::new(decision()), Authority::new(), Authority::new());
    let server = serve(&daemon, &authority, required(&clients));
    let good = clients.sign_client(&[]);
    assert_eq!(ask(&server, trusting(&authority, Some(&good)), "inference").await, Ok(true));
    assert_eq!(ask(&server, trusting(&authority, None), "inference").await, Err(None));
    let stranger = Authority::new().sign_client(&["poolwright://namespace/inference"]);
    assert_eq!(ask(&server, trusting(&authority, Some(&stranger)), "inference").await, Err(None));
    assert_eq!(ask(&server, trusting(&authority, Some(&good)), "other").await, Ok(true), "and the others go on");
}

#[tokio::test]
async fn a_certificate_for_one_namespace_gets_no_other() {
    let (daemon, authority) = (Daemon::new(decision()), Authority::new());
    let server = serve(&daemon, &authority, required(&authority));
    let limited = authority.sign_client(&["spiffe://cluster/ns/keda/sa/operator", "poolwright://namespace/other"]);
    assert_eq!(ask(&server, trusting(&authority, Some(&limited)), "other").await, Ok(true));
    let denied = ask(&server, trusting(&authority, Some(&limited)), "inference").await;
    assert_eq!(denied, Err(Some(Code::PermissionDenied)));
    // The same for streams and specs, and for a pool that does not exist: nothing is learnt of it.
    let channel = Channel::tls(server.address, trusting(&authority, Some(&limited))).await.unwrap();
    let mut client = channel.client();
    for pool in ["llama-a100", "nobody"] {
        let code = client.stream_is_active(object("inference", pool)).await.unwrap_err().code();
        assert_eq!(code, Code::PermissionDenied);
        let code = client.get_metric_spec(object("inference", pool)).await.unwrap_err().code();
        assert_eq!(code, Code::PermissionDenied);
    }
}

const POLICY: &str = "apiVersion: poolwright.dev/v1alpha1\nkind: Fleet\nmetadata: {name: test}\nspec:
  accelerators: [{name: L40S, pricePerHour: 0.8, stock: 8}]
  classes: [{name: interactive, percentile: 95, ttft: 5s, itl: 200ms}]
---
apiVersion: poolwright.dev/v1alpha1\nkind: ServedModel\nmetadata: {name: tiny, namespace: test}\nspec:
  model: tiny
  architecture: llama-3.1-8b
  classes: [{name: interactive}]
  pools: [{name: tiny, accelerator: L40S, mode: act, scrape: [\"http://127.0.0.1:1/metrics\"]}]
";

/// Ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_program_goes_without_tls_only_when_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    let command = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_poolwright"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--policy", policy.to_str().unwrap()]).args(more);
        command
    };
    let refused = command(&["--keda-listen", "127.0.0.1:0"]).output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && text.contains("--keda-plaintext"), "{text}");
    for wrong in [&["--keda-plaintext"][..], &["--keda-listen", "127.0.0.1:0", "--keda-client-ca", "ca.crt"]] {
        assert_eq!(command(wrong).output().unwrap().status.code(), Some(2), "{wrong:?}");
    }

    let mut plain = command(&["--keda-listen", "127.0.0.1:0", "--keda-plaintext"]);
    let mut program = Program(plain.stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(program.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.starts_with("KEDA external scaler on ")).expect("it says where");
    assert!(line.contains("plaintext, callers are not authenticated"), "{line}");
    let address = line["KEDA external scaler on ".len()..].split(": ").next().unwrap().parse().unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    let mut client = Channel::plain(address).await.client();
    // Its only server does not answer, so there is a pool and no number.
    let error = client.is_active(object("test", "tiny")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
}
