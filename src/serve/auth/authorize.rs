//! May they? What is always allowed, what was answered a moment ago, else a question to the cluster.

use std::sync::Arc;

use futures::FutureExt;
use sha2::{Digest, Sha256};

use super::cache::{Cache, Key};
use super::question::AccessQuestion;
use super::reviews::{AccessVerdict, ReviewError, Reviews};
use crate::control::Clock;

/// How long the cluster's answer, yes or no, is used.
const ACCESS_SECONDS: f64 = 10.0;
/// Answers remembered. They all keep for the same short time, so the oldest goes first.
const MOST_ANSWERS: usize = 8192;

/// Decides about actions.
pub(super) struct Authorizer {
    reviews: Arc<dyn Reviews>,
    answers: Cache<AccessVerdict>,
}

impl Authorizer {
    pub fn new(reviews: Arc<dyn Reviews>, clock: Arc<dyn Clock>) -> Self {
        Self { reviews, answers: Cache::new(ACCESS_SECONDS, MOST_ANSWERS, clock) }
    }

    /// Whether this is allowed.
    ///
    /// # Errors
    /// The cluster gave no answer.
    pub async fn may(&self, question: AccessQuestion) -> Result<AccessVerdict, ReviewError> {
        let ask = |question: AccessQuestion| {
            let reviews = Arc::clone(&self.reviews);
            async move { reviews.access(&question).await }.boxed()
        };
        if question.user.is_master() {
            return Ok(AccessVerdict { allowed: true, reason: String::new() });
        }
        match key(&question) {
            Some(key) if question.may_be_remembered() => self.answers.get(key, || ask(question)).await,
            _ => ask(question).await,
        }
    }
}

/// Plain data does not fail to serialise; if it did, the question would be asked every time.
fn key(question: &AccessQuestion) -> Option<Key> {
    serde_json::to_vec(question).ok().map(|text| Sha256::digest(text).into())
}
