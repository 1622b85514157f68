use std::sync::Arc;

use poolwright::simulate::{Replay, Request, Trace, Workload, WorkloadError};

use crate::simulate_policy::{BATCH, policy};

fn play(replay: Replay, until_seconds: f64) -> Vec<Request> {
    let trace = Arc::new(Trace::conversation().unwrap());
    let requests = Workload::new(trace, 0, &policy(), replay).unwrap();
    requests.take_while(|r| r.arrival_seconds < until_seconds).collect()
}

fn close(found: usize, expected: f64, share: f64) -> bool {
    (found as f64 - expected).abs() <= expected * share
}

#[test]
fn an_hour_at_any_scale_has_that_many_requests_in_order() {
    for scale in [0.3, 1.0, 2.5] {
        let requests = play(Replay { scale, ..Replay::default() }, 3501.9);
        assert!(close(requests.len(), 19_366.0 * scale, 0.03), "scale {scale}: {}", requests.len());
        assert!(requests.is_sorted_by(|a, b| a.arrival_seconds <= b.arrival_seconds));
        assert!(requests[0].arrival_seconds >= 0.0 && requests[0].arrival_seconds < 10.0);
    }
}

#[test]
fn the_stream_loops() {
    let requests = play(Replay::default(), 3.0 * 3501.9);
    assert!(close(requests.len(), 3.0 * 19_366.0, 0.01), "{}", requests.len());
}

#[test]
fn compression_keeps_the_rate_and_shortens_the_curve() {
    let fast = play(Replay { scale: 2.0, compress: 10.0, ..Replay::default() }, 350.2);
    assert!(close(fast.len(), 2.0 * 19_366.0 / 10.0, 0.05), "{}", fast.len());
    // the rise of the hour: 26 minutes in, there is far more than at its start
    let between = |from: f64, to: f64| fast.iter().filter(|r| (from..to).contains(&r.arrival_seconds)).count();
    assert!(between(150.0, 190.0) as f64 > 1.3 * between(0.0, 40.0) as f64);
}

#[test]
fn a_run_may_begin_inside_the_trace() {
    let busy = play(Replay { start_seconds: 1560.0, ..Replay::default() }, 600.0);
    let calm = play(Replay::default(), 600.0);
    assert!(busy.len() as f64 > 1.3 * calm.len() as f64);
}

#[test]
fn classes_follow_the_models_shares() {
    let requests = play(Replay::default(), 3501.0);
    let batch = requests.iter().filter(|r| r.class == BATCH).count();
    assert!(close(batch, 0.25 * requests.len() as f64, 0.05));
    assert!(requests.iter().all(|r| r.priority == if r.class == BATCH { 0 } else { 10 }));
}

#[test]
fn same_seed_same_requests() {
    let with = |seed| play(Replay { scale: 1.7, seed, ..Replay::default() }, 300.0);
    assert_eq!(with(3), with(3));
    assert_ne!(with(3), with(4));
}

#[test]
fn figures_out_of_range_are_refused() {
    let trace = Arc::new(Trace::parse("short", b"t_s,input_tokens,output_tokens\n0,10,5\n").unwrap());
    let refuse = |replay| Workload::new(Arc::clone(&trace), 0, &policy(), replay).err().map(|e| e.to_string());
    let base = Replay::default();
    assert_eq!(
        refuse(Replay { scale: 0.0, ..base }).unwrap(),
        "scale of the replay is 0, expected more than 0 and at most 10000"
    );
    for bad in [f64::NAN, -1.0, f64::INFINITY] {
        assert!(refuse(Replay { scale: bad, ..base }).is_some());
        assert!(refuse(Replay { compress: bad, ..base }).is_some());
        assert!(refuse(Replay { start_seconds: bad, ..base }).is_some());
        assert!(refuse(Replay { jitter_seconds: bad, ..base }).is_some());
    }
    assert_eq!(refuse(base), None);
    assert_eq!(Workload::new(trace, 9, &policy(), base).err(), Some(WorkloadError::NoModel(9)));
}
