use super::*;
use crate::perf::{Chain, Prompts, Service, Shape};

fn shape(input: f64, output: f64) -> Shape {
    Shape { input_tokens: input, output_tokens: output }
}

fn origin(index: usize) -> Origin {
    Origin { file: "points.csv".to_owned(), place: format!("line {}", index + 2) }
}

/// Closed-loop points of a server with these parameters.
fn measured(p: &Parameters, limits: Limits, kv: f64, loads: &[(u32, f64, f64)]) -> Vec<Point> {
    let of = |(i, &(c, l, k)): (usize, &(u32, f64, f64))| {
        let point = Point::closed(origin(i), c, shape(l, k), 1.0, 1.0);
        let seen = predict(&point, p, limits, kv).unwrap();
        point.with(Some(seen.ttft.mean_seconds), Some(seen.itl.unwrap().mean_seconds))
    };
    loads.iter().enumerate().map(of).collect()
}

const LIMITS: Limits = Limits { max_num_seqs: 256, max_num_batched_tokens: 2048 };
const EIGHT: [(u32, f64, f64); 8] = [
    (1, 256.0, 64.0),
    (16, 256.0, 64.0),
    (1, 1024.0, 32.0),
    (16, 1024.0, 32.0),
    (1, 64.0, 256.0),
    (32, 64.0, 256.0),
    (4, 2048.0, 256.0),
    (64, 256.0, 256.0),
];

fn truth() -> Parameters {
    Parameters { decode_seconds_per_token: 40e-6, ..Parameters::uniform(8e-3, 120e-6, 90e-9) }
}

fn options() -> Options {
    Options { max_num_batched_tokens: Some(2048), ..Options::default() }
}

fn close(got: f64, wanted: f64, tolerance: f64) {
    assert!((got / wanted - 1.0).abs() < tolerance, "{got} against {wanted}");
}

fn has(fit: &Fit, kind: WarningKind) -> bool {
    fit.warnings.iter().any(|w| w.kind == kind)
}

/// Open-loop points of llm-inferno/model-tuner: requests per minute, lengths, TTFT and ITL in milliseconds.
const RATES: [(f64, f64, f64, f64, f64); 7] = [
    (30.0, 512.0, 256.0, 44.93553, 12.330896),
    (60.0, 512.0, 256.0, 45.46054, 12.593400),
    (90.0, 512.0, 256.0, 46.00824, 12.867249),
    (120.0, 512.0, 256.0, 46.58013, 13.153196),
    (150.0, 512.0, 256.0, 47.17786, 13.452059),
    (60.0, 1024.0, 128.0, 66.13969, 12.824677),
    (60.0, 256.0, 512.0, 35.41440, 12.660283),
];

fn open_point(index: usize, (per_minute, l, k, ttft, itl): (f64, f64, f64, f64, f64)) -> Point {
    let load = Load::Open { rate: per_minute / 60.0, burstiness: 1.0 };
    Point::new(origin(index), load, shape(l, k)).with(Some(ttft / 1e3), Some(itl / 1e3))
}

#[test]
fn open_loop_points_predict_a_shape_that_was_left_out() {
    let points: Vec<Point> = RATES.into_iter().enumerate().map(|(i, r)| open_point(i, r)).collect();
    let found = fit(&points, &Options { max_num_seqs: Some(128), ..Options::default() }).unwrap();
    let of = |parameters| {
        let service = Service { parameters, shape: shape(768.0, 192.0), token_budget: 8192.0 };
        Chain::new(service, 128).steady_state(75.0 / 60.0, 0)
    };
    let (wanted, got) = (of(Parameters::uniform(12e-3, 0.04e-3, 6e-8)), of(found.parameters));
    close(got.ttft_seconds, wanted.ttft_seconds, 0.01);
    close(got.itl_seconds, wanted.itl_seconds, 0.01);
    assert!(found.condition < 1000.0, "{}", found.condition);
}

