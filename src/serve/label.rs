//! Kubernetes label keys and values: which text is one, and how any text becomes a value that a
//! selector can name.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// Longest label value and longest name part of a label key.
pub const MAX_NAME: usize = 63;

/// Longest prefix of a label key (a DNS subdomain).
pub const MAX_PREFIX: usize = 253;

/// Hexadecimal digits of the hash that keeps changed values apart.
const HASH_DIGITS: usize = 10;

/// True for a label value: empty, or at most 63 of `[A-Za-z0-9_.-]` with a letter or digit at both ends.
pub fn is_value(text: &str) -> bool {
    text.is_empty() || is_name(text)
}

/// True for a label key: an optional DNS subdomain and `/`, then a name.
pub fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(text),
    }
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends_well = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= MAX_NAME
        && ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.iter().all(|&b| b.is_ascii_alphanumeric() || is_joint(b))
}

fn is_joint(byte: u8) -> bool {
    matches!(byte, b'-' | b'_' | b'.')
}

fn is_subdomain(text: &str) -> bool {
    let lower = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= MAX_PREFIX
        && text.split('.').all(|part| {
            let bytes = part.as_bytes();
            bytes.first().is_some_and(lower)
                && bytes.last().is_some_and(lower)
                && bytes.iter().all(|b| lower(b) || *b == b'-')
        })
}

/// A label value that stands for `raw` and that a selector accepts.
///
/// A valid value stays as it is. Anything else has its foreign characters replaced by `-`, is cut, and
/// ends with a part of the SHA-256 of `raw`, so that two different texts keep two different values.
pub fn selectable(raw: &str) -> Cow<'_, str> {
    if is_value(raw) {
        return Cow::Borrowed(raw);
    }
    let kept: String =
        raw.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let kept: String = kept.chars().take(MAX_NAME - HASH_DIGITS - 1).collect();
    let kept = kept.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let hash: String = Sha256::digest(raw).iter().take(HASH_DIGITS / 2).map(|b| format!("{b:02x}")).collect();
    Cow::Owned(if kept.is_empty() { hash } else { format!("{kept}-{hash}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_values_stay_and_others_become_valid() {
        assert_eq!(selectable("llama-70b_H100.a"), "llama-70b_H100.a");
        assert_eq!(selectable(""), "");
        let changed = selectable("meta-llama/Llama-3.1-8B");
        assert!(changed.starts_with("meta-llama-Llama-3.1-8B-"), "{changed}");
        for raw in ["a/b", "-a", "a-", "é", "///", &"x".repeat(64), &"ß".repeat(200), "a b"] {
            let value = selectable(raw);
            assert!(is_value(&value) && !value.is_empty(), "{raw:?} became {value:?}");
        }
    }

    #[test]
    fn different_texts_stay_different() {
        let texts =
            ["a/b", "a-b", "a:b", "a b", "a//b", &format!("{}/x", "m".repeat(80)), &format!("{}/y", "m".repeat(80))];
        let values: std::collections::BTreeSet<_> = texts.iter().map(|t| selectable(t).into_owned()).collect();
        assert_eq!(values.len(), texts.len());
    }

    #[test]
    fn keys_need_a_name_and_a_sound_prefix() {
        for key in ["a", "app.kubernetes.io/name", "A_b.c-9", &"k".repeat(63), &format!("{}/k", "p".repeat(253))] {
            assert!(is_key(key), "{key}");
        }
        for key in [
            "",
            "/a",
            "a/",
            "a/b/c",
            "UP.io/a",
            "-a",
            "a-",
            "a..b/c",
            &"k".repeat(64),
            &format!("{}/k", "p".repeat(254)),
        ] {
            assert!(!is_key(key), "{key}");
        }
    }
}
