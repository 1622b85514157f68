//! The daemon's standing in its cluster: looks at the APIService and the Secret whenever they change and at least every
//! minute, does what is due, and says what it found: to the page, the metrics, the log and as Events.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use arc_swap::ArcSwap;
use futures::StreamExt;
use futures::stream::{BoxStream, select_all};
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use secrecy::ExposeSecret;

use super::certificates::{CertificateSettings, Done, Happening, Keeper};
use super::events::{Events, Notice, Weight};
use super::identity::Identity;
use super::material;
use super::registration::{API_SERVICE, Reading, Registrar, report};
use super::written::Written;
use crate::control::Clock;
use crate::serve::{ApiServiceStatus, ClientCertificates, ClusterStatus, Coexistence, Owner, Tls};

/// Longest time between two looks.
const INTERVAL: Duration = Duration::from_secs(60);

/// Rest after a write that failed: while somebody applies manifests, rights come after what they are for.
const RETRY: Duration = Duration::from_secs(5);

/// Longest time for one look; what was not answered by then is asked again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most looks in a row, each after a change of our own.
const MOST_LOOKS: usize = 4;

/// How the daemon is to stand in its cluster.
#[derive(Clone, Debug)]
pub struct StandingSettings {
    pub identity: Identity,
    /// Self-made certificates; `None` where they come from elsewhere.
    pub certificates: Option<CertificateSettings>,
    /// Port of our Service that an APIService taken over points to.
    pub service_port: u16,
    /// Whether the APIService may be taken from its owner, once. Needs self-made certificates.
    pub take_over: bool,
    /// Address that other metrics are passed on to, for the report.
    pub upstream: Option<String>,
    /// Whether KEDA can ask us.
    pub keda_listens: bool,
}

/// The task that keeps it.
pub struct Standing {
    client: Client,
    settings: StandingSettings,
    registrar: Registrar,
    keeper: Option<Keeper>,
    clock: Arc<dyn Clock>,
    events: Events,
    status: Arc<ArcSwap<ClusterStatus>>,
    was_ours: bool,
    took_over: bool,
    /// The last look could not write what it had to.
    failed: bool,
    /// Our Service, which the events are about, once it is known.
    ourselves: Option<ObjectReference>,
}

impl Standing {
    pub fn new(client: Client, settings: StandingSettings, clock: Arc<dyn Clock>, events: Events) -> Self {
        let now_seconds = clock.now_seconds();
        let certificates = settings.certificates.clone();
        let keeper = certificates.map(|c| Keeper::new(client.clone(), &settings.identity, c, now_seconds));
        let status = ClusterStatus { upstream: settings.upstream.clone(), ..ClusterStatus::default() };
        Self {
            registrar: Registrar::new(client.clone(), settings.identity.clone()),
            client,
            settings,
            keeper,
            clock,
            events,
            status: Arc::new(ArcSwap::from_pointee(status)),
            was_ours: false,
            took_over: false,
            failed: false,
            ourselves: None,
        }
    }

    /// What is shown; always the newest.
    pub fn status(&self) -> Arc<ArcSwap<ClusterStatus>> {
        Arc::clone(&self.status)
    }

    /// A listener's TLS with the self-made certificate, which comes with the first look. Until then it shows one that
    /// has expired, and is not ready.
    ///
    /// # Errors
    /// A key cannot be made.
    pub fn serving(&mut self, clients: ClientCertificates) -> Result<Tls> {
        let (chain, key) = material::placeholder()?;
        let tls = Tls::from_pem(chain.as_bytes(), key.expose_secret().as_bytes(), clients)?;
        if let Some(keeper) = &mut self.keeper {
            keeper.listen(tls.clone());
        }
        Ok(tls)
    }

