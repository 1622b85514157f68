//! The self-made certificates: one Secret that all replicas share, the `caBundle` that trusts them, and the listeners
//! that serve them. What is due says [`authority`](super::authority); this file reads, writes and serves.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};

use super::authority::{Authority, Change, Fingerprint, Lifetimes, Trust, may_serve, next, wanted_bundle};
use super::identity::Identity;
use super::material::{self, Material, ServingPair, read_bundle};
use super::registration::{Reading, Registrar, View};
use super::written::{Written, written};
use crate::serve::{CertificateStatus, Owner, Tls};

/// Marks the Secret as ours to write.
const MARK: &str = "poolwright.dev/self-made-certificates";

/// Which certificates to make and where to keep them.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateSettings {
    /// Name of the Secret in our namespace.
    pub secret: String,
    /// Host names and addresses that the certificate is for.
    pub names: Vec<String>,
    pub lifetimes: Lifetimes,
}

/// Something that people should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    AuthorityMade,
    CertificateMade,
    AuthoritiesForgotten,
    BundlePatched,
    CertificateServed,
}

/// What one look did.
#[derive(Debug, Default)]
pub struct Done {
    pub happenings: Vec<Happening>,
    /// Whether something was written, or somebody else was faster: look again.
    pub again: bool,
    /// A write was refused or not answered: try again soon.
    pub failed: bool,
}

/// Keeps the Secret, the `caBundle` and the listeners in step.
#[derive(Debug)]
pub struct Keeper {
    api: Api<Secret>,
    settings: CertificateSettings,
    namespace: String,
    listeners: Vec<Tls>,
    served: Option<ServingPair>,
    /// Since when each authority has been seen in the `caBundle`.
    since: BTreeMap<Fingerprint, f64>,
    started_seconds: f64,
    patience: Patience,
    /// The stored material as of the last look.
    material: Option<Material>,
    error: Option<String>,
}

impl Keeper {
    pub fn new(client: Client, identity: &Identity, settings: CertificateSettings, now_seconds: f64) -> Self {
        Self {
            api: Api::namespaced(client, &identity.namespace),
            patience: Patience::new(settings.lifetimes.settle_seconds()),
            settings,
            namespace: identity.namespace.clone(),
            listeners: Vec::new(),
            served: None,
            since: BTreeMap::new(),
            started_seconds: now_seconds,
            material: None,
            error: None,
        }
    }

    pub fn api(&self) -> Api<Secret> {
        self.api.clone()
    }

    pub fn settings(&self) -> &CertificateSettings {
        &self.settings
    }

    /// Serve the certificates on this listener too.
    pub fn listen(&mut self, tls: Tls) {
        self.listeners.push(tls);
    }

    pub fn status(&self) -> CertificateStatus {
        let authorities = self.material.as_ref().map_or(&[][..], |m| &m.authorities);
        CertificateStatus {
            secret: format!("{}/{}", self.namespace, self.settings.secret),
            expires_at_seconds: self.served.as_ref().map(|s| s.facts.validity.until_seconds),
            authority_expires_at_seconds: authorities.first().map(|a| a.facts.validity.until_seconds),
            authorities: authorities.len(),
            error: self.error.clone(),
        }
    }

    /// The authorities to trust, when there is a Secret to tell.
    pub fn bundle(&self) -> Option<Vec<u8>> {
        self.material.as_ref().map(|m| material::write_bundle(&m.authorities))
    }

    /// One look: renew what is due, trust it, serve it. `reading` was taken before the Secret is read here.
    pub async fn look(&mut self, registrar: &Registrar, reading: &Reading, now_seconds: f64) -> Done {
        let mut done = Done::default();
        self.error = None;
        let trust = self.trust(reading, now_seconds);
        let Some(material) = self.renew(&trust, &mut done, now_seconds).await else { return done };
        if let Reading::Seen(view) = reading
            && view.owner == Owner::Ours
        {
            self.spread(registrar, view, &material, &mut done, now_seconds).await;
        }
        if let Some(leaf) = &material.leaf {
            self.serve(leaf, &trust, &mut done, now_seconds);
        }
        self.material = Some(material);
        done
    }

