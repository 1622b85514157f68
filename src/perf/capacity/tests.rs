//! What must hold of capacities whatever the replica.

use proptest::prelude::*;

use super::super::{Experts, Prompts};
use super::*;

const SHAPE: Shape = Shape { input_tokens: 871.0, output_tokens: 567.0 };

fn replica() -> Replica {
    let limits = Limits { max_num_seqs: 60, max_num_batched_tokens: 8192 };
    Replica::new(Parameters::uniform(10.645377e-3, 0.041760195e-3, 5.770509e-8), limits, 200_000.0, Evidence::Curve)
}

fn of(replica: &Replica, target: &Target) -> Capacity {
    capacity(replica, &SHAPE, &Traffic::default(), target)
}

#[test]
fn capacity_lies_below_saturation_and_its_prediction_meets_the_target() {
    let c = of(&replica(), &Target { quantile: 0.99, ttft_seconds: 1.5, itl_seconds: 0.03 });
    assert!(c.rate > 1.0 && c.rate < 5.028, "{c:?}");
    assert!(c.ttft_seconds <= 1.5 && c.itl_seconds <= 0.03);
}

#[test]
fn what_binds_is_named() {
    let tight_itl = Target { quantile: 0.99, ttft_seconds: 60.0, itl_seconds: 0.016 };
    assert_eq!(of(&replica(), &tight_itl).limit, Limit::Itl);
    assert_eq!(of(&replica(), &Target::THROUGHPUT).limit, Limit::Throughput);
    let impossible = Target { quantile: 0.99, ttft_seconds: 1.0, itl_seconds: 0.005 };
    let c = of(&replica(), &impossible);
    assert_eq!((c.limit, c.rate), (Limit::Infeasible, 0.0));
    assert!(c.itl_seconds > 0.0105, "the best possible value is reported");
    let queueing = Target { quantile: 0.99, ttft_seconds: 5.0, itl_seconds: 1.0 };
    assert_eq!(of(&replica(), &queueing).limit, Limit::MaxSequences);
    let small = Replica { kv_tokens: 12_000.0, ..replica() };
    assert_eq!(of(&small, &queueing).limit, Limit::KvMemory);
    let too_small = Replica { kv_tokens: 1_000.0, ..replica() };
    assert_eq!(of(&too_small, &queueing).limit, Limit::Infeasible);
    let long = Shape { input_tokens: 8000.0, output_tokens: 20.0 };
    let quick = Target { quantile: 0.95, ttft_seconds: 2.0, itl_seconds: 10.0 };
    assert_eq!(capacity(&replica(), &long, &Traffic::default(), &quick).limit, Limit::Ttft);
}

#[test]
fn the_cache_answers_what_the_function_answers() {
    let target = |ttft_seconds| Target { quantile: 0.95, ttft_seconds, itl_seconds: 0.03 };
    let mut cache = CapacityCache::default();
    let bursty = Traffic { burstiness: 4.0, ..Traffic::default() };
    for traffic in [Traffic::default(), bursty] {
        for _ in 0..2 {
            for seconds in [0.5, 1.0] {
                let found = cache.capacity(&replica(), &SHAPE, &traffic, &target(seconds));
                assert_eq!(found, capacity(&replica(), &SHAPE, &traffic, &target(seconds)));
            }
        }
    }
    assert_eq!((cache.hits, cache.misses), (4, 4));
    let targets = [target(0.5), target(2.0)];
    let mut found = [Capacity::infeasible(0.0, 0.0); 2];
    cache.capacities(&replica(), &SHAPE, &bursty, &targets, &mut found);
    assert_eq!(found[1], capacity(&replica(), &SHAPE, &bursty, &targets[1]));
    assert_eq!((cache.hits, cache.misses), (5, 5));
}

/// The spread is what is kept back, whatever the evidence is called.
#[test]
fn the_spread_is_taken_off() {
    let sure = Replica { spread: 0.0, ..replica() };
    let half = Replica { spread: 0.5, ..replica() };
    let target = Target { quantile: 0.95, ttft_seconds: 1.0, itl_seconds: 0.03 };
    assert!((of(&half, &target).rate / of(&sure, &target).rate - 0.5).abs() < 1e-12);
    let kept = 1.0 - Evidence::Curve.safety_margin();
    assert!((of(&replica(), &target).rate / of(&sure, &target).rate - kept).abs() < 1e-12);
}

