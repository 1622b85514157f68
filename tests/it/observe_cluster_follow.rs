//! The check of HPAs and ScaledObjects: each fault alone is found and named, a healthy one has none.

use kube::core::DynamicObject;
use poolwright::observe::FindingKind;
use poolwright::observe::cluster::follow::{Answer, Subject, check};
use poolwright::observe::cluster::{Hpa, ScaledObject};
use poolwright::policy::{Mode, Policy, Pool};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use crate::observe_support::{policy, pool};

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

fn hpa() -> Value {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
            "minReplicas": 1, "maxReplicas": 64,
            "behavior": {"scaleUp": rules(), "scaleDown": rules()},
            "metrics": [{"type": "External", "external": {
                "metric": {"name": "poolwright_desired_replicas", "selector": {"matchLabels": {"pool": "a"}}},
                "target": {"type": "AverageValue", "averageValue": "1"}}}]},
        "status": {"conditions": [{"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound"}]}})
}

fn rules() -> Value {
    json!({"stabilizationWindowSeconds": 0, "tolerance": "0", "selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": 64, "periodSeconds": 15}]})
}

fn scaled_object() -> Value {
    json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "a"},
        "spec": {"scaleTargetRef": {"name": "a"}, "minReplicaCount": 1, "maxReplicaCount": 64, "cooldownPeriod": 30,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": rules(), "scaleDown": rules()}}},
            "triggers": [{"type": "external-push", "metricType": "AverageValue",
                "metadata": {"scalerAddress": "poolwright.poolwright-system.svc:9443", "pool": "a"}}]}})
}

/// Two acting pools, `a` with 1 to 64 replicas.
fn fleet() -> Policy {
    let limits = |name: &str| Pool { min: 1, max: 64, ..pool(name) };
    (*policy(vec![limits("a"), limits("b")])).clone()
}

fn subject(policy: &Policy) -> Subject<'_> {
    Subject { policy, pool: 0, wanted: Some(3), server_minor: Some(35) }
}

fn of_hpas(subject: &Subject, hpas: &[Value]) -> Answer {
    let hpas: Vec<Hpa> = hpas.iter().map(|h| Hpa::read(&object(h.clone()))).collect();
    check(subject, &hpas, &[])
}

fn of_scaled(subject: &Subject, scaled: &[Value]) -> Answer {
    let scaled: Vec<ScaledObject> = scaled.iter().map(|s| ScaledObject::read(&object(s.clone()))).collect();
    check(subject, &[], &scaled)
}

fn kinds(answer: &Answer) -> Vec<FindingKind> {
    answer.findings.iter().map(|f| f.kind).collect()
}

/// Set what is at a pointer; `null` removes it.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    match (parent, value) {
        (Value::Object(map), Value::Null) => _ = map.remove(key),
        (Value::Array(list), value) => list.push(value),
        (parent, value) => parent[key] = value,
    }
    object
}

#[test]
fn healthy_scalers_have_no_fault_and_follow() {
    let policy = fleet();
    for answer in [of_hpas(&subject(&policy), &[hpa()]), of_scaled(&subject(&policy), &[scaled_object()])] {
        assert_eq!(answer.findings, vec![]);
        assert!(answer.scaler.unwrap().follows);
    }
    let alias = with(
        hpa(),
        "/spec/metrics/0/external/metric",
        json!({"name": "wva_desired_replicas",
        "selector": {"matchExpressions": [{"key": "variant_name", "operator": "In", "values": ["a"]}]}}),
    );
    assert_eq!(of_hpas(&subject(&policy), &[alias]).findings, vec![]);
}

