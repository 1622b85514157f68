//! The scenario of the whole-chain test, rehearsed in virtual time, so that it keeps its properties.

use poolwright::simulate::{Moves, Pace};

use crate::simulate_chain_support::{Chain, SYNC_SECONDS};

/// Length of the run, seconds.
const LENGTH: u32 = 600;
const PACE: Pace = Pace { sync_seconds: SYNC_SECONDS as f64, slack_seconds: 0.5 };

fn of<'a>(moves: &'a [Moves], pool: &str) -> &'a Moves {
    moves.iter().find(|m| m.pool == pool).unwrap()
}

/// Also with pods that only a model of a cluster creates: every number arrives, nothing is lost, the promise
/// is kept, and the pools move as often as the test with a real control plane needs.
#[tokio::test]
async fn the_scenario_moves_enough_and_keeps_the_promise() {
    let mut chain = Chain::start(7).await;
    chain.run(LENGTH).await;
    let followed = chain.record.followed(PACE, &[]);
    assert_eq!(followed.violations, Vec::new());
    assert!(followed.checked > 300 && followed.excused == 0, "{followed:?}");

    let moves = chain.record.moves();
    for pool in ["fleet/chat-l40s", "fleet/code-l40s"] {
        assert!(of(&moves, pool).up >= 3 && of(&moves, pool).down >= 3, "{moves:?}");
    }
    let overflow = of(&moves, "fleet/chat-h100");
    assert!(overflow.up >= 1 && overflow.down >= 1, "it comes and goes: {moves:?}");
    assert!(moves.iter().map(|m| m.most).sum::<u32>() <= 24, "small enough for a test machine: {moves:?}");

    let (services, cost) = chain.finish();
    for service in &services {
        assert!(service.outside.attainment().unwrap() >= 0.99, "{services:?}");
    }
    let arrived: u64 = services.iter().map(|s| s.outside.arrived).sum();
    assert!((15_000..60_000).contains(&arrived), "a load to speak of, and small enough: {arrived}");
    assert!(cost > 0.0);
}

/// A load that stays and data that goes: two minutes without a page, nothing shrinks.
#[tokio::test]
async fn nothing_shrinks_while_no_page_answers() {
    let mut chain = Chain::start(7).await;
    chain.run(200).await;
    let window = chain.blind(120).await;
    assert_eq!(chain.record.shrunk(PACE, &[window]), Vec::new());
    chain.run(60).await;
    assert_eq!(chain.record.followed(PACE, &[window]).violations, Vec::new());
}
