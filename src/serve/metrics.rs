//! The daemon's own `/metrics`: one collector that reads the snapshot when it is scraped, so that no
//! gauge can lag behind or outlive the decision it came from.
//!
//! Everything that comes from a decision disappears when the decision is too old to be served; what says
//! so (`poolwright_decision_stale`, its age, the counters of the loop) stays.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::auth::AccessNumbers;
use super::families;
use super::health;
use super::state::ServeState;
use super::status::text_response;
use crate::control::Published;

/// Names and values of one series' labels.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The same text, labelled for clients that do not know OpenMetrics.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

pub fn routes(state: ServeState) -> Router {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(state)));
    Router::new().route("/metrics", get(scrape)).with_state(Arc::new(registry))
}

async fn scrape(State(registry): State<Arc<Registry>>, headers: HeaderMap) -> Response {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let kind = if accepts.into_iter().any(|a| a.contains("openmetrics-text")) { OPEN_METRICS } else { PLAIN };
    let mut body = String::new();
    match text::encode(&mut body, &registry) {
        Ok(()) => ([("content-type", kind), ("cache-control", "no-store")], body).into_response(),
        Err(_) => text_response(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n"),
    }
}

#[derive(Debug)]
struct Snapshot(ServeState);

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        let published = self.0.published();
        let now_seconds = self.0.now_seconds();
        daemon(&mut page, &published, now_seconds, health::is_ready(&self.0))?;
        if let Some(report) = self.0.access() {
            access(&mut page, &report.numbers())?;
        }
        match published.current(now_seconds) {
            Ok(decision) => families::decision(&mut page, decision),
            Err(_) => Ok(()),
        }
    }
}

/// What is true of the daemon whatever it decided.
fn daemon(page: &mut Page<'_>, published: &Published, now_seconds: f64, ready: bool) -> fmt::Result {
    let commit = option_env!("POOLWRIGHT_GIT_COMMIT").unwrap_or("unknown");
    let build: Labels<'_> = vec![("version", env!("CARGO_PKG_VERSION")), ("commit", commit)];
    page.gauges("poolwright_build_info", "Version of this program; always 1.", [(build, Some(1.0))])?;
    page.gauge("poolwright_ready", "Whether /readyz answers 200 (1) or not (0).", f64::from(u8::from(ready)))?;

    let age = published.decision.as_ref().map(|d| (now_seconds - d.at_seconds).max(0.0));
    let stale = f64::from(u8::from(published.current(now_seconds).is_err()));
    page.gauges("poolwright_decision_age_seconds", "Age of the newest decision, seconds.", [(vec![], age)])?;
    page.gauge(
        "poolwright_decision_max_age_seconds",
        "Age beyond which a decision is no longer served, seconds.",
        published.max_age_seconds,
    )?;
    let help = "1 while no decision may be served: none was made yet, or it is too old. All series of the decision are absent then.";
    page.gauge("poolwright_decision_stale", help, stale)?;

    let (daemon, policy) = (&published.daemon, &published.policy);
    page.gauge("poolwright_decide_duration_seconds", "Duration of the last decision, seconds.", daemon.decide_seconds)?;
    page.gauge(
        "poolwright_observe_duration_seconds",
        "Duration of the last observation, seconds.",
        daemon.observe_seconds,
    )?;
    let counters = [
        ("poolwright_ticks", "Ticks of the loop.", daemon.ticks),
        (
            "poolwright_failed_observations",
            "Observations whose source did not answer at all.",
            daemon.failed_observations,
        ),
        ("poolwright_journal_errors", "Decisions that could not be written to the journal.", daemon.journal_errors),
        ("poolwright_state_errors", "Times the state could not be stored.", daemon.state_errors),
        ("poolwright_policy_reloads", "Policy edits taken over.", policy.reloads),
        ("poolwright_policy_rejected", "Policy edits refused; the last good policy stayed.", policy.rejected),
    ];
    for (name, help, value) in counters {
        page.counter(name, help, value)?;
    }
    let error = f64::from(u8::from(policy.error.is_some()));
    let help = "1 while the newest edit of the policy is refused and an older one is in force.";
    page.gauge("poolwright_policy_error", help, error)?;
    let info: Labels<'_> = vec![("fingerprint", &policy.fingerprint)];
    page.gauges("poolwright_policy_info", "Policy in force, by the hash of its text; always 1.", [(info, Some(1.0))])?;
    let source: Labels<'_> = vec![("source", &daemon.source)];
    page.gauges("poolwright_source_info", "Where the observations come from; always 1.", [(source, Some(1.0))])
}

/// What the checks of the aggregated API came to.
fn access(page: &mut Page<'_>, numbers: &AccessNumbers) -> fmt::Result {
    let help = "Requests to the aggregated API by how their caller was identified; refused ones got 401.";
    page.counters("poolwright_api_authentications", help, "result", &numbers.authentications)?;
    let help =
        "Requests to the aggregated API by whether they are allowed; failed ones had no answer from the cluster.";
    page.counters("poolwright_api_authorizations", help, "result", &numbers.authorizations)?;
    let help = "Requests to the aggregated API refused with 429 for lack of a place.";
    page.counter("poolwright_api_throttled_requests", help, numbers.throttled)?;
    let help = "Requests to the aggregated API that took too long and got 504.";
    page.counter("poolwright_api_timed_out_requests", help, numbers.timed_out)?;
    let help = "Requests to the aggregated API being worked on, those of administrators left out.";
    page.gauge("poolwright_api_requests_in_flight", help, numbers.in_flight as f64)?;
    let bit = |yes: bool| f64::from(u8::from(yes));
    let help = "Whether the cluster's authentication settings were read since the start.";
    page.gauge("poolwright_api_trust_known", help, bit(numbers.trust_known))?;
    let help = "Whether the cluster's authentication settings could be read last time; 0 while older ones are kept.";
    page.gauge("poolwright_api_trust_confirmed", help, bit(numbers.trust_confirmed))?;
    let help = "1 while any client certificate of the cluster would pass for its front proxy: the two share an authority and no names are required.";
    page.gauge("poolwright_api_front_proxy_unguarded", help, bit(numbers.front_proxy_unguarded))
}

/// The exposition being written.
pub(super) struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauges(name, help, [(vec![], Some(value))])
    }

    /// One gauge family. Values that are absent or not finite are left out, and so is a family without
    /// values.
    pub fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, Option<f64>)>,
    ) -> fmt::Result {
        let mut samples = samples
            .into_iter()
            .filter_map(|(labels, value)| Some((labels, value.filter(|v| v.is_finite())?)))
            .peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// One counter family with one label; its name gains `_total`.
    fn counters(&mut self, name: &str, help: &str, label: &'static str, samples: &[(&str, u64)]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, count) in samples {
            let labels: Labels<'_> = vec![(label, value)];
            family.encode_family(&labels)?.encode_counter(count, None::<&Exemplar<[(&str, &str); 0], f64>>)?;
        }
        Ok(())
    }

    /// A counter without labels; its name gains `_total`.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        family.encode_counter(&value, None::<&Exemplar<[(&str, &str); 0], f64>>)
    }
}
