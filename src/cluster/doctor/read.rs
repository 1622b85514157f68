//! What the check-up asks of the cluster. Reads only; reviews are questions, not changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use kube::api::Api;
use kube::{Client, Error};

use super::keda::service_of;
use super::{Answer, ApiFacts, Cluster, ClusterFacts, Lookup, ScalerAddress, Settings};
use crate::cluster::manifests::{Certificates, Follower, Grant, Options, Right, grants};
use crate::cluster::registration::{Reading, Registrar};
use crate::cluster::{ClusterReviews, Patience};
use crate::observe::cluster::{ClusterSnapshot, Fact};
use crate::policy::{Mode, Policy};
use crate::serve::auth::{AccessQuestion, Action, ResourceAction, Reviews, User};
use crate::serve::{GROUP, Metric, Owner};

/// Longest wait for the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Longest wait for each of the others, and how often they are tried.
const PATIENCE: Patience = Patience { limit: Duration::from_secs(10), tries: 2, pause: Duration::from_millis(500) };

/// Questions under way at once.
const CONCURRENCY: usize = 8;

/// Whether there is a kube-apiserver that answers.
pub async fn reach(client: &Client) -> Result<(), String> {
    match tokio::time::timeout(FIRST_ANSWER, client.apiserver_version()).await {
        Ok(Ok(_)) => Ok(()),
        // Who may not ask for the version has reached it.
        Ok(Err(Error::Api(status))) if status.code == 403 => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", FIRST_ANSWER.as_secs())),
    }
}

/// Ask the cluster. `snapshot`: what was read of the pools.
pub async fn read(client: &Client, policy: &Policy, settings: &Settings, snapshot: &ClusterSnapshot) -> Cluster {
    let reader = Reader { client, settings, reviews: ClusterReviews::new(client.clone(), PATIENCE) };
    let (version, api, trust, account, keda_installed) =
        tokio::join!(reader.version(), reader.api(), reader.trust(), reader.account(), reader.has_keda());
    let addresses = addresses(snapshot);
    let mut wanted: BTreeSet<(String, String)> =
        addresses.iter().filter_map(|a| a.service.clone()).map(|(namespace, name, _)| (namespace, name)).collect();
    if let Lookup::Found(ApiFacts { owner: Owner::Ours, service: Some((namespace, name, _)), .. }) = &api {
        wanted.insert((namespace.clone(), name.clone()));
    }
    let (services, grants, hpa) =
        tokio::join!(reader.services(wanted), reader.rights(policy, &api, &account), reader.hpa(policy));
    Cluster::Read(Box::new(ClusterFacts {
        version,
        api,
        services,
        trust,
        account,
        grants,
        hpa,
        keda_installed,
        addresses,
    }))
}

struct Reader<'a> {
    client: &'a Client,
    settings: &'a Settings,
    reviews: ClusterReviews,
}