#[test]
fn figures_that_make_no_sense_have_no_capacity() {
    let target = Target { quantile: 0.95, ttft_seconds: 1.0, itl_seconds: 0.03 };
    for kv_tokens in [f64::NAN, f64::INFINITY, -1.0] {
        assert_eq!(of(&Replica { kv_tokens, ..replica() }, &target).rate, 0.0);
    }
    for input_tokens in [f64::NAN, f64::INFINITY] {
        let shape = Shape { input_tokens, output_tokens: 10.0 };
        assert_eq!(capacity(&replica(), &shape, &Traffic::default(), &target).rate, 0.0);
    }
    for quantile in [f64::NAN, 0.0, 1.0, 7.0] {
        assert!(of(&replica(), &Target { quantile, ..target }).rate.is_finite());
    }
    let nothing = Target { ttft_seconds: f64::NAN, ..target };
    assert!(of(&replica(), &nothing).rate.is_finite());
    let tiny = Shape { input_tokens: 0.0, output_tokens: 0.0 };
    assert!(capacity(&replica(), &tiny, &Traffic::default(), &target).rate.is_finite());
}

/// More hits in the prefix cache spare computation, never memory.
#[test]
fn the_prefix_cache_spares_computation_only() {
    let hits = |prefix_hit_ratio| Replica { prefix_hit_ratio, ..replica() };
    let target = Target { quantile: 0.95, ttft_seconds: 0.5, itl_seconds: 0.03 };
    assert!(of(&hits(0.5), &target).rate > 1.05 * of(&hits(0.0), &target).rate);
    let full = |r: Replica| Curve::new(&Replica { kv_tokens: 20_000.0, ..r }, &SHAPE, &Traffic::default()).unwrap();
    let held = |curve: &Curve| curve.kv_use(0.5).unwrap();
    assert!(held(&full(hits(0.9))) > 0.8 * held(&full(hits(0.0))), "what is not computed is held all the same");
}

prop_compose! {
    fn any_parameters()(
        alpha in 1e-3f64..30e-3, beta in 2e-6f64..2e-4, decode in prop_oneof![Just(1.0), 0.3f64..6.0],
        gamma in 1e-9f64..3e-7, experts in prop_oneof![Just(0.0), 1e-3f64..40e-3], left_out in 0.5f64..0.99,
        prompts in prop_oneof![
            Just(Prompts::default()),
            (1e-11f64..1e-8, 0f64..0.03)
                .prop_map(|(attention_seconds_per_pair, overhead_seconds)| Prompts { attention_seconds_per_pair, overhead_seconds }),
        ],
    ) -> Parameters {
        Parameters {
            alpha_seconds: alpha,
            beta_seconds_per_token: beta,
            decode_seconds_per_token: beta * decode,
            gamma_seconds_per_token: gamma,
            experts: Experts { all_seconds: experts, left_out },
            prompts,
        }
    }
}

prop_compose! {
    fn any_replica()(
        parameters in any_parameters(), seqs in prop_oneof![Just(256u32), 2u32..512],
        budget in prop_oneof![Just(2048u32), Just(8192), 512u32..16384], kv in 20_000f64..1e6, hit in 0.0f64..0.8,
    ) -> Replica {
        let limits = Limits { max_num_seqs: seqs, max_num_batched_tokens: budget };
        Replica { prefix_hit_ratio: hit, ..Replica::new(parameters, limits, kv, Evidence::Curve) }
    }
}

prop_compose! {
    fn any_load()(
        input in 8.0f64..9000.0, output in 16.0f64..1500.0, burstiness in prop_oneof![Just(1.0), 1.0f64..20.0],
        input_cv in 0.0f64..1.2, output_cv in 0.0f64..1.2,
    ) -> (Shape, Traffic) {
        (Shape { input_tokens: input, output_tokens: output }, Traffic { burstiness, input_cv, output_cv })
    }
}

prop_compose! {
    /// Multiples of what an idle replica does, so that the target binds.
    fn any_multiples()(ttft in 1.2f64..20.0, itl in 1.05f64..6.0, quantile in 0.6f64..0.995) -> (f64, f64, f64) {
        (ttft, itl, quantile)
    }
}

