//! The selector parser against implementations that share nothing with it: one splits at commas and matches
//! each part by regular expressions; one reads a part's shape, and is quick enough for a million texts.

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

fn labels() -> Labels {
    BTreeMap::from([("a", "1"), ("b", "x"), ("in", "in"), ("p.io/k", ""), ("n", "-5")])
}

fn ours(text: &str, labels: &Labels) -> Option<bool> {
    Selector::parse(text).ok().map(|s| s.matches(|key| labels.get(key).copied()))
}

fn agree(text: &str) {
    let labels = labels();
    let ours = ours(text, &labels);
    assert_eq!(ours, naive(text, &labels), "{text:?}");
    assert_eq!(ours, by_shape(text, &labels), "{text:?}");
}

/// The text with every word replaced by `w`, white space gone, and the words; operators of two characters
/// become `~` (equal) and `#` (not equal).
fn shape(text: &str) -> (String, Vec<&str>) {
    let (mut shape, mut words, mut start) = (String::new(), Vec::new(), None);
    let bytes = text.as_bytes();
    let mut index = 0;
    while index <= bytes.len() {
        let byte = bytes.get(index).copied().unwrap_or(b' ');
        if !b"()!,=<> \t\r\n".contains(&byte) {
            start = start.or(Some(index));
            index += 1;
            continue;
        }
        if let Some(start) = start.take() {
            shape.push('w');
            words.push(&text[start..index]);
        }
        let symbol = match (byte, bytes.get(index + 1)) {
            (b'=', Some(b'=')) => '~',
            (b'!', Some(b'=')) => '#',
            _ => byte as char,
        };
        index += if "~#".contains(symbol) { 2 } else { 1 };
        if !symbol.is_ascii_whitespace() {
            shape.push(symbol);
        }
    }
    (shape, words)
}

fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63 && text.chars().all(inner) && end(text.chars().next()) && end(text.chars().last())
}

fn is_key(text: &str) -> bool {
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |p: &str| p.starts_with(lower) && p.ends_with(lower) && p.chars().all(|c| lower(c) || c == '-');
    match text.split_once('/') {
        None => is_name(text),
        Some((prefix, name)) => prefix.len() <= 253 && prefix.split('.').all(part) && is_name(name),
    }
}

/// As `naive`, from the shape of the whole text.
fn by_shape(text: &str, labels: &Labels) -> Option<bool> {
    let (shape, words) = shape(text);
    if shape.is_empty() {
        return Some(true);
    }
    let (mut rest, mut words, mut all) = (shape.as_str(), words.into_iter(), true);
    loop {
        let absent = rest.starts_with('!');
        rest = rest.strip_prefix('!').unwrap_or(rest).strip_prefix('w')?;
        let key = words.next().filter(|key| is_key(key))?;
        let label = labels.get(key).copied();
        let ends = |rest: &str| rest.is_empty() || rest.starts_with(',');
        let holds = if ends(rest) {
            label.is_some() != absent
        } else if absent {
            return None;
        } else if let Some(operator) = rest.chars().next().filter(|c| "=~#<>".contains(*c)) {
            rest = &rest[1..];
            let value = match rest.strip_prefix('w') {
                Some(behind) => {
                    rest = behind;
                    words.next()?
                }
                None => "",
            };
            if !value.is_empty() && !is_name(value) || !ends(rest) {
                return None;
            }
            match operator {
                '#' => label != Some(value),
                '=' | '~' => label == Some(value),
                order => {
                    let limit = value.parse::<i64>().ok()?;
                    let number = label.and_then(|l| l.parse::<i64>().ok());
                    number.is_some_and(|n| if order == '>' { n > limit } else { n < limit })
                }
            }
        } else {
            let wanted = match words.next()? {
                "in" => true,
                "notin" => false,
                _ => return None,
            };
            let (members, behind) = rest.strip_prefix("w(")?.split_once(')')?;
            rest = behind;
            let mut found = false;
            for member in members.split(',') {
                let member = match member {
                    "" => "",
                    "w" => words.next().filter(|m| is_name(m))?,
                    _ => return None,
                };
                found |= label == Some(member);
            }
            found == wanted
        };
        all &= holds;
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Some(all),
            None => return None,
        }
    }
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
    let labels = labels();
    let mut text = String::new();
    for round in 0..1_000_000 {
        text.clear();
        for _ in 0..rng.random_range(0..12) {
            text += TOKENS[rng.random_range(0..TOKENS.len())];
        }
        if round % 50 == 0 {
            agree(&text);
        }
        assert_eq!(ours(&text, &labels), by_shape(&text, &labels), "{text:?}");
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
