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
use super::cluster::{Coexistence, Owner};
use super::encode::text_response;
use super::families;
use super::health;
use super::state::ServeState;
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
        standing(&mut page, &self.0, now_seconds)?;
        self.0.keda_calls().write(&mut page)?;
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
    if let Some(decision) = &published.decision {
        let solve = &decision.solve;
        let help =
            "How far the cost of the last plan may be above the least possible, as a share; 0 when it is proven best.";
        page.gauge("poolwright_plan_gap_ratio", help, solve.gap)?;
        page.gauge("poolwright_plan_work_units", "Units of work spent on the last plan.", solve.work_units as f64)?;
        let help = "1 when the last plan was ended by its time limit.";
        let stopped = solve.was_stopped();
        page.gauge("poolwright_plan_stopped", help, f64::from(u8::from(stopped)))?;
    }
    let counters = [
        ("poolwright_ticks", "Ticks of the loop.", daemon.ticks),
        (
            "poolwright_failed_observations",
            "Observations whose source did not answer at all.",
            daemon.failed_observations,
        ),
        (
            "poolwright_refused_plans",
            "Answers of a solver that the independent check refused and replaced.",
            daemon.refused_plans,
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

/// Counts by result.
fn results<'a>(counts: &'a [(&'static str, u64)]) -> impl Iterator<Item = (Labels<'a>, u64)> {
    counts.iter().map(|(result, count)| (vec![("result", *result)], *count))
}

/// What the checks of the aggregated API came to.
fn access(page: &mut Page<'_>, numbers: &AccessNumbers) -> fmt::Result {
    let help = "Requests to the aggregated API by how their caller was identified; refused ones got 401.";
    page.counters("poolwright_api_authentications", help, results(&numbers.authentications))?;
    let help =
        "Requests to the aggregated API by whether they are allowed; failed ones had no answer from the cluster.";
    page.counters("poolwright_api_authorizations", help, results(&numbers.authorizations))?;
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

/// Certificates and, in a cluster, the APIService.
fn standing(page: &mut Page<'_>, state: &ServeState, now_seconds: f64) -> fmt::Result {
    let help = "Time until the serving certificate of the listener expires, seconds; negative afterwards, and until the first one is there.";
    let left = state.certificates().iter().map(|(listener, tls)| {
        let labels: Labels<'_> = vec![("listener", listener)];
        (labels, Some(tls.expires_at_seconds() - now_seconds))
    });
    page.gauges("poolwright_serving_certificate_expiry_seconds", help, left)?;
    if let Some(upstream) = state.upstream() {
        let (asked, failed) = upstream.counts();
        page.counter("poolwright_upstream_requests", "Requests passed on to the upstream metrics server.", asked)?;
        let help = "Requests to the upstream metrics server without a usable answer.";
        page.counter("poolwright_upstream_failures", help, failed)?;
    }
    let Some(cluster) = state.cluster() else { return Ok(()) };
    let flag = |is: bool| Some(f64::from(u8::from(is)));
    let help = "Who owns the APIService of the external metrics API: 1 for the owner, 0 for the others.";
    let owners = Owner::ALL.map(|owner| {
        let labels: Labels<'_> = vec![("owner", owner.as_str())];
        (labels, flag(cluster.api_service.owner == owner))
    });
    page.gauges("poolwright_apiservice_owner", help, owners)?;
    let help = "By which way the numbers reach those who scale: 1 for the way in use, 0 for the others.";
    let modes = Coexistence::ALL.map(|mode| {
        let labels: Labels<'_> = vec![("mode", mode.as_str())];
        (labels, flag(cluster.mode == mode))
    });
    page.gauges("poolwright_coexistence_mode", help, modes)?;
    let checked = cluster.api_service.checked_at_seconds.map(|at| (now_seconds - at).max(0.0));
    let help = "Time since the APIService was last read, seconds.";
    page.gauges("poolwright_apiservice_check_age_seconds", help, [(vec![], checked)])?;
    let error = cluster.certificate.as_ref().map(|c| f64::from(u8::from(c.error.is_some())));
    let help = "1 while something keeps the self-made certificates from being renewed or trusted.";
    page.gauges("poolwright_certificate_error", help, [(vec![], error)])
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

    /// One counter family; its name gains `_total`. A family without values is left out.
    pub fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_counter(&value, None::<&Exemplar<[(&str, &str); 0], f64>>)?;
        }
        Ok(())
    }

    /// A counter without labels; its name gains `_total`.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        family.encode_counter(&value, None::<&Exemplar<[(&str, &str); 0], f64>>)
    }
}
