//! Knative's pod autoscaler on requests inside the servers.
//!
//! Rule: `knative/serving:pkg/autoscaler/scaling/autoscaler.go`, which AIBrix took over: the mean of a stable window of
//! 60 s, and of a panic window of 6 s, which at a reading every 15 s is the newest one. In panic, when the newest asks
//! for at least twice the ready pods, the larger of the two wins and nothing shrinks until a stable window after. Rates
//! of change are Knative's: a sync may not more than halve the pods, and growth is free. AIBrix divides the average of
//! a pod by the target and so shrinks under overload; this does not, the sum is what is divided.

use std::collections::VecDeque;

use super::law::{fixed_routes, least};
use super::{Kind, Opponent, Order, Seen, Setting, capability};
use crate::simulate::RouteShares;

pub(super) const KIND: Kpa = Kpa;

const STABLE_SECONDS: f64 = 60.0;
/// Newest wish over ready pods from which on there is panic.
const PANIC_RATIO: f64 = 2.0;
const MOST_UP: f64 = 1000.0;
const MOST_DOWN: f64 = 2.0;

/// See the module.
#[derive(Debug)]
pub(super) struct Kpa;

#[derive(Debug)]
struct Rule {
    scalers: Vec<(usize, Scaler)>,
    pools: usize,
    routes: Option<RouteShares>,
}

/// The autoscaler of one pool.
#[derive(Debug)]
struct Scaler {
    /// Requests inside one pod.
    target: f64,
    min: u32,
    max: u32,
    /// (Unix time, requests inside all pods), oldest first.
    samples: VecDeque<(f64, f64)>,
    /// Unix time of the last sign of panic, and the most pods asked for since it began.
    panic: Option<(f64, u32)>,
}

impl Kind for Kpa {
    fn name(&self) -> &'static str {
        "kpa"
    }

    fn about(&self) -> &'static str {
        "Knative's autoscaler on concurrency, with panic (knative/serving; also in AIBrix)"
    }

    fn target(&self) -> &'static str {
        "requests inside a pod, share of what a replica holds within its targets"
    }

    fn targets(&self) -> Vec<f64> {
        vec![1.2, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        let scaler = |&(p, _): &(usize, f64)| {
            let pool = &setting.policy.pools[p];
            (p, Scaler::new(setting.target * capability::of(&setting, p).batch, least(pool), pool.max))
        };
        Box::new(Rule {
            scalers: setting.hardware.shares.iter().map(scaler).collect(),
            pools: setting.policy.pools.len(),
            routes: fixed_routes(&setting),
        })
    }
}

impl Opponent for Rule {
    fn sync(&mut self, seen: &Seen<'_>) -> Order {
        let mut replicas = vec![0; self.pools];
        for (pool, scaler) in &mut self.scalers {
            let pods = &seen.replicas[*pool];
            // No pod tells nothing: what is asked for stays.
            replicas[*pool] = if pods.is_empty() {
                seen.wanted[*pool].clamp(scaler.min, scaler.max)
            } else {
                scaler.sync(seen.now_seconds, pods.iter().map(|r| r.running + r.waiting).sum(), pods.len() as u32)
            };
        }
        Order { replicas, routes: self.routes.take() }
    }
}

impl Scaler {
    fn new(target: f64, min: u32, max: u32) -> Self {
        Self { target, min, max, samples: VecDeque::new(), panic: None }
    }

    /// Pods to run, from the requests inside all of the `ready` (at least 1) ones.
    fn sync(&mut self, now_seconds: f64, inside: f64, ready: u32) -> u32 {
        self.samples.retain(|(at, _)| now_seconds - at < STABLE_SECONDS);
        self.samples.push_back((now_seconds, inside));
        let ready = f64::from(ready);
        let wish = |requests: f64| (requests / self.target).ceil();
        let bounded = |pods: f64| pods.max((ready / MOST_DOWN).floor()).min((ready * MOST_UP).ceil());
        let mean = self.samples.iter().map(|(_, n)| n).sum::<f64>() / self.samples.len() as f64;
        let (stable, newest) = (bounded(wish(mean)), bounded(wish(inside)));
        if wish(inside) / ready >= PANIC_RATIO {
            let most = self.panic.map_or(0, |(_, most)| most);
            self.panic = Some((now_seconds, most));
        } else if self.panic.is_some_and(|(since, _)| now_seconds - since > STABLE_SECONDS) {
            self.panic = None;
        }
        let pods = match &mut self.panic {
            None => stable as u32,
            Some((_, most)) => {
                *most = (*most).max(stable.max(newest) as u32);
                *most
            }
        };
        pods.clamp(self.min, self.max.max(self.min))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::*;

    #[test]
    fn follows_the_mean_of_a_minute() {
        let mut kpa = Scaler::new(10.0, 1, 100);
        assert_eq!(kpa.sync(0.0, 40.0, 4), 4);
        assert_eq!(kpa.sync(15.0, 60.0, 4), 5, "mean 50");
        assert_eq!(kpa.sync(30.0, 20.0, 5), 4, "mean 40");
        assert_eq!(kpa.sync(45.0, 20.0, 4), 4, "mean 35");
        assert_eq!(kpa.sync(60.0, 20.0, 4), 3, "mean 30: the first has left the window");
    }

    #[test]
    fn halves_at_most() {
        let mut kpa = Scaler::new(10.0, 1, 100);
        assert_eq!(kpa.sync(0.0, 0.0, 9), 4);
        assert_eq!(kpa.sync(15.0, 0.0, 1), 1, "the fewest");
    }

    #[test]
    fn panic_takes_the_newest_and_does_not_shrink_for_a_minute() {
        let mut kpa = Scaler::new(10.0, 1, 100);
        assert_eq!(kpa.sync(0.0, 20.0, 2), 2);
        assert_eq!(kpa.sync(15.0, 39.0, 2), 4, "twice the ready pods");
        assert_eq!(kpa.sync(30.0, 90.0, 2), 9);
        assert_eq!(kpa.sync(45.0, 10.0, 2), 9);
        assert_eq!(kpa.sync(90.0, 10.0, 9), 9, "60 s after the last sign it lasts still");
        assert_eq!(kpa.sync(105.0, 10.0, 9), 4, "then it ends");
    }

    #[test]
    fn the_sum_is_divided() {
        let room = Room::on(0).with_minutes(&[4.0]);
        let holds = capability::of(&room.setting(0.0), 0).batch;
        let mut rule = Kpa.start(room.setting(0.5));
        let scene = Scene::new(&[4, 0]).gauges(0, 0.5 * holds, 0.25 * holds, 0.9);
        assert_eq!(rule.sync(&scene.seen()).replicas, [6, 0]);
        assert_eq!(rule.sync(&Scene::new(&[0, 0]).starting(0, 3).seen()).replicas, [3, 0]);
    }
}
