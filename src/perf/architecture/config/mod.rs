//! The reader of Hugging Face `config.json` files. It knows the families it knows and says so for all
//! others: a field that could change the arithmetic and is not understood is an error, never a guess.
//! Only the language model is counted; the encoders of multimodal models are not.

mod family;
mod fields;
mod layers;
mod modules;
mod quantisation;
mod table;

use std::borrow::Cow;

use serde_json::Value;

use super::Architecture;
use family::Family;
use fields::Fields;

/// Why a configuration cannot be read: one line that names the field, its value and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("is no JSON: {0}")]
    NoJson(String),
    #[error("the quantisation file is no JSON: {0}")]
    NoQuantisationJson(String),
    #[error("`{field}` is missing: {wanted}")]
    Missing { field: String, wanted: String },
    #[error("`{field}` is {value}: {wanted}")]
    Wrong { field: String, value: String, wanted: String },
}

impl ConfigError {
    /// Longest value that is repeated, characters.
    const LONGEST_VALUE: usize = 60;

    fn missing(field: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self::Missing { field: field.into(), wanted: wanted.into() }
    }

    fn wrong(field: impl Into<String>, value: &Value, wanted: impl Into<String>) -> Self {
        let field: String = field.into();
        Self::Wrong {
            field: shortened(&field),
            value: format!("`{}`", shortened(&value.to_string())),
            wanted: wanted.into(),
        }
    }
}

/// One line, not too long; JSON escapes line breaks in values, names are escaped here.
fn shortened(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(ConfigError::LONGEST_VALUE) {
        Some((cut, _)) => format!("{}...", &line[..cut]),
        None => line,
    }
}

impl Architecture {
    /// Reads a `config.json`, with the text of `hf_quant_config.json` where the checkpoint has one. The name is
    /// the model type of the configuration.
    ///
    /// # Errors
    /// The first field that is missing, wrong or not understood.
    pub fn from_config(text: &str, quantisation: Option<&str>) -> Result<Self, ConfigError> {
        let root: Value = serde_json::from_str(text).map_err(|e| ConfigError::NoJson(e.to_string()))?;
        let quantisation = quantisation
            .map(|text| serde_json::from_str::<Value>(text).map_err(|e| ConfigError::NoQuantisationJson(e.to_string())))
            .transpose()?;
        read(&root, quantisation.as_ref())
    }
}

fn read(root: &Value, quantisation: Option<&Value>) -> Result<Architecture, ConfigError> {
    let Value::Object(outer) = root else {
        return Err(ConfigError::wrong(
            "config.json",
            root,
            "must be an object with `model_type` and the model's dimensions",
        ));
    };
    let (fields, family) = match outer.get("text_config") {
        Some(Value::Object(inner)) => {
            family::is_known_wrapper(outer)?;
            let fields = Fields::inside("text_config.", inner, outer);
            let family = Family::of(&fields)?;
            (fields, family)
        }
        Some(other) if !other.is_null() => {
            return Err(ConfigError::wrong(
                "text_config",
                other,
                "must be the object that describes the language model",
            ));
        }
        _ => {
            let fields = Fields::new(outer);
            let family = Family::of(&fields)?;
            (fields, family)
        }
    };
    let dimensions = family.dimensions(&fields)?;
    let stored = quantisation::stored(&fields, quantisation, &dimensions)?;
    fields.refuse_what_was_not_understood()?;
    let built = dimensions.architecture(Cow::Owned(family.model_type.to_owned()));
    let architecture = Architecture { kv_format: stored.kv, ..built.with_formats(stored.formats) };
    if architecture.is_usable() {
        return Ok(architecture);
    }
    Err(ConfigError::wrong(
        "model_type",
        &Value::from(family.model_type),
        "the dimensions describe no model that can be served",
    ))
}
