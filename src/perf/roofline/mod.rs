//! From data sheet and architecture to the figures of one replica, with no measurement at all: the
//! additive roofline. One iteration reads the weights, computes its tokens, sums activations between
//! accelerators and reads KV memory, one after the other; what software makes of it is a constant per term,
//! fitted on measured points of many models, accelerators and engines. It knows no queue.

mod closed_loop;
mod constants;
mod memory;
mod paper;
mod terms;

use super::architecture::{Architecture, NumberFormat, Parallelism};
use super::hardware::DataSheet;
use super::parameters::{Experts, Parameters, Prompts, Shape};

pub use closed_loop::{ClosedLoop, Latency};
pub use constants::{ByKind, Cell, Constant, Constants, EngineFamily, FirstToken, Provenance, Spread, Spreads};
pub use memory::Memory;
pub use paper::PaperReplica;
pub use terms::{Ideal, Load, PerTerm, Term};

/// A replica with a smaller KV cache than this serves nothing useful, tokens.
const SMALLEST_KV_TOKENS: f64 = 2048.0;
/// Largest replica that is suggested when the weights do not fit.
const MOST_ACCELERATORS: u32 = 1024;
/// The shape whose parameters stand for all where no shape is given: attention is not quite linear.
const USUAL_SHAPE: Shape = Shape { input_tokens: 2048.0, output_tokens: 512.0 };

/// One replica on paper.
#[derive(Clone, Copy, Debug)]
pub struct Deployment<'a> {
    pub sheet: &'a DataSheet,
    /// As its weights are stored.
    pub architecture: &'a Architecture,
    pub parallel: Parallelism,
    pub kv_format: NumberFormat,
    pub engine: EngineFamily,
}

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
    #[error("{tensor}-way tensor parallelism cannot divide the {heads} attention heads of {architecture}")]
    UnevenHeads { architecture: String, tensor: u32, heads: u32 },
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

/// The additive roofline of one replica that fits its memory.
#[derive(Clone, Debug)]
pub struct Roofline<'a> {
    deployment: Deployment<'a>,
    constants: &'a Constants,
    ideal: Ideal<'a>,
    multipliers: PerTerm,
    memory: Memory,
}

impl<'a> Roofline<'a> {
    /// # Errors
    /// A figure is not positive, or the weights do not fit.
    pub fn new(deployment: Deployment<'a>, constants: &'a Constants, memory: Memory) -> Result<Self, EstimateError> {
        let Deployment { sheet, architecture, parallel, kv_format, engine } = deployment;
        if parallel.accelerators() == 0 {
            return Err(EstimateError::NoAccelerator);
        }
        if !sheet.is_usable() {
            return Err(EstimateError::BadDataSheet(sheet.name.to_string()));
        }
        if !architecture.is_usable() {
            return Err(EstimateError::BadArchitecture(architecture.name.to_string()));
        }
        let (heads, tensor) = (architecture.query_heads, parallel.tensor);
        if heads > 0 && heads % tensor.max(1) != 0 {
            return Err(EstimateError::UnevenHeads { architecture: architecture.name.to_string(), tensor, heads });
        }
        if memory.kv_tokens(&deployment, USUAL_SHAPE.input_tokens) < SMALLEST_KV_TOKENS {
            return Err(does_not_fit(&deployment, &memory));
        }
        Ok(Self {
            deployment,
            constants,
            ideal: Ideal::new(sheet, architecture, parallel, kv_format),
            multipliers: constants.multipliers(engine, sheet.generation),
            memory,
        })
    }

