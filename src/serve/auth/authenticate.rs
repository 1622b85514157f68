//! Who is it? Front proxy, then client certificate, then bearer token, then nobody.

use std::sync::Arc;

use axum::http::HeaderMap;
use futures::FutureExt;
use rustls::crypto::ring;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::cache::{Cache, Key};
use super::headers;
use super::peer::PeerCertificates;
use super::reviews::{ReviewError, Reviews, TokenVerdict};
use super::trust::{Trust, TrustSource};
use super::user::User;
use crate::control::Clock;

/// How long the cluster's answer about a token is used.
const TOKEN_SECONDS: f64 = 10.0;
/// Tokens remembered, accepted or refused.
const MOST_TOKENS: usize = 8192;

/// How an identity was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    FrontProxy,
    Certificate,
    Token,
    /// Nothing was shown.
    None,
}

/// Judges credentials.
pub(super) struct Authenticator {
    trust: Arc<dyn TrustSource>,
    reviews: Arc<dyn Reviews>,
    clock: Arc<dyn Clock>,
    tokens: Cache<TokenVerdict>,
    /// Known to this process only: what is remembered of a token does not tell the token.
    token_key: [u8; 32],
}

impl Authenticator {
    pub fn new(trust: Arc<dyn TrustSource>, reviews: Arc<dyn Reviews>, clock: Arc<dyn Clock>) -> Self {
        let tokens = Cache::new(TOKEN_SECONDS, MOST_TOKENS, Arc::clone(&clock));
        let mut token_key = [0; 32];
        ring::default_provider()
            .secure_random
            .fill(&mut token_key)
            .expect("a system without randomness has no TLS, so nobody got here");
        Self { trust, reviews, clock, tokens, token_key }
    }

    /// The trust of this moment. One request takes it once.
    pub fn trust(&self) -> Option<Arc<Trust>> {
        self.trust.current()
    }

    /// Who sent these. The first proof that holds counts; one that fails does not stop the next. The error says
    /// why each failed, for the log.
    pub async fn who(
        &self,
        trust: Option<&Arc<Trust>>,
        peer: Option<&PeerCertificates>,
        headers: &HeaderMap,
    ) -> Result<(User, Proof), String> {
        let mut failures = Vec::new();
        match (peer, trust) {
            (None, _) => {}
            (Some(_), None) => failures.push("it is not known yet which certificates the cluster trusts".to_owned()),
            (Some(peer), Some(trust)) => match self.by_certificate(trust, peer, headers) {
                Ok(Some((user, proof))) => return Ok((user.authenticated(), proof)),
                Ok(None) => {}
                Err(why) => failures.extend(why),
            },
        }
        if let Some(token) = headers::bearer(headers) {
            match self.by_token(token).await {
                Ok(TokenVerdict::Accepted(user)) => return Ok((user.authenticated(), Proof::Token)),
                Ok(TokenVerdict::Refused) => failures.push("the token is refused".to_owned()),
                Err(error) => failures.push(format!("the token cannot be reviewed: {error}")),
            }
        }
        if failures.is_empty() { Ok((User::anonymous(), Proof::None)) } else { Err(failures.join("; ")) }
    }

    /// The front proxy's word for somebody, else the certificate's own user. The error names both failures only
    /// when neither holds.
    fn by_certificate(
        &self,
        trust: &Arc<Trust>,
        peer: &PeerCertificates,
        headers: &HeaderMap,
    ) -> Result<Option<(User, Proof)>, Vec<String>> {
        let judgement = peer.judge(trust, self.clock.now_seconds());
        let mut failures = Vec::new();
        match &judgement.front_proxy {
            None => {}
            Some(Err(why)) => failures.push(format!("front proxy: {why}")),
            Some(Ok(())) => match headers::user(&trust.headers, headers) {
                Ok(Some(user)) => return Ok(Some((user, Proof::FrontProxy))),
                Ok(None) => {}
                Err(why) => failures.push(format!("front proxy: {why}")),
            },
        }
        match &judgement.client {
            None => {}
            Some(Ok(user)) => return Ok(Some((user.clone(), Proof::Certificate))),
            Some(Err(why)) => failures.push(format!("client certificate: {why}")),
        }
        if failures.is_empty() { Ok(None) } else { Err(failures) }
    }

    async fn by_token(&self, token: &str) -> Result<TokenVerdict, ReviewError> {
        let mut hash = Sha256::new();
        hash.update(self.token_key);
        hash.update(token.as_bytes());
        let key: Key = hash.finalize().into();
        let ask = || {
            let (reviews, token) = (Arc::clone(&self.reviews), SecretString::from(token));
            async move { reviews.token(token.expose_secret()).await }.boxed()
        };
        self.tokens.get(key, ask).await
    }
}
