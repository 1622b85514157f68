use proptest::prelude::*;

use super::*;
use crate::perf::{architecture, data_sheet};

fn of(sheet: &str, model: &str, n: u32, weights: NumberFormat) -> Result<Estimate, EstimateError> {
    estimate(&data_sheet(sheet).unwrap(), &architecture(model).unwrap(), n, weights, NumberFormat::Bf16)
}

/// One replica, as figures that live long enough to borrow.
struct Case {
    sheet: DataSheet,
    architecture: Architecture,
    parallel: Parallelism,
    kv_format: NumberFormat,
}

impl Case {
    fn new(sheet: &str, model: &str, tensor: u32, weights: NumberFormat, kv_format: NumberFormat) -> Self {
        Self {
            sheet: data_sheet(sheet).unwrap(),
            architecture: architecture(model).unwrap().stored_as(weights),
            parallel: Parallelism::tensor(tensor),
            kv_format,
        }
    }

    fn roofline(&self) -> Roofline<'_> {
        let deployment = Deployment {
            sheet: &self.sheet,
            architecture: &self.architecture,
            parallel: self.parallel,
            kv_format: self.kv_format,
            engine: EngineFamily::Vllm,
        };
        Roofline::new(deployment, Constants::shipped(), Memory::default()).unwrap()
    }

    fn tpot(&self, concurrency: f64, input_tokens: f64, output_tokens: f64) -> f64 {
        let measured = ClosedLoop { concurrency, input_tokens, output_tokens, decode_only: false, most_running: None };
        self.roofline().closed_loop(&measured).tpot_seconds()
    }
}

const FP8: NumberFormat = NumberFormat::Fp8;
const BF16: NumberFormat = NumberFormat::Bf16;

/// Published NIM measurements, Llama-3.3-70B, fp8 weights, 5000 in, 500 out; they are not among the points that
/// the constants were fitted on.
#[test]
fn measured_times_of_a_70b_model_on_two_h100_are_met() {
    let case = Case::new("H100", "llama-3.3-70b", 2, FP8, FP8);
    for (b, measured_ms) in [(1.0, 18.58), (5.0, 21.83), (25.0, 38.75), (50.0, 59.73)] {
        let ms = 1e3 * case.tpot(b, 5000.0, 500.0);
        assert!((ms / measured_ms - 1.0).abs() < 0.15, "at {b}: {ms:.2} ms, measured {measured_ms}");
    }
}

#[test]
fn kv_limit_of_that_replica_is_where_measured_throughput_freezes() {
    let case = Case::new("H100", "llama-3.3-70b", 2, FP8, FP8);
    let requests = case.roofline().most_concurrent(&Shape { input_tokens: 5000.0, output_tokens: 500.0 });
    assert!((85.0..95.0).contains(&requests), "{requests}");
}

#[test]
fn parameters_say_what_the_terms_say() {
    for (model, exact) in [("llama-3.1-70b", 1e-9), ("deepseek-v3", 0.08), ("gpt-oss-120b", 0.08)] {
        let case = Case::new("B200", model, 8, FP8, FP8);
        let shape = Shape { input_tokens: 3000.0, output_tokens: 600.0 };
        let parameters = case.roofline().parameters(&shape);
        for b in [1.0, 16.0, 64.0] {
            let prompt = b * shape.input_tokens / shape.output_tokens;
            let kv = b * (shape.input_tokens + shape.output_tokens / 2.0);
            let sum = parameters.iteration_seconds(prompt, b, kv);
            // Parameters spread the tokens of prompts evenly when they count the experts that are read.
            let experts = parameters.experts.seconds(prompt + b);
            let apart = if parameters.experts.all_seconds > 0.0 { experts } else { 0.0 };
            let terms = case.tpot(b, shape.input_tokens, shape.output_tokens);
            assert!((sum - terms).abs() <= exact * terms + 0.6 * apart, "{model} at {b}: {sum} instead of {terms}");
        }
    }
}

#[test]
fn weights_that_do_not_fit_are_refused_with_the_number_that_would() {
    let error = of("H100", "llama-3.1-70b", 1, BF16).unwrap_err();
    let EstimateError::DoesNotFit { fitting, .. } = &error else { panic!("{error}") };
    assert_eq!(*fitting, Some(2));
    assert_eq!(
        error.to_string(),
        "141 GB of bf16 weights and 4 GB for the engine leave no room for a KV cache in the 77 GB that 1 x H100 \
         give; 2 accelerators per replica would fit"
    );
    assert!(of("H100", "llama-3.1-70b", 2, BF16).is_ok());
    assert!(matches!(of("L4", "llama-3.1-8b", 0, BF16), Err(EstimateError::NoAccelerator)));
}

