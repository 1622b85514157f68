//! Our planner with the true rates of the minutes to come, and replicas that take their time to start.
//!
//! What a perfect forecast would be worth. In every minute the fleet is sized for the highest rates from now until a
//! replica that is asked for now is ready and an interval after. A pool grows at once and shrinks to what none of the
//! plans of the last and the next start-up time needs: what is left is not missed before its successor is ready, and
//! nothing is given away that would be started again at once.

use std::collections::BTreeMap;

use super::forecast_only::LAG_SECONDS;
use super::{Kind, Opponent, Order, Seen, Setting};
use crate::control::{GivenDemand, State, size};

pub(super) const KIND: Oracle = Oracle;

const MINUTE_SECONDS: f64 = 60.0;

/// See the module.
#[derive(Debug)]
pub(super) struct Oracle;

/// The planner at work on rates that it knows.
#[derive(Debug)]
pub(super) struct Knowing<'a> {
    setting: Setting<'a>,
    state: State,
    /// Minutes after the present one that are planned for.
    ahead: usize,
    /// Minutes before and after the present one whose plans are kept.
    held: usize,
    /// Plans by minute: replicas of every pool.
    plans: BTreeMap<usize, Vec<u32>>,
    replicas: Vec<u32>,
}

impl Kind for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn about(&self) -> &'static str {
        "our planner with the true rates of the minutes to come and the real start-up time"
    }

    fn target(&self) -> &'static str {
        "factor on the true rates"
    }

    fn targets(&self) -> Vec<f64> {
        vec![0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3]
    }

    fn is_given_hardware(&self) -> bool {
        false
    }

    fn knows_future(&self) -> bool {
        true
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        // The slowest start decides for all: a plan's pools carry the load together.
        let slowest = setting.policy.pools.iter().map(|p| p.startup_seconds).fold(0.0, f64::max);
        let minutes = ((slowest + LAG_SECONDS) / MINUTE_SECONDS).ceil() as usize;
        Box::new(Knowing::new(setting, minutes, minutes))
    }
}

impl<'a> Knowing<'a> {
    pub fn new(setting: Setting<'a>, ahead: usize, held: usize) -> Self {
        let replicas = vec![0; setting.policy.pools.len()];
        Self { setting, state: State::default(), ahead, held, plans: BTreeMap::new(), replicas }
    }

    fn plan(&mut self, minute: usize) -> Vec<u32> {
        if let Some(plan) = self.plans.get(&minute) {
            return plan.clone();
        }
        let demands = highest(&self.setting, minute, minute + self.ahead);
        let plan = size(self.setting.policy, &demands, &mut self.state).replicas;
        self.plans.insert(minute, plan.clone());
        plan
    }
}

/// The highest rate of every class within these minutes, with the lengths of each model's busiest minute.
fn highest(setting: &Setting<'_>, first: usize, last: usize) -> Vec<GivenDemand> {
    let minutes = &setting.truth.minutes;
    let end = minutes.len().saturating_sub(1);
    // Past the end of the run its last minute goes on.
    let within = if minutes.is_empty() { &[][..] } else { &minutes[first.min(end)..=last.min(end)] };
    let total = |demand: &&GivenDemand| demand.classes.iter().map(|(_, rate)| rate).sum::<f64>();
    let of_model = |model: usize| {
        let all = within.iter().filter_map(|minute| minute.get(model));
        let busiest = all.clone().max_by(|a, b| total(a).total_cmp(&total(b)))?;
        let rate = |class: usize| all.clone().flat_map(|d| &d.classes).filter(move |c| c.0 == class).map(|c| c.1);
        let classes = busiest.classes.iter().map(|(class, _)| {
            (*class, setting.target * rate(*class).fold(0.0, f64::max))
        });
        Some(GivenDemand { classes: classes.collect(), buckets: busiest.buckets.clone() })
    };
    let nothing = || GivenDemand { classes: vec![], buckets: vec![] };
    (0..setting.policy.models.len()).map(|m| of_model(m).unwrap_or_else(nothing)).collect()
}

impl Opponent for Knowing<'_> {
    fn sync(&mut self, seen: &Seen<'_>) -> Order {
        let since = ((seen.now_seconds - self.setting.truth.start_seconds) / MINUTE_SECONDS).max(0.0);
        let minute = since as usize;
        let earliest = minute.saturating_sub(self.held);
        self.plans.retain(|m, _| *m >= earliest);
        let wanted = self.plan(minute);
        let mut most = wanted.clone();
        for other in earliest..=minute + self.held {
            // Before the first sync nothing was planned that could be missed.
            if other < minute && !self.plans.contains_key(&other) {
                continue;
            }
            most.iter_mut().zip(self.plan(other)).for_each(|(most, n)| *most = (*most).max(n));
        }
        for ((n, wanted), most) in self.replicas.iter_mut().zip(&wanted).zip(&most) {
            *n = (*n).clamp(*wanted, *most);
        }
        Order { replicas: self.replicas.clone(), routes: None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::*;

    /// Replicas of the given minute's rate alone.
    fn needed(rate: f64) -> Vec<u32> {
        let room = Room::on(0).with_minutes(&[rate]);
        size(&room.policy, &room.truth.minutes[0], &mut State::default()).replicas
    }

    /// Start-up of two minutes and the lag: three minutes ahead.
    #[test]
    fn grows_before_the_load_and_shrinks_when_it_is_not_needed_again() {
        let mut rates = vec![10.0; 30];
        rates[10..12].fill(300.0);
        rates[15] = 300.0;
        let room = Room::on(0).with_minutes(&rates);
        let mut oracle = Oracle.start(room.setting(1.0));
        let mut at = |minute: u32| {
            let scene = Scene::new(&[1, 0]).at(60.0 * f64::from(minute));
            oracle.sync(&scene.seen()).replicas
        };
        let plans: Vec<Vec<u32>> = (0..30).map(&mut at).collect();
        let (low, high) = (needed(10.0), needed(300.0));
        assert!((0..7).all(|m| plans[m] == low), "{plans:?}");
        assert!((7..=18).all(|m| plans[m] == high), "kept over the gap and a start-up time after: {plans:?}");
        assert!((19..30).all(|m| plans[m] == low), "{plans:?}");
    }

    #[test]
    fn the_target_is_a_factor_on_the_rates() {
        let room = Room::on(0).with_minutes(&[100.0]);
        let replicas = |target| Oracle.start(room.setting(target)).sync(&Scene::new(&[1, 0]).seen()).replicas;
        assert_eq!(replicas(1.0), needed(100.0));
        assert_eq!(replicas(3.0), needed(300.0));
    }
}
