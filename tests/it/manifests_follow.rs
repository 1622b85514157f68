//! Rendered HPAs in the controller's arithmetic: one sync from any number to any other.

use poolwright::cluster::manifests::{KubernetesVersion, Options};
use poolwright::policy::Mode;
use poolwright::simulate::{hpa_desired, parse_quantity_milli};
use serde_json::Value;

use crate::manifests_objects::{all, find, policy};

/// What HPA writes next. `started` is the number of replicas one period ago; status and spec are equal.
fn one_sync(hpa: &Value, started: u32, now: u32, published: u32) -> u32 {
    let spec = &hpa["spec"];
    let number = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let metric = &spec["metrics"][0]["external"]["target"];
    assert_eq!((&metric["type"], &metric["averageValue"]), (&"AverageValue".into(), &"1".into()));
    let rules = &spec["behavior"][if published > now { "scaleUp" } else { "scaleDown" }];
    assert_eq!((&rules["stabilizationWindowSeconds"], &rules["selectPolicy"]), (&0.into(), &"Max".into()));
    let tolerance =
        rules.get("tolerance").map_or(0.1, |t| parse_quantity_milli(t.as_str().unwrap()).unwrap() as f64 / 1000.0);
    let (min, max) = (number(&spec["minReplicas"]), number(&spec["maxReplicas"]));
    let wanted = hpa_desired(now, now, i64::from(published) * 1000, tolerance, min, max);
    let [policy] = &rules["policies"].as_array().unwrap()[..] else { panic!("one policy") };
    assert_eq!(policy["type"], "Pods");
    let (value, period) = (number(&policy["value"]), number(&policy["periodSeconds"]));
    assert!(value > 0 && (1..=1800).contains(&period), "what a server accepts");
    wanted.clamp(started.saturating_sub(value), started + value)
}

#[test]
fn one_sync_reaches_every_published_number_from_every_other() {
    let mut fleet = policy("quickstart", Mode::Act);
    for max in [1, 2, 5, 16, 33] {
        fleet.pools.iter_mut().for_each(|p| p.max = max);
        let rendered = all(&fleet, &Options::default());
        for pool in &fleet.pools {
            let hpa = &find(&rendered, &format!("HorizontalPodAutoscaler {}", pool.id())).object;
            for now in pool.min..=max {
                for (published, started) in (pool.min..=max).flat_map(|p| (pool.min..=max).map(move |s| (p, s))) {
                    assert_eq!(one_sync(hpa, started, now, published), published, "{started} -> {now}, max {max}");
                }
            }
        }
    }
    fleet.pools.iter_mut().for_each(|p| p.max = 5000);
    let rendered = all(&fleet, &Options::default());
    let hpa = &find(&rendered, &format!("HorizontalPodAutoscaler {}", fleet.pools[0].id())).object;
    for (now, published) in [(1, 5000), (5000, 1), (4999, 5000), (5000, 4999), (2500, 2501)] {
        assert_eq!(one_sync(hpa, now, now, published), published);
    }
}

#[test]
fn old_clusters_follow_up_to_a_tenth() {
    let mut fleet = policy("quickstart", Mode::Act);
    fleet.pools.iter_mut().for_each(|p| p.max = 40);
    let options = Options { kubernetes: KubernetesVersion { minor: 34 }, ..Options::default() };
    let rendered = all(&fleet, &options);
    let hpa = &find(&rendered, &format!("HorizontalPodAutoscaler {}", fleet.pools[0].id())).object;
    for (now, published, reached) in [(9, 10, 10), (10, 11, 10), (10, 12, 12), (20, 22, 20), (20, 17, 17), (3, 2, 2)] {
        assert_eq!(one_sync(hpa, now, now, published), reached, "{now}, {published} published");
    }
}
