//! Kubernetes `Status` errors and how JSON bodies are written to Kubernetes clients.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

/// An error in the shape that client-go and kubectl read. Never carries `Retry-After`: client-go would
/// sleep it inside an HPA worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    status: &'static str,
    message: String,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<Details>>,
    pub(super) code: u16,
}

/// `{}`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Empty {}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Cause>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Cause {
    reason: &'static str,
    message: String,
    field: &'static str,
}

impl Status {
    fn new(code: StatusCode, reason: &'static str, message: String, details: Option<Details>) -> Self {
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: Empty {},
            status: "Failure",
            message,
            reason,
            details: details.map(Box::new),
            code: code.as_u16(),
        }
    }

    /// 404: the metric is not one of ours.
    pub fn unknown_metric(metric: &str, group: &str) -> Self {
        let message = format!("the server could not find the metric {metric} for {group}");
        Self::new(StatusCode::NOT_FOUND, "NotFound", message, None)
    }

    /// 404: no such path in the group.
    pub fn unknown_path() -> Self {
        let message = "the server could not find the requested resource".to_owned();
        Self::new(StatusCode::NOT_FOUND, "NotFound", message, Some(Details::default()))
    }

    /// 405: only GET exists.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource".to_owned();
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message, Some(Details::default()))
    }

    /// 405: nothing can be watched.
    pub fn watch_not_supported(group: &'static str) -> Self {
        let details = Details { group: Some(group.into()), kind: Some("*".into()), ..Details::default() };
        let message = format!("watch is not supported on resources of kind \"*.{group}\"");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message, Some(details))
    }

    /// 400 with the parser's words.
    pub fn bad_request(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message, None)
    }

    /// 422: a combination of list options that Kubernetes forbids.
    pub fn forbidden_option(field: &'static str, why: &str) -> Self {
        let cause = Cause { reason: "FieldValueForbidden", message: format!("Forbidden: {why}"), field };
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: {}", cause.message);
        let details = Details {
            group: Some("meta.k8s.io".into()),
            kind: Some("ListOptions".into()),
            causes: vec![cause],
            ..Details::default()
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message, Some(details))
    }

    /// 406: none of the offered media types is accepted.
    pub fn not_acceptable(offered: &str) -> Self {
        let message = format!("only the following media types are accepted: {offered}");
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message, None)
    }

    /// 401: no credential of the request is accepted.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized".to_owned(), None)
    }

    /// 403: the caller may not do this. Empty parts are left out of the details.
    pub fn forbidden(message: String, group: &str, kind: &str, name: &str) -> Self {
        let part = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let details = Details {
            name: part(name),
            group: part(group).map(Cow::Owned),
            kind: part(kind).map(Cow::Owned),
            causes: Vec::new(),
        };
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message, Some(details))
    }

    /// 504: the request took too long.
    pub fn timeout() -> Self {
        let message = "Timeout: request did not complete within the allotted timeout".to_owned();
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message, Some(Details::default()))
    }

    /// 503: there is no number that may be given now.
    pub fn unavailable(message: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message, None)
    }

    /// 500: what should be given is no number.
    pub fn internal(why: &str) -> Self {
        let message = format!("Internal error occurred: {why}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message, None)
    }

    /// The answer to send. 405 names the only method there is, 406 is always indented.
    pub fn into_response(self, layout: Layout) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let layout = if code == StatusCode::NOT_ACCEPTABLE { Layout::Indented } else { layout };
        let mut response = json_response(code, layout.body(&self));
        if code == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

/// How a JSON body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One line and a newline, for programs.
    Compact,
    /// Indented by two spaces, for people.
    Indented,
}

impl Layout {
    /// Indented for `?pretty=true` and for the clients a person reads with; `?pretty=false` overrules.
    pub fn wanted(query: &str, headers: &HeaderMap) -> Self {
        let asked = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "pretty").map(|(_, value)| value);
        let indented = match asked.as_deref() {
            Some(value) if !value.is_empty() => matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
            _ => {
                let agent = headers.get(USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
                [&b"curl"[..], b"Wget", b"Mozilla/5.0"].iter().any(|known| agent.starts_with(known))
            }
        };
        if indented { Self::Indented } else { Self::Compact }
    }

    /// The body's bytes. Plain data does not fail to serialise; if it did, the body would be empty.
    pub fn body(self, value: &impl Serialize) -> Vec<u8> {
        match self {
            Self::Indented => serde_json::to_vec_pretty(value).unwrap_or_default(),
            Self::Compact => {
                let mut body = serde_json::to_vec(value).unwrap_or_default();
                body.push(b'\n');
                body
            }
        }
    }
}

/// A JSON answer as kube-apiserver labels it.
pub fn json_response(code: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A plain text answer.
pub fn text_response(code: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}