#[test]
fn every_fault_of_an_hpa_is_found_alone_and_says_what_to_write() {
    use FindingKind as K;
    let external = "/spec/metrics/0/external";
    let at = |rest: &str| format!("{external}/{rest}");
    let up = |rest: &str| format!("/spec/behavior/scaleUp/{rest}");
    let down = |rest: &str| format!("/spec/behavior/scaleDown/{rest}");
    let percent = json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]);
    let cases: Vec<(Value, FindingKind, &str)> = vec![
        (with(hpa(), &at("target"), json!({"type": "Value", "value": "1"})), K::ScalerMetric, "AverageValue"),
        (with(hpa(), &at("target"), json!({"type": "Utilization"})), K::ScalerMetric, "AverageValue"),
        (with(hpa(), &at("target/averageValue"), json!("10")), K::ScalerMetric, "averageValue: \"1\""),
        (with(hpa(), &at("metric/name"), json!("queue_length")), K::ScalerMetric, "poolwright_desired_replicas"),
        (with(hpa(), &at("metric/selector"), Value::Null), K::ScalerSelector, "no selector"),
        (with(hpa(), &at("metric/selector"), json!({})), K::ScalerSelector, "no selector"),
        (with(hpa(), &at("metric/selector/matchLabels/pool"), json!("b")), K::ScalerSelector, "another pool (b)"),
        (with(hpa(), &at("metric/selector/matchLabels/pool"), json!("c")), K::ScalerSelector, "no pool fits"),
        (
            with(hpa(), &at("metric/selector"), json!({"matchLabels": {"model_name": "tiny"}})),
            K::ScalerSelector,
            "the pools a, b",
        ),
        (
            with(hpa(), &at("metric/selector"), json!({"matchExpressions": [{"key": "pool", "operator": "Near"}]})),
            K::ScalerSelector,
            "cannot be read",
        ),
        (with(hpa(), &up("tolerance"), Value::Null), K::ScalerTolerance, "up to 6 at 64"),
        (with(hpa(), &down("tolerance"), json!("0.2")), K::ScalerTolerance, "up to 12 at 64"),
        (with(hpa(), "/spec/maxReplicas", json!(10)), K::ScalerLimits, "maxReplicas: 64"),
        (with(hpa(), "/spec/minReplicas", json!(2)), K::ScalerLimits, "minReplicas: 1"),
        (with(hpa(), &down("stabilizationWindowSeconds"), Value::Null), K::ScalerBehavior, "300 s"),
        (with(hpa(), &up("stabilizationWindowSeconds"), json!(30)), K::ScalerBehavior, "30 s"),
        (with(hpa(), &up("policies"), Value::Null), K::ScalerBehavior, "several syncs"),
        (with(hpa(), &up("policies/0/value"), json!(10)), K::ScalerBehavior, "several syncs"),
        (with(hpa(), &up("policies/0/periodSeconds"), json!(60)), K::ScalerBehavior, "several syncs"),
        (
            with(hpa(), &down("policies"), json!([{"type": "Percent", "value": 50, "periodSeconds": 15}])),
            K::ScalerBehavior,
            "several syncs",
        ),
        (with(hpa(), &up("selectPolicy"), json!("Disabled")), K::ScalerBehavior, "Disabled"),
        (
            with(
                with(hpa(), &up("policies"), percent.clone()),
                &up("policies/"),
                json!({"type": "Pods", "value": 4, "periodSeconds": 15}),
            ),
            K::ScalerBehavior,
            "several syncs",
        ),
        (
            with(hpa(), "/spec/metrics/", json!({"type": "Resource", "resource": {"name": "cpu"}})),
            K::ScalerOtherMetrics,
            "largest result wins",
        ),
        (
            with(
                hpa(),
                "/status/conditions",
                json!([{"type": "ScalingActive", "status": "False",
                "reason": "FailedGetExternalMetric", "message": "no metrics"}]),
            ),
            K::ScalerCondition,
            "FailedGetExternalMetric",
        ),
    ];
    let policy = fleet();
    for (hpa, kind, words) in cases {
        let answer = of_hpas(&subject(&policy), std::slice::from_ref(&hpa));
        assert_eq!(kinds(&answer), vec![kind], "{hpa}: {:?}", answer.findings);
        assert!(answer.findings[0].message.contains(words), "{}", answer.findings[0].message);
        assert_eq!(answer.findings[0].subject, "inference/a");
        assert!(!answer.scaler.unwrap().follows);
    }
}

#[test]
fn default_behaviour_damps_and_steps() {
    let policy = fleet();
    let bare = with(hpa(), "/spec/behavior", Value::Null);
    let answer = of_hpas(&subject(&policy), &[bare]);
    assert_eq!(kinds(&answer), vec![FindingKind::ScalerTolerance, FindingKind::ScalerBehavior]);
    assert_eq!(answer.scaler.unwrap().problems.len(), 3, "up is slow, down is damped; down is not slow");
}

