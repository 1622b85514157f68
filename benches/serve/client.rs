//! Who asks: kube-apiserver's aggregator, with a certificate for which it speaks as the HPA controller.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Name in the server's certificate.
pub const NAME: &str = "localhost";

/// What the aggregator says of the caller.
pub const CALLER: [(&str, &str); 4] = [
    ("x-remote-user", "system:serviceaccount:kube-system:horizontal-pod-autoscaler"),
    ("x-remote-group", "system:serviceaccounts"),
    ("x-remote-group", "system:serviceaccounts:kube-system"),
    ("x-remote-group", "system:authenticated"),
];

/// A front proxy's certificate and the authority that signed it.
pub struct FrontProxy {
    pub authority_pem: String,
    pub certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl FrontProxy {
    pub fn new() -> Self {
        let new_key = || KeyPair::generate().expect("the system has randomness");
        let named = |name: &str| {
            let mut params = CertificateParams::new(vec![]).expect("no names at all");
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let mut authority = named("front-proxy-ca");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(authority, new_key()).expect("it can be signed");
        let mut client = named("front-proxy-client");
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = new_key();
        let certificate = client.signed_by(&key, &authority).expect("it can be signed");
        Self { authority_pem: authority.pem(), certificate: certificate.der().clone(), key: key.into() }
    }

    /// TLS that trusts this server and shows the certificate, if the server asks for one; HTTP/2.
    pub fn config(&self, server_certificate_pem: &str) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let server = CertificateDer::from_pem_slice(server_certificate_pem.as_bytes()).expect("PEM");
        roots.add(server).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them all")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())
            .expect("key and certificate belong together");
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}
