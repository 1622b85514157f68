use proptest::prelude::*;

use super::*;
use crate::perf::{Evidence, Experts, Limits, Parameters, Shape};

const PRIOR: Prior = Prior { common: 0.2, own: 0.15 };
const MINUTE: f64 = 60.0;

fn believed() -> Parameters {
    Parameters::uniform(0.0106, 4.2e-5, 5.8e-8)
}

fn scaled(fixed: f64, tokens: f64, memory: f64) -> Parameters {
    let p = believed();
    Parameters::uniform(p.alpha_seconds * fixed, p.beta_seconds_per_token * tokens, p.gamma_seconds_per_token * memory)
}

/// A window of a server that really is like this.
fn window(truth: &Parameters, minute: u32, rate: f64, input: f64, output: f64) -> Sample {
    let mut sample = Sample {
        at_seconds: 1e9 + MINUTE * f64::from(minute),
        rate,
        requests: 400.0,
        shape: Shape { input_tokens: input, output_tokens: output },
        prefix_hit_ratio: 0.0,
        limits: Limits::default(),
        usual: believed(),
        here: believed(),
        itl_seconds: truth.alpha_seconds,
        ttft_seconds: None,
    };
    for _ in 0..200 {
        sample.itl_seconds = sample.itl_of(truth);
    }
    sample.ttft_seconds = sample.ttft_of(truth);
    sample
}

fn flat(truth: &Parameters, minute: u32) -> Sample {
    window(truth, minute, 1.5, 900.0, 300.0)
}

/// Windows until the prediction is within 3 % of the truth; 100 when it never is.
fn windows_until_right(truth: &Parameters) -> u32 {
    let mut calibration = Calibration::new(believed(), PRIOR);
    (0..100)
        .find(|&minute| {
            let sample = flat(truth, minute);
            calibration.observe(&sample);
            (sample.itl_of(&calibration.corrected()) / sample.itl_seconds - 1.0).abs() < 0.03
        })
        .unwrap_or(100)
}

#[test]
fn a_slower_server_is_followed_as_readily_as_a_faster_one() {
    for factor in [1.15, 1.3, 1.6, 2.2] {
        let (slow, fast) = (scaled(factor, factor, factor), scaled(1.0 / factor, 1.0 / factor, 1.0 / factor));
        let (slow, fast) = (windows_until_right(&slow), windows_until_right(&fast));
        assert!(slow <= 12 && fast <= 12, "by {factor}: slower {slow}, faster {fast}");
        assert!(slow.abs_diff(fast) <= 3, "by {factor}: slower {slow}, faster {fast}");
    }
}

/// The failure of a plain guess from one operating point: the share of the KV memory grew 22 times.
#[test]
fn one_operating_point_moves_all_factors_together() {
    let truth = scaled(1.4, 1.4, 1.4);
    let mut calibration = Calibration::new(believed(), PRIOR);
    for minute in 0..300 {
        calibration.observe(&flat(&truth, minute));
    }
    let corrected = calibration.corrected();
    for (is, was) in [
        (corrected.alpha_seconds, believed().alpha_seconds),
        (corrected.beta_seconds_per_token, believed().beta_seconds_per_token),
        (corrected.gamma_seconds_per_token, believed().gamma_seconds_per_token),
    ] {
        assert!((1.1..1.7).contains(&(is / was)), "{}", is / was);
    }
    assert!((calibration.factor() - 1.4).abs() < 0.05, "{}", calibration.factor());
}

#[test]
fn different_loads_and_shapes_tell_the_factors_apart() {
    let truth = scaled(1.4, 0.8, 1.1);
    let mut calibration = Calibration::new(believed(), PRIOR);
    for round in 0..40u32 {
        for (i, (rate, input, output)) in
            [(0.3, 300.0, 200.0), (2.5, 900.0, 300.0), (0.8, 4000.0, 100.0), (1.2, 500.0, 900.0)]
                .into_iter()
                .enumerate()
        {
            calibration.observe(&window(&truth, round * 4 + i as u32, rate, input, output));
        }
    }
    let unseen = window(&truth, 0, 3.2, 1500.0, 150.0);
    let error = unseen.itl_of(&calibration.corrected()) / unseen.itl_seconds - 1.0;
    let before = unseen.itl_of(&believed()) / unseen.itl_seconds - 1.0;
    assert!(error.abs() < 0.04 && before.abs() > 0.1, "{error} after, {before} before");
    assert!(calibration.spread().unwrap() < 0.08);
}

/// The time to first token of a real server is off by a share that no factor explains, window after window.
#[test]
fn a_lasting_error_of_the_form_is_taken_for_one() {
    let mut calibration = Calibration::new(believed(), PRIOR);
    for round in 0..120u32 {
        let (rate, input, output) = [(0.6, 900.0, 300.0), (1.5, 900.0, 300.0), (2.5, 700.0, 250.0)][round as usize % 3];
        let mut sample = window(&believed(), round, rate, input, output);
        sample.ttft_seconds = sample.ttft_seconds.map(|seconds| 0.7 * seconds);
        calibration.observe(&sample);
    }
    let factors = calibration.factors();
    for factor in [factors.iteration, factors.tokens, factors.kv] {
        assert!((factor - 1.0).abs() < 0.07, "{factors:?}");
    }
}