#[test]
fn what_a_server_can_do_decides_what_is_said() {
    let mut policy = fleet();
    let no_tolerance = with(
        with(hpa(), "/spec/behavior/scaleUp/tolerance", Value::Null),
        "/spec/behavior/scaleDown/tolerance",
        Value::Null,
    );
    let said = |policy: &Policy, minor, hpa: &Value| {
        let subject = Subject { server_minor: minor, ..subject(policy) };
        of_hpas(&subject, std::slice::from_ref(hpa)).findings
    };
    for minor in [32, 34] {
        let kind = said(&policy, Some(minor), &no_tolerance)[0].kind;
        assert_eq!(kind, FindingKind::ScalerServer, "nothing is wrong with an HPA that does what 1.{minor} can");
    }
    assert!(said(&policy, Some(32), &no_tolerance)[0].message.contains("--horizontal-pod-autoscaler-tolerance=0"));
    assert!(said(&policy, Some(33), &no_tolerance)[0].message.contains("HPAConfigurableTolerance"));
    assert!(!said(&policy, Some(36), &no_tolerance)[0].message.contains("HPAConfigurableTolerance"));
    assert!(said(&policy, None, &no_tolerance)[0].message.contains("tolerance: \"0\""));

    policy.pools[0].max = 9;
    assert_eq!(said(&policy, Some(32), &no_tolerance), vec![], "no whole step is lost, and nothing can be written");
    assert!(said(&policy, Some(35), &no_tolerance)[0].message.contains("surge"));

    policy.pools[0].min = 0;
    let known = &said(&policy, Some(36), &hpa())[0];
    assert!(known.kind == FindingKind::ScalerServer && known.message.contains("HPAScaleToZero"), "{known:?}");
    let wrong = &said(&policy, Some(37), &hpa())[0];
    assert!(wrong.kind == FindingKind::ScalerLimits && !wrong.message.contains("HPAScaleToZero"), "{wrong:?}");
    assert_eq!(said(&policy, Some(36), &with(hpa(), "/spec/minReplicas", json!(2)))[0].kind, FindingKind::ScalerLimits);
    assert_eq!(said(&policy, Some(37), &with(hpa(), "/spec/minReplicas", json!(0))), vec![]);
}

#[test]
fn zero_is_left_only_by_who_can() {
    let mut policy = fleet();
    policy.pools[0].min = 0;
    let zero = with(hpa(), "/spec/minReplicas", json!(0));
    let asleep = Subject { wanted: Some(0), server_minor: Some(37), ..subject(&policy) };
    let answer = of_hpas(&asleep, std::slice::from_ref(&zero));
    assert_eq!(kinds(&answer), vec![FindingKind::ScalerCondition]);
    assert!(answer.findings[0].message.contains("scale deployment/a --replicas=1"), "{:?}", answer.findings);
    let silent = Subject { server_minor: Some(35), ..asleep };
    assert_eq!(of_hpas(&silent, std::slice::from_ref(&zero)).findings, vec![], "it does not say who put it to 0");
    let by_itself = with(
        zero.clone(),
        "/status/conditions",
        json!([
        {"type": "ScaledToZero", "status": "True"},
        {"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled"}]),
    );
    assert_eq!(of_hpas(&asleep, &[by_itself]).findings, vec![]);

    let percent = json!([{"type": "Percent", "value": 100_000, "periodSeconds": 15}]);
    let answer = of_hpas(&subject(&policy), &[with(zero, "/spec/behavior/scaleUp/policies", percent.clone())]);
    assert!(answer.findings[0].message.contains("never leaves 0"), "{:?}", answer.findings);
    let one = of_hpas(&subject(&fleet()), &[with(hpa(), "/spec/behavior/scaleUp/policies", percent)]);
    assert_eq!(one.findings, vec![], "from one replica a share is enough");

    // KEDA's own HPA rests at zero.
    let scaled = ScaledObject::read(&object(with(scaled_object(), "/spec/minReplicaCount", json!(0))));
    let own = Hpa::read(&object(json!({"metadata": {"name": "keda-hpa-a"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}, "maxReplicas": 64},
        "status": {"conditions": [{"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled"}]}})));
    assert_eq!(check(&asleep, [&own], [&scaled]).findings, vec![]);
    assert_eq!(kinds(&check(&subject(&policy), [&own], [&scaled])), vec![FindingKind::ScalerCondition]);
}