#[test]
fn figures_that_are_not_positive_are_errors() {
    let arch = architecture("llama-3.1-8b").unwrap();
    let mut sheet = data_sheet("H100").unwrap();
    sheet.bandwidth_bytes_per_second = f64::NAN;
    let run = |s: &DataSheet, a: &Architecture| estimate(s, a, 1, BF16, BF16);
    assert!(matches!(run(&sheet, &arch), Err(EstimateError::BadDataSheet(_))));
    let sheet = data_sheet("H100").unwrap();
    let flat = Architecture { layers: 0, ..arch };
    assert!(matches!(run(&sheet, &flat), Err(EstimateError::BadArchitecture(_))));
}

#[test]
fn groups_of_attention_data_parallelism_hold_more_latent_cache_and_read_less_of_it() {
    let tensor = Case::new("H200", "deepseek-v3", 8, FP8, BF16);
    let mut data = Case::new("H200", "deepseek-v3", 8, FP8, BF16);
    data.parallel = Parallelism { tensor: 1, pipeline: 1, attention_data: 8, experts: 8 };
    assert!(data.roofline().kv_tokens(4096.0) > 3.0 * tensor.roofline().kv_tokens(4096.0));
    let kv = |case: &Case| case.roofline().ideal().kv_seconds_per_request(4096.0);
    assert!((kv(&tensor) / kv(&data) - 8.0).abs() < 1e-9);
}

#[test]
fn a_small_batch_reads_few_experts_and_a_large_one_reads_all() {
    let case = Case::new("H200", "deepseek-v3", 8, FP8, BF16);
    let roofline = case.roofline();
    let experts = |batch: f64| {
        let load = Load { batch, input_tokens: 1000.0, output_tokens: 1000.0, decode_only: true };
        roofline.ideal().iteration(&load)[Term::Experts as usize] / roofline.ideal().experts().0
    };
    assert!((experts(1.0) - 8.0 / 256.0).abs() < 1e-9);
    assert!(experts(1000.0) > 0.999);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn better_hardware_is_never_slower_and_more_of_it_holds_more(
        batch in 1.0f64..200.0, input in 16.0f64..8000.0, output in 16.0f64..4000.0, better in 1.0f64..3.0,
        model in prop::sample::select(vec!["llama-3.1-8b", "qwen3-32b", "gpt-oss-120b", "qwen3.5-397b-a17b"]),
    ) {
        let base = Case::new("B200", model, 8, FP8, FP8);
        let load = Load { batch, input_tokens: input, output_tokens: output, decode_only: false };
        let time = |case: &Case| -> f64 {
            let roofline = case.roofline();
            let terms = roofline.ideal().iteration(&load);
            terms.iter().zip(roofline.multipliers()).map(|(t, m)| t * m).sum()
        };
        let slow = time(&base);
        for change in [
            (|s: &mut DataSheet, f: f64| s.bandwidth_bytes_per_second *= f) as fn(&mut DataSheet, f64),
            |s, f| s.link_bytes_per_second *= f,
            |s, f| { s.bf16_flops *= f; s.fp8_flops *= f; s.fp4_flops *= f },
        ] {
            let mut case = Case::new("B200", model, 8, FP8, FP8);
            change(&mut case.sheet, better);
            prop_assert!(time(&case) <= slow * (1.0 + 1e-12));
        }
        let mut larger = Case::new("B200", model, 8, FP8, FP8);
        larger.sheet.memory_bytes *= better;
        let context = input + output / 2.0;
        prop_assert!(larger.roofline().kv_tokens(context) >= base.roofline().kv_tokens(context));
        let fewer = Case::new("B200", model, 4, FP8, FP8);
        prop_assert!(base.roofline().kv_tokens(context) > fewer.roofline().kv_tokens(context));
        // A larger batch is never faster.
        let more = Load { batch: batch * better, ..load };
        let terms = base.roofline().ideal().iteration(&more);
        let sum: f64 = terms.iter().zip(base.roofline().multipliers()).map(|(t, m)| t * m).sum();
        prop_assert!(sum >= slow * (1.0 - 1e-12));
    }
}
