//! Which layer is of which kind: windows, linear attention, experts. Either the configuration lists the
//! layers or its family has a rule.

use serde_json::Value;

use super::ConfigError;
use super::fields::Fields;

/// Kind of one layer's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Full,
    Windowed,
    Linear,
}

/// Which layers see a window only.
#[derive(Clone, Copy, Debug)]
pub enum Windows {
    None,
    /// All, if `sliding_window` is given.
    All,
    /// From layer `max_window_layers` on, if `use_sliding_window` says so.
    Later,
    /// All but every `full`-th.
    Every {
        full: u32,
        window: Option<u32>,
    },
    /// Chunks of `attention_chunk_size` in the layers with rotary positions.
    Chunks,
}

/// Which layers have experts.
#[derive(Clone, Copy, Debug)]
pub enum ExpertRule {
    All,
    /// Every `decoder_sparse_step`-th, without `mlp_only_layers`.
    Step,
    /// Every `moe_layer_freq`-th after the `first_k_dense_replace` first.
    AfterFirst,
    /// Those in `moe_layers`, or every `interleave_moe_layer_step`-th.
    Interleaved,
}

/// Groups of layers with their window.
pub fn windowed(fields: &Fields, layers: u32, rule: Windows) -> Result<Vec<(u32, Option<u32>)>, ConfigError> {
    let size_field = if matches!(rule, Windows::Chunks) { "attention_chunk_size" } else { "sliding_window" };
    let listed = layer_types(fields, layers)?;
    let known = !matches!(rule, Windows::None) || listed.is_some();
    let size = if known { fields.positive(size_field)? } else { None };
    let (count, size) = match (rule, listed) {
        (_, Some(kinds)) => {
            if kinds.contains(&Layer::Linear) {
                let wanted = "this model type has no linear attention";
                return Err(fields.wrong("layer_types", &"linear_attention".into(), wanted));
            }
            // Patterns that the list makes concrete.
            for name in [
                "sliding_window_pattern",
                "layer_switch",
                "use_sliding_window",
                "no_rope_layers",
                "no_rope_layer_interval",
            ] {
                fields.get(name);
            }
            (kinds.iter().filter(|k| **k == Layer::Windowed).count() as u32, size)
        }
        (Windows::None, None) => (0, None),
        (Windows::All, None) => (size.map_or(0, |_| layers), size),
        (Windows::Later, None) => match fields.flag("use_sliding_window")? {
            Some(true) => (layers.saturating_sub(fields.count("max_window_layers")?.unwrap_or(0)), size),
            _ => (0, None),
        },
        (Windows::Every { full, window }, None) => {
            let names = ["sliding_window_pattern", "_sliding_window_pattern", "layer_switch"];
            let full = fields.first_present(&names)?.unwrap_or(full);
            (layers - layers / full, size.or(window))
        }
        (Windows::Chunks, None) => (layers - without_rotary(fields, layers)?, size),
    };
    let size = match size {
        // A window that no request leaves is none.
        Some(size) if fields.positive("max_position_embeddings")?.is_some_and(|most| size >= most) => None,
        None if count > 0 => return Err(fields.missing(size_field, format!("{count} layers see a window only"))),
        size => size,
    };
    match size {
        Some(size) if count > 0 => {
            Ok([(count, Some(size)), (layers - count, None)].into_iter().filter(|(n, _)| *n > 0).collect())
        }
        _ => Ok(vec![(layers, None)]),
    }
}

/// Full and linear layers of a hybrid.
pub fn hybrid(fields: &Fields, layers: u32) -> Result<Vec<Layer>, ConfigError> {
    let interval = fields.positive("full_attention_interval")?.unwrap_or(4);
    match layer_types(fields, layers)? {
        Some(kinds) if kinds.contains(&Layer::Windowed) => {
            Err(fields.wrong("layer_types", &"sliding_attention".into(), "this model type has no windows"))
        }
        Some(kinds) => Ok(kinds),
        None => {
            Ok((1..=layers).map(|i| if i.is_multiple_of(interval) { Layer::Full } else { Layer::Linear }).collect())
        }
    }
}

/// The list `layer_types`, one entry per layer. `attn_type_list` is the same with numbers.
fn layer_types(fields: &Fields, layers: u32) -> Result<Option<Vec<Layer>>, ConfigError> {
    if let Some(numbers) = fields.list("attn_type_list")?
        && let Some(other) = numbers.iter().find(|n| n.as_u64() != Some(1))
    {
        return Err(fields.wrong("attn_type_list", other, "only 1, full attention, is known"));
    }
    let Some(list) = fields.list("layer_types")? else { return Ok(None) };
    is_as_long(fields, "layer_types", list, layers)?;
    let kind = |value: &Value| match value.as_str() {
        Some("full_attention" | "attention") => Ok(Layer::Full),
        Some("sliding_attention" | "chunked_attention") => Ok(Layer::Windowed),
        Some("linear_attention") => Ok(Layer::Linear),
        _ => {
            let known =
                "must be full_attention, sliding_attention, chunked_attention or linear_attention in each layer";
            Err(fields.wrong("layer_types", value, known))
        }
    };
    list.iter().map(kind).collect::<Result<_, _>>().map(Some)
}

