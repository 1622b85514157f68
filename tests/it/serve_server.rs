//! Real sockets: TLS with certificates that change, HTTP/2, large headers, the orderly stop.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use poolwright::serve::{ClientCertificates, Http2, Listener, StopTimes, Tls, run};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::serve_support::{Daemon, EM, decision};

const NO_WAIT: StopTimes = StopTimes { drain: Duration::ZERO, grace: Duration::from_secs(60) };

/// A running server that a test stops.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

fn start(daemon: &Daemon, router: Router, tls: Option<Tls>, times: StopTimes) -> Running {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let listeners = vec![Listener { socket, router, tls, http2: Http2::default() }];
    let shutdown = async move {
        let _ = stopped.await;
    };
    let task = tokio::spawn(run(listeners, daemon.state.readiness().clone(), shutdown, times));
    Running { address, stop, task }
}

/// Write a new self-signed pair for `localhost` and return the certificate.
fn write_pair(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn client_config(trusted: &CertificateDer<'static>, alpn: &[&[u8]]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    config
}

/// Shake hands; the agreed protocol, or why not.
async fn handshake(address: SocketAddr, config: ClientConfig) -> Result<Option<Vec<u8>>, std::io::Error> {
    let work = move || {
        let name = ServerName::try_from("localhost").unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = TcpStream::connect(address)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(connection.alpn_protocol().map(<[u8]>::to_vec))
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test]
async fn a_changed_certificate_is_served_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_pair(folder.path());
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let tls = Tls::from_files(&certificate, &key, ClientCertificates::Ignored).unwrap();
    let daemon = Daemon::new(decision());
    let server = start(&daemon, daemon.router.clone(), Some(tls.clone()), NO_WAIT);

    let offered: [&[u8]; 2] = [b"h2", b"http/1.1"];
    assert_eq!(handshake(server.address, client_config(&first, &offered)).await.unwrap(), Some(b"h2".to_vec()));
    assert_eq!(
        handshake(server.address, client_config(&first, &offered[1..])).await.unwrap(),
        Some(b"http/1.1".to_vec())
    );
    assert_eq!(handshake(server.address, client_config(&first, &[])).await.unwrap(), None);
    assert!(!tls.reload_if_changed().unwrap(), "nothing changed");

    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, other.cert.pem()).unwrap();
    let error = tls.reload_if_changed().unwrap_err().to_string();
    assert!(error.contains("certificate and key do not work together"), "{error}");
    assert!(!tls.reload_if_changed().unwrap(), "the same content is not tried twice");
    assert!(handshake(server.address, client_config(&first, &[])).await.is_ok(), "the old pair stays");

    let second = write_pair(folder.path());
    assert!(tls.reload_if_changed().unwrap());
    assert!(handshake(server.address, client_config(&second, &[])).await.is_ok());
    assert!(handshake(server.address, client_config(&first, &[])).await.is_err());
    server.stop.send(()).unwrap();
    server.task.await.unwrap().unwrap();
}

#[test]
fn unusable_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path());
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let error = |c: &Path, k: &Path| Tls::from_files(c, k, ClientCertificates::Ignored).unwrap_err().to_string();
    assert!(error(&folder.path().join("none.crt"), &key).contains("none.crt"));
    assert!(error(&key, &key).contains("tls.key: no usable PEM certificate chain"));
    assert!(error(&certificate, &certificate).contains("tls.crt: no usable PEM private key"));
}

#[tokio::test]
async fn http2_with_a_self_signed_certificate_and_many_headers() {
    let tls = Tls::self_signed(&["localhost".into()], ClientCertificates::Ignored).unwrap();
    let trusted = CertificateDer::from_pem_slice(tls.certificate_pem().unwrap().as_bytes()).unwrap();
    let daemon = Daemon::new(decision());
    let server = start(&daemon, daemon.router.clone(), Some(tls), NO_WAIT);
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(client_config(&trusted, &[b"h2"]))
        .resolve("localhost", server.address)
        .no_proxy()
        .build()
        .unwrap();
    let url = format!("https://localhost:{}{EM}", server.address.port());
    let with_groups = |count: usize| {
        let groups = (0..count).map(|i| ("x-remote-group", format!("{i:04}-{}", "g".repeat(128))));
        groups.fold(client.get(&url), |request, (name, value)| request.header(name, value))
    };
    let answer = with_groups(300).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    // Beyond the limit the request is refused and the others are unharmed.
    let refused = with_groups(9_000).send().await;
    assert!(refused.is_err() || refused.unwrap().status().as_u16() == 431);
    assert_eq!(with_groups(0).send().await.unwrap().status().as_u16(), 200);
    server.stop.send(()).unwrap();
    server.task.await.unwrap().unwrap();
}

/// One HTTP/1.1 request on its own connection.
async fn fetch(address: SocketAddr, path: &'static str) -> std::io::Result<String> {
    let work = move || {
        let mut socket = TcpStream::connect(address)?;
        write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test]
async fn an_orderly_stop_ends_readiness_first_and_finishes_what_runs() {
    let daemon = Daemon::new(decision());
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, wait) = (entered.clone(), release.clone());
    let slow = async move || {
        enter.notify_one();
        wait.notified().await;
        "finished"
    };
    let router = daemon.router.clone().route("/slow", get(slow));
    let drain = Duration::from_secs(3600);
    let server = start(&daemon, router, None, StopTimes { drain, grace: Duration::from_secs(60) });

    let running = tokio::spawn(fetch(server.address, "/slow"));
    entered.notified().await;
    assert!(fetch(server.address, "/readyz").await.unwrap().starts_with("HTTP/1.1 200"));
    server.stop.send(()).unwrap();
    while !daemon.state.readiness().is_stopping() {
        tokio::task::yield_now().await;
    }
    assert!(fetch(server.address, "/readyz").await.unwrap().starts_with("HTTP/1.1 500"));
    assert!(fetch(server.address, "/livez").await.unwrap().starts_with("HTTP/1.1 200"));

    // The drain time passes at once; the grace time then runs on the real clock.
    tokio::time::pause();
    tokio::time::advance(drain).await;
    tokio::time::resume();
    while fetch(server.address, "/livez").await.is_ok() {}
    assert!(!server.task.is_finished(), "it waits for the running request");
    release.notify_one();
    assert!(running.await.unwrap().unwrap().ends_with("finished"));
    server.task.await.unwrap().unwrap();
}
