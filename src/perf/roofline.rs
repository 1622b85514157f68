//! From data sheet and architecture to the figures of one replica, with no measurement at all: the
//! additive roofline. One iteration reads the weights, computes its tokens, sums activations between
//! accelerators and reads KV memory, one after the other; software efficiency is a constant per term.

use super::architecture::{Architecture, NumberFormat, Parallelism};
use super::hardware::DataSheet;
use super::parameters::Parameters;

// Constants fitted on 1,021 measured points of dense models on H100, H200 and B200 under vLLM, SGLang and
// TensorRT-LLM (ai-dynamo/aiconfigurator, silicon_sample.csv); mean error of the time per token 16.5 %.

/// Share of the memory bandwidth that is reached.
const MEMORY_EFFICIENCY: f64 = 0.85;
/// Share of the FLOP/s that is reached.
const COMPUTE_EFFICIENCY: f64 = 0.7;
/// Share of the link bandwidth that is reached.
const LINK_EFFICIENCY: f64 = 0.7;
/// Kernel launches and two all-reduces of one layer on 1, 2, 4, 8 accelerators, seconds.
const LAYER_OVERHEAD_SECONDS: [f64; 4] = [30e-6, 50e-6, 65e-6, 80e-6];
/// Bytes of one activation: 16-bit whatever the weights are.
const ACTIVATION_BYTES: f64 = 2.0;

/// Share of the memory that engines take by default (`--gpu-memory-utilization`).
const MEMORY_SHARE: f64 = 0.9;
/// Memory of each accelerator that is neither weights nor KV cache: runtime, graphs, activations, bytes.
const OTHER_BYTES: f64 = 3.5e9;
/// A replica with a smaller KV cache than this serves nothing useful, tokens.
const SMALLEST_KV_TOKENS: f64 = 2048.0;
/// Largest replica that is suggested when the weights do not fit.
const MOST_ACCELERATORS: u32 = 1024;

/// Figures of one replica by estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub parameters: Parameters,
    /// KV-cache capacity, tokens.
    pub kv_tokens: f64,
}

/// Why nothing can be estimated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EstimateError {
    #[error("a replica needs at least one accelerator")]
    NoAccelerator,
    #[error("the data sheet of {0} has a figure that is not positive")]
    BadDataSheet(String),
    #[error("the architecture of {0} has a figure that is not positive")]
    BadArchitecture(String),
    #[error(
        "{needed_gb:.0} GB of {} weights and {other_gb:.0} GB for the engine leave no room for a KV cache in the \
         {usable_gb:.0} GB that {accelerators} x {sheet} give{}",
        weights.as_str(),
        fitting.map_or_else(String::new, |n| format!("; {n} accelerators per replica would fit"))
    )]
    DoesNotFit {
        sheet: String,
        weights: NumberFormat,
        accelerators: u32,
        needed_gb: f64,
        other_gb: f64,
        usable_gb: f64,
        /// The smallest power of two that would fit.
        fitting: Option<u32>,
    },
}

/// Figures of one replica on `accelerators` accelerators under tensor parallelism.
///
/// The model of an iteration with `b` requests is the sum of four times: weights read once and a fixed
/// overhead per layer (alpha); arithmetic and all-reduce per token computed (beta); KV memory per token
/// of context (gamma). Two things have no place in these three numbers and are left out: the quadratic
/// part of long prompts (5 % of the arithmetic of a 70B model at 5,000 tokens), and that a mixture of
/// experts reads fewer weights while its batch is small - all of them are counted.
///
/// # Errors
/// The weights do not fit, or a figure is not positive.
pub fn estimate(
    sheet: &DataSheet,
    architecture: &Architecture,
    accelerators: u32,
    weights: NumberFormat,
    kv: NumberFormat,
) -> Result<Estimate, EstimateError> {
    if accelerators == 0 {
        return Err(EstimateError::NoAccelerator);
    }
    if !sheet.is_usable() {
        return Err(EstimateError::BadDataSheet(sheet.name.to_string()));
    }
    if !architecture.is_usable() {
        return Err(EstimateError::BadArchitecture(architecture.name.to_string()));
    }
    let architecture = &architecture.stored_as(weights);
    let kv_tokens = kv_tokens(sheet, architecture, accelerators, kv);
    if kv_tokens < SMALLEST_KV_TOKENS {
        return Err(does_not_fit(sheet, architecture, accelerators, weights, kv));
    }
    Ok(Estimate { parameters: parameters(sheet, architecture, accelerators, weights, kv), kv_tokens })
}

