//! Content negotiation: which of the offered media types an `Accept` header asks for, decided as the Go
//! library behind every Kubernetes API server decides it, so that one client gets one answer everywhere.
//!
//! Clauses are tried by falling quality, wildcards last; each takes the first offer that fits. A clause
//! with the transformation parameters `as`, `g`, `v` fits only an offer with the same ones.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// Up to so many clauses are sorted exactly as the Go library does.
const SORTED_AS_IN_GO: usize = 12;

/// A media type that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// `application`
    pub kind: &'static str,
    /// `json`
    pub subtype: &'static str,
    /// (group, version, kind) of a transformation, as in `;g=..;v=..;as=..`.
    pub transform: Option<(&'static str, &'static str, &'static str)>,
    /// Whether the encoding has a form for watches, which a client may ask for by `;stream=watch`.
    pub streams: bool,
}

/// Plain `application/json`.
pub const JSON: Offer = Offer { kind: "application", subtype: "json", transform: None, streams: true };

/// `application/yaml`
pub const YAML: Offer = Offer { kind: "application", subtype: "yaml", transform: None, streams: false };

/// Kubernetes' protobuf.
pub const PROTOBUF: Offer =
    Offer { kind: "application", subtype: "vnd.kubernetes.protobuf", transform: None, streams: true };

/// The first clause's first fitting offer; the first offer when nothing is asked for.
pub fn choose<'o>(headers: &HeaderMap, offers: &'o [Offer]) -> Option<&'o Offer> {
    let mut header = String::new();
    for value in headers.get_all(ACCEPT) {
        header.push_str(&String::from_utf8_lossy(value.as_bytes()));
        header.push(',');
    }
    if header.trim_matches([',', ' ']).is_empty() {
        return offers.first();
    }
    let mut clauses: Vec<Clause<'_>> = header.split(',').filter_map(Clause::parse).collect();
    sort(&mut clauses);
    clauses.iter().find_map(|clause| offers.iter().find(|offer| clause.fits(offer)))
}

/// The plain media types, for the error that nothing fits.
pub fn names(offers: &[Offer]) -> String {
    let plain: Vec<String> =
        offers.iter().filter(|o| o.transform.is_none()).map(|o| format!("{}/{}", o.kind, o.subtype)).collect();
    plain.join(", ")
}

/// The best clauses first. The Go library's order is none (a clause of less quality may go before a
/// wildcard), so short lists are sorted by the very steps that it takes.
fn sort(clauses: &mut [Clause<'_>]) {
    if clauses.len() > SORTED_AS_IN_GO {
        let wild = |c: &Clause<'_>| (c.kind == "*", c.subtype == "*");
        clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality).then_with(|| wild(a).cmp(&wild(b))));
        return;
    }
    for end in 1..clauses.len() {
        for index in (1..=end).rev() {
            if !clauses[index].goes_before(&clauses[index - 1]) {
                break;
            }
            clauses.swap(index, index - 1);
        }
    }
}

struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: f32,
    /// (g, v, as)
    transform: Option<(&'a str, &'a str, &'a str)>,
    stream: &'a str,
    /// Asks for a version of the server's own types, which nothing here has.
    server_version: bool,
}

