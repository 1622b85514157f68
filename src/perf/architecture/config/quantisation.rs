//! How a checkpoint is stored: `quantization_config` of `config.json`, or `hf_quant_config.json`.

use serde_json::{Map, Value};

use super::ConfigError;
use super::fields::Fields;
use super::modules::{DENSE, EXPERTS, PROJECTIONS, Patterns, SHARED_EXPERTS};
use crate::perf::architecture::dimensions::Dimensions;
use crate::perf::architecture::format::{NumberFormat, Parts, Stored};

const METHODS: &str = "fp8, fbgemm_fp8, modelopt, mxfp4, compressed-tensors, awq, gptq and auto-round";

/// How weights and KV cache are stored.
pub struct Storage {
    pub formats: Parts<Stored>,
    pub kv: NumberFormat,
}

/// One method of quantisation.
struct Scheme {
    /// Of the linear layers that no pattern names.
    linear: Stored,
    /// Left at 16 bits.
    ignored: Patterns,
    /// Modules with a format of their own.
    groups: Vec<(Patterns, Stored)>,
    /// Only routed experts are quantised.
    experts_only: bool,
    /// The output layer is a linear layer like others unless it is named.
    output: bool,
    kv: NumberFormat,
}

const WIDE: NumberFormat = NumberFormat::Bf16;

/// Reads both places; a quantisation file goes before what `config.json` says.
pub fn stored(fields: &Fields, file: Option<&Value>, dimensions: &Dimensions) -> Result<Storage, ConfigError> {
    for name in ["torch_dtype", "dtype"] {
        if let Some(value) = fields.get_or_outer(name)
            && !matches!(value.as_str(), Some("bfloat16" | "float16" | "float32"))
        {
            return Err(fields.wrong(name, value, "must be bfloat16, float16 or float32"));
        }
    }
    let inside = fields.get_or_outer("quantization_config").or_else(|| fields.get_or_outer("compression_config"));
    let scheme = match (file, inside) {
        (Some(Value::Object(file)), _) => match file.get("quantization") {
            Some(Value::Object(inner)) => modelopt("quantization", inner)?,
            _ => scheme(file)?,
        },
        (Some(other), _) => {
            return Err(ConfigError::wrong("hf_quant_config.json", other, "must be an object with `quantization`"));
        }
        (None, Some(Value::Object(inner))) => scheme(inner)?,
        (None, Some(other)) => return Err(fields.wrong("quantization_config", other, "must be an object")),
        (None, None) => return Ok(Storage { formats: Parts::linear_layers(WIDE), kv: WIDE }),
    };
    Ok(Storage { formats: scheme.formats(dimensions), kv: scheme.kv })
}

fn scheme(map: &Map<String, Value>) -> Result<Scheme, ConfigError> {
    let place = "quantization_config";
    let method = map.get("quant_method").or_else(|| map.get("quant_algo").map(|_| &Value::Null));
    match method {
        Some(Value::String(name)) => match name.as_str() {
            "fp8" | "fbgemm_fp8" => fp8(place, map),
            "modelopt" | "modelopt_fp4" => modelopt(place, map),
            "mxfp4" => Ok(Scheme { experts_only: true, ..Scheme::new(place, NumberFormat::Mxfp4.into(), map)? }),
            "compressed-tensors" => compressed_tensors(place, map),
            "awq" | "gptq" | "auto-round" => integers(place, map),
            _ => Err(ConfigError::wrong(
                format!("{place}.quant_method"),
                &name.as_str().into(),
                format!("known are {METHODS}"),
            )),
        },
        Some(Value::Null) => modelopt(place, map),
        Some(other) => Err(ConfigError::wrong(format!("{place}.quant_method"), other, "must be a text")),
        None => Err(ConfigError::missing(format!("{place}.quant_method"), format!("known are {METHODS}"))),
    }
}

fn fp8(place: &str, map: &Map<String, Value>) -> Result<Scheme, ConfigError> {
    match map.get("fmt").filter(|v| !v.is_null()) {
        None => {}
        Some(Value::String(format)) if format.contains("e4m3") || format.contains("e5m2") => {}
        Some(other) => return Err(ConfigError::wrong(format!("{place}.fmt"), other, "must be e4m3 or e5m2")),
    }
    Scheme::new(place, NumberFormat::Fp8.into(), map)
}