    fn trust(&mut self, reading: &Reading, now_seconds: f64) -> Trust {
        let Reading::Seen(view) = reading else { return Trust::Unknown };
        if view.owner != Owner::Ours || view.insecure {
            self.since.clear();
            return Trust::Nobody;
        }
        let trusted = read_bundle(&view.bundle);
        let known = material::fingerprints(&trusted);
        self.since.retain(|id, _| known.contains(id));
        let since =
            |a: Authority, map: &mut BTreeMap<Fingerprint, f64>| (a, *map.entry(a.fingerprint).or_insert(now_seconds));
        Trust::Bundle(trusted.iter().map(|t| since(t.facts, &mut self.since)).collect())
    }

    /// The stored material, after the change that was due. `None` when there is none to go by.
    async fn renew(&mut self, trust: &Trust, done: &mut Done, now_seconds: f64) -> Option<Material> {
        let CertificateSettings { secret: name, names, lifetimes } = &self.settings;
        let found = match self.api.get_opt(name).await {
            Ok(found) => found,
            Err(error) => {
                self.error = Some(format!("the Secret {name} cannot be read: {error}"));
                return None;
            }
        };
        if let Some(secret) = &found
            && !is_ours(secret)
        {
            self.error = Some(format!(
                "the Secret {name} holds something that poolwright did not write and is left alone: name another one, \
                 or mount it and use certificate files"
            ));
            return None;
        }
        let data = found.as_ref().and_then(|s| s.data.clone()).unwrap_or_default();
        let material = Material::read(&data, names);
        let stored = found.as_ref().map(|_| material.stored());
        let Some(change) = next(stored.as_ref(), trust, *lifetimes, now_seconds) else { return Some(material) };
        let changed = match material.clone().changed(&change, names, *lifetimes, now_seconds) {
            Ok(changed) => changed,
            Err(error) => {
                self.error = Some(format!("no certificate can be made: {error:#}"));
                return Some(material);
            }
        };
        let is_new = found.is_none();
        match self.store(found, &changed).await {
            Written::Done => {
                done.again = true;
                done.happenings.extend(happenings(&change));
                Some(changed)
            }
            // Whoever was faster made what is now valid for all.
            Written::Conflict => {
                done.again = true;
                (!is_new).then_some(material)
            }
            Written::Failed(why) => {
                self.error = Some(format!("the Secret {} cannot be written: {why}", self.settings.secret));
                (!is_new).then_some(material)
            }
        }
    }