fn parameters(
    sheet: &DataSheet,
    architecture: &Architecture,
    accelerators: u32,
    weights: NumberFormat,
    kv: NumberFormat,
) -> Parameters {
    let n = f64::from(accelerators);
    let layers = f64::from(architecture.layers);
    let bandwidth = sheet.bandwidth_bytes_per_second * MEMORY_EFFICIENCY;
    let flops = COMPUTE_EFFICIENCY
        * match weights {
            NumberFormat::Fp8 | NumberFormat::Int8 => sheet.fp8_flops,
            // Four-bit weights are widened before the multiplication.
            NumberFormat::Bf16 | NumberFormat::Int4 | NumberFormat::Nvfp4 | NumberFormat::Mxfp4 => sheet.bf16_flops,
        };
    let read = architecture.read_bytes_each(&Parallelism::tensor(1));
    let read = read.always + read.experts;
    let compute = 2.0 * architecture.computed_parameters() / (n * flops);
    let reduced_bytes = 4.0 * layers * f64::from(architecture.hidden_size) * ACTIVATION_BYTES;
    let reduce = reduced_bytes * (n - 1.0) / (n * 2.0 * sheet.link_bytes_per_second * LINK_EFFICIENCY);
    Parameters::uniform(
        read / (n * bandwidth) + layers * layer_overhead_seconds(accelerators),
        compute + reduce,
        architecture.kv_bytes_per_token_each(kv, accelerators) / bandwidth,
    )
}

/// Between the fitted sizes by the logarithm; beyond 8 the last step goes on.
fn layer_overhead_seconds(accelerators: u32) -> f64 {
    let doublings = f64::from(accelerators).log2();
    let mut overhead = LAYER_OVERHEAD_SECONDS[0];
    for (step, pair) in LAYER_OVERHEAD_SECONDS.windows(2).enumerate() {
        let last = step + 2 == LAYER_OVERHEAD_SECONDS.len();
        let part = (doublings - step as f64).max(0.0);
        overhead += (pair[1] - pair[0]) * if last { part } else { part.min(1.0) };
    }
    overhead
}

/// KV capacity of one replica, tokens; negative when not even the weights fit.
fn kv_tokens(sheet: &DataSheet, architecture: &Architecture, accelerators: u32, kv: NumberFormat) -> f64 {
    let n = f64::from(accelerators);
    let room = n * usable_bytes(sheet) - architecture.weight_bytes();
    room / (n * architecture.kv_bytes_per_token_each(kv, accelerators))
}

/// Memory of one accelerator for weights and KV cache, bytes.
fn usable_bytes(sheet: &DataSheet) -> f64 {
    MEMORY_SHARE * sheet.memory_bytes - OTHER_BYTES
}