fn target_of(replica: &Replica, load: &(Shape, Traffic), multiples: (f64, f64, f64)) -> Option<Target> {
    let curve = Curve::new(replica, &load.0, &load.1)?;
    let idle = curve.latencies(curve.full_rate() * 1e-3, multiples.2)?;
    Some(Target {
        quantile: multiples.2,
        ttft_seconds: multiples.0 * idle.ttft_seconds,
        itl_seconds: multiples.1 * idle.itl_seconds,
    })
}

/// What the search leaves open, and what a formula of several parts may bend.
const SLACK: f64 = 1.0 + 5e-3;
/// Least ratio of a latency to that of a lower load.
const FLAT: f64 = 0.995;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn more_load_never_lowers_latency(replica in any_replica(), load in any_load(), quantile in 0.6f64..0.999) {
        let Some(curve) = Curve::new(&replica, &load.0, &load.1) else { return Ok(()) };
        let (mut ttft, mut itl) = (0.0, 0.0);
        for step in 1..40 {
            let q = curve.latencies(curve.full_rate() * f64::from(step) / 40.0, quantile).unwrap();
            prop_assert!(q.ttft_seconds.is_finite() && q.itl_seconds.is_finite());
            prop_assert!(q.ttft_seconds >= ttft * FLAT, "TTFT {} after {ttft} at {step}/40", q.ttft_seconds);
            prop_assert!(q.itl_seconds >= itl * FLAT, "ITL {} after {itl} at {step}/40", q.itl_seconds);
            (ttft, itl) = (q.ttft_seconds.max(ttft), q.itl_seconds.max(itl));
        }
        prop_assert!(curve.latencies(curve.full_rate(), quantile).is_none());
    }

    #[test]
    fn a_tighter_target_never_raises_capacity(
        replica in any_replica(), load in any_load(), multiples in any_multiples(), tighter in 0.3f64..1.0, q in 0.0f64..1.0,
    ) {
        let Some(loose) = target_of(&replica, &load, multiples) else { return Ok(()) };
        let base = capacity(&replica, &load.0, &load.1, &loose).rate;
        for tight in [
            Target { ttft_seconds: loose.ttft_seconds * tighter, ..loose },
            Target { itl_seconds: loose.itl_seconds * tighter, ..loose },
            Target { quantile: loose.quantile + q * (0.999 - loose.quantile), ..loose },
        ] {
            let rate = capacity(&replica, &load.0, &load.1, &tight).rate;
            prop_assert!(rate <= base * SLACK, "{tight:?}: {rate} against {base}");
        }
    }

    #[test]
    fn more_memory_never_lowers_capacity(
        replica in any_replica(), load in any_load(), multiples in any_multiples(), more in 1.0f64..3.0,
    ) {
        let Some(target) = target_of(&replica, &load, multiples) else { return Ok(()) };
        // In heavy bursts a small memory shields those inside from the rest of the burst, so that it may carry more.
        let load = (load.0, Traffic { burstiness: 1.0, ..load.1 });
        let rate = |kv_tokens| capacity(&Replica { kv_tokens, ..replica }, &load.0, &load.1, &target).rate;
        let (base, larger) = (rate(replica.kv_tokens), rate(replica.kv_tokens * more));
        prop_assert!(larger >= 0.98 * base, "{larger} against {base}");
    }

    #[test]
    fn a_slower_server_never_has_more_capacity(
        replica in any_replica(), load in any_load(), multiples in any_multiples(), factor in 1.0f64..2.0, which in 0usize..6,
    ) {
        let Some(target) = target_of(&replica, &load, multiples) else { return Ok(()) };
        let p = replica.parameters;
        let slow = match which {
            0 => Parameters { alpha_seconds: p.alpha_seconds * factor, ..p },
            1 => Parameters { beta_seconds_per_token: p.beta_seconds_per_token * factor, ..p },
            2 => Parameters { decode_seconds_per_token: p.decode_seconds_per_token * factor, ..p },
            3 => Parameters { gamma_seconds_per_token: p.gamma_seconds_per_token * factor, ..p },
            4 => Parameters { experts: Experts { all_seconds: p.experts.all_seconds * factor, ..p.experts }, ..p },
            _ => p.slowed(factor),
        };
        let rate = |parameters| capacity(&Replica { parameters, ..replica }, &load.0, &load.1, &target).rate;
        let (base, slower) = (rate(p), rate(slow));
        prop_assert!(slower <= base * SLACK, "{which} x {factor}: {slower} against {base}");
    }
}
