//! HPA's control law, as every rule that is an HPA uses it: from a metric to what is written to the scale target.
//!
//! Arithmetic of `kubernetes/kubernetes:pkg/controller/podautoscaler/replica_calculator.go`, behaviours of
//! `horizontal.go`. It knows metrics and replicas as numbers only; what is measured belongs to the rules. KEDA between
//! 1 and its most replicas is this too. KEDA's own part, to 0 after a cool-down and back to 1 at a poll, has no say
//! here: what is measured is counted by the servers, so a pool at 0 would never be woken, and one replica stays.

use std::collections::VecDeque;

use super::{Order, Seen, Setting};
use crate::policy::Pool;
use crate::simulate::{HpaTarget, HpaTolerance, RouteShares, hpa_recommendation};

/// How far from 1 the ratio of metric and target is ignored: the controller's default.
const TOLERANCE: HpaTolerance = HpaTolerance { down: 0.1, up: 0.1 };

/// `behavior` of an HPA whose policies all have a period of one sync, so that what was written before does not count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Behaviour {
    /// A sync may add so many pods, or so many per cent, whichever is more.
    pub up_pods: u32,
    pub up_percent: u32,
    /// Seconds for which the highest recommendation wins on the way down.
    pub down_window_seconds: f64,
}

impl Behaviour {
    /// What holds where nothing is written: 4 pods or 100 % per 15 s up, all pods down, 300 s.
    pub const DEFAULT: Self = Self { up_pods: 4, up_percent: 100, down_window_seconds: 300.0 };
}

/// One HorizontalPodAutoscaler.
#[derive(Clone, Debug)]
pub(super) struct Hpa {
    min: u32,
    max: u32,
    behaviour: Behaviour,
    /// (Unix time, replicas), oldest first.
    recommended: VecDeque<(f64, u32)>,
}

impl Hpa {
    /// At least one replica: no HPA of the versions in use goes to 0.
    pub fn new(pool: &Pool, behaviour: Behaviour) -> Self {
        Self { min: least(pool), max: pool.max, behaviour, recommended: VecDeque::new() }
    }

    /// `spec.replicas` after a sync, from those before and what the metric asks for; without a metric nothing changes.
    pub fn sync(&mut self, now_seconds: f64, spec: u32, recommended: Option<u32>) -> u32 {
        if spec < self.min || spec > self.max {
            return spec.clamp(self.min, self.max.max(self.min));
        }
        let Some(recommended) = recommended else { return spec };
        let Behaviour { up_pods, up_percent, down_window_seconds } = self.behaviour;
        self.recommended.retain(|(at, _)| now_seconds - at < down_window_seconds);
        self.recommended.push_back((now_seconds, recommended));
        if recommended <= spec {
            let highest = self.recommended.iter().map(|(_, n)| *n).max().unwrap_or(recommended);
            return spec.min(highest).max(self.min);
        }
        let percent = u64::from(spec) * u64::from(100 + up_percent);
        let by_percent = u32::try_from(percent.div_ceil(100)).unwrap_or(u32::MAX);
        recommended.min(spec.saturating_add(up_pods).max(by_percent)).min(self.max)
    }
}

/// Fewest replicas of a pool that is scaled by an HPA.
pub(super) fn least(pool: &Pool) -> u32 {
    pool.min.max(1).min(pool.max)
}

