//! What the cluster tests stand on. Knows nothing of any single test.

pub mod assets;
pub mod audit;
pub mod controlplane;
pub mod daemon;
pub mod engines;
pub mod guide;
pub mod hpa;
pub mod keda;
pub mod kubectl;
pub mod kubelet;
pub mod pki;
pub mod process;
pub mod published;
pub mod recorder;
pub mod scalable;
pub mod wait;

use std::any::Any;
use std::path::PathBuf;

use assets::Assets;
use controlplane::ControlPlane;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::{Api, Client};
use kubectl::Kubectl;
use kubelet::Kubelet;
use published::Server;

/// Where the API is registered.
pub const NAMESPACE: &str = "poolwright-system";
pub const SERVICE: &str = "poolwright";

/// All that runs: a control plane, a stand-in for kubelets, and poolwright's interfaces over numbers that a
/// test sets.
pub struct World {
    pub server: Server,
    pub kubectl: Kubectl,
    pub client: Client,
    pub assets: Assets,
    /// Ends before the control plane does.
    pub kubelet: Kubelet,
    /// What one test begins and another one judges.
    kept: Vec<Box<dyn Any>>,
    pub plane: ControlPlane,
}

impl World {
    pub async fn start(assets: Assets) -> Self {
        let plane = ControlPlane::start(&assets.controlplane).await;
        let client = plane.client().await;
        let kubectl = Kubectl::new(&assets.controlplane, plane.folder(), &plane.admin_kubeconfig());
        let kubelet = Kubelet::start(client.clone()).await;
        let server = Server::start(identity(&kubectl, &plane));
        let world = Self { server, kubectl, client, assets, kubelet, kept: vec![], plane };
        world.register();
        world
    }

    /// Point the external metrics API at this server, as the manifests do, except that the Service is a name
    /// for this machine.
    pub fn register(&self) {
        let (port, authority) = (self.server.api_port, self.server.ca_bundle());
        self.kubectl.apply(&format!(
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
  insecureSkipTLSVerify: false
  caBundle: {authority}
  service: {{name: {SERVICE}, namespace: {NAMESPACE}, port: {port}}}
"#
        ));
    }

    /// `status` and `reason` of the registered API's availability, such as `True Passed`.
    pub async fn api_service_condition(&self) -> String {
        let service = self.api_service().await;
        let conditions = service.and_then(|s| s.status?.conditions).unwrap_or_default();
        let available = conditions.into_iter().find(|c| c.type_ == "Available");
        available.map_or_else(String::new, |c| format!("{} {}", c.status, c.reason.unwrap_or_default()))
    }

    /// The Service that the API is registered for.
    pub async fn owner(&self) -> String {
        let service = self.api_service().await.and_then(|s| s.spec?.service?.name);
        service.unwrap_or_default()
    }

    async fn api_service(&self) -> Option<APIService> {
        let services: Api<APIService> = Api::all(self.client.clone());
        services.get("v1beta1.external.metrics.k8s.io").await.ok()
    }

    /// Make a Deployment whose pods are ready at once.
    pub fn deployment(&self, namespace: &str, name: &str, replicas: u32) {
        self.kubectl.apply(&format!(
            r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: [{{name: server, image: none}}]}}}}
"#
        ));
    }

    /// Keep something for a later test.
    pub fn keep<T: Any>(&mut self, it: T) {
        self.kept.push(Box::new(it));
    }

    /// What an earlier test kept, if it ran.
    pub fn take<T: Any>(&mut self) -> Option<Box<T>> {
        let place = self.kept.iter().position(|kept| kept.is::<T>())?;
        self.kept.swap_remove(place).downcast().ok()
    }

    /// A namespace for one test.
    pub fn namespace(&self, name: &str) {
        self.kubectl.ok(&["create", "namespace", name]);
    }

    /// Delete a test's namespace without waiting for it.
    pub fn forget_namespace(&self, name: &str) {
        self.kubectl.ok(&["delete", "namespace", name, "--wait=false"]);
    }

    pub fn keep_logs(&self) {
        println!("logs of the control plane are kept in {}", self.plane.keep_logs().display());
    }
}

/// The service account of the daemon with the rights that an aggregated API needs, and no others; a kubeconfig
/// that is it.
fn identity(kubectl: &Kubectl, plane: &ControlPlane) -> PathBuf {
    kubectl.apply(&format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {SERVICE}, namespace: {NAMESPACE}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: poolwright-auth-delegator}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:auth-delegator"}}
subjects: [{{kind: ServiceAccount, name: {SERVICE}, namespace: {NAMESPACE}}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: poolwright-auth-reader, namespace: kube-system}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: extension-apiserver-authentication-reader}}
subjects: [{{kind: ServiceAccount, name: {SERVICE}, namespace: {NAMESPACE}}}]
"#
    ));
    plane.kubeconfig_with_token("daemon", &kubectl.token(NAMESPACE, SERVICE))
}
