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
use crate::harness::wait::{until, until_equal};

/// KEDA polls every 15 s and waits one more poll before it goes to zero; its HPA syncs every 2 s.
const TWO_POLLS: Duration = Duration::from_secs(33);

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
    let tls = Tls::from_files(&folder.join("tls.crt"), &folder.join("tls.key"), clients);
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
        // One object for each of the two types that KEDA has.
        let polled = object.contains("pool: poll");
        world.kubectl.apply(&if polled { object.replace("type: external-push", "type: external") } else { object });
    }
    for wanted in [7, 21, 20, 0, 3, 0, 1, 30] {
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
        assert_eq!(seen, [7, 21, 20, 0, 3, 0, 30], "{:?}", recorder.seen());
    }
    end(world, namespace);
}

/// The fallback that a user may add: the guide says why not.
const FALLBACK: &str = "spec:\n  fallback: {failureThreshold: 3, replicas: 6}\n";

pub async fn without_an_answer_keda_holds(world: &mut World) {
    let namespace = "keda-hold";
    let pools = ["awake", "asleep", "awake-fallback", "asleep-fallback"];
    let (_keda, recorders) = scene(world, namespace, &pools).await;
    for object in scaled_objects(world, namespace, &pools) {
        let with = object.contains("-fallback\n") && object.contains("kind: ScaledObject");
        world.kubectl.apply(&if with {
            object.replace("spec:\n  advanced", &format!("{FALLBACK}  advanced"))
        } else {
            object
        });
    }
    let wanted = [5, 0, 2, 0];
    for (name, number) in pools.iter().zip(wanted) {
        world.server.say(namespace, name, Say::Number(number));
    }
    for (recorder, number) in recorders.iter().zip(wanted) {
        recorder.reaches(i64::from(number)).await;
    }
    let status = Status::of(&world.client, namespace);
    let hpa = |name: &str| format!("keda-hpa-{name}");
    let failed = "False FailedGetExternalMetric";
    let before: Vec<_> = recorders[..2].iter().map(Recorder::seen).collect();
    // No number; no longer in mode act; a decision that is too old. None of them may be read as zero.
    for (what, say) in [("no number", Some(Say::Unknown)), ("only advice", Some(Say::Advised(0))), ("too old", None)] {
        match say {
            Some(say) => pools[..2].iter().for_each(|name| world.server.say(namespace, name, say)),
            None => world.server.stop_deciding(),
        }
        status.wait_condition(&hpa("awake"), "ScalingActive", failed).await;
        if say.is_some() {
            // With a fallback errors are told too, but these two pools have their numbers.
            tokio::time::sleep(TWO_POLLS).await;
            for (name, number) in [("awake", 5), ("asleep", 0)] {
                println!("  {what}: {name} Ready {}", condition(world, namespace, name, "Ready"));
                world.server.say(namespace, name, Say::Number(number));
            }
            status.wait_condition(&hpa("awake"), "ScalingActive", "True ValidMetricFound").await;
        } else {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        let now: Vec<_> = recorders[..2].iter().map(Recorder::seen).collect();
        assert_eq!(now, before, "{what}");
    }
    // And nobody there at all: what has no fallback is held, what has one is woken and set to it.
    world.server.kill();
    for recorder in &recorders[2..] {
        until("the fallback is in force", BACK, async || {
            if recorder.last() == 6 { Ok(()) } else { Err(format!("{:?}", recorder.seen())) }
        })
        .await;
    }
    tokio::time::sleep(TWO_POLLS).await;
    println!("  killed: {:?}", recorders.iter().map(Recorder::seen).collect::<Vec<_>>());
    for name in pools {
        println!(
            "  {name}: Ready {} Fallback {}",
            condition(world, namespace, name, "Ready"),
            condition(world, namespace, name, "Fallback")
        );
    }
    assert_eq!(recorders[..2].iter().map(Recorder::seen).collect::<Vec<_>>(), before);
    world.server.restart();
    for (name, number) in pools.iter().zip([7, 2, 3, 0]) {
        world.server.say(namespace, name, Say::Number(number));
    }
    for (recorder, number) in recorders.iter().zip([7, 2, 3, 0]) {
        until("KEDA asks again", BACK, async || {
            let last = recorder.last();
            if last == number { Ok(()) } else { Err(format!("{:?} instead of {number}", recorder.seen())) }
        })
        .await;
    }
    until_equal("the HPA has its metric again", Some("True ValidMetricFound".to_owned()), async || {
        status.condition(&hpa("awake"), "ScalingActive").await
    })
    .await;
    end(world, namespace);
}