/// Replicas by a metric of type Pods: the mean of the pods that have one against `target` (above 0).
///
/// Pods that have none yet, `missing`, count as 0 where the others ask for more and as the target where they ask for
/// less; they never turn one into the other. `None` when no pod has a metric. In thousandths, as the controller
/// computes.
pub(super) fn by_pods(metrics: &[f64], missing: u32, target: f64, spec: u32) -> Option<u32> {
    let milli = |value: f64| (value * 1000.0).round() as i64;
    let target = milli(target).max(1);
    let count = i64::try_from(metrics.len()).ok().filter(|n| *n > 0)?;
    let sum: i64 = metrics.iter().copied().map(milli).sum();
    let ratio = |sum: i64, count: i64| (sum / count) as f64 / target as f64;
    let inside = |ratio: f64| (1.0 - TOLERANCE.down..=1.0 + TOLERANCE.up).contains(&ratio);
    let whole = |ratio: f64, count: i64| (ratio * count as f64).ceil().clamp(0.0, f64::from(i32::MAX)) as u32;
    let seen = ratio(sum, count);
    if missing == 0 {
        return Some(if inside(seen) { spec } else { whole(seen, count) });
    }
    let all = count + i64::from(missing);
    let assumed = if seen < 1.0 { target * i64::from(missing) } else { 0 };
    let again = ratio(sum + assumed, all);
    let turned = (seen < 1.0 && again > 1.0) || (seen > 1.0 && again < 1.0);
    if inside(again) || turned {
        return Some(spec);
    }
    let wanted = whole(again, all);
    Some(if again < 1.0 { wanted.min(spec) } else { wanted.max(spec) })
}

/// Replicas by an External metric with AverageValue `average` (above 0): the metric is shared out over the pods that
/// exist, ready or not.
pub(super) fn by_average(metric: f64, average: f64, spec: u32) -> u32 {
    // Finer than the thousandths of Kubernetes: a small threshold would be rounded by per cents.
    let micro = |value: f64| (value * 1e6).round().clamp(0.0, 1e15) as i64;
    hpa_recommendation(HpaTarget::AverageValue(micro(average).max(1)), micro(metric), spec, spec, TOLERANCE)
}

/// An HPA for every pool of the given hardware; each looks at its own pool only.
#[derive(Debug)]
pub(super) struct Scalers {
    /// (pool, its HPA).
    hpas: Vec<(usize, Hpa)>,
    pools: usize,
    routes: Option<RouteShares>,
}

impl Scalers {
    pub fn new(setting: &Setting<'_>, behaviour: Behaviour) -> Self {
        let hpa = |&(pool, _): &(usize, f64)| (pool, Hpa::new(&setting.policy.pools[pool], behaviour));
        Self {
            hpas: setting.hardware.shares.iter().map(hpa).collect(),
            pools: setting.policy.pools.len(),
            routes: fixed_routes(setting),
        }
    }

    /// One sync of all; `recommend` tells what the metric of a pool asks for.
    pub fn sync(&mut self, seen: &Seen<'_>, mut recommend: impl FnMut(usize) -> Option<u32>) -> Order {
        let mut replicas = vec![0; self.pools];
        for (pool, hpa) in &mut self.hpas {
            replicas[*pool] = hpa.sync(seen.now_seconds, seen.wanted[*pool], recommend(*pool));
        }
        Order { replicas, routes: self.routes.take() }
    }
}

