//! What the JSON API asks of those who read it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::serve::Credentials;

#[derive(Debug, Args)]
#[command(next_help_heading = "Credentials of the JSON API")]
pub struct CredentialArgs {
    /// Ask readers of /v1/ for an API key of this file, in the header X-API-KEY or the query's api_key. One
    /// accepted key a line; read again when it changes.
    #[arg(long, value_name = "FILE")]
    web_api_key_file: Option<PathBuf>,
    /// Ask readers of /v1/ for a bearer token of this file. One accepted token a line; read again when it changes.
    #[arg(long, value_name = "FILE")]
    web_bearer_token_file: Option<PathBuf>,
    /// Ask for the same at /metrics.
    #[arg(long)]
    web_protect_metrics: bool,
}

impl CredentialArgs {
    /// What is accepted; `None` when nothing is asked for.
    ///
    /// # Errors
    /// A file cannot be read or holds no secret, or `/metrics` is to be protected by nothing.
    pub fn load(&self) -> Result<Option<Credentials>> {
        let (keys, tokens) = (self.web_api_key_file.as_deref(), self.web_bearer_token_file.as_deref());
        let credentials = Credentials::from_files(keys, tokens, self.web_protect_metrics)?;
        if self.web_protect_metrics && credentials.is_none() {
            anyhow::bail!("--web-protect-metrics needs --web-api-key-file or --web-bearer-token-file");
        }
        Ok(credentials)
    }
}
