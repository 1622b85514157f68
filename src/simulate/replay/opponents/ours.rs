//! Our own decision, as the daemon makes it and as HPA follows it.
//!
//! [`decide_within`](crate::control::decide_within) with the policy as it is, at the daemon's interval. HPA reads the
//! number that was published before its sync, so what is decided now is followed at the next one. The scaler is the one
//! of the shipped manifests: External metric, AverageValue 1, tolerance 0, no stabilisation, as many pods in one sync
//! as there can be. Pools that only advise act here: a replay is there to see what that would have been like.

use super::{Kind, Opponent, Order, Seen, Setting};
use crate::control::{State, decide};
use crate::policy::{Mode, Policy};
use crate::simulate::{RouteShares, hpa_desired};

pub(super) const KIND: Ours = Ours;

/// Syncs come a little early or late; an interval is over a second before its end.
const SLACK_SECONDS: f64 = 1.0;

/// See the module.
#[derive(Debug)]
pub(super) struct Ours;

#[derive(Debug)]
struct Daemon {
    policy: Policy,
    state: State,
    decided_at_seconds: f64,
    /// By pool; `None` while nothing may be said.
    published: Vec<Option<u32>>,
}

impl Kind for Ours {
    fn name(&self) -> &'static str {
        "poolwright"
    }

    fn about(&self) -> &'static str {
        "this planner with the policy as it is, followed by the HPA of its manifests"
    }

    fn is_given_hardware(&self) -> bool {
        false
    }

    fn holds_when_blind(&self) -> bool {
        false
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        let mut policy = setting.policy.clone();
        for pool in policy.pools.iter_mut().filter(|pool| pool.mode == Mode::Advise) {
            pool.mode = Mode::Act;
        }
        let published = vec![None; policy.pools.len()];
        Box::new(Daemon { policy, state: State::default(), decided_at_seconds: f64::NEG_INFINITY, published })
    }
}

impl Opponent for Daemon {
    fn sync(&mut self, seen: &Seen<'_>) -> Order {
        let follow = |p: usize| {
            let (pool, wanted) = (&self.policy.pools[p], seen.wanted[p]);
            let Some(desired) = self.published[p] else { return wanted };
            hpa_desired(wanted, wanted, i64::from(desired) * 1000, 0.0, pool.min, pool.max)
        };
        let replicas = (0..self.policy.pools.len()).map(follow).collect();
        let due = seen.now_seconds - self.decided_at_seconds >= self.policy.planner.interval_seconds - SLACK_SECONDS;
        if !due {
            return Order { replicas, routes: None };
        }
        self.decided_at_seconds = seen.now_seconds;
        let state = std::mem::take(&mut self.state);
        let (decision, state) = decide(&self.policy, seen.observation, state, seen.now_seconds);
        self.state = state;
        self.published = decision.pools.iter().map(|pool| pool.desired).collect();
        Order { replicas, routes: Some(RouteShares::from_decision(&self.policy, &decision)) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::*;

    #[test]
    fn what_is_decided_is_followed_at_the_next_sync() {
        let room = Room::on(0);
        let mut rule = Ours.start(room.setting(0.0));
        let scene = |seconds: f64| Scene::new(&[1, 1]).at(seconds).rate(0, 60.0).rate(1, 60.0);
        let first = rule.sync(&scene(0.0).seen());
        assert_eq!(first.replicas, [1, 1], "nothing was published before");
        let routes = first.routes.expect("a decision has routes");
        assert!((routes.0[&(0, 0)].iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-9);
        let second = rule.sync(&scene(15.0).seen());
        assert!(second.replicas.iter().sum::<u32>() > 2, "{second:?}");
    }

    #[test]
    fn advice_is_followed_and_what_is_off_stays() {
        let mut room = Room::on(0);
        room.policy.pools[0].mode = Mode::Advise;
        room.policy.pools[1].mode = Mode::Off;
        let mut rule = Ours.start(room.setting(0.0));
        let scene = |seconds: f64| Scene::new(&[1, 1]).at(seconds).rate(0, 60.0).rate(1, 60.0);
        rule.sync(&scene(0.0).seen());
        let order = rule.sync(&scene(15.0).seen());
        assert!(order.replicas[0] > 1 && order.replicas[1] == 1, "{order:?}");
    }
}
