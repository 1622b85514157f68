//! Who may read the JSON API: an API key or a bearer token out of a file, one accepted secret a line, so that a
//! secret can be replaced without a moment in which neither works.
//!
//! Owns the files' content, of which it keeps hashes only, and the answer 401. What was presented is never
//! logged or repeated. Health, the page itself (it holds no data) and, unless told otherwise, `/metrics` ask for
//! nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::json;
use super::state::ServeState;

/// Header and parameter of the query that KEDA sends an API key in.
const API_KEY_HEADER: &str = "x-api-key";
const API_KEY_PARAMETER: &str = "api_key";

/// The files are looked at when a request comes and the last look was this long ago, seconds.
const LOOK_SECONDS: f64 = 1.0;

type Hash = [u8; 32];

/// A file of secrets that cannot be used. Never shows one.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: it holds no secret", path.display())]
    Empty { path: PathBuf },
}

/// What is accepted; clones share it.
#[derive(Clone, Debug)]
pub struct Credentials {
    api_keys: Option<Arc<SecretFile>>,
    bearer_tokens: Option<Arc<SecretFile>>,
    metrics: bool,
}

impl Credentials {
    /// Accept the API keys and the bearer tokens of these files; `None` when no file is given. With `metrics`,
    /// `/metrics` asks for them too.
    ///
    /// # Errors
    /// A file cannot be read or holds no secret. Later such a file leaves the former secrets in force.
    pub fn from_files(
        api_keys: Option<&Path>,
        bearer_tokens: Option<&Path>,
        metrics: bool,
    ) -> Result<Option<Self>, CredentialsError> {
        let open = |path: Option<&Path>| path.map(SecretFile::open).transpose();
        let (api_keys, bearer_tokens) = (open(api_keys)?, open(bearer_tokens)?);
        let any = api_keys.is_some() || bearer_tokens.is_some();
        Ok(any.then_some(Self { api_keys, bearer_tokens, metrics }))
    }

    pub(super) fn protects_metrics(&self) -> bool {
        self.metrics
    }

    async fn accept(&self, request: &Presented, now_seconds: f64) -> bool {
        let mut accepted = Choice::from(0);
        for (file, presented) in [(&self.api_keys, &request.api_keys), (&self.bearer_tokens, &request.bearer_tokens)] {
            let Some(file) = file else { continue };
            file.look(now_seconds).await;
            for hash in presented {
                accepted |= file.holds(hash);
            }
        }
        accepted.into()
    }

    fn refuse(&self) -> Response {
        let message = "this needs a valid API key (header X-API-KEY) or bearer token".to_owned();
        let mut response = json::error(StatusCode::UNAUTHORIZED, "unauthorized", message);
        // RFC 9110 wants at least one scheme, and an API key has none that is registered.
        let scheme = if self.bearer_tokens.is_some() { "Bearer" } else { "ApiKey" };
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        response
    }
}

/// These routes only for who presents what is accepted, if anything is asked for at all.
pub(super) fn protect(routes: Router, state: &ServeState) -> Router {
    if state.credentials().is_none() {
        return routes;
    }
    routes.route_layer(middleware::from_fn_with_state(state.clone(), check))
}

async fn check(State(state): State<ServeState>, request: Request, next: Next) -> Response {
    let Some(credentials) = state.credentials() else { return next.run(request).await };
    let presented = Presented::of(&request);
    if credentials.accept(&presented, state.now_seconds()).await {
        next.run(request).await
    } else {
        credentials.refuse()
    }
}

/// Hashes of what a request brought.
struct Presented {
    api_keys: Vec<Hash>,
    bearer_tokens: Vec<Hash>,
}

impl Presented {
    fn of(request: &Request) -> Self {
        let headers = request.headers();
        let in_query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
            .filter(|(key, _)| key == API_KEY_PARAMETER)
            .map(|(_, value)| hash(value.as_bytes()));
        let in_headers = headers.get_all(API_KEY_HEADER).iter().map(|value| hash(value.as_bytes()));
        let api_keys = in_headers.chain(in_query).collect();
        let bearer_tokens = headers.get_all(AUTHORIZATION).iter().filter_map(bearer).map(hash).collect();
        Self { api_keys, bearer_tokens }
    }
}

/// The token of `Authorization: Bearer TOKEN`; the scheme's letters may be of any case.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn hash(secret: &[u8]) -> Hash {
    Sha256::digest(secret).into()
}

/// Hashes of one file's lines.
#[derive(Debug)]
struct SecretFile {
    path: PathBuf,
    accepted: ArcSwap<Vec<Hash>>,
    look: Mutex<Look>,
}

#[derive(Debug)]
struct Look {
    at_seconds: f64,
    /// Whether it is known and logged that the file is not usable.
    failed: bool,
}

impl SecretFile {
    fn open(path: &Path) -> Result<Arc<Self>, CredentialsError> {
        let accepted = ArcSwap::from_pointee(read(path)?);
        let look = Mutex::new(Look { at_seconds: f64::NEG_INFINITY, failed: false });
        Ok(Arc::new(Self { path: path.to_owned(), accepted, look }))
    }

    /// Compares with every accepted one, whichever it is, in the same time.
    fn holds(&self, presented: &Hash) -> Choice {
        self.accepted.load().iter().fold(Choice::from(0), |found, accepted| found | accepted.ct_eq(presented))
    }

    /// Take over the file's content, if it is time to look. Of several requests one looks.
    async fn look(self: &Arc<Self>, now_seconds: f64) {
        {
            let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
            // A clock that was set back looks too.
            if (now_seconds - look.at_seconds).abs() < LOOK_SECONDS {
                return;
            }
            look.at_seconds = now_seconds;
        }
        let file = Arc::clone(self);
        // A task that panicked or was cancelled leaves the former secrets.
        let _ = tokio::task::spawn_blocking(move || file.take_over()).await;
    }

    fn take_over(&self) {
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.path) {
            Ok(secrets) => {
                look.failed = false;
                if **self.accepted.load() != secrets {
                    tracing::info!(file = %self.path.display(), secrets = secrets.len(), "new secrets taken over");
                    self.accepted.store(Arc::new(secrets));
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut look.failed, true) {
                    tracing::warn!(%error, "the file of secrets is not usable, the former secrets stay in force");
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<Hash>, CredentialsError> {
    let text = std::fs::read(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })?;
    let secrets = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let hashes: Vec<Hash> = secrets.map(hash).collect();
    if hashes.is_empty() { Err(CredentialsError::Empty { path: path.to_owned() }) } else { Ok(hashes) }
}
