//! TLS towards Prometheus: verified against the given authority, with a client certificate where one is asked for.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use poolwright::observe::{HttpAccess, PrometheusOptions, PrometheusSource, Source};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::observe_support::{NOW, policy, pool};

/// An authority, a server certificate and a client certificate of it, as PEM files.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(params, ca_key);
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        for (name, host) in [("server", "127.0.0.1"), ("client", "poolwright")] {
            let key = KeyPair::generate().unwrap();
            let cert = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
            std::fs::write(dir.path().join(format!("{name}.pem")), cert.pem()).unwrap();
            std::fs::write(dir.path().join(format!("{name}-key.pem")), key.serialize_pem()).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(name)).unwrap()
    }

    /// Serve an empty answer to every query, to clients with a certificate of the authority only.
    fn serve(&self) -> SocketAddr {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate("ca.pem")).unwrap();
        let config = ServerConfig::builder()
            .with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
            .with_single_cert(
                vec![self.certificate("server.pem")],
                PrivateKeyDer::from_pem_file(self.path("server-key.pem")).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let answer = || async {
            let body = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
            ([("content-type", "application/json")], body)
        };
        let app = axum::Router::new().fallback(answer);
        let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(Arc::new(config))).unwrap();
        tokio::spawn(server.serve(app.into_make_service()));
        address
    }
}

async fn error(address: SocketAddr, access: HttpAccess) -> Option<String> {
    let url = format!("https://{address}");
    let mut source = PrometheusSource::new(PrometheusOptions { url, access }).unwrap();
    source.observe(&policy(vec![pool("a")]), NOW).await.source_error
}

#[tokio::test]
async fn only_verified_servers_are_believed() {
    let files = Files::new();
    let address = files.serve();
    let complete = HttpAccess {
        ca_file: Some(files.path("ca.pem")),
        client_cert_file: Some(files.path("client.pem")),
        client_key_file: Some(files.path("client-key.pem")),
        ..HttpAccess::default()
    };
    assert_eq!(error(address, complete.clone()).await, None);
    let unknown_authority = error(address, HttpAccess { ca_file: None, ..complete.clone() }).await.unwrap();
    assert!(unknown_authority.contains("unreachable"), "{unknown_authority}");
    let skipped = HttpAccess { ca_file: None, insecure_skip_verify: true, ..complete.clone() };
    assert_eq!(error(address, skipped).await, None);
    let nameless = HttpAccess { client_cert_file: None, client_key_file: None, ..complete };
    assert!(error(address, nameless).await.is_some());
}