/// The shares of split hardware as routes of every class; `None` where every model has one pool.
pub(super) fn fixed_routes(setting: &Setting<'_>) -> Option<RouteShares> {
    let mut routes = RouteShares::default();
    for (m, model) in setting.policy.models.iter().enumerate() {
        let of_model: Vec<(usize, f64)> =
            setting.hardware.shares.iter().copied().filter(|(p, _)| setting.policy.pools[*p].model == m).collect();
        if of_model.len() > 1 {
            routes.0.extend(model.classes.iter().map(|(class, _)| ((m, *class), of_model.clone())));
        }
    }
    (!routes.0.is_empty()).then_some(routes)
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn hpa(max: u32) -> Hpa {
        Hpa { min: 1, max, behaviour: Behaviour::DEFAULT, recommended: VecDeque::new() }
    }

    #[test]
    fn pods_metrics_follow_the_controller() {
        let of = |value: f64, pods: usize, missing| by_pods(&vec![value; pods], missing, 0.6, pods as u32 + missing);
        assert_eq!(of(0.9, 4, 0), Some(6));
        assert_eq!(of(0.66, 4, 0), Some(4), "1.1 is inside the tolerance");
        assert_eq!(of(0.54, 4, 0), Some(4), "0.9 is inside the tolerance");
        assert_eq!(of(0.67, 4, 0), Some(5));
        assert_eq!(of(0.1, 4, 0), Some(1));
        assert_eq!(of(0.0, 4, 0), Some(0));
        assert_eq!(of(0.9, 0, 3), None, "nothing answers");
    }

    /// 4 pods at 0.9 with 2 that start are 0.6 each; with 4 that start they would be too many already.
    #[test]
    fn pods_that_start_damp_both_directions() {
        let of = |value: f64, pods: usize, missing| by_pods(&vec![value; pods], missing, 0.6, pods as u32 + missing);
        assert_eq!(of(0.9, 4, 2), Some(6));
        assert_eq!(of(0.9, 4, 1), Some(6));
        assert_eq!(of(0.9, 4, 4), Some(8), "never turned into a scale-down");
        assert_eq!(of(0.3, 4, 2), Some(4), "(4 x 0.3 + 2 x 0.6) / 6 = 0.4");
    }

    #[test]
    fn averages_do_not_look_at_pods() {
        assert_eq!(by_average(12.0, 2.0, 4), 6);
        assert_eq!(by_average(8.8, 2.0, 4), 4);
        assert_eq!(by_average(7.1, 2.0, 4), 4, "0.8875 x 4 rounds up");
        assert_eq!(by_average(5.9, 2.0, 4), 3);
        assert_eq!(by_average(0.0, 2.0, 4), 0);
        assert_eq!(by_average(0.012, 0.005, 1), 3);
    }

    #[test]
    fn scale_up_is_limited_per_sync() {
        let mut hpa = hpa(100);
        let mut spec = 1;
        let way: Vec<u32> = (0..5)
            .map(|i| {
                spec = hpa.sync(f64::from(i) * 15.0, spec, Some(21));
                spec
            })
            .collect();
        assert_eq!(way, [5, 10, 20, 21, 21]);
    }

    #[test]
    fn the_highest_of_five_minutes_wins_on_the_way_down() {
        let mut hpa = hpa(100);
        assert_eq!(hpa.sync(0.0, 10, Some(9)), 9);
        assert_eq!(hpa.sync(15.0, 9, Some(6)), 9);
        assert_eq!(hpa.sync(30.0, 9, Some(7)), 9);
        assert_eq!(hpa.sync(299.0, 9, Some(3)), 9);
        assert_eq!(hpa.sync(300.0, 9, Some(3)), 7, "the 9 of 300 s ago has gone");
        assert_eq!(hpa.sync(330.0, 7, Some(3)), 3);
        assert_eq!(hpa.sync(345.0, 3, Some(0)), 3);
    }

    #[test]
    fn limits_come_first_and_no_metric_changes_nothing() {
        let mut hpa = hpa(8);
        assert_eq!(hpa.sync(0.0, 0, Some(5)), 1);
        assert_eq!(hpa.sync(0.0, 9, Some(5)), 8);
        assert_eq!(hpa.sync(0.0, 4, None), 4);
        assert_eq!(hpa.sync(15.0, 6, Some(50)), 8);
        assert_eq!(hpa.sync(900.0, 6, Some(0)), 1);
    }

    #[test]
    fn split_hardware_gets_its_routes_once() {
        let room = testing::Room::split(0.25);
        let mut scalers = Scalers::new(&room.setting(0.0), Behaviour::DEFAULT);
        let scene = testing::Scene::new(&[2, 3]);
        let first = scalers.sync(&scene.seen(), |pool| Some(scene.wanted[pool] + 1));
        assert_eq!(first.replicas, [3, 4]);
        let routes = first.routes.expect("given at first");
        assert_eq!(routes.0[&(0, 0)], [(0, 0.25), (1, 0.75)]);
        assert_eq!(scalers.sync(&scene.seen(), |_| None).routes, None);
        let alone = testing::Room::on(1);
        let order = Scalers::new(&alone.setting(0.0), Behaviour::DEFAULT).sync(&scene.seen(), |_| None);
        assert_eq!(order, Order { replicas: vec![0, 3], routes: None });
    }
}
