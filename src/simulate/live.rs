//! A simulated fleet that lives in wall-clock time: for what reads it with clocks of its own, such as a
//! real Prometheus or a daemon in another process.
//!
//! Owns the task that lets the fleet's time follow the machine's and keeps its ports in line. What happens
//! in the fleet still depends on seed and workload alone; when it is looked at depends on the machine.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::fleet::Fleet;
use super::http::{FleetServer, SharedFleet};
use crate::control::{Clock, SystemClock};

/// Time between two advances: what a page tells is at most this old.
const STEP: Duration = Duration::from_millis(200);

/// Start time of the fleet and the machine's clock may differ by this much, seconds; what it prints of its
/// processes' start would otherwise be wrong.
const START_TOLERANCE_SECONDS: f64 = 5.0;

/// A fleet advancing by itself; it stops when this is dropped.
#[derive(Debug)]
pub struct LiveFleet {
    fleet: SharedFleet,
    address: SocketAddr,
    _stop: DropGuard,
}

impl LiveFleet {
    /// Let `fleet` go on from where it stands, in the time of the machine. Its options must give the Unix
    /// time now as the start of the run.
    ///
    /// # Errors
    /// The fleet's clock does not show the machine's time, or a port cannot be opened.
    pub async fn start(fleet: Fleet) -> io::Result<Self> {
        let behind_seconds = SystemClock.now_seconds() - fleet.unix_seconds();
        if behind_seconds.is_nan() || behind_seconds.abs() > START_TOLERANCE_SECONDS {
            let what = format!("the fleet's clock is {behind_seconds:.0} s behind; start_unix_seconds must be now");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let fleet = SharedFleet::new(fleet);
        let server = FleetServer::start(fleet.clone()).await?;
        let address = server.address();
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(live(fleet.clone(), server)));
        Ok(Self { fleet, address, _stop: stop.drop_guard() })
    }

    /// The fleet, to look at or to scale.
    pub fn fleet(&self) -> &SharedFleet {
        &self.fleet
    }

    /// Address of `/sd` and `/kube-state-metrics`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL of the Prometheus HTTP discovery.
    pub fn discovery_url(&self) -> String {
        format!("http://{}/sd", self.address)
    }
}

async fn live(fleet: SharedFleet, mut server: FleetServer) {
    let (from_seconds, started) = (fleet.lock().now_seconds(), Instant::now());
    let mut timer = interval(STEP);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        fleet.lock().advance(from_seconds + started.elapsed().as_secs_f64());
        if let Err(error) = server.sync() {
            tracing::warn!(%error, "a port of the simulated fleet cannot be opened");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::FleetOptions;

    fn fleet(start_unix_seconds: f64) -> Fleet {
        let text = include_str!("../../policies/quickstart.yaml");
        let policy = crate::policy::from_text("quickstart.yaml", text).unwrap();
        Fleet::new(&policy, Vec::new(), FleetOptions { start_unix_seconds, ..FleetOptions::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn time_passes_by_itself_until_it_is_dropped() {
        let live = LiveFleet::start(fleet(SystemClock.now_seconds())).await.unwrap();
        tokio::time::sleep(Duration::from_secs(61)).await;
        let shared = live.fleet().clone();
        let now = shared.lock().now_seconds();
        assert!((60.5..=61.5).contains(&now), "{now}");
        drop(live);
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert!(shared.lock().now_seconds() - now < 1.0);
    }

    #[tokio::test]
    async fn a_fleet_of_another_time_is_refused() {
        let error = LiveFleet::start(fleet(0.0)).await.unwrap_err();
        assert!(error.to_string().contains("start_unix_seconds"), "{error}");
    }
}