#[test]
fn one_target_has_one_scaler() {
    let policy = fleet();
    let subject = subject(&policy);
    let nobody = of_hpas(&subject, &[with(hpa(), "/spec/scaleTargetRef/name", json!("other"))]);
    assert_eq!((kinds(&nobody), nobody.scaler), (vec![FindingKind::NoScaler], None));

    let second = with(hpa(), "/metadata/name", json!("b"));
    assert_eq!(kinds(&of_hpas(&subject, &[hpa(), second])), vec![FindingKind::TwoScalers]);

    let scaled = ScaledObject::read(&object(scaled_object()));
    let own = Hpa::read(&object(hpa()));
    assert_eq!(kinds(&check(&subject, [&own], [&scaled])), vec![FindingKind::TwoScalers]);
    for made in [
        with(hpa(), "/metadata/name", json!("keda-hpa-a")),
        with(
            hpa(),
            "/metadata/ownerReferences",
            json!([{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "name": "a", "uid": "u", "controller": true}]),
        ),
    ] {
        let made = Hpa::read(&object(made));
        let answer = check(&subject, [&made], [&scaled]);
        assert_eq!((answer.findings.len(), answer.scaler.unwrap().kind.as_str()), (0, "ScaledObject"));
    }
}

#[test]
fn every_fault_of_a_scaled_object_is_found_alone() {
    use FindingKind as K;
    let trigger = |rest: &str| format!("/spec/triggers/0/{rest}");
    let behavior = "/spec/advanced/horizontalPodAutoscalerConfig/behavior";
    let api = |key: &str, value: Value| {
        let metadata = json!({"url": "https://poolwright.x.svc/v1/namespaces/inference/pools/a", "targetValue": "1",
            "valueLocation": "desired_replicas"});
        let trigger = json!({"type": "metrics-api", "metadata": metadata});
        with(
            with(scaled_object(), "/spec/triggers", json!([trigger])),
            &format!("/spec/triggers/0/metadata/{key}"),
            value,
        )
    };
    let cases: Vec<(Value, Vec<FindingKind>)> = vec![
        (api("activationTargetValue", json!("0")), vec![]),
        (api("activationTargetValue", json!("5")), vec![K::ScalerMetric]),
        (api("targetValue", json!("2")), vec![K::ScalerMetric]),
        (api("valueLocation", json!("ready")), vec![K::ScalerMetric]),
        (api("url", json!("https://poolwright.x.svc/v1/namespaces/inference/pools/b")), vec![K::ScalerSelector]),
        (api("url", json!("https://elsewhere/v1/queue")), vec![K::ScalerMetric]),
        (with(scaled_object(), &trigger("metadata/pool"), json!("b")), vec![K::ScalerSelector]),
        (with(scaled_object(), &trigger("metadata/pool"), Value::Null), vec![K::ScalerSelector]),
        (with(scaled_object(), &trigger("type"), json!("kafka")), vec![K::ScalerMetric]),
        (with(scaled_object(), &trigger("metricType"), json!("Value")), vec![K::ScalerMetric]),
        (with(scaled_object(), "/spec/triggers/", json!({"type": "cron"})), vec![K::ScalerOtherMetrics]),
        (
            with(scaled_object(), "/spec/advanced/scalingModifiers", json!({"formula": "a*2"})),
            vec![K::ScalerOtherMetrics],
        ),
        (
            with(scaled_object(), "/spec/fallback", json!({"failureThreshold": 3, "replicas": 6})),
            vec![K::ScalerFallback],
        ),
        (with(scaled_object(), "/spec/idleReplicaCount", json!(0)), vec![K::ScalerBehavior]),
        (with(scaled_object(), "/spec/minReplicaCount", json!(3)), vec![K::ScalerLimits]),
        (with(scaled_object(), "/spec/maxReplicaCount", json!(3)), vec![K::ScalerLimits]),
        (
            with(scaled_object(), "/metadata/annotations", json!({"autoscaling.keda.sh/paused-replicas": "4"})),
            vec![K::ScalerPaused],
        ),
        (with(scaled_object(), "/metadata/annotations", json!({"autoscaling.keda.sh/paused": "false"})), vec![]),
        (
            with(scaled_object(), &format!("{behavior}/scaleDown/stabilizationWindowSeconds"), Value::Null),
            vec![K::ScalerBehavior],
        ),
        (with(scaled_object(), &format!("{behavior}/scaleUp/tolerance"), Value::Null), vec![K::ScalerTolerance]),
        (
            with(
                scaled_object(),
                "/status",
                json!({"conditions": [{"type": "Ready", "status": "False", "reason": "x"}]}),
            ),
            vec![K::ScalerCondition],
        ),
    ];
    let policy = fleet();
    for (scaled, expected) in cases {
        let answer = of_scaled(&subject(&policy), std::slice::from_ref(&scaled));
        assert_eq!(kinds(&answer), expected, "{scaled}: {:?}", answer.findings);
    }
    let mut to_zero = fleet();
    to_zero.pools[0].min = 0;
    let slow = with(with(scaled_object(), "/spec/minReplicaCount", json!(0)), "/spec/cooldownPeriod", json!(900));
    assert!(of_scaled(&subject(&to_zero), &[slow]).findings[0].message.contains("900 s more"));
}

