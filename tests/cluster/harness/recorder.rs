//! Every number of replicas that an object was given, in order, as a watch shows it.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::task::JoinHandle;

use super::wait::until_equal;

pub struct Recorder {
    name: String,
    seen: Arc<Mutex<Vec<i64>>>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Record `spec.replicas` of one object, and wait for the first value.
    pub async fn start(client: &Client, resource: &ApiResource, namespace: &str, name: &str) -> Self {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let seen = Arc::<Mutex<Vec<i64>>>::default();
        let task = tokio::spawn(record(watcher(api, config).default_backoff().boxed(), seen.clone()));
        let recorder = Self { name: format!("{namespace}/{name}"), seen, task };
        until_equal("the recorder sees the object", true, async || !recorder.seen().is_empty()).await;
        recorder
    }

    /// All values so far, without repetitions.
    pub fn seen(&self) -> Vec<i64> {
        self.seen.lock().expect("nobody panics with the lock").clone()
    }

    pub fn last(&self) -> i64 {
        *self.seen().last().expect("the recorder waits for the first value")
    }

    /// Wait until the object has this many replicas.
    pub async fn reaches(&self, replicas: i64) {
        until_equal(&format!("replicas of {}, after {:?}", self.name, self.seen()), replicas, async || self.last())
            .await;
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn record(
    mut events: impl futures::Stream<Item = Result<Event<DynamicObject>, watcher::Error>> + Unpin,
    seen: Arc<Mutex<Vec<i64>>>,
) {
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(object) | Event::InitApply(object)) = event else { continue };
        // An absent number is one.
        let replicas = object.data["spec"]["replicas"].as_i64().unwrap_or(1);
        let mut seen = seen.lock().expect("nobody panics with the lock");
        if seen.last() != Some(&replicas) {
            seen.push(replicas);
        }
    }
}
