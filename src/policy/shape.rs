//! Structure of a document against its JSON Schema, all problems at once: unknown, repeated and missing
//! keys, types, allowed words, ranges, units. The schema is the one generated from the structs, so that
//! what is printed, what an editor checks and what is accepted are the same. Knows no meaning.
//!
//! What is wrong is left out or replaced by a stand-in, so that the rest of the document can still be
//! checked for sense; the paths of the stand-ins are kept, and nothing is said about them twice.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};

use super::node::{Entry, Node, Value};
use super::problem::{did_you_mean, listed};
use super::units::{DURATION_FORMAT, Duration};

/// One structural problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    pub path: String,
    pub line: u64,
    pub message: String,
    pub hint: Option<String>,
}

/// Lines and wrong places of a document.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Line of every path; for a map's entry that of its key.
    pub lines: BTreeMap<String, u64>,
    /// Paths whose value is wrong, missing or unknown.
    pub bad: BTreeSet<String>,
}

/// Reads `node` as a `T`. `allowed` are further keys of the outermost map, not looked at.
/// `None` only when not even stand-ins make a `T` of it; there is a misfit then.
pub fn read<T: JsonSchema + DeserializeOwned>(node: &Node, allowed: &[&str]) -> (Option<T>, Layout, Vec<Misfit>) {
    let mut schema = schemars::schema_for!(T).to_value();
    for key in allowed {
        schema["properties"][*key] = json!({});
    }
    let mut walk = Walk { root: &schema, layout: Layout::default(), misfits: Vec::new() };
    let value = walk.value(&schema, node, "", node.line);
    let Walk { layout, mut misfits, .. } = walk;
    let typed = value.and_then(|mut value| {
        if let Json::Object(map) = &mut value {
            allowed.iter().for_each(|key| drop(map.remove(*key)));
        }
        serde_json::from_value::<T>(value)
            .map_err(|e| {
                if misfits.is_empty() {
                    misfits.push(Misfit { path: String::new(), line: node.line, message: e.to_string(), hint: None });
                }
            })
            .ok()
    });
    (typed, layout, misfits)
}

struct Walk<'s> {
    root: &'s Json,
    layout: Layout,
    misfits: Vec<Misfit>,
}

