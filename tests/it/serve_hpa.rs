//! What a HorizontalPodAutoscaler makes of the answers, by the controller's own arithmetic.

use poolwright::control::Decision;
use poolwright::simulate::{hpa_desired, parse_quantity_milli};

use crate::serve_support::{Daemon, EM, decision, pool};

/// Replicas that are written for what the API answers, with wide bounds; `None` when replicas are held.
async fn followed(daemon: &Daemon, selector: &str, status: u32, spec: u32, tolerance: f64) -> Option<u32> {
    let path = format!("{EM}/namespaces/n/poolwright_desired_replicas?labelSelector={selector}");
    let answer = daemon.get(&path).await;
    if !answer.status.is_success() {
        return None;
    }
    let list = answer.json();
    let items = list["items"].as_array().expect("items");
    if items.is_empty() {
        return None;
    }
    let milli = items.iter().map(|item| parse_quantity_milli(item["value"].as_str().unwrap()).unwrap()).sum();
    Some(hpa_desired(status, spec, milli, tolerance, 0, 1000))
}

fn wanting(numbers: &[u32]) -> Daemon {
    let pools = numbers.iter().enumerate().map(|(index, n)| pool("n", &format!("p{index}"), *n)).collect();
    Daemon::new(Decision { pools, ..decision() })
}

#[tokio::test]
async fn a_number_is_followed_outside_the_tolerance_and_always_without_one() {
    assert_eq!(followed(&wanting(&[21]), "pool%3Dp0", 20, 20, 0.0).await, Some(21));
    assert_eq!(followed(&wanting(&[21]), "pool%3Dp0", 20, 20, 0.1).await, Some(20));
    assert_eq!(followed(&wanting(&[23]), "pool%3Dp0", 20, 20, 0.1).await, Some(23));
    for current in [1, 9, 10, 19, 20, 29, 30, 50, 100] {
        for wanted in [0, 1, current - 1, current, current + 1, 500] {
            assert_eq!(followed(&wanting(&[wanted]), "pool%3Dp0", current, current, 0.0).await, Some(wanted));
        }
    }
}

#[tokio::test]
async fn the_smallest_step_that_acts_under_the_default_tolerance() {
    for (current, step) in [(9, 1), (10, 2), (19, 2), (20, 3), (30, 4), (50, 6), (100, 11)] {
        for (wanted, expected) in [
            (current + step - 1, current),
            (current + step, current + step),
            (current + 1 - step, current),
            (current - step, current - step),
        ] {
            let found = followed(&wanting(&[wanted]), "pool%3Dp0", current, current, 0.1).await;
            assert_eq!(found, Some(expected), "{current} -> {wanted}");
        }
    }
}

/// Inside the tolerance the pods that exist are written, surge pods of a rolling update included.
#[tokio::test]
async fn surge_pods_drift_in_only_with_a_tolerance() {
    assert_eq!(followed(&wanting(&[12]), "pool%3Dp0", 13, 10, 0.1).await, Some(13));
    assert_eq!(followed(&wanting(&[12]), "pool%3Dp0", 13, 10, 0.0).await, Some(12));
}

#[tokio::test]
async fn items_are_added_up_and_a_second_replica_of_ours_does_not_double_them() {
    let (one, two) = (wanting(&[1, 2, 3]), wanting(&[1, 2, 3]));
    for daemon in [&one, &two] {
        assert_eq!(followed(daemon, "", 1, 1, 0.0).await, Some(6));
        assert_eq!(followed(daemon, "pool%20in%20(p0,p2)", 1, 1, 0.0).await, Some(4));
    }
}

#[tokio::test]
async fn without_a_number_replicas_are_held() {
    let daemon = wanting(&[5]);
    assert_eq!(followed(&daemon, "pool%3Dnobody", 3, 3, 0.0).await, None, "an empty list");
    daemon.clock.set(crate::serve_support::AT + 1000.0);
    assert_eq!(followed(&daemon, "pool%3Dp0", 3, 3, 0.0).await, None, "a stale decision");
}
