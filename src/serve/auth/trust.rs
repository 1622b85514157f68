//! Whom a cluster trusts to say who a caller is: the authorities of its front proxy and of its clients, and
//! how the front proxy names the caller. Read from the data of a ConfigMap; no I/O, no clock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::http::HeaderName;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

const CLIENT_AUTHORITIES: &str = "client-ca-file";
const FRONT_PROXY_AUTHORITIES: &str = "requestheader-client-ca-file";

/// Gives the trust of this moment. Asked once per request.
pub trait TrustSource: Send + Sync + 'static {
    /// The newest that was good; `None` until one was read.
    fn current(&self) -> Option<Arc<Trust>>;

    /// Whether the cluster said so last, or an older answer is kept because it cannot be read now.
    fn is_confirmed(&self) -> bool {
        true
    }
}

impl TrustSource for ArcSwapOption<Trust> {
    fn current(&self) -> Option<Arc<Trust>> {
        self.load_full()
    }
}

/// Why the data cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    #[error("{key}: no usable PEM certificate: {why}")]
    Certificates { key: &'static str, why: String },
    #[error("{key}: not a JSON array of names: {why}")]
    Names { key: &'static str, why: String },
}

/// Trust, parsed and ready to verify with.
pub struct Trust {
    pub(super) front_proxy: Option<Authorities>,
    pub(super) clients: Option<Authorities>,
    /// Common names the front proxy may have; empty admits every one.
    pub(super) allowed_names: Vec<String>,
    pub(super) headers: HeaderNames,
}

/// Headers in which the front proxy names the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HeaderNames {
    pub user: Vec<HeaderName>,
    pub uid: Vec<HeaderName>,
    pub group: Vec<HeaderName>,
    /// In lower case.
    pub extra_prefixes: Vec<String>,
}

/// Certificate authorities and the verifier over them.
pub(super) struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
    unusable: usize,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |authorities: &Option<Authorities>| authorities.as_ref().map_or(0, |a| a.certificates.len());
        f.debug_struct("Trust")
            .field("front_proxy_authorities", &count(&self.front_proxy))
            .field("client_authorities", &count(&self.clients))
            .field("allowed_names", &self.allowed_names)
            .field("headers", &self.headers)
            .finish()
    }
}

impl Trust {
    /// Read the data of ConfigMap `kube-system/extension-apiserver-authentication`.
    ///
    /// Headers that it does not name have the usual names, except that of the UID: a front proxy that does not
    /// set it lets through what its client put there.
    ///
    /// # Errors
    /// A bundle without one usable certificate, or a list of names that is none. Nothing of the data is used then.
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<Self, TrustError> {
        let names = |key, usual: &[&str]| names(data, key, usual);
        let headers = HeaderNames {
            user: header_names(
                "requestheader-username-headers",
                names("requestheader-username-headers", &["x-remote-user"])?,
            )?,
            uid: header_names("requestheader-uid-headers", names("requestheader-uid-headers", &[])?)?,
            group: header_names(
                "requestheader-group-headers",
                names("requestheader-group-headers", &["x-remote-group"])?,
            )?,
            extra_prefixes: names("requestheader-extra-headers-prefix", &["x-remote-extra-"])?
                .into_iter()
                .map(|prefix| prefix.to_ascii_lowercase())
                // An empty prefix would take every header of the request.
                .filter(|prefix| !prefix.is_empty())
                .collect(),
        };
        Ok(Self {
            front_proxy: Authorities::read(data, FRONT_PROXY_AUTHORITIES)?,
            clients: Authorities::read(data, CLIENT_AUTHORITIES)?,
            allowed_names: names("requestheader-allowed-names", &[])?,
            headers,
        })
    }

    /// Whether a certificate that the cluster gives to any user would pass for the front proxy.
    pub fn lets_clients_pose_as_front_proxy(&self) -> bool {
        let (Some(front), Some(clients)) = (&self.front_proxy, &self.clients) else { return false };
        self.allowed_names.is_empty() && front.certificates.iter().any(|c| clients.certificates.contains(c))
    }

    /// What an operator should know about this trust; empty when all is well.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.front_proxy.is_none() {
            warnings.push(format!(
                "the cluster names no {FRONT_PROXY_AUTHORITIES}: every aggregated request is anonymous here, will be \
                 forbidden, and the APIService stays unavailable; start kube-apiserver with \
                 --requestheader-client-ca-file and --proxy-client-cert-file"
            ));
        }
        if self.lets_clients_pose_as_front_proxy() {
            warnings.push(format!(
                "{FRONT_PROXY_AUTHORITIES} and {CLIENT_AUTHORITIES} share an authority and requestheader-allowed-names \
                 is empty: whoever holds any client certificate of this cluster can pose as any user here; set \
                 --requestheader-allowed-names on kube-apiserver"
            ));
        }
        for (key, authorities) in [(FRONT_PROXY_AUTHORITIES, &self.front_proxy), (CLIENT_AUTHORITIES, &self.clients)] {
            if let Some(unusable) = authorities.as_ref().map(|a| a.unusable).filter(|n| *n > 0) {
                warnings.push(format!("{key}: {unusable} certificates cannot be used as authorities and are ignored"));
            }
        }
        warnings
    }
}

impl Authorities {
    /// `None` when the key is absent or empty. Certificates that are no authorities for the verifier are left
    /// out as long as one is usable, as in Go.
    fn read(data: &BTreeMap<String, String>, key: &'static str) -> Result<Option<Self>, TrustError> {
        let Some(pem) = data.get(key).filter(|pem| !pem.trim().is_empty()) else { return Ok(None) };
        let refuse = |why: String| TrustError::Certificates { key, why };
        let (mut roots, mut certificates, mut unusable) = (RootCertStore::empty(), Vec::new(), 0);
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
            match roots.add(certificate.clone()) {
                Ok(()) => certificates.push(certificate),
                Err(_) => unusable += 1,
            }
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
            .build()
            .map_err(|error| refuse(error.to_string()))?;
        Ok(Some(Self { certificates, unusable, verifier }))
    }

    /// Whether this chain leads to one of the authorities, may be used by a client, and is valid at this time.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), String> {
        let (leaf, intermediates) = chain.split_first().ok_or_else(|| "no certificate".to_owned())?;
        self.verifier.verify_client_cert(leaf, intermediates, now).map(|_| ()).map_err(|error| error.to_string())
    }
}

fn names(data: &BTreeMap<String, String>, key: &'static str, usual: &[&str]) -> Result<Vec<String>, TrustError> {
    match data.get(key).filter(|text| !text.trim().is_empty()) {
        None => Ok(usual.iter().map(|&name| name.to_owned()).collect()),
        Some(text) => serde_json::from_str(text).map_err(|e| TrustError::Names { key, why: e.to_string() }),
    }
}

fn header_names(key: &'static str, names: Vec<String>) -> Result<Vec<HeaderName>, TrustError> {
    let parse =
        |name: String| name.parse().map_err(|_| TrustError::Names { key, why: format!("{name:?} is no header") });
    names.into_iter().map(parse).collect()
}
