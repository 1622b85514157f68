//! Versions of Kubernetes and KEDA, and what each of them can do.

use std::fmt;
use std::str::FromStr;

/// Text that names no version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no version; write for example {1}")]
pub struct VersionError(String, &'static str);

/// A release of Kubernetes, 1.`minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KubernetesVersion {
    pub minor: u32,
}

impl KubernetesVersion {
    /// The newest one that this program was tested with.
    pub const NEWEST: Self = Self { minor: 37 };
    /// First with a tolerance for each HPA without a feature gate.
    pub const TOLERANCE: Self = Self { minor: 35 };
    /// First with `minReplicas: 0` without a feature gate.
    pub const SCALE_TO_ZERO: Self = Self { minor: 37 };

    /// `behavior.scaleUp.tolerance` is honoured. An older server drops the field or refuses it.
    pub fn has_tolerance(self) -> bool {
        self >= Self::TOLERANCE
    }

    /// An HPA may have `minReplicas: 0`.
    pub fn scales_to_zero(self) -> bool {
        self >= Self::SCALE_TO_ZERO
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.minor)
    }
}

/// Reads `1.35`, and what servers call themselves: `v1.35.2-gke.1`, `1.35+`.
impl FromStr for KubernetesVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        minor_of(text, "1").map(|minor| Self { minor }).ok_or_else(|| VersionError(text.to_owned(), "1.35"))
    }
}

/// A release of KEDA, 2.`minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KedaVersion {
    pub minor: u32,
}

impl KedaVersion {
    /// The newest one that this program was tested with.
    pub const NEWEST: Self = Self { minor: 21 };
    /// First whose ScaledObject knows the field.
    pub const TOLERANCE: Self = Self { minor: 18 };

    pub fn has_tolerance(self) -> bool {
        self >= Self::TOLERANCE
    }
}

impl fmt::Display for KedaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2.{}", self.minor)
    }
}

impl FromStr for KedaVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        minor_of(text, "2").map(|minor| Self { minor }).ok_or_else(|| VersionError(text.to_owned(), "2.21"))
    }
}

/// The second number, when the first is this one.
fn minor_of(text: &str, major: &str) -> Option<u32> {
    let (first, rest) = text.strip_prefix('v').unwrap_or(text).split_once('.')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, tail) = rest.split_at(end);
    let ends_well = tail.is_empty() || tail.starts_with(['.', '+', '-']);
    digits.parse().ok().filter(|_| first == major && ends_well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_write_them() {
        for text in ["1.35", "v1.35.2", "1.35+", "v1.35.2-gke.100", "v1.35.0+k3s1", "1.35-alpha"] {
            assert_eq!(text.parse(), Ok(KubernetesVersion { minor: 35 }), "{text}");
        }
        for text in ["", "1", "35", "2.35", "1.", "1.x", "1.35x", "-1.3", "1.99999999999"] {
            assert!(text.parse::<KubernetesVersion>().is_err(), "{text}");
        }
        assert_eq!("2.18.1".parse(), Ok(KedaVersion { minor: 18 }));
        assert!("1.35".parse::<KedaVersion>().is_err());
    }
}
