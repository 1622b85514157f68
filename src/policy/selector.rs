//! Which metric series belong to a pool: the namespace and conditions on target labels, each an
//! equality or a fully anchored regular expression, and the proof that two selectors never meet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use regex::Regex;
use regex_automata::Anchored;
use regex_automata::dfa::{Automaton, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;

/// Name of the label that carries the namespace of a target.
pub const NAMESPACE_LABEL: &str = "namespace";

/// Product states visited before two expressions are declared overlapping without proof.
const PRODUCT_LIMIT: usize = 200_000;

/// Largest automaton of one expression, bytes.
const DFA_SIZE_LIMIT: usize = 4 << 20;

/// One condition on one label.
#[derive(Clone, Debug)]
pub enum Condition {
    Equals(String),
    /// The expression as written and its anchored form.
    Matches(String, Regex),
}

impl Condition {
    /// A condition that the whole label value matches `pattern`.
    ///
    /// # Errors
    /// The text of the expression is wrong.
    pub fn matches(pattern: &str) -> Result<Self, String> {
        let regex = Regex::new(&format!("^(?:{pattern})$")).map_err(|e| last_line(&e.to_string()))?;
        Ok(Self::Matches(pattern.to_owned(), regex))
    }

    fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Equals(wanted) => wanted == value,
            Self::Matches(_, regex) => regex.is_match(value),
        }
    }

    /// The regular expression that describes the accepted values.
    fn pattern(&self) -> String {
        match self {
            Self::Equals(value) => regex::escape(value),
            Self::Matches(pattern, _) => format!("(?:{pattern})"),
        }
    }
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or(text).trim_start_matches("error: ").to_owned()
}

/// Selects the series of one pool by the labels of their target.
#[derive(Clone, Debug)]
pub struct SeriesSelector {
    pub namespace: String,
    /// Value of the label `model_name`, where a series has that label.
    pub model_name: String,
    /// Conditions by label name.
    pub conditions: BTreeMap<String, Condition>,
    /// The conditions follow from the name of the scale target: a guess, where the operator gave none.
    pub derived: bool,
}

impl SeriesSelector {
    /// True when every condition holds and the namespace label has the pool's value. A series that has
    /// a `model_name` label must name this model.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(NAMESPACE_LABEL).is_some_and(|n| *n == self.namespace)
            && labels.get("model_name").is_none_or(|m| *m == self.model_name)
            && self
                .conditions
                .iter()
                .all(|(name, condition)| condition.accepts(labels.get(name).map_or("", String::as_str)))
    }

    /// Names of the labels that this selector looks at.
    pub fn label_names(&self) -> BTreeSet<&str> {
        self.conditions.keys().map(String::as_str).collect()
    }

    /// True when some series could belong to both. Exact: the intersection of the two languages is
    /// searched for a word, label by label; only beyond the search limit it errs towards `true`.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.namespace != other.namespace || self.model_name != other.model_name {
            return false;
        }
        self.conditions
            .iter()
            .all(|(name, mine)| other.conditions.get(name).is_none_or(|theirs| conditions_meet(mine, theirs)))
    }
}

fn conditions_meet(a: &Condition, b: &Condition) -> bool {
    match (a, b) {
        (Condition::Equals(x), Condition::Equals(y)) => x == y,
        (Condition::Equals(x), other) | (other, Condition::Equals(x)) => other.accepts(x),
        (Condition::Matches(x, _), Condition::Matches(y, _)) => {
            let (start_x, start_y) = (certain_start(x), certain_start(y));
            let agree = start_x.starts_with(&start_y) || start_y.starts_with(&start_x);
            agree && languages_meet(&a.pattern(), &b.pattern())
        }
    }
}

/// Letters that every match surely begins with; fewer than there are where that is hard to say. Spares
/// the search of the product for the many pools whose names simply differ.
fn certain_start(pattern: &str) -> String {
    if pattern.contains('|') || pattern.contains("(?") {
        return String::new();
    }
    let mut start = String::new();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        let literal = match letter {
            '\\' => letters.next().filter(char::is_ascii_punctuation),
            c if c.is_alphanumeric() || "-_/:,;=@%!~\"'<> ".contains(c) => Some(c),
            _ => None,
        };
        let Some(literal) = literal else { break };
        // A repetition may also stand for none.
        if letters.peek().is_some_and(|next| "?*+{".contains(*next)) {
            break;
        }
        start.push(literal);
    }
    start
}

