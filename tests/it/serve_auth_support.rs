//! Certificates, a cluster's answers and requests for the tests of authentication and authorization.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Version};
use futures::FutureExt;
use futures::future::BoxFuture;
use poolwright::control::ManualClock;
use poolwright::serve::auth::{
    AccessQuestion, AccessVerdict, Limits, PeerCertificates, ReviewError, Reviews, TokenVerdict, Trust, User,
};
use poolwright::serve::{Access, api_router};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::serve_support::{Answer, Daemon, EM, decision};

/// A metric of the sample fleet.
pub fn values() -> String {
    format!("{EM}/namespaces/inference/poolwright_desired_replicas")
}

/// Who the HPA controller is.
pub const HPA: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";

/// A certificate authority as k3s and cert-manager make them: ECDSA on P-256.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// What a client shows.
pub struct Shown {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A client's certificate, valid from 2026-11-01 to 2026-12-01.
    pub fn client(&self, name: &str, organization: &str) -> Shown {
        self.sign(client_params(name, organization))
    }

    pub fn sign(&self, params: CertificateParams) -> Shown {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Shown { chain: vec![certificate.der().clone()], key: key.into() }
    }
}

pub fn client_params(name: &str, organization: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if !organization.is_empty() {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    (params.not_before, params.not_after) = (date_time_ymd(2026, 11, 1), date_time_ymd(2026, 12, 1));
    params
}

impl Shown {
    pub fn peer(&self) -> Arc<PeerCertificates> {
        Arc::new(PeerCertificates::new(self.chain.clone()).unwrap())
    }
}

/// The data of the cluster's ConfigMap, as kube-apiserver writes it.
pub fn trust_data(front: &str, clients: &str, allowed: &[&str]) -> BTreeMap<String, String> {
    [
        ("client-ca-file", clients.to_owned()),
        ("requestheader-client-ca-file", front.to_owned()),
        ("requestheader-allowed-names", serde_json::to_string(allowed).unwrap()),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#.into()),
        ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#.into()),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#.into()),
        ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#.into()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

type TokenAnswer = Box<dyn Fn(&str) -> Result<TokenVerdict, ReviewError> + Send>;
type AccessAnswer = Box<dyn Fn(&AccessQuestion) -> Result<AccessVerdict, ReviewError> + Send>;

/// A cluster that answers reviews as a test says, and remembers what it was asked.
pub struct FakeReviews {
    pub tokens: Mutex<Vec<String>>,
    pub questions: Mutex<Vec<AccessQuestion>>,
    token_answer: Mutex<TokenAnswer>,
    access_answer: Mutex<AccessAnswer>,
    held: watch::Sender<bool>,
}

impl FakeReviews {
    pub fn answer_tokens(&self, answer: impl Fn(&str) -> Result<TokenVerdict, ReviewError> + Send + 'static) {
        *self.token_answer.lock().unwrap() = Box::new(answer);
    }

    pub fn answer_access(
        &self,
        answer: impl Fn(&AccessQuestion) -> Result<AccessVerdict, ReviewError> + Send + 'static,
    ) {
        *self.access_answer.lock().unwrap() = Box::new(answer);
    }

    /// Whether questions wait for their answer.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    async fn until_released(&self) {
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }

    pub fn asked(&self) -> usize {
        self.questions.lock().unwrap().len()
    }

    /// The last question.
    pub fn last(&self) -> AccessQuestion {
        self.questions.lock().unwrap().last().expect("a question was asked").clone()
    }
}

pub fn allowed(allowed: bool) -> Result<AccessVerdict, ReviewError> {
    Ok(AccessVerdict { allowed, reason: String::new() })
}

impl Reviews for FakeReviews {
    fn token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<TokenVerdict, ReviewError>> {
        async move {
            self.tokens.lock().unwrap().push(token.to_owned());
            self.until_released().await;
            (self.token_answer.lock().unwrap())(token)
        }
        .boxed()
    }

    fn access<'a>(&'a self, question: &'a AccessQuestion) -> BoxFuture<'a, Result<AccessVerdict, ReviewError>> {
        async move {
            self.questions.lock().unwrap().push(question.clone());
            self.until_released().await;
            (self.access_answer.lock().unwrap())(question)
        }
        .boxed()
    }
}

/// A protected API over the sample fleet. Everybody but the anonymous is allowed, tokens are refused.
pub struct Api {
    pub daemon: Daemon,
    pub front: Ca,
    pub clients: Ca,
    pub trust: Arc<ArcSwapOption<Trust>>,
    pub reviews: Arc<FakeReviews>,
    pub access: Access,
    pub router: Router,
}

impl Api {
    pub fn new() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        let daemon = Daemon::new(decision());
        let (front, clients) = (Ca::new("front-proxy-ca"), Ca::new("client-ca"));
        let data = trust_data(&front.pem(), &clients.pem(), &["front-proxy-client"]);
        let trust = Arc::new(ArcSwapOption::from_pointee(Trust::from_data(&data).unwrap()));
        let reviews = Arc::new(FakeReviews {
            tokens: Mutex::default(),
            questions: Mutex::default(),
            token_answer: Mutex::new(Box::new(|_| Ok(TokenVerdict::Refused))),
            access_answer: Mutex::new(Box::new(|question| allowed(!question.user.is_anonymous()))),
            held: watch::Sender::new(false),
        });
        let access = Access::delegated(trust.clone(), reviews.clone(), daemon.clock.clone(), limits);
        let router = api_router(daemon.state.clone(), &access);
        Self { daemon, front, clients, trust, reviews, access, router }
    }

    pub fn clock(&self) -> &ManualClock {
        &self.daemon.clock
    }

    /// Trust these from now on.
    pub fn trust(&self, data: &BTreeMap<String, String>) {
        self.trust.store(Some(Arc::new(Trust::from_data(data).unwrap())));
    }

    /// The front proxy speaks for this user.
    pub fn proxied(&self, path: &str, user: &str, groups: &[&str]) -> Ask {
        let ask = Ask::get(path).with(&self.front.client("front-proxy-client", "")).header("x-remote-user", user);
        groups.iter().fold(ask, |ask, group| ask.header("x-remote-group", group))
    }

    pub async fn send(&self, ask: Ask) -> Answer {
        ask.send(&self.router).await
    }
}

/// One request.
#[derive(Clone)]
pub struct Ask {
    method: Method,
    path: String,
    peer: Option<Arc<PeerCertificates>>,
    headers: Vec<(String, String)>,
}

impl Ask {
    pub fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), peer: None, headers: vec![] }
    }

    pub fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// On a connection of whoever shows this.
    pub fn with(self, shown: &Shown) -> Self {
        Self { peer: Some(shown.peer()), ..self }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub async fn send(self, router: &Router) -> Answer {
        let mut request = Request::builder().method(self.method).uri(self.path).version(Version::HTTP_2);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut request = request.body(Body::empty()).expect("test paths are valid URIs");
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        let response = router.clone().oneshot(request).await.expect("a router never fails");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("bodies here are in memory");
        Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.into()).expect("text") }
    }
}

/// The identity of a review.
pub fn user(name: &str, groups: &[&str]) -> User {
    User { name: name.into(), groups: groups.iter().map(|&g| g.to_owned()).collect(), ..User::default() }
}
