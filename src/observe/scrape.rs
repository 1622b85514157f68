//! The direct-scrape source: reads the model servers' own metrics pages, no Prometheus needed.
//!
//! Owns the requests; what they mean is judged by `discovery`, `fleet` and `assemble`. Every time in the result
//! comes from the caller, so that a simulated clock works.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::StreamExt;
use reqwest::Client;
use reqwest::header::HeaderMap;
use tokio::time::Instant;

use super::cluster::ClusterView;
use super::discovery::{Discovery, PodPages, Target, parse_http_sd};
use super::fleet::Answer;
use super::http::{self, HttpAccess};
use super::pages::Pages;
use super::reading::Meta;
use super::snapshot::read_page;
use super::{BoxFuture, Observation, RatePoint, Source, assemble};
use crate::policy::Policy;

/// How to scrape.
#[derive(Clone, Debug)]
pub struct ScrapeOptions {
    /// Addresses of lists of targets in the JSON of Prometheus' HTTP service discovery.
    pub discovery: Vec<String>,
    /// Addresses of metrics pages: `host:port` or a whole URL.
    pub targets: Vec<String>,
    /// TLS, credentials and the time limit of one page.
    pub access: HttpAccess,
    /// Pages read at the same time.
    pub concurrency: usize,
    /// A page longer than this is refused.
    pub max_page_bytes: usize,
}

impl Default for ScrapeOptions {
    fn default() -> Self {
        Self {
            discovery: Vec::new(),
            targets: Vec::new(),
            access: HttpAccess { timeout_seconds: 3.0, ..HttpAccess::default() },
            concurrency: 32,
            max_page_bytes: 8 << 20,
        }
    }
}

/// Reads metrics pages.
#[derive(Debug)]
pub struct ScrapeSource {
    options: ScrapeOptions,
    client: Client,
    discovery: Discovery,
    pages: Pages,
    cluster: Option<ClusterView>,
}

impl ScrapeSource {
    /// # Errors
    /// A certificate or key file cannot be used.
    pub fn new(options: ScrapeOptions) -> Result<Self> {
        // Metrics pages are inside the cluster: no proxy in between.
        let client = options.access.client(false)?;
        Ok(Self { options, client, discovery: Discovery::default(), pages: Pages::default(), cluster: None })
    }

    /// With the cluster's own word about replicas and pods; the pods' pages are read where no addresses are given.
    #[must_use]
    pub fn with_cluster(mut self, cluster: Option<ClusterView>) -> Self {
        self.cluster = cluster;
        self
    }

    async fn look(&mut self, policy: &Policy, now_seconds: f64) -> Observation {
        let headers = match self.options.access.request_headers(&self.client) {
            Ok(headers) => headers,
            Err(error) => {
                let meta = Meta { source_error: Some(format!("{error:#}")), ..Meta::default() };
                return assemble(policy, Vec::new(), meta, now_seconds);
            }
        };
        let fetch = Fetch::new(&self.client, &headers, &self.options);
        let lists = self.options.discovery.iter().map(|url| fetch.list(url));
        let lists = futures::future::join_all(lists).await;
        let cluster = self.cluster.as_ref().map(|cluster| cluster.state(policy, now_seconds));
        let listed = !self.options.discovery.is_empty() || !self.options.targets.is_empty();
        let pods = cluster.as_ref().filter(|_| !listed).map(|state| PodPages::of(policy, state)).unwrap_or_default();
        let mut listing = self.discovery.list(lists, &self.options.targets, pods, policy, now_seconds);
        let targets = std::mem::take(&mut listing.targets);
        let answers = fetch.pages(targets, now_seconds).await;
        self.pages.judge(policy, listing, answers, cluster, now_seconds)
    }
}

impl Source for ScrapeSource {
    fn name(&self) -> &'static str {
        "scrape"
    }

    fn observe<'a>(&'a mut self, policy: &'a Arc<Policy>, now_seconds: f64) -> BoxFuture<'a, Observation> {
        Box::pin(self.look(policy, now_seconds))
    }

    /// A scrape has no past.
    fn history<'a>(
        &'a mut self,
        _policy: &'a Arc<Policy>,
        _now_seconds: f64,
        _span_seconds: f64,
    ) -> BoxFuture<'a, BTreeMap<String, Vec<RatePoint>>> {
        Box::pin(std::future::ready(BTreeMap::new()))
    }
}

/// The requests of one look.
struct Fetch<'a> {
    client: &'a Client,
    headers: &'a HeaderMap,
    options: &'a ScrapeOptions,
    timeout: Duration,
    /// The look ends here even when a great many targets do not answer.
    deadline: Instant,
}

impl<'a> Fetch<'a> {
    fn new(client: &'a Client, headers: &'a HeaderMap, options: &'a ScrapeOptions) -> Self {
        let timeout = options.access.timeout();
        Self { client, headers, options, timeout, deadline: Instant::now() + timeout * 4 }
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        let left = self.deadline.saturating_duration_since(Instant::now()).min(self.timeout);
        if left.is_zero() {
            return Err("not asked: too many others did not answer in time".into());
        }
        let request = self.client.get(url).headers(self.headers.clone()).timeout(left);
        let response = request.send().await.map_err(|error| http::why(&error, self.timeout))?;
        if !response.status().is_success() {
            return Err(http::status_text(response.status()));
        }
        http::body(response, self.options.max_page_bytes, self.timeout).await
    }

    async fn list(&self, url: &str) -> (String, Result<Vec<Target>, String>) {
        let answer = self.get(url).await.and_then(|body| parse_http_sd(&body));
        (url.to_owned(), answer)
    }

    async fn page(&self, target: Target, now_seconds: f64) -> (Target, Answer) {
        let answer = self.get(&target.url).await.map(|body| read_page(&String::from_utf8_lossy(&body), now_seconds));
        (target, answer)
    }

    /// All pages, in the order of the targets.
    async fn pages(&self, targets: Vec<Target>, now_seconds: f64) -> Vec<(Target, Answer)> {
        let requests = targets.into_iter().map(|target| self.page(target, now_seconds));
        futures::stream::iter(requests).buffered(self.options.concurrency.max(1)).collect().await
    }
}
