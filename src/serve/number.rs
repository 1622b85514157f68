//! The number that may be told of one pool, and every reason why not. HPA's list and both of KEDA's ways to ask
//! (gRPC and JSON) go through here.

use super::state::{Current, ServeState};
use super::view::{MAX_REPLICAS, View};
use crate::control::{PoolDecision, Withheld};
use crate::policy::Mode;

/// Why there is no number.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum NoNumber {
    #[error(transparent)]
    Withheld(#[from] Withheld),
    #[error("namespace {namespace:?} has no pool {pool:?}; /v1/pools lists all")]
    Unknown { namespace: String, pool: String },
    #[error(
        "pool {pool} is in mode {}: its number is not to be followed; set mode act, or read advised_replicas in /v1/pools",
        mode.as_str()
    )]
    NotActing { pool: String, mode: Mode },
    #[error("pool {pool} has no number yet: {reason}")]
    NotKnown { pool: String, reason: String },
    #[error("pool {pool}: {value} replicas are more than the {MAX_REPLICAS} that can be published")]
    TooLarge { pool: String, value: u32 },
    /// A held zero is no order to stop what may run: KEDA keeps its replicas on an error.
    #[error("pool {pool} had no use for a replica when the fleet was last seen, and now it is not seen: {error}")]
    ZeroUnseen { pool: String, error: String },
}

impl NoNumber {
    /// True when the next decision may bring the number without anybody changing a configuration.
    pub fn is_lack_of_data(&self) -> bool {
        match self {
            Self::Withheld(_) | Self::NotKnown { .. } | Self::TooLarge { .. } | Self::ZeroUnseen { .. } => true,
            Self::Unknown { .. } | Self::NotActing { .. } => false,
        }
    }
}

/// Desired replicas of this pool now, from one snapshot.
pub(super) fn now(state: &ServeState, namespace: &str, pool: &str) -> Result<u32, NoNumber> {
    let Current { view, .. } = state.current()?;
    of(&view, namespace, pool).map(|(_, number)| number)
}

/// Desired replicas of this pool in this decision.
pub(super) fn of<'a>(view: &'a View, namespace: &str, name: &str) -> Result<(&'a PoolDecision, u32), NoNumber> {
    let Some(pool) = view.pool(namespace, name) else {
        return Err(NoNumber::Unknown { namespace: namespace.to_owned(), pool: name.to_owned() });
    };
    let id = || format!("{namespace}/{name}");
    if pool.mode != Mode::Act {
        return Err(NoNumber::NotActing { pool: id(), mode: pool.mode });
    }
    of_pool(pool, view.decision.source_error.as_deref()).map(|number| (pool, number))
}

/// The number of a pool in mode `act`: the one rule of all interfaces.
pub(super) fn of_pool(pool: &PoolDecision, source_error: Option<&str>) -> Result<u32, NoNumber> {
    let id = || format!("{}/{}", pool.namespace, pool.pool);
    match (pool.published(), source_error) {
        (None, _) => Err(NoNumber::NotKnown { pool: id(), reason: pool.reason.clone() }),
        (Some(value), _) if value > MAX_REPLICAS => Err(NoNumber::TooLarge { pool: id(), value }),
        (Some(0), Some(error)) => Err(NoNumber::ZeroUnseen { pool: id(), error: error.to_owned() }),
        (Some(value), _) => Ok(value),
    }
}
