//! What Kubernetes clients may ask for: JSON, YAML, protobuf, of lists, errors and discovery.

use axum::http::Method;
use poolwright::control::Decision;
use poolwright::serve::selectable;
use prost::Message;
use serde_json::{Value, json};

use crate::serve_support::{Answer, Daemon, EM, decision, pool};

const ALIAS: &str = "/namespaces/inference/wva_desired_replicas?labelSelector=variant_name%3Dllama-a100";

/// What the HPA controller sends.
const CONTROLLER: &str = "application/vnd.kubernetes.protobuf, */*";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

async fn ask(daemon: &Daemon, path: &str, accept: &str) -> Answer {
    daemon.ask(Method::GET, path, &[("accept", accept)]).await
}

/// A reader of the wire format that shares nothing with the writer: derived from the messages' fields.
mod wire {
    use std::collections::BTreeMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Unknown {
        #[prost(message, required, tag = "1")]
        pub type_meta: TypeMeta,
        #[prost(bytes = "vec", required, tag = "2")]
        pub raw: Vec<u8>,
        #[prost(string, required, tag = "3")]
        pub content_encoding: String,
        #[prost(string, required, tag = "4")]
        pub content_type: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TypeMeta {
        #[prost(string, required, tag = "1")]
        pub api_version: String,
        #[prost(string, required, tag = "2")]
        pub kind: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct List {
        #[prost(message, required, tag = "1")]
        pub metadata: ListMeta,
        #[prost(message, repeated, tag = "2")]
        pub items: Vec<Item>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ListMeta {
        #[prost(string, required, tag = "1")]
        pub self_link: String,
        #[prost(string, required, tag = "2")]
        pub resource_version: String,
        #[prost(string, required, tag = "3")]
        pub r#continue: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Item {
        #[prost(string, required, tag = "1")]
        pub metric_name: String,
        #[prost(btree_map = "string, string", tag = "2")]
        pub metric_labels: BTreeMap<String, String>,
        #[prost(message, required, tag = "3")]
        pub timestamp: Time,
        #[prost(int64, optional, tag = "4")]
        pub window: Option<i64>,
        #[prost(message, required, tag = "5")]
        pub value: Quantity,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Time {
        #[prost(int64, required, tag = "1")]
        pub seconds: i64,
        #[prost(int32, required, tag = "2")]
        pub nanos: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Quantity {
        #[prost(string, required, tag = "1")]
        pub string: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Status {
        #[prost(string, required, tag = "2")]
        pub status: String,
        #[prost(string, required, tag = "3")]
        pub message: String,
        #[prost(string, required, tag = "4")]
        pub reason: String,
        #[prost(int32, required, tag = "6")]
        pub code: i32,
    }
}

/// Kind, version and content of a protobuf body.
fn unwrapped(answer: &Answer) -> (String, String, Vec<u8>) {
    assert_eq!(answer.header("content-type"), PROTOBUF);
    let body = answer.bytes.strip_prefix(b"k8s\0").expect("the magic bytes");
    let unknown = wire::Unknown::decode(body).expect("a wrapped object");
    assert_eq!((unknown.content_encoding.as_str(), unknown.content_type.as_str()), ("", ""));
    (unknown.type_meta.kind, unknown.type_meta.api_version, unknown.raw)
}

/// The JSON object that a protobuf list means.
fn as_json(answer: &Answer) -> Value {
    let (kind, version, raw) = unwrapped(answer);
    let items = wire::List::decode(&raw[..]).expect("a list").items.into_iter().map(|item| {
        assert_eq!((item.timestamp.nanos, item.window), (0, None));
        let time = chrono::DateTime::from_timestamp(item.timestamp.seconds, 0).expect("a time");
        json!({
            "metricName": item.metric_name,
            "metricLabels": item.metric_labels,
            "timestamp": time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            "value": item.value.string,
        })
    });
    json!({"kind": kind, "apiVersion": version, "metadata": {}, "items": items.collect::<Vec<_>>()})
}

#[tokio::test]
async fn a_list_is_the_same_object_in_every_encoding() {
    let daemon = Daemon::new(decision());
    for path in [
        format!("{EM}{ALIAS}"),
        format!("{EM}/namespaces/inference/poolwright_desired_replicas"),
        format!("{EM}/namespaces/nowhere/poolwright_desired_replicas"),
    ] {
        let json = ask(&daemon, &path, "application/json").await.json();
        assert_eq!(as_json(&ask(&daemon, &path, CONTROLLER).await), json, "{path}");
        let yaml = ask(&daemon, &path, "application/json;q=0.1, application/yaml;q=0.9").await;
        assert_eq!((yaml.status.as_u16(), yaml.header("content-type")), (200, "application/yaml"));
        assert_eq!(serde_saphyr::from_str::<Value>(&yaml.body).unwrap(), json, "{}", yaml.body);
    }
}

#[tokio::test]
async fn yaml_reads_as_other_kubernetes_servers_write_it() {
    let daemon = Daemon::new(decision());
    let yaml = ask(&daemon, &format!("{EM}{ALIAS}"), "application/yaml").await;
    assert_eq!(
        yaml.body,
        "apiVersion: external.metrics.k8s.io/v1beta1\nitems:\n- metricLabels:\n    accelerator_type: H100\n    \
         namespace: inference\n    variant_name: llama-a100\n  metricName: wva_desired_replicas\n  \
         timestamp: \"2026-11-22T13:00:00Z\"\n  value: \"21\"\nkind: ExternalMetricValueList\nmetadata: {}\n"
    );
    // What an old reader would take for a number or a boolean stays a text.
    let names = [("yes", "yes"), ("1e3", "1e3"), ("0x10", "0x10"), ("12.30", "12.30")];
    for (name, label) in names {
        let daemon = Daemon::new(Decision { pools: vec![pool("n", name, 1)], ..decision() });
        let path = format!("{EM}/namespaces/n/poolwright_desired_replicas");
        let body = ask(&daemon, &path, "application/yaml").await.body;
        assert!(body.contains(&format!("pool: \"{label}\"")), "{body}");
    }
}

#[tokio::test]
async fn clients_get_what_they_ask_for() {
    let daemon = Daemon::new(decision());
    let path = format!("{EM}{ALIAS}");
    for (accept, expected) in [
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        (CONTROLLER, PROTOBUF),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "application/json"),
        ("application/cbor, application/json;q=0.9", "application/json"),
        ("application/yaml", "application/yaml"),
    ] {
        let answer = ask(&daemon, &path, accept).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, expected), "{accept}");
    }
    for accept in ["text/html", "application/json;as=Table;v=v1;g=meta.k8s.io", "nonsense;;;,=,/"] {
        let answer = ask(&daemon, &path, accept).await;
        let message = answer.status_error(406, "NotAcceptable");
        assert_eq!(
            message,
            "only the following media types are accepted: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf"
        );
        assert!(answer.body.starts_with("{\n"), "always indented");
    }
}

#[tokio::test]
async fn errors_come_in_the_encoding_of_the_answer() {
    let daemon = Daemon::new(decision());
    let of = |path: &str| format!("{EM}/namespaces/inference/{path}");
    for (path, code, reason) in [
        (of("nope"), 404, "NotFound"),
        (format!("{EM}/nope"), 404, "NotFound"),
        (of("wva_desired_replicas?labelSelector=a%3Db,"), 400, "BadRequest"),
        (of("wva_desired_replicas?resourceVersionMatch=Exact"), 422, "Invalid"),
        (of("wva_desired_replicas?watch=1"), 405, "MethodNotAllowed"),
    ] {
        let json = ask(&daemon, &path, "application/json").await;
        let message = json.status_error(code, reason);
        let answer = ask(&daemon, &path, CONTROLLER).await;
        let (kind, version, raw) = unwrapped(&answer);
        assert_eq!((answer.status.as_u16(), kind.as_str(), version.as_str()), (code, "Status", "v1"), "{path}");
        let status = wire::Status::decode(&raw[..]).unwrap();
        assert_eq!((status.status.as_str(), status.reason.as_str()), ("Failure", reason));
        assert_eq!((status.code, status.message), (i32::from(code), message));
        let yaml = ask(&daemon, &path, "application/yaml").await;
        assert_eq!((yaml.status.as_u16(), yaml.header("content-type")), (code, "application/yaml"));
        assert_eq!(serde_saphyr::from_str::<Value>(&yaml.body).unwrap(), json.json(), "{path}");
    }
    // Stale: the answer that matters most to the HPA controller.
    daemon.clock.set(crate::serve_support::AT + 1000.0);
    let stale = ask(&daemon, &format!("{EM}{ALIAS}"), CONTROLLER).await;
    assert_eq!((stale.status.as_u16(), unwrapped(&stale).0.as_str()), (503, "Status"));
    assert!(!stale.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_pool_without_a_number_spoils_the_list_in_every_encoding() {
    let mut decision = decision();
    decision.pools[0].desired = None;
    let daemon = Daemon::new(decision);
    let path = format!("{EM}/namespaces/inference/poolwright_desired_replicas");
    for accept in ["application/json", "application/yaml", CONTROLLER] {
        assert_eq!(ask(&daemon, &path, accept).await.status.as_u16(), 503, "{accept}");
    }
    assert_eq!(ask(&daemon, &format!("{path}?pretty=1"), "*/*").await.status.as_u16(), 503);
}

#[tokio::test]
async fn discovery_is_negotiated_too() {
    let daemon = Daemon::new(decision());
    for (path, kind) in
        [("/apis", "APIGroupList"), ("/apis/external.metrics.k8s.io", "APIGroup"), (EM, "APIResourceList")]
    {
        let json = ask(&daemon, path, "application/json").await.json();
        let yaml = ask(&daemon, path, "application/yaml").await;
        assert_eq!(serde_saphyr::from_str::<Value>(&yaml.body).unwrap(), json);
        let answer = ask(&daemon, path, CONTROLLER).await;
        let (found, version, _) = unwrapped(&answer);
        assert_eq!((found.as_str(), version.as_str()), (kind, "v1"));
        ask(&daemon, path, "text/html").await.status_error(406, "NotAcceptable");
    }
}

#[tokio::test]
async fn people_get_indented_json_only_where_it_is_json() {
    let daemon = Daemon::new(decision());
    let headers = [("accept", CONTROLLER), ("user-agent", "curl/8.5.0")];
    let answer = daemon.ask(Method::GET, &format!("{EM}{ALIAS}"), &headers).await;
    assert_eq!(as_json(&answer)["items"][0]["metricLabels"]["variant_name"], *selectable("llama-a100"));
}
