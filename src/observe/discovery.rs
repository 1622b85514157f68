//! Which metrics pages there are: HTTP service discovery, addresses on the command line, addresses in the policy,
//! the pods of a watched cluster.
//!
//! Owns the list of targets and the doubt about it: a discovery that fails, or that suddenly lists nothing, does
//! not make instances disappear.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::cluster::ClusterState;
use super::dialect;
use super::reading::{INSTANCE_LABEL, Labels, POD_LABEL};
use super::{Finding, FindingKind, http};
use crate::policy::{NAMESPACE_LABEL, Policy};

/// One metrics page.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Where it is.
    pub url: String,
    pub labels: Labels,
    /// Index of the pool it was listed under.
    pub pool: Option<usize>,
}

/// All metrics pages of one look.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub targets: Vec<Target>,
    /// Every list was read, so that what is not listed is not there.
    pub complete: bool,
    /// Some list could not be read: there may be instances that are not known.
    pub partial: bool,
    /// No list could be read at all, ever.
    pub error: Option<String>,
    pub findings: Vec<Finding>,
}

/// A group of targets in the JSON of Prometheus' HTTP service discovery.
#[derive(Debug, Deserialize)]
struct TargetGroup {
    targets: Vec<String>,
    #[serde(default)]
    labels: Labels,
}

/// Read the answer of an HTTP service discovery.
///
/// # Errors
/// It is not a list of `{"targets": [...], "labels": {...}}`.
pub fn parse_http_sd(json: &[u8]) -> Result<Vec<Target>, String> {
    let groups: Vec<TargetGroup> = serde_json::from_slice(json).map_err(|e| {
        format!("not a service discovery list ({e}); it must be [{{\"targets\": [..], \"labels\": {{..}}}}]")
    })?;
    let targets = groups.iter().flat_map(|group| group.targets.iter().map(|address| target(address, &group.labels)));
    Ok(targets.collect())
}

fn target(address: &str, labels: &Labels) -> Target {
    let special = |name: &str, default: &str| labels.get(name).map_or(default, String::as_str).to_owned();
    let scheme = special("__scheme__", "http");
    let mut path = special("__metrics_path__", "/metrics");
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    let parameters: Vec<String> =
        labels.iter().filter_map(|(name, value)| Some(format!("{}={value}", name.strip_prefix("__param_")?))).collect();
    let query = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };

    let mut kept: Labels =
        labels.iter().filter(|(name, _)| !name.starts_with("__")).map(|(n, v)| (n.clone(), v.clone())).collect();
    for (label, meta) in [(NAMESPACE_LABEL, "__meta_kubernetes_namespace"), (POD_LABEL, "__meta_kubernetes_pod_name")] {
        if let Some(value) = labels.get(meta) {
            kept.entry(label.to_owned()).or_insert_with(|| value.clone());
        }
    }
    kept.entry(INSTANCE_LABEL.to_owned()).or_insert_with(|| instance_name(address, &path));
    Target { url: format!("{scheme}://{address}{path}{query}"), labels: kept, pool: None }
}

/// Address of a page, with its path where that is not the usual one.
fn instance_name(address: &str, path: &str) -> String {
    if path == "/metrics" { address.to_owned() } else { format!("{address}{path}") }
}

/// A page given by its address alone: `host:port` or a whole URL, `/metrics` when it has no path.
pub fn from_address(address: &str) -> Target {
    let mut url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    if let Ok(parsed) = reqwest::Url::parse(&url)
        && parsed.path() == "/"
        && parsed.query().is_none()
    {
        url = format!("{}/metrics", url.trim_end_matches('/'));
    }
    let printable = http::printable(&url);
    let bare = printable.split_once("://").map_or(printable.as_str(), |(_, rest)| rest);
    let name = bare.strip_suffix("/metrics").unwrap_or(bare).to_owned();
    let labels = Labels::from([(INSTANCE_LABEL.to_owned(), name.clone()), (POD_LABEL.to_owned(), name)]);
    Target { url, labels, pool: None }
}

/// Pages of the pools' own pods.
#[derive(Clone, Debug, Default)]
pub struct PodPages {
    targets: Vec<Target>,
    /// A cluster is asked.
    asked: bool,
    /// The pods of some pool are not known.
    partial: bool,
}

impl PodPages {
    /// The pods of every pool for which the policy lists no addresses.
    pub fn of(policy: &Policy, state: &ClusterState) -> Self {
        let mut pages = Self { asked: true, ..Self::default() };
        for (index, pool) in policy.pools.iter().enumerate().filter(|(_, pool)| pool.scrape.is_empty()) {
            let Some(known) = state.pools.get(index).filter(|known| known.pods_known) else {
                pages.partial = true;
                continue;
            };
            pages.targets.extend(known.pages.iter().map(|page| {
                let labels = [
                    (NAMESPACE_LABEL, pool.namespace.as_str()),
                    (POD_LABEL, page.pod.as_str()),
                    (INSTANCE_LABEL, page.address.as_str()),
                ];
                let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
                let path = dialect::of(pool.engine).page;
                Target { url: format!("http://{}{path}", page.address), labels, pool: Some(index) }
            }));
        }
        pages
    }
}

/// What one discovery address said last.
#[derive(Debug, Default)]
struct Memory {
    targets: Vec<Target>,
    /// Unix time since when it lists nothing after having listed something.
    empty_since_seconds: Option<f64>,
    answered: bool,
}

