//! A real KEDA: its operator and its metrics adapter, as processes beside the control plane.

use std::path::Path;
use std::time::Duration;

use super::World;
use super::pki::Pair;
use super::process::{Process, free_port};
use super::wait::until;

pub const NAMESPACE: &str = "keda";
/// The name that KEDA's own manifests give it; poolwright knows KEDA by it.
pub const SERVICE: &str = "keda-operator-metrics-apiserver";

/// Both start slowly, and the aggregator looks every half minute.
const START: Duration = Duration::from_secs(120);

pub struct Keda {
    pub operator: Process,
    pub adapter: Process,
}

impl Keda {
    /// Install KEDA's kinds, start it, and let it own the external metrics API as its installation does.
    pub async fn start(world: &World) -> Self {
        let folder = world.plane.folder();
        let crds = world.assets.keda.join("crds").display().to_string();
        let kubectl = &world.kubectl;
        kubectl.ok(&["apply", "--server-side", "--filename", &crds]);
        kubectl.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}"));
        let certificates = certificates(world, folder);
        let (grpc_port, adapter_port) = (free_port(), free_port());
        let operator = start_operator(world, &certificates, grpc_port);
        let adapter = start_adapter(world, &certificates, grpc_port, adapter_port);
        kubectl.apply(&api_service(adapter_port));
        let mut keda = Self { operator, adapter };
        until("KEDA's adapter serves the API", START, async || {
            keda.operator.check();
            keda.adapter.check();
            let seen = world.api_service_condition().await;
            let ours = world.owner().await != SERVICE;
            if seen == "True Passed" && !ours { Ok(()) } else { Err(seen) }
        })
        .await;
        keda
    }
}

/// One certificate for all of KEDA's own connections, in the folder and under the names it looks for.
fn certificates(world: &World, folder: &Path) -> String {
    let hosts = ["localhost", "127.0.0.1", "keda-operator", "keda-operator.keda.svc.cluster.local"];
    let Pair { certificate, key } = world.plane.authority.server("keda", &hosts);
    let place = folder.join("keda");
    std::fs::create_dir_all(&place).expect("a folder can be made");
    for (from, to) in [(certificate, "tls.crt"), (key, "tls.key"), (world.plane.authority.certificate(), "ca.crt")] {
        std::fs::copy(from, place.join(to)).expect("certificates can be copied");
    }
    place.display().to_string()
}

fn environment() -> Vec<(&'static str, String)> {
    let pairs = [
        ("POD_NAMESPACE", NAMESPACE),
        ("POD_NAME", "keda-operator-0"),
        // Every namespace: it must be set.
        ("WATCH_NAMESPACE", ""),
        ("KEDA_CLUSTER_OBJECT_NAMESPACE", NAMESPACE),
        ("OPERATOR_NAME", "keda-operator"),
    ];
    pairs.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
}

fn start_operator(world: &World, certificates: &str, grpc_port: u16) -> Process {
    let args = vec![
        format!("--kubeconfig={}", world.plane.admin_kubeconfig().display()),
        format!("--cert-dir={certificates}"),
        "--enable-cert-rotation=false".into(),
        format!("--metrics-bind-address=127.0.0.1:{}", free_port()),
        format!("--health-probe-bind-address=127.0.0.1:{}", free_port()),
        format!("--metrics-service-bind-address=127.0.0.1:{grpc_port}"),
    ];
    let program = world.assets.keda.join("operator");
    Process::start("keda-operator", &program, &args, &environment(), world.plane.folder())
}

fn start_adapter(world: &World, certificates: &str, grpc_port: u16, port: u16) -> Process {
    let kubeconfig = world.plane.admin_kubeconfig().display().to_string();
    let args = vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--lister-kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".into(),
        format!("--cert-dir={certificates}"),
        format!("--client-ca-file={}", world.plane.authority.certificate().display()),
        format!("--metrics-service-address=localhost:{grpc_port}"),
        // Of its own metrics; the usual one may be taken.
        format!("--port={}", free_port()),
    ];
    let program = world.assets.keda.join("adapter");
    Process::start("keda-adapter", &program, &args, &environment(), world.plane.folder())
}

fn api_service(port: u16) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: {SERVICE}, namespace: {NAMESPACE}}}
spec: {{type: ExternalName, externalName: localhost, ports: [{{port: {port}}}]}}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: v1beta1.external.metrics.k8s.io}}
spec:
  group: external.metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  caBundle: null
  insecureSkipTLSVerify: true
  service: {{name: {SERVICE}, namespace: {NAMESPACE}, port: {port}}}
"#
    )
}
