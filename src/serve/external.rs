//! The external metrics API as kube-apiserver's aggregator, HPA and kubectl use it: discovery, the data
//! path, `/version`. JSON only so far; what else is asked for is refused as Kubernetes refuses it.
//!
//! An error is always safer than a wrong number: HPA holds on an error and acts on every number. So an
//! answer is either complete and fresh or it is an error.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde::Serialize;

use super::discovery::{self, GROUP, GROUP_VERSION, LIST_KIND, Metric};
use super::negotiate::{self, JSON};
use super::options::ListOptions;
use super::path::Endpoint;
use super::selector::Selector;
use super::state::ServeState;
use super::status::{Empty, Layout, Status, json_response, text_response};
use super::upstream::Upstream;
use super::view::{Item, MetricValue, Refusal};
use crate::control::Withheld;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MetricValueList<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    items: Vec<&'a MetricValue>,
}

/// Every path that no other route takes. Routing is done here and not by patterns, since Kubernetes
/// decodes a path before it splits it and never redirects.
pub fn routes(state: ServeState) -> Router {
    Router::new().fallback(answer).with_state(state)
}

async fn answer(State(state): State<ServeState>, request: Request) -> Response {
    let layout = Layout::wanted(request.uri().query().unwrap_or_default(), request.headers());
    let endpoint = Endpoint::of(request.uri().path());
    if let Some(upstream) = state.upstream()
        && let Some(question) = Upstream::question(&endpoint, &request, layout)
    {
        let answer = upstream.ask(&question).await;
        return answer.unwrap_or_else(|status| status.into_response(question.layout));
    }
    match endpoint {
        Endpoint::Unknown | Endpoint::OpenApi => text_response(StatusCode::NOT_FOUND, "404 page not found\n"),
        Endpoint::Malformed => text_response(StatusCode::BAD_REQUEST, "400 malformed path\n"),
        Endpoint::UnknownInGroup => Status::unknown_path().into_response(layout),
        _ if request.method() != Method::GET => Status::method_not_allowed().into_response(layout),
        endpoint => get(&state, &endpoint, &request, layout).unwrap_or_else(|status| status.into_response(layout)),
    }
}

fn get(state: &ServeState, endpoint: &Endpoint, request: &Request, layout: Layout) -> Result<Response, Status> {
    let headers = request.headers();
    match endpoint {
        Endpoint::Groups => discovery::groups(headers, layout),
        Endpoint::Group => discovery::group(headers, layout),
        Endpoint::Resources => discovery::resources(headers, layout),
        Endpoint::Version => discovery::version(headers, layout),
        Endpoint::Values { namespace, metric } => values(state, namespace, metric, request, layout),
        _ => Err(Status::unknown_path()),
    }
}

fn values(
    state: &ServeState,
    namespace: &str,
    metric: &str,
    request: &Request,
    layout: Layout,
) -> Result<Response, Status> {
    let offers = [JSON];
    negotiate::choose(request.headers(), &offers).ok_or_else(|| Status::not_acceptable(&negotiate::names(&offers)))?;
    let options = ListOptions::parse(request.uri().query().unwrap_or_default())?;
    if options.watch {
        return Err(Status::watch_not_supported(GROUP));
    }
    let text = options.label_selector.as_deref().unwrap_or_default();
    let selector = Selector::parse(text).map_err(|e| Status::bad_request(e.to_string()))?;
    let metric = Metric::by_name(metric).ok_or_else(|| Status::unknown_metric(metric, GROUP))?;
    if state.selector_required() && selector == Selector::default() {
        return Err(Status::bad_request(format!(
            "a labelSelector is required: without one the values of all pools are added up; name one with {}=NAME",
            metric.pool_label()
        )));
    }
    let current = state.current().map_err(|e| withheld(metric, &e))?;
    let candidates = current.view.items(metric, namespace, selector.exact(metric.pool_label()));
    list(candidates.iter().filter(|item| selector.matches(|key| item.label(key))), layout)
}

/// The list of these items, or the error of the first that has no number: a shorter list would read as a
/// smaller sum.
fn list<'a>(items: impl Iterator<Item = &'a Item>, layout: Layout) -> Result<Response, Status> {
    let head = MetricValueList { kind: LIST_KIND, api_version: GROUP_VERSION, metadata: Empty {}, items: Vec::new() };
    let body = match layout {
        Layout::Compact => {
            let mut body = layout.body(&head);
            // The items are already written: put them between the brackets that end the empty list.
            body.truncate(body.len() - "]}\n".len());
            for (index, item) in items.enumerate() {
                if index > 0 {
                    body.push(b',');
                }
                body.extend_from_slice(item.answer.as_ref().map_err(refused)?.as_bytes());
            }
            body.extend_from_slice(b"]}\n");
            body
        }
        Layout::Indented => {
            let values = items.map(|item| item.answer.as_ref().map(|_| &item.value).map_err(refused));
            layout.body(&MetricValueList { items: values.collect::<Result<_, _>>()?, ..head })
        }
    };
    Ok(json_response(StatusCode::OK, body))
}

fn withheld(metric: Metric, why: &Withheld) -> Status {
    let name = metric.name();
    Status::unavailable(match why {
        Withheld::NotYet => format!("no recommendation for {name}: {why}"),
        Withheld::TooOld { age_seconds, limit_seconds } => {
            format!("recommendation for {name} is {:.0}s old, limit {limit_seconds:.0}s", age_seconds.ceil())
        }
    })
}

fn refused(why: &Refusal) -> Status {
    match why {
        Refusal::NoNumber { .. } => Status::unavailable(why.to_string()),
        Refusal::TooLarge { .. } | Refusal::NoTime | Refusal::Twice { .. } => Status::internal(&why.to_string()),
    }
}
