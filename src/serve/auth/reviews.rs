//! What is asked of the cluster about a caller, and what it may answer.

use futures::future::BoxFuture;

use super::question::AccessQuestion;
use super::user::User;

/// The cluster's answer about a bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenVerdict {
    Accepted(User),
    Refused,
}

/// The cluster's answer about an action. What is not allowed is forbidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessVerdict {
    pub allowed: bool,
    /// For the caller; may be empty.
    pub reason: String,
}

/// There is no answer. The text goes to the caller and to the log: it holds no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReviewError(pub String);

/// Reviews at the cluster. Each call is one question to it: what is remembered is remembered here.
pub trait Reviews: Send + Sync + 'static {
    /// Whose token is this?
    fn token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<TokenVerdict, ReviewError>>;

    /// May this user do this?
    fn access<'a>(&'a self, question: &'a AccessQuestion) -> BoxFuture<'a, Result<AccessVerdict, ReviewError>>;
}
