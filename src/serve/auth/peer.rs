//! The certificates of a connection's client and what they are worth at a given second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::parse_x509_certificate;

use super::trust::Trust;
use super::user::User;

/// Key under which Kubernetes notes which certificate an identity came from.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Certificates that the client of a connection proved to own, its own first. A request carries them as
/// extension `Arc<PeerCertificates>`.
///
/// The verifier takes what Go's takes with these exceptions: X.509 v1 certificates, SHA-1 signatures, keys on
/// P-521, and a client certificate that is itself an authority are refused.
#[derive(Debug)]
pub struct PeerCertificates {
    chain: Vec<CertificateDer<'static>>,
    judged: Mutex<Option<Arc<Judgement>>>,
}

/// What the certificates are worth under one trust in one second.
#[derive(Debug)]
pub(super) struct Judgement {
    trust: Arc<Trust>,
    second: u64,
    /// Whether they are the front proxy's; `None` when no front proxy is trusted.
    pub front_proxy: Option<Result<(), String>>,
    /// Whose they are; `None` when no clients are trusted or the certificate names nobody.
    pub client: Option<Result<User, String>>,
}

impl PeerCertificates {
    /// `None` for an empty chain.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Option<Self> {
        (!chain.is_empty()).then(|| Self { chain, judged: Mutex::default() })
    }

    /// Judge the certificates. Verifiers count in whole seconds, so that a second's judgement holds for all
    /// requests of that second.
    pub(super) fn judge(&self, trust: &Arc<Trust>, now_seconds: f64) -> Arc<Judgement> {
        // Casting cuts the fraction, and a time before 1970 becomes 0.
        let second = now_seconds as u64;
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(judgement) = &*judged
            && judgement.second == second
            && Arc::ptr_eq(&judgement.trust, trust)
        {
            return Arc::clone(judgement);
        }
        let judgement = Arc::new(self.judge_now(trust, second));
        *judged = Some(Arc::clone(&judgement));
        judgement
    }

    fn judge_now(&self, trust: &Arc<Trust>, second: u64) -> Judgement {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(second));
        let subject = self.subject();
        let front_proxy = trust.front_proxy.as_ref().map(|authorities| {
            authorities.verify(&self.chain, now)?;
            let subject = subject.as_ref().map_err(Clone::clone)?;
            let allowed = trust.allowed_names.is_empty() || trust.allowed_names.contains(&subject.name);
            if allowed {
                Ok(())
            } else {
                Err(format!("the name {:?} is not in requestheader-allowed-names", subject.name))
            }
        });
        let client = trust.clients.as_ref().and_then(|authorities| {
            let verdict = authorities.verify(&self.chain, now).and_then(|()| subject.clone());
            verdict.map(|user| (!user.name.is_empty()).then_some(user)).transpose()
        });
        Judgement { trust: Arc::clone(trust), second, front_proxy, client }
    }

    /// The user a certificate names: the last common name, and each organization as a group.
    fn subject(&self) -> Result<User, String> {
        let leaf = self.chain.first().ok_or_else(|| "no certificate".to_owned())?;
        let (_, certificate) = parse_x509_certificate(leaf).map_err(|error| error.to_string())?;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().map(str::to_owned).map_err(|error| format!("subject: {error}"))
        };
        let subject = certificate.subject();
        let name = subject.iter_common_name().last().map(text).transpose()?.unwrap_or_default();
        let groups = subject.iter_organization().map(text).collect::<Result<_, _>>()?;
        let hash: String = Sha256::digest(leaf).iter().map(|byte| format!("{byte:02x}")).collect();
        let extra = [(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={hash}")])].into();
        Ok(User { name, uid: String::new(), groups, extra })
    }
}
