//! Published results of the queueing models, at the precision of their single-precision source.

use poolwright::perf::{
    BestConcurrency, Chain, Linear, Means, Parameters, Service, Shape, best_concurrency, onset, size,
};

/// Relative tolerance: the published values come from single precision.
const TOLERANCE: f64 = 5e-5;

fn close(got: f64, wanted: f64) {
    assert!((got / wanted - 1.0).abs() < TOLERANCE, "{got} against {wanted}");
}

fn parameters(alpha: f64, beta: f64, gamma: f64) -> Parameters {
    Parameters::uniform(alpha / 1e3, beta / 1e3, gamma / 1e3)
}

fn service(alpha: f64, beta: f64, gamma: f64, l: f64, k: f64) -> Service {
    Service {
        parameters: parameters(alpha, beta, gamma),
        shape: Shape { input_tokens: l, output_tokens: k },
        token_budget: 8192.0,
    }
}

fn linear() -> Chain<Linear> {
    let linear = Linear {
        parameters: parameters(12.0, 0.05, 0.0005),
        shape: Shape { input_tokens: 128.0, output_tokens: 512.0 },
    };
    Chain::new(linear, 48)
}

/// Values in milliseconds as they were printed.
#[test]
fn first_generation_at_a_rate() {
    let chain = linear();
    let s = chain.steady_state(3.0, 128);
    close(s.response_seconds * 1e3, 10568.446);
    close(s.wait_seconds * 1e3, 28.27539);
    close(s.in_service, 31.620514);
    close(s.ttft_seconds * 1e3, 75.31746);
    close(s.itl_seconds * 1e3, 20.534498);
    close(0.999 * chain.full_rate(), 3.8208232);
}

#[test]
fn first_generation_within_targets() {
    let sized = size(&linear(), &Means { ttft_seconds: 0.06, itl_seconds: 0.02 }, 128);
    close(sized.ttft_rate, 2.910594);
    close(sized.itl_rate, 2.8741095);
    let means = sized.means.unwrap();
    close(means.ttft_seconds * 1e3, 56.063);
    close(means.itl_seconds * 1e3, 19.99998);
}

#[test]
fn second_generation_at_rates() {
    let chain = Chain::new(service(12.0, 0.05, 0.0005, 128.0, 512.0), 48);
    let s = chain.steady_state(3.0, 128);
    for (got, wanted) in [
        (0.999 * chain.full_rate(), 3.8609295),
        (s.response_seconds * 1e3, 10348.367),
        (s.wait_seconds * 1e3, 21.405),
        (s.in_service, 30.981),
        (s.prefill_seconds * 1e3, 26.0905),
        (s.itl_seconds * 1e3, 20.1189),
        (s.ttft_seconds * 1e3, 67.615),
    ] {
        close(got, wanted);
    }
    let qwen = Chain::new(service(10.645377, 0.041760195, 5.770509e-5, 871.0, 567.0), 60);
    close(0.999 * qwen.full_rate(), 5.028493);
    close(qwen.steady_state(4.031, 600).wait_seconds * 1e3, 19.768263);
    for (rate, ttft, itl, in_service) in [
        (1.0, 59.998268, 11.927968, 6.811228),
        (2.0, 62.917573, 13.38762, 15.280621),
        (4.031, 91.512961, 17.799471, 40.899516),
        (4.5, 421.89456, 19.214284, 49.274493),
    ] {
        let s = qwen.steady_state(rate, 600);
        close(s.ttft_seconds * 1e3, ttft);
        close(s.itl_seconds * 1e3, itl);
        close(s.in_service, in_service);
    }
}

