//! The judgement of a check-up: silent where all is well, each fault alone is named with what to do.

use std::collections::BTreeMap;

use poolwright::cluster::Identity;
use poolwright::cluster::doctor::{
    Answer, ApiFacts, Cluster, ClusterFacts, Finding, Lookup, Report, ScalerAddress, Settings, Severity, judge,
};
use poolwright::cluster::manifests::{KubernetesVersion, Options, grants};
use poolwright::observe::cluster::{PoolCluster, ScalerReport};
use poolwright::observe::{Finding as Seen, FindingKind, Histogram, Observation, PoolObservation, Quality, Signal};
use poolwright::policy::{Mode, Policy};
use poolwright::serve::Owner;

use crate::observe_support::{NOW, policy, pool};

fn settings() -> Settings {
    Settings {
        identity: Identity { namespace: "poolwright-system".into(), service: "poolwright".into() },
        account: "poolwright".into(),
        policy_path: "fleet.yaml".into(),
        source: "Prometheus http://p:9090".into(),
    }
}

fn fleet() -> Policy {
    (*policy(vec![pool("a")])).clone()
}

fn observation() -> Observation {
    let scaler =
        ScalerReport { kind: "HorizontalPodAutoscaler".into(), name: "a".into(), follows: true, problems: vec![] };
    let seen = PoolObservation {
        pool: "inference/a".into(),
        ready: Signal::fresh(2, NOW),
        cluster: Some(PoolCluster { scaler: Some(scaler), ..PoolCluster::default() }),
        ..PoolObservation::default()
    };
    Observation { at_seconds: NOW, source_error: None, pools: vec![seen], findings: vec![] }
}

/// A cluster in which nothing is wrong.
fn facts() -> ClusterFacts {
    let all = grants(&fleet(), &Options::default(), "poolwright").into_iter().map(|grant| {
        let answers = grant.rights.iter().map(|right| (right.clone(), Answer::Yes)).collect();
        (grant, answers)
    });
    let service = ("poolwright-system".to_owned(), "poolwright".to_owned());
    ClusterFacts {
        version: Some(KubernetesVersion::NEWEST),
        api: Lookup::Found(ApiFacts {
            owner: Owner::Ours,
            service: Some((service.0.clone(), service.1.clone(), 443)),
            has_bundle: true,
            available: Some((true, "Passed: all checks passed".into())),
            ..ApiFacts::default()
        }),
        services: BTreeMap::from([(service, Lookup::Found(vec![443, 8080]))]),
        trust: Lookup::Unknown("not part of this table".into()),
        account: Lookup::Found(()),
        grants: all.collect(),
        hpa: vec![("inference".into(), Answer::Yes)],
        keda_installed: false,
        addresses: vec![],
    }
}

fn look(observation: &Observation, facts: ClusterFacts) -> Report {
    judge(&fleet(), observation, &Cluster::Read(Box::new(facts)), &settings())
}

/// The one thing that is wrong.
fn alone(report: &Report) -> &Finding {
    let wrong: Vec<_> = report.findings.iter().filter(|f| f.severity > Severity::Info).collect();
    assert!(wrong.len() == 1 && !report.is_healthy(), "{report:#?}");
    assert!(wrong[0].severity > Severity::Info && !wrong[0].action.is_empty());
    wrong[0]
}

type Change = fn(&mut ClusterFacts);

fn api(facts: &mut ClusterFacts) -> &mut ApiFacts {
    match &mut facts.api {
        Lookup::Found(api) => api,
        _ => panic!("it is there"),
    }
}

fn deny(facts: &mut ClusterFacts, resource: &str) {
    let rights = facts.grants.iter_mut().flat_map(|(_, answers)| answers);
    rights.filter(|(right, _)| right.resource == resource).for_each(|(_, answer)| *answer = Answer::No);
}

#[test]
fn a_healthy_cluster_is_healthy() {
    assert!(look(&observation(), facts()).is_healthy());
}

/// Nothing of the API is there where everybody only advises, and nothing of it is needed.
#[test]
fn advice_needs_no_registration() {
    let mut policy = fleet();
    policy.pools.iter_mut().for_each(|pool| pool.mode = Mode::Advise);
    let mut before = facts();
    before.api = Lookup::Absent;
    deny(&mut before, "apiservices");
    for (_, answers) in &mut before.grants {
        let reading = answers.iter_mut().filter(|(right, _)| right.resource == "apiservices" && right.verb != "patch");
        reading.for_each(|(_, answer)| *answer = Answer::Yes);
    }
    let report = judge(&policy, &observation(), &Cluster::Read(Box::new(before.clone())), &settings());
    assert!(report.is_healthy(), "{report:#?}");
    let acting = look(&observation(), before);
    assert!(acting.findings.iter().any(|f| f.kind == "right-missing"), "{acting:#?}");
}

