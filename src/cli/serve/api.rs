//! The listener of the aggregated API: kube-apiserver calls it, and the cluster says who may ask what.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use tokio::task::JoinHandle;

use crate::cluster::{ClusterReviews, ClusterTrust, Patience};
use crate::control::SystemClock;
use crate::serve::auth::Limits;
use crate::serve::{Access, ClientCertificates, Http2, Listener, ServeState, Tls, api_router};

/// What kube-apiserver calls.
#[derive(Debug, Args)]
#[command(next_help_heading = "Aggregated API")]
pub struct ApiArgs {
    /// Serve the external metrics API here with TLS, and no longer on --listen. The cluster says who may ask.
    #[arg(long, value_name = "ADDRESS")]
    api_listen: Option<SocketAddr>,
    /// PEM file of the certificate for --api-listen; read again when it changes.
    #[arg(long, value_name = "FILE", requires = "api_tls_key", requires = "api_listen")]
    api_tls_cert: Option<PathBuf>,
    /// PEM file of the key of that certificate.
    #[arg(long, value_name = "FILE", requires = "api_tls_cert")]
    api_tls_key: Option<PathBuf>,
    /// Answer everybody on --api-listen: no authentication, no authorization. For a laboratory.
    #[arg(long, requires = "api_listen")]
    api_insecure_no_authentication: bool,
}

/// The listener, open but not served yet.
pub struct Api {
    socket: TcpListener,
    tls: Tls,
    access: Access,
    trust: Option<Arc<ClusterTrust>>,
    /// The task that keeps the trust current.
    pub following: Follows,
}

/// A task that never ends by itself, where one is needed.
type Follows = Option<JoinHandle<()>>;

impl ApiArgs {
    /// Open the listener if one is wanted, and begin to follow whom the cluster trusts. `kept` is a certificate
    /// that something else renews; it serves where no files are named.
    ///
    /// # Errors
    /// No cluster to ask, no certificate, or an address that cannot be used.
    pub fn open(&self, client: Option<&kube::Client>, kept: Option<Tls>) -> Result<Option<Api>> {
        let Some(address) = self.api_listen else { return Ok(None) };
        let (access, trust, following) = self.access(client)?;
        let tls = self.tls(kept)?;
        let socket = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        Ok(Some(Api { socket, tls, access, trust, following }))
    }

    fn access(&self, client: Option<&kube::Client>) -> Result<(Access, Option<Arc<ClusterTrust>>, Follows)> {
        if self.api_insecure_no_authentication {
            return Ok((Access::open(), None, None));
        }
        let Some(client) = client else {
            bail!(
                "--api-listen needs a cluster that says who may ask: run in a pod, name a --kubeconfig, or give \
                 --api-insecure-no-authentication to answer everybody"
            );
        };
        let trust = Arc::new(ClusterTrust::default());
        let (following, asked) = (Arc::clone(&trust), client.clone());
        let follows = tokio::spawn(async move { following.follow(asked).await });
        let reviews = Arc::new(ClusterReviews::new(client.clone(), Patience::default()));
        let access = Access::delegated(trust.clone(), reviews, Arc::new(SystemClock), Limits::default());
        Ok((access, Some(trust), Some(follows)))
    }

    /// Clients' certificates are asked for and judged per request, except where nobody is judged.
    pub fn client_certificates(&self) -> ClientCertificates {
        if self.api_insecure_no_authentication { ClientCertificates::Ignored } else { ClientCertificates::Unjudged }
    }

    fn tls(&self, kept: Option<Tls>) -> Result<Tls> {
        match (&self.api_tls_cert, &self.api_tls_key, kept) {
            (Some(certificate), Some(key), _) => Ok(Tls::from_files(certificate, key, self.client_certificates())?),
            (_, _, Some(kept)) => Ok(kept),
            _ => bail!("--api-listen needs --api-tls-secret, or --api-tls-cert and --api-tls-key"),
        }
    }
}

impl Api {
    /// Let readiness wait for the cluster's trust, and show on `/metrics` what the checks came to.
    pub fn settle(&self, state: ServeState) -> ServeState {
        let state = state.with_access_report(self.access.report()).with_certificate("api", self.tls.clone());
        match self.trust.clone() {
            None => state,
            Some(trust) => state.with_check("authentication-trust", move || trust.health()),
        }
    }

    /// Say where it listens and which checks are on.
    pub fn announce(&self) -> Result<()> {
        let address = self.socket.local_addr()?;
        eprintln!("the external metrics API is on https://{address}/");
        if self.trust.is_some() {
            eprintln!(
                "there the cluster authenticates (front proxy, client certificates, tokens) and authorizes every request"
            );
        } else {
            eprintln!("WARNING: requests there are neither authenticated nor authorized");
        }
        Ok(())
    }

    pub fn listener(self, state: ServeState) -> Listener {
        Listener {
            socket: self.socket,
            router: api_router(state, &self.access),
            tls: Some(self.tls),
            http2: Http2::default(),
        }
    }
}
