use std::sync::Arc;

use super::*;
use crate::simulate::Trace;
use crate::simulate::replay::{Lengths, truth};

fn policy() -> Policy {
    let text = include_str!("../../../../policies/batch-and-interactive.yaml");
    crate::policy::from_text("batch-and-interactive.yaml", text).unwrap()
}

fn recording(text: &str) -> Arc<Recording> {
    Arc::new(Recording::parse("t.csv", text.as_bytes(), None).unwrap())
}

/// `rate` requests per second for so many seconds.
fn flat(rate: f64, seconds: u32) -> Play {
    let text = format!("t_s,rate_rps\n0,{rate}\n{},{rate}\n", f64::from(seconds) / 2.0);
    Play::whole(recording(&text), 0, Lengths::known("servegen-m-mid").unwrap())
}

fn conversation() -> Play {
    Play::whole(Arc::new(Trace::conversation().unwrap().into()), 0, Lengths::Own)
}

fn all(play: &Play, seed: u64) -> Vec<Request> {
    let requests: Vec<Request> = Arrivals::new(play, &policy(), seed).unwrap().collect();
    assert!(requests.is_sorted_by(|a, b| a.arrival_seconds <= b.arrival_seconds));
    assert!(requests.iter().all(|r| (0.0..play.seconds()).contains(&r.arrival_seconds)));
    requests
}

fn times(requests: &[Request]) -> Vec<f64> {
    requests.iter().map(|r| r.arrival_seconds).collect()
}

/// Mean and variance of the counts of minutes.
fn spread(requests: &[Request], minutes: usize) -> (f64, f64) {
    let mut counts = vec![0.0; minutes];
    requests.iter().for_each(|r| counts[(r.arrival_seconds / 60.0) as usize] += 1.0);
    let mean = counts.iter().sum::<f64>() / minutes as f64;
    (mean, counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / (minutes - 1) as f64)
}

#[test]
fn counts_of_minutes_have_the_mean_of_the_rate_and_the_variance_of_the_burstiness() {
    for burstiness in [0.25, 1.0, 4.0] {
        let play = Play { burstiness, ..flat(4.0, 60 * 2000) };
        let (mean, variance) = spread(&all(&play, 5), 2000);
        // four standard errors of the mean; three and a half of the variance
        let error = 4.0 * (burstiness * 240.0 / 2000.0_f64).sqrt();
        assert!((mean - 240.0).abs() < error, "{burstiness}: mean {mean}");
        assert!((variance / (burstiness * 240.0) - 1.0).abs() < 0.11, "{burstiness}: variance {variance}");
    }
}

#[test]
fn scale_multiplies_the_rate() {
    let play = Play { scale: 2.5, ..flat(2.0, 60 * 400) };
    let (mean, _) = spread(&all(&play, 1), 400);
    assert!((mean - 300.0).abs() < 4.0 * (300.0 / 400.0_f64).sqrt(), "{mean}");
}

#[test]
fn borders_of_steps_leave_no_trace() {
    let rows: String = (0..40).map(|minute| format!("{},3\n", 60 * minute)).collect();
    let cut = Play { recording: recording(&format!("t_s,rate_rps\n{rows}")), burstiness: 0.01, ..flat(3.0, 2400) };
    let whole = Play { burstiness: 0.01, ..flat(3.0, 2400) };
    let (cut, whole) = (times(&all(&cut, 2)), times(&all(&whole, 2)));
    assert_eq!(cut.len(), whole.len());
    assert!(cut.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-6));
    // an even rhythm stays even over a change of the rate, in stretched time
    let text = "t_s,rate_rps\n0,1\n100,10\n200,10\n";
    let play = Play { recording: recording(text), burstiness: 1e-4, ..flat(1.0, 300) };
    let stretched: Vec<f64> =
        times(&all(&play, 2)).iter().map(|&t| if t < 100.0 { t } else { 100.0 + 10.0 * (t - 100.0) }).collect();
    assert!(stretched.windows(2).all(|pair| (pair[1] - pair[0] - 1.0).abs() < 0.1));
}

