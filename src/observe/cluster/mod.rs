//! The cluster's own state: replicas and pods of the scale targets, and who scales them.
//!
//! Owns reading the Kubernetes objects that the policy's pools name (watched, or read once) and judging them into
//! a [`ClusterState`]: evidence of replica counts, which pod belongs to which pool, which page to scrape, and
//! whether the HPA or ScaledObject of a pool will follow its number. May know the policy; writes nothing to the
//! cluster and decides no number. Reading (`resolve`, `once`, `watch`) is apart from judging (the rest), which is pure.

mod arguments;
mod facts;
pub mod follow;
mod json;
mod judge;
mod once;
mod place;
mod resolve;
mod scaler;
mod selector;
mod shelf;
mod state;
mod watch;

pub use arguments::{Arguments, RefusedArgument};
pub use facts::{Owner, Pod, Target};
pub use place::settle;
pub use scaler::{Condition, ExternalMetric, Hpa, HpaMetric, RatePolicy, Rules, ScaledObject, TargetRef, Trigger};
pub use selector::{Operator, Requirement, Selector};
pub use shelf::{ClusterSnapshot, Fact, Resource, Shelf, WatchKey};
pub use state::{ClusterState, PodPlace, PoolCluster, PoolState, ScalerReport, ScrapePod, TargetObject};
pub use watch::{ClusterView, ClusterWatch};
