//! The external metrics API as kube-apiserver's aggregator, HPA and kubectl use it: discovery, the data
//! path, OpenAPI, `/version`. Lists are answered in JSON, YAML and Kubernetes' protobuf.
//!
//! An error is always safer than a wrong number: HPA holds on an error and acts on every number. So an
//! answer is either complete and fresh or it is an error.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde::Serialize;

use super::discovery::{self, GROUP, GROUP_VERSION, LIST_KIND, Metric};
use super::encode::{Empty, Format, Layout, OFFERS, Object, text_response};
use super::negotiate;
use super::number::NoNumber;
use super::openapi;
use super::options::ListOptions;
use super::path::Endpoint;
use super::protobuf::{self, Message, list_meta};
use super::selector::Selector;
use super::state::ServeState;
use super::status::Status;
use super::upstream::Upstream;
use super::view::{Answer, Item, MetricValue, Refusal};
use crate::control::Withheld;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MetricValueList<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    items: Vec<&'a MetricValue>,
}

impl<'a> MetricValueList<'a> {
    fn new(items: Vec<&'a MetricValue>) -> Self {
        Self { kind: LIST_KIND, api_version: GROUP_VERSION, metadata: Empty {}, items }
    }
}

impl Object for MetricValueList<'_> {
    const API_VERSION: &'static str = GROUP_VERSION;
    const KIND: &'static str = LIST_KIND;

    fn protobuf(&self) -> Message {
        self.items
            .iter()
            .fold(Message::default().message(1, &list_meta()), |all, item| all.message(2, &item.protobuf()))
    }
}

/// Every path that no other route takes. Routing is done here and not by patterns, since Kubernetes
/// decodes a path before it splits it and never redirects.
pub fn routes(state: ServeState) -> Router {
    Router::new().fallback(answer).with_state(state)
}

async fn answer(State(state): State<ServeState>, request: Request) -> Response {
    let (query, headers) = (request.uri().query().unwrap_or_default(), request.headers());
    let wanted = Format::wanted(query, headers);
    let format = wanted.unwrap_or_else(|| Format::of_errors(query, headers));
    let endpoint = Endpoint::of(request.uri().path());
    if let Some(upstream) = state.upstream()
        && let Some(question) = Upstream::question(&endpoint, &request)
    {
        return upstream.ask(&question).await.unwrap_or_else(|status| status.into_response(format));
    }
    match endpoint {
        Endpoint::Unknown => text_response(StatusCode::NOT_FOUND, "404 page not found\n"),
        Endpoint::Malformed => text_response(StatusCode::BAD_REQUEST, "400 malformed path\n"),
        Endpoint::UnknownInGroup => Status::unknown_path().into_response(format),
        _ if request.method() != Method::GET => Status::method_not_allowed().into_response(format),
        endpoint => get(&state, &endpoint, &request, wanted).unwrap_or_else(|status| status.into_response(format)),
    }
}

/// `wanted` is the format of objects; `None` when the request accepts none of them.
fn get(state: &ServeState, endpoint: &Endpoint, request: &Request, wanted: Option<Format>) -> Result<Response, Status> {
    let (query, headers) = (request.uri().query().unwrap_or_default(), request.headers());
    let format = || wanted.ok_or_else(|| Status::not_acceptable(&negotiate::names(&OFFERS)));
    match endpoint {
        Endpoint::Groups => discovery::groups(query, headers),
        Endpoint::Group => Ok(discovery::group(format()?)),
        Endpoint::Resources => Ok(discovery::resources(format()?)),
        Endpoint::Version => discovery::version(query, headers),
        Endpoint::OpenApiV2 => openapi::v2(headers),
        Endpoint::OpenApiV3 => Ok(openapi::v3(headers)),
        Endpoint::OpenApiV3Group => openapi::v3_group(query, headers),
        Endpoint::Values { namespace, metric } => values(state, namespace, metric, query, format()?),
        _ => Err(Status::unknown_path()),
    }
}

fn values(state: &ServeState, namespace: &str, metric: &str, query: &str, format: Format) -> Result<Response, Status> {
    let options = ListOptions::parse(query)?;
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
    let body = list(candidates.iter().filter(|item| selector.matches(|key| item.label(key))), format)?;
    Ok(format.response(StatusCode::OK, body))
}

/// The list of these items, or the error of the first that has no number: a shorter list would read as a
/// smaller sum.
fn list<'a>(items: impl Iterator<Item = &'a Item>, format: Format) -> Result<Vec<u8>, Status> {
    let mut answers = items.map(|item| item.answer.as_ref().map(|answer| (answer, &item.value)).map_err(refused));
    match format {
        Format::Json(Layout::Compact) => compact(answers.map(|answer| Ok(answer?.0))),
        Format::Protobuf => {
            let head = Message::default().message(1, &list_meta());
            let object = answers.try_fold(head, |all, answer| Ok(all.raw(&answer?.0.protobuf)))?;
            Ok(protobuf::body(GROUP_VERSION, LIST_KIND, &object))
        }
        Format::Json(Layout::Indented) | Format::Yaml => {
            let values = answers.map(|answer| Ok(answer?.1)).collect::<Result<_, Status>>()?;
            Ok(format.body(&MetricValueList::new(values)))
        }
    }
}

/// The items are already written: put them between the brackets that end the empty list.
fn compact<'a>(answers: impl Iterator<Item = Result<&'a Answer, Status>>) -> Result<Vec<u8>, Status> {
    let mut body = Layout::Compact.body(&MetricValueList::new(Vec::new()));
    body.truncate(body.len() - "]}\n".len());
    for (index, answer) in answers.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(answer?.json.as_bytes());
    }
    body.extend_from_slice(b"]}\n");
    Ok(body)
}

fn withheld(metric: Metric, why: &Withheld) -> Status {
    let name = metric.name();
    Status::unavailable(match why {
        Withheld::NotYet | Withheld::Ahead { .. } => format!("no recommendation for {name}: {why}"),
        Withheld::TooOld { age_seconds, limit_seconds } => {
            format!("recommendation for {name} is {:.0}s old, limit {limit_seconds:.0}s", age_seconds.ceil())
        }
    })
}

fn refused(why: &Refusal) -> Status {
    match why {
        Refusal::NoNumber(no) if !matches!(no, NoNumber::TooLarge { .. }) => Status::unavailable(why.to_string()),
        Refusal::NoNumber(_) | Refusal::NoTime | Refusal::Twice { .. } => Status::internal(&why.to_string()),
    }
}
