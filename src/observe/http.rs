//! How the sources reach their servers: TLS, credentials, size limits, and errors in one clear line.
//!
//! Knows HTTP and nothing of metrics. TLS is verified unless the operator wrote `insecure_skip_verify`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Response, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};

/// How to reach an HTTP server.
#[derive(Clone, Debug)]
pub struct HttpAccess {
    /// PEM file of the certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files of a client certificate and its key; both or none.
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    /// File with a bearer token, read anew for every look, so that it may rotate.
    pub bearer_token_file: Option<PathBuf>,
    /// User of basic authentication, with the password or a file that holds it.
    pub basic_user: Option<String>,
    pub basic_password: Option<SecretString>,
    pub basic_password_file: Option<PathBuf>,
    /// Further headers, e.g. `X-Scope-OrgID` for a Mimir tenant.
    pub headers: Vec<(String, SecretString)>,
    /// Time limit of one request, seconds.
    pub timeout_seconds: f64,
    /// Accept any server certificate. Only on the operator's own words.
    pub insecure_skip_verify: bool,
}

impl Default for HttpAccess {
    fn default() -> Self {
        Self {
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            bearer_token_file: None,
            basic_user: None,
            basic_password: None,
            basic_password_file: None,
            headers: Vec::new(),
            timeout_seconds: 10.0,
            insecure_skip_verify: false,
        }
    }
}

impl HttpAccess {
    /// Time limit of one request.
    pub fn timeout(&self) -> Duration {
        Duration::try_from_secs_f64(self.timeout_seconds)
            .ok()
            .filter(|d| !d.is_zero())
            .unwrap_or(Duration::from_secs(10))
    }

    /// Build the client.
    ///
    /// # Errors
    /// A certificate or key file cannot be read, or only one of certificate and key is given.
    pub fn client(&self, through_proxies: bool) -> Result<Client> {
        // Only the first call of a process has an effect; a provider chosen by the caller stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let roots = match &self.ca_file {
            Some(file) => {
                let pem = read(file, "CA file")?;
                let roots = Certificate::from_pem_bundle(&pem)
                    .with_context(|| format!("{}: not a PEM bundle of certificates", file.display()))?;
                if roots.is_empty() {
                    bail!("{}: holds no certificate", file.display());
                }
                Some(roots)
            }
            None => None,
        };
        let identity = self.identity()?;
        let builder = |roots: Option<Vec<Certificate>>| -> ClientBuilder {
            let mut builder = Client::builder()
                .timeout(self.timeout())
                .connect_timeout(self.timeout())
                .redirect(redirect::Policy::none())
                .user_agent(concat!("poolwright/", env!("CARGO_PKG_VERSION")))
                .tls_danger_accept_invalid_certs(self.insecure_skip_verify);
            if !through_proxies {
                builder = builder.no_proxy();
            }
            if let Some(roots) = roots {
                builder = builder.tls_certs_only(roots);
            }
            match &identity {
                Some(identity) => builder.identity(identity.clone()),
                None => builder,
            }
        };
        if let Some(roots) = roots {
            return Ok(builder(Some(roots)).build()?);
        }
        builder(None).build().or_else(|error| {
            // A machine without any installed certificate authority can still speak plain HTTP.
            tracing::warn!(error = %root_cause(&error), "no system certificate authorities; https needs a CA file");
            Ok(builder(Some(Vec::new())).build()?)
        })
    }

    fn identity(&self) -> Result<Option<Identity>> {
        match (&self.client_cert_file, &self.client_key_file) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => {
                let mut pem = read(cert, "client certificate")?;
                pem.push(b'\n');
                pem.extend(read(key, "client key")?);
                let identity = Identity::from_pem(&pem).with_context(|| {
                    format!("{} and {} are not a PEM certificate and its key", cert.display(), key.display())
                })?;
                Ok(Some(identity))
            }
            (Some(_), None) => bail!("a client certificate needs its key file too"),
            (None, Some(_)) => bail!("a client key needs its certificate file too"),
        }
    }

    /// The headers of the next requests; token and password files are read now.
    ///
    /// # Errors
    /// A file cannot be read, or what it holds cannot stand in a header.
    pub fn request_headers(&self, client: &Client) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        if let Some(user) = &self.basic_user {
            let password = match (&self.basic_password, &self.basic_password_file) {
                (Some(password), _) => Some(password.expose_secret().to_owned()),
                (None, Some(file)) => Some(read_line(file, "password file")?),
                (None, None) => None,
            };
            // The client knows how to code it; the address is never used.
            let request = client.get("http://localhost/").basic_auth(user, password).build()?;
            headers.extend(request.headers().get(AUTHORIZATION).map(|value| (AUTHORIZATION, value.clone())));
        }
        if let Some(file) = &self.bearer_token_file {
            let token = read_line(file, "bearer token file")?;
            let value = secret_value(&format!("Bearer {token}"));
            headers.insert(AUTHORIZATION, value.ok_or_else(|| anyhow!("{}: not a bearer token", file.display()))?);
        }
        for (name, value) in &self.headers {
            let header: HeaderName = name.parse().map_err(|_| anyhow!("`{name}` is not a header name"))?;
            let value = secret_value(value.expose_secret()).ok_or_else(|| anyhow!("header {name}: bad value"))?;
            headers.insert(header, value);
        }
        Ok(headers)
    }
}

fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn read(file: &Path, what: &str) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("{what} {} cannot be read", file.display()))
}

fn read_line(file: &Path, what: &str) -> Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{what} {} cannot be read", file.display()))?;
    let line = text.trim();
    if line.is_empty() {
        bail!("{what} {} is empty", file.display());
    }
    Ok(line.to_owned())
}

/// The innermost error, which names the cause.
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Why a request failed, in a few words.
pub fn why(error: &reqwest::Error, timeout: Duration) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", timeout.as_secs_f64());
    }
    if error.is_builder() {
        return format!("not an address: {}", root_cause(error));
    }
    let cause = root_cause(error);
    if error.is_connect() { format!("unreachable: {cause}") } else { cause }
}

/// The body of an answer, at most `limit_bytes` long.
///
/// # Errors
/// The connection broke, or the body is longer.
pub async fn body(mut response: Response, limit_bytes: usize, timeout: Duration) -> Result<Vec<u8>, String> {
    let too_long = || format!("the answer is longer than {} MiB", limit_bytes >> 20);
    if response.content_length().is_some_and(|length| length > limit_bytes as u64) {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| why(&e, timeout))? {
        if bytes.len() + chunk.len() > limit_bytes {
            return Err(too_long());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// What a status other than 200 means for the operator.
pub fn status_text(status: StatusCode) -> String {
    let hint = match status.as_u16() {
        401 | 403 => ": the credentials were refused; check token, user and password, or tenant header",
        404 => ": no such page; check the path of the address",
        300..=399 => ": give the address it redirects to",
        _ => "",
    };
    format!("answered {status}{hint}")
}

/// An address as it may be printed: without user and password.
pub fn printable(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(mut parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
            let _ = parsed.set_username("");
            let _ = parsed.set_password(None);
            parsed.to_string()
        }
        Ok(_) => url.to_owned(),
        Err(_) => url.rsplit('@').next().unwrap_or_default().to_owned(),
    }
}
