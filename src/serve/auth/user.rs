//! Who asks.

use std::collections::BTreeMap;

use serde::Serialize;

pub(super) const ANONYMOUS: &str = "system:anonymous";
pub(super) const UNAUTHENTICATED: &str = "system:unauthenticated";
pub(super) const AUTHENTICATED: &str = "system:authenticated";
const MASTERS: &str = "system:masters";

/// An identity as Kubernetes knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Who sent no credentials at all.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    /// Whether everything is allowed without asking.
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// The same with the group of all who proved who they are, where it belongs.
    pub(super) fn authenticated(mut self) -> Self {
        let settled = self.groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED);
        if !self.is_anonymous() && !settled {
            self.groups.push(AUTHENTICATED.into());
        }
        self
    }
}
