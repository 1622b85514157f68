//! Prometheus' HTTP API: one query in, series out, every fault in one clear line.
//!
//! Uses the raw answers of `prometheus-http-query`, because status, headers and warnings matter here. Knows
//! nothing of what the queries mean.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use prometheus_http_query as phq;
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::http::{self, HttpAccess};
use super::reading::Labels;

/// Largest answer that is read.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Longest error text taken over from a server.
const MAX_ERROR_CHARS: usize = 300;

/// A number that JSON carries in quotes: `"0.25"`, `"NaN"`, `"+Inf"`.
#[derive(Clone, Copy, Debug)]
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number in quotes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                text.parse().map(Number).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[derive(Debug, Deserialize)]
struct RawSeries {
    #[serde(default)]
    metric: Labels,
    value: Option<(f64, Number)>,
    #[serde(default)]
    values: Vec<(f64, Number)>,
}

#[derive(Debug, Deserialize)]
struct RawData {
    #[serde(default)]
    result: Vec<RawSeries>,
}

#[derive(Debug, Deserialize)]
struct RawAnswer {
    status: String,
    data: Option<RawData>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

/// One series of an answer: its labels and its samples (Unix seconds, value), oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub labels: Labels,
    pub samples: Vec<(f64, f64)>,
}

impl Series {
    /// The newest sample.
    pub fn last(&self) -> Option<(f64, f64)> {
        self.samples.last().copied()
    }
}

/// The answer to one query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub series: Vec<Series>,
    /// The server's own doubts, e.g. that a store did not answer.
    pub warnings: Vec<String>,
    /// The server's clock, Unix seconds.
    pub server_seconds: Option<f64>,
}

/// A server and how to reach it.
pub struct PromClient {
    client: phq::Client,
    access: HttpAccess,
    /// Address for messages.
    name: String,
}

impl fmt::Debug for PromClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PromClient").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Headers of the queries of one look.
#[derive(Clone)]
pub struct Credentials(HeaderMap);

impl PromClient {
    /// # Errors
    /// The address, a certificate or a key cannot be used.
    pub fn new(url: &str, access: HttpAccess) -> Result<Self> {
        let name = http::printable(url);
        let usable = |url: &reqwest::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        let parsed = reqwest::Url::parse(url).ok().filter(usable);
        let parsed = parsed.with_context(|| format!("`{name}` is not an http:// or https:// address"))?;
        let loopback = match parsed.host_str().unwrap_or_default().trim_matches(['[', ']']) {
            "localhost" => true,
            host => host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        };
        let client = phq::Client::from(access.client(!loopback)?, url).with_context(|| format!("`{name}`"))?;
        Ok(Self { client, access, name })
    }

    /// Read token and password files for the next queries.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn credentials(&self) -> Result<Credentials> {
        self.access.request_headers(self.client.inner()).map(Credentials)
    }

    /// Evaluate a query at one time (Unix seconds).
    ///
    /// # Errors
    /// One line that says what went wrong, with the server's address.
    pub async fn instant(&self, query: &str, at_seconds: f64, with: &Credentials) -> Result<Answer, String> {
        let mut request = self
            .client
            .query(query)
            .query("time", format!("{at_seconds:.3}"))
            .timeout(self.access.timeout().as_millis().try_into().unwrap_or(i64::MAX));
        for (name, value) in &with.0 {
            request = request.header(name.clone(), value.clone());
        }
        self.read(request.post_raw().await).await.map_err(|why| self.explain(&why))
    }

    /// Evaluate a query at many times; `start` and `end` in whole Unix seconds.
    ///
    /// # Errors
    /// As [`instant`](Self::instant).
    pub async fn range(
        &self,
        query: &str,
        start: i64,
        end: i64,
        step: f64,
        with: &Credentials,
    ) -> Result<Answer, String> {
        let mut request = self.client.query_range(query, start, end, step);
        for (name, value) in &with.0 {
            request = request.header(name.clone(), value.clone());
        }
        self.read(request.post_raw().await).await.map_err(|why| self.explain(&why))
    }

    fn explain(&self, why: &str) -> String {
        format!("prometheus at {}: {why}", self.name)
    }

    async fn read(&self, response: Result<Response, phq::Error>) -> Result<Answer, String> {
        let timeout = self.access.timeout();
        let response = response.map_err(|error| {
            let source = std::error::Error::source(&error).and_then(|e| find_reqwest(e));
            source.map_or_else(|| http::root_cause(&error), |e| http::why(e, timeout))
        })?;
        let status = response.status();
        let json = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .map(|v| v.to_ascii_lowercase())
            .is_some_and(|v| v.contains("json"));
        let server_seconds = response.headers().get(DATE).and_then(|v| http_date(v.to_str().ok()?));
        let body = http::body(response, MAX_ANSWER_BYTES, timeout).await?;
        let answer = serde_json::from_slice::<RawAnswer>(&body);
        if !status.is_success() {
            let said = answer.ok().and_then(|a| a.error).map(|e| format!(": {}", one_line(&e)));
            let said = said.unwrap_or_else(|| if json { String::new() } else { " (the answer is not JSON)".into() });
            return Err(format!("{}{said}", http::status_text(status)));
        }
        let answer = answer.map_err(|error| {
            if json {
                format!("the answer cannot be read: {error}")
            } else {
                "the answer is not that of a Prometheus API; check the address and its path".to_owned()
            }
        })?;
        if answer.status != "success" {
            return Err(format!("refused the query: {}", one_line(&answer.error.unwrap_or_default())));
        }
        let series = answer.data.map(|d| d.result).unwrap_or_default().into_iter().map(Series::from).collect();
        Ok(Answer { series, warnings: answer.warnings.iter().map(|w| one_line(w)).collect(), server_seconds })
    }
}

