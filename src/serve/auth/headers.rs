//! How a front proxy names the caller in request headers, and the removal of everything a caller could be
//! named or proven by.

use std::collections::BTreeMap;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::trust::HeaderNames;
use super::user::User;

/// The user the headers name: the first non-empty name, every group, and extras by prefix. `None` without a name.
///
/// # Errors
/// A value is not UTF-8: two programs could read it as two users.
pub(super) fn user(names: &HeaderNames, headers: &HeaderMap) -> Result<Option<User>, String> {
    let Some(name) = first(&names.user, headers)? else { return Ok(None) };
    let uid = first(&names.uid, headers)?.unwrap_or_default();
    let mut groups = Vec::new();
    for value in names.group.iter().flat_map(|name| headers.get_all(name)) {
        groups.push(text(value)?);
    }
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        for key in names.extra_prefixes.iter().filter_map(|prefix| name.as_str().strip_prefix(prefix.as_str())) {
            extra.entry(unescape(key)).or_default().push(text(value)?);
        }
    }
    Ok(Some(User { name, uid, groups, extra }))
}

/// Remove the token and whatever could name a caller, by the trusted names and by the usual ones.
pub(super) fn clear(names: Option<&HeaderNames>, headers: &mut HeaderMap) {
    const USUAL_PREFIX: &str = "x-remote-";
    let named = |name: &HeaderName| {
        names.is_some_and(|names| {
            [&names.user, &names.uid, &names.group].into_iter().any(|list| list.contains(name))
                || names.extra_prefixes.iter().any(|prefix| name.as_str().starts_with(prefix))
        })
    };
    let doomed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| **name == AUTHORIZATION || name.as_str().starts_with(USUAL_PREFIX) || named(name))
        .cloned()
        .collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// The token of an `Authorization: Bearer` header. Further words after the token do not count.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    let mut words = value.splitn(3, ' ');
    let scheme = words.next()?;
    words.next().filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

/// The first value of the first header that has a non-empty one.
fn first(names: &[HeaderName], headers: &HeaderMap) -> Result<Option<String>, String> {
    let value = names.iter().filter_map(|name| headers.get(name)).find(|value| !value.is_empty());
    value.map(text).transpose()
}

fn text(value: &HeaderValue) -> Result<String, String> {
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| "a header of the front proxy is not UTF-8")?;
    Ok(text.to_owned())
}

/// Keys travel percent-encoded. One that is not sound stays as it is.
fn unescape(key: &str) -> String {
    super::super::path::decode(key).unwrap_or_else(|| percent_decode_str(key).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
            })
            .collect()
    }

    #[test]
    fn bearer_tokens_are_read_as_go_reads_them() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("  Bearer abc  ", Some("abc")),
            ("Bearer abc def", Some("abc")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearer  abc", None),
            ("Basic abc", None),
            ("abc", None),
        ] {
            assert_eq!(bearer(&headers(&[("authorization", value)])), token, "{value:?}");
        }
    }

    #[test]
    fn callers_are_named_and_every_name_is_removed() {
        let names = HeaderNames {
            user: vec!["x-custom-user".parse().unwrap(), "x-remote-user".parse().unwrap()],
            uid: vec!["x-remote-uid".parse().unwrap()],
            group: vec!["x-remote-group".parse().unwrap()],
            extra_prefixes: vec!["x-remote-extra-".into()],
        };
        let mut sent = headers(&[
            ("x-custom-user", ""),
            ("x-remote-user", "jane"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-extra-scopes%2fa", "v"),
            ("x-remote-extra-scopes%2fa", "w"),
            ("x-remote-extra-bad%zz", "x"),
            ("authorization", "Bearer t"),
            ("accept", "*/*"),
        ]);
        let user = user(&names, &sent).unwrap().unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "7"));
        assert_eq!(user.groups, ["a", "b"]);
        assert_eq!(user.extra["scopes/a"], ["v", "w"]);
        assert_eq!(user.extra["bad%zz"], ["x"]);
        clear(Some(&names), &mut sent);
        assert_eq!(sent.keys().collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn a_name_that_is_no_text_is_an_error() {
        let names = HeaderNames { user: vec!["x-remote-user".parse().unwrap()], ..HeaderNames::default() };
        let mut sent = HeaderMap::new();
        assert_eq!(user(&names, &sent), Ok(None));
        sent.insert("x-remote-user", HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(user(&names, &sent).is_err());
    }
}
