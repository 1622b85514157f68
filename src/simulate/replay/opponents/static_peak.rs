//! A fleet of fixed size, bought for the busiest minute.

use super::{Kind, Opponent, Order, Seen, Setting};
use crate::control::{State, size};

pub(super) const KIND: StaticPeak = StaticPeak;

/// See the module.
#[derive(Debug)]
pub(super) struct StaticPeak;

/// Replicas that never change.
#[derive(Debug, PartialEq)]
pub(super) struct Fixed {
    pub replicas: Vec<u32>,
}

impl Kind for StaticPeak {
    fn name(&self) -> &'static str {
        "static-peak"
    }

    fn about(&self) -> &'static str {
        "what our planner would buy for the dearest minute, known beforehand"
    }

    fn is_given_hardware(&self) -> bool {
        false
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        Box::new(fixed(&setting, 1.0))
    }
}

/// What our planner would buy for the minute than which `share` (0..=1) of the minutes are no dearer; nothing when
/// there is no minute.
pub(super) fn fixed(setting: &Setting<'_>, share: f64) -> Fixed {
    let mut state = State::default();
    let minutes = setting.truth.minutes.iter();
    let mut sized: Vec<_> = minutes.map(|demands| size(setting.policy, demands, &mut state)).collect();
    // Sorting keeps the order of equals: the last of the dearest is taken wherever they lie.
    sized.sort_by(|a, b| a.cost_per_hour.total_cmp(&b.cost_per_hour));
    let rank = (share * sized.len() as f64).ceil() as usize;
    let minute = sized.get(rank.saturating_sub(1)).map(|s| s.replicas.clone());
    Fixed { replicas: minute.unwrap_or_else(|| vec![0; setting.policy.pools.len()]) }
}

impl Opponent for Fixed {
    fn sync(&mut self, _seen: &Seen<'_>) -> Order {
        Order { replicas: self.replicas.clone(), routes: None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::*;

    #[test]
    fn the_busiest_minute_and_the_one_that_most_are_below() {
        let rates: Vec<f64> = (1..=20).map(|i| if i == 7 { 400.0 } else { f64::from(i) * 5.0 }).collect();
        let room = Room::on(0).with_minutes(&rates);
        let needed = |rate: f64| {
            let one = Room::on(0).with_minutes(&[rate]);
            size(&one.policy, &one.truth.minutes[0], &mut State::default()).replicas
        };
        assert_eq!(fixed(&room.setting(0.0), 1.0).replicas, needed(400.0));
        assert_eq!(fixed(&room.setting(0.0), 0.95).replicas, needed(100.0));
        assert_ne!(needed(400.0), needed(100.0));
        let mut rule = StaticPeak.start(room.setting(0.0));
        assert_eq!(rule.sync(&Scene::new(&[1, 0]).seen()).replicas, needed(400.0));
        assert_eq!(fixed(&Room::on(0).setting(0.0), 1.0).replicas, [0, 0]);
    }
}
