//! Values that are set beside the policy files: `accelerators.h100.price=2.1`. They are put into the documents before
//! these are looked at, so that they are judged as if they stood in the file. Knows the schema, not the meaning.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde_json::{Map, Value as Json};

use super::document::{Parsed, Report};
use super::node::{Entry, Node, Value};
use super::problem::{Problem, did_you_mean, listed};
use super::schema::{FleetDocument, ServedModelDocument};
use super::shape::child;

/// A value and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Keys and names, with dots between them: below the Fleet's `spec`, or below `models.NAME`.
    path: String,
    /// A YAML scalar.
    value: String,
}

/// Where a change ended up, so that what is wrong there is told of the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub change: String,
    pub file: String,
    /// Place in the document.
    pub path: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.path, self.value)
    }
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "expected PATH=VALUE, for example accelerators.h100.price=2.1";
        let (path, value) = text.split_once('=').ok_or(FORM)?;
        if path.trim().is_empty() || path.split('.').any(str::is_empty) {
            return Err(FORM.to_owned());
        }
        let change = Self { path: path.trim().to_owned(), value: value.trim().to_owned() };
        change.scalar().map(|_| change)
    }
}

impl Change {
    /// The value as it would be read from a file.
    fn scalar(&self) -> Result<Value, String> {
        let wrong = || format!("`{}` is no single value, expected a number, text, true, false or null", self.value);
        match Node::parse(&self.value).map_err(|_| wrong())?.as_slice() {
            [Node { value: Value::Map(_) | Value::List(_), .. }] => Err(wrong()),
            [node] => Ok(node.value.clone()),
            [] if self.value == "null" || self.value == "~" => Ok(Value::Null),
            _ => Err(wrong()),
        }
    }
}

/// Puts all changes into the trees; what cannot be is reported.
pub(super) fn apply(parsed: &mut [Parsed], changes: &[Change], report: &mut Report) {
    for change in changes {
        match put(parsed, change) {
            Ok((file, path)) => report.changed.push(Changed { change: change.to_string(), file, path }),
            Err(message) => report.problems.push(Problem {
                file: told(&change.to_string()),
                line: 0,
                document: String::new(),
                path: String::new(),
                message,
                hint: None,
            }),
        }
    }
}

/// How a change is named in messages.
pub(super) fn told(change: &str) -> String {
    format!("--set {change}")
}

/// One change; the file and the place in its document where it went.
fn put(parsed: &mut [Parsed], change: &Change) -> Result<(String, String), String> {
    let value = change.scalar()?;
    let kind = |node: &Node| node.get("kind").and_then(Node::as_text).map(str::to_owned);
    let documents = parsed.iter_mut().flat_map(|(file, nodes)| {
        let file: &String = file;
        nodes.iter_mut().map(move |node| (file, node))
    });
    if let Some(rest) = change.path.strip_prefix("models.") {
        let mut names = vec![];
        let mut found: Option<(usize, &String, &mut Node)> = None;
        for (file, node) in documents.filter(|(_, node)| kind(node).as_deref() == Some("ServedModel")) {
            let name = node.get("metadata").and_then(|m| m.get("name")).and_then(Node::as_text).unwrap_or_default();
            let name = name.to_owned();
            if below(rest, &name).is_some() && found.as_ref().is_none_or(|(length, ..)| name.len() > *length) {
                found = Some((name.len(), file, node));
            }
            names.push(name);
        }
        let names = || listed(names.iter().map(String::as_str));
        let (length, file, node) = found.ok_or_else(|| format!("no such model; there are: {}", names()))?;
        let rest = rest[length..].trim_start_matches('.');
        return walk::<ServedModelDocument>(
            file,
            node,
            &format!("models.{}", &change.path[7..7 + length]),
            rest,
            value,
        );
    }
    let mut fleets = documents.filter(|(_, node)| kind(node).as_deref() == Some("Fleet"));
    let (file, node) = fleets.next().ok_or("the policy has no Fleet")?;
    walk::<FleetDocument>(file, node, "", &change.path, value)
}

/// What follows a name at the beginning of a path; `None` when the path begins otherwise.
fn below<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(name).filter(|_| !name.is_empty())?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
}

fn walk<T: JsonSchema>(
    file: &str,
    document: &mut Node,
    above: &str,
    path: &str,
    value: Value,
) -> Result<(String, String), String> {
    let root = schemars::schema_for!(T).to_value();
    let schema = &root["properties"]["spec"];
    let Value::Map(entries) = &mut document.value else { return Err("the document is no map".to_owned()) };
    let node = entry(entries, "spec");
    let mut way = Way { root: &root, above: above.to_owned(), place: "spec".to_owned() };
    way.set(schema, node, path, value)?;
    Ok((file.to_owned(), way.place))
}

/// The value of a key; an empty one where it is not there.
fn entry<'n>(entries: &'n mut Vec<Entry>, key: &str) -> &'n mut Node {
    let at = entries.iter().position(|e| e.key == key).unwrap_or_else(|| {
        entries.push(Entry { key: key.to_owned(), key_line: 0, node: Node { line: 0, value: Value::Null } });
        entries.len() - 1
    });
    &mut entries[at].node
}

/// On the way down.
struct Way<'s> {
    root: &'s Json,
    /// The part of the path that is behind, as it was written.
    above: String,
    /// The same as places are written in messages.
    place: String,
}

