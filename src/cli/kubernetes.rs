//! Which cluster: the arguments that every verb which talks to one shares.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::cluster::{Connection, Identity, connect};

/// Whether to talk to a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Use {
    /// When this runs in a pod, or a kubeconfig or a context is named.
    #[default]
    Auto,
    /// Yes; with the usual kubeconfig outside of a pod.
    On,
    /// No.
    Off,
}

/// The cluster.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct KubernetesArgs {
    /// Whether to watch the cluster's state and to use its authentication.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    kubernetes: Use,
    /// Use this kubeconfig instead of the pod's service account.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Use this context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Namespace poolwright runs in. [default: the pod's, else poolwright-system]
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    own_namespace: Option<String>,
    /// Name of poolwright's Service.
    #[arg(long, value_name = "NAME", default_value = "poolwright")]
    own_service: String,
}

impl KubernetesArgs {
    /// How to reach the cluster, or `None` when there is none to talk to.
    pub fn connection(&self) -> Option<Connection> {
        let named = self.kubeconfig.is_some() || self.context.is_some();
        let kubeconfig = || Connection::Kubeconfig { file: self.kubeconfig.clone(), context: self.context.clone() };
        match self.kubernetes {
            Use::Off => None,
            _ if named => Some(kubeconfig()),
            _ if Connection::is_in_cluster() => Some(Connection::InCluster),
            Use::On => Some(kubeconfig()),
            Use::Auto => None,
        }
    }

    /// A client for the cluster, if there is one to talk to.
    ///
    /// # Errors
    /// The service account's files or the kubeconfig cannot be used.
    pub async fn client(&self) -> Result<Option<kube::Client>> {
        match self.connection() {
            None => Ok(None),
            Some(connection) => Ok(Some(connect(&connection).await?)),
        }
    }

    pub fn identity(&self) -> Identity {
        Identity::new(self.own_namespace.clone(), self.own_service.clone())
    }
}
