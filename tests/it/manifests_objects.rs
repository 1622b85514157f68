//! Rendered objects one by one: known to Kubernetes, named soundly, right for each version, with few rights.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use poolwright::cluster::Identity;
use poolwright::cluster::manifests::{
    Certificates, Follower, Format, KedaVersion, KubernetesVersion, Manifest, ManifestError, MetricsFrom, Options,
    Part, Rendered, StateVolume, render, to_text,
};
use poolwright::policy::{Mode, Policy, load};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A shipped policy with every pool in this mode.
pub fn policy(name: &str, mode: Mode) -> Policy {
    let mut policy = load(format!("policies/{name}.yaml").as_ref()).unwrap_or_else(|errors| panic!("{errors}"));
    policy.pools.iter_mut().for_each(|p| p.mode = mode);
    policy
}

pub fn all(policy: &Policy, options: &Options) -> Rendered {
    render(policy, options, &Part::ALL).unwrap()
}

pub fn find<'r>(rendered: &'r Rendered, id: &str) -> &'r Manifest {
    rendered.manifests.iter().find(|m| m.id() == id).unwrap_or_else(|| panic!("no {id}"))
}

fn of(follower: Follower) -> Options {
    Options { follower, ..Options::default() }
}

/// Every choice that changes objects, at least once.
fn variants() -> Vec<Options> {
    let files = [("a.yaml".to_owned(), "text: 1\n# more\n".to_owned())].into();
    let other = Options {
        identity: Identity { namespace: "other".into(), service: "pw".into() },
        certificates: Certificates::CertManager,
        metrics: MetricsFrom::Prometheus("http://prometheus:9090".into()),
        state: StateVolume::Empty,
        service_monitor: true,
        policy_files: files,
        ..Options::default()
    };
    let plain = Options { keda_tls: false, ..of(Follower::Keda) };
    let old = Options { kubernetes: KubernetesVersion { minor: 32 }, ..Options::default() };
    vec![Options::default(), of(Follower::Keda), of(Follower::MetricsApi), other, plain, old]
}

fn is_known<T: DeserializeOwned + Serialize>(object: &Value) {
    let typed: T = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object:#}"));
    assert_eq!(&serde_json::to_value(typed).unwrap(), object, "a field that Kubernetes does not know");
}

#[test]
fn kubernetes_knows_every_field() {
    for (options, name) in variants().iter().flat_map(|o| [(o, "quickstart"), (o, "heterogeneous")]) {
        for manifest in all(&policy(name, Mode::Act), options).manifests {
            let object = &manifest.object;
            match object["kind"].as_str().unwrap() {
                "Namespace" => is_known::<Namespace>(object),
                "ServiceAccount" => is_known::<ServiceAccount>(object),
                "ConfigMap" => is_known::<ConfigMap>(object),
                "PersistentVolumeClaim" => is_known::<PersistentVolumeClaim>(object),
                "Deployment" => is_known::<Deployment>(object),
                "Service" => is_known::<Service>(object),
                "NetworkPolicy" => is_known::<NetworkPolicy>(object),
                "PodDisruptionBudget" => is_known::<PodDisruptionBudget>(object),
                "ClusterRole" => is_known::<ClusterRole>(object),
                "ClusterRoleBinding" => is_known::<ClusterRoleBinding>(object),
                "Role" => is_known::<Role>(object),
                "RoleBinding" => is_known::<RoleBinding>(object),
                "APIService" => is_known::<APIService>(object),
                "HorizontalPodAutoscaler" => is_known::<HorizontalPodAutoscaler>(object),
                // Custom resources: their definitions live with those who serve them.
                "ScaledObject" | "TriggerAuthentication" | "ServiceMonitor" | "Issuer" | "Certificate" => {}
                kind => panic!("untested kind {kind}"),
            }
        }
    }
}

