//! Where a correction is shown: the JSON of the decision and the metrics.

use poolwright::control::{Decision, LiveCorrection};

use crate::serve_support::{Daemon, decision, pool};

fn corrected() -> Decision {
    let mut slow = pool("n", "slow", 3);
    slow.capacity_stretch = Some(1.2);
    slow.live = Some(LiveCorrection {
        iteration: 1.62,
        tokens: 1.58,
        kv: 1.4,
        itl: 1.6,
        spread: 0.08,
        windows: 12,
        drift: true,
    });
    Decision { pools: vec![slow, pool("n", "unseen", 3)], ..decision() }
}

#[tokio::test]
async fn the_decision_carries_the_factors_of_corrected_pools() {
    let body = Daemon::new(corrected()).get("/v1/decision").await.body;
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!({
        "iteration": 1.62, "tokens": 1.58, "kv": 1.4, "itl": 1.6, "spread": 0.08, "windows": 12, "drift": true,
    });
    assert_eq!(json["pools"][0]["live"], expected);
    assert_eq!(json["pools"][1].get("live"), None);
}

#[tokio::test]
async fn the_metrics_carry_them_too() {
    let body = Daemon::new(corrected()).get("/metrics").await.body;
    let labels = "namespace=\"n\",pool=\"slow\",model=\"meta-llama/Llama-3.1-70B\"";
    for (factor, value) in [("iteration", "1.62"), ("tokens", "1.58"), ("kv", "1.4"), ("itl", "1.6")] {
        let line = format!("poolwright_pool_correction_ratio{{{labels},factor=\"{factor}\"}} {value}\n");
        assert!(body.contains(&line), "{line}");
    }
    assert!(body.contains(&format!("poolwright_pool_model_drift{{{labels}}} 1")));
    assert!(body.contains(&format!("poolwright_pool_reserve_ratio{{{labels}}} 0.08\n")));
    assert!(body.contains(&format!("poolwright_pool_capacity_stretch_ratio{{{labels}}} 1.2\n")));
    assert!(!body.lines().any(|l| l.contains("unseen") && (l.contains("correction") || l.contains("drift"))));
}