#[test]
fn each_fault_of_the_cluster_is_found_alone() {
    let table: &[(Change, &str, &str)] = &[
        (|f| f.api = Lookup::Absent, "api-service-absent", "--part api | kubectl apply"),
        (|f| api(f).owner = Owner::Other, "api-service-foreign", "--take-over"),
        (|f| api(f).has_bundle = false, "api-service-bundle", "--api-tls-secret"),
        (|f| api(f).insecure = true, "api-service-insecure", "insecureSkipTLSVerify"),
        (|f| api(f).available = Some((false, "no".into())), "api-service-unavailable", "kubectl describe"),
        (|f| f.services.values_mut().for_each(|s| *s = Lookup::Absent), "api-service-backend", "--part daemon"),
        (|f| f.services.values_mut().for_each(|s| *s = Lookup::Found(vec![8443])), "api-service-backend", "port: 8443"),
        (|f| f.trust = Lookup::Absent, "front-proxy-trust", "--requestheader-client-ca-file"),
        (|f| f.trust = Lookup::Found(BTreeMap::new()), "front-proxy-trust", "--requestheader-client-ca-file"),
        (|f| deny(f, "configmaps"), "right-missing", "name: extension-apiserver-authentication-reader"),
        (|f| deny(f, "tokenreviews"), "right-missing", "name: system:auth-delegator"),
        (|f| deny(f, "pods"), "right-missing", "--part daemon,api"),
        (|f| f.account = Lookup::Absent, "service-account-absent", "--own-service-account"),
        (|f| f.hpa[0].1 = Answer::No, "hpa-may-not-read", "external-metrics-reader"),
        (
            |f| {
                let service = ("poolwright-system".to_owned(), "gone".to_owned());
                f.services.insert(service.clone(), Lookup::Absent);
                f.addresses.push(ScalerAddress {
                    object: "inference/a".into(),
                    address: "gone.poolwright-system.svc:9443".into(),
                    service: Some((service.0, service.1, 9443)),
                });
            },
            "scaler-address",
            "scalerAddress",
        ),
    ];
    for (change, kind, action) in table {
        let mut changed = facts();
        change(&mut changed);
        let report = look(&observation(), changed);
        let finding = alone(&report);
        assert_eq!(finding.kind, *kind);
        assert!(finding.action.contains(action), "{finding:?}");
    }
}

#[test]
fn what_could_not_be_asked_is_said_and_is_no_fault() {
    let mut unknown = facts();
    unknown.api = Lookup::Unknown("forbidden".into());
    for (_, answers) in &mut unknown.grants {
        answers.iter_mut().for_each(|(_, answer)| *answer = Answer::Unknown("forbidden".into()));
    }
    let report = look(&observation(), unknown);
    assert!(report.is_healthy());
    let unasked = report.findings.iter().filter(|f| f.kind == "not-checked").count();
    assert_eq!(unasked, 2, "APIService and rights: {report:#?}");
}

#[test]
fn rights_nobody_needs_are_not_missed() {
    let mut denied = facts();
    deny(&mut denied, "scaledobjects");
    assert!(look(&observation(), denied.clone()).is_healthy(), "there is no KEDA");
    denied.keda_installed = true;
    assert_eq!(alone(&look(&observation(), denied)).kind, "right-missing");
    let resources = grants(&fleet(), &Options::default(), "other");
    assert!(resources.iter().flat_map(|g| &g.rights).all(|r| r.resource != "leaderworkersets"));
    assert!(resources.iter().all(|g| g.binding.object["subjects"][0]["name"] == "other"));
}

#[test]
fn findings_about_the_data_come_with_commands() {
    let table = [
        (FindingKind::SourceFailed, "source", "401 Unauthorized", "--source-token-file"),
        (FindingKind::SourceFailed, "source", "invalid peer certificate: UnknownIssuer", "--source-ca"),
        (FindingKind::ScalerMetric, "inference/a", "HPA a is wrong; write it", "kubectl -n inference edit hpa a"),
        (FindingKind::TwoScalers, "inference/a", "two; delete all but one", "kubectl -n inference delete hpa"),
        (FindingKind::NoScaler, "inference/a", "nothing scales it", "--part pools | kubectl apply"),
        (FindingKind::DuplicateSeries, "inference/a-1", "is measured twice", "only one scrape job"),
    ];
    for (kind, subject, message, action) in table {
        let mut observation = observation();
        observation.findings.push(Seen { kind, subject: subject.into(), message: message.into() });
        let report = look(&observation, facts());
        let finding = alone(&report);
        assert_eq!(finding.kind, kind.as_str());
        assert!(finding.action.contains(action), "{finding:?}");
    }
}

#[test]
fn series_of_no_pool_explain_a_pool_without_series() {
    let mut observation = observation();
    for (kind, subject) in [(FindingKind::NoSeries, "inference/a"), (FindingKind::UnmatchedSeries, "inference/b-1")] {
        observation.findings.push(Seen { kind, subject: subject.into(), message: "is so".into() });
    }
    let report = look(&observation, facts());
    assert!(alone(&report).message.contains("match no pool: inference/b-1"), "{report:#?}");
}

#[test]
fn consequences_are_not_faults_of_their_own() {
    let mut observation = observation();
    let message = "HPA a reports ScalingActive=False, FailedGetExternalMetric: no";
    let kind = FindingKind::ScalerCondition;
    observation.findings.push(Seen { kind, subject: "inference/a".into(), message: message.into() });
    let mut changed = facts();
    api(&mut changed).owner = Owner::Keda;
    assert_eq!(alone(&look(&observation, changed)).kind, "api-service-foreign");
    assert_eq!(alone(&look(&observation, facts())).kind, "scaler-condition");
}

#[test]
fn milliseconds_and_old_samples_are_recognised() {
    let mut slow = observation();
    let histogram = Histogram { upper: vec![100.0, f64::MAX], cumulative: vec![10.0, 10.0], sum: 300.0, count: 10.0 };
    slow.pools[0].itl = Signal::fresh(histogram, NOW);
    assert_eq!(alone(&look(&slow, facts())).kind, "units");
    let mut old = observation();
    old.pools[0].ready = Signal { value: Some(2), at_seconds: NOW - 300.0, quality: Quality::Stale };
    assert_eq!(alone(&look(&old, facts())).kind, "stale");
}
