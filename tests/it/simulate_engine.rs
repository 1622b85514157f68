use poolwright::perf::{Limits, Parameters};
use poolwright::simulate::{Engine, EngineSpec, Request};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const INPUT: u32 = 1000;
const OUTPUT: u32 = 200;

/// Mean ITL of one replica under Poisson arrivals of equal requests.
fn simulated_itl(spec: EngineSpec, rate: f64) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut engine = Engine::new(spec, ChaCha8Rng::seed_from_u64(2), 0.0);
    let mut at = 0.0;
    for id in 0..4000 {
        at -= (1.0 - rng.random::<f64>()).ln() / rate;
        engine.advance(at);
        let request = Request {
            id,
            model: 0,
            class: 0,
            priority: 0,
            arrival_seconds: at,
            input_tokens: INPUT,
            output_tokens: OUTPUT,
        };
        engine.submit(request, at);
    }
    engine.advance(at + 1000.0);
    let done = engine.take_completions();
    assert_eq!(done.len(), 4000);
    done.iter().filter_map(|c| c.itl_seconds).sum::<f64>() / 4000.0
}

/// The iteration time at which arrivals and residence balance: with work `w` per request and `K` decode
/// steps after one prefill iteration, B = rate x (1 + K) x T and T = alpha + B x w / (1 + K).
fn balanced_itl(spec: &EngineSpec, rate: f64) -> f64 {
    let p = &spec.parameters;
    let (input, steps) = (f64::from(INPUT), f64::from(OUTPUT - 1));
    let prefill = (p.beta_seconds_per_token + p.gamma_seconds_per_token) * input;
    let decode = (p.beta_seconds_per_token + p.gamma_seconds_per_token * (input + (steps + 1.0) / 2.0)) * steps;
    p.alpha_seconds / (1.0 - rate * (prefill + decode))
}

#[test]
fn a_steady_load_settles_where_the_performance_model_says() {
    let spec = EngineSpec {
        parameters: Parameters::uniform(0.012, 2.5e-5, 3e-8),
        limits: Limits::default(),
        kv_tokens: 400_000,
        noise: 0.0,
        prefix_hit_ratio: 0.0,
    };
    for rate in [1.0, 5.0, 10.0, 15.0] {
        let (seen, expected) = (simulated_itl(spec, rate), balanced_itl(&spec, rate));
        assert!((seen / expected - 1.0).abs() < 0.06, "rate {rate}: {seen} against {expected}");
    }
}
