//! Discovery documents of the external metrics API: constants, so that finding the API never depends on
//! whether there is data.

use std::sync::LazyLock;

use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;

use super::encode::{Empty, Format, Layout, Object, Tagged, json_response};
use super::negotiate::{self, JSON, Offer, PROTOBUF, YAML};
use super::protobuf::Message;
use super::status::Status;

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

impl GroupVersion {
    fn protobuf(&self) -> Message {
        Message::default().text(1, self.group_version).text(2, self.version)
    }
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

impl Object for ApiGroup {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "APIGroup";

    fn protobuf(&self) -> Message {
        let versions = self.versions.iter().map(GroupVersion::protobuf);
        Message::default().text(1, self.name).messages(2, versions).message(3, &self.preferred_version.protobuf())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiGroupList {
    kind: &'static str,
    api_version: &'static str,
    groups: [ApiGroup; 1],
}

impl Object for ApiGroupList {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "APIGroupList";

    fn protobuf(&self) -> Message {
        Message::default().messages(1, self.groups.iter().map(Object::protobuf))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiResourceList {
    kind: &'static str,
    api_version: &'static str,
    group_version: &'static str,
    resources: Vec<ApiResource>,
}

impl Object for ApiResourceList {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "APIResourceList";

    fn protobuf(&self) -> Message {
        Message::default().text(1, self.group_version).messages(2, self.resources.iter().map(ApiResource::protobuf))
    }
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

impl ApiResource {
    /// Group, version and storage hash are empty: they are the list's.
    fn protobuf(&self) -> Message {
        let verbs = self.verbs.iter().fold(Message::default(), |all, verb| all.text(1, verb));
        let head = Message::default().text(1, self.name).number(2, i64::from(self.namespaced)).text(3, self.kind);
        head.message(4, &verbs).text(6, self.singular_name).text(8, "").text(9, "").text(10, "")
    }
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

const AGGREGATED: Offer = Offer { transform: Some(("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList")), ..JSON };

const AGGREGATED_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

static AGGREGATED_DOCUMENT: LazyLock<Tagged> = LazyLock::new(|| aggregated(&Metric::ALL));

fn aggregated(metrics: &[Metric]) -> Tagged {
    let resource = |metric: &Metric| AggregatedResource {
        resource: metric.name(),
        response_kind: ResponseKind { group: GROUP, version: VERSION, kind: LIST_KIND },
        scope: "Namespaced",
        singular_resource: "",
        verbs: ["get"],
    };
    let version =
        AggregatedVersion { version: VERSION, freshness: "Current", resources: metrics.iter().map(resource).collect() };
    Tagged::new(Layout::Compact.body(&AggregatedList {
        kind: "APIGroupDiscoveryList",
        api_version: "apidiscovery.k8s.io/v2",
        metadata: Empty {},
        items: [AggregatedGroup {
            metadata: AggregatedName { name: GROUP, creation_timestamp: () },
            versions: [version],
        }],
    }))
}

/// `GET /apis`: the aggregated document to those who ask for it, else the plain list.
pub fn groups(query: &str, headers: &HeaderMap) -> Result<Response, Status> {
    let offers = [JSON, YAML, PROTOBUF, AGGREGATED];
    let offer =
        negotiate::choose(headers, &offers).ok_or_else(|| Status::not_acceptable(&negotiate::names(&offers)))?;
    if *offer == AGGREGATED {
        return Ok(AGGREGATED_DOCUMENT.response(headers, AGGREGATED_TYPE, "public"));
    }
    let list = ApiGroupList { kind: "APIGroupList", api_version: "v1", groups: [ApiGroup::new(None)] };
    Ok(plain(Format::of(*offer, Layout::wanted(query, headers)), &list))
}

/// `GET /apis/external.metrics.k8s.io`
pub fn group(format: Format) -> Response {
    plain(format, &ApiGroup::new(Some("APIGroup")))
}

/// `GET /apis/external.metrics.k8s.io/v1beta1`: names of metrics, never an empty list.
pub fn resources(format: Format) -> Response {
    plain(format, &resource_list())
}

fn resource_list() -> ApiResourceList {
    let resource = |metric: Metric| ApiResource {
        name: metric.name(),
        singular_name: "",
        namespaced: true,
        kind: LIST_KIND,
        verbs: ["get"],
    };
    let resources = Metric::ALL.map(resource).into();
    ApiResourceList { kind: "APIResourceList", api_version: "v1", group_version: GROUP_VERSION, resources }
}

/// Conditional requests are ignored here: to the aggregator a 304 of a plain document is an error.
fn plain(format: Format, document: &impl Object) -> Response {
    format.response(StatusCode::OK, format.body(document))
}

/// `GET /version`, as client libraries read it. It is no object and has only its JSON form.
pub fn version(query: &str, headers: &HeaderMap) -> Result<Response, Status> {
    negotiate::choose(headers, &[JSON]).ok_or_else(|| Status::not_acceptable(&negotiate::names(&[JSON])))?;
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
    Ok(json_response(StatusCode::OK, Layout::wanted(query, headers).body(&info)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(object: &impl Object) -> String {
        Format::Protobuf.body(object).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The expected bytes were written by the Go library.
    #[test]
    fn protobuf_is_that_of_the_go_library() {
        let group = "0a1765787465726e616c2e6d6574726963732e6b38732e696f122a0a1f65787465726e616c2e6d6574726963732e6b38732e\
                     696f2f763162657461311207763162657461311a2a0a1f65787465726e616c2e6d6574726963732e6b38732e696f2f7631626574\
                     61311207763162657461311a002200";
        assert_eq!(hex(&ApiGroup::new(None)), format!("6b3873000a0e0a027631120841504947726f75701271{group}"));
        let groups = ApiGroupList { kind: "APIGroupList", api_version: "v1", groups: [ApiGroup::new(None)] };
        assert_eq!(hex(&groups), format!("6b3873000a120a027631120c41504947726f75704c69737412730a71{group}"));
        assert_eq!(
            hex(&resource_list()),
            "6b3873000a150a027631120f4150495265736f757263654c69737412ac010a1f65787465726e616c2e6d6574726963732e6b38732e\
             696f2f7631626574613112470a1b706f6f6c7772696768745f646573697265645f7265706c6963617310011a1745787465726e616c\
             4d657472696356616c75654c69737422050a03676574320042004a00520012400a147776615f646573697265645f7265706c696361\
             7310011a1745787465726e616c4d657472696356616c75654c69737422050a03676574320042004a0052001a002200"
        );
    }

    #[test]
    fn the_tag_follows_from_the_names_alone() {
        assert_eq!(aggregated(&Metric::ALL).hash, aggregated(&Metric::ALL).hash);
        assert_eq!(aggregated(&Metric::ALL).document, AGGREGATED_DOCUMENT.document);
        assert_ne!(aggregated(&[Metric::Desired]).hash, aggregated(&Metric::ALL).hash);
    }
}
