//! What the run shows: a line while it lasts, and at its end the promises kept and the figures.

use poolwright::simulate::{ClassService, Window};

use super::{Chain, PACE};
use crate::harness::process::cpu_seconds;

/// Interactive requests within their targets outside of faults, share.
const ATTAINMENT: f64 = 0.99;
/// Time that requests still inside at the end are given to finish, seconds of the simulation.
const DRAIN_SECONDS: f64 = 600.0;
/// The pool that is needed at times only, and those that follow the load all the time.
const OVERFLOW: &str = "fleet/chat-h100";
const STEADY: [&str; 2] = ["fleet/chat-l40s", "fleet/code-l40s"];

/// What a run of this length must show.
pub struct Demands {
    /// Changes each way, of all pools together; each of those that follow the load makes a few of them.
    changes: u32,
    /// Whether the other comes from 0.
    overflow: bool,
}

impl Demands {
    /// One change each way per minute, and in the whole hour of the trace a peak beyond one pool.
    pub fn of(length_seconds: f64) -> Self {
        Self { changes: (length_seconds / 60.0) as u32, overflow: length_seconds >= super::LENGTH_SECONDS }
    }
}

impl Chain {
    pub fn status_line(&self) -> String {
        let snapshot = self.live.fleet().lock().snapshot();
        let seen = self.witness.seen();
        let published = seen.published();
        let number = |n: Option<&u32>| n.map_or("-".to_owned(), u32::to_string);
        let pools = snapshot.pools.iter().map(|pool| {
            let says = published.get(&pool.pool).and_then(Option::as_ref);
            let (desired, spec) = (number(seen.desired.get(&pool.pool)), number(seen.spec.get(&pool.pool)));
            let name = pool.pool.rsplit('/').next().unwrap_or_default();
            format!("{name} {}={desired}={spec} ({} ready)", number(says), pool.ready)
        });
        let pools: Vec<String> = pools.collect();
        let waits = snapshot.pools.iter().map(|p| p.longest_wait_seconds).fold(0.0, f64::max);
        let lacking = seen.decision.iter().flat_map(|d| &d.pools).flat_map(|p| &p.missing);
        let lacking: Vec<&str> = lacking.map(String::as_str).collect();
        let met: u64 = snapshot.classes.iter().map(|c| c.met).sum();
        let missed: u64 = snapshot.classes.iter().map(|c| c.late + c.failed).sum();
        format!(
            "{:>5.0} s  published=desired=spec: {}; met {met}, missed {missed}, at the gateway {}; {:.2} USD; \
             longest wait {waits:.1} s; lacking: {}",
            self.witness.now(),
            pools.join(", "),
            snapshot.gateway_waiting,
            snapshot.cost,
            if lacking.is_empty() { "nothing".to_owned() } else { lacking.join(", ") }
        )
    }

    /// Print what was measured; what must not have happened.
    pub fn report(mut self, demands: &Demands, from_seconds: f64, wall: f64, control_plane: f64) -> Vec<String> {
        let to_seconds = self.witness.now();
        println!("\nthe chain ran for {:.0} s under load, {wall:.0} s in all", to_seconds - from_seconds);
        self.judge_numbers(demands);
        let cost = self.cost(to_seconds - from_seconds);
        println!("  {cost}");
        self.judge_service();
        for figure in std::mem::take(&mut self.figures) {
            println!("  {figure}");
        }
        let seen = self.witness.seen();
        println!(
            "  processor time: poolwright {:.1} s for {} decisions, Prometheus {:.1} s, control plane {control_plane:.0} s, \
             this program with the simulated servers {:.0} s",
            self.poolwright.cpu_seconds(),
            seen.ticks,
            self.prometheus.cpu_seconds(),
            cpu_seconds("self")
        );
        drop(seen);
        self.problems
    }

    /// The published number is HPA's and the scale target's; nothing shrank for lack of data; it moved enough.
    fn judge_numbers(&mut self, demands: &Demands) {
        let seen = self.witness.seen();
        let followed = seen.record.followed(PACE, &self.windows);
        let shrunk = seen.record.shrunk(PACE, &self.windows[1..]);
        let moves = seen.record.moves();
        let mut delays = seen.delays.clone();
        drop(seen);
        println!(
            "  numbers: {} checked, {} overtaken, {} within faults; {} not followed, {} shrunk for lack of data",
            followed.checked,
            followed.overtaken,
            followed.excused,
            followed.violations.len(),
            shrunk.len()
        );
        delays.sort_by(f64::total_cmp);
        if let (Some(middle), Some(longest)) = (delays.get(delays.len() / 2), delays.last()) {
            println!(
                "  from decision to scale target: median {middle:.1} s, longest {longest:.1} s, {} times",
                delays.len()
            );
        }
        for Window { from_seconds, to_seconds } in &self.windows {
            println!("  not judged: {from_seconds:.0} s to {to_seconds:.0} s");
        }
        self.problems.extend(followed.violations.iter().chain(&shrunk).map(|v| format!("{v:?}")));
        let (up, down) = (moves.iter().map(|m| m.up).sum::<u32>(), moves.iter().map(|m| m.down).sum::<u32>());
        if up.min(down) < demands.changes {
            self.problems.push(format!("{up} changes up and {down} down, less than {} each way", demands.changes));
        }
        for pool in moves {
            println!("  {}: {} up, {} down, {} to {} replicas", pool.pool, pool.up, pool.down, pool.least, pool.most);
            let steady = STEADY.contains(&pool.pool.as_str());
            if steady && pool.up.min(pool.down) < demands.changes / 5 {
                self.problems.push(format!("{} moved less than {} times each way", pool.pool, demands.changes / 5));
            }
            if pool.pool == OVERFLOW && demands.overflow && (pool.up == 0 || pool.down == 0) {
                self.problems.push(format!("{} did not come and go", pool.pool));
            }
        }
    }

    fn cost(&self, seconds: f64) -> String {
        let cost = self.live.fleet().lock().snapshot().cost;
        let peak = self.scenario.static_fleet(&self.policy, seconds).map_or(0.0, |s| s.cost_per_hour);
        let peak = peak * seconds / 3600.0;
        format!("cost: {cost:.2} {}; bought for the peak {peak:.2}", self.policy.currency)
    }

    fn judge_service(&mut self) {
        let mut fleet = self.live.fleet().lock();
        fleet.stop_arrivals();
        let end = fleet.now_seconds() + DRAIN_SECONDS;
        fleet.advance(end);
        let services = fleet.service(&self.windows[1..]);
        drop(fleet);
        for ClassService { class, outside, inside } in &services {
            let share = |s: Option<f64>| s.map_or("-".to_owned(), |s| format!("{:.2} %", 100.0 * s));
            println!(
                "  {class}: {} in time of {} outside of faults, {} of {} within",
                share(outside.attainment()),
                outside.arrived,
                share(inside.attainment()),
                inside.arrived
            );
            if class == "interactive" && outside.attainment().unwrap_or(0.0) < ATTAINMENT {
                self.problems.push(format!("{class}: {} in time outside of faults", share(outside.attainment())));
            }
        }
    }
}
