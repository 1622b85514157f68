//! Texts of benchmark tools in, points out. The format is found by the content, never by the name of the file; what
//! cannot be read is refused with one line that names file, place, value and what would be right.

mod aibrix;
mod dynamo;
mod guidellm;
mod inferno;
mod json;
mod table;
mod vllm;

use serde_json::Value;

use super::super::Parameters;
use super::point::Point;

/// What one file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurements {
    /// Name of the format, for people.
    pub format: &'static str,
    pub points: Vec<Point>,
    /// Parameters that the file holds instead of points, with the most sequences they were made for.
    pub parameters: Option<(Parameters, Option<u32>)>,
    pub model: Option<String>,
    pub engine: Option<String>,
    pub accelerator: Option<String>,
    /// KV-cache capacity that the file states, tokens.
    pub kv_tokens: Option<f64>,
    /// What was left out of the file and why.
    pub notes: Vec<String>,
}

/// Why a file cannot be read, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}{place}: {message}{}{hint}", if place.is_empty() { "" } else { ", " }, if hint.is_empty() { "" } else { "; " })]
pub struct ReadError {
    pub file: String,
    pub place: String,
    pub message: String,
    pub hint: String,
}

/// Rows to take from a file that holds many groups: (column, value), all of them must hold.
pub type Selection = [(String, String)];

/// Formats that are known, for the hint of a refusal.
pub const FORMATS: &str = "poolwright CSV, aiconfigurator CSV, `vllm bench serve --save-result`, guidellm, Dynamo \
                           profiler, AIBrix profile and inferno model-data JSON";

/// Reads one file.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read(file: &str, text: &str, selection: &Selection) -> Result<Measurements, ReadError> {
    let text = text.trim_start_matches('\u{feff}');
    let refuse = |place: &str, message: String, hint: &str| ReadError {
        file: file.to_owned(),
        place: place.to_owned(),
        message,
        hint: hint.to_owned(),
    };
    match text.trim_start().chars().next() {
        None => return Err(refuse("", "the file is empty".to_owned(), &format!("known are {FORMATS}"))),
        Some('{' | '[') => {}
        Some(_) => return table::read(file, text, selection),
    }
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
    let mut values = values.map_err(|e| {
        let place = format!("line {}", e.line());
        refuse(&place, format!("is no valid JSON: {}", plain(&e)), "was the file cut off?")
    })?;
    if let [Value::Array(list)] = &mut values[..] {
        values = std::mem::take(list);
    }
    let single = values.len() == 1;
    let mut all: Option<Measurements> = None;
    for (index, value) in values.iter().enumerate() {
        let place = if single { String::new() } else { format!("document {}", index + 1) };
        let found = document(json::At { file, place, value }, selection)?;
        match &mut all {
            None => all = Some(found),
            Some(sum) if sum.format == found.format => {
                sum.points.extend(found.points);
                sum.notes.extend(found.notes);
                sum.kv_tokens = sum.kv_tokens.or(found.kv_tokens);
            }
            Some(sum) => {
                let message = format!("is {}, the documents before it are {}", found.format, sum.format);
                return Err(refuse(&format!("document {}", index + 1), message, "keep one format per file"));
            }
        }
    }
    all.ok_or_else(|| refuse("", "the list is empty".to_owned(), &format!("known are {FORMATS}")))
}

fn document(at: json::At, selection: &Selection) -> Result<Measurements, ReadError> {
    let has = |key: &str| at.value.get(key).is_some();
    if has("benchmarks") {
        guidellm::read(&at)
    } else if dynamo::KEYS.iter().any(|k| has(k)) {
        dynamo::read(&at)
    } else if has("tputs") || has("indexes") {
        aibrix::read(&at)
    } else if has("models") {
        inferno::read(&at, selection)
    } else if vllm::KEYS.iter().any(|k| has(k)) {
        vllm::read(&at)
    } else {
        let keys: Vec<&str> = at.value.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).take(4).collect();
        let seen = if keys.is_empty() { "no keys".to_owned() } else { format!("the keys {}", keys.join(", ")) };
        Err(at.refuse(&format!("{seen} belong to no known format"), &format!("known are {FORMATS}")))
    }
}

/// The message of a JSON error without its position, which is said apart.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
}
