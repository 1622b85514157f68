//! The cluster's word on tokens and rights: TokenReview and SubjectAccessReview.
//!
//! The answers are read here and not by the client's own parser, which would log an answer that it cannot read:
//! the answer to a token review repeats the token.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use axum::body::to_bytes;
use axum::http::{Request, StatusCode};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::serve::auth::{
    AccessQuestion, AccessVerdict, Action, ResourceAction, ReviewError, Reviews, TokenVerdict, User,
};

const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Questions of one kind under way at once; more wait, within their time.
const MOST_AT_ONCE: usize = 200;

/// Largest answer that is read.
const MOST_BYTES: usize = 4 << 20;

/// How long and how often a question is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// Time for an answer, all tries included.
    pub limit: Duration,
    pub tries: u32,
    /// Pause before the second try; each later one is half as long again.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { limit: Duration::from_secs(10), tries: 5, pause: Duration::from_millis(500) }
    }
}

/// Asks kube-apiserver. Remembers nothing.
pub struct ClusterReviews {
    client: Client,
    patience: Patience,
    /// Of the two kinds of questions: whoever sends many tokens must not keep HPA's rights from being asked for.
    token_places: Semaphore,
    access_places: Semaphore,
}

/// Why one try failed.
struct Failure {
    why: String,
    may_pass: bool,
}

impl ClusterReviews {
    pub fn new(client: Client, patience: Patience) -> Self {
        let places = || Semaphore::new(MOST_AT_ONCE);
        Self { client, patience, token_places: places(), access_places: places() }
    }

    async fn ask<T: Serialize + DeserializeOwned>(&self, what: &str, path: &str, review: &T) -> Result<T, ReviewError> {
        let body = serde_json::to_vec(review).map_err(|_| ReviewError(format!("{what} cannot be written")))?;
        let asking = async {
            let places = if path == TOKEN_REVIEWS { &self.token_places } else { &self.access_places };
            let _place = places.acquire().await;
            self.try_often(path, &body).await
        };
        let answer = tokio::time::timeout(self.patience.limit, asking).await;
        answer
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", self.patience.limit)))
            .map_err(|why| ReviewError(format!("{what} failed: {why}")))
    }

    async fn try_often<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, String> {
        let mut pause = self.patience.pause;
        for attempt in 1.. {
            match self.try_once(path, body).await {
                Ok(answer) => return Ok(answer),
                Err(failure) if !failure.may_pass || attempt >= self.patience.tries => return Err(failure.why),
                Err(_) => tokio::time::sleep(pause.mul_f64(jitter())).await,
            }
            pause = pause.mul_f64(1.5);
        }
        Err("it was not tried".to_owned())
    }

    async fn try_once<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, Failure> {
        let fail = |why: &str| Failure { why: why.to_owned(), may_pass: false };
        let request = Request::post(path)
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(kube::client::Body::from(body.to_vec()))
            .map_err(|_| fail("the request cannot be written"))?;
        let sent = self.client.send(request).await;
        let response = sent.map_err(|_| Failure { why: "kube-apiserver cannot be reached".into(), may_pass: true })?;
        let status = response.status();
        if !status.is_success() {
            let may_pass = matches!(
                status,
                StatusCode::INTERNAL_SERVER_ERROR
                    | StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            );
            return Err(Failure { why: format!("kube-apiserver answers {status}"), may_pass });
        }
        let bytes = to_bytes(axum::body::Body::new(response.into_body()), MOST_BYTES);
        let bytes = bytes.await.map_err(|_| Failure { why: "the answer broke off".into(), may_pass: true })?;
        serde_json::from_slice(&bytes).map_err(|_| fail("the answer cannot be read"))
    }
}

/// 1 to 1.2, so that those who failed together do not come back together.
fn jitter() -> f64 {
    let random = RandomState::new().hash_one(()) % 1000;
    1.0 + random as f64 / 5000.0
}

impl Reviews for ClusterReviews {
    fn token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<TokenVerdict, ReviewError>> {
        async move {
            let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: None };
            let review = TokenReview { spec, ..TokenReview::default() };
            let answer = self.ask("the token review", TOKEN_REVIEWS, &review).await?;
            Ok(token_verdict(answer.status.unwrap_or_default()))
        }
        .boxed()
    }

    fn access<'a>(&'a self, question: &'a AccessQuestion) -> BoxFuture<'a, Result<AccessVerdict, ReviewError>> {
        async move {
            let review = SubjectAccessReview { spec: spec(question), ..SubjectAccessReview::default() };
            let answer = self.ask("the subject access review", ACCESS_REVIEWS, &review).await?;
            Ok(access_verdict(answer.status.unwrap_or_default()))
        }
        .boxed()
    }
}

fn token_verdict(status: TokenReviewStatus) -> TokenVerdict {
    match (status.authenticated, status.user) {
        (Some(true), Some(UserInfo { username: Some(name), uid, groups, extra })) if !name.is_empty() => {
            TokenVerdict::Accepted(User {
                name,
                uid: uid.unwrap_or_default(),
                groups: groups.unwrap_or_default(),
                extra: extra.unwrap_or_default(),
            })
        }
        _ => TokenVerdict::Refused,
    }
}

fn access_verdict(status: SubjectAccessReviewStatus) -> AccessVerdict {
    let allowed = status.allowed && status.denied != Some(true);
    AccessVerdict { allowed, reason: status.reason.unwrap_or_default() }
}

fn spec(question: &AccessQuestion) -> SubjectAccessReviewSpec {
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let AccessQuestion { user, action } = question;
    let (resource, path) = match action {
        Action::Resource(ResourceAction { verb, group, version, namespace, resource, subresource, name }) => {
            let attributes = ResourceAttributes {
                verb: some(verb),
                group: some(group),
                version: some(version),
                namespace: some(namespace),
                resource: some(resource),
                subresource: some(subresource),
                name: some(name),
                ..ResourceAttributes::default()
            };
            (Some(attributes), None)
        }
        Action::Path { verb, path } => (None, Some(NonResourceAttributes { verb: some(verb), path: some(path) })),
    };
    SubjectAccessReviewSpec {
        user: some(&user.name),
        uid: some(&user.uid),
        groups: Some(user.groups.clone()),
        extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
        resource_attributes: resource,
        non_resource_attributes: path,
    }
}