impl<'s> Way<'s> {
    fn set(&mut self, schema: &'s Json, node: &mut Node, path: &str, value: Value) -> Result<(), String> {
        if path.is_empty() {
            if matches!(node.value, Value::Map(_) | Value::List(_)) {
                return Err(format!("{} holds more than one value{}", self.here(), self.choices(schema, node)));
            }
            node.value = value;
            return Ok(());
        }
        let kinds = self.kinds(schema);
        if let Value::List(items) = &mut node.value {
            let names: Vec<String> = items.iter().enumerate().map(|(i, item)| name_of(i, item)).collect();
            let fitting = names.iter().enumerate().filter(|(_, name)| below(path, name).is_some());
            let Some((index, name)) = fitting.max_by_key(|(_, name)| name.len()) else {
                return Err(self.unknown(path, names.iter().map(String::as_str)));
            };
            let items_schema = kinds.iter().map(|kind| &kind["items"]).find(|items| items.is_object());
            self.step(name, &format!("{}[{index}]", self.place));
            let rest = below(path, name).unwrap_or_default();
            return self.set(items_schema.unwrap_or(&Json::Null), &mut items[index], rest, value);
        }
        let known: Vec<(&String, &Json)> =
            kinds.iter().filter_map(|kind| kind["properties"].as_object()).flat_map(Map::iter).collect();
        let is_leaf = known.is_empty() && !kinds.iter().any(|kind| kind["additionalProperties"].is_object());
        if is_leaf {
            return Err(format!("{} is one value, there is nothing below it", self.here()));
        }
        // Keys of a map without a list of them are the user's own, dots included.
        let free = kinds.iter().map(|kind| &kind["additionalProperties"]).find(|more| more.is_object());
        let (key, rest, schema) = match (self.key(&known, path)?, free) {
            (Some((key, rest, schema)), _) => (key, rest, schema),
            (None, Some(schema)) => (path.to_owned(), "", schema),
            (None, None) => return Err(self.unknown(path, known.iter().map(|(key, _)| key.as_str()))),
        };
        if node.value == Value::Null {
            node.value = Value::Map(vec![]);
        }
        let Value::Map(entries) = &mut node.value else {
            return Err(format!("{} is one value, there is nothing below it", self.here()));
        };
        self.step(&key, &child(&self.place, &key));
        self.set(schema, entry(entries, &key), rest, value)
    }

    fn step(&mut self, written: &str, place: &str) {
        self.above = if self.above.is_empty() { written.to_owned() } else { format!("{}.{written}", self.above) };
        place.clone_into(&mut self.place);
    }

    /// The key that a path begins with: as it is, or cut short as long as it is clear which one is meant.
    fn key<'p>(
        &self,
        known: &[(&String, &'s Json)],
        path: &'p str,
    ) -> Result<Option<(String, &'p str, &'s Json)>, String> {
        let (written, rest) = path.split_once('.').unwrap_or((path, ""));
        let plain = |s: &str| s.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        let exact = known.iter().filter(|(key, _)| *key == written);
        let start =
            known.iter().filter(|(key, _)| !plain(written).is_empty() && plain(key).starts_with(&plain(written)));
        let (exact, start): (Vec<_>, Vec<_>) = (exact.collect(), start.collect());
        match (exact.as_slice(), start.as_slice()) {
            ([(key, schema), ..], _) | ([], [(key, schema)]) => Ok(Some(((*key).clone(), rest, *schema))),
            ([], []) => Ok(None),
            ([], several) => {
                let keys = listed(several.iter().map(|(key, _)| key.as_str()));
                Err(format!("`{written}` may be one of: {keys}"))
            }
        }
    }

    /// The schemas that a value may follow: references are followed, choices taken apart.
    fn kinds(&self, schema: &'s Json) -> Vec<&'s Json> {
        let mut schema = schema;
        while let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
            schema = &self.root["$defs"][name];
        }
        match schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
            Some(options) => options.iter().flat_map(|option| self.kinds(option)).collect(),
            None => vec![schema],
        }
    }

    fn here(&self) -> &str {
        if self.above.is_empty() { "the fleet" } else { &self.above }
    }

    fn choices(&self, schema: &'s Json, node: &Node) -> String {
        let kinds = self.kinds(schema);
        let keys = kinds.iter().filter_map(|kind| kind["properties"].as_object()).flat_map(Map::keys).cloned();
        let names = node.items().iter().enumerate().map(|(i, item)| name_of(i, item));
        let all: Vec<String> = if node.items().is_empty() { keys.collect() } else { names.collect() };
        format!("; below it are: {}", listed(all.iter().map(String::as_str)))
    }

    fn unknown<'a>(&self, path: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
        let written = path.split('.').next().unwrap_or_default();
        let meant = did_you_mean(written, known.clone()).map(|m| format!(" ({m})")).unwrap_or_default();
        let models = if self.above.is_empty() { "; models are below: models.NAME" } else { "" };
        format!("no `{written}` in {}{meant}; there are: {}{models}", self.here(), listed(known))
    }
}

/// What an item of a list is called: by its name, else by its number from 0.
fn name_of(index: usize, item: &Node) -> String {
    item.get("name").and_then(Node::as_text).map_or_else(|| index.to_string(), str::to_owned)
}
