//! YAML text as a tree in which every value knows its line. Syntax only: it knows nothing of what a
//! policy may contain, keeps repeated keys, and limits what a hostile text can cost.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{DuplicateKeyPolicy, NonFiniteFloatPolicy, SnippetMode, Spanned};

/// Largest text of one policy file, bytes; a ConfigMap holds at most 1 MiB.
pub const LARGEST_TEXT_BYTES: usize = 8 << 20;

/// Deepest nesting; a policy needs eight levels.
const DEEPEST: usize = 32;

/// One value and the line it starts on; line 0 is unknown.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub line: u64,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// In the order of the text, repeated keys included.
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_line: u64,
    pub node: Node,
}

impl Node {
    /// The documents of a YAML (or JSON) text; empty documents are left out.
    ///
    /// # Errors
    /// The text is no YAML: (line, what is wrong in one line).
    pub fn parse(text: &str) -> Result<Vec<Self>, (u64, String)> {
        if text.len() > LARGEST_TEXT_BYTES {
            return Err((1, format!("{} bytes are too much for a policy file", text.len())));
        }
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_depth: DEEPEST, max_documents: 10_000 },
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            non_finite_float_policy: NonFiniteFloatPolicy::AsString,
            // `off` is a mode, not a boolean.
            strict_booleans: true,
        };
        serde_saphyr::from_multiple_with_options::<Self>(text, options).map_err(|error| {
            let line = error.location().map_or(1, |l| l.line().max(1));
            let plain = serde_saphyr::render_options! { snippets: SnippetMode::Off };
            (line, one_line(&error.without_snippet().render_with_options(plain)))
        })
    }

    /// The entry of a map; the first one where the key is repeated.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.node),
            _ => None,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list; none for anything else.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }
}

impl From<serde_json::Value> for Node {
    /// A document that did not come from a text: no lines.
    fn from(value: serde_json::Value) -> Self {
        let value = match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(b) => Value::Bool(b),
            serde_json::Value::Number(n) => Value::Number(n),
            serde_json::Value::String(s) => Value::Text(s),
            serde_json::Value::Array(items) => Value::List(items.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(map) => Value::Map(
                map.into_iter().map(|(key, value)| Entry { key, key_line: 0, node: Self::from(value) }).collect(),
            ),
        };
        Self { line: 0, value }
    }
}

fn one_line(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // The library ends its plain form with the position, which the caller prints in front.
    match joined.rfind(" at line ") {
        Some(cut) if !joined[cut..].contains(": ") => joined[..cut].trim_end_matches(',').to_owned(),
        _ => joined,
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or_else(|| Value::Text(value.to_string()), Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Node>()? {
            let text = match key.value {
                Value::Text(text) => text,
                Value::Bool(b) => b.to_string(),
                Value::Number(n) => n.to_string(),
                Value::Null => "null".to_owned(),
                Value::List(_) | Value::Map(_) => return Err(A::Error::custom("a key must be a word")),
            };
            entries.push(Entry { key: text, key_line: key.line, node: map.next_value()? });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let docs =
            Node::parse("a: 1\nb:\n  - x: off\n    y: 500ms\n---\n# only a comment\n---\nc: [1.5, null]\n").unwrap();
        assert_eq!(docs.len(), 2);
        let item = &docs[0].get("b").unwrap().items()[0];
        assert_eq!((item.line, item.get("y").unwrap().line), (3, 4));
        assert_eq!(item.get("x").unwrap().as_text(), Some("off"));
        let c = docs[1].get("c").unwrap();
        assert_eq!((c.line, c.items()[1].value.clone()), (8, Value::Null));
    }

    #[test]
    fn repeated_keys_are_kept_for_the_report() {
        let docs = Node::parse("a: 1\na: 2\n").unwrap();
        let Value::Map(entries) = &docs[0].value else { panic!() };
        assert_eq!(entries.iter().map(|e| e.key_line).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn json_is_read_too() {
        let docs = Node::parse("{\n  \"a\": {\"b\": true},\n  \"c\": \"1\"\n}\n").unwrap();
        assert_eq!(docs[0].get("c").unwrap().line, 3);
        let value: serde_json::Value = serde_json::from_str("{\"a\": {\"b\": [1, null]}}").unwrap();
        assert_eq!(Node::from(value).get("a").unwrap().get("b").unwrap().items().len(), 2);
    }

    #[test]
    fn a_syntax_error_is_one_line_with_its_place() {
        for (text, line) in [("a: 1\nb: [1, 2\nc: 3\n", 3), ("a: \"open\n", 2), ("a: b: c\n", 1), ("a: 1\n\tb: 2\n", 2)]
        {
            let (at, message) = Node::parse(text).unwrap_err();
            assert!(!message.contains('\n') && !message.is_empty(), "{message}");
            assert!(at.abs_diff(line) <= 1, "{text:?}: line {at}: {message}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..10 {
            let refs = vec![format!("*a{}", i - 1); 10].join(", ");
            laughs += &format!("a{i}: &a{i} [{refs}]\n");
        }
        assert!(Node::parse(&laughs).is_err());
        assert!(Node::parse(&"[".repeat(10_000)).is_err());
        assert!(Node::parse(&"- ".repeat(10_000)).is_err());
        assert!(Node::parse("a: &a [*a]\n").is_err());
    }
}
