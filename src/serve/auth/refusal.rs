//! The answers to those who may not, in kube-apiserver's words.

use std::fmt::Write;

use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::Response;

use super::question::{AccessQuestion, Action};
use super::reviews::ReviewError;
use crate::serve::status::{Layout, Status, text_response};

/// 403: the cluster says no.
pub(super) fn forbidden(question: &AccessQuestion, reason: &str, layout: Layout) -> Response {
    let user = quoted(&question.user.name);
    let (group, resource, name, what) = match &question.action {
        Action::Path { verb, path } => ("", "", "", format!("User {user} cannot {verb} path {}", quoted(path))),
        Action::Resource(action) => {
            let whole = match action.subresource.as_str() {
                "" => action.resource.clone(),
                subresource => format!("{}/{subresource}", action.resource),
            };
            let place = match action.namespace.as_str() {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {}", quoted(namespace)),
            };
            let (verb, group) = (&action.verb, quoted(&action.group));
            let what = format!("User {user} cannot {verb} resource {} in API group {group} {place}", quoted(&whole));
            (action.group.as_str(), action.resource.as_str(), action.name.as_str(), what)
        }
    };
    let mut message = match (group, resource) {
        ("", "") => "forbidden: ".to_owned(),
        ("", resource) => subject(resource, name),
        (group, resource) => subject(&format!("{resource}.{group}"), name),
    };
    message += &escaped(&what);
    if !reason.is_empty() {
        message += ": ";
        message += reason;
    }
    let mut response = Status::forbidden(message, group, resource, name).into_response(layout);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn subject(kind: &str, name: &str) -> String {
    if name.is_empty() { format!("{kind} is forbidden: ") } else { format!("{kind} {} is forbidden: ", quoted(name)) }
}

/// 500 in plain text: the cluster does not say.
pub(super) fn no_verdict(uri: &Uri, error: &ReviewError) -> Response {
    let asked = uri.path_and_query().map_or("/", |asked| asked.as_str());
    let message = escaped(&format!("Internal Server Error: {}: {error}", quoted(asked)));
    text_response(StatusCode::INTERNAL_SERVER_ERROR, message + "\n")
}

/// So that no browser reads markup out of a message.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// In double quotes, with what cannot be printed escaped, as Go's `%q` does.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\u{7}' => out += "\\a",
            '\u{8}' => out += "\\b",
            '\u{c}' => out += "\\f",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            '\u{b}' => out += "\\v",
            _ if !letter.is_control() && (letter == ' ' || !letter.is_whitespace()) => out.push(letter),
            // Writing to a String does not fail.
            _ if u32::from(letter) < 0x80 => drop(write!(out, "\\x{:02x}", u32::from(letter))),
            _ => drop(write!(out, "\\u{:04x}", u32::from(letter))),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        for (text, expected) in [
            ("a b", r#""a b""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\u{0}\n\u{1b}\u{7f}", r#""\x00\n\x1b\x7f""#),
            ("\u{85}\u{2028}é", r#""\u0085\u2028é""#),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
