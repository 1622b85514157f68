//! The daemon's standing in its cluster: arguments, and the tasks that keep it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use arc_swap::ArcSwap;
use clap::Args;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::cluster::{CertificateSettings, Events, Identity, Lifetimes, Notices, Standing, StandingSettings};
use crate::control::{Decision, Published, SystemClock};
use crate::policy::units::Duration;
use crate::serve::{ClientCertificates, ClusterStatus, Tls, Upstream, UpstreamSettings};

/// Where a pod finds its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Time between two looks for a new decision.
const LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// Certificates, the APIService and the metrics server behind this one.
#[derive(Debug, Args)]
#[command(next_help_heading = "Aggregated API")]
pub struct ClusterArgs {
    /// Make the serving certificate and its authority in this Secret, share it among replicas, renew it, and write the
    /// authority into our APIService.
    #[arg(long, value_name = "NAME", requires = "api_listen", conflicts_with = "api_tls_cert")]
    api_tls_secret: Option<String>,
    /// Life of a self-made certificate, renewed after two thirds; its authority lives four times as long. At least 10s.
    #[arg(long, value_name = "DURATION", default_value = "2160h")]
    api_tls_lifetime: Duration,
    /// Further host name or address of self-made certificates. The Service's names are always there.
    #[arg(long = "api-tls-name", value_name = "NAME")]
    api_tls_names: Vec<String>,
    /// Port of poolwright's Service.
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    api_service_port: u16,
    /// Take the APIService of external metrics from another metrics server, once. Its users lose it, unless
    /// --upstream passes their requests on.
    #[arg(long, requires = "api_tls_secret")]
    take_over: bool,
    /// Pass external metrics that are not ours on to this metrics server, with poolwright's own rights there.
    #[arg(long, value_name = "URL", requires = "api_listen", conflicts_with = "api_insecure_no_authentication")]
    upstream: Option<String>,
    /// PEM file of the authorities that the upstream's certificate is checked with. [default: the system's]
    #[arg(long, value_name = "FILE", requires = "upstream")]
    upstream_ca: Option<PathBuf>,
    /// File with the token for the upstream; read for every request. [default: the pod's service account]
    #[arg(long, value_name = "FILE", requires = "upstream")]
    upstream_token: Option<PathBuf>,
}

/// Longest life of a certificate; its authority's, four times as long, must be a date that X.509 can say.
const LONGEST_LIFE_SECONDS: f64 = 10.0 * 365.0 * 86_400.0;

/// The running tasks; they end when this is dropped.
#[derive(Debug)]
pub struct ClusterTasks {
    pub status: Arc<ArcSwap<ClusterStatus>>,
    /// For whoever has something to say about an object, e.g. that a pool's HPA will not follow.
    pub events: Events,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for ClusterTasks {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl ClusterTasks {
    /// The tasks; none of them ends by itself.
    pub fn handles(&mut self) -> impl Iterator<Item = &mut JoinHandle<()>> {
        self.tasks.iter_mut()
    }

    /// Say under the scale targets what keeps them from following, with every new decision.
    pub fn tell_targets(&mut self, published: Arc<ArcSwap<Published>>) {
        let events = self.events.clone();
        self.tasks.push(tokio::spawn(async move {
            let mut timer = tokio::time::interval(LOOK_INTERVAL);
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut notices, mut seen) = (Notices::default(), None::<Arc<Decision>>);
            loop {
                timer.tick().await;
                let Some(decision) = published.load().decision.clone() else { continue };
                if seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, &decision)) {
                    notices.of(&decision).into_iter().for_each(|notice| events.publish(notice));
                    seen = Some(decision);
                }
            }
        }));
    }
}

impl ClusterArgs {
    /// Whether something was asked for that only a cluster can give.
    pub fn needs_cluster(&self) -> bool {
        self.api_tls_secret.is_some()
    }

    /// Start to watch the daemon's standing. One TLS per entry of `listeners`, all with the self-made certificate;
    /// none without `--api-tls-secret`.
    ///
    /// # Errors
    /// A key cannot be made.
    pub fn start(
        &self,
        client: kube::Client,
        identity: Identity,
        keda_listens: bool,
        listeners: Vec<ClientCertificates>,
    ) -> Result<(ClusterTasks, Vec<Tls>)> {
        let clock = Arc::new(SystemClock);
        let (events, writer) = Events::new(client.clone(), clock.clone());
        let mut names = identity.dns_names();
        names.extend(self.api_tls_names.iter().cloned());
        let lifetimes = Lifetimes { leaf_seconds: self.api_tls_lifetime.seconds().clamp(10.0, LONGEST_LIFE_SECONDS) };
        let certificates = self.api_tls_secret.clone().map(|secret| CertificateSettings { secret, names, lifetimes });
        let settings = StandingSettings {
            identity,
            certificates,
            service_port: self.api_service_port,
            take_over: self.take_over,
            upstream: self.upstream.clone(),
            keda_listens,
        };
        let mut standing = Standing::new(client, settings, clock, events.clone());
        let listeners = if self.api_tls_secret.is_some() { listeners } else { Vec::new() };
        let tls = listeners.into_iter().map(|clients| standing.serving(clients)).collect::<Result<_>>()?;
        let status = standing.status();
        let tasks = vec![tokio::spawn(writer), tokio::spawn(standing.run())];
        Ok((ClusterTasks { status, events, tasks }, tls))
    }

    /// The metrics server behind this one.
    ///
    /// # Errors
    /// The address or a file cannot be used, or the address is our own.
    pub fn upstream(&self, identity: &Identity) -> Result<Option<Upstream>> {
        let Some(url) = self.upstream.clone() else { return Ok(None) };
        let of_pod = || Some(Path::new(SERVICE_ACCOUNT).join("token")).filter(|file| file.exists());
        let settings = UpstreamSettings {
            url,
            ca_file: self.upstream_ca.clone(),
            token_file: self.upstream_token.clone().or_else(of_pod),
            own_names: identity.dns_names(),
        };
        Upstream::new(settings).map(Some)
    }
}
