//! Whom the cluster trusts, followed live: ConfigMap `kube-system/extension-apiserver-authentication`.
//!
//! What was good stays in force while the ConfigMap is gone, cannot be read or is broken; each such state is
//! said once, with what to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher as watch;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};

use crate::serve::Health;
use crate::serve::auth::{Trust, TrustSource};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// How long one watch may last: an open connection to a server that is gone is noticed after that.
const WATCH_SECONDS: u32 = 50;
/// Rest before the next try; doubled up to the longest while it goes wrong.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The cluster's trust as it was last good.
#[derive(Debug, Default)]
pub struct ClusterTrust {
    current: ArcSwapOption<Trust>,
    confirmed: AtomicBool,
}

impl TrustSource for ClusterTrust {
    fn current(&self) -> Option<Arc<Trust>> {
        self.current.load_full()
    }

    fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Relaxed)
    }
}

impl ClusterTrust {
    /// For `/readyz`: failed until the trust was read once; worrying while an older one is kept.
    pub fn health(&self) -> Health {
        match (self.current().is_some(), self.is_confirmed()) {
            (false, _) => Health::Failed,
            (true, true) => Health::Good,
            (true, false) => {
                Health::Worrying("the cluster's authentication settings cannot be read, older ones are kept")
            }
        }
    }

    /// Follow the ConfigMap for ever.
    pub async fn follow(&self, client: Client) {
        let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
        let only = watcher::Config::default().fields(&format!("metadata.name={NAME}")).timeout(WATCH_SECONDS);
        // What was said last, so that a lasting state is said once.
        let mut said = None;
        let mut pause = FIRST_PAUSE;
        loop {
            // A watch that fails and goes on by itself says nothing when it is well again: it is begun anew, with
            // a list.
            let mut events = watch(api.clone(), only.clone()).boxed();
            let mut listed = false;
            while let Some(event) = events.next().await {
                let failed = event.is_err();
                let problem = match event {
                    Ok(Event::Init) => continue,
                    Ok(Event::InitDone) if listed => continue,
                    Ok(Event::InitDone | Event::Delete(_)) => Some(absent()),
                    Ok(Event::InitApply(map) | Event::Apply(map)) => {
                        listed = true;
                        self.take(&map)
                    }
                    Err(error) => Some(unreadable(&error)),
                };
                self.confirmed.store(problem.is_none(), Ordering::Relaxed);
                if let Some(problem) = &problem
                    && said.as_ref() != Some(problem)
                {
                    self.complain(problem);
                }
                said = problem;
                if failed {
                    break;
                }
                pause = FIRST_PAUSE;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Put this into force; the problem if it cannot be.
    fn take(&self, map: &ConfigMap) -> Option<String> {
        let data = map.data.clone().unwrap_or_default();
        match Trust::from_data(&data) {
            Err(error) => Some(format!("ConfigMap {NAMESPACE}/{NAME} is not usable: {error}")),
            Ok(trust) => {
                tracing::info!(?trust, "the cluster's authentication settings are in force");
                for warning in trust.warnings() {
                    tracing::warn!("{warning}");
                }
                self.current.store(Some(Arc::new(trust)));
                None
            }
        }
    }

    fn complain(&self, problem: &str) {
        if self.current().is_some() {
            tracing::warn!("{problem}; the settings read before stay in force");
        } else {
            tracing::error!("{problem}; until then no certificate is accepted and this is not ready");
        }
    }
}

fn absent() -> String {
    format!("ConfigMap {NAMESPACE}/{NAME} does not exist: kube-apiserver makes it when it starts")
}

fn unreadable(error: &watcher::Error) -> String {
    use watcher::Error;
    let refused = match error {
        Error::InitialListFailed(kube::Error::Api(status)) | Error::WatchStartFailed(kube::Error::Api(status)) => {
            matches!(status.code, 401 | 403)
        }
        Error::WatchError(status) => matches!(status.code, 401 | 403),
        _ => false,
    };
    if refused {
        format!(
            "ConfigMap {NAMESPACE}/{NAME} may not be read: bind the Role extension-apiserver-authentication-reader of \
             {NAMESPACE} to poolwright's service account by a RoleBinding in {NAMESPACE}"
        )
    } else {
        format!("ConfigMap {NAMESPACE}/{NAME} cannot be read: {error}")
    }
}
