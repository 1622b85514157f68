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