#[test]
fn every_window_of_a_client_has_its_own_mean_whatever_came_before() {
    let text = "client,t_s,rate_rps,cv\na,0,1,10\na,600,2,0.5\na,1800,1,0.5\n";
    // drawn from a list: cheaper to prepare than a curve, 400 times
    let play = Play::whole(recording(text), 0, Lengths::Drawn(Arc::new(Trace::code().unwrap())));
    let mut counts = [0.0_f64; 4];
    for seed in 0..400 {
        all(&play, seed).iter().for_each(|r| counts[(r.arrival_seconds / 600.0) as usize] += 1.0 / 400.0);
    }
    // standard errors: sqrt(100 x 600 / 400) = 12, sqrt(0.25 x 1200 / 400) = 0.9, 0.6
    assert!((counts[0] - 600.0).abs() < 45.0, "{counts:?}");
    assert!((counts[1] - 1200.0).abs() < 3.5, "{counts:?}");
    assert_eq!(counts[2], 0.0);
    assert!((counts[3] - 600.0).abs() < 2.5, "{counts:?}");
}

#[test]
fn a_list_at_its_own_rate_is_played_as_it_is() {
    let trace = Trace::conversation().unwrap();
    let requests = all(&conversation(), 3);
    assert_eq!(requests.len(), trace.rows().len());
    for (request, row) in requests.iter().zip(trace.rows()) {
        assert!((request.arrival_seconds - row.at_seconds).abs() < 1e-9);
        assert_eq!((request.input_tokens, request.output_tokens), (row.input_tokens, row.output_tokens));
    }
    let part = all(&Play { from_seconds: 600.0, to_seconds: 900.0, ..conversation() }, 3);
    let inside = trace.rows().iter().filter(|r| (600.0..900.0).contains(&r.at_seconds));
    assert!(inside.map(|r| r.at_seconds - 600.0).zip(times(&part)).all(|(a, b)| (a - b).abs() < 1e-9));
}

#[test]
fn a_scale_thins_a_list_or_adds_shifted_copies() {
    let whole = all(&conversation(), 3);
    let thin = all(&Play { scale: 0.3, ..conversation() }, 3);
    let expected = 0.3 * whole.len() as f64;
    assert!((thin.len() as f64 - expected).abs() < 4.0 * (0.7 * expected).sqrt(), "{}", thin.len());
    let whole_times = times(&whole);
    assert!(times(&thin).iter().all(|t| whole_times.binary_search_by(|w| w.total_cmp(t)).is_ok()));
    let more = all(&Play { scale: 2.5, ..conversation() }, 3);
    assert!((more.len() as f64 / whole.len() as f64 - 2.5).abs() < 0.02, "{}", more.len());
    let more_times = times(&more);
    assert!(whole_times.iter().all(|t| more_times.binary_search_by(|m| m.total_cmp(t)).is_ok()));
}

#[test]
fn stamps_of_a_coarse_clock_are_spread_over_its_step() {
    let rows: String = (0..3000).map(|i| format!("{},5,5\n", 3000 * (i / 30))).collect();
    let text = format!("t_ms,input_tokens,output_tokens\n{rows}");
    let requests = all(&Play::whole(recording(&text), 0, Lengths::Own), 8);
    // what the last step moves over the end comes at the begin
    assert!((2940..=3000).contains(&requests.len()), "{}", requests.len());
    let first_second = requests.iter().filter(|r| r.arrival_seconds % 3.0 < 1.0).count();
    assert!((900..1100).contains(&first_second), "{first_second}");
}

