//! One look at the cluster, for a dry run and for a check-up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, Error};

use super::resolve::{absent, field_selector, is_optional, problem, resolve};
use super::shelf::{ClusterSnapshot, Fact, Resource, Shelf, WatchKey};
use crate::policy::Policy;

/// Objects asked for at once.
const PAGE: u32 = 500;
/// How long one scale may take: what is watched meanwhile counts as good.
const SCALE_LIMIT: Duration = Duration::from_secs(10);

impl ClusterSnapshot {
    /// Read everything that the policy's pools need once. What cannot be read is in the shelf's `problem`.
    pub async fn read_once(client: &Client, policy: &Policy, now_seconds: f64) -> Self {
        let read = |key: WatchKey| async move {
            let shelf = match list(client, &key).await {
                Ok(Some(objects)) => Shelf::of(objects, now_seconds),
                Ok(None) if is_optional(&key) => Shelf::of(BTreeMap::new(), now_seconds),
                Ok(None) => Shelf::failed(absent(&key)),
                Err(error) => Shelf::failed(problem(&key, &error)),
            };
            (key, shelf)
        };
        let shelves = futures::future::join_all(WatchKey::all(policy).into_iter().map(read));
        let (shelves, server_minor) = futures::join!(shelves, server_minor(client));
        Self { shelves: shelves.into_iter().collect(), server_minor }
    }
}

async fn list(client: &Client, key: &WatchKey) -> Result<Option<BTreeMap<String, Arc<Fact>>>, Error> {
    let Some(api) = resolve(client, key).await? else { return Ok(None) };
    let mut objects = BTreeMap::new();
    let mut params = ListParams::default().limit(PAGE);
    params.field_selector = field_selector(key);
    loop {
        let page = api.list(&params).await?;
        for object in page.items {
            let (Some(name), Some(fact)) = (object.metadata.name.clone(), fact(&api, key, &object).await?) else {
                continue;
            };
            objects.insert(name, Arc::new(fact));
        }
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(Some(objects));
        }
    }
}

/// What is kept of an object; asks for its scale where that is what is read.
pub async fn fact(api: &Api<DynamicObject>, key: &WatchKey, object: &DynamicObject) -> Result<Option<Fact>, Error> {
    let Resource::Scaled { .. } = key.resource else { return Ok(Some(Fact::read(&key.resource, object))) };
    let Some(name) = object.metadata.name.as_deref() else { return Ok(None) };
    let asked = tokio::time::timeout(SCALE_LIMIT, api.get_subresource("scale", name)).await;
    let scale = asked.map_err(|late| Error::Service(late.into()))??;
    Ok(Some(Fact::read(&key.resource, &scale)))
}

/// Minor version of the server.
pub async fn server_minor(client: &Client) -> Option<u32> {
    let info = client.apiserver_version().await.ok()?;
    // Some providers write `33+`.
    let digits: String = info.minor.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|_| info.major == "1")
}
