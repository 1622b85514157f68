//! External metrics that are not ours, passed on to the metrics server that served them before: one question, one
//! answer, with this program's own rights.
//!
//! The user's rights were checked before; who the user is cannot be passed on, since only kube-apiserver may vouch for
//! that. Our own metrics never come here and never wait for this.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use axum::extract::Request;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, VIA};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Url};
use tokio::sync::Semaphore;

use super::discovery::{GROUP_VERSION, Metric};
use super::options::ListOptions;
use super::path::Endpoint;
use super::selector::Selector;
use super::status::Status;
use crate::observe::HttpAccess;

/// KEDA's own HPAs carry it in every selector.
const KEDA_KEY: &str = "scaledobject.keda.sh/name";

/// How long an answer may take altogether, seconds.
const TIMEOUT_SECONDS: f64 = 3.0;

/// Longest answer that is passed on, bytes.
const MAX_BYTES: usize = 8 << 20;

/// Most questions on their way; a slow server may not fill this one up.
const MAX_IN_FLIGHT: usize = 64;

/// How we name ourselves to the next server, and how we find that the next server is this one.
const OURSELVES: &str = "1.1 poolwright";

/// What is not written as it is in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// How to reach the other server.
#[derive(Clone, Debug, Default)]
pub struct UpstreamSettings {
    /// `https://service.namespace.svc:port`
    pub url: String,
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// File with our token, read for every question.
    pub token_file: Option<PathBuf>,
    /// Host names of this program, which is no upstream of itself.
    pub own_names: Vec<String>,
}

/// The other server.
#[derive(Debug)]
pub struct Upstream {
    base: Url,
    access: HttpAccess,
    client: Client,
    in_flight: Semaphore,
    asked: AtomicU64,
    failed: AtomicU64,
}

/// A question to pass on.
#[derive(Debug)]
pub(super) struct Question {
    path: String,
    query: Option<String>,
    accept: Option<HeaderValue>,
    /// Whether it has come through us before.
    returned: bool,
}

impl Upstream {
    /// A client for the other server. Asks it nothing yet.
    ///
    /// # Errors
    /// The address is none, is our own, or would send the token unprotected; a file cannot be used.
    pub fn new(settings: UpstreamSettings) -> Result<Self> {
        let UpstreamSettings { url, ca_file, token_file, own_names } = settings;
        let base = Url::parse(&url).with_context(|| format!("upstream {url}: not an address"))?;
        let host = base.host_str().unwrap_or_default().trim_end_matches('.').to_owned();
        let loopback = host == "localhost"
            || host.trim_matches(['[', ']']).parse().is_ok_and(|a: std::net::IpAddr| a.is_loopback());
        if base.scheme() != "https" && !(base.scheme() == "http" && loopback) {
            bail!("upstream {url}: must be https, since our service account's token is sent to it");
        }
        if own_names.iter().any(|name| name.eq_ignore_ascii_case(&host)) {
            bail!("upstream {url}: this is poolwright's own Service; name the other metrics server's");
        }
        let access = HttpAccess {
            ca_file,
            bearer_token_file: token_file,
            timeout_seconds: TIMEOUT_SECONDS,
            ..HttpAccess::default()
        };
        // Straight to the Service: a proxy of the environment is for the world outside.
        let client = access.client(false)?;
        let in_flight = Semaphore::new(MAX_IN_FLIGHT);
        Ok(Self { base, access, client, in_flight, asked: AtomicU64::new(0), failed: AtomicU64::new(0) })
    }