#[test]
fn objects_have_one_name_each_and_bindings_lead_somewhere() {
    for options in variants() {
        let rendered = all(&policy("heterogeneous", Mode::Act), &options);
        let ids: BTreeSet<String> = rendered.manifests.iter().map(Manifest::id).collect();
        assert_eq!(ids.len(), rendered.manifests.len(), "{ids:?}");
        for manifest in &rendered.manifests {
            let object = &manifest.object;
            if let Some(role) = object["roleRef"]["name"].as_str() {
                let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
                let kind = object["roleRef"]["kind"].as_str().unwrap();
                let id =
                    if kind == "Role" { format!("Role {namespace}/{role}") } else { format!("ClusterRole {role}") };
                let built_in = ["system:auth-delegator", "extension-apiserver-authentication-reader"].contains(&role);
                assert!(built_in || ids.contains(&id), "{} names {id}", manifest.id());
            }
        }
        let service = &options.identity.service;
        let own = format!("Service {}/{service}", options.identity.namespace);
        let selector = &find(&rendered, &own).object["spec"]["selector"];
        let deployment = find(&rendered, &own.replace("Service", "Deployment"));
        assert_eq!(&deployment.object["spec"]["template"]["metadata"]["labels"], selector);
        let ports: Vec<&str> = deployment.object["spec"]["template"]["spec"]["containers"][0]["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["name"].as_str().unwrap())
            .collect();
        for manifest in rendered.manifests.iter().filter(|m| m.object["kind"] == "Service") {
            for port in manifest.object["spec"]["ports"].as_array().unwrap() {
                assert!(ports.contains(&port["targetPort"].as_str().unwrap()), "{port} of {}", manifest.id());
            }
        }
    }
}

#[test]
fn text_reads_back_as_the_same_objects() {
    let mut fleet = policy("quickstart", Mode::Act);
    // Names that are DNS labels and, unquoted, something else in YAML.
    for name in ["on", "no", "null", "1", "0x1f", "1e3", "2024-01-01", "y"] {
        fleet.pools[0].name = name.to_owned();
        fleet.pools[0].target.name = name.to_owned();
        let rendered = all(&fleet, &variants()[3]);
        let text = to_text(&rendered, Format::Yaml).unwrap();
        let read: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let objects: Vec<Value> = rendered.manifests.iter().map(|m| m.object.clone()).collect();
        assert_eq!(read, objects);
        assert!(text.contains(&format!("pool: '{name}'")) || text.contains(&format!("pool: \"{name}\"")), "{name}");
        let json: Value = serde_json::from_str(&to_text(&rendered, Format::Json).unwrap()).unwrap();
        assert_eq!(json["items"].as_array().unwrap(), &objects);
    }
    let text = to_text(&all(&fleet, &Options::default()), Format::Yaml).unwrap();
    for quoted in ["averageValue", "tolerance"] {
        let line = text.lines().find(|l| l.contains(quoted)).unwrap();
        assert!(line.ends_with(['"', '\'']), "a quantity has to stay text: {line}");
    }
}

#[test]
fn nothing_reaches_outside_while_no_pool_acts() {
    for follower in [Follower::Hpa, Follower::Keda, Follower::MetricsApi] {
        let rendered = all(&policy("quickstart", Mode::Advise), &of(follower));
        for manifest in &rendered.manifests {
            let kind = manifest.object["kind"].as_str().unwrap();
            let outside = ["HorizontalPodAutoscaler", "ScaledObject", "TriggerAuthentication", "APIService"];
            assert_eq!(
                manifest.held_back,
                outside.contains(&kind)
                    || manifest.id().contains("external-metrics")
                    || manifest.id().contains("apiservice-writer"),
                "{}",
                manifest.id()
            );
        }
        let text = to_text(&rendered, Format::Yaml).unwrap();
        let read: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert_eq!(read.len(), rendered.manifests.iter().filter(|m| !m.held_back).count());
        let off = all(&policy("quickstart", Mode::Off), &of(follower));
        assert!(off.manifests.iter().all(|m| !m.id().contains("llama-70b")), "a pool that is off has no scaler");
    }
}

#[test]
fn one_acting_pool_gets_its_scaler_alone() {
    let mut fleet = policy("quickstart", Mode::Advise);
    fleet.pools[0].mode = Mode::Act;
    fleet.pools[1].max = 0;
    let rendered = all(&fleet, &Options::default());
    assert!(!find(&rendered, "APIService v1beta1.external.metrics.k8s.io").held_back);
    let id = format!("HorizontalPodAutoscaler {}", fleet.pools[0].id());
    assert!(!find(&rendered, &id).held_back);
    assert_eq!(rendered.remarks.len(), 1, "a pool without stock is spoken of: {:?}", rendered.remarks);
    assert!(rendered.remarks[0].contains(&fleet.pools[1].id()));
}

#[test]
fn versions_decide_tolerance_and_zero() {
    let fleet = policy("quickstart", Mode::Act);
    let zero = fleet.pools.iter().find(|p| p.min == 0).unwrap();
    for (minor, tolerance, min) in [(32, false, 1), (34, false, 1), (35, true, 1), (36, true, 1), (37, true, 0)] {
        let options = Options { kubernetes: KubernetesVersion { minor }, ..Options::default() };
        let hpa = find(&all(&fleet, &options), &format!("HorizontalPodAutoscaler {}", zero.id())).clone();
        let spec = &hpa.object["spec"];
        assert_eq!(spec["minReplicas"], min, "1.{minor}");
        for direction in ["scaleUp", "scaleDown"] {
            let found = spec["behavior"][direction].get("tolerance");
            assert_eq!(found, tolerance.then_some(&Value::from("0")), "1.{minor} {direction}");
        }
        assert_eq!(hpa.notes.iter().any(|n| n.contains("10 %")), !tolerance, "{:?}", hpa.notes);
    }
    for (minor, keda, tolerance) in [(37, 21, true), (35, 18, true), (35, 17, false), (34, 21, false)] {
        let (kubernetes, keda) = (KubernetesVersion { minor }, KedaVersion { minor: keda });
        let options = Options { kubernetes, keda, ..of(Follower::Keda) };
        let scaled = find(&all(&fleet, &options), &format!("ScaledObject {}", zero.id())).clone();
        let behavior = &scaled.object["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"];
        assert_eq!(behavior["scaleUp"].get("tolerance").is_some(), tolerance, "1.{minor}, KEDA {keda}");
        assert_eq!(scaled.object["spec"]["minReplicaCount"], 0, "KEDA reaches 0 on any version");
        assert_eq!(scaled.object["spec"].get("fallback"), None, "a fallback wakes targets during an outage");
        assert_eq!(scaled.notes.iter().any(|n| n.contains("10 %")), !tolerance);
    }
}

#[test]
fn a_keda_trigger_finds_the_pool() {
    let fleet = policy("quickstart", Mode::Act);
    let pool = &fleet.pools[0];
    let trigger = |options: &Options| {
        find(&all(&fleet, options), &format!("ScaledObject {}", pool.id())).object["spec"]["triggers"][0].clone()
    };
    let pushed = trigger(&of(Follower::Keda));
    assert_eq!((&pushed["type"], &pushed["metricType"]), (&"external-push".into(), &"AverageValue".into()));
    assert_eq!(pushed["metadata"]["pool"], pool.name.as_str());
    assert_eq!(pushed["metadata"]["scalerAddress"], "poolwright-keda.poolwright-system.svc:9443");
    assert_eq!(
        (&pushed["metadata"]["enableTLS"], &pushed["authenticationRef"]["name"]),
        (&"true".into(), &"poolwright".into())
    );
    let plain = trigger(&Options { keda_tls: false, ..of(Follower::Keda) });
    assert!(plain["metadata"].get("enableTLS").is_none() && plain.get("authenticationRef").is_none());
    let json = trigger(&of(Follower::MetricsApi));
    let url =
        format!("http://poolwright.poolwright-system.svc:8080/v1/namespaces/{}/pools/{}", pool.namespace, pool.name);
    assert_eq!(json["metadata"]["url"], url.as_str());
    assert_eq!(
        (&json["metadata"]["authMode"], &json["authenticationRef"]["name"]),
        (&"bearer".into(), &"poolwright".into())
    );
    let values = json["metadata"].as_object().unwrap().values().chain(pushed["metadata"].as_object().unwrap().values());
    assert!(values.into_iter().all(Value::is_string), "trigger metadata is a map of text");
}

/// KEDA's token and the daemon's are of Secrets with one name and one key, and every trigger's reference is there.
#[test]
fn the_json_token_is_shown_and_asked_for() {
    let rendered = all(&policy("heterogeneous", Mode::Act), &of(Follower::MetricsApi));
    for manifest in rendered.manifests.iter().filter(|m| m.object["kind"] == "ScaledObject") {
        let namespace = manifest.object["metadata"]["namespace"].as_str().unwrap();
        let reference = manifest.object["spec"]["triggers"][0]["authenticationRef"]["name"].as_str().unwrap();
        let shown = &find(&rendered, &format!("TriggerAuthentication {namespace}/{reference}")).object["spec"];
        let expected = serde_json::json!([{"parameter": "token", "name": "poolwright-json", "key": "token"}]);
        assert_eq!(shown["secretTargetRef"], expected);
    }
    let pod = &find(&rendered, "Deployment poolwright-system/poolwright").object["spec"]["template"]["spec"];
    let named = |list: &Value, name: &str| list.as_array().unwrap().iter().find(|v| v["name"] == name).unwrap().clone();
    assert_eq!(named(&pod["volumes"], "json-token")["secret"]["secretName"], "poolwright-json");
    let container = &pod["containers"][0];
    let folder = named(&container["volumeMounts"], "json-token")["mountPath"].as_str().unwrap().to_owned();
    let flag = Value::from(format!("--web-bearer-token-file={folder}/token"));
    assert!(container["args"].as_array().unwrap().contains(&flag), "{}", container["args"]);
}

/// Every rule of every role, one line each. A new right has to be written here too.
#[test]
fn rights_are_these_and_no_more() {
    let mut lines = vec![];
    for manifest in all(&policy("quickstart", Mode::Act), &Options::default()).manifests {
        for rule in manifest.object["rules"].as_array().into_iter().flatten() {
            let words = |key: &str| {
                let words = rule[key].as_array().into_iter().flatten().map(|w| w.as_str().unwrap());
                words.collect::<Vec<_>>().join(",")
            };
            let [groups, resources, names, verbs] = ["apiGroups", "resources", "resourceNames", "verbs"].map(words);
            lines.push(format!("{}: {groups} {resources} [{names}] {verbs}", manifest.id()));
        }
    }
    let pools = "Role inference/poolwright-pools:";
    let expected = [
        "ClusterRole poolwright-apiservice-reader: apiregistration.k8s.io apiservices \
         [v1beta1.external.metrics.k8s.io] get,list,watch"
            .to_owned(),
        "Role poolwright-system/poolwright-own: events.k8s.io events [] create".to_owned(),
        "Role poolwright-system/poolwright-own:  services [poolwright] get".to_owned(),
        "Role poolwright-system/poolwright-own:  secrets [poolwright-serving] get,list,watch,update".to_owned(),
        "Role poolwright-system/poolwright-own:  secrets [] create".to_owned(),
        format!("{pools}  pods [] get,list,watch"),
        format!("{pools} apps deployments,statefulsets [] get,list,watch"),
        format!("{pools} leaderworkerset.x-k8s.io leaderworkersets [] get,list,watch"),
        format!("{pools} autoscaling horizontalpodautoscalers [] get,list,watch"),
        format!("{pools} keda.sh scaledobjects [] get,list,watch"),
        format!("{pools} events.k8s.io events [] create"),
        "ClusterRole poolwright-external-metrics-reader: external.metrics.k8s.io * [] get,list".to_owned(),
        "ClusterRole poolwright-apiservice-writer: apiregistration.k8s.io apiservices \
         [v1beta1.external.metrics.k8s.io] patch"
            .to_owned(),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn with_keda_or_cert_manager_nothing_is_written_but_events() {
    for options in [of(Follower::Keda), Options { certificates: Certificates::CertManager, ..Options::default() }] {
        let rendered = all(&policy("quickstart", Mode::Act), &options);
        assert!(!rendered.manifests.iter().any(|m| m.id().contains("apiservice-writer")));
        let own = &find(&rendered, "Role poolwright-system/poolwright-own").object["rules"];
        let writes = |rule: &&Value| rule["verbs"].as_array().unwrap().iter().any(|v| v != "get");
        let written: Vec<&Value> = own.as_array().unwrap().iter().filter(writes).collect();
        assert!(matches!(written[..], [rule] if rule["resources"][0] == "events"), "{own}");
    }
}

#[test]
fn names_that_no_object_can_have_are_refused() {
    let fleet = policy("quickstart", Mode::Act);
    let named = |namespace: &str, service: &str| Options {
        identity: Identity { namespace: namespace.into(), service: service.into() },
        ..Options::default()
    };
    let long = "x".repeat(60);
    for options in [named("Upper", "p"), named("n", "1p"), named("n", ""), named("n", &long), named("a.b", "p")] {
        let error = render(&fleet, &options, &Part::ALL).unwrap_err();
        assert!(matches!(error, ManifestError::Name { .. }) && !error.to_string().contains('\n'), "{error}");
    }
    for file in ["figures/a.yaml", "", "..data", "ä.yaml"] {
        let options = Options { policy_files: [(file.into(), String::new())].into(), ..Options::default() };
        assert_eq!(render(&fleet, &options, &Part::ALL), Err(ManifestError::PolicyFile(file.into())));
    }
}
