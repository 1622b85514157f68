//! Kubernetes Events: what `kubectl describe` shows under an object. Never waits, never repeats itself, never
//! floods: what is too much is dropped, since every event is in the log too.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::mpsc;

use crate::control::Clock;

/// The same words about the same object are not repeated within this time, seconds.
const REPEAT_SECONDS: f64 = 600.0;

/// Events at once, and how many come back per second.
const BURST: f64 = 50.0;
const REFILL_PER_SECOND: f64 = 0.2;

/// Events that wait to be written.
const WAITING: usize = 256;

/// Longest text that Kubernetes takes, bytes.
const LONGEST_NOTE: usize = 1024;

/// Who writes the events.
const CONTROLLER: &str = "poolwright";

/// Whether somebody has to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    Normal,
    Warning,
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// The object, with its namespace where it has one. With its `uid`, `kubectl describe` finds the event.
    pub regarding: ObjectReference,
    pub weight: Weight,
    /// One word for programs, in PascalCase.
    pub reason: &'static str,
    /// What was done, in PascalCase.
    pub action: &'static str,
    /// A sentence for people.
    pub note: String,
}

/// Takes notices; clones write to the same place.
#[derive(Clone, Debug)]
pub struct Events(Option<mpsc::Sender<Notice>>);

impl Events {
    /// Writes nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// A place for notices and the task that writes them, which ends when all clones are gone.
    pub fn new(client: Client, clock: Arc<dyn Clock>) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, mut receiver) = mpsc::channel::<Notice>(WAITING);
        let task = async move {
            let instance = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME"));
            let instance = instance.unwrap_or_else(|_| CONTROLLER.to_owned());
            let mut filter = Filter::new(clock.now_seconds());
            let mut failing = false;
            while let Some(notice) = receiver.recv().await {
                let now_seconds = clock.now_seconds();
                if filter.admits(&notice, now_seconds) {
                    let written = write(&client, notice, &instance, now_seconds).await;
                    if let Err(error) = &written
                        && !failing
                    {
                        tracing::warn!(%error, "events cannot be written; what they say is in this log");
                    }
                    failing = written.is_err();
                }
            }
        };
        (Self(Some(sender)), task)
    }

    /// Write this soon, if it is new.
    pub fn publish(&self, notice: Notice) {
        if let Some(sender) = &self.0
            && sender.try_send(notice).is_err()
        {
            tracing::debug!("an event was dropped: too many are waiting");
        }
    }
}

async fn write(client: &Client, notice: Notice, instance: &str, now_seconds: f64) -> kube::Result<()> {
    let namespace = notice.regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let event = event(notice, instance, now_seconds);
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    api.create(&PostParams::default(), &event).await.map(|_| ())
}

fn event(notice: Notice, instance: &str, now_seconds: f64) -> Event {
    let Notice { regarding, weight, reason, action, mut note } = notice;
    if note.len() > LONGEST_NOTE {
        let end = (0..=LONGEST_NOTE).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
        note.truncate(end);
    }
    let time = Timestamp::from_microsecond((now_seconds * 1e6) as i64).unwrap_or(Timestamp::UNIX_EPOCH);
    let object = regarding.name.clone().unwrap_or_else(|| CONTROLLER.to_owned());
    Event {
        action: Some(action.to_owned()),
        event_time: Some(MicroTime(time)),
        metadata: ObjectMeta {
            // kube-apiserver takes a dash at the end of the beginning of a name, and no dot.
            generate_name: Some(format!("{object}-")),
            namespace: Some(regarding.namespace.clone().unwrap_or_else(|| "default".to_owned())),
            ..ObjectMeta::default()
        },
        note: Some(note),
        reason: Some(reason.to_owned()),
        regarding: Some(regarding),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        type_: Some(if weight == Weight::Warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

/// What was written lately.
#[derive(Debug)]
struct Filter {
    last: BTreeMap<(String, &'static str, String), f64>,
    tokens: f64,
    refilled_at: f64,
}

impl Filter {
    fn new(now_seconds: f64) -> Self {
        Self { last: BTreeMap::new(), tokens: BURST, refilled_at: now_seconds }
    }

    fn admits(&mut self, notice: &Notice, now_seconds: f64) -> bool {
        self.last.retain(|_, at| now_seconds - *at < REPEAT_SECONDS);
        self.tokens = (self.tokens + (now_seconds - self.refilled_at).max(0.0) * REFILL_PER_SECOND).min(BURST);
        self.refilled_at = now_seconds;
        let ObjectReference { kind, namespace, name, .. } = &notice.regarding;
        let key = (format!("{kind:?} {namespace:?} {name:?}"), notice.reason, notice.note.clone());
        if self.last.contains_key(&key) || self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        self.last.insert(key, now_seconds);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(name: &str, note: &str) -> Notice {
        let regarding = ObjectReference { name: Some(name.into()), ..ObjectReference::default() };
        Notice { regarding, weight: Weight::Warning, reason: "Test", action: "Test", note: note.into() }
    }

    #[test]
    fn the_same_words_are_not_repeated_and_new_ones_are_said() {
        let mut filter = Filter::new(0.0);
        assert!(filter.admits(&notice("a", "x"), 0.0));
        assert!(!filter.admits(&notice("a", "x"), 599.0));
        assert!(filter.admits(&notice("a", "y"), 599.0) && filter.admits(&notice("b", "x"), 599.0));
        assert!(filter.admits(&notice("a", "x"), 601.0));
    }

    #[test]
    fn a_flood_is_cut() {
        let mut filter = Filter::new(0.0);
        let written = (0..1000).filter(|n| filter.admits(&notice(&n.to_string(), ""), 0.0)).count();
        assert_eq!(written, 50);
        assert!(filter.admits(&notice("later", ""), 5.0) && !filter.admits(&notice("later still", ""), 5.0));
    }

    #[test]
    fn the_beginning_of_the_name_is_one_that_kubernetes_takes() {
        let made = event(notice("llama-3.1", ""), "pod", 1e9);
        assert_eq!(made.metadata.generate_name.as_deref(), Some("llama-3.1-"));
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        let long = event(notice("a", &"é".repeat(1000)), "pod", 1e9);
        assert_eq!(long.note.map(|n| n.len()), Some(1024));
        assert_eq!(long.event_time.map(|t| t.0.as_second()), Some(1_000_000_000));
    }
}