impl<'s> Walk<'s> {
    /// Checks one value; `None` when it is wrong and was reported.
    fn value(&mut self, schema: &'s Json, node: &Node, path: &str, line: u64) -> Option<Json> {
        self.layout.lines.insert(path.to_owned(), line);
        let schema = self.followed(schema);
        if let Some(options) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
            return self.one_of(options, node, path, line);
        }
        if let Some(words) = schema["enum"].as_array() {
            return self.word(words.iter().filter_map(Json::as_str).collect(), node, path, line);
        }
        match types_of(schema).first().copied() {
            Some("object") => self.object(schema, node, path, line),
            Some("array") => self.array(schema, node, path, line),
            Some("string") => self.text(schema, node, path, line),
            Some("integer") => self.integer(schema, node, path, line),
            Some("number") => self.number(schema, node, path, line),
            Some("boolean") => match node.value {
                Value::Bool(b) => Some(json!(b)),
                _ => self.wrong_type("true or false", node, path, line),
            },
            _ => Some(json!(null)),
        }
    }

    fn followed(&self, mut schema: &'s Json) -> &'s Json {
        while let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
            schema = &self.root["$defs"][name];
        }
        schema
    }

    fn misfit(&mut self, path: &str, line: u64, message: impl Into<String>, hint: Option<String>) {
        self.layout.bad.insert(path.to_owned());
        self.misfits.push(Misfit { path: path.to_owned(), line, message: message.into(), hint });
    }

    fn wrong_type(&mut self, wanted: &str, node: &Node, path: &str, line: u64) -> Option<Json> {
        let hint = match (wanted, &node.value) {
            ("text", Value::Number(n)) => Some(format!("write it in quotes: \"{n}\"")),
            ("text", Value::Bool(b)) => Some(format!("write it in quotes: \"{b}\"")),
            _ => None,
        };
        self.misfit(path, line, format!("must be {wanted}, not {}", described(node)), hint);
        None
    }

    /// An optional value, a word with documented meanings, a tagged choice, or a choice by type.
    fn one_of(&mut self, options: &'s [Json], node: &Node, path: &str, line: u64) -> Option<Json> {
        let options: Vec<&Json> = options.iter().map(|o| self.followed(o)).filter(|o| o["type"] != "null").collect();
        if let [only] = options[..]
            && only["const"].is_null()
        {
            return self.value(only, node, path, line);
        }
        if options.iter().all(|o| o["const"].is_string()) {
            return self.word(options.iter().filter_map(|o| o["const"].as_str()).collect(), node, path, line);
        }
        let tags: Vec<&str> = options.iter().filter_map(|o| o["required"][0].as_str()).collect();
        if tags.len() == options.len() && options.iter().all(|o| o["required"].as_array().is_some_and(|r| r.len() == 1))
        {
            return self.tagged(&options, &tags, node, path, line);
        }
        let fitting: Vec<_> = options.iter().filter(|o| types_of(o).iter().any(|t| fits_type(t, node))).collect();
        // Of several kinds of maps the one whose first necessary key is there.
        let is_named = |o: &Json| o["required"][0].as_str().is_some_and(|key| node.get(key).is_some());
        match fitting.iter().find(|o| is_named(o)).or(fitting.first()) {
            Some(option) => self.value(option, node, path, line),
            None => {
                let mut wanted: Vec<&str> = options.iter().flat_map(|o| types_of(o)).map(type_name).collect();
                wanted.dedup();
                self.wrong_type(&wanted.join(" or "), node, path, line)
            }
        }
    }

    /// A map with exactly one key, which says what the value is.
    fn tagged(&mut self, options: &[&'s Json], tags: &[&str], node: &Node, path: &str, line: u64) -> Option<Json> {
        let Value::Map(entries) = &node.value else { return self.wrong_type("a map", node, path, line) };
        let mut given = Vec::new();
        for entry in entries.iter().filter(|e| e.node.value != Value::Null || tags.contains(&e.key.as_str())) {
            match tags.iter().position(|t| *t == entry.key) {
                Some(at) => given.push((at, entry)),
                None => self.unknown(entry, tags, path),
            }
        }
        match given[..] {
            [(at, entry)] => {
                let schema = &options[at]["properties"][tags[at]];
                let empty = Node { line: entry.key_line, value: Value::Map(Vec::new()) };
                let node = if entry.node.value == Value::Null { &empty } else { &entry.node };
                let value = self.value(schema, node, &child(path, &entry.key), entry.key_line)?;
                Some(json!({ tags[at]: value }))
            }
            [] => {
                self.misfit(path, line, format!("needs one of: {}", listed(tags.iter().copied())), None);
                None
            }
            _ => {
                let names = given.iter().map(|(_, e)| format!("`{}`", e.key)).collect::<Vec<_>>().join(" and ");
                self.misfit(path, line, format!("has {names}"), Some("give exactly one".to_owned()));
                None
            }
        }
    }

    fn word(&mut self, words: Vec<&str>, node: &Node, path: &str, line: u64) -> Option<Json> {
        let Some(text) = node.as_text() else {
            return self.wrong_type(&format!("one of: {}", listed(words)), node, path, line);
        };
        if words.contains(&text) {
            return Some(json!(text));
        }
        let meant = did_you_mean(text, words.iter().copied()).map(|m| format!(" ({m})")).unwrap_or_default();
        let hint = format!("use one of: {}{meant}", listed(words.iter().copied()));
        self.misfit(path, line, format!("`{text}` is not allowed"), Some(hint));
        None
    }

    fn object(&mut self, schema: &'s Json, node: &Node, path: &str, line: u64) -> Option<Json> {
        let Value::Map(entries) = &node.value else { return self.wrong_type("a map", node, path, line) };
        let mut read = Map::new();
        let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
        let known: Vec<&str> =
            schema["properties"].as_object().map(|p| p.keys().map(String::as_str).collect()).unwrap_or_default();
        for entry in entries {
            let place = child(path, &entry.key);
            if let Some(first) = seen.insert(&entry.key, entry.key_line) {
                let message = format!("is given twice, first on line {first}");
                self.misfit(&place, entry.key_line, message, Some("remove one".to_owned()));
                continue;
            }
            let property = match &schema["properties"][&entry.key] {
                Json::Null => &schema["additionalProperties"],
                property => property,
            };
            if !property.is_object() {
                self.unknown(entry, &known, path);
            } else if entry.node.value == Value::Null && !known.is_empty() {
                // An empty value is an absent key, as everywhere in Kubernetes.
                seen.remove(entry.key.as_str());
            } else if let Some(value) = self.value(property, &entry.node, &place, entry.key_line) {
                read.insert(entry.key.clone(), value);
            }
        }
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            let property = &schema["properties"][key];
            if !seen.contains_key(key) {
                let message = format!("is missing{}", meaning(property));
                self.misfit(&child(path, key), line, message, None);
            }
            if !read.contains_key(key) {
                read.insert(key.to_owned(), self.stand_in(property));
            }
        }
        Some(Json::Object(read))
    }

    fn unknown(&mut self, entry: &Entry, known: &[&str], path: &str) {
        let hint = did_you_mean(&entry.key, known.iter().copied())
            .unwrap_or_else(|| format!("known here: {}", listed(known.iter().copied())));
        self.misfit(&child(path, &entry.key), entry.key_line, "unknown key", Some(hint));
    }

    fn array(&mut self, schema: &'s Json, node: &Node, path: &str, line: u64) -> Option<Json> {
        let Value::List(items) = &node.value else { return self.wrong_type("a list", node, path, line) };
        let mut read = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let value = self.value(&schema["items"], item, &format!("{path}[{i}]"), item.line);
            // Later items keep their index, which is part of their path.
            read.push(value.unwrap_or_else(|| self.stand_in(&schema["items"])));
        }
        Some(Json::Array(read))
    }

    fn text(&mut self, schema: &Json, node: &Node, path: &str, line: u64) -> Option<Json> {
        let is_duration = schema["format"] == DURATION_FORMAT;
        let text = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Number(number) if is_duration => number.to_string(),
            _ if is_duration => return self.wrong_type("a duration such as `500ms`", node, path, line),
            _ => return self.wrong_type("text", node, path, line),
        };
        if is_duration && let Err(error) = text.parse::<Duration>() {
            self.misfit(path, line, error.to_string(), None);
            return None;
        }
        Some(json!(text))
    }

    fn integer(&mut self, schema: &Json, node: &Node, path: &str, line: u64) -> Option<Json> {
        let Value::Number(number) = &node.value else { return self.wrong_type("a whole number", node, path, line) };
        let as_whole = number.as_f64().filter(|f| f.fract() == 0.0 && f.abs() <= 9.0e15);
        let Some(whole) = number.as_i64().or_else(|| as_whole.map(|f| f as i64)) else {
            return self.wrong_type("a whole number", node, path, line);
        };
        let (least, most) = match schema["format"].as_str() {
            Some("uint32") => (0, i64::from(u32::MAX)),
            Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
            Some("uint64") => (0, i64::MAX),
            _ => (i64::MIN, i64::MAX),
        };
        let least = schema["minimum"].as_f64().map_or(least, |m| least.max(m as i64));
        self.in_range(whole as f64, Some(least as f64), Some(most as f64), path, line).then(|| json!(whole))
    }

    fn number(&mut self, schema: &Json, node: &Node, path: &str, line: u64) -> Option<Json> {
        let Value::Number(number) = &node.value else { return self.wrong_type("a number", node, path, line) };
        let value = number.as_f64()?;
        let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        self.in_range(value, least, most, path, line).then(|| json!(value))
    }

    fn in_range(&mut self, value: f64, least: Option<f64>, most: Option<f64>, path: &str, line: u64) -> bool {
        let message = match (least.filter(|l| value < *l), most.filter(|m| value > *m)) {
            (Some(least), _) => format!("{value} is too small; the least is {least}"),
            (_, Some(most)) => format!("{value} is too large; the most is {most}"),
            _ => return true,
        };
        self.misfit(path, line, message, None);
        false
    }

    /// Any value that the schema accepts.
    fn stand_in(&self, schema: &'s Json) -> Json {
        if !schema["default"].is_null() {
            return schema["default"].clone();
        }
        let schema = self.followed(schema);
        if let Some(first) =
            schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()).and_then(|options| options.first())
        {
            return self.stand_in(first);
        }
        if let Some(word) = schema.get("const").or_else(|| schema["enum"].get(0)) {
            return word.clone();
        }
        match types_of(schema).first().copied() {
            Some("object") => {
                let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
                Json::Object(required.map(|k| (k.to_owned(), self.stand_in(&schema["properties"][k]))).collect())
            }
            Some("array") => json!([]),
            Some("string") if schema["format"] == DURATION_FORMAT => json!("1s"),
            Some("string") => json!(""),
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(false),
            _ => Json::Null,
        }
    }
}

