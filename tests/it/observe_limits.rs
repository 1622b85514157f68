//! Limits that no engine prints: from the arguments of pods through observation and memory to the decision.

use poolwright::control::{Decision, State, StateStore, decide};
use poolwright::observe::cluster::{ClusterState, PoolCluster, Resource};
use poolwright::observe::{FindingKind, Observation, PoolObservation, Signal};
use poolwright::perf::{Evidence, GivenLimits, Limits};
use poolwright::policy::{Policy, from_text};
use serde_json::{Value, json};

use crate::observe_cluster::{deployment, pod, snapshot};
use crate::observe_support::{NOW, policy, pool};

pub const POLICY: &str = r"
apiVersion: poolwright.dev/v1alpha1
kind: Fleet
metadata: {name: test}
spec:
  accelerators: [{name: h100, type: H100, pricePerHour: 3.0, stock: 16}]
  classes: [{name: batch, deadline: 10m}]
---
apiVersion: poolwright.dev/v1alpha1
kind: ServedModel
metadata: {name: llama, namespace: prod}
spec:
  model: meta-llama/Llama-3.1-8B-Instruct
  classes: [{name: batch}]
  demand: {shape: {inputTokens: 500, outputTokens: 500}}
  pools:
    - {name: a, accelerator: h100, engine: vllm, mode: act}
";

fn with_arguments(mut pod: Value, arguments: &[&str]) -> Value {
    pod["spec"]["containers"][0]["args"] = json!(arguments);
    pod
}

fn judged(deployment: &Value, pods: &[Value]) -> (ClusterState, Option<GivenLimits>) {
    let policy = policy(vec![pool("a")]);
    let mut objects = vec![(Resource::Deployments, deployment.clone())];
    objects.extend(pods.iter().map(|pod| (Resource::Pods, pod.clone())));
    let state = snapshot(&policy, &objects).judge(&policy, NOW);
    let limits = state.pools[0].report.limits;
    (state, limits)
}

fn limits(max_num_seqs: Option<u32>, max_num_batched_tokens: Option<u32>, max_model_len: Option<u32>) -> GivenLimits {
    GivenLimits { max_num_seqs, max_num_batched_tokens, max_model_len }
}

#[test]
fn ready_pods_speak_for_the_pool_then_starting_ones_then_the_template() {
    let mut target = deployment("a", 2, 0);
    target["spec"]["template"]["spec"]["containers"] = json!([{"command": ["vllm", "serve", "--max-num-seqs=7"]}]);
    let starting = with_arguments(pod("a-new-1", "a", false), &["--max-num-seqs", "16", "--max-model-len", "8k"]);
    let ready = with_arguments(pod("a-old-1", "a", true), &["--max-num-seqs=64"]);
    assert_eq!(judged(&target, &[]).1, Some(limits(Some(7), None, None)));
    assert_eq!(judged(&target, std::slice::from_ref(&starting)).1, Some(limits(Some(16), None, Some(8000))));
    assert_eq!(judged(&target, &[starting, ready]).1, Some(limits(Some(64), None, None)));
    assert_eq!(judged(&deployment("a", 2, 0), &[]).1, None, "no pod and no template: nothing is known");
    assert_eq!(judged(&deployment("a", 1, 1), &[pod("a-x-1", "a", true)]).1, Some(GivenLimits::default()));
}

#[test]
fn while_pods_differ_the_more_careful_figure_counts() {
    let old = with_arguments(pod("a-old-1", "a", true), &["--max-num-seqs=64", "--max-model-len=4096"]);
    let new = ["--max-num-seqs=128", "--max-num-batched-tokens=2048", "--max-model-len=16K"];
    let new = with_arguments(pod("a-new-1", "a", true), &new);
    let (_, both) = judged(&deployment("a", 2, 2), &[old.clone(), new]);
    assert_eq!(both, Some(limits(Some(64), Some(2048), Some(16_384))), "requests may be as long as any server takes");
    let (_, one) = judged(&deployment("a", 2, 2), &[old, pod("a-new-2", "a", true)]);
    assert_eq!(one, Some(limits(Some(64), None, None)), "a server without a limit takes any length");
}

#[test]
fn nonsense_is_said_once_and_ignored() {
    let bad =
        ["--max-num-seqs", "0", "--max-model-len=forever", "--max-num-batched-tokens=9999999999", "--api-key=k3y"];
    let pods = [with_arguments(pod("a-x-1", "a", true), &bad), with_arguments(pod("a-x-2", "a", true), &bad)];
    let (state, found) = judged(&deployment("a", 2, 2), &pods);
    assert_eq!(found, Some(GivenLimits::default()));
    let said: Vec<String> = state
        .findings
        .iter()
        .filter(|f| f.kind == FindingKind::Implausible)
        .map(|f| format!("{}: {}", f.subject, f.message))
        .collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("inference/a --max-model-len") && said[0].contains("maxModelLen"), "{said:?}");
    assert!(!said.concat().contains("k3y"));
}

fn resolved(limits: &str) -> Policy {
    from_text("p.yaml", &POLICY.replace("mode: act}", &format!("mode: act, limits: {limits}}}"))).unwrap()
}

