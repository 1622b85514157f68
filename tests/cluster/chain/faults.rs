//! What is taken away in the middle of the run, and what must hold then.

use std::time::Duration;

use axum::http::Request;
use poolwright::control::{Decision, StateStore};
use poolwright::simulate::Window;

use super::servers::LABEL;
use super::{Chain, NAMESPACE, PACE};
use crate::harness::World;
use crate::harness::hpa::Status;
use crate::harness::wait::until;

/// Time that Prometheus is away: a fifth of the run before, within these, seconds. Longer than data stays fresh.
const BLIND_SECONDS: (f64, f64) = (45.0, 120.0);
/// Time that poolwright is away, seconds.
const AWAY_SECONDS: f64 = 15.0;
/// Time between two faults, seconds.
const BETWEEN_SECONDS: f64 = 20.0;
/// Time after which all must be well again, seconds: start-up of pods and work that has piled up included.
const RECOVERY_SECONDS: f64 = 240.0;
/// The pool that loses all its pods.
const VICTIM: &str = "chat-l40s";

impl Chain {
    pub async fn faults(&mut self, world: &mut World, length_seconds: f64) {
        self.prometheus_stops(length_seconds).await;
        self.run(BETWEEN_SECONDS).await;
        self.poolwright_is_killed(world).await;
        self.run(BETWEEN_SECONDS).await;
        self.apiserver_restarts(world).await;
        self.run(BETWEEN_SECONDS).await;
        self.pods_are_deleted(world).await;
    }

    async fn prometheus_stops(&mut self, length_seconds: f64) {
        let seconds = (length_seconds / 5.0).clamp(BLIND_SECONDS.0, BLIND_SECONDS.1);
        let from = self.fault(&format!("Prometheus stops for {seconds:.0} s"));
        self.prometheus.kill();
        self.run(seconds).await;
        if self.witness.seen().is_followed() {
            self.problems.push("Prometheus is away and every number counts as decided from fresh data".into());
        }
        self.prometheus.restart();
        self.recovered("Prometheus is back", from).await;
    }

    async fn poolwright_is_killed(&mut self, world: &World) {
        let from = self.fault("poolwright is killed");
        let before = self.witness.seen().decision.clone();
        self.poolwright.kill();
        let remembered = self.remembered();
        self.run(AWAY_SECONDS).await;
        if self.witness.seen().decision.is_some() {
            self.problems.push("poolwright is away and somebody gives its numbers".into());
        }
        self.poolwright.restart();
        let back = self.witness.now();
        let first = loop {
            self.pause().await;
            let decision = self.witness.seen().decision.clone();
            // What it said before it was killed is gone from the witness by now.
            match decision {
                Some(decision) => break Some(decision),
                None if self.witness.now() - back > RECOVERY_SECONDS => break None,
                None => {}
            }
        };
        self.figures.push(format!("first numbers {:.1} s after poolwright's restart", self.witness.now() - back));
        match (before, first) {
            (Some(before), Some(first)) => self.problems.extend(forgotten(&before, &first)),
            _ => self.problems.push("poolwright gave no numbers before it was killed or after".into()),
        }
        let kept = self.remembered();
        if kept < remembered {
            self.problems.push(format!("{remembered} minutes of demand were remembered, {kept} after the restart"));
        }
        self.heard(world, "poolwright is back").await;
        self.recovered("poolwright is back", from).await;
    }

    async fn apiserver_restarts(&mut self, world: &mut World) {
        let from = self.fault("kube-apiserver restarts");
        world.plane.restart_apiserver().await;
        self.heard(world, "kube-apiserver is back").await;
        self.recovered("kube-apiserver is back", from).await;
    }

    async fn pods_are_deleted(&mut self, world: &World) {
        let from = self.fault(&format!("all pods of {VICTIM} are deleted"));
        let namespace = format!("--namespace={NAMESPACE}");
        world.kubectl.ok(&["delete", "pods", "--wait=false", &namespace, "--selector", &format!("{LABEL}={VICTIM}")]);
        // Until the controller has noticed there is nothing to wait for.
        self.run(5.0).await;
        self.recovered("the pods are deleted", from).await;
    }

    fn fault(&mut self, what: &str) -> f64 {
        println!("{}\n  fault: {what}", self.status_line());
        self.witness.now()
    }

    /// Wait until HPA reads poolwright's numbers again: kube-apiserver asks a server that was away only after a
    /// while, and nobody can follow before. One more sync then finds every HPA.
    async fn heard(&mut self, world: &World, since: &str) {
        let from = self.witness.now();
        let status = Status::of(&world.client, NAMESPACE);
        until(&format!("{since}: HPA reads the numbers"), Duration::from_secs(90), async || {
            for pool in &self.policy.pools {
                let path = format!(
                    "/apis/external.metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/poolwright_desired_replicas?labelSelector=pool%3D{}",
                    pool.name
                );
                let request = Request::get(path).body(Vec::new()).expect("names of pools can stand in a path");
                world.client.request_text(request).await.map_err(|error| error.to_string())?;
                let active = status.condition(&pool.name, "ScalingActive").await;
                if active.as_deref() != Some("True ValidMetricFound") {
                    return Err(format!("{}: {active:?}", pool.name));
                }
            }
            Ok(())
        })
        .await;
        let figure = format!("{since}: HPA reads the numbers again after {:.1} s", self.witness.now() - from);
        self.figures.push(figure);
        self.run(PACE.sync_seconds + PACE.slack_seconds).await;
    }

    /// Wait until all is well again and end the fault's window then.
    async fn recovered(&mut self, since: &str, from_seconds: f64) {
        let followed = self.settled(since, RECOVERY_SECONDS, false).await;
        let served = followed + self.settled(since, RECOVERY_SECONDS, true).await;
        let to_seconds = self.witness.now();
        self.windows.push(Window { from_seconds, to_seconds });
        let figure = format!(
            "{since}: numbers followed after {followed:.1} s, all pods serve and nobody waits longer than promised after {served:.1} s"
        );
        println!("  {figure}");
        self.figures.push(figure);
    }

    /// Minutes of demand in poolwright's state, of all models.
    fn remembered(&self) -> usize {
        let store = StateStore::open(&self.installed.state).expect("the folder is there");
        let state = store.load().expect("the state is whole").expect("poolwright keeps its state");
        state.models.values().map(|model| model.rates.len()).sum()
    }
}

/// Numbers that are smaller after a restart than what was published or planned before, though nothing was lost.
fn forgotten(before: &Decision, after: &Decision) -> Vec<String> {
    let of = |decision: &Decision, pool: &str| decision.pools.iter().find(|p| p.pool == pool).cloned();
    let smaller = |pool: &poolwright::control::PoolDecision| {
        let (was, now) = (of(before, &pool.pool)?, pool.published()?);
        let least = was.published()?.min(was.planned.unwrap_or(u32::MAX));
        (now < least).then(|| format!("{}: {now} after the restart, {least} before", pool.pool))
    };
    after.pools.iter().filter_map(smaller).collect()
}
