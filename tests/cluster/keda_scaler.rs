//! A real KEDA on the external scaler, with the ScaledObjects that `poolwright manifests` prints and the mutual TLS
//! that `scripts/keda-certificates` makes. KEDA finds the scaler at a port of this machine; nothing else differs.

use std::fs;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ApiResource;
use poolwright::serve::{Authorities, ClientCertificates, Tls};

use crate::harness::World;
use crate::harness::hpa::Status;
use crate::harness::keda::Keda;
use crate::harness::published::Say;
use crate::harness::recorder::Recorder;
use crate::harness::wait::until;

/// KEDA's own grace when the scaler comes back: its connection waits up to a minute between two tries.
const BACK: Duration = Duration::from_secs(100);

/// Policy with pools of these names in one namespace.
fn policy(namespace: &str, pools: &[&str]) -> String {
    let pools: String =
        pools.iter().map(|name| format!("    - {{name: {name}, accelerator: L40S, mode: act, max: 30}}\n")).collect();
    format!(
        "apiVersion: poolwright.dev/v1alpha1\nkind: Fleet\nmetadata: {{name: test}}\nspec:\n  \
         accelerators: [{{name: L40S, pricePerHour: 0.8, stock: 300}}]\n  \
         classes: [{{name: interactive, percentile: 95, ttft: 5s, itl: 200ms}}]\n---\n\
         apiVersion: poolwright.dev/v1alpha1\nkind: ServedModel\nmetadata: {{name: small, namespace: {namespace}}}\n\
         spec:\n  model: small\n  architecture: llama-3.1-8b\n  classes: [{{name: interactive}}]\n  pools:\n{pools}"
    )
}

/// What `poolwright manifests --for keda` prints for the pools, with the scaler at this machine.
fn scaled_objects(world: &World, namespace: &str, pools: &[&str]) -> Vec<String> {
    let file = world.plane.folder().join(format!("{namespace}.yaml"));
    fs::write(&file, policy(namespace, pools)).expect("a file can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_poolwright"))
        .args(["manifests", "--for", "keda", "--part", "pools", "--kubernetes-version", "1.37", "--policy"])
        .arg(&file)
        .output()
        .expect("the program can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("YAML is text");
    let here = format!("localhost:{}", world.server.keda_port);
    assert_eq!(text.matches("poolwright-keda.poolwright-system.svc:9443").count(), pools.len(), "{text}");
    let text = text.replace("poolwright-keda.poolwright-system.svc:9443", &here);
    text.split("\n---\n").map(str::to_owned).collect()
}

/// Apply the Secrets that the script prints, and serve the external scaler with the daemon's.
async fn serve_with_mutual_tls(world: &mut World, namespace: &str) {
    // The certificate is for the name that KEDA calls here.
    let line = format!("OWN_SERVICE=localhost scripts/keda-certificates {namespace}");
    let said = world.kubectl.shell(&line);
    assert!(said.ok && said.err.is_empty(), "{said:?}");
    world.kubectl.apply(&said.out.replace("localhost-keda", "poolwright-keda"));
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), "poolwright-system");
    let data = secrets.get("poolwright-keda-serving").await.expect("it was applied").data.unwrap_or_default();
    let folder = world.plane.folder().join(format!("{namespace}-tls"));
    fs::create_dir(&folder).expect("a new folder");
    for (name, bytes) in data {
        fs::write(folder.join(name), bytes.0).expect("a file can be written");
    }
    let clients = ClientCertificates::Required(Authorities::File(folder.join("ca.crt")));
    let tls = Tls::from_files(folder.join("tls.crt"), folder.join("tls.key"), clients);
    world.server.serve_keda(tls.expect("the script makes what the daemon takes"));
}

/// KEDA, the scaler and a Deployment with one replica for each pool.
async fn scene(world: &mut World, namespace: &str, pools: &[&str]) -> (Keda, Vec<Recorder>) {
    world.namespace(namespace);
    serve_with_mutual_tls(world, namespace).await;
    let keda = Keda::start(world).await;
    let mut recorders = Vec::new();
    for name in pools {
        world.deployment(namespace, name, 1);
        world.server.say(namespace, name, Say::Number(1));
        let resource = ApiResource::erase::<Deployment>(&());
        recorders.push(Recorder::start(&world.client, &resource, namespace, name).await);
    }
    (keda, recorders)
}

fn end(world: &mut World, namespace: &str) {
    world.kubectl.ok(&["delete", "scaledobject", "--all", "--namespace", namespace, "--timeout=60s"]);
    world.register();
    world.forget_namespace(namespace);
}

/// `status` and `reason` of a condition of a ScaledObject.
fn condition(world: &World, namespace: &str, name: &str, kind: &str) -> String {
    let path = format!(
        "jsonpath={{.status.conditions[?(@.type=='{kind}')].status}} \
                        {{.status.conditions[?(@.type=='{kind}')].reason}}"
    );
    world.kubectl.run(&["get", "scaledobject", name, "--namespace", namespace, "--output", &path]).out
}

