//! OpenAPI documents of the external metrics API, version 2 and 3: what `kubectl explain` shows and what
//! kube-apiserver's aggregator merges into its own. Constants, like discovery.

use std::sync::LazyLock;

use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::discovery::{GROUP, GROUP_VERSION, LIST_KIND, Metric, VERSION};
use super::encode::{Layout, Tagged};
use super::negotiate::{self, JSON};
use super::status::Status;

/// Where version 3 of our group is, below `/openapi/v3/`.
const GROUP_PATH: &str = "apis/external.metrics.k8s.io/v1beta1";

/// Names of the schemas, as the Kubernetes libraries call these types.
const LIST: &str = "io.k8s.metrics.pkg.apis.external_metrics.v1beta1.ExternalMetricValueList";
const VALUE: &str = "io.k8s.metrics.pkg.apis.external_metrics.v1beta1.ExternalMetricValue";

const MEDIA_TYPES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

static V2: LazyLock<Tagged> = LazyLock::new(|| tagged(&v2_document()));

static V3: LazyLock<Tagged> = LazyLock::new(|| {
    let url = format!("/openapi/v3/{GROUP_PATH}?hash={}", V3_GROUP.hash);
    tagged(&json!({"paths": {GROUP_PATH: {"serverRelativeURL": url}}}))
});

static V3_GROUP: LazyLock<Tagged> = LazyLock::new(|| tagged(&v3_document()));

fn tagged(document: &Value) -> Tagged {
    Tagged::new(Layout::Compact.body(document))
}

/// `GET /openapi/v2`
pub fn v2(headers: &HeaderMap) -> Result<Response, Status> {
    only_json(headers)?;
    Ok(V2.response(headers, "application/json", "no-cache, private"))
}

/// `GET /openapi/v3`: where the document of each group is. Not negotiated, as in the Go library.
pub fn v3(headers: &HeaderMap) -> Response {
    V3.response(headers, "application/json", "no-cache, private")
}

/// `GET /openapi/v3/apis/external.metrics.k8s.io/v1beta1`. Asked for by its hash it may be kept for ever.
/// A wrong hash gets the document too: nothing here ever redirects.
pub fn v3_group(query: &str, headers: &HeaderMap) -> Result<Response, Status> {
    only_json(headers)?;
    let by_hash = form_urlencoded::parse(query.as_bytes()).any(|(key, value)| key == "hash" && value == V3_GROUP.hash);
    let caching = if by_hash { "public, immutable" } else { "no-cache, private" };
    Ok(V3_GROUP.response(headers, "application/json", caching))
}

fn only_json(headers: &HeaderMap) -> Result<(), Status> {
    let chosen = negotiate::choose(headers, &[JSON]);
    chosen.map(|_| ()).ok_or_else(|| Status::not_acceptable(&negotiate::names(&[JSON])))
}

fn info() -> Value {
    json!({"title": "poolwright external metrics", "version": env!("CARGO_PKG_VERSION")})
}

fn group_version_kind(kind: &str) -> Value {
    json!({"group": GROUP, "version": VERSION, "kind": kind})
}

/// The two types; references point below `home`.
fn schemas(home: &str) -> Value {
    json!({
        LIST: {
            "description": "Values of one metric, one per pool that the selector names. A reader such as the \
                            HorizontalPodAutoscaler adds them up.",
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string", "description": format!("Always {GROUP_VERSION}.")},
                "kind": {"type": "string", "description": format!("Always {LIST_KIND}.")},
                "metadata": {"type": "object", "description": "Always empty."},
                "items": {
                    "type": "array",
                    "description": "Sorted by pool.",
                    "items": {"$ref": format!("#/{home}/{VALUE}")},
                },
            },
            "x-kubernetes-group-version-kind": [group_version_kind(LIST_KIND)],
        },
        VALUE: {
            "description": "Value of the metric for one pool.",
            "type": "object",
            "required": ["metricName", "metricLabels", "timestamp", "value"],
            "properties": {
                "metricName": {"type": "string", "description": "Name of the metric."},
                "metricLabels": {
                    "type": "object",
                    "description": "What a labelSelector applies to.",
                    "additionalProperties": {"type": "string"},
                },
                "timestamp": {"type": "string", "format": "date-time", "description": "Time of the decision."},
                "window": {
                    "type": "integer",
                    "format": "int64",
                    "description": "Seconds before the timestamp that the value was computed from; absent for a \
                                    value of one moment.",
                },
                "value": {"type": "string", "description": "A quantity: replicas that the pool should run."},
            },
            "x-kubernetes-group-version-kind": [group_version_kind("ExternalMetricValue")],
        },
    })
}