    /// Questions passed on so far, and those that got no usable answer.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.asked.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// The question in this request, if it is not ours to answer: a metric we do not know, or a selector of KEDA's.
    pub(super) fn question(endpoint: &Endpoint, request: &Request) -> Option<Question> {
        let Endpoint::Values { namespace, metric } = endpoint else { return None };
        let query = request.uri().query();
        let options = ListOptions::parse(query.unwrap_or_default()).ok().filter(|o| !o.watch)?;
        if request.method() != Method::GET || Metric::by_name(metric).is_some() && !is_kedas(&options) {
            return None;
        }
        // They would be resolved on the way, and another path asked for than was judged.
        if [namespace, metric].iter().any(|name| matches!(name.as_str(), "." | "..")) {
            return None;
        }
        let segment = |text: &str| utf8_percent_encode(text, SEGMENT).to_string();
        let headers = request.headers();
        let returned = headers
            .get_all(VIA)
            .iter()
            .any(|v| v.as_bytes().split(|b| *b == b',').any(|hop| hop.trim_ascii() == OURSELVES.as_bytes()));
        Some(Question {
            path: format!("/apis/{GROUP_VERSION}/namespaces/{}/{}", segment(namespace), segment(metric)),
            query: query.map(str::to_owned),
            accept: headers.get(ACCEPT).cloned(),
            returned,
        })
    }

    /// Ask it once.
    pub(super) async fn ask(&self, question: &Question) -> Result<Response, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = self.pass_on(question).await;
        if let Err(status) = &answer {
            self.failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(?status, path = question.path, "the upstream metrics server gave no answer");
        }
        answer
    }

    async fn pass_on(&self, question: &Question) -> Result<Response, Status> {
        if question.returned {
            return Err(Status::bad_gateway(
                "the upstream metrics server asked poolwright back: --upstream names poolwright itself",
            ));
        }
        let full = "too many questions to the upstream metrics server are unanswered";
        let _permit = self.in_flight.try_acquire().map_err(|_| Status::unavailable(full.into()))?;
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path().trim_end_matches('/'), question.path));
        url.set_query(question.query.as_deref());
        let mut headers = self.access.request_headers(&self.client).map_err(|error| {
            tracing::warn!("upstream metrics server: {error:#}");
            Status::bad_gateway("poolwright's own token for the upstream metrics server cannot be read")
        })?;
        headers.insert(VIA, HeaderValue::from_static(OURSELVES));
        headers.extend(question.accept.clone().map(|accept| (ACCEPT, accept)));
        let answer = self.client.get(url).headers(headers).send().await.map_err(|e| failure(&e))?;
        let code = checked(answer.status())?;
        let kind = content_type(answer.headers());
        let body = read(answer).await?;
        let mut response = Response::new(body.into());
        *response.status_mut() = code;
        // Nothing else of the answer's head is passed on: `Retry-After` would hold a worker of HPA.
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        Ok(response)
    }
}

fn is_kedas(options: &ListOptions) -> bool {
    let text = options.label_selector.as_deref().unwrap_or_default();
    text.contains(KEDA_KEY) && Selector::parse(text).is_ok_and(|s| s.mentions(KEDA_KEY))
}

/// A status that may be passed on.
fn checked(code: StatusCode) -> Result<StatusCode, Status> {
    match code.as_u16() {
        200 | 400 | 403..=599 => Ok(code),
        401 => Err(Status::bad_gateway("the upstream metrics server does not accept poolwright's service account")),
        300..=399 => Err(Status::bad_gateway(
            "the upstream metrics server attempted to redirect this request, which is not permitted",
        )),
        _ => Err(Status::bad_gateway(&format!("the upstream metrics server answered {code}"))),
    }
}

fn content_type(headers: &HeaderMap) -> HeaderValue {
    headers.get(CONTENT_TYPE).cloned().unwrap_or(HeaderValue::from_static("application/json"))
}

async fn read(mut answer: reqwest::Response) -> Result<Vec<u8>, Status> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| failure(&e))? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(Status::bad_gateway("the upstream metrics server's answer is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn failure(error: &reqwest::Error) -> Status {
    if error.is_timeout() {
        return Status::gateway_timeout(&format!(
            "the upstream metrics server did not answer within {TIMEOUT_SECONDS} s"
        ));
    }
    // Addresses and certificates of a cluster are the operator's business: the details are logged.
    tracing::warn!(error = error as &dyn std::error::Error, "the upstream metrics server cannot be asked");
    Status::bad_gateway("the upstream metrics server cannot be reached")
}