fn modelopt(place: &str, map: &Map<String, Value>) -> Result<Scheme, ConfigError> {
    let name = format!("{place}.quant_algo");
    let linear = match map.get("quant_algo").filter(|v| !v.is_null()) {
        None => WIDE.into(),
        Some(value) => match value.as_str() {
            Some("FP8" | "FP8_PER_CHANNEL_PER_TOKEN" | "FP8_PB_WO" | "FP8_BLOCK_SCALES") => NumberFormat::Fp8.into(),
            Some("NVFP4" | "NVFP4_AWQ" | "W4A16_NVFP4") => NumberFormat::Nvfp4.into(),
            Some("W4A8_MXFP4_FP8" | "MXFP4") => NumberFormat::Mxfp4.into(),
            Some("W4A16_AWQ") => four_bits(&format!("{place}.group_size"), map.get("group_size"), false)?,
            Some("INT8_SQ" | "W8A8_SQ_PER_CHANNEL" | "W8A16") => NumberFormat::Int8.into(),
            _ => {
                return Err(ConfigError::wrong(
                    name,
                    value,
                    "known are FP8, NVFP4, W4A8_MXFP4_FP8, W4A16_AWQ and INT8_SQ",
                ));
            }
        },
    };
    let mut scheme = Scheme { output: true, ..Scheme::new(place, linear, map)? };
    let name = format!("{place}.kv_cache_quant_algo");
    if let Some(value) = map.get("kv_cache_quant_algo").filter(|v| !v.is_null()) {
        scheme.kv = match value.as_str() {
            Some("FP8") => NumberFormat::Fp8,
            Some("INT8") => NumberFormat::Int8,
            Some("NVFP4") => NumberFormat::Nvfp4,
            Some("NONE" | "None" | "") => WIDE,
            _ => return Err(ConfigError::wrong(name, value, "known are FP8, INT8, NVFP4 and none")),
        };
    }
    Ok(scheme)
}

/// AWQ, GPTQ and their kin: whole numbers of 4 or 8 bits.
fn integers(place: &str, map: &Map<String, Value>) -> Result<Scheme, ConfigError> {
    let bits = map.get("bits").or_else(|| map.get("w_bit"));
    let zero_points = !matches!(
        (map.get("zero_point"), map.get("sym")),
        (Some(Value::Bool(false)), _) | (_, Some(Value::Bool(true)))
    );
    let name = format!("{place}.bits");
    let linear = match bits.and_then(Value::as_u64) {
        Some(4) => four_bits(
            &format!("{place}.group_size"),
            map.get("group_size").or_else(|| map.get("q_group_size")),
            !zero_points,
        )?,
        Some(8) => NumberFormat::Int8.into(),
        _ => {
            return Err(bits.map_or_else(
                || ConfigError::missing(&name, "must be 4 or 8"),
                |b| ConfigError::wrong(&name, b, "must be 4 or 8"),
            ));
        }
    };
    let mut scheme = Scheme::new(place, linear, map)?;
    scheme.output = map.get("lm_head") == Some(&Value::Bool(true));
    // Rules per module: `-:` leaves a module alone, anything else changes its bits.
    if let Some(Value::Object(rules)) = map.get("dynamic") {
        let mut left: Vec<Value> = Vec::new();
        for (rule, value) in rules {
            let Some(pattern) = rule.strip_prefix("-:") else {
                return Err(ConfigError::wrong(
                    format!("{place}.dynamic.{rule}"),
                    value,
                    "only rules that begin with `-:` are known",
                ));
            };
            left.push(format!("re:.*(?:{pattern})").into());
        }
        scheme.groups.push((Patterns::read(&format!("{place}.dynamic"), &left)?, WIDE.into()));
    }
    Ok(scheme)
}

fn compressed_tensors(place: &str, map: &Map<String, Value>) -> Result<Scheme, ConfigError> {
    let name = format!("{place}.config_groups");
    let groups = match map.get("config_groups") {
        Some(Value::Object(groups)) if !groups.is_empty() => groups,
        Some(other) => return Err(ConfigError::wrong(name, other, "must be an object with groups")),
        None => return Err(ConfigError::missing(name, "it says what is stored how")),
    };
    let mut linear = Stored::from(WIDE);
    let mut own = Vec::new();
    for (group, value) in groups {
        let place = format!("{name}.{group}");
        let stored = match value.get("weights").filter(|w| !w.is_null()) {
            Some(weights) => compressed_weights(&format!("{place}.weights"), weights)?,
            None => WIDE.into(),
        };
        let targets = match value.get("targets") {
            Some(Value::Array(targets)) => targets.as_slice(),
            _ => return Err(ConfigError::missing(format!("{place}.targets"), "must be a list of modules or `Linear`")),
        };
        if targets.iter().any(|t| t.as_str() == Some("Linear")) {
            linear = stored;
        } else {
            own.push((Patterns::read(&format!("{place}.targets"), targets)?, stored));
        }
    }
    let kv = match map.get("kv_cache_scheme").filter(|v| !v.is_null()) {
        None => WIDE,
        Some(scheme) => compressed_weights(&format!("{place}.kv_cache_scheme"), scheme)?.format,
    };
    Ok(Scheme { output: true, groups: own, kv, ..Scheme::new(place, linear, map)? })
}

/// `num_bits`, `type` and the group of a scale.
fn compressed_weights(place: &str, value: &Value) -> Result<Stored, ConfigError> {
    let bits = value.get("num_bits").and_then(Value::as_u64);
    let symmetric = value.get("symmetric") != Some(&Value::Bool(false));
    let group = value.get("group_size");
    match (bits, value.get("type").and_then(Value::as_str)) {
        (Some(8), Some("float")) => Ok(NumberFormat::Fp8.into()),
        (Some(8), Some("int")) => Ok(NumberFormat::Int8.into()),
        (Some(16), _) => Ok(WIDE.into()),
        (Some(4), Some("int")) => four_bits(&format!("{place}.group_size"), group, symmetric),
        (Some(4), Some("float")) => match group.and_then(Value::as_u64) {
            Some(16) => Ok(NumberFormat::Nvfp4.into()),
            Some(32) => Ok(NumberFormat::Mxfp4.into()),
            _ => Err(ConfigError::wrong(
                format!("{place}.group_size"),
                group.unwrap_or(&Value::Null),
                "must be 16 (nvfp4) or 32 (mxfp4)",
            )),
        },
        _ => Err(ConfigError::wrong(place, value, "must have `num_bits` 4, 8 or 16 and `type` int or float")),
    }
}