impl Reader<'_> {
    async fn version(&self) -> Option<crate::cluster::manifests::KubernetesVersion> {
        let info = tokio::time::timeout(FIRST_ANSWER, self.client.apiserver_version()).await.ok()?.ok()?;
        format!("{}.{}", info.major, info.minor).parse().ok()
    }

    async fn api(&self) -> Lookup<ApiFacts> {
        match Registrar::new(self.client.clone(), self.settings.identity.clone()).read().await {
            Reading::Seen(view) if view.owner == Owner::Absent => Lookup::Absent,
            Reading::Seen(view) => Lookup::Found(ApiFacts {
                owner: view.owner,
                service: view.service.zip(view.port).map(|((namespace, name), port)| (namespace, name, port)),
                has_bundle: !view.bundle.is_empty(),
                insecure: view.insecure,
                injected: view.injected,
                available: view.available,
            }),
            Reading::Forbidden(why) | Reading::Failed(why) => Lookup::Unknown(why),
        }
    }

    async fn trust(&self) -> Lookup<BTreeMap<String, String>> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), "kube-system");
        match lookup(api.get_opt("extension-apiserver-authentication").await) {
            Lookup::Found(map) => Lookup::Found(map.data.unwrap_or_default()),
            Lookup::Absent => Lookup::Absent,
            Lookup::Unknown(why) => Lookup::Unknown(why),
        }
    }

    async fn account(&self) -> Lookup<()> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.settings.identity.namespace);
        match lookup(api.get_opt(&self.settings.account).await) {
            Lookup::Found(_) => Lookup::Found(()),
            Lookup::Absent => Lookup::Absent,
            Lookup::Unknown(why) => Lookup::Unknown(why),
        }
    }

    async fn has_keda(&self) -> bool {
        self.client.list_api_groups().await.is_ok_and(|list| list.groups.iter().any(|g| g.name == "keda.sh"))
    }

    async fn services(&self, wanted: BTreeSet<(String, String)>) -> BTreeMap<(String, String), Lookup<Vec<i32>>> {
        let read = |(namespace, name): (String, String)| async move {
            let api: Api<Service> = Api::namespaced(self.client.clone(), &namespace);
            let ports = match lookup(api.get_opt(&name).await) {
                Lookup::Found(service) => {
                    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
                    Lookup::Found(ports.iter().map(|port| port.port).collect())
                }
                Lookup::Absent => Lookup::Absent,
                Lookup::Unknown(why) => Lookup::Unknown(why),
            };
            ((namespace, name), ports)
        };
        stream::iter(wanted).map(read).buffered(CONCURRENCY).collect().await
    }

    /// The daemon's rights, as the manifests list them for what this cluster has.
    async fn rights(
        &self,
        policy: &Policy,
        api: &Lookup<ApiFacts>,
        account: &Lookup<()>,
    ) -> Vec<(Grant, Vec<(Right, Answer)>)> {
        if *account == Lookup::Absent {
            return Vec::new();
        }
        let is_foreign = matches!(api, Lookup::Found(api) if api.owner.is_foreign());
        let is_injected = matches!(api, Lookup::Found(api) if api.injected);
        let options = Options {
            identity: self.settings.identity.clone(),
            follower: if is_foreign { Follower::Keda } else { Follower::Hpa },
            certificates: if is_injected { Certificates::CertManager } else { Certificates::SelfMade },
            ..Options::default()
        };
        let user = service_account(&self.settings.identity.namespace, &self.settings.account);
        let mut all = Vec::new();
        for grant in grants(policy, &options, &self.settings.account) {
            let ask = |right: Right| {
                let user = user.clone();
                async move { (right.clone(), self.may(user, &right).await) }
            };
            let answers = stream::iter(grant.rights.clone()).map(ask).buffered(CONCURRENCY).collect().await;
            all.push((grant, answers));
        }
        all
    }

    /// Whether HPA's controller may read, under either name that it can have.
    async fn hpa(&self, policy: &Policy) -> Vec<(String, Answer)> {
        let acting = policy.pools.iter().filter(|p| p.mode == Mode::Act);
        let namespaces: BTreeSet<&String> = acting.map(|p| &p.namespace).collect();
        let controller = User { name: "system:kube-controller-manager".to_owned(), ..User::default() };
        let mut answers = Vec::new();
        for namespace in namespaces {
            let right = Right {
                verb: "list".to_owned(),
                group: GROUP.to_owned(),
                resource: Metric::Desired.name().to_owned(),
                namespace: namespace.clone(),
                ..Right::default()
            };
            let mut answer = self.may(service_account("kube-system", "horizontal-pod-autoscaler"), &right).await;
            if answer == Answer::No {
                answer = self.may(controller.clone(), &right).await;
            }
            answers.push((namespace.clone(), answer));
        }
        answers
    }

    async fn may(&self, user: User, right: &Right) -> Answer {
        let action = Action::Resource(ResourceAction {
            verb: right.verb.clone(),
            group: right.group.clone(),
            version: "*".to_owned(),
            namespace: right.namespace.clone(),
            resource: right.resource.clone(),
            subresource: right.subresource.clone(),
            name: right.name.clone(),
        });
        match self.reviews.access(&AccessQuestion { user, action }).await {
            Ok(verdict) if verdict.allowed => Answer::Yes,
            Ok(_) => Answer::No,
            Err(error) => Answer::Unknown(error.to_string()),
        }
    }
}

fn lookup<T>(answer: Result<Option<T>, Error>) -> Lookup<T> {
    match answer {
        Ok(Some(found)) => Lookup::Found(found),
        Ok(None) => Lookup::Absent,
        Err(Error::Api(status)) => Lookup::Unknown(status.message.clone()),
        Err(error) => Lookup::Unknown(error.to_string()),
    }
}

/// A service account as kube-apiserver knows it.
fn service_account(namespace: &str, name: &str) -> User {
    let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), "system:authenticated"];
    User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        groups: groups.map(str::to_owned).to_vec(),
        ..User::default()
    }
}

/// Addresses that the ScaledObjects of the pools' namespaces ask.
fn addresses(snapshot: &ClusterSnapshot) -> Vec<ScalerAddress> {
    let mut all = Vec::new();
    for (key, shelf) in &snapshot.shelves {
        for (name, fact) in shelf.objects.iter() {
            let Fact::ScaledObject(object) = &**fact else { continue };
            for address in object.triggers.iter().filter_map(|trigger| trigger.metadata.get("scalerAddress")) {
                all.push(ScalerAddress {
                    object: format!("{}/{name}", key.namespace),
                    address: address.clone(),
                    service: service_of(address, &key.namespace),
                });
            }
        }
    }
    all
}
