//! Kubernetes `Status` errors.

use std::borrow::Cow;

use axum::http::header::ALLOW;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

use super::encode::{Empty, Format, Layout, Object};
use super::protobuf::{Message, list_meta};

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

    /// 502: the server behind this one gave nothing that could be passed on.
    pub fn bad_gateway(why: &str) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "BadGateway", why.to_owned(), None)
    }

    /// 504: the server behind this one took too long.
    pub fn gateway_timeout(why: &str) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", why.to_owned(), None)
    }

    /// The answer to send. 405 names the only method there is, 406 is always indented JSON.
    pub fn into_response(self, format: Format) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let format = if code == StatusCode::NOT_ACCEPTABLE { Format::Json(Layout::Indented) } else { format };
        let mut response = format.response(code, format.body(&self));
        if code == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

impl Object for Status {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "Status";

    fn protobuf(&self) -> Message {
        let head = Message::default().message(1, &list_meta());
        let head = head.text(2, self.status).text(3, &self.message).text(4, self.reason);
        let head = self.details.iter().fold(head, |m, details| m.message(5, &details.protobuf()));
        head.number(6, i64::from(self.code))
    }
}

impl Details {
    fn protobuf(&self) -> Message {
        let cause = |c: &Cause| Message::default().text(1, c.reason).text(2, &c.message).text(3, c.field);
        let text = |text: &Option<Cow<'static, str>>| text.as_deref().unwrap_or_default().to_owned();
        let head = Message::default().text(1, self.name.as_deref().unwrap_or_default());
        let head = head.text(2, &text(&self.group)).text(3, &text(&self.kind));
        // No time to wait and no object's uid, ever.
        head.messages(4, self.causes.iter().map(cause)).number(5, 0).text(6, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(status: &Status) -> String {
        Format::Protobuf.body(status).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The expected bytes were written by the Go library.
    #[test]
    fn protobuf_is_that_of_the_go_library() {
        assert_eq!(
            hex(&Status::new(StatusCode::NOT_FOUND, "NotFound", "no".into(), None)),
            "6b3873000a0c0a027631120653746174757312220a060a0012001a0012074661696c7572651a026e6f22084e6f74466f756e64309403\
             1a002200"
        );
        assert_eq!(
            hex(&Status::unknown_path()),
            "6b3873000a0c0a0276311206537461747573125c0a060a0012001a0012074661696c7572651a307468652073657276657220636f756c\
             64206e6f742066696e642074686520726571756573746564207265736f7572636522084e6f74466f756e642a0a0a0012001a00280032\
             003094031a002200"
        );
        let invalid = Status { message: "m".into(), ..Status::forbidden_option("resourceVersionMatch", "x") };
        assert_eq!(
            hex(&invalid),
            "6b3873000a0c0a0276311206537461747573127d0a060a0012001a0012074661696c7572651a016d2207496e76616c69642a5b0a0012\
             0b6d6574612e6b38732e696f1a0b4c6973744f7074696f6e7322390a134669656c6456616c7565466f7262696464656e120c466f7262\
             696464656e3a20781a147265736f7572636556657273696f6e4d617463682800320030a6031a002200"
        );
    }
}
