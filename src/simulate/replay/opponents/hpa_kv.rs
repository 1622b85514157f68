//! HPA on the KV-cache utilisation of the pods.
//!
//! The usual recipe of vLLM's production stack and others: a metric of type Pods, `vllm:kv_cache_usage_perc`, target
//! AverageValue; the law is that of [`super::law`].

use super::law::{Behaviour, Scalers, by_pods};
use super::view::pending;
use super::{Kind, Opponent, Order, Seen, Setting};

pub(super) const KIND: HpaKv = HpaKv;

/// See the module.
#[derive(Debug)]
pub(super) struct HpaKv;

#[derive(Debug)]
struct Rule {
    scalers: Scalers,
    target: f64,
}

impl Kind for HpaKv {
    fn name(&self) -> &'static str {
        "hpa-kv"
    }

    fn about(&self) -> &'static str {
        "HPA on the mean KV-cache utilisation of the pods (autoscaling/v2, defaults)"
    }

    fn target(&self) -> &'static str {
        "KV-cache utilisation, 0..1"
    }

    fn targets(&self) -> Vec<f64> {
        vec![0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    }

    fn start<'a>(&self, setting: Setting<'a>) -> Box<dyn Opponent + 'a> {
        Box::new(Rule { scalers: Scalers::new(&setting, Behaviour::DEFAULT), target: setting.target })
    }
}

impl Opponent for Rule {
    fn sync(&mut self, seen: &Seen<'_>) -> Order {
        self.scalers.sync(seen, |pool| {
            let usage: Vec<f64> = seen.replicas[pool].iter().map(|r| r.kv_usage).collect();
            by_pods(&usage, pending(seen, pool), self.target, seen.wanted[pool])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::*;

    #[test]
    fn four_pods_at_nine_tenths_become_six() {
        let room = Room::on(0);
        let mut rule = HpaKv.start(room.setting(0.6));
        assert_eq!(rule.sync(&Scene::new(&[4, 0]).gauges(0, 9.0, 0.0, 0.9).seen()).replicas, [6, 0]);
        let starting = Scene::new(&[4, 0]).gauges(0, 9.0, 0.0, 0.9).starting(0, 2).at(15.0);
        assert_eq!(rule.sync(&starting.seen()).replicas, [6, 0], "those that start count");
    }
}
