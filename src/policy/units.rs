//! Durations as people write them in a policy: `500ms`, `15s`, `5m`, `1h30m`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, kept in seconds; written as `500ms`, `5m`, `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Duration(f64);

/// The `format` keyword of durations in the JSON Schema.
pub const DURATION_FORMAT: &str = "poolwright-duration";

const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

impl Duration {
    pub const fn from_seconds(seconds: f64) -> Self {
        Self(seconds)
    }

    /// Length in seconds, finite and never negative when it was parsed.
    pub const fn seconds(self) -> f64 {
        self.0
    }

    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::try_from_secs_f64(self.0).unwrap_or(std::time::Duration::MAX)
    }
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("`{0}` has no unit; write for example `{0}s` or `{0}ms`")]
    NoUnit(String),
    #[error("`{unit}` is no unit of time; use ns, us, ms, s, m or h, for example `500ms` or `5m`")]
    BadUnit { unit: String },
    #[error("`{0}` is no duration; write for example `500ms`, `15s` or `1h30m`")]
    Malformed(String),
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(DurationError::Malformed(text.to_owned()));
        }
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let number: f64 = rest[..digits].parse().map_err(|_| DurationError::Malformed(text.to_owned()))?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            let unit = rest[..letters].trim();
            rest = &rest[letters..];
            if unit.is_empty() {
                return Err(DurationError::NoUnit(text.trim().to_owned()));
            }
            let (_, factor) = UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(|| DurationError::BadUnit { unit: unit.to_owned() })?;
            seconds += number * factor;
        }
        if !seconds.is_finite() {
            return Err(DurationError::Malformed(text.to_owned()));
        }
        Ok(Self(seconds))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0;
        let trimmed = |value: f64| {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        match s {
            _ if s == 0.0 => write!(f, "0s"),
            _ if s < 1e-9 => write!(f, "{}ns", format!("{:.7}", s * 1e9).trim_end_matches('0').trim_end_matches('.')),
            _ if s < 1e-6 => write!(f, "{}ns", trimmed(s * 1e9)),
            _ if s < 1e-3 => write!(f, "{}us", trimmed(s * 1e6)),
            _ if s < 1.0 => write!(f, "{}ms", trimmed(s * 1e3)),
            _ if s >= 3600.0 && s % 3600.0 == 0.0 => write!(f, "{}h", s / 3600.0),
            _ if s >= 60.0 && s % 60.0 == 0.0 => write!(f, "{}m", s / 60.0),
            _ => write!(f, "{}s", trimmed(s)),
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": DURATION_FORMAT,
            "pattern": "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$",
            "description": "a length of time such as 500ms, 15s, 5m or 1h30m"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_usual_forms() {
        for (text, seconds) in [
            ("500ms", 0.5),
            ("5m", 300.0),
            ("1h30m", 5400.0),
            ("35us", 35e-6),
            ("1.5s", 1.5),
            ("0s", 0.0),
            (" 15s ", 15.0),
        ] {
            assert!((text.parse::<Duration>().unwrap().seconds() - seconds).abs() < 1e-12, "{text}");
        }
    }

    #[test]
    fn refuses_and_says_what_would_be_right() {
        assert_eq!(
            "500".parse::<Duration>().unwrap_err().to_string(),
            "`500` has no unit; write for example `500s` or `500ms`"
        );
        for bad in ["", "s", "5 minutes", "-5s", "5d", "1..2s", "NaNs", "infs", "1e400s"] {
            assert!(bad.parse::<Duration>().is_err(), "{bad} must be refused");
        }
    }

    #[test]
    fn prints_what_it_parses() {
        for text in ["500ms", "5m", "90s", "2h", "35us", "0s", "1.5s", "57.705ns", "0.0331ns"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
    }
}