#[test]
fn the_seed_decides_everything_and_streams_are_apart() {
    let play = flat(5.0, 1200);
    let first = all(&play, 1);
    assert_eq!(first, all(&play, 1));
    assert_ne!(times(&first), times(&all(&play, 2)));
    let named = |name: &str| {
        let text = b"t_s,rate_rps\n0,5\n600,5\n";
        Play { recording: Arc::new(Recording::parse(name, text, None).unwrap()), ..play.clone() }
    };
    assert_eq!(all(&named("/here/t.csv"), 1), all(&named("there/t.csv"), 1));
    let others = all(&Play { lengths: Lengths::Drawn(Arc::new(Trace::code().unwrap())), ..play.clone() }, 1);
    assert_eq!(times(&others), times(&first));
    assert!(others.iter().zip(&first).all(|(a, b)| a.class == b.class));
    assert_ne!(others[0].input_tokens, first[0].input_tokens);
    let bursts = all(&Play { burstiness: 9.0, ..play.clone() }, 1);
    assert!(bursts.iter().zip(&first).all(|(a, b)| (a.class, a.input_tokens) == (b.class, b.input_tokens)));
}

#[test]
fn classes_are_drawn_by_the_models_shares_or_fixed() {
    let policy = policy();
    let (batch, share) = policy.models[0].classes[1];
    let requests = all(&flat(10.0, 2000), 1);
    let found = requests.iter().filter(|r| r.class == batch).count() as f64 / requests.len() as f64;
    assert!((found - share).abs() < 4.0 * (share * (1.0 - share) / requests.len() as f64).sqrt(), "{found}");
    assert!(requests.iter().all(|r| r.priority == policy.classes[r.class].priority && r.model == 0));
    assert!(all(&Play { class: Some(batch), ..flat(1.0, 100) }, 1).iter().all(|r| r.class == batch));
}

#[test]
fn merged_plays_come_in_time_order_and_keep_all() {
    let plays = [flat(2.0, 600), Play { model: 1, ..flat(3.0, 300) }, Play { class: Some(0), ..conversation() }];
    let arrivals = |play: &Play| Arrivals::new(play, &policy(), 4).unwrap();
    let merged: Vec<Request> = merge(plays.iter().map(arrivals).collect()).collect();
    assert!(merged.is_sorted_by(|a, b| a.arrival_seconds <= b.arrival_seconds));
    assert_eq!(merged.len(), plays.iter().map(|p| all(p, 4).len()).sum::<usize>());
    let second: Vec<Request> = merged.iter().copied().filter(|r| r.model == 1).collect();
    assert_eq!(second, all(&plays[1], 4));
    let same = |class| Play { class: Some(class), ..conversation() };
    let ties: Vec<Request> = merge(vec![arrivals(&same(1)), arrivals(&same(0))]).take(4).collect();
    assert_eq!(ties.iter().map(|r| r.class).collect::<Vec<_>>(), [1, 0, 1, 0]);
}

#[test]
fn the_truth_is_the_rate_that_was_played() {
    let policy = policy();
    let text = "minute,rpm_mid,rpm_lo,rpm_hi\n10,6000,4648,7352\n30,6000,4648,7352\n50,6000,4648,7352\n";
    let play =
        Play { from_seconds: 90.0, ..Play::whole(recording(text), 0, Lengths::known("servegen-m-mid").unwrap()) };
    let told = truth(std::slice::from_ref(&play), &policy, 6, 1000.0, play.seconds()).unwrap();
    let rates: Vec<f64> = told.minutes.iter().map(|m| m[0].classes.iter().map(|c| c.1).sum()).collect();
    let mut counts = vec![0.0; rates.len()];
    all(&play, 6).iter().for_each(|r| counts[(r.arrival_seconds / 60.0) as usize] += 1.0);
    for (minute, (rate, count)) in rates.iter().zip(&counts).enumerate() {
        let expected = rate * (play.seconds() - 60.0 * minute as f64).min(60.0);
        assert!((count - expected).abs() < 4.5 * expected.sqrt(), "minute {minute}: {count} of {expected}");
    }
    // the envelope's noise is there: a standard deviation of 1000 a minute, Poisson's part of it left out
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    let deviation = (rates.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / rates.len() as f64).sqrt() * 60.0;
    assert!((700.0..1300.0).contains(&deviation), "{deviation}");
    assert_eq!((told.start_seconds, told.minutes[0].len()), (1000.0, policy.models.len()));
    let share = policy.models[0].classes[1].1;
    assert!((told.minutes[7][0].classes[1].1 - share * rates[7]).abs() < 1e-9);
    assert!(told.minutes[7][1].classes.iter().all(|c| c.1 == 0.0));
}

