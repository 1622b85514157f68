//! Where the metrics come from: the arguments that `plan` and `serve` share.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use secrecy::SecretString;

use crate::observe::cluster::ClusterView;
use crate::observe::{HttpAccess, PrometheusOptions, PrometheusSource, ScrapeOptions, ScrapeSource, Source};
use crate::policy::Policy;
use crate::policy::units::Duration;

/// Prometheus, or the model servers themselves.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Read from this Prometheus (or Thanos, Mimir, VictoriaMetrics) base URL.
    #[arg(long, value_name = "URL", conflicts_with_all = ["scrape", "scrape_sd"])]
    prometheus: Option<String>,
    /// Read the model servers' own pages: the policy's `scrape` addresses and these; in a cluster, where no URL is
    /// given, the pools' own pods.
    #[arg(long, value_name = "URL", num_args = 0..)]
    scrape: Option<Vec<String>>,
    /// Read the model servers listed by this Prometheus HTTP service discovery.
    #[arg(long, value_name = "URL")]
    scrape_sd: Vec<String>,
    /// PEM file of the certificate authorities to trust for the metrics source.
    #[arg(long, value_name = "FILE", help_heading = "Access to the metrics source")]
    source_ca: Option<PathBuf>,
    /// PEM file of a client certificate.
    #[arg(long, value_name = "FILE", requires = "source_key", help_heading = "Access to the metrics source")]
    source_cert: Option<PathBuf>,
    /// PEM file of the client certificate's key.
    #[arg(long, value_name = "FILE", requires = "source_cert", help_heading = "Access to the metrics source")]
    source_key: Option<PathBuf>,
    /// File with a bearer token; read again when it is rotated.
    #[arg(long, value_name = "FILE", help_heading = "Access to the metrics source")]
    source_token_file: Option<PathBuf>,
    /// User of basic authentication.
    #[arg(long, value_name = "NAME", requires = "source_password_file", help_heading = "Access to the metrics source")]
    source_user: Option<String>,
    /// File with the password of basic authentication.
    #[arg(long, value_name = "FILE", requires = "source_user", help_heading = "Access to the metrics source")]
    source_password_file: Option<PathBuf>,
    /// Further header, e.g. `X-Scope-OrgID: team-a`; may be repeated.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header, help_heading = "Access to the metrics source")]
    source_header: Vec<(String, SecretString)>,
    /// Time limit of one request.
    #[arg(long, value_name = "DURATION", default_value = "10s", help_heading = "Access to the metrics source")]
    source_timeout: Duration,
    /// Accept any certificate of the metrics source. Dangerous: whoever is in between can set the numbers.
    #[arg(long, help_heading = "Access to the metrics source")]
    source_insecure_skip_verify: bool,
}

fn header(text: &str) -> Result<(String, SecretString), String> {
    let (name, value) = text.split_once(':').ok_or("expected `Name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned().into()))
}

impl SourceArgs {
    /// True, and said on stderr, when neither Prometheus nor a scrape was asked for, the policy lists no addresses,
    /// and there is no cluster whose pods could be read.
    pub fn refuse_missing(&self, policy: &Policy, has_cluster: bool) -> bool {
        let missing = !has_cluster
            && self.prometheus.is_none()
            && self.scrape.is_none()
            && self.scrape_sd.is_empty()
            && policy.pools.iter().all(|p| p.scrape.is_empty());
        if missing {
            eprintln!("poolwright: say where the metrics are: --prometheus URL, --scrape [URL…] or --scrape-sd URL");
        }
        missing
    }

    /// True when the model servers are read directly.
    pub fn is_scrape(&self) -> bool {
        self.prometheus.is_none()
    }

    /// Where the metrics come from, for people. Addresses without credentials.
    pub fn describe(&self) -> String {
        match &self.prometheus {
            Some(url) => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
                format!("Prometheus {scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host))
            }
            None if self.scrape_sd.is_empty() && self.scrape.as_ref().is_none_or(Vec::is_empty) => {
                "direct scrape of the pools' pods and addresses".to_owned()
            }
            None => "direct scrape of the addresses given".to_owned(),
        }
    }

    /// The source, with the cluster's own word where there is one.
    ///
    /// # Errors
    /// A file of the access options cannot be used, or the URL is wrong.
    pub fn build(&self, cluster: Option<ClusterView>) -> Result<Box<dyn Source>> {
        let access = HttpAccess {
            ca_file: self.source_ca.clone(),
            client_cert_file: self.source_cert.clone(),
            client_key_file: self.source_key.clone(),
            bearer_token_file: self.source_token_file.clone(),
            basic_user: self.source_user.clone(),
            basic_password: None,
            basic_password_file: self.source_password_file.clone(),
            headers: self.source_header.clone(),
            timeout_seconds: self.source_timeout.seconds(),
            insecure_skip_verify: self.source_insecure_skip_verify,
        };
        if let Some(url) = &self.prometheus {
            let options = PrometheusOptions { url: url.clone(), access };
            let source = PrometheusSource::new(options).context("--prometheus")?;
            return Ok(Box::new(source.with_cluster(cluster)));
        }
        let options = ScrapeOptions {
            discovery: self.scrape_sd.clone(),
            targets: self.scrape.clone().unwrap_or_default(),
            access,
            ..ScrapeOptions::default()
        };
        Ok(Box::new(ScrapeSource::new(options)?.with_cluster(cluster)))
    }
}
