//! Names that Kubernetes and Prometheus accept.

/// What a name that is no DNS label should look like.
pub const LABEL_HINT: &str =
    "use lower-case letters, digits and `-`, at most 63, starting and ending with a letter or digit";

/// What a name that is no DNS subdomain should look like.
pub const SUBDOMAIN_HINT: &str =
    "use lower-case letters, digits, `-` and `.`, at most 253, starting and ending with a letter or digit";

/// A DNS label (RFC 1123), which is a valid Kubernetes label value too.
pub fn is_dns_label(name: &str) -> bool {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(inside) && !name.starts_with('-') && !name.ends_with('-')
}

/// DNS labels joined by dots, the form of most object names.
pub fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

/// A non-empty Kubernetes label value.
pub fn is_label_value(name: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    name.len() <= 63 && name.bytes().all(inside) && edge(name.bytes().next()) && edge(name.bytes().last())
}

/// The name of a Prometheus label.
pub fn is_metric_label(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(is_dns_label("llama-70b") && is_dns_label("1"));
        assert!(!["", "-a", "a-", "A", "a.b", "a_b"].iter().any(|n| is_dns_label(n)) && !is_dns_label(&"a".repeat(64)));
        assert!(is_dns_subdomain("llama-3.1-70b") && !is_dns_subdomain("a..b"));
        assert!(
            is_label_value("H100-SXM_80.GB") && !is_label_value("") && !is_label_value("-a") && !is_label_value("a b")
        );
        assert!(is_metric_label("pod") && is_metric_label("_x1") && !is_metric_label("1x") && !is_metric_label("a-b"));
    }
}
