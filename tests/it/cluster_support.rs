//! Replicas of the daemon in a fake cluster, looked at step by step at a time that tests set.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::StatusCode;
use k8s_openapi::ByteString;
use poolwright::cluster::{API_SERVICE, CertificateSettings, Events, Identity, Lifetimes, Standing, StandingSettings};
use poolwright::control::{Clock, ManualClock, SystemClock};
use poolwright::serve::{ClientCertificates, ClusterStatus, Tls};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::{Value, json};

use crate::fake_kube::FakeKube;

pub const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
pub const SECRETS: &str = "/api/v1/namespaces/poolwright-system/secrets";
pub const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/poolwright-system/events";
pub const SECRET: &str = "poolwright-tls";
/// The name that kube-apiserver verifies.
pub const NAME: &str = "poolwright.poolwright-system.svc";
pub const HOUR: f64 = 3600.0;

pub fn identity() -> Identity {
    Identity { namespace: "poolwright-system".into(), service: "poolwright".into() }
}

/// Certificates of a day; renewed after 16 hours, their authority after 64.
pub fn certificates() -> CertificateSettings {
    let lifetimes = Lifetimes { leaf_seconds: 24.0 * HOUR };
    CertificateSettings { secret: SECRET.into(), names: identity().dns_names(), lifetimes }
}

pub fn settings() -> StandingSettings {
    StandingSettings {
        identity: identity(),
        certificates: Some(certificates()),
        service_port: 443,
        take_over: false,
        upstream: None,
        keda_listens: false,
    }
}

/// Register the APIService for this Service.
pub fn register(fake: &FakeKube, namespace: &str, service: &str) {
    let group = json!({"group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100,
        "versionPriority": 100, "service": {"namespace": namespace, "name": service, "port": 443}});
    fake.put(
        API_SERVICES,
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": API_SERVICE},
            "spec": group}),
    );
}

pub fn api_service(fake: &FakeKube) -> Value {
    fake.get(API_SERVICES, API_SERVICE).expect("an APIService")
}

pub fn bundle(fake: &FakeKube) -> Vec<CertificateDer<'static>> {
    let text = api_service(fake)["spec"]["caBundle"].clone();
    let bytes: ByteString = serde_json::from_value(text).unwrap_or_default();
    CertificateDer::pem_slice_iter(&bytes.0).collect::<Result<_, _>>().expect("PEM")
}

/// Writes to anything but events.
pub fn writes(fake: &FakeKube) -> Vec<String> {
    let written = |method: &str| method != "GET";
    let calls = fake.calls("/").into_iter().filter(|c| written(&c.method) && !c.path.starts_with("/apis/events"));
    calls.map(|c| format!("{} {}", c.method, c.path.split('?').next().unwrap_or_default())).collect()
}

/// One replica.
pub struct Replica {
    pub standing: Standing,
    pub status: Arc<ArcSwap<ClusterStatus>>,
    pub tls: Tls,
}

impl Replica {
    pub fn new(fake: &FakeKube, settings: StandingSettings, clock: &Arc<ManualClock>) -> Self {
        Self::with_events(fake, settings, clock, Events::none())
    }

    pub fn with_events(fake: &FakeKube, settings: StandingSettings, clock: &Arc<ManualClock>, events: Events) -> Self {
        let mut standing = Standing::new(fake.client(), settings, clock.clone(), events);
        let tls = standing.serving(ClientCertificates::Ignored).unwrap();
        Self { status: standing.status(), standing, tls }
    }

    /// Look until nothing is left to do.
    pub async fn settle(&mut self) {
        for _ in 0..10 {
            if !self.standing.look().await {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    pub fn status(&self) -> Arc<ClusterStatus> {
        self.status.load_full()
    }

    /// What a client of this listener is shown.
    pub fn shown(&self) -> CertificateDer<'static> {
        let chain = self.tls.chain_pem();
        CertificateDer::pem_slice_iter(&chain).next().unwrap().unwrap()
    }
}

/// Whether a strict client that trusts this bundle accepts the certificate for our Service at this time.
pub fn verifies(bundle: &[CertificateDer<'static>], leaf: &CertificateDer<'static>, now_seconds: f64) -> bool {
    let mut roots = RootCertStore::empty();
    for authority in bundle {
        roots.add(authority.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() else {
        return false;
    };
    let now = UnixTime::since_unix_epoch(Duration::from_secs_f64(now_seconds));
    verifier.verify_server_cert(leaf, &[], &ServerName::try_from(NAME).unwrap(), &[], now).is_ok()
}

/// A time that is now, so that it is in the life of everything made for it.
pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(SystemClock.now_seconds().floor()))
}

pub fn forbid(fake: &FakeKube, prefix: &str) {
    fake.fail(prefix, Some(StatusCode::FORBIDDEN));
}
