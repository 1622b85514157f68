//! HPA's arithmetic, asked of the real controller: which steps it takes at which tolerance.

use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::join_all;

use crate::harness::World;
use crate::harness::hpa::{AVERAGE, Hpa, Status};
use crate::harness::published::Say;
use crate::harness::recorder::Recorder;
use crate::harness::scalable::{self, Scalable};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// One object with an HPA.
struct Row {
    name: String,
    status: Status,
    recorder: Recorder,
    _scalable: Scalable,
}

/// Where a row begins.
struct Start {
    replicas: i64,
    running: i64,
    published: i64,
}

impl Row {
    async fn start(world: &mut World, namespace: &str, start: Start, tolerance: Option<&str>, goal: &str) -> Self {
        let Start { replicas, running, published } = start;
        // Two rows may begin alike.
        let name = format!("row-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        world.server.say(namespace, &name, Say::Number(published.try_into().expect("small numbers")));
        let scalable = Scalable::create(&world.client, namespace, &name, replicas, running).await;
        let recorder = Recorder::start(&world.client, &scalable::resource(), namespace, &name).await;
        let target = scalable::TARGET;
        Hpa { namespace, name: &name, target, max: 200, tolerance, goal }.apply(&world.kubectl);
        Self { name, status: Status::of(&world.client, namespace), recorder, _scalable: scalable }
    }
}

async fn prepare(world: &World, namespace: &str) {
    world.namespace(namespace);
    scalable::install(&world.kubectl, &world.client).await;
}

pub async fn every_step_counts_at_tolerance_zero(world: &mut World) {
    let namespace = "table-zero";
    prepare(world, namespace).await;
    let mut rows = Vec::new();
    for replicas in [1, 9, 10, 19, 20, 30, 100] {
        for published in [replicas - 1, replicas + 1] {
            let start = Start { replicas, running: replicas, published };
            rows.push((replicas, published, Row::start(world, namespace, start, Some("0"), AVERAGE).await));
        }
    }
    join_all(rows.iter().map(async |(replicas, published, row)| {
        row.recorder.reaches(*published).await;
        row.status.wait_read(&row.name, *published, *replicas).await;
        assert_eq!(row.recorder.seen(), [*replicas, *published]);
    }))
    .await;
    world.forget_namespace(namespace);
}

pub async fn the_default_tolerance_hides_small_steps(world: &mut World) {
    let namespace = "table-default";
    prepare(world, namespace).await;
    let mut rows = Vec::new();
    // The smallest step that acts.
    for (replicas, step) in [(9, 1), (10, 2), (19, 2), (20, 3), (30, 4), (50, 6), (100, 11)] {
        for direction in [-1, 1] {
            let published = replicas + direction * (step - 1);
            let start = Start { replicas, running: replicas, published };
            let row = Row::start(world, namespace, start, None, AVERAGE).await;
            rows.push((replicas, published, published + direction, row));
        }
    }
    join_all(rows.iter().map(async |(replicas, published, _, row)| {
        row.status.wait_read(&row.name, *published, *replicas).await;
        assert_eq!(row.recorder.seen(), [*replicas], "{published} is within the tolerance");
    }))
    .await;
    for (_, _, outside, row) in &rows {
        world.server.say(namespace, &row.name, Say::Number((*outside).try_into().expect("small numbers")));
    }
    join_all(rows.iter().map(async |(replicas, _, outside, row)| {
        row.recorder.reaches(*outside).await;
        assert_eq!(row.recorder.seen(), [*replicas, *outside]);
    }))
    .await;
    world.forget_namespace(namespace);
}

/// Hundredths of replicas against a target of a hundred: the same arithmetic for numbers that are not whole.
pub async fn the_default_tolerance_rounds_fractions_up(world: &mut World) {
    let namespace = "table-fractions";
    prepare(world, namespace).await;
    let table = [
        (11, 1200, 11),
        (9, 1000, 10),
        (12, 1100, 12),
        (12, 1001, 11),
        (10, 900, 10),
        (10, 801, 9),
        (20, 2100, 20),
        (20, 2300, 23),
        (10, 1100, 10),
    ];
    let mut rows = Vec::new();
    for (replicas, published, wanted) in table {
        let start = Start { replicas, running: replicas, published };
        let goal = r#"type: AverageValue, averageValue: "100""#;
        rows.push((replicas, published, wanted, Row::start(world, namespace, start, None, goal).await));
    }
    join_all(rows.iter().map(async |(replicas, published, wanted, row)| {
        row.status.wait_read(&row.name, *published, *replicas).await;
        row.recorder.reaches(*wanted).await;
        let seen = row.recorder.seen();
        let expected = if replicas == wanted { vec![*replicas] } else { vec![*replicas, *wanted] };
        assert_eq!(seen, expected, "{published} hundredths");
    }))
    .await;
    world.forget_namespace(namespace);
}

/// Ten replicas, of which a rolling update runs thirteen, should become twelve. Within the default tolerance HPA
/// takes what runs for what is wanted.
pub async fn surge_pods_do_not_count_at_tolerance_zero(world: &mut World) {
    for (namespace, tolerance, wanted) in [("surge-zero", Some("0"), 12), ("surge-default", None, 13)] {
        prepare(world, namespace).await;
        let start = Start { replicas: 10, running: 13, published: 12 };
        let row = Row::start(world, namespace, start, tolerance, AVERAGE).await;
        row.recorder.reaches(wanted).await;
        assert_eq!(row.recorder.seen(), [10, wanted]);
        world.forget_namespace(namespace);
    }
}
