//! The removal as the guide says it: the last test, as it takes the rights of everything here away.

use crate::harness::World;
use crate::harness::daemon::{POOLS, before_installation, overlay};
use crate::harness::guide;
use crate::harness::keda::SERVICE as KEDAS;
use crate::harness::process::free_port;

const REGISTERED: &str = "kubectl get apiservice v1beta1.external.metrics.k8s.io --ignore-not-found --output name";

fn run(world: &World, line: &str) -> String {
    let said = world.kubectl.shell(line);
    assert!(said.ok, "{line}: {said:?}");
    said.out
}

pub async fn the_api_goes_only_if_it_is_ours(world: &mut World) {
    let _engines = before_installation(world).await;
    let folder = overlay(world, free_port()).display().to_string();
    world.kubectl.ok(&["apply", "-k", &folder]);
    let commands = guide::commands("Remove");
    let (the_api, the_rest) = commands.split_at(2);
    assert!(the_api[0].starts_with("owner=") && the_rest.iter().all(|line| !line.contains("apiservice")));
    // It belongs to KEDA by now.
    let patch = format!(r#"{{"spec": {{"service": {{"namespace": "keda", "name": "{KEDAS}"}}}}}}"#);
    let object = "v1beta1.external.metrics.k8s.io";
    world.kubectl.ok(&["patch", "apiservice", object, "--type=merge", "--patch", &patch]);
    run(world, &the_api.join("\n"));
    assert!(run(world, REGISTERED).contains(object));
    let patch = r#"{"spec": {"service": {"namespace": "poolwright-system", "name": "poolwright"}}}"#;
    world.kubectl.ok(&["patch", "apiservice", object, "--type=merge", "--patch", patch]);
    run(world, &the_api.join("\n"));
    assert_eq!(run(world, REGISTERED), "");
    run(world, &the_rest.join("\n"));
    let left = run(
        world,
        "kubectl get hpa,role,rolebinding,clusterrole,clusterrolebinding --all-namespaces --output name | \
         grep poolwright || true",
    );
    assert_eq!(left, "", "nothing is left behind");
    let replicas = "kubectl get deployments --output jsonpath='{.items[*].spec.replicas}' --namespace ";
    assert_eq!(run(world, &format!("{replicas}{POOLS}")), "1 1", "what runs is left as it is");
}
