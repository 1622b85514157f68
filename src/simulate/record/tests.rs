use super::*;

const POOL: &str = "fleet/a";
const PACE: Pace = Pace { sync_seconds: 2.0, slack_seconds: 1.0 };

/// Ticks every 5 s from 0 with these numbers, all fresh.
fn ticks(numbers: &[u32]) -> Record {
    let mut record = Record::default();
    for (index, number) in numbers.iter().enumerate() {
        record.published(POOL, 5.0 * index as f64, Some(*number), true);
    }
    record
}

fn both(record: &mut Record, at: f64, replicas: u32) {
    record.seen(POOL, Side::Desired, at, replicas);
    record.seen(POOL, Side::Spec, at, replicas);
}

fn window(from_seconds: f64, to_seconds: f64) -> Window {
    Window { from_seconds, to_seconds }
}

#[test]
fn a_number_that_arrives_in_time_is_followed() {
    let mut record = ticks(&[3, 3, 7, 7]);
    both(&mut record, 0.0, 3);
    both(&mut record, 12.9, 7);
    both(&mut record, 20.0, 7);
    let outcome = record.followed(PACE, &[]);
    assert_eq!((outcome.checked, outcome.overtaken, outcome.violations), (4, 0, vec![]));
}

#[test]
fn a_side_that_is_late_or_stays_away_is_named() {
    let mut record = ticks(&[3, 7, 7]);
    both(&mut record, 0.0, 3);
    record.seen(POOL, Side::Desired, 7.0, 7);
    record.seen(POOL, Side::Spec, 8.5, 7);
    both(&mut record, 20.0, 7);
    let expected = Violation::NotFollowed {
        pool: POOL.into(),
        side: Side::Spec,
        published_seconds: 5.0,
        published: 7,
        at_seconds: 8.0,
        seen: 3,
    };
    assert_eq!(record.followed(PACE, &[]).violations, vec![expected]);
}

#[test]
fn a_number_that_does_not_stay_is_seen_between_the_ticks() {
    let mut record = ticks(&[4, 4, 4]);
    both(&mut record, 0.0, 4);
    record.seen(POOL, Side::Spec, 9.0, 5);
    record.seen(POOL, Side::Spec, 10.0, 4);
    both(&mut record, 20.0, 4);
    let violations = record.followed(PACE, &[]).violations;
    assert!(
        matches!(violations[..], [Violation::NotFollowed { published_seconds: 5.0, seen: 5, at_seconds: 9.0, .. }]),
        "{violations:?}"
    );
}

#[test]
fn an_overtaken_or_withheld_number_is_held_against_nobody() {
    let mut record = Record::default();
    for (at, number) in [(0.0, Some(3)), (2.0, Some(9)), (4.0, Some(3)), (10.0, None), (30.0, Some(8))] {
        record.published(POOL, at, number, true);
    }
    both(&mut record, 0.0, 3);
    let outcome = record.followed(PACE, &[]);
    assert_eq!((outcome.checked, outcome.overtaken, outcome.violations), (1, 4, vec![]));
}

#[test]
fn a_side_that_nobody_watched_does_not_pass() {
    let mut record = ticks(&[3, 3, 3]);
    record.seen(POOL, Side::Spec, 0.0, 3);
    let outcome = record.followed(PACE, &[]);
    assert_eq!((outcome.checked, outcome.violations.len()), (2, 2));
    assert!(outcome.violations.iter().all(|v| matches!(v, Violation::NotSeen { side: Side::Desired, .. })));
}

#[test]
fn a_window_excuses_what_touches_it() {
    let mut record = ticks(&[3, 7, 7, 7]);
    both(&mut record, 0.0, 3);
    both(&mut record, 17.0, 7);
    both(&mut record, 20.0, 7);
    assert_eq!(record.followed(PACE, &[]).violations.len(), 4, "both sides, twice");
    let outcome = record.followed(PACE, &[window(6.0, 14.0)]);
    assert_eq!((outcome.checked, outcome.excused, outcome.violations), (2, 2, vec![]));
}

#[test]
fn a_pool_may_shrink_in_a_window_only_on_a_fresh_word() {
    let shrink = |fresh: bool, number: u32, published: f64| {
        let mut record = Record::default();
        record.published(POOL, 0.0, Some(9), true);
        record.published(POOL, published, Some(number), fresh);
        record.published(POOL, 30.0, Some(9), true);
        record.seen(POOL, Side::Spec, 0.0, 9);
        record.seen(POOL, Side::Spec, 22.0, 4);
        record.shrunk(PACE, &[window(20.0, 40.0)])
    };
    let violation = Violation::Shrunk { pool: POOL.into(), at_seconds: 22.0, from: 9, to: 4 };
    assert_eq!(shrink(true, 4, 18.0), vec![]);
    assert_eq!(shrink(false, 4, 18.0), vec![violation.clone()], "not from fresh data");
    assert_eq!(shrink(true, 5, 18.0), vec![violation.clone()], "another number");
    assert_eq!(shrink(true, 4, 23.0), vec![violation], "said afterwards");
}

#[test]
fn outside_the_windows_nobody_asks_why() {
    let mut record = Record::default();
    for (at, replicas) in [(0.0, 9), (22.0, 4), (30.0, 6)] {
        record.seen(POOL, Side::Spec, at, replicas);
    }
    assert_eq!(record.shrunk(PACE, &[window(23.0, 40.0)]), vec![]);
    assert_eq!(record.moves(), vec![Moves { pool: POOL.into(), up: 1, down: 1, least: 4, most: 9 }]);
}