impl From<RawSeries> for Series {
    fn from(raw: RawSeries) -> Self {
        let samples = raw.value.into_iter().chain(raw.values).map(|(time, Number(value))| (time, value)).collect();
        Self { labels: raw.metric, samples }
    }
}

fn find_reqwest<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a reqwest::Error> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        current = error.source();
    }
    None
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_ERROR_CHARS).collect()
}

/// Unix time of an HTTP date, seconds.
fn http_date(text: &str) -> Option<f64> {
    #[allow(clippy::cast_precision_loss)] // Seconds since 1970 are far below 2^53.
    chrono::DateTime::parse_from_rfc2822(text).ok().map(|t| t.timestamp() as f64)
}

/// Samples of all series with the same labels but for `without`, added up over those series at every time any of
/// them has a sample. A series that has none at a time contributes its neighbouring sample, so that one missed
/// sample is not taken for a restart.
pub fn sum_without<'a>(
    series: impl IntoIterator<Item = &'a Series>,
    without: &[&str],
) -> BTreeMap<Labels, Vec<(f64, f64)>> {
    merge_without(series, without, |a, b| a + b)
}

/// The greatest of them instead of their sum.
pub fn max_without<'a>(
    series: impl IntoIterator<Item = &'a Series>,
    without: &[&str],
) -> BTreeMap<Labels, Vec<(f64, f64)>> {
    merge_without(series, without, f64::max)
}

fn merge_without<'a>(
    series: impl IntoIterator<Item = &'a Series>,
    without: &[&str],
    merge: fn(f64, f64) -> f64,
) -> BTreeMap<Labels, Vec<(f64, f64)>> {
    let mut groups: BTreeMap<Labels, Vec<&Series>> = BTreeMap::new();
    for one in series.into_iter().filter(|s| !s.samples.is_empty()) {
        let labels = one
            .labels
            .iter()
            .filter(|(n, _)| !without.contains(&n.as_str()))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        groups.entry(labels).or_default().push(one);
    }
    groups.into_iter().map(|(labels, members)| (labels, merged(&members, merge))).collect()
}

fn merged(members: &[&Series], merge: fn(f64, f64) -> f64) -> Vec<(f64, f64)> {
    if let [one] = members {
        return one.samples.clone();
    }
    let mut times: Vec<f64> = members.iter().flat_map(|s| s.samples.iter().map(|(time, _)| *time)).collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    let mut totals: Vec<(f64, Option<f64>)> = times.iter().map(|time| (*time, None)).collect();
    for member in members {
        let mut next = 0;
        for (time, total) in &mut totals {
            while next + 1 < member.samples.len() && member.samples[next + 1].0 <= *time {
                next += 1;
            }
            let value = member.samples[next].1;
            *total = Some(total.map_or(value, |total| merge(total, value)));
        }
    }
    totals.into_iter().filter_map(|(time, total)| Some((time, total?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(labels: &[(&str, &str)], samples: &[(f64, f64)]) -> Series {
        let labels = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Series { labels, samples: samples.to_vec() }
    }

    #[test]
    fn a_missed_sample_of_one_reason_is_no_restart() {
        let a = series(&[("pod", "p"), ("finished_reason", "stop")], &[(0.0, 100.0), (15.0, 110.0), (30.0, 120.0)]);
        let b = series(&[("pod", "p"), ("finished_reason", "length")], &[(15.0, 50.0)]);
        let c = series(&[("pod", "q"), ("finished_reason", "stop")], &[(30.0, 1.0)]);
        let sums = sum_without([&a, &b, &c], &["finished_reason"]);
        let of = |pod: &str| &sums[&Labels::from([("pod".to_owned(), pod.to_owned())])];
        assert_eq!(of("p"), &vec![(0.0, 150.0), (15.0, 160.0), (30.0, 170.0)]);
        assert_eq!(of("q"), &vec![(30.0, 1.0)]);
    }

    #[test]
    fn http_dates_are_read() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777.0));
        assert_eq!(http_date("yesterday"), None);
    }
}