fn does_not_fit(
    sheet: &DataSheet,
    architecture: &Architecture,
    accelerators: u32,
    weights: NumberFormat,
    kv: NumberFormat,
) -> EstimateError {
    let fits = |n: &u32| kv_tokens(sheet, architecture, *n, kv) >= SMALLEST_KV_TOKENS;
    let powers = std::iter::successors(Some(1u32), |n| n.checked_mul(2)).take_while(|n| *n <= MOST_ACCELERATORS);
    EstimateError::DoesNotFit {
        sheet: sheet.name.to_string(),
        weights,
        accelerators,
        needed_gb: architecture.weight_bytes() / 1e9,
        other_gb: f64::from(accelerators) * OTHER_BYTES / 1e9,
        usable_gb: f64::from(accelerators) * MEMORY_SHARE * sheet.memory_bytes / 1e9,
        fitting: powers.filter(|n| *n > accelerators).find(fits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::{architecture, data_sheet};

    fn of(sheet: &str, model: &str, n: u32, weights: NumberFormat) -> Result<Estimate, EstimateError> {
        estimate(&data_sheet(sheet).unwrap(), &architecture(model).unwrap(), n, weights, NumberFormat::Bf16)
    }

    /// Time of one iteration at `b` closed-loop requests: the work of each is its decoded token, its share
    /// of the prefills going on, and its context.
    fn iteration_seconds(p: &Parameters, b: f64, input: f64, output: f64) -> f64 {
        let tokens = b * (1.0 + input / output);
        p.alpha_seconds + p.beta_seconds_per_token * tokens + p.gamma_seconds_per_token * b * (input + output / 2.0)
    }

    #[test]
    fn measured_times_of_a_70b_model_on_two_h100_are_met() {
        // Published NIM measurements, Llama-3.3-70B, fp8 weights, 5000 in, 500 out.
        let p = of("H100", "llama-3.3-70b", 2, NumberFormat::Fp8).unwrap().parameters;
        for (b, measured_ms) in [(1.0, 18.58), (5.0, 21.83), (25.0, 38.75), (50.0, 59.73)] {
            let ms = 1e3 * iteration_seconds(&p, b, 5000.0, 500.0);
            assert!((ms / measured_ms - 1.0).abs() < 0.10, "at {b}: {ms:.2} ms, measured {measured_ms}");
        }
    }

    #[test]
    fn kv_limit_of_that_replica_is_where_measured_throughput_freezes() {
        let sheet = data_sheet("H100").unwrap();
        let arch = architecture("llama-3.3-70b").unwrap();
        let e = estimate(&sheet, &arch, 2, NumberFormat::Fp8, NumberFormat::Fp8).unwrap();
        let requests = e.kv_tokens / 5250.0;
        assert!((85.0..95.0).contains(&requests), "{requests}");
    }

    #[test]
    fn weights_that_do_not_fit_are_refused_with_the_number_that_would() {
        let error = of("H100", "llama-3.1-70b", 1, NumberFormat::Bf16).unwrap_err();
        let EstimateError::DoesNotFit { fitting, .. } = &error else { panic!("{error}") };
        assert_eq!(*fitting, Some(2));
        assert_eq!(
            error.to_string(),
            "141 GB of bf16 weights and 4 GB for the engine leave no room for a KV cache in the 77 GB that 1 x H100 \
             give; 2 accelerators per replica would fit"
        );
        assert!(of("H100", "llama-3.1-70b", 2, NumberFormat::Bf16).is_ok());
        assert!(matches!(of("L4", "llama-3.1-8b", 0, NumberFormat::Bf16), Err(EstimateError::NoAccelerator)));
    }

    #[test]
    fn more_accelerators_are_faster_and_hold_more() {
        let all: Vec<Estimate> =
            [2, 3, 4, 8, 16].map(|n| of("H100", "llama-3.1-70b", n, NumberFormat::Bf16).unwrap()).to_vec();
        for pair in all.windows(2) {
            assert!(pair[1].kv_tokens > pair[0].kv_tokens);
            let at = |e: &Estimate| iteration_seconds(&e.parameters, 8.0, 1000.0, 200.0);
            assert!(at(&pair[1]) < at(&pair[0]));
        }
    }

    #[test]
    fn overhead_goes_through_the_fitted_sizes() {
        for (n, us) in [(1, 30.0), (2, 50.0), (4, 65.0), (8, 80.0), (16, 95.0)] {
            assert!((layer_overhead_seconds(n) * 1e6 - us).abs() < 1e-9, "{n}");
        }
        assert!((50e-6..65e-6).contains(&layer_overhead_seconds(3)));
    }

    #[test]
    fn figures_that_are_not_positive_are_errors() {
        let arch = architecture("llama-3.1-8b").unwrap();
        let mut sheet = data_sheet("H100").unwrap();
        sheet.bandwidth_bytes_per_second = f64::NAN;
        let run = |s: &DataSheet, a: &Architecture| estimate(s, a, 1, NumberFormat::Bf16, NumberFormat::Bf16);
        assert!(matches!(run(&sheet, &arch), Err(EstimateError::BadDataSheet(_))));
        let sheet = data_sheet("H100").unwrap();
        assert!(matches!(
            run(&sheet, &Architecture { layers: 0, ..arch.clone() }),
            Err(EstimateError::BadArchitecture(_))
        ));
    }
}