/// Parameters of a list that change its answer; `typed` writes a parameter's type.
fn parameters(typed: impl Fn(&str) -> Map<String, Value>) -> Vec<Value> {
    let parameter = |name: &str, place: &str, kind: &str, description: &str| {
        let mut parameter = typed(kind);
        parameter.insert("name".into(), name.into());
        parameter.insert("in".into(), place.into());
        parameter.insert("description".into(), description.into());
        if place == "path" {
            parameter.insert("required".into(), true.into());
        }
        Value::Object(parameter)
    };
    vec![
        parameter("namespace", "path", "string", "Namespace of the pools."),
        parameter("labelSelector", "query", "string", "Restricts the list to values with such labels."),
        parameter("limit", "query", "integer", "Must be a number and changes nothing: a list is always whole."),
        parameter("timeoutSeconds", "query", "integer", "Must be a number and changes nothing."),
        parameter("resourceVersion", "query", "string", "Changes nothing: a list is always of the newest decision."),
        parameter("resourceVersionMatch", "query", "string", "Refused without a resourceVersion."),
        parameter("watch", "query", "boolean", "Refused when true: values cannot be watched."),
        parameter("pretty", "query", "string", "Indents a JSON answer when \"true\"."),
    ]
}

/// One path per metric; `answer` writes the 200 answer, `extra` adds to an operation.
fn paths(parameters: &[Value], answer: &Value, extra: &Value) -> Value {
    let path = |metric: Metric| {
        let mut get = json!({
            "description": format!("Values of {}, by pool.", metric.name()),
            "operationId": format!("listExternalMetricsV1beta1Namespaced{}", operation_name(metric.name())),
            "tags": ["externalMetrics_v1beta1"],
            "parameters": parameters,
            "responses": {"200": answer},
            "x-kubernetes-action": "list",
            "x-kubernetes-group-version-kind": group_version_kind(LIST_KIND),
        });
        if let (Some(get), Some(extra)) = (get.as_object_mut(), extra.as_object()) {
            get.extend(extra.clone());
        }
        (format!("/apis/{GROUP_VERSION}/namespaces/{{namespace}}/{}", metric.name()), json!({"get": get}))
    };
    Value::Object(Metric::ALL.map(path).into_iter().collect())
}

/// `poolwright_desired_replicas` as `PoolwrightDesiredReplicas`.
fn operation_name(metric: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    metric.split('_').filter(|word| !word.is_empty()).map(capital).collect()
}

fn v2_document() -> Value {
    let typed = |kind: &str| Map::from_iter([("type".to_owned(), kind.into())]);
    let answer = json!({"description": "OK", "schema": {"$ref": format!("#/definitions/{LIST}")}});
    let extra = json!({"produces": MEDIA_TYPES, "schemes": ["https"]});
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths(&parameters(typed), &answer, &extra),
        "definitions": schemas("definitions"),
    })
}

fn v3_document() -> Value {
    let typed = |kind: &str| Map::from_iter([("schema".to_owned(), json!({"type": kind}))]);
    let schema = json!({"schema": {"$ref": format!("#/components/schemas/{LIST}")}});
    let content: Map<String, Value> = MEDIA_TYPES.map(|name| (name.to_owned(), schema.clone())).into_iter().collect();
    let answer = json!({"description": "OK", "content": content});
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths(&parameters(typed), &answer, &json!({})),
        "components": {"schemas": schemas("components/schemas")},
    })
}
