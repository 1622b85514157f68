//! A kind of object with a scale sub-resource and no controller: its replicas are whatever a test writes, so
//! that HPA's arithmetic can be asked at any point.

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::json;

use super::kubectl::Kubectl;
use super::wait::until_equal;

pub const TARGET: (&str, &str) = ("stand-in.test/v1", "Scalable");

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: scalables.stand-in.test}
spec:
  group: stand-in.test
  names: {kind: Scalable, plural: scalables, singular: scalable}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}
"#;

pub fn resource() -> ApiResource {
    ApiResource {
        group: "stand-in.test".into(),
        version: "v1".into(),
        api_version: TARGET.0.into(),
        kind: TARGET.1.into(),
        plural: "scalables".into(),
    }
}

/// Make the kind known.
pub async fn install(kubectl: &Kubectl, client: &Client) {
    kubectl.apply(DEFINITION);
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource());
    until_equal("the kind is served", true, async || all.list(&Default::default()).await.is_ok()).await;
}

pub struct Scalable {
    api: Api<DynamicObject>,
    name: String,
}

impl Scalable {
    /// Make one that has `replicas` and runs `running`.
    pub async fn create(client: &Client, namespace: &str, name: &str, replicas: i64, running: i64) -> Self {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource());
        let mut object = DynamicObject::new(name, &resource());
        object.data = json!({"spec": {"replicas": replicas}});
        api.create(&Default::default(), &object).await.expect("the admin may create it");
        let scalable = Self { api, name: name.into() };
        scalable.runs(running).await;
        scalable
    }

    /// Let it run so many.
    pub async fn runs(&self, running: i64) {
        let status = json!({"status": {"replicas": running, "selector": format!("app={}", self.name)}});
        let patched = self.api.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(status)).await;
        patched.expect("the admin may write its status");
    }
}
