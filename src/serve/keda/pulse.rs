//! One task that wakes all streams: when there is another decision, when one is no longer served, and in turns to
//! repeat what is active. No stream has a timer of its own, and not all of them wake at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::service::Scaler;
use crate::control::Decision;
use crate::serve::health;
use crate::serve::state::ServeState;

/// Parts of the repetition time. Each repeats a part of the streams, and looks for a new decision.
const TURNS: usize = 40;

/// What a stream is told when it is woken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Beat {
    /// Grows when it is time to repeat.
    pub repeat: u64,
    /// The listeners close.
    pub ended: bool,
}

/// Where streams wait.
#[derive(Debug)]
pub(super) struct Pulse {
    groups: Vec<watch::Sender<Beat>>,
    next: AtomicUsize,
}

impl Pulse {
    /// A place for a new stream, in turns.
    pub fn join(&self) -> watch::Receiver<Beat> {
        let group = self.next.fetch_add(1, Ordering::Relaxed) % self.groups.len();
        self.groups[group].subscribe()
    }

    /// Wake all, one group after the other: calls that came meanwhile are answered in between.
    async fn wake(&self, change: impl Fn(&mut Beat)) {
        for group in &self.groups {
            group.send_modify(&change);
            tokio::task::yield_now().await;
        }
    }
}

/// Start the task. It ends with the listeners, or when nobody holds the pulse any more.
pub(super) fn start(state: &ServeState, repeat: Duration, reporter: HealthReporter) -> Arc<Pulse> {
    let groups = (0..TURNS).map(|_| watch::Sender::new(Beat::default())).collect();
    let pulse = Arc::new(Pulse { groups, next: AtomicUsize::new(0) });
    tokio::spawn(beat(state.clone(), Arc::downgrade(&pulse), repeat / TURNS as u32, reporter));
    pulse
}

async fn beat(state: ServeState, pulse: Weak<Pulse>, period: Duration, reporter: HealthReporter) {
    let closing = state.readiness().closing();
    let mut timer = tokio::time::interval(period.max(Duration::from_millis(1)));
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut ready): (Option<Arc<Decision>>, Option<bool>) = (None, None);
    for turn in (0..TURNS).cycle() {
        tokio::select! {
            () = closing.cancelled() => break,
            _ = timer.tick() => {}
        }
        let Some(pulse) = pulse.upgrade() else { return };
        let ready_now = health::is_ready(&state);
        if ready.replace(ready_now) != Some(ready_now) {
            report(&reporter, ready_now).await;
        }
        let served = state.current().ok().map(|current| Arc::clone(&current.view.decision));
        if seen.as_ref().map(Arc::as_ptr) != served.as_ref().map(Arc::as_ptr) {
            seen = served;
            pulse.wake(|_| {}).await;
        }
        pulse.groups[turn].send_modify(|beat| beat.repeat += 1);
    }
    report(&reporter, false).await;
    if let Some(pulse) = pulse.upgrade() {
        pulse.wake(|beat| beat.ended = true).await;
    }
}

async fn report(reporter: &HealthReporter, ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", <super::ExternalScalerServer<Scaler> as NamedService>::NAME] {
        reporter.set_service_status(service, status).await;
    }
}
