//! Who may ask the aggregated API: authentication, authorization and the limits on requests, as Kubernetes'
//! own servers judge them.
//!
//! This module owns the judgement of each request and what is remembered of the cluster's answers. What the
//! cluster trusts and what it says about a token or a right comes through [`TrustSource`] and [`Reviews`]; the
//! time comes from a clock. It may not know how a cluster is asked.
//!
//! Order of checks: health passes; then who (401), then too many at once (429), then may they (403, or 500 when
//! the cluster does not say), then the request itself; all within a time limit (504).

mod authenticate;
mod authorize;
mod cache;
mod counters;
mod headers;
mod layer;
mod peer;
mod question;
mod refusal;
mod reviews;
mod trust;
mod user;

pub use counters::AccessReport;
pub use layer::{Access, Limits};
pub use peer::PeerCertificates;
pub use question::{AccessQuestion, Action, ResourceAction};
pub use reviews::{AccessVerdict, ReviewError, Reviews, TokenVerdict};
pub use trust::{Trust, TrustError, TrustSource};
pub use user::User;

pub(super) use counters::AccessNumbers;
pub(super) use layer::CloseConnection;