/// Remembers what was listed, to bridge faults of the discovery.
#[derive(Debug, Default)]
pub struct Discovery(BTreeMap<String, Memory>);

impl Discovery {
    /// Combine the answers of this look's discovery requests with the fixed addresses.
    pub fn list(
        &mut self,
        answers: Vec<(String, Result<Vec<Target>, String>)>,
        addresses: &[String],
        pods: PodPages,
        policy: &Policy,
        now_seconds: f64,
    ) -> Listing {
        let mut listing = Listing { complete: true, ..Listing::default() };
        let mut failed = Vec::new();
        for (url, answer) in answers {
            self.take(&url, answer, policy.planner.stale_after_seconds, now_seconds, &mut listing, &mut failed);
        }
        listing.targets.extend(addresses.iter().map(|address| from_address(address)));
        for (index, pool) in policy.pools.iter().enumerate() {
            for address in &pool.scrape {
                let mut target = from_address(address);
                target.labels.insert(NAMESPACE_LABEL.to_owned(), pool.namespace.clone());
                target.pool = Some(index);
                listing.targets.push(target);
            }
        }
        listing.targets.extend(pods.targets);
        listing.complete &= !pods.partial;
        if listing.targets.is_empty() {
            let configured = pods.asked || !self.0.is_empty() || !failed.is_empty();
            if !failed.is_empty() && !self.0.values().any(|memory| memory.answered) {
                listing.error = Some(failed.join("; "));
            } else if !configured {
                listing.error = Some(
                    "nothing to scrape: give a discovery address, a metrics page, or `scrape` in the policy".into(),
                );
            }
        }
        listing.complete &= listing.error.is_none();
        drop_twins(&mut listing);
        listing
    }

    fn take(
        &mut self,
        url: &str,
        answer: Result<Vec<Target>, String>,
        patience_seconds: f64,
        now_seconds: f64,
        listing: &mut Listing,
        failed: &mut Vec<String>,
    ) {
        let memory = self.0.entry(url.to_owned()).or_default();
        let doubt = match answer {
            Ok(targets) if !targets.is_empty() || memory.targets.is_empty() => {
                *memory = Memory { targets, empty_since_seconds: None, answered: true };
                None
            }
            Ok(_) => {
                let since = *memory.empty_since_seconds.get_or_insert(now_seconds);
                if now_seconds - since >= patience_seconds {
                    *memory = Memory { answered: true, ..Memory::default() };
                    None
                } else {
                    Some(format!("lists no target any more; believed when it stays so for {patience_seconds:.0} s"))
                }
            }
            Err(error) => Some(error),
        };
        if let Some(doubt) = doubt {
            listing.complete = false;
            listing.partial = true;
            let subject = http::printable(url);
            failed.push(format!("discovery {subject}: {doubt}"));
            listing.findings.push(Finding { kind: FindingKind::SourceFailed, subject, message: doubt });
        }
        listing.targets.extend(memory.targets.iter().cloned());
    }
}

/// Keep every page once. A page that the policy lists under a pool belongs to it, whoever else lists it.
fn drop_twins(listing: &mut Listing) {
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    let mut kept: Vec<Target> = Vec::with_capacity(listing.targets.len());
    for target in std::mem::take(&mut listing.targets) {
        let Some(&index) = first.get(&target.url) else {
            first.insert(target.url.clone(), kept.len());
            kept.push(target);
            continue;
        };
        let twin = &mut kept[index];
        if twin.pool.is_none() && target.pool.is_some() {
            twin.pool = target.pool;
        } else {
            let subject = http::printable(&target.url);
            let message = "is listed twice; it is scraped and counted once".to_owned();
            listing.findings.push(Finding { kind: FindingKind::DuplicateSeries, subject, message });
        }
    }
    listing.targets = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_sd_gives_addresses_and_labels() {
        let json = br#"[{"targets":["10.0.0.1:8000","10.0.0.2:8000"],"labels":{"namespace":"inference","pod":"a-0",
            "__metrics_path__":"/r/1/metrics","__scheme__":"https","__param_x":"y","__meta_kubernetes_pod_name":"b"}},
            {"targets":["h:1"]}]"#;
        let targets = parse_http_sd(json).unwrap();
        assert_eq!(targets[0].url, "https://10.0.0.1:8000/r/1/metrics?x=y");
        assert_eq!(targets[0].labels["instance"], "10.0.0.1:8000/r/1/metrics");
        assert_eq!((targets[0].labels["pod"].as_str(), targets[0].labels.len()), ("a-0", 3));
        assert_eq!((targets[2].url.as_str(), targets[2].labels["instance"].as_str()), ("http://h:1/metrics", "h:1"));
        for bad in ["{}", "[{\"targets\":\"x\"}]", "<html>", "[{}]"] {
            assert!(parse_http_sd(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_is_a_page() {
        for (given, url, name) in [
            ("127.0.0.1:9", "http://127.0.0.1:9/metrics", "127.0.0.1:9"),
            ("https://h:1/", "https://h:1/metrics", "h:1"),
            ("http://h:1/x/metrics", "http://h:1/x/metrics", "h:1/x"),
            ("http://u:secret@h:1/m", "http://u:secret@h:1/m", "h:1/m"),
        ] {
            let target = from_address(given);
            assert_eq!((target.url.as_str(), target.labels["pod"].as_str()), (url, name));
        }
    }
}