    /// Look whenever something changes, and every minute. Never ends.
    pub async fn run(mut self) {
        let mut changes = self.changes();
        let mut timer = tokio::time::interval(self.interval());
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            for _ in 0..MOST_LOOKS {
                match tokio::time::timeout(PATIENCE, self.look()).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => {
                        tracing::warn!("kube-apiserver did not answer in time; it is asked again");
                        break;
                    }
                }
            }
            tokio::select! {
                _ = timer.tick() => {}
                Some(()) = changes.next() => {}
                () = tokio::time::sleep(RETRY), if self.failed => {}
            }
        }
    }

    fn interval(&self) -> Duration {
        let settle = self.settings.certificates.as_ref().map(|c| c.lifetimes.settle_seconds() / 2.0);
        settle.map_or(INTERVAL, |s| Duration::from_secs_f64(s.max(0.1)).min(INTERVAL))
    }

    /// Something changed in the APIService or the Secret. What it is now is read afterwards.
    fn changes(&self) -> impl futures::Stream<Item = ()> + Unpin + use<> {
        let mut streams = vec![changes_of(self.registrar.api(), API_SERVICE)];
        streams.extend(self.keeper.as_ref().map(|k| changes_of(k.api(), &k.settings().secret)));
        select_all(streams)
    }

    /// One look and what follows from it; true when something was written, so that another look is due.
    pub async fn look(&mut self) -> bool {
        let now_seconds = self.clock.now_seconds();
        let reading = self.registrar.read().await;
        let mut done = Done::default();
        if let Some(keeper) = &mut self.keeper {
            done = keeper.look(&self.registrar, &reading, now_seconds).await;
        }
        self.failed = done.failed;
        done.again |= self.take_over(&reading).await;
        self.tell(&reading, now_seconds).await;
        for happening in done.happenings {
            self.announce(&happening).await;
        }
        done.again
    }

    /// Take the APIService from its owner, where the operator said so; once, so that two programs never fight.
    async fn take_over(&mut self, reading: &Reading) -> bool {
        let Reading::Seen(view) = reading else { return false };
        if !self.settings.take_over || self.took_over || !view.owner.is_foreign() {
            // What we own needs no taking; if it is lost later, that is for people to settle.
            self.took_over |= view.owner == Owner::Ours;
            return false;
        }
        let Some(bundle) = self.keeper.as_ref().and_then(Keeper::bundle) else { return false };
        match self.registrar.take_over(view, self.settings.service_port, bundle).await {
            Written::Done => {
                self.took_over = true;
                let from = view.service.as_ref().map_or_else(String::new, |(ns, name)| format!(" from {ns}/{name}"));
                let note = format!("took the APIService {API_SERVICE} over{from}, as --take-over says");
                tracing::warn!("{note}");
                self.publish(Weight::Warning, "ExternalMetricsTakenOver", "TakeOver", note).await;
                true
            }
            Written::Conflict => true,
            Written::Failed(why) => {
                tracing::warn!("the APIService {API_SERVICE} cannot be taken over: {why}");
                false
            }
        }
    }

    /// Show what was found; log and publish what is new.
    async fn tell(&mut self, reading: &Reading, now_seconds: f64) {
        let before = self.status.load_full();
        let api_service = report(reading, &before.api_service, self.was_ours, now_seconds);
        self.was_ours |= api_service.owner == Owner::Ours;
        let StandingSettings { upstream, keda_listens, .. } = &self.settings;
        let status = ClusterStatus {
            mode: Coexistence::of(api_service.owner, upstream.is_some(), *keda_listens),
            api_service,
            certificate: self.keeper.as_ref().map(Keeper::status),
            upstream: upstream.clone(),
        };
        self.status.store(Arc::new(status.clone()));
        let key = |s: &ApiServiceStatus| (s.owner, s.service.clone(), s.warning, s.message.clone());
        if key(&before.api_service) != key(&status.api_service) {
            self.say_owner(&status).await;
        }
        let error = |s: &ClusterStatus| s.certificate.as_ref().and_then(|c| c.error.clone());
        if let Some(why) = error(&status).filter(|why| error(&before).as_ref() != Some(why)) {
            tracing::warn!("certificates: {why}");
            self.publish(Weight::Warning, "CertificateProblem", "Renew", why).await;
        }
    }

    async fn say_owner(&mut self, status: &ClusterStatus) {
        let ApiServiceStatus { owner, service, message, warning, .. } = &status.api_service;
        let (owner_word, mode) = (owner.as_str(), status.mode.as_str());
        let service = service.as_deref().unwrap_or("none");
        if *warning {
            tracing::warn!(owner = owner_word, service, mode, "external metrics API: {message}");
        } else {
            tracing::info!(owner = owner_word, service, mode, "external metrics API: {message}");
        }
        let weight = if *warning { Weight::Warning } else { Weight::Normal };
        let (reason, note) = match owner {
            Owner::Ours if message.is_empty() => {
                ("ExternalMetricsOwned", format!("the APIService {API_SERVICE} points to this Service"))
            }
            Owner::Ours => ("ExternalMetricsOwned", message.clone()),
            owner if owner.is_foreign() => ("ExternalMetricsElsewhere", message.clone()),
            _ => ("ExternalMetricsUnowned", message.clone()),
        };
        self.publish(weight, reason, "Watch", note).await;
    }

    async fn announce(&mut self, happening: &Happening) {
        let (reason, note) = match happening {
            Happening::AuthorityMade => ("AuthorityMade", "made a new certificate authority"),
            Happening::CertificateMade => ("CertificateRenewed", "made a new serving certificate"),
            Happening::AuthoritiesForgotten => ("AuthorityForgotten", "no longer trusts an old certificate authority"),
            Happening::BundlePatched => ("TrustRenewed", "wrote the trusted authorities into the APIService"),
            Happening::CertificateServed => {
                tracing::info!("serves another certificate from now on");
                return;
            }
        };
        tracing::info!("{note}");
        self.publish(Weight::Normal, reason, "Renew", note.to_owned()).await;
    }

    /// An event about our Service.
    async fn publish(&mut self, weight: Weight, reason: &'static str, action: &'static str, note: String) {
        let regarding = self.ourselves().await;
        self.events.publish(Notice { regarding, weight, reason, action, note });
    }

    /// Our Service, with its `uid` where it may be read.
    async fn ourselves(&mut self) -> ObjectReference {
        if let Some(known) = &self.ourselves {
            return known.clone();
        }
        let Identity { namespace, service } = &self.settings.identity;
        let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        if let Ok(found) = api.get(service).await {
            let known = found.object_ref(&());
            self.ourselves = Some(known.clone());
            return known;
        }
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            name: Some(service.clone()),
            namespace: Some(namespace.clone()),
            ..ObjectReference::default()
        }
    }
}

/// Changes of the one object of this name, its first appearance included.
fn changes_of<K>(api: Api<K>, name: &str) -> BoxStream<'static, ()>
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let name = name.to_owned();
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut failing = false;
    watcher(api, only)
        .default_backoff()
        .filter_map(move |event| {
            let changed = match &event {
                Ok(watcher::Event::Apply(object) | watcher::Event::Delete(object)) => object.name_any() == name,
                Ok(watcher::Event::InitDone) => true,
                Ok(_) => false,
                Err(error) => {
                    if !failing {
                        tracing::debug!(%error, name, "an object cannot be watched; it is read every minute");
                    }
                    false
                }
            };
            failing = event.is_err();
            std::future::ready(changed.then_some(()))
        })
        .boxed()
}