#[test]
fn servers_of_fixed_speed_match_the_closed_form() {
    let one = Chain::new(service(10.0, 0.0, 0.0, 1.0, 1.0), 1);
    for (rate, throughput, response, wait) in
        [(20.0, 19.8766146, 32.2987391, 12.2987391), (25.0, 24.6031746, 36.7741935, 16.7741935)]
    {
        let s = one.steady_state(rate, 4);
        close(s.throughput, throughput);
        close(s.response_seconds * 1e3, response);
        close(s.wait_seconds * 1e3, wait);
    }
    close(one.steady_state(20.0, 4).in_service, 0.39753229);
    close(one.steady_state(20.0, 4).ttft_seconds * 1e3, 32.2987391);
    let s = Chain::new(service(10.0, 0.0, 0.0, 1.0, 1.0), 4).steady_state(100.0, 4);
    for (got, wanted) in [
        (s.throughput, 99.4535519),
        (s.response_seconds * 1e3, 21.4285714),
        (s.wait_seconds * 1e3, 1.4285714),
        (s.in_service, 1.98907104),
    ] {
        close(got, wanted);
    }
}

#[test]
fn a_rate_beyond_the_largest_is_answered_with_losses() {
    let chain = Chain::new(service(12.0, 0.05, 0.0005, 128.0, 512.0), 48);
    let s = chain.steady_state(2.0 * chain.full_rate(), 128);
    assert!(s.throughput < 1.001 * chain.full_rate() && s.throughput > 0.999 * chain.full_rate());
    assert!(s.ttft_seconds > 10.0 && s.ttft_seconds.is_finite());
}

#[test]
fn second_generation_within_targets() {
    let targets = Means { ttft_seconds: 0.06, itl_seconds: 0.02 };
    let execution = service(12.0, 0.05, 0.0005, 128.0, 512.0);
    let sized = size(&Chain::new(execution, 48), &targets, 128);
    let means = sized.means.unwrap();
    for (got, wanted) in [
        (sized.rate, 2.9494622),
        (sized.max_rate, 3.8609295),
        (means.response_seconds * 1e3, 10231.625),
        (means.wait_seconds * 1e3, 14.219727),
        (means.in_service, 30.135853),
        (means.ttft_seconds * 1e3, 60.000584),
        (means.itl_seconds * 1e3, 19.90533),
    ] {
        close(got, wanted);
    }
    let best = best_concurrency(&execution, &targets, 128, 48);
    assert_eq!((best.by_itl, best.by_ttft, best.concurrency, best.evaluations), (31, 48, 48, 6));

    let wide = best_concurrency(&execution, &targets, 128, 256);
    let BestConcurrency { concurrency, rate, by_itl, by_ttft, evaluations } = wide;
    assert_eq!((by_itl, by_ttft, concurrency, evaluations), (31, 164, 49, 8));
    close(rate, 2.9715836);
    close(0.999 * Chain::new(execution, 49).full_rate(), 3.9003835);
}

#[test]
fn the_best_concurrency_is_where_the_peak_begins() {
    let execution = service(8.0, 0.033, 0.000333, 256.0, 1024.0);
    let targets = Means { ttft_seconds: 0.06, itl_seconds: 0.02 };
    let rate = |m: u32| size(&Chain::new(execution, m), &targets, 128).rate;
    assert_eq!(rate(1), 0.0);
    for (m, wanted) in [
        (2, 0.014588269),
        (3, 0.04824382),
        (4, 0.09324597),
        (5, 0.14415485),
        (8, 0.3081609),
        (16, 0.7119196),
        (32, 1.2763003),
        (69, 1.9232237),
    ] {
        close(rate(m), wanted);
    }
    assert!((60..80).all(|m| rate(m) <= rate(69) * (1.0 + TOLERANCE)));
    let best = best_concurrency(&execution, &targets, 128, 256);
    assert_eq!((best.concurrency, best.evaluations), (67, 8));
    let itl_only = Means { ttft_seconds: f64::INFINITY, ..targets };
    for (m, wanted) in [(2, 0.2268198), (3, 0.32886606), (4, 0.424316)] {
        close(size(&Chain::new(execution, m), &itl_only, 128).rate, wanted);
    }
    assert_eq!(onset(1, 64, 0.99, 6, |m| f64::from(m.min(50)) / 50.0).at, 50);
}
