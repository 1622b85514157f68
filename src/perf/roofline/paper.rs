//! A replica on paper that outlives its policy: figures for requests of any lengths.

use super::{Constants, Deployment, EngineFamily, Estimate, EstimateError, Memory, Roofline, USUAL_SHAPE};
use crate::perf::architecture::{Architecture, NumberFormat, Parallelism};
use crate::perf::hardware::DataSheet;
use crate::perf::parameters::{Parameters, Shape};

/// What an estimate is computed from.
#[derive(Clone, Debug, PartialEq)]
pub struct PaperReplica {
    sheet: DataSheet,
    architecture: Architecture,
    parallel: Parallelism,
    kv_format: NumberFormat,
    engine: EngineFamily,
    /// Figures for [`USUAL_SHAPE`].
    usual: Parameters,
}

impl PaperReplica {
    /// `architecture` as its weights are stored.
    ///
    /// # Errors
    /// A figure is not positive, or the weights do not fit.
    pub fn new(
        sheet: &DataSheet,
        architecture: &Architecture,
        parallel: Parallelism,
        kv_format: NumberFormat,
        engine: EngineFamily,
    ) -> Result<Self, EstimateError> {
        let deployment = Deployment { sheet, architecture, parallel, kv_format, engine };
        let usual = Roofline::new(deployment, Constants::shipped(), Memory::default())?.parameters(&USUAL_SHAPE);
        Ok(Self { sheet: sheet.clone(), architecture: architecture.clone(), parallel, kv_format, engine, usual })
    }

    fn deployment(&self) -> Deployment<'_> {
        Deployment {
            sheet: &self.sheet,
            architecture: &self.architecture,
            parallel: self.parallel,
            kv_format: self.kv_format,
            engine: self.engine,
        }
    }

    fn roofline(&self) -> Option<Roofline<'_>> {
        Roofline::new(self.deployment(), Constants::shipped(), Memory::default()).ok()
    }

    /// Figures for requests of a usual shape.
    pub fn estimate(&self) -> Estimate {
        Estimate { parameters: self.usual, kv_tokens: self.kv_tokens(&USUAL_SHAPE) }
    }

    /// Figures for requests of that shape.
    pub fn parameters(&self, shape: &Shape) -> Parameters {
        self.roofline().map_or(self.usual, |roofline| roofline.parameters(shape))
    }

    /// KV-cache capacity for requests of that shape, tokens: what sliding windows and states take does not grow
    /// with the context.
    pub fn kv_tokens(&self, shape: &Shape) -> f64 {
        Memory::default().kv_tokens(&self.deployment(), shape.input_tokens.max(1.0))
    }

    /// Share of a capacity to keep in reserve, 0..1.
    pub fn margin(&self) -> f64 {
        let is_mixture = self.architecture.mixture.is_some();
        Constants::shipped().spread(self.sheet.generation, is_mixture).tpot.margin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::{architecture, data_sheet};

    fn paper(sheet: &str, model: &str, n: u32, weights: NumberFormat) -> PaperReplica {
        let of = architecture(model).unwrap().stored_as(weights);
        let parallel = Parallelism::tensor(n);
        PaperReplica::new(&data_sheet(sheet).unwrap(), &of, parallel, NumberFormat::Bf16, EngineFamily::Vllm).unwrap()
    }

    /// Attention over a long prompt costs more per token than over a short one; decoding does not know prompts.
    #[test]
    fn long_prompts_cost_more_per_token() {
        let paper = paper("H100", "llama-3.1-8b", 1, NumberFormat::Bf16);
        let at = |input_tokens| paper.parameters(&Shape { input_tokens, output_tokens: 256.0 });
        let (short, long) = (at(512.0), at(65_536.0));
        assert!(long.beta_seconds_per_token > 1.5 * short.beta_seconds_per_token, "{long:?} {short:?}");
        assert_eq!(long.alpha_seconds, short.alpha_seconds);
    }

    #[test]
    fn mixtures_and_unmeasured_parts_keep_more_in_reserve() {
        let dense = paper("H100", "llama-3.1-8b", 1, NumberFormat::Bf16).margin();
        let mixture = paper("H100", "mixtral-8x7b", 2, NumberFormat::Bf16).margin();
        let unmeasured = paper("A100-80GB", "llama-3.1-8b", 1, NumberFormat::Bf16).margin();
        assert!(0.05 < dense && dense < mixture && mixture < 0.3, "{dense} {mixture}");
        assert!(dense < unmeasured, "{dense} {unmeasured}");
    }
}