#[test]
fn one_operating_point_is_not_enough_however_often_it_is_measured() {
    let points: Vec<Point> = (0..3).map(|i| open_point(i, RATES[1])).collect();
    let error = fit(&points, &Options { max_num_seqs: Some(128), ..Options::default() }).unwrap_err();
    let FitError::Unidentifiable { condition, direction, .. } = &error else { panic!("{error}") };
    assert!(*condition > 1e6, "{condition}");
    assert!(direction.contains("gamma"), "{direction}");
    assert!(error.to_string().contains("measure another concurrency and another prompt length"), "{error}");
    // With an estimate the same points only move the estimate, and it is said.
    let prior = Prior { parameters: Parameters::uniform(10e-3, 0.05e-3, 8e-8), spread: 0.4 };
    let anchored =
        fit(&points, &Options { max_num_seqs: Some(128), prior: Some(prior), ..Options::default() }).unwrap();
    assert!(has(&anchored, WarningKind::Unidentifiable) && has(&anchored, WarningKind::TooFewPoints));
    close(anchored.parameters.alpha_seconds, 12e-3, 0.05);
    close(anchored.parameters.gamma_seconds_per_token, 8e-8, 0.5);
}

#[test]
fn eight_closed_points_give_the_parameters_back() {
    let found = fit(&measured(&truth(), LIMITS, 1e9, &EIGHT), &options()).unwrap();
    for (got, wanted) in to_array(&found.parameters).iter().zip(to_array(&truth())).take(4) {
        close(*got, wanted, 0.04);
    }
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    let cross = found.cross_validation.unwrap();
    assert!(cross.mean < 0.01 && cross.method == "one shape left out", "{cross:?}");
    assert!(found.spread.alpha.unwrap() < 0.1);
}

/// Long prompts that cost more a token, and time before the engine sees a request.
#[test]
fn what_prompts_cost_beyond_a_time_per_token_is_found_where_it_is() {
    let prompts = Prompts { attention_seconds_per_pair: 60e-9, overhead_seconds: 9e-3 };
    let server = Parameters { prompts, ..truth() };
    let found = fit(&measured(&server, LIMITS, 1e9, &EIGHT), &options()).unwrap();
    for (name, got, wanted) in [
        ("beta", found.parameters.beta_seconds_per_token, server.beta_seconds_per_token),
        ("attention", found.parameters.prompts.attention_seconds_per_pair, prompts.attention_seconds_per_pair),
        ("overhead", found.parameters.prompts.overhead_seconds, prompts.overhead_seconds),
    ] {
        assert!((got / wanted - 1.0).abs() < 0.1, "{name}: {got} against {wanted}");
    }
    assert!(found.spread.attention.is_some() && found.spread.overhead.is_some());
    // Where there is nothing of it, nothing is found, and two lengths are not asked.
    let plain = fit(&measured(&truth(), LIMITS, 1e9, &EIGHT), &options()).unwrap();
    assert_eq!(plain.parameters.prompts, Prompts::default());
    let two = fit(&measured(&server, LIMITS, 1e9, &EIGHT[..4]), &options()).unwrap();
    assert_eq!(two.parameters.prompts, Prompts::default());
}

#[test]
fn a_few_wild_points_do_not_matter_and_are_named() {
    let mut points = measured(&truth(), LIMITS, 1e9, &EIGHT);
    points.extend(measured(&truth(), LIMITS, 1e9, &[(2, 256.0, 64.0), (8, 512.0, 128.0), (24, 128.0, 64.0)]));
    points[3].itl = Some(Latency::mean(4.0 * points[3].itl.unwrap().mean_seconds));
    points[8].ttft = Some(Latency::mean(0.2 * points[8].ttft.unwrap().mean_seconds));
    let found = fit(&points, &options()).unwrap();
    for (got, wanted) in to_array(&found.parameters).iter().zip(to_array(&truth())).take(4) {
        close(*got, wanted, 0.1);
    }
    let named: Vec<&str> =
        found.warnings.iter().filter(|w| w.kind == WarningKind::WildPoint).map(|w| w.message.as_str()).collect();
    assert_eq!(named.len(), 2, "{named:?}");
    assert!(named[0].starts_with("points.csv, line 5: the ITL at 16 at a time is "), "{named:?}");
    assert!(found.points[3].used == Use::Wild && found.points[0].used == Use::Fitted);
}

