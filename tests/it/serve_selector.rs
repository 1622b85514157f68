//! The selector parser against a second implementation that shares nothing with it: commas split, each
//! part matched by regular expressions, evaluated in the plainest way.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use poolwright::serve::Selector;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use regex::Regex;

type Labels = BTreeMap<&'static str, &'static str>;

static PART: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x)^[\ \t\r\n]*(?:
            (?P<absent>!) [\ \t\r\n]* (?P<k1>[^\ \t\r\n=!(),<>]+)
          | (?P<k2>[^\ \t\r\n=!(),<>]+)
          | (?P<k3>[^\ \t\r\n=!(),<>]+) [\ \t\r\n]* (?P<op>==|=|!=|<|>) [\ \t\r\n]* (?P<value>[^\ \t\r\n=!(),<>]*)
          | (?P<k4>[^\ \t\r\n=!(),<>]+) [\ \t\r\n]+ (?P<set>in|notin) [\ \t\r\n]*
            \( (?P<members> (?:[\ \t\r\n]*[^\ \t\r\n=!(),<>]*[\ \t\r\n]*) (?:,[\ \t\r\n]*[^\ \t\r\n=!(),<>]*[\ \t\r\n]*)* ) \)
        )[\ \t\r\n]*$",
    )
    .unwrap()
});
static NAME: LazyLock<Regex> = LazyLock::new(|| Regex::new("^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$").unwrap());
static PREFIX: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").unwrap());

/// Split at the commas that stand in no parentheses.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn valid_key(key: &str) -> bool {
    match key.split('/').collect::<Vec<_>>()[..] {
        [name] => NAME.is_match(name),
        [prefix, name] => prefix.len() <= 253 && PREFIX.is_match(prefix) && NAME.is_match(name),
        _ => false,
    }
}

/// `None` where the text is no selector, else whether it matches.
fn naive(text: &str, labels: &Labels) -> Option<bool> {
    if text.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
        return Some(true);
    }
    let mut all = true;
    for part in parts(text) {
        let found = PART.captures(part)?;
        let key = ["k1", "k2", "k3", "k4"].iter().find_map(|n| found.name(n))?.as_str();
        let label = labels.get(key).copied();
        let valid_value = |v: &str| v.is_empty() || NAME.is_match(v);
        let mut sound = valid_key(key);
        all &= if found.name("absent").is_some() {
            label.is_none()
        } else if let Some(op) = found.name("op") {
            let value = &found["value"];
            sound &= valid_value(value);
            match op.as_str() {
                "!=" => label != Some(value),
                "=" | "==" => label == Some(value),
                order => {
                    let limit: i64 = value.parse().ok()?;
                    let number = label.and_then(|l| l.parse::<i64>().ok());
                    number.is_some_and(|n| if order == ">" { n > limit } else { n < limit })
                }
            }
        } else if let Some(set) = found.name("set") {
            let members: Vec<&str> =
                found["members"].split(',').map(|m| m.trim_matches([' ', '\t', '\r', '\n'])).collect();
            sound &= members.iter().all(|m| valid_value(m));
            let member = label.is_some_and(|l| members.contains(&l));
            if set.as_str() == "in" { member } else { !member }
        } else {
            label.is_some()
        };
        if !sound {
            return None;
        }
    }
    Some(all)
}

fn agree(text: &str) {
    let labels: Labels = BTreeMap::from([("a", "1"), ("b", "x"), ("in", "in"), ("p.io/k", ""), ("n", "-5")]);
    let ours = Selector::parse(text).ok().map(|s| s.matches(|key| labels.get(key).copied()));
    assert_eq!(ours, naive(text, &labels), "{text:?}");
}

const TOKENS: [&str; 36] = [
    "a",
    "b",
    "c",
    "in",
    "notin",
    "1",
    "2",
    "x",
    "n",
    "-5",
    "p.io/k",
    "P/k",
    "a/b/c",
    "_",
    "é",
    "0x",
    "9223372036854775808",
    "=",
    "==",
    "!=",
    "!",
    "<",
    ">",
    "(",
    ")",
    ",",
    " ",
    " ",
    "\t",
    "\n",
    " in (",
    " notin (",
    "in",
    ") ,",
    "a=1",
    "!c",
];

#[test]
fn random_tokens_get_the_same_verdict() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..100_000 {
        let length = rng.random_range(0..12);
        let text: String = (0..length).map(|_| TOKENS[rng.random_range(0..TOKENS.len())]).collect();
        agree(&text);
    }
}

/// One requirement that is right, with white space wherever it may stand.
fn requirement() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["a", "b", "c", "in", "n", "p.io/k"]);
    let value = prop::sample::select(vec!["1", "2", "x", "", "in", "0"]);
    let space = prop::sample::select(vec!["", " ", "\t", " \r\n"]);
    let set = prop::collection::vec(value.clone(), 1..4);
    prop_oneof![
        (key.clone(), space.clone()).prop_map(|(k, s)| format!("{s}{k}{s}")),
        (key.clone(), space.clone()).prop_map(|(k, s)| format!("!{s}{k}")),
        (key.clone(), space.clone(), prop::sample::select(vec!["=", "==", "!="]), value)
            .prop_map(|(k, s, op, v)| format!("{k}{s}{op}{s}{v}")),
        (key.clone(), prop::sample::select(vec!["<", ">"]), -3i64..4).prop_map(|(k, op, n)| format!("{k} {op} {n}")),
        (key, prop::sample::select(vec!["in", "notin"]), space, set)
            .prop_map(|(k, op, s, v)| format!("{k} {op}{s}({s}{}{s})", v.join(&format!("{s},{s}")))),
    ]
}

proptest! {
    #[test]
    fn right_selectors_get_the_same_verdict(list in prop::collection::vec(requirement(), 0..5)) {
        agree(&list.join(","));
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in any::<String>()) {
        agree(&text);
    }
}
