//! What a request asks for, in the words of an access review.
//!
//! The rules are kube-apiserver's: the path is decoded and then split, so that the question is about the same
//! thing that is answered.

use axum::http::Method;
use serde::Serialize;

use super::user::User;
use crate::serve::options;
use crate::serve::path;

/// Larger questions are asked every time, so that nobody fills the memory with them.
const LARGEST_REMEMBERED_BYTES: usize = 10_000;

/// May this user do this?
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessQuestion {
    pub user: User,
    pub action: Action,
}

/// What a request would do. Label selectors are no part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    /// Something with a Kubernetes resource; absent parts are empty.
    Resource(ResourceAction),
    /// A request of a path that names no resource; the verb is the method in lower case.
    Path { verb: String, path: String },
}

/// The parts of a request for a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ResourceAction {
    pub verb: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
}

impl AccessQuestion {
    pub(super) fn may_be_remembered(&self) -> bool {
        let bytes = match &self.action {
            Action::Path { verb, path } => verb.len() + path.len(),
            Action::Resource(r) => [&r.verb, &r.group, &r.version, &r.namespace, &r.resource, &r.subresource, &r.name]
                .into_iter()
                .map(String::len)
                .sum(),
        };
        bytes <= LARGEST_REMEMBERED_BYTES
    }
}

impl Action {
    /// Read a request line; `None` for a path that cannot be decoded.
    pub(super) fn of(method: &Method, raw_path: &str, query: &str) -> Option<Self> {
        let path = path::decode(raw_path)?;
        let resource = {
            let trimmed = path.trim_matches('/');
            let parts: Vec<&str> = if trimmed.is_empty() { vec![] } else { trimmed.split('/').collect() };
            match parts[..] {
                ["apis", group, version, ref rest @ ..] if !rest.is_empty() => Some((group, version, rest.to_vec())),
                ["api", version, ref rest @ ..] if !rest.is_empty() => Some(("", version, rest.to_vec())),
                _ => None,
            }
            .map(|(group, version, rest)| ResourceAction::of(method, group, version, &rest, query))
        };
        Some(match resource {
            Some(resource) => Self::Resource(resource),
            None => Self::Path { verb: method.as_str().to_ascii_lowercase(), path },
        })
    }
}

impl ResourceAction {
    fn of(method: &Method, group: &str, version: &str, rest: &[&str], query: &str) -> Self {
        let (verb, rest) = match rest {
            [special @ ("watch" | "proxy"), rest @ ..] => (*special, rest),
            rest => (verb(method), rest),
        };
        let (namespace, parts) = match rest {
            ["namespaces", namespace, "status" | "finalize", ..] => (*namespace, rest),
            ["namespaces", namespace, parts @ ..] if !parts.is_empty() => (*namespace, parts),
            ["namespaces", namespace] => (*namespace, rest),
            rest => ("", rest),
        };
        let part = |index: usize| parts.get(index).copied().unwrap_or_default().to_owned();
        let mut action = Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            namespace: namespace.to_owned(),
            resource: part(0),
            subresource: if verb == "proxy" { String::new() } else { part(2) },
            name: part(1),
        };
        if action.name.is_empty() && verb == "get" {
            let (watch, name) = options::watch_and_name(query);
            action.verb = if watch { "watch" } else { "list" }.to_owned();
            action.name = name.unwrap_or_default();
        } else if action.name.is_empty() && verb == "delete" {
            action.verb = "deletecollection".to_owned();
        }
        action
    }
}

fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" | "HEAD" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/apis/external.metrics.k8s.io/v1beta1";

    fn resource(method: Method, path: &str, query: &str) -> String {
        match Action::of(&method, path, query).unwrap() {
            Action::Path { verb, path } => format!("{verb} {path}"),
            Action::Resource(r) => {
                format!(
                    "{} {}/{} {}|{}|{}|{}",
                    r.verb, r.group, r.version, r.namespace, r.resource, r.subresource, r.name
                )
            }
        }
    }

    #[test]
    fn paths_become_the_questions_of_kube_apiserver() {
        let group = "external.metrics.k8s.io/v1beta1";
        for (method, path, query, question) in [
            (Method::GET, format!("{BASE}/namespaces/n/m"), "", format!("list {group} n|m||")),
            (Method::HEAD, format!("{BASE}/namespaces/n/m/"), "watch=0", format!("list {group} n|m||")),
            (Method::GET, format!("{BASE}/namespaces/n/m"), "watch=true", format!("watch {group} n|m||")),
            (
                Method::GET,
                format!("{BASE}/namespaces/n/m"),
                "fieldSelector=metadata.name%3Dx",
                format!("list {group} n|m||x"),
            ),
            (Method::GET, format!("{BASE}/namespaces/n/m/x"), "", format!("get {group} n|m||x")),
            (Method::GET, format!("{BASE}/namespaces/n/m%2Fx"), "", format!("get {group} n|m||x")),
            (Method::GET, format!("{BASE}/namespaces/n/a%3Ab"), "", format!("list {group} n|a:b||")),
            (Method::POST, format!("{BASE}/namespaces/n/m"), "", format!("create {group} n|m||")),
            (Method::DELETE, format!("{BASE}/namespaces/n/m"), "", format!("deletecollection {group} n|m||")),
            (Method::OPTIONS, format!("{BASE}/namespaces/n/m"), "", format!(" {group} n|m||")),
            (Method::GET, format!("{BASE}/namespaces/n/status"), "", format!("get {group} n|namespaces|status|n")),
            (Method::GET, format!("{BASE}/namespaces/n"), "", format!("get {group} n|namespaces||n")),
            (Method::GET, format!("{BASE}/m"), "", format!("list {group} |m||")),
            (Method::GET, format!("{BASE}/watch/namespaces/n/m"), "", format!("watch {group} n|m||")),
            (Method::GET, BASE.to_owned(), "", format!("get {BASE}")),
            (Method::GET, "/apis".to_owned(), "", "get /apis".to_owned()),
            (Method::HEAD, "/readyz/x".to_owned(), "", "head /readyz/x".to_owned()),
            (Method::GET, "/api/v1/pods".to_owned(), "", "list /v1 |pods||".to_owned()),
        ] {
            assert_eq!(resource(method, &path, query), question, "{path}?{query}");
        }
        assert_eq!(Action::of(&Method::GET, "/%ff", ""), None);
    }
}
