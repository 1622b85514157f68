//! The content of the Secret: authorities and the serving certificate, with their keys. Reads it, makes it and says
//! of it what [`authority`](super::authority) has to know. No I/O; keys never show in `Debug` or in an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{Authority, Change, Fingerprint, Leaf, Lifetimes, Stored, Validity};

/// Keys of the Secret.
pub const AUTHORITIES: &str = "ca.crt";
pub const AUTHORITY_KEY: &str = "ca.key";
pub const CHAIN: &str = "tls.crt";
pub const CHAIN_KEY: &str = "tls.key";

/// Most host names of one certificate. Replicas of different settings add their names until this many.
const MAX_NAMES: usize = 32;

/// One authority's certificate.
#[derive(Clone)]
pub struct Trusted {
    der: CertificateDer<'static>,
    pub facts: Authority,
}

impl fmt::Debug for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trusted").field(&self.facts).finish()
    }
}

/// The certificates of a PEM text; what is none is left out.
pub fn read_bundle(pem: &[u8]) -> Vec<Trusted> {
    CertificateDer::pem_slice_iter(pem).filter_map(|der| trusted(der.ok()?)).collect()
}

/// PEM of these certificates.
pub fn write_bundle<'a>(certificates: impl IntoIterator<Item = &'a Trusted>) -> Vec<u8> {
    certificates.into_iter().flat_map(|c| pem(&c.der).into_bytes()).collect()
}

fn trusted(der: CertificateDer<'static>) -> Option<Trusted> {
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let facts = Authority { fingerprint: Sha256::digest(&der).into(), validity: validity(&certificate) };
    Some(Trusted { der, facts })
}

fn validity(certificate: &X509Certificate<'_>) -> Validity {
    let times = certificate.validity();
    Validity { from_seconds: times.not_before.timestamp() as f64, until_seconds: times.not_after.timestamp() as f64 }
}

fn pem(der: &[u8]) -> String {
    // Kubernetes' own type for bytes is written as base64.
    let coded = serde_json::to_value(ByteString(der.to_vec())).unwrap_or_default();
    let text = coded.as_str().unwrap_or_default();
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// What a Secret holds, as far as it is usable.
#[derive(Clone, Default)]
pub struct Material {
    pub authorities: Vec<Trusted>,
    authority_key: Option<SecretString>,
    pub leaf: Option<ServingPair>,
}

/// A serving certificate and its key.
#[derive(Clone, Debug)]
pub struct ServingPair {
    pub facts: Leaf,
    pub names: BTreeSet<String>,
    pub chain: String,
    key: SecretString,
}

impl ServingPair {
    pub fn key(&self) -> &[u8] {
        self.key.expose_secret().as_bytes()
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Material").field(&self.stored()).finish()
    }
}

impl Material {
    /// Read a Secret's data. What is missing, broken or does not fit together is left out.
    pub fn read(data: &BTreeMap<String, ByteString>, names: &[String]) -> Self {
        let text = |key: &str| data.get(key).and_then(|v| String::from_utf8(v.0.clone()).ok());
        let authorities = data.get(AUTHORITIES).map_or_else(Vec::new, |v| read_bundle(&v.0));
        let authority_key = text(AUTHORITY_KEY).filter(|k| authorities.first().is_some_and(|a| fits(&a.der, k)));
        let leaf = text(CHAIN).zip(text(CHAIN_KEY)).and_then(|(chain, key)| pair(chain, key, &authorities, names));
        Self { authorities, authority_key: authority_key.map(SecretString::from), leaf }
    }

    /// The Secret's data.
    pub fn write(&self) -> BTreeMap<String, ByteString> {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, value: &[u8]| data.insert(key.to_owned(), ByteString(value.to_vec()));
        put(AUTHORITIES, &write_bundle(&self.authorities));
        if let Some(key) = &self.authority_key {
            put(AUTHORITY_KEY, key.expose_secret().as_bytes());
        }
        if let Some(leaf) = &self.leaf {
            put(CHAIN, leaf.chain.as_bytes());
            put(CHAIN_KEY, leaf.key());
        }
        data
    }

    pub fn stored(&self) -> Stored {
        Stored {
            authorities: self.authorities.iter().map(|a| a.facts).collect(),
            can_sign: self.authority_key.is_some(),
            leaf: self.leaf.as_ref().map(|l| l.facts),
        }
    }

    /// The material after this change.
    ///
    /// # Errors
    /// A host name cannot stand in a certificate, or a key cannot be made.
    pub fn changed(mut self, change: &Change, names: &[String], lives: Lifetimes, now_seconds: f64) -> Result<Self> {
        match change {
            Change::Forget(gone) => self.authorities.retain(|a| !gone.contains(&a.facts.fingerprint)),
            Change::Leaf => self.sign(names, lives, now_seconds)?,
            Change::Authority => self.add_authority(lives, now_seconds)?,
            Change::Everything => {
                self.add_authority(lives, now_seconds)?;
                self.sign(names, lives, now_seconds)?;
            }
        }
        Ok(self)
    }

    fn add_authority(&mut self, lives: Lifetimes, now_seconds: f64) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        // The name tells authorities apart; it must be the same when the certificate is read again.
        let id: String =
            Sha256::digest(key.subject_public_key_info()).iter().take(4).map(|b| format!("{b:02x}")).collect();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("poolwright authority {id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now_seconds - lives.allowance_seconds());
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now_seconds + lives.authority_seconds());
        let made = params.self_signed(&key)?;
        let made = trusted(made.der().clone()).context("the new authority cannot be read back")?;
        self.authorities.insert(0, made);
        self.authority_key = Some(key.serialize_pem().into());
        Ok(())
    }

    fn sign(&mut self, names: &[String], lives: Lifetimes, now_seconds: f64) -> Result<()> {
        let authority = self.authorities.first().context("there is no authority")?;
        let signing_key = self.authority_key.as_ref().context("the authority's key is not there")?;
        let issuer = issuer(&authority.der, signing_key)?;
        let mut all: BTreeSet<String> = names.iter().cloned().collect();
        let kept = self.leaf.iter().flat_map(|l| &l.names);
        let spare = MAX_NAMES.saturating_sub(all.len());
        let kept: Vec<String> = kept.filter(|n| !all.contains(*n)).take(spare).cloned().collect();
        all.extend(kept);
        let mut params = CertificateParams::new(all.into_iter().collect::<Vec<_>>())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, names.first().map_or("poolwright", String::as_str));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let limits = authority.facts.validity;
        params.not_before = rcgen::date_time_ymd(1970, 1, 1)
            + since_epoch((now_seconds - lives.allowance_seconds()).max(limits.from_seconds));
        params.not_after = rcgen::date_time_ymd(1970, 1, 1)
            + since_epoch((now_seconds + lives.leaf_seconds).min(limits.until_seconds));
        let key = KeyPair::generate()?;
        let made = params.signed_by(&key, &issuer)?;
        self.leaf = pair(pem(made.der()), key.serialize_pem(), &self.authorities, names);
        self.leaf.as_ref().map(|_| ()).ok_or_else(|| anyhow!("the new certificate cannot be read back"))
    }
}

