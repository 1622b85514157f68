//! Our planner with the true rates and replicas that start at once: what nobody can be cheaper than.
//!
//! Sized for the present minute and the next, and shrunk at once.

use super::oracle::Knowing;
use super::{Kind, Opponent, Setting};

pub(super) const KIND: OracleInstant = OracleInstant;

/// See the module.
#[derive(Debug)]
pub(super) struct OracleInstant;

impl Kind for OracleInstant {
    fn name(&self) -> &'static str {
        "oracle-instant"
    }

    fn about(&self) -> &'static str {
        "our planner with the true rates and replicas that start at once: the floor"
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

    fn has_instant_start(&self) -> bool {
        true
    }

    fn knows_future(&self) -> bool {
        true
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        Box::new(Knowing::new(setting, 1, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::*;

    #[test]
    fn follows_this_minute_and_the_next() {
        let mut rates = vec![10.0; 12];
        rates[5] = 300.0;
        let room = Room::on(0).with_minutes(&rates);
        let mut rule = OracleInstant.start(room.setting(1.0));
        let costs: Vec<Vec<u32>> = (0..12)
            .map(|minute| rule.sync(&Scene::new(&[1, 0]).at(60.0 * f64::from(minute)).seen()).replicas)
            .collect();
        assert_eq!(costs[4], costs[5]);
        assert_ne!(costs[3], costs[4]);
        assert_eq!(costs[6], costs[3]);
    }
}
