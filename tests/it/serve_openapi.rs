//! OpenAPI documents as kube-apiserver's aggregator and `kubectl explain` read them.

use axum::http::Method;
use serde_json::{Value, json};

use crate::serve_support::{Daemon, EM, decision};

const METRICS: [&str; 2] = ["poolwright_desired_replicas", "wva_desired_replicas"];
const LIST: &str = "io.k8s.metrics.pkg.apis.external_metrics.v1beta1.ExternalMetricValueList";

/// Every `$ref` of a document leads somewhere.
fn check_references(document: &Value, part: &Value) {
    match part {
        Value::Object(fields) => {
            if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                let pointer = target.strip_prefix('#').expect("within the document");
                assert!(document.pointer(pointer).is_some(), "{target}");
            }
            fields.values().for_each(|field| check_references(document, field));
        }
        Value::Array(items) => items.iter().for_each(|item| check_references(document, item)),
        _ => {}
    }
}

/// Every property of every item of a served list is described, with the right type.
fn check_described(schemas: &Value, list: &Value) {
    let schema = &schemas["io.k8s.metrics.pkg.apis.external_metrics.v1beta1.ExternalMetricValue"];
    for (name, value) in list["items"][0].as_object().unwrap() {
        let kind = if value.is_string() { "string" } else { "object" };
        assert_eq!(schema["properties"][name]["type"], kind, "{name}");
    }
    for name in list.as_object().unwrap().keys() {
        assert!(schemas[LIST]["properties"][name].is_object(), "{name}");
    }
    assert_eq!(
        schemas[LIST]["x-kubernetes-group-version-kind"],
        json!([{"group": "external.metrics.k8s.io", "version": "v1beta1", "kind": "ExternalMetricValueList"}])
    );
}

#[tokio::test]
async fn version_3_is_found_from_its_root_and_describes_what_is_served() {
    let daemon = Daemon::new(decision());
    let root = daemon.get("/openapi/v3").await;
    assert_eq!((root.status.as_u16(), root.header("content-type")), (200, "application/json"));
    let url = root.json()["paths"]["apis/external.metrics.k8s.io/v1beta1"]["serverRelativeURL"].clone();
    let url = url.as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/apis/external.metrics.k8s.io/v1beta1?hash="), "{url}");

    let answer = daemon.get(url).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "public, immutable"));
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.0"));
    check_references(&document, &document);
    for metric in METRICS {
        let path = format!("{EM}/namespaces/{{namespace}}/{metric}");
        let get = &document["paths"][&path]["get"];
        assert_eq!(get["x-kubernetes-group-version-kind"]["kind"], "ExternalMetricValueList", "{path}");
        let real = daemon.get(&path.replace("{namespace}", "inference")).await;
        assert_eq!(real.status.as_u16(), 200);
        check_described(&document["components"]["schemas"], &real.json());
        for parameter in get["parameters"].as_array().unwrap() {
            assert!(parameter["schema"]["type"].is_string() && parameter["description"].is_string(), "{parameter}");
        }
    }

    // A hash of another version gets the document of this one, and no redirect.
    let other = daemon.get("/openapi/v3/apis/external.metrics.k8s.io/v1beta1?hash=0").await;
    assert_eq!((other.status.as_u16(), other.header("cache-control")), (200, "no-cache, private"));
    assert_eq!(other.body, answer.body);
    for path in ["/openapi/v3/apis/apps/v1", "/openapi", "/openapi/v2/x", "/openapi/v1"] {
        assert_eq!(daemon.get(path).await.status.as_u16(), 404, "{path}");
    }
}

#[tokio::test]
async fn version_2_describes_the_same() {
    let daemon = Daemon::new(decision());
    let answer = daemon.ask(Method::GET, "/openapi/v2", &[("accept", "application/json")]).await;
    let document = answer.json();
    assert_eq!((answer.status.as_u16(), &document["swagger"]), (200, &json!("2.0")));
    check_references(&document, &document);
    let v3 = daemon.get("/openapi/v3/apis/external.metrics.k8s.io/v1beta1").await.json();
    let names = |paths: &Value| paths.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&document["paths"]), names(&v3["paths"]));
    for path in names(&document["paths"]) {
        let get = &document["paths"][&path]["get"];
        assert_eq!(get["operationId"], v3["paths"][&path]["get"]["operationId"]);
        for parameter in get["parameters"].as_array().unwrap() {
            assert!(parameter["type"].is_string(), "{parameter}");
        }
    }
    let list = daemon.get(&format!("{EM}/namespaces/inference/{}", METRICS[0])).await.json();
    check_described(&document["definitions"], &list);
}

#[tokio::test]
async fn documents_are_kept_by_their_tag_and_never_fail() {
    let daemon = Daemon::new(decision());
    for path in ["/openapi/v2", "/openapi/v3", "/openapi/v3/apis/external.metrics.k8s.io/v1beta1"] {
        let tag = daemon.get(path).await.header("etag").to_owned();
        assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "{tag}");
        assert_eq!(Daemon::new(decision()).get(path).await.header("etag"), tag, "of every replica");
        let known = daemon.ask(Method::GET, path, &[("if-none-match", &tag)]).await;
        assert_eq!((known.status.as_u16(), known.body.as_str()), (304, ""));
        assert_eq!(daemon.ask(Method::POST, path, &[]).await.status.as_u16(), 405);
    }
    let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let answer = daemon.ask(Method::GET, "/openapi/v2", &[("accept", protobuf)]).await;
    answer.status_error(406, "NotAcceptable");
    let both = format!("{protobuf}, application/json");
    assert_eq!(daemon.ask(Method::GET, "/openapi/v2", &[("accept", &both)]).await.status.as_u16(), 200);
}