#[test]
fn one_wild_window_is_doubted_and_three_are_a_change() {
    let mut calibration = Calibration::new(believed(), PRIOR);
    for minute in 0..30 {
        assert_eq!(calibration.observe(&flat(&believed(), minute)), Outcome::Accepted);
    }
    let calm = calibration.corrected();
    let wild = scaled(2.5, 2.5, 2.5);
    assert_eq!(calibration.observe(&flat(&wild, 30)), Outcome::Doubted);
    assert_eq!(calibration.corrected(), calm);
    assert_eq!(calibration.observe(&flat(&believed(), 31)), Outcome::Accepted, "the doubt is forgotten");
    let outcomes: Vec<Outcome> = (32..35).map(|minute| calibration.observe(&flat(&wild, minute))).collect();
    assert_eq!(outcomes, [Outcome::Doubted, Outcome::Doubted, Outcome::Changed]);
    assert!(calibration.factor() > 2.0, "{}", calibration.factor());
}

#[test]
fn parameters_that_are_wrong_raise_an_alarm_and_rough_ones_do_not() {
    let drift = |factor: f64| {
        let truth = scaled(factor, factor, factor);
        let mut calibration = Calibration::new(believed(), PRIOR);
        for minute in 0..60 {
            calibration.observe(&flat(&truth, minute));
        }
        calibration.drift()
    };
    assert_eq!(drift(1.2), None);
    let alarm = drift(2.5).unwrap();
    assert!((2.2..2.7).contains(&alarm.factor) && alarm.allowed < 2.2, "{alarm:?}");
    assert!(drift(0.4).is_some());
}

#[test]
fn what_nobody_renews_fades() {
    let truth = scaled(1.5, 1.5, 1.5);
    let mut calibration = Calibration::new(believed(), PRIOR);
    for minute in 0..60 {
        calibration.observe(&flat(&truth, minute));
    }
    let mut late = flat(&believed(), 0);
    late.at_seconds += 7.0 * 86_400.0;
    calibration.observe(&late);
    assert!((calibration.factor() - 1.0).abs() < 0.03, "{}", calibration.factor());
}

#[test]
fn experts_are_corrected_with_the_fixed_time() {
    let base = Parameters { experts: Experts { all_seconds: 0.01, left_out: 0.95 }, ..believed() };
    let truth = base.slowed(1.4);
    let mut calibration = Calibration::new(base, PRIOR);
    for minute in 0..60 {
        calibration.observe(&flat(&truth, minute));
    }
    assert!((calibration.factor() - 1.4).abs() < 0.06, "{}", calibration.factor());
    assert!(calibration.corrected().experts.all_seconds > 0.0115);
}

#[test]
fn old_and_thin_windows_say_nothing() {
    let mut calibration = Calibration::new(believed(), PRIOR);
    let slow = scaled(2.0, 2.0, 2.0);
    assert_eq!(calibration.observe(&Sample { requests: 5.0, ..flat(&slow, 0) }), Outcome::Useless);
    assert_eq!(calibration.observe(&Sample { itl_seconds: f64::NAN, ..flat(&slow, 1) }), Outcome::Useless);
    assert_eq!(calibration.windows(), 0);
    calibration.observe(&flat(&slow, 2));
    assert_eq!(calibration.observe(&flat(&slow, 2)), Outcome::Useless, "the same window again");
    assert_eq!(calibration.spread(), None, "one window is no evidence");
}

#[test]
fn it_is_kept_and_belongs_to_its_parameters() {
    let mut calibration = Calibration::new(believed(), PRIOR);
    for kept in [calibration.clone(), {
        calibration.observe(&flat(&scaled(1.3, 1.3, 1.3), 1));
        calibration.clone()
    }] {
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Calibration>(&text).unwrap(), kept);
    }
    assert!(calibration.fits(&believed(), PRIOR));
    assert!(!calibration.fits(&scaled(1.01, 1.0, 1.0), PRIOR));
    assert!(!calibration.fits(&believed(), Prior::of(Evidence::Curve)));
    let broken = serde_json::to_string(&calibration).unwrap().replacen("\"log_factors\":[", "\"log_factors\":[9.0,", 1);
    assert!(serde_json::from_str::<Calibration>(&broken).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn nothing_that_is_seen_breaks_the_bounds(
        seen in prop::collection::vec(
            (0.001f64..50.0, 1.0f64..30_000.0, 1.0f64..5_000.0, 1e-6f64..1e3, prop::option::of(1e-6f64..1e4), 1.0f64..7200.0),
            1..40,
        ),
    ) {
        let mut calibration = Calibration::new(believed(), PRIOR);
        let mut at_seconds = 1e9;
        for (rate, input_tokens, output_tokens, itl_seconds, ttft_seconds, gap) in seen {
            at_seconds += gap;
            let shape = Shape { input_tokens, output_tokens };
            let sample = Sample {
                at_seconds, rate, requests: 100.0, shape, prefix_hit_ratio: 0.0, usual: believed(),
                here: believed(),
                limits: Limits::default(), itl_seconds, ttft_seconds,
            };
            calibration.observe(&sample);
            prop_assert!(calibration.fits(&believed(), PRIOR), "{calibration:?}");
            prop_assert!(calibration.corrected().is_usable());
            let ratio = calibration.corrected().alpha_seconds / believed().alpha_seconds;
            prop_assert!((0.32..3.1).contains(&ratio), "{ratio}");
        }
    }
}

/// A shape at which an estimate has other figures than usual changes nothing when the servers are as estimated there.
#[test]
fn what_an_estimate_says_of_other_shapes_is_no_correction() {
    let mut calibration = Calibration::new(believed(), PRIOR);
    let there = Parameters { beta_seconds_per_token: 1.6 * believed().beta_seconds_per_token, ..believed() };
    for minute in 0..20 {
        let sample = Sample { here: there, ..window(&there, minute, 0.8, 4000.0, 300.0) };
        calibration.observe(&sample);
    }
    let factors = calibration.factors();
    for factor in [factors.iteration, factors.tokens, factors.kv] {
        assert!((factor - 1.0).abs() < 0.03, "{factors:?}");
    }
}
