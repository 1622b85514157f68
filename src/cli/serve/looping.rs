//! The daemon's timer: a tick every interval until it is asked to stop.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval, interval_at};
use tokio_util::sync::CancellationToken;

use crate::control::{Clock, Daemon, SystemClock};
use crate::observe::cluster::ClusterWatch;

/// How long the first tick waits for the cluster's state.
const CLUSTER_LIMIT: Duration = Duration::from_secs(15);

pub async fn run(mut daemon: Daemon, watch: Option<ClusterWatch>, history_seconds: f64, stop: CancellationToken) {
    let clock = SystemClock;
    if let Some(watch) = watch
        && !watch.settled(CLUSTER_LIMIT).await
    {
        tracing::warn!("the cluster's state has not arrived; its pools are held until it does");
    }
    daemon.fill_back(clock.now_seconds(), history_seconds).await;
    let mut timer = patient(interval(planned(&daemon)));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = timer.tick() => {}
        }
        let planned = planned(&daemon);
        if planned != timer.period() {
            timer = patient(interval_at(Instant::now() + planned, planned));
        }
        if let Some(decision) = daemon.tick(clock.now_seconds()).await {
            tracing::info!(
                cost_per_hour = decision.planned_cost_per_hour,
                work_units = decision.solve.work_units,
                findings = decision.findings.len(),
                "decided"
            );
        }
    }
    daemon.save();
}

fn planned(daemon: &Daemon) -> Duration {
    Duration::from_secs_f64(daemon.policy().planner.interval_seconds)
}

fn patient(mut timer: Interval) -> Interval {
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}