pub async fn keda_follows_exactly(world: &mut World) {
    let namespace = "keda-grpc";
    let pools = ["push", "poll"];
    let (_keda, recorders) = scene(world, namespace, &pools).await;
    for object in scaled_objects(world, namespace, &pools) {
        // Going to zero is looked at here; what bridges an outage only costs time.
        let object = object.replace("cooldownPeriod: 300", "cooldownPeriod: 15");
        // One object for each of the two types that KEDA has.
        let polled = object.contains("pool: poll");
        world.kubectl.apply(&if polled { object.replace("type: external-push", "type: external") } else { object });
    }
    for wanted in [7, 21, 20, 0, 3] {
        for name in pools {
            world.server.say(namespace, name, Say::Number(wanted));
        }
        for (name, recorder) in pools.iter().zip(&recorders) {
            let start = std::time::Instant::now();
            recorder.reaches(i64::from(wanted)).await;
            println!("  {name}: {wanted} after {:.1} s", start.elapsed().as_secs_f64());
        }
    }
    for recorder in &recorders {
        // KEDA goes from and to zero through one; every other number is exact.
        let seen: Vec<i64> = recorder.seen().into_iter().filter(|n| *n != 1).collect();
        assert_eq!(seen, [7, 21, 20, 0, 3], "{:?}", recorder.seen());
    }
    end(world, namespace);
}

/// The fallback that a user may add: the guide says why not.
const FALLBACK: &str = "spec:\n  fallback: {failureThreshold: 3, replicas: 6}\n  advanced";

/// Two polls where KEDA polls every five seconds, and what it waits before it goes to zero.
const HELD: Duration = Duration::from_secs(16);

/// The objects as they are printed, but polled more often, some of them with a fallback.
///
/// KEDA 2.21 takes a poll for inactive, not for failed, when a query of its HPA fails at the same moment, and goes to
/// zero in spite of the error once the cooldown is over. So those that may not go have a long one.
fn hurried(object: &str) -> String {
    let held = ["pool: first", "pool: second"].iter().any(|pool| object.contains(pool));
    let cooldown = if held { "cooldownPeriod: 300" } else { "cooldownPeriod: 5" };
    let object = object.replace("pollingInterval: 15", "pollingInterval: 5").replace("cooldownPeriod: 300", cooldown);
    if object.contains("pool: fallback") { object.replacen("spec:\n  advanced", FALLBACK, 1) } else { object }
}

fn seen(recorders: &[Recorder]) -> Vec<Vec<i64>> {
    recorders.iter().map(Recorder::seen).collect()
}

/// Wait until all have these replicas; KEDA may need a while to connect again.
async fn settle(what: &str, recorders: &[Recorder], numbers: &[i64]) {
    until(what, BACK, async || {
        let last: Vec<i64> = recorders.iter().map(Recorder::last).collect();
        if last == numbers { Ok(()) } else { Err(format!("{last:?} instead of {numbers:?}")) }
    })
    .await;
}

pub async fn without_an_answer_keda_holds(world: &mut World) {
    let namespace = "keda-hold";
    // The last two have a fallback.
    let pools = ["first", "second", "asleep", "fallback", "fallback-asleep"];
    let (_keda, recorders) = scene(world, namespace, &pools).await;
    for object in scaled_objects(world, namespace, &pools) {
        world.kubectl.apply(&hurried(&object));
    }
    let say = |world: &mut World, numbers: &[i64]| {
        for (name, number) in pools.iter().zip(numbers) {
            world.server.say(namespace, name, Say::Number(u32::try_from(*number).expect("a small number")));
        }
    };
    let numbers = [5, 4, 0, 2, 0];
    say(world, &numbers);
    settle("all follow", &recorders, &numbers).await;
    let without = &recorders[..3];
    let before = seen(without);
    let status = Status::of(&world.client, namespace);
    let failed = "False FailedGetExternalMetric";
    // No number, or no longer in mode act: neither may be read as zero.
    for (name, say) in [("first", Say::Unknown), ("second", Say::Advised(0)), ("asleep", Say::Unknown)] {
        world.server.say(namespace, name, say);
    }
    for name in ["first", "second"] {
        status.wait_condition(&format!("keda-hpa-{name}"), "ScalingActive", failed).await;
    }
    tokio::time::sleep(HELD).await;
    assert_eq!(seen(without), before, "no number");
    for name in &pools[..3] {
        assert_eq!(condition(world, namespace, name, "Ready"), "False TriggerError", "{name}");
    }
    // A decision that is too old; only a fallback acts on it.
    say(world, &numbers);
    status.wait_condition("keda-hpa-first", "ScalingActive", "True ValidMetricFound").await;
    world.server.stop_deciding();
    settle("a fallback is in force", &recorders, &[5, 4, 0, 6, 6]).await;
    tokio::time::sleep(HELD).await;
    assert_eq!(seen(without), before, "too old");
    say(world, &numbers);
    settle("all follow again", &recorders, &numbers).await;
    // And nobody there at all: KEDA cannot even ask what the metric is, and then it uses no fallback either.
    let before = seen(&recorders);
    world.server.kill();
    for name in ["first", "fallback"] {
        status.wait_condition(&format!("keda-hpa-{name}"), "ScalingActive", failed).await;
    }
    tokio::time::sleep(2 * HELD).await;
    assert_eq!(seen(&recorders), before, "killed");
    world.server.restart();
    let numbers = [7, 4, 2, 3, 0];
    say(world, &numbers);
    settle("KEDA asks again", &recorders, &numbers).await;
    println!("  {:?}", seen(&recorders));
    end(world, namespace);
}
