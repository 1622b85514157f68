//! The real program beside a real KEDA with the shipped manifests: the installation guide's commands, from nothing to
//! ScaledObjects that follow.

use crate::daemon::{advised, followed, rights_are_enough, run};
use crate::harness::World;
use crate::harness::audit::Audit;
use crate::harness::daemon::{Daemon, LARGE, POOLS, SMALL, before_installation, keda_overlay};
use crate::harness::guide;
use crate::harness::keda::{self, Keda};
use crate::harness::wait::until_equal;

pub async fn five_commands_lead_to_keda_that_follows(world: &mut World) {
    let engines = before_installation(world).await;
    engines.set_rate(2.0);
    let keda = Keda::start(world).await;
    let audit = Audit::start(world.plane.folder());
    let commands = guide::commands("KEDA, in five commands");
    assert_eq!(commands.len(), 5, "{commands:?}");
    run(world, &commands[0]);
    // There is no node that a port could be forwarded from; the program listens here.
    assert!(commands[1].contains("port-forward"), "{}", commands[1]);
    let daemon = Daemon::start(world, "keda-advice", &[]).await;
    advised(&daemon).await;
    drop(daemon);
    // KEDA calls this machine by another name, so the certificate is for that one.
    let (script, apply) = commands[2].split_once(" | ").expect("what the script prints is applied");
    run(world, &format!("OWN_SERVICE=localhost {script} | sed s/localhost-keda/poolwright-keda/ | {apply}"));
    // The Deployment has to be there before the port of the program that stands in for it is known.
    run(world, &commands[3].replace("manifests/keda/", &keda_overlay(world, 1).display().to_string()));
    let daemon = Daemon::start(world, "keda", &[]).await;
    run(world, &commands[3].replace("manifests/keda/", &keda_overlay(world, daemon.keda_port).display().to_string()));
    let standing = daemon.standing("KEDA keeps the API", |s| s["api_service"]["owner"] == "keda").await;
    assert_eq!(standing["mode"], "external-scaler", "{standing}");
    assert!(commands[4].ends_with("get scaledobject,hpa --watch"), "{}", commands[4]);
    let columns = "--output jsonpath='{range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status} {end}'";
    until_equal("the ScaledObjects are ready", "True True ".to_owned(), async || {
        world.kubectl.shell(&format!("kubectl -n {POOLS} get scaledobject {columns}")).out
    })
    .await;
    let shown = run(world, commands[4].trim_end_matches(" --watch"));
    assert!(shown.contains(LARGE) && shown.contains(&format!("keda-hpa-{SMALL}")), "{shown}");
    engines.set_rate(400.0);
    followed(world, &daemon, "much load with KEDA", |large, small| large + small >= 3).await;
    rights_are_enough(&audit, &daemon);
    assert_eq!((world.owner().await.as_str(), audit.registrations()), (keda::SERVICE, vec![]));
    run(world, "kubectl delete -f manifests/keda/pools.yaml --timeout=60s");
    drop((daemon, keda));
    world.server.restart();
    world.register();
}