/// Points beyond the memory have TTFTs of many seconds. They move no parameter, and they bound the memory.
#[test]
fn the_cliff_stays_sharp() {
    let kv = 30_000.0;
    let mut loads = EIGHT.to_vec();
    loads.extend([(16, 1024.0, 512.0), (20, 1024.0, 512.0), (64, 1024.0, 512.0), (128, 1024.0, 512.0)]);
    let found = fit(&measured(&truth(), LIMITS, kv, &loads), &options()).unwrap();
    for (got, wanted) in to_array(&found.parameters).iter().zip(to_array(&truth())).take(4) {
        close(*got, wanted, 0.04);
    }
    let queued = found.points.iter().filter(|p| p.used == Use::QueueDominated).count();
    assert_eq!(queued, 2, "{:?}", found.points.iter().map(|p| p.used).collect::<Vec<_>>());
    let estimate = found.kv.estimate.unwrap();
    assert!(found.kv.at_least.unwrap() <= kv && found.kv.below.unwrap() >= kv);
    close(estimate, kv, 0.1);
    assert!(has(&found, WarningKind::Overload));
}

#[test]
fn given_limits_put_points_aside_before_the_fit() {
    let points = measured(&truth(), LIMITS, 1e9, &EIGHT);
    let bounded = Options { max_num_seqs: Some(32), kv_tokens: Some(9000.0), ..options() };
    let found = fit(&points, &bounded).unwrap();
    let beyond: Vec<usize> = (0..8).filter(|i| found.points[*i].used == Use::BeyondLimit).collect();
    // 16 x 1056, 32 x 320, 4 x 2304 and 64 x 512 tokens need more than the memory.
    assert_eq!(beyond, [3, 5, 6, 7]);
    let none = Options { kv_tokens: Some(10.0), ..options() };
    assert_eq!(fit(&points, &none).unwrap_err(), FitError::OnlyOverload(8));
}

#[test]
fn strange_data_is_named() {
    let mut falling = measured(&truth(), LIMITS, 1e9, &EIGHT);
    falling[1].ttft = Some(Latency::mean(0.5 * falling[0].ttft.unwrap().mean_seconds));
    let found = fit(&falling, &options()).unwrap();
    assert!(has(&found, WarningKind::NonMonotone), "{:?}", found.warnings);

    let mut mixed = measured(&truth(), LIMITS, 1e9, &EIGHT);
    let mut slow = measured(&truth().slowed(1.8), LIMITS, 1e9, &EIGHT);
    slow.iter_mut().for_each(|p| p.origin.file = "slow.csv".to_owned());
    mixed.extend(slow);
    let found = fit(&mixed, &options()).unwrap();
    let said = found.warnings.iter().find(|w| w.kind == WarningKind::MixedServers);
    assert!(said.is_some_and(|w| w.message.contains("8 points of slow.csv are")), "{:?}", found.warnings);

    let far = Options { asked: vec![(500.0, 30_000.0, 64.0)], ..options() };
    let found = fit(&measured(&truth(), LIMITS, 1e9, &EIGHT), &far).unwrap();
    assert_eq!(found.warnings.iter().filter(|w| w.kind == WarningKind::Uncovered).count(), 2);
}

#[test]
fn one_shape_needs_an_anchor_only_for_what_it_does_not_show() {
    let loads = [(1, 512.0, 128.0), (4, 512.0, 128.0), (16, 512.0, 128.0), (64, 512.0, 128.0)];
    let points = measured(&truth(), LIMITS, 1e9, &loads);
    let prior = Prior { parameters: truth().slowed(1.4), spread: 0.4 };
    let found = fit(&points, &Options { prior: Some(prior), ..options() }).unwrap();
    close(found.parameters.alpha_seconds, 8e-3, 0.1);
    close(found.parameters.beta_seconds_per_token, 120e-6, 0.1);
    assert!(has(&found, WarningKind::Uncovered));
}

#[test]
fn numbers_that_are_no_measurement_are_refused_with_their_place() {
    let mut points = measured(&truth(), LIMITS, 1e9, &EIGHT);
    points[2].ttft = Some(Latency::mean(f64::NAN));
    let text = fit(&points, &options()).unwrap_err().to_string();
    assert_eq!(text, "points.csv, line 4: the mean TTFT is NaN, which is not above zero");
    assert_eq!(fit(&[], &options()).unwrap_err(), FitError::NoPoints);
}