    pub fn ideal(&self) -> &Ideal<'a> {
        &self.ideal
    }

    pub fn multipliers(&self) -> &PerTerm {
        &self.multipliers
    }

    pub fn is_mixture(&self) -> bool {
        self.deployment.architecture.mixture.is_some()
    }

    /// KV-cache capacity where requests hold `context` tokens on average: sliding windows and states that do
    /// not grow make it larger in tokens for long contexts.
    pub fn kv_tokens(&self, context: f64) -> f64 {
        self.memory.kv_tokens(&self.deployment, context)
    }

    /// Requests of that shape that the KV cache holds, each half way through its answer.
    pub fn most_concurrent(&self, shape: &Shape) -> f64 {
        let context = shape.input_tokens + shape.output_tokens / 2.0;
        self.kv_tokens(context) / context
    }

    /// The least time between two tokens: one request, no context.
    pub fn minimum_cycle_seconds(&self) -> f64 {
        self.parameters(&USUAL_SHAPE).iteration_seconds(0.0, 1.0, 0.0)
    }

    /// Relative error to expect, without any measurement.
    pub fn spread(&self) -> Spreads {
        self.constants.spread(self.deployment.sheet.generation, self.is_mixture())
    }

    /// What the first token takes beyond iterations: the server's and the network's share, seconds.
    pub fn request_overhead_seconds(&self) -> f64 {
        let [_, _, _, request] = self.constants.first_token(self.deployment.engine);
        request
    }

    /// The figures of an iteration for requests of that shape: attention's share of a prompt token grows with
    /// the prompt, and what decoding reads of sliding windows and states does not grow with the context.
    pub fn parameters(&self, shape: &Shape) -> Parameters {
        let input = shape.input_tokens.max(1.0);
        let output_tokens = shape.output_tokens.max(1.0);
        let load = Load { batch: 1.0, input_tokens: 0.0, output_tokens, decode_only: false };
        let context = Load { input_tokens: input, ..load }.context();
        let of = |terms: &PerTerm, which: &[Term]| which.iter().map(|t| terms[*t as usize]).sum::<f64>();

        // One decoded token without context.
        let decode = self.weighted(&self.ideal.iteration(&load));
        let alpha = of(&decode, &[Term::Weights, Term::Iteration]) + of(&decode, &Term::OF_ENGINE);
        let per_token =
            [Term::Compute, Term::ExpertCompute, Term::Communication, Term::ExpertCommunication, Term::Token];
        let prompt = self.weighted(&self.ideal.iteration(&Load { input_tokens: input, output_tokens: 1.0, ..load }));
        let attention = self.multipliers[Term::Attention as usize] * self.ideal.prompt_attention_seconds(input);
        let kv = |context: f64| {
            self.multipliers[Term::Kv as usize] * self.ideal.kv_seconds_per_request(context)
                + self.multipliers[Term::Attention as usize] * self.ideal.decode_attention_seconds(context)
        };
        let (experts_seconds, left_out) = self.ideal.experts();
        Parameters {
            alpha_seconds: alpha,
            beta_seconds_per_token: (of(&prompt, &per_token) - of(&decode, &per_token) + attention) / input,
            decode_seconds_per_token: of(&decode, &per_token) + of(&decode, &[Term::Request]) + kv(0.0),
            gamma_seconds_per_token: (kv(context) - kv(0.0)) / context,
            experts: match self.is_mixture() {
                true => Experts { all_seconds: experts_seconds * self.multipliers[Term::Experts as usize], left_out },
                false => Experts::default(),
            },
            prompts: Prompts { overhead_seconds: self.request_overhead_seconds(), ..Prompts::default() },
        }
    }
}

/// Figures of one replica on `accelerators` accelerators under tensor parallelism, for requests of a usual
/// shape under an engine that is not known.
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
    let architecture = &architecture.stored_as(weights);
    let parallel = Parallelism::tensor(accelerators);
    Ok(PaperReplica::new(sheet, architecture, parallel, kv, EngineFamily::Other)?.estimate())
}

fn does_not_fit(deployment: &Deployment, memory: &Memory) -> EstimateError {
    let accelerators = deployment.parallel.accelerators();
    let fits = |n: &u32| {
        let more = Deployment { parallel: Parallelism::tensor(*n), ..*deployment };
        memory.kv_tokens(&more, USUAL_SHAPE.input_tokens) >= SMALLEST_KV_TOKENS
    };
    let powers = std::iter::successors(Some(1u32), |n| n.checked_mul(2)).take_while(|n| *n <= MOST_ACCELERATORS);
    EstimateError::DoesNotFit {
        sheet: deployment.sheet.name.to_string(),
        weights: deployment.architecture.stored_format(),
        accelerators,
        needed_gb: deployment.architecture.weight_bytes() / 1e9,
        other_gb: f64::from(accelerators) * memory.other_bytes / 1e9,
        usable_gb: f64::from(accelerators) * memory.share * deployment.sheet.memory_bytes / 1e9,
        fitting: powers.filter(|n| *n > accelerators).find(fits),
    }
}

#[cfg(test)]
mod tests;
