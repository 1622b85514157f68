//! A fleet of fixed size, bought for the busiest minute.

use super::{Kind, Opponent, Order, Seen, Setting};
use crate::control::{State, size};

pub(super) const KIND: StaticPeak = StaticPeak;

/// See the module.
#[derive(Debug)]
pub(super) struct StaticPeak;

#[derive(Debug)]
struct Fixed {
    replicas: Vec<u32>,
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
        let mut state = State::default();
        let sized = setting.truth.minutes.iter().map(|demands| size(setting.policy, demands, &mut state));
        let dearest = sized.reduce(|a, b| if b.cost_per_hour > a.cost_per_hour { b } else { a });
        Box::new(Fixed { replicas: dearest.map_or(vec![0; setting.policy.pools.len()], |s| s.replicas) })
    }
}

impl Opponent for Fixed {
    fn sync(&mut self, _seen: &Seen<'_>) -> Order {
        Order { replicas: self.replicas.clone(), routes: None }
    }
}
