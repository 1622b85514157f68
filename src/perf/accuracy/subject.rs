//! What a measured row was measured on: model, data sheet, division among accelerators, number formats. Or
//! the reason why that cannot be told.

use std::collections::BTreeMap;

use super::point::{Measured, Serving, Side};
use crate::perf::architecture::{Architecture, AttentionKind, NumberFormat, Parallelism, Parts, Stored};
use crate::perf::hardware::{DataSheet, Generation, data_sheet};
use crate::perf::roofline::{ClosedLoop, Constants, Deployment, EngineFamily, EstimateError, Memory, Roofline};

/// Model, accelerator system and engine, as the file names them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    pub model: String,
    pub system: String,
    pub engine: String,
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} {} {}", self.model, self.system, self.engine)
    }
}

/// One server does everything, or prefill and decode are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    Aggregated,
    Disaggregated,
}

/// Architectures by model name: those given first, then the catalogue.
#[derive(Clone, Debug, Default)]
pub struct Models {
    given: BTreeMap<String, Architecture>,
}

impl Models {
    /// Adds one under a name such as `Qwen/Qwen3-32B`; the organisation and the case do not matter.
    pub fn add(&mut self, name: &str, architecture: Architecture) {
        self.given.insert(key(name), architecture);
    }

    pub fn find(&self, name: &str) -> Option<Architecture> {
        self.given.get(&key(name)).cloned().or_else(|| crate::perf::architecture(name))
    }
}

fn key(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase()
}

/// A row that can be modelled.
#[derive(Clone, Debug)]
pub struct Subject {
    pub line: u64,
    pub group: Group,
    pub mode: Mode,
    pub sheet: DataSheet,
    /// As its weights are stored.
    pub architecture: Architecture,
    pub parallel: Parallelism,
    pub kv_format: NumberFormat,
    pub engine: EngineFamily,
    pub memory: Memory,
    pub closed_loop: ClosedLoop,
    pub ttft_seconds: f64,
    pub tpot_seconds: f64,
}

impl Subject {
    pub fn is_mixture(&self) -> bool {
        self.architecture.mixture.is_some()
    }

    pub fn deployment(&self) -> Deployment<'_> {
        Deployment {
            sheet: &self.sheet,
            architecture: &self.architecture,
            parallel: self.parallel,
            kv_format: self.kv_format,
            engine: self.engine,
        }
    }

    /// # Errors
    /// The weights do not fit.
    pub fn roofline<'a>(&'a self, constants: &'a Constants) -> Result<Roofline<'a>, EstimateError> {
        Roofline::new(self.deployment(), constants, self.memory)
    }
}

/// What the row was measured on.
///
/// # Errors
/// In words what is not known or cannot be.
pub fn subject(row: &Measured, models: &Models) -> Result<Subject, String> {
    let published = models.find(&row.model).ok_or_else(|| format!("unknown model {}", row.model))?;
    let sheet = system(&row.system).ok_or_else(|| format!("unknown accelerator {}", row.system))?;
    let (mode, side) = match row.serving {
        Serving::Aggregated(side) => (Mode::Aggregated, side),
        Serving::Disaggregated(side) => (Mode::Disaggregated, side),
    };
    let batch = side.batch.ok_or("no batch size")?;
    let (parallel, concurrency) = division(row, &side, batch);
    let heads = published.query_heads;
    if heads % parallel.tensor != 0 {
        return Err(format!("{}-way tensor parallelism cannot divide {heads} attention heads", parallel.tensor));
    }
    // Such rows are whole systems with prefill and decode apart, whose division nobody tells.
    if mode == Mode::Aggregated && parallel.tensor > MOST_TENSOR {
        let tensor = parallel.tensor;
        return Err(format!("{tensor}-way tensor parallelism is more than the {MOST_TENSOR} that one server uses"));
    }
    let gemm = format(&row.gemm_format)?;
    let experts = if row.expert_format.is_empty() { gemm } else { format(&row.expert_format)? };
    let architecture = stored(&published, gemm, experts);
    let decode_only = mode == Mode::Disaggregated;
    let engine = EngineFamily::named(&row.backend).unwrap_or_default();
    let kv_format = kv_format(&row.gemm_format, published.mixture.is_some(), engine, &sheet);
    let mut subject = Subject {
        line: row.line,
        group: Group { model: row.model.clone(), system: row.system.clone(), engine: row.backend.clone() },
        mode,
        sheet,
        architecture,
        parallel,
        kv_format,
        engine,
        memory: Memory::default(),
        closed_loop: ClosedLoop {
            concurrency,
            input_tokens: f64::from(row.input_tokens),
            output_tokens: f64::from(row.output_tokens),
            decode_only,
            most_running: (engine == EngineFamily::Vllm).then_some(VLLM_RUNS),
        },
        ttft_seconds: row.ttft_seconds,
        tpot_seconds: row.tpot_seconds,
    };
    // Who serves a model that hardly fits gives the engine more than its default share.
    let deployment = subject.deployment();
    if subject.memory.kv_bytes_each(&deployment) < SMALL_CACHE * subject.sheet.memory_bytes {
        subject.memory = Memory { share: TIGHT_SHARE, other_bytes: TIGHT_OTHER_BYTES };
    }
    subject.roofline(Constants::shipped()).map_err(|why| why.to_string())?;
    Ok(subject)
}

