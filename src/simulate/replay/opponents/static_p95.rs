//! A fleet of fixed size, bought for a minute than which one in twenty is busier.

use super::static_peak::fixed;
use super::{Kind, Opponent, Setting};

pub(super) const KIND: StaticP95 = StaticP95;

/// See the module.
#[derive(Debug)]
pub(super) struct StaticP95;

impl Kind for StaticP95 {
    fn name(&self) -> &'static str {
        "static-p95"
    }

    fn about(&self) -> &'static str {
        "what our planner would buy for the 95th percentile of the minutes by cost, known beforehand"
    }

    fn is_given_hardware(&self) -> bool {
        false
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        Box::new(fixed(&setting, 0.95))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::*;

    #[test]
    fn rare_peaks_are_not_bought_for() {
        let mut rates = vec![10.0; 40];
        rates[11] = 500.0;
        let replicas = |rates: &[f64]| {
            let room = Room::on(0).with_minutes(rates);
            StaticP95.start(room.setting(0.0)).sync(&Scene::new(&[1, 0]).seen()).replicas
        };
        assert_eq!(replicas(&rates), replicas(&[10.0]));
        assert_ne!(replicas(&[500.0]), replicas(&[10.0]));
    }
}
