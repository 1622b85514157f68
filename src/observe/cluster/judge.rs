//! From what was read of the cluster to its state. Pure.
//!
//! The rules: what is not known now is no evidence, and the pool is held; pods that were asked to go are no
//! capacity; what cannot be read is said once per list.

use std::collections::{BTreeMap, BTreeSet};

use super::arguments;
use super::facts::{Pod, Target};
use super::follow;
use super::shelf::{ClusterSnapshot, Fact, Resource, Shelf, WatchKey};
use super::state::{ClusterState, PodPlace, PoolCluster, PoolState, ScrapePod, TargetObject};
use crate::observe::reading::{Findings, ReplicaEvidence};
use crate::observe::{Finding, FindingKind, dialect};
use crate::policy::{MetricsPort, Policy, Pool};

/// A pod that no node takes is reported after this time, seconds: a node that is being added needs some minutes,
/// but the planner's stock is not what the operator thinks it is long before.
const UNSCHEDULABLE_SECONDS: f64 = 120.0;

/// Label of the pods of a LeaderWorkerSet that names it, and the one that numbers the pods of a group.
const GROUP_NAME_LABEL: &str = "leaderworkerset.sigs.k8s.io/name";
const WORKER_LABEL: &str = "leaderworkerset.sigs.k8s.io/worker-index";

impl ClusterSnapshot {
    /// What this means for the pools of a policy, at `now_seconds` (Unix time).
    pub fn judge(&self, policy: &Policy, now_seconds: f64) -> ClusterState {
        let mut findings = Findings::default();
        for (key, shelf) in &self.shelves {
            if let Some(problem) = &shelf.problem {
                findings.add(FindingKind::ClusterUnreadable, key.to_string(), problem.clone());
            }
        }
        let limit_seconds = policy.planner.stale_after_seconds;
        let mut judge = Judge { snapshot: self, policy, now_seconds, limit_seconds, pods: BTreeMap::new() };
        judge.index_pods();
        let mut pods: BTreeMap<String, BTreeMap<String, PodPlace>> = judge
            .pods
            .iter()
            .map(|(namespace, index)| {
                let place = |(name, pod): (&&str, &&Pod)| {
                    ((*name).to_owned(), PodPlace { pools: BTreeSet::new(), leaving: !pod.is_there() })
                };
                ((*namespace).to_owned(), index.all.iter().map(place).collect())
            })
            .collect();
        let pools = (0..policy.pools.len()).map(|p| judge.pool(p, &mut pods, &mut findings)).collect();
        ClusterState { pools, pods, findings: findings.finish() }
    }
}

/// The pods of one namespace.
#[derive(Default)]
struct PodIndex<'a> {
    good_seconds: f64,
    all: BTreeMap<&'a str, &'a Pod>,
    /// Names by what their controller is called, without the hash of a ReplicaSet.
    by_owner: BTreeMap<(&'a str, &'a str), Vec<&'a str>>,
}

struct Judge<'a> {
    snapshot: &'a ClusterSnapshot,
    policy: &'a Policy,
    now_seconds: f64,
    limit_seconds: f64,
    pods: BTreeMap<&'a str, PodIndex<'a>>,
}