impl<'a> Clause<'a> {
    /// `None` for what is no clause.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = match parts.next()? {
            "*" => ("*", "*"),
            media_type => media_type.split_once('/').filter(|(_, subtype)| !subtype.contains('/'))?,
        };
        let mut clause = Self {
            kind: kind.trim(),
            subtype: subtype.trim(),
            quality: 1.0,
            transform: None,
            stream: "",
            server_version: false,
        };
        let pairs = parts.filter_map(|p| p.split_once('=')).map(|(key, value)| (key.trim(), value.trim()));
        for (key, value) in pairs.filter(|(_, value)| !value.is_empty() && !value.contains('=')) {
            match key {
                "q" => clause.quality = value.parse().unwrap_or(0.0),
                "stream" => clause.stream = value,
                "sv" => clause.server_version = true,
                "g" => clause.transform.get_or_insert_default().0 = value,
                "v" => clause.transform.get_or_insert_default().1 = value,
                "as" => clause.transform.get_or_insert_default().2 = value,
                _ => {}
            }
        }
        Some(clause)
    }

    fn goes_before(&self, other: &Self) -> bool {
        self.quality > other.quality
            || (self.kind != "*" && other.kind == "*")
            || (self.subtype != "*" && other.subtype == "*")
    }

    fn fits(&self, offer: &Offer) -> bool {
        let media_type = match (self.kind, self.subtype) {
            ("*", subtype) => subtype == "*",
            (kind, subtype) => {
                kind.eq_ignore_ascii_case(offer.kind) && (subtype == "*" || subtype.eq_ignore_ascii_case(offer.subtype))
            }
        };
        let stream = self.stream.is_empty() || (offer.streams && self.stream == "watch");
        media_type && stream && !self.server_version && self.transform == offer.transform
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: Offer = Offer { transform: Some(("g.io", "v2", "List")), ..JSON };

    fn chosen(accept: &str) -> Option<&'static Offer> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        choose(&headers, &[JSON, YAML, PROTOBUF, LIST])
    }

    /// All but the marked rows were decided by the Go library.
    #[test]
    fn offers_are_chosen_as_the_go_library_chooses() {
        assert_eq!(choose(&HeaderMap::new(), &[JSON, YAML]), Some(&JSON));
        for (accept, offer) in [
            ("*/*", Some(&JSON)),
            ("application/*", Some(&JSON)),
            ("application/vnd.kubernetes.protobuf, */*", Some(&PROTOBUF)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some(&JSON)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io", None),
            ("application/json;q=0.1, application/yaml;q=0.9", Some(&YAML)),
            ("application/cbor, application/json;q=0.9", Some(&JSON)),
            ("application/json;stream=watch", Some(&JSON)),
            ("application/yaml;stream=watch", None),
            ("application/yaml;stream=watch, application/json", Some(&JSON)),
            ("application/json;stream=other", None),
            ("application/json;sv=1", None),
            ("text/html", None),
            ("application/json;q=0", Some(&JSON)),
            ("application/json;q=0, application/yaml;q=0.5", Some(&YAML)),
            ("nonsense;;;,=,/", None),
            ("*/*, application/yaml", Some(&YAML)),
            ("application/*, application/yaml", Some(&YAML)),
            ("*/*, application/yaml;q=0.5", Some(&YAML)),
            ("application/yaml;q=0.5, */*", Some(&JSON)),
            ("*/*;q=0.1, application/vnd.kubernetes.protobuf;q=0.5", Some(&PROTOBUF)),
            ("*", Some(&JSON)),
            ("application/yaml;q=x, application/json;q=0.1", Some(&JSON)),
            ("application/yaml;q=, application/json;q=0.1", Some(&YAML)),
            ("application/yaml;q=5, application/json", Some(&YAML)),
            ("application/json/x, application/yaml", Some(&YAML)),
            ("application/json;as=", Some(&JSON)),
            ("application/json;as=a=b", Some(&JSON)),
            ("application/yaml;q=0.9;as=Table, application/*;q=0.1", Some(&JSON)),
            (", application/yaml", Some(&YAML)),
            (";q=1, application/yaml", Some(&YAML)),
            ("application/vnd.kubernetes.protobuf;type=x", Some(&PROTOBUF)),
            ("application/apply-patch+yaml, application/yaml", Some(&YAML)),
            ("*/json", None),
            // Ours: an offer with a transformation, an empty header, letters in any case.
            ("application/json;g=g.io;v=v2;as=List, application/json", Some(&LIST)),
            (" , ", Some(&JSON)),
            ("APPLICATION/JSON; charset=utf-8", Some(&JSON)),
        ] {
            assert_eq!(chosen(accept), offer, "{accept}");
        }
    }

    #[test]
    fn long_headers_are_sorted_by_quality() {
        let many = vec!["text/html;q=0.5"; 100_000].join(",");
        assert_eq!(chosen(&format!("{many},application/json;q=0.1,application/yaml;q=0.2")), Some(&YAML));
        assert_eq!(chosen(&many), None);
    }

    #[test]
    fn names_are_plain_media_types() {
        assert_eq!(names(&[JSON, YAML, LIST]), "application/json, application/yaml");
    }
}
