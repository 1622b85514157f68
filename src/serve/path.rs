//! Which endpoint of the aggregated API a request path names.
//!
//! The path is decoded once and then split, as kube-apiserver does. A separator that was encoded inside a
//! segment is refused, so that nobody can read one path in two ways.

use percent_encoding::percent_decode_str;

use super::discovery::{GROUP, VERSION};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/apis`
    Groups,
    /// `/apis/external.metrics.k8s.io`
    Group,
    /// `/apis/external.metrics.k8s.io/v1beta1`
    Resources,
    /// `/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}`
    Values { namespace: String, metric: String },
    /// `/openapi/v2`, `/openapi/v3` and everything below.
    OpenApi,
    /// `/version`
    Version,
    /// Something else below our group.
    UnknownInGroup,
    /// Something else.
    Unknown,
    /// Not decodable as UTF-8.
    Malformed,
}

impl Endpoint {
    /// Read a path as it stood in the request line.
    pub fn of(raw_path: &str) -> Self {
        let Some(path) = decode(raw_path) else { return Self::Malformed };
        let trimmed = path.strip_prefix('/').unwrap_or(&path);
        let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
        let segments: Vec<&str> = trimmed.split('/').collect();
        let in_group = segments.starts_with(&["apis", GROUP]);
        let encoded_separator = raw_path.as_bytes().windows(3).any(|w| w.eq_ignore_ascii_case(b"%2f"));
        if encoded_separator || path.contains('\0') {
            return if in_group { Self::UnknownInGroup } else { Self::Unknown };
        }
        match segments[..] {
            ["apis"] => Self::Groups,
            ["apis", GROUP] => Self::Group,
            ["apis", GROUP, VERSION] => Self::Resources,
            ["apis", GROUP, VERSION, "namespaces", namespace, metric]
                if !namespace.is_empty() && !metric.is_empty() =>
            {
                Self::Values { namespace: namespace.to_owned(), metric: metric.to_owned() }
            }
            ["openapi", "v2" | "v3", ..] => Self::OpenApi,
            ["version"] => Self::Version,
            _ if in_group => Self::UnknownInGroup,
            _ => Self::Unknown,
        }
    }
}

/// The decoded path; `None` where an escape is broken or the bytes are no UTF-8.
pub(super) fn decode(raw: &str) -> Option<String> {
    let bytes = raw.as_bytes();
    let sound = bytes.iter().enumerate().filter(|(_, b)| **b == b'%').all(|(i, _)| {
        let digits = bytes.get(i + 1..i + 3).unwrap_or_default();
        digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit)
    });
    let decoded = sound.then(|| percent_decode_str(raw).decode_utf8())?.ok()?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/apis/external.metrics.k8s.io/v1beta1";

    fn values(namespace: &str, metric: &str) -> Endpoint {
        Endpoint::Values { namespace: namespace.into(), metric: metric.into() }
    }

    #[test]
    fn paths_name_endpoints() {
        for (path, endpoint) in [
            ("/apis", Endpoint::Groups),
            ("/apis/", Endpoint::Groups),
            ("/apis/external.metrics.k8s.io", Endpoint::Group),
            (BASE, Endpoint::Resources),
            (&format!("{BASE}/"), Endpoint::Resources),
            (&format!("{BASE}/namespaces/n/m"), values("n", "m")),
            (&format!("{BASE}/namespaces/n/m/"), values("n", "m")),
            (&format!("{BASE}/namespaces/n/m/x"), Endpoint::UnknownInGroup),
            (&format!("{BASE}/namespaces//m"), Endpoint::UnknownInGroup),
            (&format!("{BASE}/m"), Endpoint::UnknownInGroup),
            (&format!("{BASE}//"), Endpoint::UnknownInGroup),
            ("/openapi/v2", Endpoint::OpenApi),
            ("/openapi/v3/apis/x/v1", Endpoint::OpenApi),
            ("/version", Endpoint::Version),
            ("/apis/apps/v1", Endpoint::Unknown),
            ("/", Endpoint::Unknown),
            ("", Endpoint::Unknown),
            ("//apis", Endpoint::Unknown),
        ] {
            assert_eq!(Endpoint::of(path), endpoint, "{path}");
        }
    }

    #[test]
    fn escapes_are_decoded_once_and_never_separate() {
        let of = |metric: &str| Endpoint::of(&format!("{BASE}/namespaces/n/{metric}"));
        assert_eq!(of("a%3Ab"), values("n", "a:b"));
        assert_eq!(of("a%253Ab"), values("n", "a%3Ab"));
        assert_eq!(of("a%252Fb"), values("n", "a%2Fb"));
        assert_eq!(of("a%2Fb"), Endpoint::UnknownInGroup);
        assert_eq!(Endpoint::of(&format!("{BASE}/namespaces/n%2fm")), Endpoint::UnknownInGroup);
        assert_eq!(of("a%00"), Endpoint::UnknownInGroup);
        for broken in ["%ff", "%zz", "%", "%4"] {
            assert_eq!(of(broken), Endpoint::Malformed, "{broken}");
        }
    }
}
