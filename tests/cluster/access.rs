//! Who may read values: asked through kube-apiserver, and of us directly with everything a cluster accepts as
//! proof of who one is.

use std::fs;
use std::path::Path;

use crate::harness::kubectl::{Kubectl, Said};
use crate::harness::published::Say;
use crate::harness::wait::{SOON, until};
use crate::harness::{NAMESPACE, SERVICE, World};

const VALUE: &str =
    "/apis/external.metrics.k8s.io/v1beta1/namespaces/access/poolwright_desired_replicas?labelSelector=pool%3Dllama";

/// A reader of values in one namespace, and nothing else.
const READER: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: access}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: access}
rules: [{apiGroups: [external.metrics.k8s.io], resources: [poolwright_desired_replicas], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: access}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: access}]
"#;

/// Ask our own listener, past kube-apiserver, as the user of this kubeconfig.
fn directly(world: &World, kubectl: &Kubectl, path: &str) -> Said {
    let certificate = world.plane.folder().join("poolwright.crt");
    fs::write(&certificate, world.server.certificate_pem()).expect("a certificate can be written");
    kubectl.run(&[
        &format!("--server=https://localhost:{}", world.server.api_port),
        &format!("--certificate-authority={}", certificate.display()),
        &format!("--tls-server-name={SERVICE}.{NAMESPACE}.svc"),
        "get",
        "--raw",
        path,
    ])
}

pub async fn rights_decide_who_reads_values(world: &mut World) {
    world.namespace("access");
    world.server.say("access", "llama", Say::Number(4));
    world.kubectl.apply(READER);
    let token = world.kubectl.token("access", "reader");
    let user = |file: &Path| world.kubectl.with_kubeconfig(file);
    let reader = user(&world.plane.kubeconfig_with_token("reader", &token));
    let stranger = user(&world.plane.kubeconfig_with_token("stranger", "no-such-token"));
    let plain = user(&world.plane.plain_kubeconfig());
    let admin = user(&world.plane.admin_kubeconfig());
    // A new right takes a moment to reach kube-apiserver's cache.
    until("the reader may read", SOON, async || {
        let said = reader.run(&["get", "--raw", VALUE]);
        if said.ok { Ok(()) } else { Err(said.err) }
    })
    .await;
    for (who, kubectl, refusal) in [
        ("a client certificate of an administrator", &admin, None),
        ("a token of a service account with the right", &reader, None),
        ("a client certificate without the right", &plain, Some("Forbidden")),
        ("a token that is none", &stranger, Some("Unauthorized")),
    ] {
        let said = directly(world, kubectl, VALUE);
        match refusal {
            None => assert!(said.ok && said.out.contains(r#""value":"4""#), "{who}: {said:?}"),
            Some(reason) => assert!(!said.ok && said.err.contains(reason), "{who}: {said:?}"),
        }
    }
    // The right is for one namespace and one metric.
    for other in [VALUE.replace("/access/", "/default/"), VALUE.replace("poolwright_", "wva_")] {
        let said = directly(world, &reader, &other);
        assert!(!said.ok && said.err.contains("Forbidden"), "{other}: {said:?}");
    }
    world.forget_namespace("access");
}

/// What everybody in the cluster may see, and health for those who have not even said who they are.
pub async fn discovery_is_for_all_and_health_for_everybody(world: &mut World) {
    let plain = world.kubectl.with_kubeconfig(&world.plane.plain_kubeconfig());
    let said = directly(world, &plain, "/apis/external.metrics.k8s.io/v1beta1");
    assert!(said.ok && said.out.contains("APIResourceList"), "{said:?}");
    // kubectl asks for a name and a password where it has nothing to show.
    let nobody = reqwest::Client::builder().danger_accept_invalid_certs(true).build().expect("a client");
    let answer = async |path: &str| {
        let url = format!("https://localhost:{}{path}", world.server.api_port);
        let answer = nobody.get(url).send().await.expect("the server answers");
        (answer.status().as_u16(), answer.text().await.expect("the answer has a body"))
    };
    // As in Kubernetes, where the version is public too.
    for path in ["/healthz", "/livez", "/readyz?exclude=first-decision"] {
        assert_eq!(answer(path).await, (200, "ok".to_owned()), "{path}");
    }
    assert_eq!(answer("/version").await.0, 200);
    for path in [VALUE, "/apis/external.metrics.k8s.io/v1beta1"] {
        let (code, body) = answer(path).await;
        assert!(code == 403 && body.contains("system:anonymous"), "{path}: {body}");
    }
}
