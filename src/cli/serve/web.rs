//! The listener of people, Prometheus and programs; also of the external metrics API where that has none of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::serve::{ClientCertificates, Credentials, Http2, Listener, ServeState, Tls, router, web_router};

#[derive(Debug, Args)]
pub struct WebArgs {
    /// Address of everything that has no listener of its own: the page, the JSON API, /metrics, and without
    /// --api-listen the external metrics API, which then asks nobody who they are.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// PEM file of the serving certificate; read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file of the serving certificate's key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve TLS with a certificate made at start, for a laboratory.
    #[arg(long, conflicts_with = "tls_cert")]
    tls_self_signed: bool,
}

/// The listener, open but not served yet.
pub struct Web {
    socket: TcpListener,
    tls: Option<Tls>,
    credentials: Option<Credentials>,
}

impl WebArgs {
    /// Open the listener; `/v1/` asks for `credentials`.
    ///
    /// # Errors
    /// The address or a file cannot be used.
    pub fn open(&self, credentials: Option<Credentials>) -> Result<Web> {
        let tls = self.tls()?;
        let socket = TcpListener::bind(self.listen).with_context(|| format!("cannot listen on {}", self.listen))?;
        Ok(Web { socket, tls, credentials })
    }

    fn tls(&self) -> Result<Option<Tls>> {
        let clients = ClientCertificates::Ignored;
        match (&self.tls_cert, &self.tls_key, self.tls_self_signed) {
            (Some(cert), Some(key), _) => Ok(Some(Tls::from_files(cert, key, clients)?)),
            (_, _, true) => Ok(Some(Tls::self_signed(&["localhost".into(), "127.0.0.1".into()], clients)?)),
            _ => Ok(None),
        }
    }
}

impl Web {
    pub fn settle(&self, state: ServeState) -> ServeState {
        let state = state.with_credentials(self.credentials.clone());
        match &self.tls {
            None => state,
            Some(tls) => state.with_certificate("web", tls.clone()),
        }
    }

    /// Whether the external metrics API is here too: nobody is asked who they are, so on a loopback only, where it
    /// has no listener of its own.
    fn serves_api(&self, own_api: bool) -> Result<bool> {
        Ok(!own_api && self.socket.local_addr()?.ip().is_loopback())
    }

    /// Say where it listens and who may read what; `own_api` when the external metrics API is elsewhere.
    pub fn announce(&self, own_api: bool) -> Result<()> {
        let address = self.socket.local_addr()?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let serves_api = self.serves_api(own_api)?;
        let what = if serves_api { "page, JSON, /metrics, external metrics" } else { "page, JSON, /metrics" };
        eprintln!("poolwright {} serves {scheme}://{address}/ ({what})", env!("CARGO_PKG_VERSION"));
        let loopback = address.ip().is_loopback();
        if serves_api {
            eprintln!("listening on loopback only; external metric requests are not authenticated");
        } else if !own_api {
            eprintln!("external metrics are not served: {address} is not loopback, and there is no --api-listen");
        }
        if self.credentials.is_some() {
            eprintln!("/v1/ asks for an API key or a bearer token");
        } else if !loopback {
            eprintln!(
                "WARNING: /v1/ asks for no credentials and {address} is not loopback: see --web-api-key-file and \
                 --web-bearer-token-file, or restrict who can reach it"
            );
        }
        Ok(())
    }

    pub fn listener(self, state: ServeState, own_api: bool) -> Listener {
        // An address that cannot be read is taken for one that everybody reaches.
        let router = if self.serves_api(own_api).unwrap_or(false) { router(state) } else { web_router(state) };
        Listener { socket: self.socket, router, tls: self.tls, http2: Http2::default() }
    }
}
