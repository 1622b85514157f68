//! One place in a JSON file, and what is said when something else was wanted there.

use serde_json::{Map, Value};

/// Why a file is refused: one line.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{file}: {field}: found {found}; wanted: {wanted}")]
pub struct Refusal {
    pub file: String,
    pub field: String,
    pub found: String,
    pub wanted: String,
}

impl Refusal {
    /// What the parser says of a text that is no JSON; it names the place in its own words too.
    pub(super) fn no_json(file: &str, error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let why = error.to_string();
        let why = why.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&why);
        Self {
            file: file.into(),
            field: format!("line {line}, column {column}"),
            found: format!("no JSON ({why})"),
            wanted: "valid JSON".into(),
        }
    }
}

/// Replicas and units beyond which a number is a mistake.
const MOST_COUNT: u32 = 1_000_000;
/// Prices, rates and penalties beyond which a number is a mistake.
const MOST_AMOUNT: f64 = 1e12;
/// Letters of a wrong value that are shown.
const SHOWN: usize = 60;

/// A value and where it stands, e.g. `variants[3].cost`.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    file: &'a str,
    path: String,
    value: Option<&'a Value>,
}

impl<'a> Place<'a> {
    pub(super) fn root(file: &'a str, value: &'a Value) -> Self {
        Self { file, path: String::new(), value: Some(value) }
    }

    pub(super) fn refuse(&self, wanted: &str) -> Refusal {
        let found = self.value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let found = match found.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{} …", &found[..end]),
            None => found,
        };
        let field = if self.path.is_empty() { "the file" } else { &self.path };
        Refusal { file: self.file.into(), field: field.into(), found, wanted: wanted.into() }
    }

    fn object(&self) -> Result<&'a Map<String, Value>, Refusal> {
        self.value.and_then(Value::as_object).ok_or_else(|| self.refuse("an object"))
    }

    /// Refuse fields that the format does not have: a misspelt one would silently count as absent.
    pub(super) fn closed(self, known: &[&str]) -> Result<Self, Refusal> {
        match self.object()?.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(self),
            Some(key) => Err(self.at(key).refuse(&format!("no such field; there are {}", known.join(", ")))),
        }
    }

    /// A field, there or not.
    pub(super) fn at(&self, key: &str) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { file: self.file, path, value: self.value.and_then(|v| v.get(key)) }
    }

    /// A field that is there and not null.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        Some(self.at(key)).filter(|place| place.value.is_some_and(|v| !v.is_null()))
    }

    pub(super) fn entries(&self) -> Result<Vec<(&'a str, Self)>, Refusal> {
        Ok(self.object()?.keys().map(|key| (key.as_str(), self.at(key))).collect())
    }

    pub(super) fn items(&self) -> Result<Vec<Self>, Refusal> {
        let items = self.value.and_then(Value::as_array).ok_or_else(|| self.refuse("a list"))?;
        let item = |(i, value)| Self { file: self.file, path: format!("{}[{i}]", self.path), value: Some(value) };
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub(super) fn text(&self) -> Result<&'a str, Refusal> {
        self.value.and_then(Value::as_str).ok_or_else(|| self.refuse("a text"))
    }

    pub(super) fn is_true(&self) -> Result<bool, Refusal> {
        self.value.and_then(Value::as_bool).ok_or_else(|| self.refuse("true or false"))
    }

    /// A number of 0 or more.
    pub(super) fn amount(&self) -> Result<f64, Refusal> {
        let number = self.value.and_then(Value::as_f64).filter(|n| (0.0..=MOST_AMOUNT).contains(n));
        number.ok_or_else(|| self.refuse("a number from 0 to 1e12"))
    }

    /// A number above 0.
    pub(super) fn positive(&self) -> Result<f64, Refusal> {
        self.amount().ok().filter(|n| *n > 0.0).ok_or_else(|| self.refuse("a number above 0, at most 1e12"))
    }

    pub(super) fn count(&self) -> Result<u32, Refusal> {
        let number = self.value.and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        number.filter(|n| *n <= MOST_COUNT).ok_or_else(|| self.refuse("a whole number from 0 to 1000000"))
    }

    /// A count of at most `most`; `what` says what that is.
    pub(super) fn count_to(&self, most: u32, what: &str) -> Result<u32, Refusal> {
        let wanted = format!("a whole number from 0 to {most}, {what}");
        self.count().ok().filter(|n| *n <= most).ok_or_else(|| self.refuse(&wanted))
    }

    /// The place of something in a list of `count` things called `what`.
    pub(super) fn index(&self, count: usize, what: &str) -> Result<usize, Refusal> {
        let number = self.value.and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        number.filter(|n| *n < count).ok_or_else(|| self.refuse(&format!("the place of one of the {count} {what}")))
    }

    /// The place of a name in a list.
    pub(super) fn named<'n>(&self, mut names: impl Iterator<Item = &'n str>, what: &str) -> Result<usize, Refusal> {
        let name = self.text()?;
        names.position(|n| n == name).ok_or_else(|| self.refuse(&format!("the name of one of the {what}")))
    }
}