    /// Write the material into the Secret that was read, or into a new one.
    async fn store(&self, found: Option<Secret>, material: &Material) -> Written {
        let create = found.is_none();
        let mut secret = found.unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(self.settings.secret.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(BTreeMap::from([("app.kubernetes.io/name".to_owned(), "poolwright".to_owned())])),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        });
        secret.metadata.annotations.get_or_insert_default().insert(MARK.to_owned(), "true".to_owned());
        let data = secret.data.get_or_insert_default();
        for key in [material::AUTHORITIES, material::AUTHORITY_KEY, material::CHAIN, material::CHAIN_KEY] {
            data.remove(key);
        }
        data.extend(material.write());
        let params = PostParams::default();
        if create {
            return written(self.api.create(&params, &secret).await.map(|_| ()));
        }
        // Its resourceVersion came with it: a change in between is a conflict.
        written(self.api.replace(&self.settings.secret, &params, &secret).await.map(|_| ()))
    }

    /// Bring the `caBundle` in step with the Secret.
    async fn spread(&mut self, registrar: &Registrar, view: &View, material: &Material, done: &mut Done, now: f64) {
        let current = read_bundle(&view.bundle);
        let facts: Vec<Authority> = current.iter().map(|t| t.facts).collect();
        let wanted = wanted_bundle(&material.stored(), &facts, self.settings.lifetimes, now);
        let there = material::fingerprints(&current);
        let whole = there.len() == pem_blocks(&view.bundle);
        if !view.insecure && whole && there == wanted.iter().copied().collect::<BTreeSet<_>>() {
            self.patience.peace(now);
            return;
        }
        if view.injected {
            self.error = Some(
                "cert-manager writes the APIService's caBundle (annotation cert-manager.io/inject-…): remove the \
                 annotation, or use certificate files instead of self-made ones"
                    .to_owned(),
            );
            return;
        }
        let ours = material::fingerprints(&material.authorities);
        if !self.patience.may_try(&ours, now) {
            let words = "something else keeps changing the APIService's caBundle; poolwright writes it again later";
            self.error = Some(words.to_owned());
            return;
        }
        let all = material.authorities.iter().chain(&current);
        let pick = |id: &Fingerprint| all.clone().find(|t| t.facts.fingerprint == *id);
        let bundle = material::write_bundle(wanted.iter().filter_map(pick));
        match registrar.trust(view, bundle).await {
            Written::Done => {
                self.patience.tried(ours, now);
                done.again = true;
                done.happenings.push(Happening::BundlePatched);
            }
            Written::Conflict => done.again = true,
            Written::Failed(why) => {
                // No fight with anybody: the right to write may only not be there yet.
                done.failed = true;
                self.error = Some(format!("the APIService's caBundle cannot be written: {why}"));
            }
        }
    }

    fn serve(&mut self, leaf: &ServingPair, trust: &Trust, done: &mut Done, now_seconds: f64) {
        let CertificateSettings { lifetimes, .. } = &self.settings;
        let served = self.served.as_ref();
        if served.is_some_and(|s| s.chain == leaf.chain) {
            return;
        }
        // Who has waited long serves what there is: nobody else may be there to answer.
        let waited = now_seconds - self.started_seconds > 10.0 * lifetimes.settle_seconds();
        let trust = if served.is_none() && waited { &Trust::Unknown } else { trust };
        if !may_serve(&leaf.facts, served.map(|s| &s.facts), trust, *lifetimes, now_seconds) {
            return;
        }
        for tls in &self.listeners {
            if let Err(error) = tls.replace(leaf.chain.as_bytes(), leaf.key()) {
                self.error = Some(format!("the new certificate cannot be served: {error}"));
                return;
            }
        }
        self.served = Some(leaf.clone());
        done.happenings.push(Happening::CertificateServed);
    }
}

/// Empty, as a manifest may have made it, or written by us before.
fn is_ours(secret: &Secret) -> bool {
    let empty = secret.data.as_ref().is_none_or(BTreeMap::is_empty);
    empty || secret.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MARK))
}

/// Certificates that a PEM text claims to hold.
fn pem_blocks(bundle: &[u8]) -> usize {
    String::from_utf8_lossy(bundle).matches("-----BEGIN ").count()
}

fn happenings(change: &Change) -> Vec<Happening> {
    match change {
        Change::Everything => vec![Happening::AuthorityMade, Happening::CertificateMade],
        Change::Authority => vec![Happening::AuthorityMade],
        Change::Leaf => vec![Happening::CertificateMade],
        Change::Forget(_) => vec![Happening::AuthoritiesForgotten],
    }
}

/// Somebody may undo what we write: then we write ever more rarely.
#[derive(Debug)]
struct Patience {
    base_seconds: f64,
    tries: u32,
    next_seconds: f64,
    /// Our authorities at the last try: new ones are not held up by the fate of older ones.
    last: BTreeSet<Fingerprint>,
}

impl Patience {
    const LONGEST_SECONDS: f64 = 3600.0;

    fn new(base_seconds: f64) -> Self {
        Self { base_seconds, tries: 0, next_seconds: f64::NEG_INFINITY, last: BTreeSet::new() }
    }

    fn may_try(&self, ours: &BTreeSet<Fingerprint>, now_seconds: f64) -> bool {
        now_seconds >= self.next_seconds || *ours != self.last
    }

    fn tried(&mut self, ours: BTreeSet<Fingerprint>, now_seconds: f64) {
        self.last = ours;
        let pause = self.base_seconds * f64::from(1_u32 << self.tries.min(12));
        self.next_seconds = now_seconds + pause.min(Self::LONGEST_SECONDS);
        self.tries += 1;
    }

    /// All is as it should be; after a while the past is forgotten.
    fn peace(&mut self, now_seconds: f64) {
        if now_seconds >= self.next_seconds + 2.0 * self.base_seconds {
            self.tries = 0;
        }
    }
}
