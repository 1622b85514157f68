//! KEDA's external scaler: its own listener, and what it asks of those who call.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::serve::{Authorities, ClientCertificates, KEDA_HTTP2, KedaOptions, Listener, ServeState, Tls, keda_router};

#[derive(Debug, Args)]
#[command(next_help_heading = "KEDA")]
pub struct KedaArgs {
    /// Address of KEDA's external scaler (gRPC), for triggers of type external and external-push.
    #[arg(long, value_name = "ADDRESS")]
    keda_listen: Option<SocketAddr>,
    /// PEM file of the external scaler's certificate; read again when it changes.
    #[arg(long, value_name = "FILE", requires = "keda_listen", requires = "keda_tls_key")]
    keda_tls_cert: Option<PathBuf>,
    /// PEM file of that certificate's key.
    #[arg(long, value_name = "FILE", requires = "keda_tls_cert")]
    keda_tls_key: Option<PathBuf>,
    /// Require a client certificate signed by one of this PEM file's authorities. URI names
    /// poolwright://namespace/NAME in it limit the client to these namespaces.
    #[arg(long, value_name = "FILE", requires = "keda_tls_cert")]
    keda_client_ca: Option<PathBuf>,
    /// Serve the external scaler without TLS.
    #[arg(long, requires = "keda_listen", conflicts_with = "keda_tls_cert")]
    keda_plaintext: bool,
    /// Answer ScaledObjects of these namespaces only. [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', requires = "keda_listen")]
    keda_namespaces: Vec<String>,
}

/// The external scaler's socket, ready to serve.
#[derive(Debug)]
pub struct KedaSocket {
    socket: std::net::TcpListener,
    tls: Option<Tls>,
    options: KedaOptions,
}

impl KedaArgs {
    /// Open the socket, if one is asked for.
    ///
    /// # Errors
    /// The address is taken, a file is not usable, or neither TLS nor its absence is asked for.
    pub fn open(&self) -> Result<Option<KedaSocket>> {
        let Some(address) = self.keda_listen else { return Ok(None) };
        let tls = self.tls()?;
        if tls.is_none() && !self.keda_plaintext {
            bail!("--keda-listen needs --keda-tls-cert and --keda-tls-key, or --keda-plaintext to go without TLS");
        }
        let socket = std::net::TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        socket.set_nonblocking(true)?;
        let named = self.keda_namespaces.iter().filter(|name| !name.is_empty()).cloned().collect();
        let namespaces = (!self.keda_namespaces.is_empty()).then_some(named);
        Ok(Some(KedaSocket { socket, tls, options: KedaOptions { namespaces, ..KedaOptions::default() } }))
    }

    fn tls(&self) -> Result<Option<Tls>> {
        let (Some(cert), Some(key)) = (&self.keda_tls_cert, &self.keda_tls_key) else { return Ok(None) };
        let clients = match &self.keda_client_ca {
            Some(ca) => ClientCertificates::Required(Authorities::File(ca.clone())),
            None => ClientCertificates::Ignored,
        };
        Ok(Some(Tls::from_files(cert, key, clients)?))
    }

    /// Say where the external scaler is and who may call it.
    pub fn announce(&self, keda: &KedaSocket) -> Result<()> {
        let address = keda.socket.local_addr()?;
        let (transport, callers) = match (&self.keda_tls_cert, &self.keda_client_ca) {
            (Some(_), Some(_)) => ("TLS", "client certificates are required"),
            (Some(_), None) => ("TLS", "callers are not authenticated"),
            (None, _) => ("plaintext", "callers are not authenticated"),
        };
        eprintln!("KEDA external scaler on {address}: {transport}, {callers}");
        if self.keda_client_ca.is_none() && !address.ip().is_loopback() {
            eprintln!(
                "WARNING: whoever reaches {address} can read the numbers of every namespace: require client \
                 certificates (--keda-client-ca) or admit only KEDA's operator with a NetworkPolicy"
            );
        }
        Ok(())
    }
}

impl KedaSocket {
    pub fn settle(&self, state: ServeState) -> ServeState {
        match &self.tls {
            None => state,
            Some(tls) => state.with_certificate("keda", tls.clone()),
        }
    }

    pub fn listener(self, state: ServeState) -> Listener {
        let router = keda_router(state, self.options);
        Listener { socket: self.socket, router, tls: self.tls, http2: KEDA_HTTP2 }
    }
}
