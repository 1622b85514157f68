//! How an answer is written for a Kubernetes client: JSON, YAML or Kubernetes' protobuf, with the headers
//! that kube-apiserver sends.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, USER_AGENT, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::negotiate::{self, JSON, Offer, PROTOBUF, YAML};
use super::protobuf::{self, Message};

/// What objects of the API are offered in, the first when nothing is asked for.
pub const OFFERS: [Offer; 3] = [JSON, YAML, PROTOBUF];

/// An object of a Kubernetes API. Its JSON is its [`Serialize`] form.
pub trait Object: Serialize {
    const API_VERSION: &'static str;
    const KIND: &'static str;

    /// The object's own fields in protobuf, without kind and version.
    fn protobuf(&self) -> Message;
}

/// How a JSON body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One line and a newline, for programs.
    Compact,
    /// Indented by two spaces, for people.
    Indented,
}

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json(Layout),
    Yaml,
    Protobuf,
}

/// `{}`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Empty {}

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

    /// The body's bytes. Plain data does not fail to serialise; if it did, the body would be empty, which
    /// no client takes for a number.
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

impl Format {
    /// The format that a request asks for, of those an object is offered in; `None` when none fits.
    pub fn wanted(query: &str, headers: &HeaderMap) -> Option<Self> {
        negotiate::choose(headers, &OFFERS).map(|offer| Self::of(*offer, Layout::wanted(query, headers)))
    }

    /// The format of an error: as asked for, JSON where nothing fits.
    pub fn of_errors(query: &str, headers: &HeaderMap) -> Self {
        Self::wanted(query, headers).unwrap_or(Self::Json(Layout::wanted(query, headers)))
    }

    pub fn of(offer: Offer, layout: Layout) -> Self {
        match offer {
            PROTOBUF => Self::Protobuf,
            YAML => Self::Yaml,
            _ => Self::Json(layout),
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json(_) => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The body's bytes.
    pub fn body<O: Object>(self, object: &O) -> Vec<u8> {
        match self {
            Self::Json(layout) => layout.body(object),
            Self::Yaml => yaml(object),
            Self::Protobuf => protobuf::body(O::API_VERSION, O::KIND, &object.protobuf()),
        }
    }

    pub fn response(self, code: StatusCode, body: impl Into<Body>) -> Response {
        answer(code, self.content_type(), body)
    }
}

/// YAML of the object's JSON form, keys sorted as Kubernetes sorts them. What an old YAML reader would
/// take for a number, a time or a boolean is quoted.
fn yaml(value: &impl Serialize) -> Vec<u8> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_json::to_value(value).ok().and_then(|v| serde_saphyr::to_string_with_options(&v, options).ok());
    text.unwrap_or_default().into_bytes()
}

/// A JSON answer as kube-apiserver labels it.
pub fn json_response(code: StatusCode, body: impl Into<Body>) -> Response {
    answer(code, "application/json", body)
}

/// A plain text answer.
pub fn text_response(code: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = answer(code, "text/plain; charset=utf-8", body);
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn answer(code: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A constant document and a tag that follows from its content alone, so that every replica of one
/// version gives the same.
#[derive(Debug)]
pub struct Tagged {
    pub document: Vec<u8>,
    /// SHA-256 of the document, hexadecimal.
    pub hash: String,
    tag: HeaderValue,
}

impl Tagged {
    pub fn new(document: Vec<u8>) -> Self {
        let hash: String = Sha256::digest(&document).iter().map(|b| format!("{b:02X}")).collect();
        let tag = HeaderValue::from_str(&format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"0\""));
        Self { document, hash, tag }
    }

    /// 200 with the document, or 304 to a client that has it.
    pub fn response(&'static self, headers: &HeaderMap, content_type: &'static str, caching: &'static str) -> Response {
        let known = headers.get_all(IF_NONE_MATCH).iter().any(|value| {
            let listed = value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
            listed.into_iter().any(|t| t == self.tag.as_bytes())
        });
        let mut response = Response::new(if known { Body::empty() } else { Body::from(self.document.as_slice()) });
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(ETAG, self.tag.clone());
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_quotes_what_a_reader_could_take_for_something_else() {
        let text = |value: &str| String::from_utf8(yaml(&serde_json::json!({ "k": value }))).unwrap();
        for value in
            ["21", "1e3", "2026-11-22T13:00:00Z", "2026-11-22", "yes", "no", "on", "null", "~", "0x1F", "12:30"]
        {
            let written = text(value);
            assert!(written.contains(['"', '\'']), "{written}");
        }
        for value in ["a: b", "#c", "- d", "e\nf", "", " g", "{h}", "é", "\u{1}", "*i", "%j", &"long ".repeat(60)] {
            let read: serde_json::Value = serde_saphyr::from_str(&text(value)).unwrap();
            assert_eq!(read["k"], value);
        }
        assert_eq!(text("llama-a100"), "k: llama-a100\n");
    }
}