fn is_as_long(fields: &Fields, name: &str, list: &[Value], layers: u32) -> Result<(), ConfigError> {
    if list.len() == layers as usize {
        return Ok(());
    }
    let wanted = format!("is the number of its entries; there must be one per layer, {layers}");
    Err(fields.wrong(name, &list.len().into(), wanted))
}

/// Layers of Llama 4 without rotary positions: they see everything.
fn without_rotary(fields: &Fields, layers: u32) -> Result<u32, ConfigError> {
    let interval = fields.positive("no_rope_layer_interval")?.unwrap_or(4);
    match fields.list("no_rope_layers")? {
        Some(list) if !list.is_empty() => {
            is_as_long(fields, "no_rope_layers", list, layers)?;
            count_of_ones(fields, "no_rope_layers", list).map(|rotary| layers - rotary)
        }
        _ => Ok(layers / interval),
    }
}

fn count_of_ones(fields: &Fields, name: &str, list: &[Value]) -> Result<u32, ConfigError> {
    let mut ones = 0;
    for entry in list {
        match entry.as_u64() {
            Some(0) => {}
            Some(1) => ones += 1,
            _ => return Err(fields.wrong(name, entry, "must be 0 or 1 in each layer")),
        }
    }
    Ok(ones)
}

/// Number of layers that have experts.
pub fn with_experts(fields: &Fields, layers: u32, rule: ExpertRule) -> Result<u32, ConfigError> {
    if let Some(list) = fields.list("mlp_layer_types")? {
        is_as_long(fields, "mlp_layer_types", list, layers)?;
        if let Some(other) = list.iter().find(|kind| !matches!(kind.as_str(), Some("sparse" | "dense"))) {
            return Err(fields.wrong("mlp_layer_types", other, "must be sparse or dense in each layer"));
        }
        for name in ["first_k_dense_replace", "moe_layer_freq", "decoder_sparse_step", "mlp_only_layers"] {
            fields.get(name);
        }
        return Ok(list.iter().filter(|kind| kind.as_str() == Some("sparse")).count() as u32);
    }
    match rule {
        ExpertRule::All => Ok(layers),
        ExpertRule::Step => {
            let step = fields.positive("decoder_sparse_step")?.unwrap_or(1);
            let without = layer_numbers(fields, "mlp_only_layers", layers)?.unwrap_or_default();
            Ok((0..layers).filter(|i| (i + 1).is_multiple_of(step) && !without.contains(i)).count() as u32)
        }
        ExpertRule::AfterFirst => after_first(fields, layers),
        ExpertRule::Interleaved => {
            let step = fields.positive("interleave_moe_layer_step")?.unwrap_or(1);
            let listed = layer_numbers(fields, "moe_layers", layers)?.filter(|list| !list.is_empty());
            Ok(listed.map_or(layers / step, |list| list.len() as u32))
        }
    }
}

fn after_first(fields: &Fields, layers: u32) -> Result<u32, ConfigError> {
    let first = fields.count("first_k_dense_replace")?.unwrap_or(0);
    if first > layers {
        let wanted = format!("there are only {layers} layers");
        return Err(fields.wrong("first_k_dense_replace", &first.into(), wanted));
    }
    match fields.get("moe_layer_freq") {
        Some(Value::Array(list)) => {
            is_as_long(fields, "moe_layer_freq", list, layers)?;
            count_of_ones(fields, "moe_layer_freq", &list[first as usize..])
        }
        _ => {
            let every = fields.positive("moe_layer_freq")?.unwrap_or(1);
            Ok((first..layers).filter(|i| i.is_multiple_of(every)).count() as u32)
        }
    }
}

/// A list of layers, without repetition.
fn layer_numbers(fields: &Fields, name: &str, layers: u32) -> Result<Option<Vec<u32>>, ConfigError> {
    let Some(list) = fields.list(name)? else { return Ok(None) };
    let mut numbers = Vec::new();
    for entry in list {
        match entry.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n < layers) {
            Some(number) if numbers.contains(&number) => {}
            Some(number) => numbers.push(number),
            None => return Err(fields.wrong(name, entry, format!("must be numbers of layers, 0 to {}", layers - 1))),
        }
    }
    Ok(Some(numbers))
}
