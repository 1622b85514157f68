//! What a listener asks of its clients' certificates.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::TlsError;

/// What is asked of a client's certificate in the handshake.
#[derive(Clone, Default)]
pub enum ClientCertificates {
    /// Not asked for.
    #[default]
    Ignored,
    /// Asked for, not required; that the client owns its key is checked, who signed it is not. Requests of any
    /// certificate get through, and the application judges each request: trust may change while a connection lives.
    Unjudged,
    /// Required, signed by one of these authorities.
    Required(Authorities),
}

impl fmt::Debug for ClientCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignored => "Ignored",
            Self::Unjudged => "Unjudged",
            Self::Required(_) => "Required",
        })
    }
}

/// Certificate authorities as PEM.
#[derive(Clone)]
pub enum Authorities {
    /// In this file; read again when it changes.
    File(PathBuf),
    /// These bytes.
    Pem(Vec<u8>),
}

impl Authorities {
    pub(super) fn read(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Self::Pem(pem) => Ok(pem.clone()),
            Self::File(path) => std::fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source }),
        }
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Pem(_) => PathBuf::from("client authorities"),
        }
    }
}

impl ClientCertificates {
    /// The bytes that decide, besides certificate and key.
    pub(super) fn content(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Self::Ignored | Self::Unjudged => Ok(Vec::new()),
            Self::Required(authorities) => authorities.read(),
        }
    }

    pub(super) fn verifier(
        &self,
        authorities_pem: &[u8],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        match self {
            Self::Ignored => Ok(WebPkiClientVerifier::no_client_auth()),
            Self::Unjudged => Ok(Arc::new(Unjudged { provider: Arc::clone(provider) })),
            Self::Required(authorities) => {
                let refuse = |why: String| TlsError::Certificate { path: authorities.path(), why };
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(authorities_pem) {
                    let certificate = certificate.map_err(|e| refuse(e.to_string()))?;
                    roots.add(certificate).map_err(|e| refuse(e.to_string()))?;
                }
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                    .build()
                    .map_err(|e| refuse(e.to_string()))
            }
        }
    }
}

/// Checks that the client owns the key of its certificate and nothing else, as Go's `RequestClientCert`.
#[derive(Debug)]
struct Unjudged {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Unjudged {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
