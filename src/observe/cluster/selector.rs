//! Label selectors as objects of the cluster carry them: the structured form and the text of a Scale's status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json;

/// All requirements must hold; none at all selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    pub requirements: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Requirement {
    fn new(key: &str, operator: Operator, values: Vec<String>) -> Self {
        Self { key: key.to_owned(), operator, values }
    }

    fn admits(&self, value: Option<&str>) -> bool {
        let listed = value.is_some_and(|value| self.values.iter().any(|v| v == value));
        match self.operator {
            Operator::In => listed,
            Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl Selector {
    /// The structured form: `matchLabels` and `matchExpressions`. Nothing when it is malformed: a selector that
    /// is half understood selects too much.
    pub fn from_json(value: &Value) -> Option<Self> {
        let mut requirements: Vec<Requirement> = Vec::new();
        match value.get("matchLabels") {
            None | Some(Value::Null) => {}
            Some(Value::Object(labels)) => {
                for (key, value) in labels {
                    requirements.push(Requirement::new(key, Operator::In, vec![value.as_str()?.to_owned()]));
                }
            }
            Some(_) => return None,
        }
        for expression in json::list(value, "/matchExpressions") {
            let operator = match expression.get("operator")?.as_str()? {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                _ => return None,
            };
            let values = json::list(expression, "/values").iter().map(|v| v.as_str().map(str::to_owned));
            let key = expression.get("key")?.as_str()?;
            requirements.push(Requirement::new(key, operator, values.collect::<Option<_>>()?));
        }
        Some(Self { requirements })
    }

    /// The text form: `app=vllm,tier in (a,b),!canary`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if !part.is_empty() {
                requirements.push(requirement(part)?);
            }
        }
        Some(Self { requirements })
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|r| r.admits(labels.get(&r.key).map(String::as_str)))
    }

    /// Like [`matches`](Self::matches), but requirements on labels in `unknown` are taken to hold.
    pub fn could_match(&self, labels: &BTreeMap<String, String>, unknown: &[&str]) -> bool {
        let holds =
            |r: &Requirement| unknown.contains(&r.key.as_str()) || r.admits(labels.get(&r.key).map(String::as_str));
        self.requirements.iter().all(holds)
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(part: &str) -> Option<Requirement> {
    let is_key = |key: &str| !key.is_empty() && !key.contains([' ', '(', ')', '=', '!']);
    if let Some(key) = part.strip_prefix('!') {
        return is_key(key.trim()).then(|| Requirement::new(key.trim(), Operator::DoesNotExist, vec![]));
    }
    if let Some((key, set)) = part.strip_suffix(')').and_then(|p| p.split_once('(')) {
        let (key, operator) = key.trim().rsplit_once(' ')?;
        let operator = match operator {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            _ => return None,
        };
        let values = set.split(',').map(|v| v.trim().to_owned()).collect();
        return is_key(key.trim()).then(|| Requirement::new(key.trim(), operator, values));
    }
    let (key, operator, value) = if let Some((key, value)) = part.split_once("!=") {
        (key, Operator::NotIn, value)
    } else if let Some((key, value)) = part.split_once('=') {
        (key, Operator::In, value.strip_prefix('=').unwrap_or(value))
    } else {
        return is_key(part).then(|| Requirement::new(part, Operator::Exists, vec![]));
    };
    is_key(key.trim()).then(|| Requirement::new(key.trim(), operator, vec![value.trim().to_owned()]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn both_forms_mean_the_same() {
        let text = Selector::parse("app=vllm, tier in (a, b),!canary,zone!=x,gpu").unwrap();
        let structured = Selector::from_json(&json!({"matchLabels": {"app": "vllm"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "canary", "operator": "DoesNotExist"},
            {"key": "zone", "operator": "NotIn", "values": ["x"]},
            {"key": "gpu", "operator": "Exists"}]}))
        .unwrap();
        assert_eq!(text, structured);
        assert!(text.matches(&labels(&[("app", "vllm"), ("tier", "b"), ("gpu", "")])));
        for missing in [
            &[("app", "other"), ("tier", "b"), ("gpu", "")][..],
            &[("app", "vllm"), ("tier", "c"), ("gpu", "")],
            &[("app", "vllm"), ("tier", "b"), ("gpu", ""), ("canary", "yes")],
            &[("app", "vllm"), ("tier", "b"), ("gpu", ""), ("zone", "x")],
            &[("app", "vllm"), ("tier", "b")],
        ] {
            assert!(!text.matches(&labels(missing)), "{missing:?}");
        }
    }

    #[test]
    fn what_is_half_understood_is_nothing() {
        for bad in ["a in b", "a near (b)", "=x", "(a)", "a b"] {
            assert_eq!(Selector::parse(bad), None, "{bad}");
        }
        for bad in [
            json!({"matchLabels": {"a": 1}}),
            json!({"matchLabels": []}),
            json!({"matchExpressions": [{"key": "a", "operator": "Near"}]}),
            json!({"matchExpressions": [{"operator": "Exists"}]}),
        ] {
            assert_eq!(Selector::from_json(&bad), None, "{bad}");
        }
        assert_eq!(Selector::parse(""), Some(Selector::default()));
        assert_eq!(Selector::from_json(&json!({})), Some(Selector::default()));
    }
}
