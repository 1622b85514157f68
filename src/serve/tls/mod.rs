//! The serving certificate: from files that are read again when their content changes, from memory where
//! something else keeps it, or made at start on explicit request.

mod client;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

pub use client::{Authorities, ClientCertificates};

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
    config: Arc<ArcSwap<ServerConfig>>,
    source: Arc<Source>,
    clients: ClientCertificates,
    /// Hash of the content that was last tried.
    last_tried: Arc<Mutex<[u8; 32]>>,
    shown: Arc<Mutex<Shown>>,
}

/// The chain that is served, PEM, and its life.
#[derive(Clone, Debug)]
struct Shown {
    chain: Vec<u8>,
    life: Life,
}

impl Shown {
    fn of(chain: &[u8]) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { chain: chain.to_vec(), life: Life::of(chain) }))
    }
}

/// Begin and end of a certificate, Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    from_seconds: i64,
    until_seconds: i64,
}

impl Life {
    /// Of the chain's first certificate; one that cannot be read has none.
    fn of(chain: &[u8]) -> Self {
        let der = CertificateDer::pem_slice_iter(chain).next().and_then(Result::ok);
        let validity = der.as_ref().and_then(|der| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            let validity = certificate.validity();
            Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
        });
        let (from_seconds, until_seconds) = validity.unwrap_or_default();
        Self { from_seconds, until_seconds }
    }
}

enum Source {
    Files { certificate: PathBuf, key: PathBuf },
    Memory,
    SelfSigned { pem: String },
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.source {
            Source::Files { certificate, key } => {
                f.debug_struct("Tls").field("certificate", certificate).field("key", key).finish()
            }
            Source::Memory => f.write_str("Tls(from memory)"),
            Source::SelfSigned { .. } => f.write_str("Tls(self-signed)"),
        }
    }
}