/// Breadth-first search of the product automaton for a word that both expressions accept.
fn languages_meet(a: &str, b: &str) -> bool {
    let build = |pattern: &str| {
        dense::Builder::new()
            .configure(
                dense::Config::new().dfa_size_limit(Some(DFA_SIZE_LIMIT)).determinize_size_limit(Some(DFA_SIZE_LIMIT)),
            )
            .build(pattern)
            .ok()
    };
    let (Some(a), Some(b)) = (build(a), build(b)) else { return true };
    let anchored = start::Config::new().anchored(Anchored::Yes);
    let (Ok(start_a), Ok(start_b)) = (a.start_state(&anchored), b.start_state(&anchored)) else { return true };

    let mut seen: BTreeSet<(StateID, StateID)> = BTreeSet::from([(start_a, start_b)]);
    let mut queue = VecDeque::from([(start_a, start_b)]);
    while let Some((sa, sb)) = queue.pop_front() {
        if a.is_match_state(a.next_eoi_state(sa)) && b.is_match_state(b.next_eoi_state(sb)) {
            return true;
        }
        if seen.len() > PRODUCT_LIMIT {
            return true;
        }
        for byte in 0..=u8::MAX {
            let next = (a.next_state(sa, byte), b.next_state(sb, byte));
            if a.is_dead_state(next.0) || b.is_dead_state(next.1) {
                continue;
            }
            if seen.insert(next) {
                queue.push_back(next);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(model: &str, pod: &str) -> SeriesSelector {
        SeriesSelector {
            namespace: "inference".into(),
            model_name: model.into(),
            conditions: BTreeMap::from([("pod".to_owned(), Condition::matches(pod).unwrap())]),
            derived: false,
        }
    }

    #[test]
    fn pods_of_one_deployment_are_not_those_of_a_longer_name() {
        let short = selector("m", "llama-[0-9a-z]+-[0-9a-z]{5}");
        let long = selector("m", "llama-h100-[0-9a-z]+-[0-9a-z]{5}");
        assert!(!short.overlaps(&long));
        assert!(short.overlaps(&short.clone()));
    }

    #[test]
    fn overlap_is_found_between_different_expressions() {
        assert!(selector("m", "llama-.+").overlaps(&selector("m", ".*-h100-.*")));
        assert!(!selector("m", "a+").overlaps(&selector("m", "b+")));
        assert!(!selector("m", "llama-.+").overlaps(&selector("other", "llama-.+")));
        assert!(!selector("m", "x{3}").overlaps(&selector("m", "x{2}")));
    }

    #[test]
    fn the_certain_start_never_hides_an_overlap() {
        for (pattern, start) in [
            (r"llama\-3\.1-[0-9]+", "llama-3.1-"),
            ("ab*", "a"),
            ("ab{0}", "a"),
            ("a|b", ""),
            ("(?i)abc", ""),
            (r"a\d", "a"),
            (r"a\x62", "a"),
            ("a.b", "a"),
            ("^a", ""),
            ("", ""),
        ] {
            assert_eq!(certain_start(pattern), start, "{pattern}");
        }
        assert!(selector("m", "ab*c").overlaps(&selector("m", "ac")));
        assert!(selector("m", "(?i)ABC").overlaps(&selector("m", "abc")));
        assert!(selector("m", "x|abc").overlaps(&selector("m", "ab.")));
    }

    #[test]
    fn selects_by_namespace_model_and_anchored_expression() {
        let s = selector("m", "llama-[0-9]");
        let labels = |ns: &str, pod: &str, model: Option<&str>| {
            let mut l = BTreeMap::from([("namespace".to_owned(), ns.to_owned()), ("pod".to_owned(), pod.to_owned())]);
            if let Some(m) = model {
                l.insert("model_name".to_owned(), m.to_owned());
            }
            l
        };
        assert!(s.selects(&labels("inference", "llama-1", Some("m"))));
        assert!(s.selects(&labels("inference", "llama-1", None)));
        assert!(!s.selects(&labels("inference", "llama-12", Some("m"))));
        assert!(!s.selects(&labels("other", "llama-1", Some("m"))));
        assert!(!s.selects(&labels("inference", "llama-1", Some("n"))));
        assert!(!s.selects(&BTreeMap::new()));
    }
}