/// The authority as rcgen needs it to sign: its name must come out byte for byte.
fn issuer(der: &CertificateDer<'_>, key: &SecretString) -> Result<Issuer<'static, KeyPair>> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| anyhow!("the authority cannot be read"))?;
    let name = certificate.subject().iter_common_name().next().and_then(|n| n.as_str().ok());
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.context("the authority has no common name")?);
    // Errors of the key's reader are not passed on: they might quote it.
    let key = KeyPair::from_pem(key.expose_secret()).map_err(|_| anyhow!("the authority's key cannot be read"))?;
    Ok(Issuer::new(params, key))
}

/// Whether the PEM key belongs to the certificate.
fn fits(der: &CertificateDer<'_>, key: &str) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    KeyPair::from_pem(key).is_ok_and(|key| key.subject_public_key_info() == certificate.public_key().raw)
}

/// The serving certificate and what is to know of it; `None` when it is not usable with this key.
fn pair(chain: String, key: String, authorities: &[Trusted], names: &[String]) -> Option<ServingPair> {
    let der = CertificateDer::pem_slice_iter(chain.as_bytes()).next()?.ok()?;
    if !fits(&der, &key) {
        return None;
    }
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let validity = validity(&certificate);
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let named: BTreeSet<String> = alternatives
        .iter()
        .flat_map(|a| &a.value.general_names)
        .filter_map(|n| match n {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect();
    let issuer = authorities.iter().find(|a| signed(&der, a, validity)).map(|a| a.facts.fingerprint);
    let names_fit = names.iter().all(|n| named.contains(n));
    Some(ServingPair { facts: Leaf { issuer, validity, names_fit }, names: named, chain, key: key.into() })
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|b| std::net::Ipv4Addr::from(b).to_string()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string()),
        _ => None,
    }
}

/// Whether this authority signed the certificate, as a strict client checks it.
fn signed(der: &CertificateDer<'static>, authority: &Trusted, validity: Validity) -> bool {
    let mut roots = RootCertStore::empty();
    if roots.add(authority.der.clone()).is_err() {
        return false;
    }
    let Ok(parsed) = ParsedCertificate::try_from(der) else { return false };
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    let at = UnixTime::since_unix_epoch(Duration::from_secs_f64(validity.from_seconds.max(0.0)));
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], at, algorithms).is_ok()
}

/// A time for certificates, which know whole seconds, counted from 1970.
fn since_epoch(seconds: f64) -> Duration {
    Duration::from_secs(seconds.max(0.0) as u64)
}

/// Chain and key of a certificate that expired long ago: a listener has to show something until the Secret is read,
/// and is not ready meanwhile.
///
/// # Errors
/// A key cannot be made.
pub fn placeholder() -> Result<(String, SecretString)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["poolwright.invalid".to_owned()])?;
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(1970, 1, 2);
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem().into()))
}

/// The fingerprints of these certificates.
pub fn fingerprints(certificates: &[Trusted]) -> BTreeSet<Fingerprint> {
    certificates.iter().map(|c| c.facts.fingerprint).collect()
}
