//! The checks as a layer around a router.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode, Uri, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::authenticate::{Authenticator, Proof};
use super::authorize::Authorizer;
use super::counters::{self, AccessReport, Counters};
use super::headers;
use super::peer::PeerCertificates;
use super::question::{AccessQuestion, Action};
use super::refusal;
use super::reviews::Reviews;
use super::trust::TrustSource;
use super::user::User;
use crate::control::Clock;
use crate::serve::status::{Layout, Status, text_response};

/// Answered to everybody: exactly these, nothing below them.
const ALWAYS_ALLOWED: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Bounds on what the API does at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests worked on at once; more get 429. Cluster administrators are not counted.
    pub in_flight: usize,
    /// Time for one request, checks included.
    pub request: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight: 400, request: Duration::from_secs(60) }
    }
}

/// Who may ask: everybody, or whom the cluster admits.
#[derive(Clone)]
pub struct Access(Option<Arc<Delegated>>);

struct Delegated {
    authenticator: Authenticator,
    authorizer: Authorizer,
    trust: Arc<dyn TrustSource>,
    limits: Limits,
    places: Semaphore,
    counters: Arc<Counters>,
}

/// Extension of a response after which the connection should end: its caller is not known, and a connection
/// of HTTP/2 lets one caller open and drop requests without end.
#[derive(Clone, Copy, Debug)]
pub(in crate::serve) struct CloseConnection;

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Access(delegated)" } else { "Access(open)" })
    }
}

impl Access {
    /// No checks: for a loopback or a laboratory.
    pub fn open() -> Self {
        Self(None)
    }

    /// The cluster says who is who and who may do what.
    pub fn delegated(
        trust: Arc<dyn TrustSource>,
        reviews: Arc<dyn Reviews>,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> Self {
        Self(Some(Arc::new(Delegated {
            authenticator: Authenticator::new(Arc::clone(&trust), Arc::clone(&reviews), Arc::clone(&clock)),
            authorizer: Authorizer::new(reviews, clock),
            trust,
            limits,
            places: Semaphore::new(limits.in_flight),
            counters: Arc::default(),
        })))
    }

    /// What to show on `/metrics`; `None` without checks.
    pub fn report(&self) -> Option<AccessReport> {
        let delegated = self.0.clone()?;
        let (counters, trust) = (Arc::clone(&delegated.counters), Arc::clone(&delegated.trust));
        let in_flight = move || delegated.limits.in_flight.saturating_sub(delegated.places.available_permits());
        Some(AccessReport { counters, trust, in_flight: Arc::new(in_flight) })
    }

    /// Put the checks before every route of this router.
    pub(in crate::serve) fn protect(&self, router: Router) -> Router {
        match &self.0 {
            None => router,
            Some(delegated) => router.layer(from_fn_with_state(Arc::clone(delegated), guard)),
        }
    }
}

async fn guard(State(delegated): State<Arc<Delegated>>, request: Request, next: Next) -> Response {
    let http2 = request.version() == Version::HTTP_2;
    if ALWAYS_ALLOWED.contains(&request.uri().path()) {
        return closing(next.run(request).await, http2);
    }
    let layout = Layout::wanted(request.uri().query().unwrap_or_default(), request.headers());
    let answer = tokio::time::timeout(delegated.limits.request, delegated.answer(request, next, layout)).await;
    answer.unwrap_or_else(|_| {
        delegated.counters.timed_out();
        Status::timeout().into_response(layout)
    })
}

fn action(request: &Request) -> Option<Action> {
    let uri = request.uri();
    Action::of(request.method(), uri.path(), uri.query().unwrap_or_default())
}

/// Ask the server to end the connection after this response.
fn closing(mut response: Response, wanted: bool) -> Response {
    if wanted {
        response.extensions_mut().insert(CloseConnection);
    }
    response
}

impl Delegated {
    async fn answer(&self, mut request: Request, next: Next, layout: Layout) -> Response {
        let http2 = request.version() == Version::HTTP_2;
        let (user, proof) = match self.identify(&mut request).await {
            Ok(identity) => identity,
            Err(why) => {
                tracing::warn!(why, "a request's credentials are refused");
                return closing(Status::unauthorized().into_response(layout), http2);
            }
        };
        let anonymous = user.is_anonymous();
        if anonymous && proof != Proof::None {
            tracing::debug!(?proof, "a request is anonymous by the word of the cluster");
        }
        let response = match self.place(&user) {
            None => {
                self.counters.throttled();
                let mut busy =
                    text_response(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
                busy.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                busy
            }
            Some(_place) => match self.allow(user, action(&request), request.uri(), layout).await {
                Err(refusal) => *refusal,
                Ok(user) => {
                    request.extensions_mut().insert(user);
                    next.run(request).await
                }
            },
        };
        closing(response, http2 && anonymous)
    }

    /// Who it is; from here on the request holds nothing that proves or names anybody.
    async fn identify(&self, request: &mut Request) -> Result<(User, Proof), String> {
        let trust = self.authenticator.trust();
        let peer = request.extensions().get::<Arc<PeerCertificates>>().cloned();
        let identity = self.authenticator.who(trust.as_ref(), peer.as_deref(), request.headers()).await;
        headers::clear(trust.as_deref().map(|trust| &trust.headers), request.headers_mut());
        match &identity {
            Ok((_, proof)) => self.counters.identified(*proof),
            Err(_) => self.counters.refused(),
        }
        identity
    }

    /// A place among the requests in flight; `None` when there is none left.
    fn place(&self, user: &User) -> Option<Option<SemaphorePermit<'_>>> {
        if user.is_master() { Some(None) } else { self.places.try_acquire().ok().map(Some) }
    }

    /// The user, if what they ask is allowed; else the answer that says why not.
    async fn allow(
        &self,
        user: User,
        action: Option<Action>,
        uri: &Uri,
        layout: Layout,
    ) -> Result<User, Box<Response>> {
        let Some(action) = action else {
            return Err(Box::new(text_response(StatusCode::BAD_REQUEST, "400 malformed path\n")));
        };
        let question = AccessQuestion { user, action };
        match self.authorizer.may(question.clone()).await {
            Ok(verdict) if verdict.allowed => {
                self.counters.decided(counters::Access::Allowed);
                Ok(question.user)
            }
            Ok(verdict) => {
                self.counters.decided(counters::Access::Forbidden);
                tracing::debug!(user = ?question.user.name, action = ?question.action, "forbidden");
                Err(Box::new(refusal::forbidden(&question, &verdict.reason, layout)))
            }
            Err(error) => {
                self.counters.decided(counters::Access::Failed);
                tracing::warn!(%error, "the cluster does not say whether a request is allowed");
                Err(Box::new(refusal::no_verdict(uri, &error)))
            }
        }
    }
}
