//! Discovery documents of the external metrics API: constants, so that finding the API never depends on
//! whether there is data.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::negotiate::{self, JSON, Offer};
use super::status::{Empty, Layout, Status, json_response};

/// Group of the external metrics API.
pub const GROUP: &str = "external.metrics.k8s.io";
/// Its only version.
pub const VERSION: &str = "v1beta1";
/// `group/version`.
pub const GROUP_VERSION: &str = "external.metrics.k8s.io/v1beta1";
/// Kind of every answer of the data path.
pub const LIST_KIND: &str = "ExternalMetricValueList";

/// A metric that the API serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// `poolwright_desired_replicas{pool, model, model_name}`
    Desired,
    /// The name known from WVA, `wva_desired_replicas{variant_name, accelerator_type, namespace}`.
    Alias,
}

impl Metric {
    pub const ALL: [Self; 2] = [Self::Desired, Self::Alias];

    pub fn name(self) -> &'static str {
        match self {
            Self::Desired => "poolwright_desired_replicas",
            Self::Alias => "wva_desired_replicas",
        }
    }

    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }

    /// The label that carries the pool's name.
    pub fn pool_label(self) -> &'static str {
        match self {
            Self::Desired => "pool",
            Self::Alias => "variant_name",
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupVersion {
    group_version: &'static str,
    version: &'static str,
}

const OUR_VERSION: GroupVersion = GroupVersion { group_version: GROUP_VERSION, version: VERSION };

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiGroup {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'static str>,
    name: &'static str,
    versions: [GroupVersion; 1],
    preferred_version: GroupVersion,
}

impl ApiGroup {
    fn new(kind: Option<&'static str>) -> Self {
        let api_version = kind.map(|_| "v1");
        Self { kind, api_version, name: GROUP, versions: [OUR_VERSION], preferred_version: OUR_VERSION }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiGroupList {
    kind: &'static str,
    api_version: &'static str,
    groups: [ApiGroup; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiResourceList {
    kind: &'static str,
    api_version: &'static str,
    group_version: &'static str,
    resources: Vec<ApiResource>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiResource {
    name: &'static str,
    singular_name: &'static str,
    namespaced: bool,
    kind: &'static str,
    verbs: [&'static str; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AggregatedList {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    items: [AggregatedGroup; 1],
}

#[derive(Serialize)]
struct AggregatedGroup {
    metadata: AggregatedName,
    versions: [AggregatedVersion; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AggregatedName {
    name: &'static str,
    creation_timestamp: (),
}

#[derive(Serialize)]
struct AggregatedVersion {
    version: &'static str,
    freshness: &'static str,
    resources: Vec<AggregatedResource>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AggregatedResource {
    resource: &'static str,
    response_kind: ResponseKind,
    scope: &'static str,
    singular_resource: &'static str,
    verbs: [&'static str; 1],
}

#[derive(Serialize)]
struct ResponseKind {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionInfo {
    major: &'static str,
    minor: &'static str,
    git_version: String,
    git_commit: &'static str,
    git_tree_state: &'static str,
    build_date: &'static str,
    go_version: &'static str,
    compiler: &'static str,
    platform: String,
}

const AGGREGATED: Offer = Offer {
    kind: "application",
    subtype: "json",
    transform: Some(("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList")),
};

const AGGREGATED_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The aggregated document and its tag; the tag follows from the content alone, so that every replica
/// of one version gives the same.
static AGGREGATED_DOCUMENT: LazyLock<(Vec<u8>, HeaderValue)> = LazyLock::new(|| {
    let resource = |metric: Metric| AggregatedResource {
        resource: metric.name(),
        response_kind: ResponseKind { group: GROUP, version: VERSION, kind: LIST_KIND },
        scope: "Namespaced",
        singular_resource: "",
        verbs: ["get"],
    };
    let version =
        AggregatedVersion { version: VERSION, freshness: "Current", resources: Metric::ALL.map(resource).into() };
    let document = Layout::Compact.body(&AggregatedList {
        kind: "APIGroupDiscoveryList",
        api_version: "apidiscovery.k8s.io/v2",
        metadata: Empty {},
        items: [AggregatedGroup {
            metadata: AggregatedName { name: GROUP, creation_timestamp: () },
            versions: [version],
        }],
    });
    let hash: String = Sha256::digest(&document).iter().map(|b| format!("{b:02X}")).collect();
    let tag = HeaderValue::from_str(&format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"0\""));
    (document, tag)
});

/// `GET /apis`: the aggregated document to those who ask for it, else the plain list.
pub fn groups(headers: &HeaderMap, layout: Layout) -> Result<Response, Status> {
    let offers = [JSON, AGGREGATED];
    let offer =
        negotiate::choose(headers, &offers).ok_or_else(|| Status::not_acceptable(&negotiate::names(&offers)))?;
    if *offer == AGGREGATED {
        return Ok(aggregated(headers));
    }
    let groups = [ApiGroup::new(None)];
    Ok(json_response(StatusCode::OK, layout.body(&ApiGroupList { kind: "APIGroupList", api_version: "v1", groups })))
}

fn aggregated(headers: &HeaderMap) -> Response {
    let (document, tag) = &*AGGREGATED_DOCUMENT;
    let known = headers.get_all(IF_NONE_MATCH).iter().any(|value| {
        let listed = value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
        listed.into_iter().any(|t| t == tag.as_bytes())
    });
    let mut response = Response::new(if known { Body::empty() } else { Body::from(document.as_slice()) });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(ETAG, tag.clone());
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(AGGREGATED_TYPE));
    response
}

/// `GET /apis/external.metrics.k8s.io`
pub fn group(headers: &HeaderMap, layout: Layout) -> Result<Response, Status> {
    plain(headers, layout, &ApiGroup::new(Some("APIGroup")))
}

/// `GET /apis/external.metrics.k8s.io/v1beta1`: names of metrics, never an empty list.
pub fn resources(headers: &HeaderMap, layout: Layout) -> Result<Response, Status> {
    let resource = |metric: Metric| ApiResource {
        name: metric.name(),
        singular_name: "",
        namespaced: true,
        kind: LIST_KIND,
        verbs: ["get"],
    };
    let resources = Metric::ALL.map(resource).into();
    let list = ApiResourceList { kind: "APIResourceList", api_version: "v1", group_version: GROUP_VERSION, resources };
    plain(headers, layout, &list)
}

/// `GET /version`, as client libraries read it.
pub fn version(headers: &HeaderMap, layout: Layout) -> Result<Response, Status> {
    let info = VersionInfo {
        major: "1",
        minor: "36",
        git_version: format!("v1.36.0+poolwright.{}", env!("CARGO_PKG_VERSION")),
        git_commit: option_env!("POOLWRIGHT_GIT_COMMIT").unwrap_or("unknown"),
        git_tree_state: "clean",
        build_date: option_env!("POOLWRIGHT_BUILD_DATE").unwrap_or("1970-01-01T00:00:00Z"),
        go_version: "n/a",
        compiler: "rustc",
        platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    };
    plain(headers, layout, &info)
}

/// Conditional requests are ignored here: to the aggregator a 304 of a plain document is an error.
fn plain(headers: &HeaderMap, layout: Layout, document: &impl Serialize) -> Result<Response, Status> {
    negotiate::choose(headers, &[JSON]).ok_or_else(|| Status::not_acceptable(&negotiate::names(&[JSON])))?;
    Ok(json_response(StatusCode::OK, layout.body(document)))
}