/// One look at the pool while its pods say `limits`.
fn look(policy: &Policy, state: State, at: f64, limits: Option<GivenLimits>, kv: Option<f64>) -> (Decision, State) {
    let cluster = PoolCluster { wanted: Some(1), limits, ..PoolCluster::default() };
    let seen = PoolObservation {
        pool: "prod/a".into(),
        ready: Signal::fresh(1, at),
        starting: Signal::fresh(0, at),
        arrival_rate: Signal::fresh(1.0, at),
        kv_capacity_tokens: kv.map_or(Signal::missing(), |kv| Signal::fresh(kv, at)),
        cluster: Some(cluster),
        ..PoolObservation::default()
    };
    let observation = Observation { at_seconds: at, source_error: None, pools: vec![seen], findings: vec![] };
    decide(policy, &observation, state, at)
}

fn capacity(decision: &Decision) -> f64 {
    decision.pools[0].replica_capacity.unwrap()
}

#[test]
fn the_policy_overrules_the_pods_and_the_pods_the_defaults() {
    let told = |policy: &Policy, said: Option<GivenLimits>| {
        let (decision, _) = look(policy, State::default(), NOW, said, None);
        (decision.pools[0].evidence, capacity(&decision))
    };
    let [open, explicit] = [resolved("{}"), resolved("{maxNumSeqs: 4}")];
    let (rung, default) = told(&open, None);
    assert_eq!((rung, open.pools[0].limits), (Evidence::OutsideIn, Limits::default()));
    let (rung, four) = told(&explicit, None);
    assert!(rung == Evidence::OutsideIn && four < default / 4.0, "{rung:?} {four} {default}");
    // Pods that say four.
    assert_eq!(told(&open, Some(limits(Some(4), None, None))), (Evidence::Range, four));
    // Pods that say otherwise, and something of what the operator left open.
    assert_eq!(told(&explicit, Some(limits(Some(64), None, None))), (Evidence::OutsideIn, four));
    assert_eq!(told(&explicit, Some(limits(Some(64), Some(4096), None))).0, Evidence::Range);
    // A token budget below the sequences: no more of them than tokens.
    let (_, few) = told(&open, Some(limits(None, Some(4), None)));
    assert!(few <= four, "{few} {four}");
    // What no pod can say, but a memory from elsewhere might.
    assert_eq!(told(&open, Some(limits(Some(0), Some(0), Some(0)))).1, default);
}

#[test]
fn what_pods_said_survives_their_absence_and_a_restart() {
    let policy = resolved("{}");
    let said = limits(Some(4), None, Some(2000));
    let (first, state) = look(&policy, State::default(), NOW, Some(said), None);
    let directory = tempfile::tempdir().unwrap();
    let store = StateStore::open(directory.path()).unwrap();
    store.save(&state).unwrap();
    let state = store.load().unwrap().unwrap();
    let (lost, state) = look(&policy, state, NOW + 15.0, None, None);
    assert_eq!((lost.pools[0].evidence, capacity(&lost)), (Evidence::Range, capacity(&first)));
    assert_eq!(state.pools["prod/a"].limits, said);
    // Pods that say nothing any more were started without.
    let (_, state) = look(&policy, state, NOW + 30.0, Some(GivenLimits::default()), None);
    assert_eq!(state.pools["prod/a"].limits, GivenLimits::default());
    // A memory of an older program.
    let mut old = serde_json::to_value(&state).unwrap();
    old["pools"]["prod/a"].as_object_mut().unwrap().remove("limits");
    assert!(serde_json::from_value::<State>(old).is_ok());
}

#[test]
fn requests_are_no_longer_than_the_servers_take() {
    let capacity_of = |limits: &str, said: Option<GivenLimits>| {
        // The expected lengths are left out: what is assumed without them is 512 and 128 tokens.
        let text = POLICY.replace("  demand: {shape: {inputTokens: 500, outputTokens: 500}}\n", "");
        let text = text.replace("mode: act}", &format!("mode: act, limits: {limits}}}"));
        let (decision, _) = look(&from_text("p.yaml", &text).unwrap(), State::default(), NOW, said, None);
        capacity(&decision)
    };
    let whole = capacity_of("{}", None);
    let short = capacity_of("{maxModelLen: 100}", None);
    assert!(short > 1.5 * whole, "{short} {whole}");
    assert_eq!(capacity_of("{}", Some(limits(None, None, Some(100)))), short);
    assert_eq!(capacity_of("{maxModelLen: 100}", Some(limits(None, None, Some(50)))), short, "the operator's word");
    assert_eq!(capacity_of("{maxModelLen: 100000}", None), whole);
}

#[test]
fn a_memory_too_small_for_one_request_is_said() {
    let policy = resolved("{maxModelLen: 100000}");
    let said = |decision: &Decision| decision.findings.iter().filter(|f| f.kind == FindingKind::KvTooSmall).count();
    let (estimated, state) = look(&policy, State::default(), NOW, None, None);
    assert_eq!(said(&estimated), 0, "an estimate is not precise enough");
    let (reported, state) = look(&policy, state, NOW + 15.0, None, Some(90_000.0));
    assert_eq!(said(&reported), 1, "{:?}", reported.findings);
    assert!(reported.findings.iter().any(|f| f.subject == "prod/a" && f.message.contains("90000")));
    let (enough, _) = look(&policy, state, NOW + 30.0, None, Some(110_000.0));
    assert_eq!(said(&enough), 0);
}

#[test]
fn expected_requests_that_no_server_takes_are_refused() {
    let text = POLICY.replace("mode: act}", "mode: act, limits: {maxModelLen: 999}}");
    let refused = from_text("p.yaml", &text).unwrap_err().to_string();
    assert!(refused.contains("have 1000 tokens, the servers take 999"), "{refused}");
    assert_eq!(resolved("{maxModelLen: 1000}").pools[0].max_model_len, Some(1000));
}
