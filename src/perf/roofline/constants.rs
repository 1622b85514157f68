//! How far software is from paper: a multiplier for each term of an iteration, and what the first token
//! takes beyond it, with the error that remains on groups of points that were left out. Fitted by
//! `poolwright accuracy --fit-constants`; the file it writes is part of the program.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::terms::{PerTerm, Term};
use crate::perf::hardware::Generation;

/// The software that serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineFamily {
    Vllm,
    Sglang,
    TensorrtLlm,
    /// Not known: the mean of the others.
    #[default]
    Other,
}

impl EngineFamily {
    /// Those with constants of their own.
    pub const KNOWN: [Self; 3] = [Self::Vllm, Self::Sglang, Self::TensorrtLlm];

    /// By the names in use: `vllm`, `sglang`, `trtllm`, `tensorrt-llm`.
    pub fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "vllm" => Some(Self::Vllm),
            "sglang" => Some(Self::Sglang),
            "trtllm" | "trt-llm" | "tensorrt-llm" | "tensorrtllm" => Some(Self::TensorrtLlm),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::TensorrtLlm => "tensorrt-llm",
            Self::Other => "other",
        }
    }
}

/// A constant: common to all engines, and what each engine multiplies it by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constant {
    pub value: f64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub engines: BTreeMap<EngineFamily, f64>,
}

impl Constant {
    pub fn of(&self, engine: EngineFamily) -> f64 {
        self.value * self.engines.get(&engine).copied().unwrap_or(1.0)
    }
}

/// Parts of the time to the first token where no request waits for memory: computing the own prompt; the
/// iterations it joins and that brings the token; prompts of the other requests of a closed loop; what the
/// server and the network take for any request, seconds.
pub type FirstToken = [f64; 4];

/// Spread of a prediction: factors on it between which 90 % of the measured values lie, and the standard
/// deviation of the logarithm of the error, wild points held back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub low: f64,
    pub high: f64,
    pub deviation: f64,
}

impl Spread {
    /// So many times as wide.
    pub fn widened(&self, factor: f64) -> Self {
        Self { low: self.low.powf(factor), high: self.high.powf(factor), deviation: self.deviation * factor }
    }

    /// Share of a capacity to keep in reserve: a replica that is slower than predicted by one deviation still keeps
    /// its promise. A capacity errs about as much as the time of an iteration.
    pub fn margin(&self) -> f64 {
        (1.0 - (-self.deviation).exp()).clamp(0.03, 0.5)
    }

    pub fn covers(&self, predicted: f64, measured: f64) -> bool {
        (predicted * self.low..=predicted * self.high).contains(&measured)
    }
}

/// Spread of both latencies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spreads {
    /// Time per output token.
    pub tpot: Spread,
    /// Time to first token, where requests do not queue for memory.
    pub ttft: Spread,
}

/// One kind of model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ByKind<T> {
    pub dense: T,
    pub mixture: T,
}

impl<T: Copy> ByKind<T> {
    pub fn of(&self, is_mixture: bool) -> T {
        if is_mixture { self.mixture } else { self.dense }
    }
}

/// How well the constants did on one engine and generation while the group of each point was left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    pub engine: EngineFamily,
    pub generation: Generation,
    pub kind: String,
    pub groups: usize,
    pub rows: usize,
    /// Mean and median relative error of the time per output token.
    pub tpot_mean_error: f64,
    pub tpot_median_error: f64,
    /// Standard deviation of the logarithm, wild points held back.
    pub tpot_deviation: f64,
}

/// Where the constants come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    pub source: String,
    /// Rows that were read, that the fit used, and their groups.
    pub rows: usize,
    pub rows_used: usize,
    pub groups: usize,
}

/// The shipped file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constants {
    pub provenance: Provenance,
    /// In the order of [`Term`]. Shares of ideal times are above 1; overheads are seconds.
    pub iteration: Vec<Constant>,
    /// In the order of [`FirstToken`]'s parts.
    pub first_token: Vec<Constant>,
    /// Without any measured point of the group.
    pub spread: ByKind<Spreads>,
    /// With eight.
    pub calibrated: ByKind<Spreads>,
    pub cells: Vec<Cell>,
}

/// Iterations on accelerators of these generations take so much longer than the constants say, which were
/// fitted on NVIDIA parts: published measurements of vLLM on MI300X reach 0.4 of the predicted throughput.
const OTHER_STACK: f64 = 2.0;
/// The stated spread is so much wider on generations that were never measured.
const UNMEASURED: f64 = 1.5;

impl Constants {
    /// Those that the program was built with.
    pub fn shipped() -> &'static Self {
        static SHIPPED: LazyLock<Constants> = LazyLock::new(|| {
            serde_json::from_str(include_str!("constants.json")).expect("a test reads the shipped file")
        });
        &SHIPPED
    }

    /// Multipliers of the terms.
    pub fn multipliers(&self, engine: EngineFamily, generation: Generation) -> PerTerm {
        let stack = if generation.is_nvidia() { 1.0 } else { OTHER_STACK };
        let mut all = [0.0; Term::COUNT];
        for (multiplier, constant) in all.iter_mut().zip(&self.iteration) {
            *multiplier = constant.of(engine) * stack;
        }
        all
    }

    pub fn first_token(&self, engine: EngineFamily) -> FirstToken {
        let mut all = FirstToken::default();
        for (multiplier, constant) in all.iter_mut().zip(&self.first_token) {
            *multiplier = constant.of(engine);
        }
        all
    }

    /// Spread of a prediction without measured points.
    pub fn spread(&self, generation: Generation, is_mixture: bool) -> Spreads {
        let spreads = self.spread.of(is_mixture);
        if self.cells.iter().any(|cell| cell.generation == generation) {
            return spreads;
        }
        Spreads { tpot: spreads.tpot.widened(UNMEASURED), ttft: spreads.ttft.widened(UNMEASURED) }
    }

    /// True when every multiplier is there, finite and not negative.
    pub fn is_usable(&self) -> bool {
        let usable = |c: &Constant| {
            c.value.is_finite() && c.value >= 0.0 && c.engines.values().all(|f| f.is_finite() && *f > 0.0)
        };
        self.iteration.len() == Term::COUNT
            && self.first_token.len() == FirstToken::default().len()
            && self.iteration.iter().chain(&self.first_token).all(usable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_is_usable() {
        let constants = Constants::shipped();
        assert!(constants.is_usable());
        for spreads in [constants.spread.dense, constants.spread.mixture] {
            for spread in [spreads.tpot, spreads.ttft] {
                assert!(spread.low < 1.0 && spread.high > 1.0 && spread.deviation > 0.0, "{spread:?}");
            }
        }
    }

    #[test]
    fn an_unknown_engine_gets_the_common_value_and_an_unmeasured_generation_a_wider_spread() {
        let constants = Constants::shipped();
        let other = constants.multipliers(EngineFamily::Other, Generation::Hopper);
        for (multiplier, constant) in other.iter().zip(&constants.iteration) {
            assert_eq!(*multiplier, constant.value);
        }
        let hopper = constants.spread(Generation::Hopper, false).tpot;
        let ampere = constants.spread(Generation::Ampere, false).tpot;
        assert!(ampere.low < hopper.low && ampere.high > hopper.high);
        let amd = constants.multipliers(EngineFamily::Other, Generation::Cdna);
        assert!(amd.iter().zip(&other).all(|(a, o)| a >= o));
    }
}