/// Bytes of a 4-bit whole number: a 16-bit scale per group and, unless symmetric, a 4-bit zero point.
fn four_bits(name: &str, group: Option<&Value>, symmetric: bool) -> Result<Stored, ConfigError> {
    let scales = if symmetric { 2.0 } else { 2.5 };
    let per_group = match group.filter(|g| !g.is_null()) {
        None => return Ok(NumberFormat::Int4.into()),
        // One scale per row: too few to count.
        Some(value) if value.as_i64() == Some(-1) => 0.0,
        Some(value) => match value.as_u64().filter(|g| (8..=65_536).contains(g)) {
            Some(group) => scales / group as f64,
            None => return Err(ConfigError::wrong(name, value, "must be -1, or from 8 to 65536 numbers")),
        },
    };
    Ok(Stored { format: NumberFormat::Int4, bytes: 0.5 + per_group })
}

impl Scheme {
    fn new(place: &str, linear: Stored, map: &Map<String, Value>) -> Result<Self, ConfigError> {
        let mut all: Vec<Value> = Vec::new();
        for name in ["ignore", "exclude_modules", "modules_to_not_convert", "ignored_layers"] {
            match map.get(name).filter(|v| !v.is_null()) {
                None => {}
                Some(Value::Array(list)) => all.extend(list.iter().cloned()),
                Some(other) => {
                    return Err(ConfigError::wrong(format!("{place}.{name}"), other, "must be a list of modules"));
                }
            }
        }
        Ok(Self {
            linear,
            ignored: Patterns::read(&format!("{place}.ignore"), &all)?,
            groups: Vec::new(),
            experts_only: false,
            output: false,
            kv: WIDE,
        })
    }

    /// How one matrix of one layer is stored.
    fn of(&self, layer: u32, names: &[&str]) -> Stored {
        if self.ignored.choose(layer, names) {
            return WIDE.into();
        }
        self.groups
            .iter()
            .find(|(patterns, _)| patterns.choose(layer, names))
            .map_or(self.linear, |(_, stored)| *stored)
    }

    fn formats(&self, d: &Dimensions) -> Parts<Stored> {
        let layers = d.layers();
        let wide = Stored::from(WIDE);
        let with_experts = d.experts.map_or(0, |e| e.layers);
        // Which of the layers have experts is not kept: the first ones are dense in most models.
        let (dense, sparse) = (0..layers - with_experts, layers - with_experts..layers);
        let over = |range: std::ops::Range<u32>, names: &[&str]| {
            mean(range.map(|layer| (1.0, self.of(layer, names))).collect::<Vec<_>>())
        };
        let experts = over(sparse.clone(), EXPERTS);
        let output = if self.output && !self.ignored.is_match("lm_head") { self.linear } else { wide };
        if self.experts_only {
            return Parts { experts, ..Parts::linear_layers(WIDE) };
        }
        Parts {
            attention: self.attention(d),
            dense: over(dense, DENSE),
            experts,
            shared_experts: over(sparse, SHARED_EXPERTS),
            output: if d.tied { wide } else { output },
            ..Parts::linear_layers(WIDE)
        }
    }

    /// Every projection of every layer, weighted with its parameters. The kinds of layers are walked one
    /// after the other; files that choose by layer are written for models with one kind.
    fn attention(&self, d: &Dimensions) -> Stored {
        let mut all = Vec::new();
        let mut layer = 0;
        for (layers, kind) in &d.attention {
            let matrices = kind.matrices(f64::from(d.hidden_size), f64::from(d.query_heads));
            for i in layer..layer + layers {
                let weighted = matrices.iter().zip(PROJECTIONS).filter(|(parameters, _)| **parameters > 0.0);
                all.extend(weighted.map(|(parameters, names)| (*parameters, self.of(i, names))));
            }
            layer += layers;
        }
        mean(all)
    }
}

/// Mean of storage weighted with parameters; the format is that of the most.
fn mean(all: Vec<(f64, Stored)>) -> Stored {
    let total: f64 = all.iter().map(|(weight, _)| weight).sum();
    if total <= 0.0 {
        return WIDE.into();
    }
    let of =
        |format: NumberFormat| all.iter().filter(|(_, s)| s.format == format).map(|(weight, _)| weight).sum::<f64>();
    let format = NumberFormat::ALL.into_iter().max_by(|a, b| of(*a).total_cmp(&of(*b))).unwrap_or_default();
    Stored { format, bytes: all.iter().map(|(weight, s)| weight * s.bytes).sum::<f64>() / total }
}