impl<'a> Judge<'a> {
    fn fresh(&self, key: &WatchKey) -> Option<&'a Shelf> {
        self.snapshot.fresh(key, self.now_seconds, self.limit_seconds)
    }

    fn index_pods(&mut self) {
        for (key, shelf) in &self.snapshot.shelves {
            if key.resource != Resource::Pods || !shelf.is_fresh(self.now_seconds, self.limit_seconds) {
                continue;
            }
            let mut index = PodIndex { good_seconds: shelf.good_seconds.unwrap_or(0.0), ..PodIndex::default() };
            for (name, fact) in shelf.objects.iter() {
                let Fact::Pod(pod) = &**fact else { continue };
                index.all.insert(name, pod);
                if let Some(owner) = &pod.owner {
                    let base = match owner.kind.as_str() {
                        "ReplicaSet" => owner.name.rsplit_once('-').map_or(owner.name.as_str(), |(base, _)| base),
                        _ => owner.name.as_str(),
                    };
                    index.by_owner.entry((owner.kind.as_str(), base)).or_default().push(name);
                }
            }
            self.pods.insert(&key.namespace, index);
        }
    }

    fn pool(
        &self,
        p: usize,
        places: &mut BTreeMap<String, BTreeMap<String, PodPlace>>,
        findings: &mut Findings,
    ) -> PoolState {
        let pool = &self.policy.pools[p];
        let key = WatchKey::target(pool);
        let shelf = self.fresh(&key);
        let fact = shelf.and_then(|shelf| shelf.objects.get(&pool.target.name));
        let target = match fact.map(|fact| &**fact) {
            Some(Fact::Target(target)) => Some(target),
            _ => None,
        };
        let mut state = PoolState::default();
        match (shelf, target) {
            (Some(shelf), Some(target)) => self.count(pool, shelf, target, &mut state, findings),
            (Some(_), None) => findings.add(FindingKind::TargetMissing, pool.id(), missing(pool)),
            (None, _) if self.snapshot.shelves.get(&key).is_some_and(|s| s.problem.is_some()) => {}
            (None, _) => {
                let message = format!("the state of {key} has not arrived yet; its number is held until then");
                findings.add(FindingKind::ClusterUnreadable, pool.id(), message);
            }
        }
        if let Some(pods) = target.and_then(|target| self.pods_of(pool, target)) {
            state.pods_known = true;
            state.pages = pods.iter().filter_map(|(name, pod)| self.page(pool, name, pod, findings)).collect();
            let places = places.entry(pool.namespace.clone()).or_default();
            for (name, _) in pods {
                places.entry(name.to_owned()).or_default().pools.insert(p);
            }
        }
        self.follow(p, &mut state, findings);
        state
    }

    /// Replica counts of a pool whose target is known.
    fn count(&self, pool: &Pool, shelf: &Shelf, target: &Target, state: &mut PoolState, findings: &mut Findings) {
        let mut at_seconds = shelf.good_seconds.unwrap_or(0.0);
        let report = &mut state.report;
        *report = PoolCluster {
            wanted: target.wanted,
            existing: target.replicas,
            ready: target.ready,
            target: Some(TargetObject {
                api_version: pool.target.api_version.clone(),
                kind: pool.target.kind.clone(),
                name: pool.target.name.clone(),
                uid: target.uid.clone(),
            }),
            ..PoolCluster::default()
        };
        let pods = self.pods_of(pool, target);
        report.limits = arguments::limits(pool, pods.as_deref().unwrap_or_default(), target, findings);
        if let Some(pods) = pods {
            let count = |of: fn(&Pod) -> bool| {
                u32::try_from(pods.iter().filter(|(_, pod)| of(pod)).count()).unwrap_or(u32::MAX)
            };
            if !target.grouped {
                report.ready = Some(count(|pod| pod.is_there() && pod.ready));
                at_seconds = at_seconds.min(self.pods.get(pool.namespace.as_str()).map_or(0.0, |i| i.good_seconds));
            }
            report.starting = Some(count(|pod| pod.is_there() && !pod.ready));
            report.terminating = Some(count(|pod| pod.terminating));
            report.unschedulable = Some(count(|pod| pod.is_there() && pod.unschedulable.is_some()));
            self.unschedulable(pool, &pods, findings);
        }
        state.evidence = target.wanted.map(|wanted| ReplicaEvidence {
            wanted: Some(wanted),
            ready: report.ready,
            at_seconds,
            watched: true,
        });
    }

    fn unschedulable(&self, pool: &Pool, pods: &[(&str, &Pod)], findings: &mut Findings) {
        let refused = pods.iter().filter(|(_, pod)| pod.is_there()).filter_map(|(_, pod)| pod.unschedulable.as_ref());
        let late: Vec<_> = refused.filter(|(since, _)| self.now_seconds - since >= UNSCHEDULABLE_SECONDS).collect();
        if let Some((_, why)) = late.first() {
            let message = format!(
                "no node takes {} of its pods ({why}); add nodes, or lower the accelerator's stock in the policy to \
                 what there is",
                late.len()
            );
            findings.add(FindingKind::Unschedulable, pool.id(), message);
        }
    }

    /// Pods of a pool's target, by name; nothing where they cannot be known.
    fn pods_of(&self, pool: &Pool, target: &Target) -> Option<Vec<(&'a str, &'a Pod)>> {
        let index = self.pods.get(pool.namespace.as_str())?;
        let with_name = |name: &&'a str| Some((*name, *index.all.get(name)?));
        let owned = |kind| {
            let names = index.by_owner.get(&(kind, pool.target.name.as_str())).map_or(&[][..], Vec::as_slice);
            names.iter().filter_map(with_name).collect::<Vec<_>>()
        };
        let selected = |pod: &Pod| target.selector.as_ref().is_none_or(|selector| selector.matches(&pod.labels));
        let pods: Vec<(&str, &Pod)> = match (pool.target.kind.as_str(), &target.selector) {
            ("Deployment", Some(_)) => owned("ReplicaSet"),
            ("StatefulSet", Some(_)) => owned("StatefulSet"),
            (_, Some(_)) => index.all.iter().map(|(name, pod)| (*name, *pod)).collect(),
            (_, None) if target.grouped => {
                let leads = |pod: &Pod| {
                    let label = |name| pod.labels.get(name).map(String::as_str);
                    label(GROUP_NAME_LABEL) == Some(pool.target.name.as_str()) && label(WORKER_LABEL) == Some("0")
                };
                index.all.iter().filter(|(_, pod)| leads(pod)).map(|(name, pod)| (*name, *pod)).collect()
            }
            _ => return None,
        };
        Some(pods.into_iter().filter(|(_, pod)| selected(pod)).collect())
    }

    /// Where a pod prints its metrics; nothing while it has no address or is going.
    fn page(&self, pool: &Pool, name: &str, pod: &Pod, findings: &mut Findings) -> Option<ScrapePod> {
        let ip = pod.ip.as_deref().filter(|_| pod.is_there())?;
        let port = match &pool.metrics_port {
            Some(MetricsPort::Number(number)) => *number,
            Some(MetricsPort::Name(port)) => {
                let Some(number) = pod.ports.get(port) else {
                    let message = format!(
                        "pod {name} has no container port named `{port}`; write its number as `metricsPort` in the \
                         policy, or name the port in the pod's template"
                    );
                    findings.add(FindingKind::NoSeries, pool.id(), message);
                    return None;
                };
                *number
            }
            None => pod.annotated_port.unwrap_or(dialect::of(pool.engine).port),
        };
        let address = if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
        Some(ScrapePod { pod: name.to_owned(), address })
    }

    /// Who scales the target, where all scalers of the namespace are known.
    fn follow(&self, p: usize, state: &mut PoolState, findings: &mut Findings) {
        let pool = &self.policy.pools[p];
        let beside = |resource| self.fresh(&WatchKey::beside(pool, resource));
        let (Some(hpas), Some(scaled)) = (beside(Resource::Hpas), beside(Resource::ScaledObjects)) else { return };
        let hpas = hpas.objects.values().filter_map(|fact| match &**fact {
            Fact::Hpa(hpa) => Some(&**hpa),
            _ => None,
        });
        let scaled = scaled.objects.values().filter_map(|fact| match &**fact {
            Fact::ScaledObject(object) => Some(&**object),
            _ => None,
        });
        let subject = follow::Subject {
            policy: self.policy,
            pool: p,
            wanted: state.report.wanted,
            server_minor: self.snapshot.server_minor,
        };
        let answer = follow::check(&subject, hpas, scaled);
        for Finding { kind, subject, message } in answer.findings {
            findings.add(kind, subject, message);
        }
        state.report.scaler = answer.scaler;
    }
}

fn missing(pool: &Pool) -> String {
    let target = &pool.target;
    format!(
        "there is no {} {} ({}) in namespace {}; its number is held: create it, or correct `target` in the policy",
        target.kind, target.name, target.api_version, pool.namespace
    )
}