#[test]
fn a_pool_that_does_not_act_only_says_who_waits_for_it() {
    for mode in [Mode::Off, Mode::Advise] {
        let mut policy = fleet();
        policy.pools[0].mode = mode;
        let subject = subject(&policy);
        assert_eq!(kinds(&of_hpas(&subject, &[hpa()])), vec![FindingKind::ScalerWaits]);
        assert_eq!(kinds(&of_scaled(&subject, &[scaled_object()])), vec![FindingKind::ScalerWaits]);
        let other = with(hpa(), "/spec/metrics", json!([{"type": "Resource", "resource": {"name": "cpu"}}]));
        assert_eq!(of_hpas(&subject, &[other]).findings, vec![], "somebody else scales it: nothing wrong");
        assert_eq!(of_hpas(&subject, &[]).findings, vec![]);
    }
}

/// Any JSON, with the names of real fields.
fn any_json() -> impl Strategy<Value = Value> {
    let keys = "(spec|status|metrics|external|metric|selector|matchLabels|matchExpressions|target|behavior|scaleUp|\
                scaleDown|policies|tolerance|value|type|triggers|metadata|advanced|fallback|conditions|minReplicas|\
                maxReplicas|scaleTargetRef|name|kind|apiVersion|horizontalPodAutoscalerConfig|x)";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(a|Deployment|apps/v1|External|Pods|Percent|Max|1|-1|1e300|poolwright_desired_replicas|\\PC{0,6})"
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys, inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(7), cases: 512, ..ProptestConfig::default() })]

    /// Whatever is in the objects: an answer, no panic.
    #[test]
    fn arbitrary_objects_are_survived(spec in any_json(), status in any_json(), path in 0usize..6, hurt in any_json()) {
        let policy = fleet();
        let places = ["/spec/metrics", "/spec/behavior", "/spec/metrics/0/external/metric/selector",
            "/spec/metrics/0/external/target", "/spec/maxReplicas", "/spec/behavior/scaleUp/policies"];
        let mut objects = vec![json!({"metadata": {"name": "a"}, "spec": spec, "status": status})];
        objects.push(with(hpa(), places[path], hurt.clone()));
        objects.push(with(scaled_object(), ["/spec/triggers", "/spec/advanced", "/spec/fallback", "/status",
            "/spec/minReplicaCount", "/spec/scaleTargetRef"][path], hurt));
        for value in objects {
            let Ok(object) = serde_json::from_value::<DynamicObject>(value) else { continue };
            let (hpa, scaled) = (Hpa::read(&object), ScaledObject::read(&object));
            check(&subject(&policy), [&hpa], [&scaled]);
        }
    }
}
