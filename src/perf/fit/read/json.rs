//! Values of a JSON document with the place they stand at, so that a refusal can name it.

use serde_json::Value;

use super::super::point::{Latency, Origin};
use super::ReadError;

/// A value and its place.
#[derive(Clone, Debug)]
pub struct At<'v> {
    pub file: &'v str,
    pub place: String,
    pub value: &'v Value,
}

impl<'v> At<'v> {
    pub fn refuse(&self, message: &str, hint: &str) -> ReadError {
        ReadError {
            file: self.file.to_owned(),
            place: self.place.clone(),
            message: message.to_owned(),
            hint: hint.to_owned(),
        }
    }

    pub fn origin(&self) -> Origin {
        Origin { file: self.file.to_owned(), place: self.place.clone() }
    }

    fn inside(&self, step: &str, value: &'v Value) -> Self {
        let place = match (self.place.as_str(), step.starts_with('[')) {
            ("", _) => step.to_owned(),
            (place, true) => format!("{place}{step}"),
            (place, false) => format!("{place}.{step}"),
        };
        Self { file: self.file, place, value }
    }

    /// The value under `key`, unless it is missing or null.
    pub fn maybe(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|v| !v.is_null())?;
        Some(self.inside(key, value))
    }

    /// # Errors
    /// The key is missing.
    pub fn get(&self, key: &str, hint: &str) -> Result<Self, ReadError> {
        self.maybe(key).ok_or_else(|| self.refuse(&format!("`{key}` is missing"), hint))
    }

    /// # Errors
    /// It is no list.
    pub fn list(&self) -> Result<Vec<Self>, ReadError> {
        let list = self.value.as_array().ok_or_else(|| self.refuse(&format!("{} is no list", self.shown()), ""))?;
        Ok(list.iter().enumerate().map(|(i, v)| self.inside(&format!("[{i}]"), v)).collect())
    }

    /// A finite number that is not negative.
    ///
    /// # Errors
    /// It is something else.
    pub fn number(&self) -> Result<f64, ReadError> {
        let number = self.value.as_f64().filter(|n| n.is_finite() && *n >= 0.0);
        number.ok_or_else(|| self.refuse(&format!("{} is no number from zero up", self.shown()), ""))
    }

    /// A number above zero.
    ///
    /// # Errors
    /// It is something else.
    pub fn positive(&self) -> Result<f64, ReadError> {
        let number = self.value.as_f64().filter(|n| n.is_finite() && *n > 0.0);
        number.ok_or_else(|| self.refuse(&format!("{} is no number above zero", self.shown()), ""))
    }

    pub fn text(&self) -> Option<String> {
        self.value.as_str().map(str::to_owned)
    }

    /// A number under `key`, when there is one.
    ///
    /// # Errors
    /// It is there and no number.
    pub fn maybe_number(&self, key: &str) -> Result<Option<f64>, ReadError> {
        self.maybe(key).map(|v| v.number()).transpose()
    }

    /// Milliseconds under these keys as a latency; `None` without a mean.
    ///
    /// # Errors
    /// A value is no number.
    pub fn latency_ms(&self, mean: &str, p50: &str, p95: &str, p99: &str) -> Result<Option<Latency>, ReadError> {
        let Some(mean) = self.maybe(mean) else { return Ok(None) };
        let of = |key: &str| Ok::<_, ReadError>(self.maybe_number(key)?.map(|ms| ms / 1e3));
        Ok(Some(Latency {
            mean_seconds: mean.positive()? / 1e3,
            p50_seconds: of(p50)?,
            p95_seconds: of(p95)?,
            p99_seconds: of(p99)?,
        }))
    }

    /// The value as it stands in the file, shortened.
    pub fn shown(&self) -> String {
        let text = self.value.to_string();
        if text.chars().count() <= 40 { text } else { format!("{}…", text.chars().take(40).collect::<String>()) }
    }
}