#[test]
fn the_truth_of_plays_adds_up_with_their_lengths() {
    let policy = policy();
    let plays = [
        conversation(),
        Play { class: Some(policy.models[0].classes[0].0), scale: 0.5, ..conversation() },
        Play { model: 1, ..flat(3.0, 90) },
    ];
    let told = truth(&plays, &policy, 2, 0.0, 3000.0).unwrap();
    assert_eq!(told.minutes.len(), 50);
    let sum = |model: usize| told.minutes.iter().flat_map(|m| &m[model].classes).map(|c| 60.0 * c.1).sum::<f64>();
    let counted: usize =
        plays[..2].iter().map(|p| all(p, 2).iter().filter(|r| r.arrival_seconds < 3000.0).count()).sum();
    assert!((sum(0) - counted as f64).abs() < 1e-6);
    assert!((sum(1) - 270.0).abs() < 1e-9);
    assert!((told.minutes[1][1].classes.iter().map(|c| c.1).sum::<f64>() - 1.5).abs() < 1e-12);
    for minute in &told.minutes {
        for demand in minute {
            assert!((demand.buckets.iter().map(|b| b.share).sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
    // known lengths are told though only few requests come, and stay when none come any more
    let mean: f64 = told.minutes[1][1].buckets.iter().map(|b| b.share * b.shape.input_tokens).sum();
    assert!((mean / 307.0 - 1.0).abs() < 0.05, "{mean}");
    assert_eq!(told.minutes[0][1].buckets, told.minutes[49][1].buckets);
}

#[test]
fn wrong_plays_are_refused_with_what_would_be_right() {
    let policy = policy();
    let refusal = |play: Play| Arrivals::new(&play, &policy, 0).unwrap_err().to_string();
    let flat = || flat(1.0, 600);
    for (play, message) in [
        (Play { scale: 0.0, ..flat() }, "playing t.csv: scale is 0, expected more than 0 and at most 1000000"),
        (Play { scale: f64::NAN, ..flat() }, "playing t.csv: scale is NaN, expected more than 0 and at most 1000000"),
        (Play { burstiness: 0.0, ..flat() }, "playing t.csv: burstiness is 0, expected 0.0001 to 1000000"),
        (Play { from_seconds: 600.0, ..flat() }, "playing t.csv: from_seconds is 600, expected 0 to less than 600"),
        (
            Play { from_seconds: 60.0, to_seconds: 601.0, ..flat() },
            "playing t.csv: to_seconds is 601, expected more than 60 and at most 600",
        ),
        (Play { model: 9, ..flat() }, "playing t.csv: the policy has no model number 9, expected less than 2"),
        (
            Play { class: Some(7), ..flat() },
            "playing t.csv: class number 7 is none of model inference/qwen-32b, expected one of 0, 1",
        ),
        (
            Play { lengths: Lengths::Own, ..flat() },
            "playing t.csv: it holds no lengths of its own, expected a list of requests or quantiles for them",
        ),
        (
            Play { scale: 10_001.0, ..conversation() },
            "playing azure2023_conv_requests.csv.gz: scale is 10001, expected more than 0 and at most 10000",
        ),
    ] {
        assert_eq!(refusal(play), message);
    }
    let run = truth(&[], &policy, 0, 0.0, f64::INFINITY).unwrap_err().to_string();
    assert_eq!(run, "the run has inf seconds, expected more than 0 and at most 31622400");
}