/// Widest tensor parallelism of an aggregated server.
const MOST_TENSOR: u32 = 16;
/// Requests that vLLM runs at once unless told otherwise; the others derive it from memory.
const VLLM_RUNS: f64 = 256.0;
/// Share of an accelerator's memory below which a cache is too small to serve with.
const SMALL_CACHE: f64 = 0.05;
/// Share of the memory that the engine is given then.
const TIGHT_SHARE: f64 = 0.95;
const TIGHT_OTHER_BYTES: f64 = 2e9;

/// The source's names of systems say nothing of memory where one size is usual.
fn system(name: &str) -> Option<DataSheet> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    data_sheet(&name).or_else(|| match name.as_str() {
        "a100" | "a100-sxm" => data_sheet("A100-80GB"),
        "a100-pcie" => data_sheet("A100-PCIe-80GB"),
        _ => None,
    })
}

/// How the accelerators share the model, and the requests in flight at all of them together.
///
/// With several groups of attention data parallelism `batch_size` counts the requests of one. Where the row
/// says both tensor and expert parallelism of the same accelerators, the source multiplies them: `tp_size` 64
/// with `moe_tp_size` and `moe_ep_size` 8 are eight accelerators (rows that are written both ways have equal
/// latencies). Rows of another origin, which leave `attention_dp_size` empty, are meant as they stand.
fn division(row: &Measured, side: &Side, batch: u32) -> (Parallelism, f64) {
    let data = side.attention_data.unwrap_or(1);
    let concurrency = f64::from(batch) * f64::from(data);
    let mut parallel = Parallelism { tensor: side.tensor, pipeline: side.pipeline, attention_data: data, experts: 1 };
    let all = side.tensor.saturating_mul(data);
    let (expert_tensor, expert) = (row.expert_tensor, row.expert_parallel);
    if side.attention_data.is_some() && all > 1 {
        if expert_tensor > 1 && expert_tensor == expert && expert_tensor.saturating_mul(expert) == all {
            let real = expert_tensor;
            parallel.tensor = if side.tensor == 1 { 1 } else { real };
            parallel.attention_data = if side.tensor == 1 { real } else { 1 };
        } else if expert_tensor == 1 && side.tensor == data && expert == all {
            parallel.attention_data = 1;
        }
    }
    parallel.experts = expert.clamp(1, parallel.accelerators());
    (parallel, concurrency)
}

/// The format that a quantisation mode stores weights in; nothing said is 16-bit.
fn format(mode: &str) -> Result<NumberFormat, String> {
    match mode {
        "" | "bf16" | "fp16" | "float16" | "bfloat16" => Ok(NumberFormat::Bf16),
        "fp8" | "fp8_block" | "fp8_ootb" | "fp8_static" | "w8a8_fp8" => Ok(NumberFormat::Fp8),
        "int8" | "int8_wo" | "sq" | "w8a8_int8" => Ok(NumberFormat::Int8),
        "nvfp4" | "fp4" => Ok(NumberFormat::Nvfp4),
        "mxfp4" | "w4a16_mxfp4" | "w4a8_mxfp4_mxfp8" => Ok(NumberFormat::Mxfp4),
        "int4" | "int4_wo" | "w4a16" | "w4afp8" | "awq" | "gptq" => Ok(NumberFormat::Int4),
        other => Err(format!("unknown quantisation mode {other}")),
    }
}

/// Rows do not tell how the KV cache is stored. Checkpoints with scales for whole matrices bring scales for the
/// cache too, and four-bit ones mean an 8-bit cache. Mixtures of experts are stored with scales per block and none
/// for the cache: it has 8 bits where the attention kernels of TensorRT-LLM or of Blackwell want it so.
fn kv_format(gemm_mode: &str, is_mixture: bool, engine: EngineFamily, sheet: &DataSheet) -> NumberFormat {
    match gemm_mode {
        "nvfp4" | "fp4" | "mxfp4" => NumberFormat::Fp8,
        "fp8" if !is_mixture => NumberFormat::Fp8,
        "fp8" if engine == EngineFamily::TensorrtLlm || sheet.generation == Generation::Blackwell => NumberFormat::Fp8,
        _ => NumberFormat::Bf16,
    }
}

/// The model with its linear layers in the row's formats. A model that its publisher stores in four bits is
/// taken as published where the row says four bits, whichever.
fn stored(published: &Architecture, gemm: NumberFormat, experts: NumberFormat) -> Architecture {
    let own = published.formats.experts.format;
    let is_mixture = published.mixture.is_some();
    if is_mixture && own.is_four_bit() && (experts.is_four_bit() || gemm.is_four_bit()) {
        return published.clone();
    }
    let mut formats = Parts::<Stored>::linear_layers(gemm);
    if is_mixture {
        formats.experts = experts.into();
    }
    let latent = published.attention.iter().any(|g| matches!(g.kind, AttentionKind::Latent { .. }));
    if gemm.is_four_bit() && latent {
        formats.attention = NumberFormat::Bf16.into();
    }
    Architecture { formats, ..published.clone() }
}
