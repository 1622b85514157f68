//! What the daemon says to and asks of kube-apiserver about itself: the connection, its APIService, its
//! serving certificates, the reviews of tokens and rights, events.
//!
//! This room is edge: it holds the Kubernetes client and knows no pool's number. What the fleet's objects say
//! (scale targets, pods, HPAs) is observation and lives in [`observe`](crate::observe); what is answered to
//! callers lives in [`serve`](crate::serve), which knows this room only through the traits it defines itself.

mod authority;
mod certificates;
mod client;
pub mod doctor;
mod events;
mod identity;
pub mod manifests;
mod material;
mod notices;
mod registration;
mod reviews;
mod standing;
mod trust;
mod written;

pub use authority::Lifetimes;
pub use certificates::CertificateSettings;
pub use client::{Connection, connect};
pub use events::{Events, Notice, Weight};
pub use identity::Identity;
pub use notices::Notices;
pub use registration::API_SERVICE;
pub use reviews::{ClusterReviews, Patience};
pub use standing::{Standing, StandingSettings};
pub use trust::ClusterTrust;