/// `parent.key`, with quotes where the key itself has dots.
pub(super) fn child(path: &str, key: &str) -> String {
    let simple = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    match (path.is_empty(), simple) {
        (true, _) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (false, false) => format!("{path}[\"{key}\"]"),
    }
}

fn types_of(schema: &Json) -> Vec<&str> {
    match &schema["type"] {
        Json::String(one) => vec![one],
        Json::Array(all) => all.iter().filter_map(Json::as_str).filter(|t| *t != "null").collect(),
        _ => Vec::new(),
    }
}

fn fits_type(name: &str, node: &Node) -> bool {
    matches!(
        (name, &node.value),
        ("object", Value::Map(_))
            | ("array", Value::List(_))
            | ("string", Value::Text(_))
            | ("integer" | "number", Value::Number(_))
            | ("boolean", Value::Bool(_))
    )
}

fn type_name(name: &str) -> &str {
    match name {
        "object" => "a map",
        "array" => "a list",
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        other => other,
    }
}

fn described(node: &Node) -> String {
    match &node.value {
        Value::Null => "empty".to_owned(),
        Value::Bool(b) => format!("`{b}`"),
        Value::Number(n) => format!("the number {n}"),
        Value::Text(text) => {
            let short: String = text.chars().take(40).collect();
            format!("the text `{short}{}`", if short.len() < text.len() { "..." } else { "" })
        }
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map".to_owned(),
    }
}

/// `: price of one accelerator per hour`, from the schema's description.
fn meaning(property: &Json) -> String {
    let Some(sentence) = property["description"].as_str().and_then(|d| d.split(['.', ';', '\n']).next()) else {
        return String::new();
    };
    let mut letters = sentence.chars();
    letters.next().map(|first| format!(": {}{}", first.to_lowercase(), letters.as_str())).unwrap_or_default()
}
