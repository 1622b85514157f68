//! Content negotiation: which of the offered media types an `Accept` header asks for.
//!
//! Clauses are tried by falling quality, in their order; each takes the first offer that fits. A clause
//! with the transformation parameters `as`, `g`, `v` fits only an offer with the same ones.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// A media type that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// `application`
    pub kind: &'static str,
    /// `json`
    pub subtype: &'static str,
    /// (group, version, kind) of a transformation, as in `;g=..;v=..;as=..`.
    pub transform: Option<(&'static str, &'static str, &'static str)>,
}

/// Plain `application/json`.
pub const JSON: Offer = Offer { kind: "application", subtype: "json", transform: None };

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
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses.iter().find_map(|clause| offers.iter().find(|offer| clause.fits(offer)))
}

/// The plain media types, for the error that nothing fits.
pub fn names(offers: &[Offer]) -> String {
    let plain: Vec<String> =
        offers.iter().filter(|o| o.transform.is_none()).map(|o| format!("{}/{}", o.kind, o.subtype)).collect();
    plain.join(", ")
}

struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: f32,
    /// (g, v, as)
    transform: Option<(&'a str, &'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    /// `None` for what is no clause, is refused by `q=0` or asks for a stream.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut clause = Self { kind: kind.trim(), subtype: subtype.trim(), quality: 1.0, transform: None };
        for (key, value) in parts.filter_map(|p| p.split_once('=')) {
            let (key, value) = (key.trim(), value.trim());
            match key {
                "q" => clause.quality = value.parse().ok().filter(|q: &f32| (0.0..=1.0).contains(q))?,
                "stream" if !value.is_empty() => return None,
                "g" => clause.transform.get_or_insert_default().0 = value,
                "v" => clause.transform.get_or_insert_default().1 = value,
                "as" => clause.transform.get_or_insert_default().2 = value,
                _ => {}
            }
        }
        (clause.quality > 0.0).then_some(clause)
    }

    fn fits(&self, offer: &Offer) -> bool {
        let part = |asked: &str, offered: &str| asked == "*" || asked.eq_ignore_ascii_case(offered);
        part(self.kind, offer.kind) && part(self.subtype, offer.subtype) && self.transform == offer.transform
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: Offer = Offer { kind: "application", subtype: "yaml", transform: None };
    const LIST: Offer = Offer { kind: "application", subtype: "json", transform: Some(("g.io", "v2", "List")) };

    fn chosen(accept: &str) -> Option<&'static Offer> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        choose(&headers, &[JSON, YAML, LIST])
    }

    #[test]
    fn offers_are_chosen_by_quality_then_order() {
        assert_eq!(choose(&HeaderMap::new(), &[JSON, YAML]), Some(&JSON));
        for (accept, offer) in [
            ("", Some(&JSON)),
            ("*/*", Some(&JSON)),
            ("application/*", Some(&JSON)),
            ("application/vnd.kubernetes.protobuf, */*", Some(&JSON)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some(&JSON)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io", None),
            ("application/json;g=g.io;v=v2;as=List, application/json", Some(&LIST)),
            ("application/json;q=0.1, application/yaml;q=0.9", Some(&YAML)),
            ("application/cbor, application/json;q=0.9", Some(&JSON)),
            ("application/json;stream=watch", None),
            ("application/vnd.kubernetes.protobuf", None),
            ("text/html", None),
            ("application/json;q=0", None),
            ("nonsense;;;,=,/", None),
            ("APPLICATION/JSON; charset=utf-8", Some(&JSON)),
        ] {
            assert_eq!(chosen(accept), offer, "{accept}");
        }
    }

    #[test]
    fn names_are_plain_media_types() {
        assert_eq!(names(&[JSON, YAML, LIST]), "application/json, application/yaml");
    }
}
