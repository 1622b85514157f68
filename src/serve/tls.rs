//! The serving certificate: from files that are read again when their content changes, or made at start
//! on explicit request.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

/// What went wrong with a certificate. Never shows key material.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: no usable PEM certificate chain: {why}", path.display())]
    Certificate { path: PathBuf, why: String },
    #[error("{}: no usable PEM private key: {why}", path.display())]
    Key { path: PathBuf, why: String },
    #[error("certificate and key do not work together: {0}")]
    Pair(#[from] rustls::Error),
    #[error("a self-signed certificate for {names:?} cannot be made: {source}")]
    SelfSigned { names: Vec<String>, source: rcgen::Error },
}

/// TLS settings of one listener; clones share the certificate.
#[derive(Clone)]
pub struct Tls {
    config: RustlsConfig,
    source: Arc<Source>,
}

enum Source {
    Files { certificate: PathBuf, key: PathBuf, last_tried: Mutex<[u8; 32]> },
    SelfSigned { pem: String },
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.source {
            Source::Files { certificate, key, .. } => {
                f.debug_struct("Tls").field("certificate", certificate).field("key", key).finish()
            }
            Source::SelfSigned { .. } => f.write_str("Tls(self-signed)"),
        }
    }
}

impl Tls {
    /// Serve the certificate chain and the key of these PEM files.
    ///
    /// # Errors
    /// A file cannot be read, holds nothing usable, or the two do not belong together.
    pub fn from_files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let (certificate, key) = (certificate.into(), key.into());
        let (contents, hash) = read_pair(&certificate, &key)?;
        let config = RustlsConfig::from_config(build(&certificate, &key, &contents)?);
        Ok(Self { config, source: Arc::new(Source::Files { certificate, key, last_tried: Mutex::new(hash) }) })
    }

    /// Serve a certificate made now for these host names and addresses. Nobody trusts it by itself: see
    /// [`Tls::certificate_pem`].
    ///
    /// # Errors
    /// A name cannot stand in a certificate.
    pub fn self_signed(names: &[String]) -> Result<Self, TlsError> {
        let made = rcgen::generate_simple_self_signed(names)
            .map_err(|source| TlsError::SelfSigned { names: names.to_vec(), source })?;
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = RustlsConfig::from_config(server_config(vec![made.cert.der().clone()], key)?);
        Ok(Self { config, source: Arc::new(Source::SelfSigned { pem: made.cert.pem() }) })
    }

    /// The self-signed certificate, for those who should trust it.
    pub fn certificate_pem(&self) -> Option<&str> {
        match &*self.source {
            Source::SelfSigned { pem } => Some(pem),
            Source::Files { .. } => None,
        }
    }

    /// Take over the files' content if it changed since it was last tried; true when a new certificate is
    /// served from now on. Open connections keep theirs.
    ///
    /// # Errors
    /// The new content is not usable: the old certificate stays, and the same content is not tried again.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let Source::Files { certificate, key, last_tried } = &*self.source else { return Ok(false) };
        let (contents, hash) = read_pair(certificate, key)?;
        let mut last_tried = last_tried.lock().unwrap_or_else(PoisonError::into_inner);
        if *last_tried == hash {
            return Ok(false);
        }
        *last_tried = hash;
        self.config.reload_from_config(build(certificate, key, &contents)?);
        Ok(true)
    }

    pub(super) fn config(&self) -> RustlsConfig {
        self.config.clone()
    }
}

type Contents = [Vec<u8>; 2];

fn read_pair(certificate: &Path, key: &Path) -> Result<(Contents, [u8; 32]), TlsError> {
    let read = |path: &Path| std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
    let contents = [read(certificate)?, read(key)?];
    let mut hash = Sha256::new();
    for content in &contents {
        hash.update(Sha256::digest(content));
    }
    Ok((contents, hash.finalize().into()))
}

fn build(certificate: &Path, key: &Path, [chain, secret]: &Contents) -> Result<Arc<ServerConfig>, TlsError> {
    let refuse = |why: String| TlsError::Certificate { path: certificate.to_owned(), why };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|e| refuse(e.to_string()))?;
    if chain.is_empty() {
        return Err(refuse("it holds no certificate".into()));
    }
    let secret = PrivateKeyDer::from_pem_slice(secret)
        .map_err(|e| TlsError::Key { path: key.to_owned(), why: e.to_string() })?;
    server_config(chain, secret)
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
