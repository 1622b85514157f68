//! The query of a list request, read as Kubernetes reads `ListOptions`.

use super::status::Status;

/// The parts of `ListOptions` that change an answer here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// The selector's text; `None` when the parameter is absent.
    pub label_selector: Option<String>,
    pub watch: bool,
}

impl ListOptions {
    /// Read a query string. The first value of a repeated parameter counts; unknown ones are ignored.
    ///
    /// # Errors
    /// 400 for a number that is none, 422 for combinations that Kubernetes forbids.
    pub fn parse(query: &str) -> Result<Self, Status> {
        // A server that drops what stands beside a raw `;` may drop the selector and so answer with
        // everything; the proxy in front re-encodes, so nobody honest sends one.
        if query.contains(';') {
            return Err(Status::bad_request("invalid semicolon separator in query".into()));
        }
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let first = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        for name in ["limit", "timeoutSeconds"] {
            if let Some(text) = first(name)
                && text.parse::<i64>().is_err()
            {
                return Err(Status::bad_request(format!("{name}: {text:?} is not an integer")));
            }
        }
        check_versions(first("resourceVersion"), first("resourceVersionMatch"), first("continue"))?;
        if first("sendInitialEvents").is_some() {
            return Err(Status::forbidden_option("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        Ok(Self {
            label_selector: first("labelSelector").map(str::to_owned),
            watch: first("watch").is_some_and(is_true),
        })
    }
}

/// What of a query decides the verb and the name of an access review: whether it watches, and the one object
/// that `fieldSelector=metadata.name=…` names.
pub(super) fn watch_and_name(query: &str) -> (bool, Option<String>) {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let first = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let name = first("fieldSelector").into_iter().flat_map(|fields| fields.split(',')).find_map(|field| {
        let value = field.trim().strip_prefix("metadata.name")?;
        value.strip_prefix("==").or_else(|| value.strip_prefix('='))
    });
    let sound = |name: &&str| !name.is_empty() && !matches!(*name, "." | "..") && !name.contains(['/', '%']);
    (first("watch").is_some_and(is_true), name.filter(sound).map(str::to_owned))
}

/// Anything but `0` and `false` is true, the empty value included.
fn is_true(text: &str) -> bool {
    !(text == "0" || text.eq_ignore_ascii_case("false"))
}

fn check_versions(version: Option<&str>, matching: Option<&str>, resume: Option<&str>) -> Result<(), Status> {
    const FIELD: &str = "resourceVersionMatch";
    let version = version.unwrap_or_default();
    let refuse = |message: &str| Err(Status::forbidden_option(FIELD, message));
    match matching.unwrap_or_default() {
        "" => Ok(()),
        _ if version.is_empty() => refuse("resourceVersionMatch is forbidden unless resourceVersion is provided"),
        _ if !resume.unwrap_or_default().is_empty() => {
            refuse("resourceVersionMatch is forbidden when continue is provided")
        }
        "Exact" if version == "0" => refuse("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""),
        "Exact" | "NotOlderThan" => Ok(()),
        _ => refuse("resourceVersionMatch is one of \"Exact\", \"NotOlderThan\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(query: &str) -> Option<u16> {
        ListOptions::parse(query).err().map(|s| s.code)
    }

    #[test]
    fn selector_is_form_decoded_and_the_first_counts() {
        let selector = |query: &str| ListOptions::parse(query).unwrap().label_selector;
        assert_eq!(selector("labelSelector=a%3D1&labelSelector=b"), Some("a=1".into()));
        assert_eq!(selector("labelSelector=a+in+(1)"), Some("a in (1)".into()));
        assert_eq!(selector("labelSelector=a%2Bb"), Some("a+b".into()));
        assert_eq!(selector("other=1&&="), None);
        assert_eq!(selector("labelSelector"), Some(String::new()));
    }

    #[test]
    fn watch_reads_like_a_go_boolean() {
        let watch = |query: &str| ListOptions::parse(query).unwrap().watch;
        assert!(watch("watch=true") && watch("watch=1") && watch("watch"));
        assert!(!watch("watch=0") && !watch("watch=FALSE") && !watch(""));
    }

    #[test]
    fn refusals() {
        assert_eq!(code("limit=5&continue=x&resourceVersion=0"), None);
        assert_eq!(code("limit=abc"), Some(400));
        assert_eq!(code("timeoutSeconds=1.5"), Some(400));
        assert_eq!(code("labelSelector=a;b"), Some(400));
        assert_eq!(code("resourceVersionMatch=Exact"), Some(422));
        assert_eq!(code("resourceVersionMatch=Exact&resourceVersion=0"), Some(422));
        assert_eq!(code("resourceVersionMatch=NotOlderThan&resourceVersion=0"), None);
        assert_eq!(code("resourceVersionMatch=Any&resourceVersion=1"), Some(422));
        assert_eq!(code("sendInitialEvents=true"), Some(422));
    }
}
