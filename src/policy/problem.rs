//! What is wrong with a policy: one line each, with its place and what would be right.

use std::fmt;

/// One thing that is wrong. Ordered by file, then line, then path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file as the operator named it.
    pub file: String,
    /// Line in the file, from 1; 0 when the document came from no file.
    pub line: u64,
    /// The document, e.g. `ServedModel llama-70b`; empty when it could not be read.
    pub document: String,
    /// Place in the document, e.g. `spec.pools[1].accelerator`; may be empty.
    pub path: String,
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    /// `policies/x.yaml:12: spec.pools[1].accelerator: no accelerator ...; the fleet has ...`, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.file.clone();
        if self.line > 0 {
            line += &format!(":{}", self.line);
        }
        // Without a line the document's name has to lead the way.
        for part in [if self.line == 0 { &self.document } else { "" }, &self.path, &self.message] {
            if !part.is_empty() {
                line += if line.is_empty() { "" } else { ": " };
                line += part;
            }
        }
        if let Some(hint) = &self.hint {
            line += "; ";
            line += hint;
        }
        f.write_str(&line.replace(['\n', '\r'], " "))
    }
}

/// Everything that is wrong with a policy, sorted, without repetition. Printed one problem per line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct PolicyErrors {
    problems: Vec<Problem>,
}

impl PolicyErrors {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self { problems }
    }

    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// ``did you mean `x`?`` for the nearest of the known names, if one is near.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let plain = |s: &str| s.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let wanted = plain(written);
    // The beginning of a name is nearer than any slip of the fingers.
    let is_start = |name: &str| wanted.len() > 2 && plain(name).starts_with(&wanted);
    let (distance, name) = known
        .into_iter()
        .map(|name| (if is_start(name) { 0 } else { strsim::osa_distance(&wanted, &plain(name)) }, name))
        .min_by_key(|(distance, _)| *distance)?;
    let near = distance <= (wanted.chars().count().max(plain(name).chars().count()) / 3).max(1);
    near.then(|| format!("did you mean `{name}`?"))
}

/// `a, b, c`, or the first ten of many.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<&str> = names.into_iter().collect();
    match all.len() {
        0 => "none".to_owned(),
        1..=30 => all.join(", "),
        n => format!("{}, ... ({n} in all)", all[..10].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = ["pricePerHour", "stock", "h100", "l40s"];
        for (written, meant) in [
            ("price_per_hour", Some("pricePerHour")),
            ("h10", Some("h100")),
            ("H100", Some("h100")),
            ("stcok", Some("stock")),
            ("price", Some("pricePerHour")),
            ("quantity", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(written, known), meant.map(|m| format!("did you mean `{m}`?")), "{written}");
        }
    }

    #[test]
    fn a_problem_is_one_line() {
        let mut problem = Problem {
            file: "p.yaml".into(),
            line: 3,
            document: "Fleet f".into(),
            path: "spec.classes".into(),
            message: "is\nempty".into(),
            hint: Some("name a class".into()),
        };
        assert_eq!(problem.to_string(), "p.yaml:3: spec.classes: is empty; name a class");
        problem.line = 0;
        problem.file.clear();
        assert_eq!(problem.to_string(), "Fleet f: spec.classes: is empty; name a class");
    }
}