impl Tls {
    /// Serve the certificate chain and the key of these PEM files.
    ///
    /// # Errors
    /// A file cannot be read, holds nothing usable, or the two do not belong together.
    pub fn from_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        clients: ClientCertificates,
    ) -> Result<Self, TlsError> {
        let (certificate, key) = (certificate.into(), key.into());
        let contents = Contents::read(&certificate, &key, &clients)?;
        let config = Arc::new(ArcSwap::new(contents.build(&certificate, &key, &clients)?));
        let last_tried = Arc::new(Mutex::new(contents.hash()));
        let shown = Shown::of(&contents.chain);
        Ok(Self { config, source: Arc::new(Source::Files { certificate, key }), clients, last_tried, shown })
    }

    /// Serve this certificate chain and key, both PEM, until [`Tls::replace`].
    ///
    /// # Errors
    /// One of them is not usable, or they do not belong together.
    pub fn from_pem(chain: &[u8], key: &[u8], clients: ClientCertificates) -> Result<Self, TlsError> {
        let contents = Contents { chain: chain.to_vec(), key: key.to_vec(), authorities: clients.content()? };
        let (certificate_place, key_place) = Contents::places();
        let config = Arc::new(ArcSwap::new(contents.build(certificate_place, key_place, &clients)?));
        let last_tried = Arc::new(Mutex::new(contents.hash()));
        let shown = Shown::of(&contents.chain);
        Ok(Self { config, source: Arc::new(Source::Memory), clients, last_tried, shown })
    }

    /// Serve this chain and key from now on; true when they are others than before. Open connections keep theirs.
    ///
    /// # Errors
    /// They are not usable: the old certificate stays.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<bool, TlsError> {
        let contents = Contents { chain: chain.to_vec(), key: key.to_vec(), authorities: self.clients.content()? };
        let (certificate_place, key_place) = Contents::places();
        let taken = self.take_over(&contents, certificate_place, key_place);
        if taken.is_err() {
            // Whoever asks again must hear again that it is not served.
            *self.last_tried.lock().unwrap_or_else(PoisonError::into_inner) = [0; 32];
        }
        taken
    }

    /// Serve a certificate made now for these host names and addresses. Nobody trusts it by itself: see
    /// [`Tls::certificate_pem`].
    ///
    /// # Errors
    /// A name cannot stand in a certificate.
    pub fn self_signed(names: &[String], clients: ClientCertificates) -> Result<Self, TlsError> {
        let made = rcgen::generate_simple_self_signed(names)
            .map_err(|source| TlsError::SelfSigned { names: names.to_vec(), source })?;
        let pem = made.cert.pem();
        let tls = Self::from_pem(pem.as_bytes(), made.signing_key.serialize_pem().as_bytes(), clients)?;
        Ok(Self { source: Arc::new(Source::SelfSigned { pem }), ..tls })
    }

    /// The self-signed certificate, for those who should trust it.
    pub fn certificate_pem(&self) -> Option<&str> {
        match &*self.source {
            Source::SelfSigned { pem } => Some(pem),
            Source::Files { .. } | Source::Memory => None,
        }
    }

    /// Take over the files' content if it changed since it was last tried; true when a new certificate is
    /// served from now on. Open connections keep theirs.
    ///
    /// # Errors
    /// The new content is not usable: the old certificate stays, and the same content is not tried again.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let Source::Files { certificate, key } = &*self.source else { return Ok(false) };
        self.take_over(&Contents::read(certificate, key, &self.clients)?, certificate, key)
    }

    /// End of the certificate that is served, Unix time.
    pub fn expires_at_seconds(&self) -> f64 {
        self.life().until_seconds as f64
    }

    /// Whether the certificate has expired or is about to: within an hour, or the last twentieth of a shorter life.
    pub fn is_expiring(&self, now_seconds: f64) -> bool {
        let Life { from_seconds, until_seconds } = self.life();
        let margin = ((until_seconds - from_seconds) as f64 / 20.0).min(3600.0);
        now_seconds >= until_seconds as f64 - margin
    }

    fn life(&self) -> Life {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).life
    }

    /// The certificate chain that is served, PEM.
    pub fn chain_pem(&self) -> Vec<u8> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).chain.clone()
    }

    fn take_over(&self, contents: &Contents, certificate: &Path, key: &Path) -> Result<bool, TlsError> {
        let hash = contents.hash();
        let mut last_tried = self.last_tried.lock().unwrap_or_else(PoisonError::into_inner);
        if *last_tried == hash {
            return Ok(false);
        }
        *last_tried = hash;
        self.config.store(contents.build(certificate, key, &self.clients)?);
        let shown = Shown { chain: contents.chain.clone(), life: Life::of(&contents.chain) };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        Ok(true)
    }

    /// What the next handshake uses.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

/// Everything a configuration is made of, as read.
struct Contents {
    chain: Vec<u8>,
    key: Vec<u8>,
    authorities: Vec<u8>,
}

impl Contents {
    fn read(certificate: &Path, key: &Path, clients: &ClientCertificates) -> Result<Self, TlsError> {
        let read = |path: &Path| std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
        Ok(Self { chain: read(certificate)?, key: read(key)?, authorities: clients.content()? })
    }

    /// How errors name what comes from memory.
    fn places() -> (&'static Path, &'static Path) {
        (Path::new("serving certificate"), Path::new("serving key"))
    }

    fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for content in [&self.chain, &self.key, &self.authorities] {
            hash.update(Sha256::digest(content));
        }
        hash.finalize().into()
    }

    fn build(
        &self,
        certificate: &Path,
        key: &Path,
        clients: &ClientCertificates,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let refuse = |why: String| TlsError::Certificate { path: certificate.to_owned(), why };
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&self.chain).collect::<Result<_, _>>().map_err(|e| refuse(e.to_string()))?;
        if chain.is_empty() {
            return Err(refuse("it holds no certificate".into()));
        }
        let secret = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|e| TlsError::Key { path: key.to_owned(), why: e.to_string() })?;
        let provider = Arc::new(ring::default_provider());
        let verifier = clients.verifier(&self.authorities, &provider)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, secret)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
