//! The connection to kube-apiserver.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How long one plain call may take; watches are not limited by it.
const READ_TIMEOUT: Duration = Duration::from_secs(295);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// With the service account of the pod this runs in.
    InCluster,
    /// With a kubeconfig: this file, or the usual ones; this context, or the current one.
    Kubeconfig { file: Option<PathBuf>, context: Option<String> },
}

impl Connection {
    /// Whether this process runs in a pod that may talk to its cluster.
    pub fn is_in_cluster() -> bool {
        std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
    }
}

/// A client for this cluster. Does not ask the cluster anything yet.
///
/// # Errors
/// The service account's files or the kubeconfig cannot be used.
pub async fn connect(connection: &Connection) -> Result<Client> {
    let mut config = match connection {
        Connection::InCluster => Config::incluster().context("this process is not in a cluster's pod")?,
        Connection::Kubeconfig { file, context } => {
            let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
            match file {
                None => Config::from_kubeconfig(&options).await.context("the kubeconfig cannot be used")?,
                Some(file) => {
                    let place = || format!("{}: not a usable kubeconfig", file.display());
                    let kubeconfig = Kubeconfig::read_from(file).with_context(place)?;
                    Config::from_custom_kubeconfig(kubeconfig, &options).await.with_context(place)?
                }
            }
        }
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    // The client's own retries hide a server that answers 503 for minutes; every caller here has its own.
    config.default_retry = false;
    Client::try_from(config).context("no client can be made for the cluster")
}
