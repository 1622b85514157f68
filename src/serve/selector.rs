//! Kubernetes label selectors: the text of `labelSelector`, parsed and evaluated as the API servers do.
//!
//! Grammar, error texts and semantics follow the label-selector grammar of the Kubernetes API; sizes are
//! bounded here, since the grammar itself knows no limit.

use std::collections::BTreeSet;

use super::label;

/// Longest selector that is read, bytes.
pub const MAX_LENGTH: usize = 64 << 10;

/// Most requirements of one selector; an HPA writes one per label.
pub const MAX_REQUIREMENTS: usize = 256;

/// What the error texts list where an operator belongs.
const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

/// Why a selector was refused, in the words of the Kubernetes parser.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

/// Requirements that must all hold. The default accepts everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Present,
    Absent,
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Greater(i64),
    Less(i64),
}

impl Selector {
    /// Parse a selector. Empty text accepts everything.
    ///
    /// # Errors
    /// The text is no selector, names an impossible key or value, or is beyond the size limits.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_LENGTH {
            return Err(SelectorError(format!("selector is {} bytes long, at most {MAX_LENGTH} are read", text.len())));
        }
        Parser { rest: text }.selector()
    }

    /// True when every requirement holds for the labels that `lookup` knows.
    pub fn matches<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|r| r.test.holds(lookup(&r.key)))
    }

    /// Whether a requirement is about `key`.
    pub fn mentions(&self, key: &str) -> bool {
        self.requirements.iter().any(|r| r.key == key)
    }

    /// The one value that `key` must have, where the selector says so: lets a caller look it up
    /// instead of trying every item.
    pub fn exact(&self, key: &str) -> Option<&str> {
        self.requirements.iter().find_map(|r| match &r.test {
            Test::In(values) if r.key == key && values.len() == 1 => values.first().map(String::as_str),
            _ => None,
        })
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = |text: Option<&str>| text.and_then(|v| v.parse::<i64>().ok());
        match self {
            Self::Present => value.is_some(),
            Self::Absent => value.is_none(),
            Self::In(set) => value.is_some_and(|v| set.contains(v)),
            Self::NotIn(set) => value.is_none_or(|v| !set.contains(v)),
            Self::Greater(limit) => number(value).is_some_and(|v| v > *limit),
            Self::Less(limit) => number(value).is_some_and(|v| v < *limit),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// One of `( ) , ! = == != < >`.
    Symbol(&'a str),
    End,
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Word(text) | Self::Symbol(text) => text,
            Self::End => "",
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// Token at the front and the text behind it.
    fn split(&self) -> (Token<'a>, &'a str) {
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = text.bytes().next() else { return (Token::End, text) };
        let length = match first {
            b'=' | b'!' if text[1..].starts_with('=') => 2,
            b'(' | b')' | b',' | b'!' | b'=' | b'<' | b'>' => 1,
            _ => {
                let end = text.find(|c: char| "()!,=<> \t\r\n".contains(c)).unwrap_or(text.len());
                return (Token::Word(&text[..end]), &text[end..]);
            }
        };
        (Token::Symbol(&text[..length]), &text[length..])
    }

    fn peek(&self) -> Token<'a> {
        self.split().0
    }

    fn next(&mut self) -> Token<'a> {
        let (token, rest) = self.split();
        self.rest = rest;
        token
    }

    fn selector(mut self) -> Result<Selector, SelectorError> {
        let mut requirements = Vec::new();
        match self.peek() {
            Token::End => return Ok(Selector { requirements }),
            Token::Word(_) | Token::Symbol("!") => {}
            other => return Err(found(other, ", expected: !, identifier, or 'end of string'")),
        }
        loop {
            if requirements.len() == MAX_REQUIREMENTS {
                return Err(SelectorError(format!("selector has more than {MAX_REQUIREMENTS} requirements")));
            }
            let requirement =
                self.requirement().map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?;
            requirements.push(requirement);
            match self.next() {
                Token::End => return Ok(Selector { requirements }),
                Token::Symbol(",") => {}
                other => return Err(found(other, ", expected: ',' or 'end of string'")),
            }
            match self.peek() {
                Token::Word(_) | Token::Symbol("!") => {}
                other => return Err(found(other, ", expected: identifier after ','")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.peek() == Token::Symbol("!");
        if absent {
            self.next();
        }
        let key = match self.next() {
            Token::Word(word) => word,
            other => return Err(found(other, ", expected: identifier")),
        };
        check_key(key)?;
        let test = if absent {
            Test::Absent
        } else if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            Test::Present
        } else {
            self.test(key)?
        };
        Ok(Requirement { key: key.to_owned(), test })
    }

    fn test(&mut self, key: &str) -> Result<Test, SelectorError> {
        let test = match self.next() {
            Token::Symbol("=" | "==") => Test::In(self.value()?),
            Token::Symbol("!=") => Test::NotIn(self.value()?),
            Token::Symbol(">") => Test::Greater(integer(key, &self.value()?)?),
            Token::Symbol("<") => Test::Less(integer(key, &self.value()?)?),
            Token::Word("in") => Test::In(self.set()?),
            Token::Word("notin") => Test::NotIn(self.set()?),
            other => return Err(found(other, &format!(", expected: {OPERATORS}"))),
        };
        if let Test::In(values) | Test::NotIn(values) = &test {
            values.iter().try_for_each(|value| check_value(key, value))?;
        }
        Ok(test)
    }

    /// One value; nothing before `,` or the end is the empty value.
    fn value(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.next() {
            Token::Word(word) => Ok(BTreeSet::from([word.to_owned()])),
            other => Err(found(other, ", expected: identifier")),
        }
    }

    /// Values in parentheses; nothing between two separators is the empty value.
    fn set(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(found(other, " expected: '('")),
        }
        let mut values = BTreeSet::new();
        loop {
            match self.peek() {
                Token::Word(word) => {
                    self.next();
                    values.insert(word.to_owned());
                }
                Token::Symbol("," | ")") => {
                    values.insert(String::new());
                }
                other => return Err(found(other, ", expected: ',', ')' or identifier")),
            }
            match self.next() {
                Token::Symbol(",") => {}
                Token::Symbol(")") => return Ok(values),
                other => return Err(found(other, ", expected: ',' or ')'")),
            }
        }
    }
}

fn found(token: Token<'_>, expected: &str) -> SelectorError {
    SelectorError(format!("found '{}'{expected}", shortened(token.text())))
}

/// Enough of a text to recognise it in a message.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    if label::is_key(key) {
        return Ok(());
    }
    Err(SelectorError(format!(
        "key: Invalid value: {:?}: a label key is an optional DNS subdomain of at most {} characters and '/', then a \
         name of at most {} characters from [A-Za-z0-9_.-] that begins and ends with a letter or digit",
        shortened(key),
        label::MAX_PREFIX,
        label::MAX_NAME,
    )))
}

fn check_value(key: &str, value: &str) -> Result<(), SelectorError> {
    if label::is_value(value) {
        return Ok(());
    }
    Err(SelectorError(format!(
        "values[0][{}]: Invalid value: {:?}: a label value is empty or has at most {} characters from [A-Za-z0-9_.-] \
         and begins and ends with a letter or digit",
        shortened(key),
        shortened(value),
        label::MAX_NAME,
    )))
}

fn integer(key: &str, values: &BTreeSet<String>) -> Result<i64, SelectorError> {
    let text = values.first().map_or("", String::as_str);
    check_value(key, text)?;
    text.parse().map_err(|_| {
        SelectorError(format!(
            "values[0][{}]: Invalid value: {:?}: for 'Gt', 'Lt' operators, the value must be an integer",
            shortened(key),
            shortened(text)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(text: &str) -> bool {
        let labels = [("a", "1"), ("b", "x")];
        Selector::parse(text)
            .unwrap_or_else(|e| panic!("{text:?}: {e}"))
            .matches(|key| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v))
    }

    #[test]
    fn operators() {
        for text in [
            "a=1",
            "a==1",
            "a!=2",
            "c!=x",
            "a in (1,2)",
            "a notin (2)",
            "c notin (x)",
            "a",
            "!c",
            "a>0",
            "a<2",
            "a=1,b=x",
            "",
        ] {
            assert!(matches(text), "{text:?} should match");
        }
        for text in ["a=2", "c=x", "c", "!a", "b>0", "c<1", "a in (2)", "a in ()", "a=1,b=y"] {
            assert!(!matches(text), "{text:?} should not match");
        }
    }

    #[test]
    fn failures_say_what_was_found_and_expected() {
        for (text, message) in [
            ("a=b,", "found '', expected: identifier after ','"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("a in", "unable to parse requirement: found '' expected: '('"),
            ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            ("a===b", "unable to parse requirement: found '=', expected: identifier"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a in (b)c", "found 'c', expected: ',' or 'end of string'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
        ] {
            assert_eq!(Selector::parse(text).unwrap_err().to_string(), message, "{text:?}");
        }
        assert!(Selector::parse("a>x").unwrap_err().to_string().contains("must be an integer"));
        assert!(Selector::parse("a>").is_err());
    }

    #[test]
    fn impossible_keys_and_values_are_named() {
        let long = "v".repeat(64);
        for (text, part) in [
            (format!("{long}=b"), &long[..]),
            (format!("a={long}"), &long),
            (format!("a in (b,{long})"), &long),
            ("model=meta-llama/Llama".into(), "meta-llama/Llama"),
            ("model=a:b".into(), "a:b"),
            ("a/b/c=d".into(), "a/b/c"),
        ] {
            let message = Selector::parse(&text).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("Invalid value"), "{message}");
        }
    }

    #[test]
    fn white_space_and_empty_values() {
        for text in ["a in ( 1 , 2 )", "\ta\nin\r(1)", " a = 1 ", "a in(1)", "a in (1,,2)", "a in (1,)"] {
            assert!(matches(text), "{text:?}");
        }
        let empty = Selector::parse("a=").unwrap();
        assert!(empty.matches(|_| Some("")) && !empty.matches(|_| None) && !empty.matches(|_| Some("x")));
        let set = Selector::parse("a in (,x)").unwrap();
        assert!(set.matches(|_| Some("")) && set.matches(|_| Some("x")) && !set.matches(|_| Some("y")));
        // `in` and `notin` are words like others where no operator belongs.
        assert!(Selector::parse("in in (notin)").unwrap().matches(|k| (k == "in").then_some("notin")));
    }

    #[test]
    fn size_is_bounded() {
        let many = |n: usize| vec!["a=1"; n].join(",");
        assert!(Selector::parse(&many(MAX_REQUIREMENTS)).is_ok());
        assert!(Selector::parse(&many(MAX_REQUIREMENTS + 1)).is_err());
        assert!(Selector::parse(&"a".repeat(MAX_LENGTH + 1)).is_err());
        let error = Selector::parse(&"é".repeat(10_000)).unwrap_err().to_string();
        assert!(error.len() < 500, "messages stay short");
    }

    #[test]
    fn exact_value_is_found() {
        let selector = Selector::parse("x in (1,2),pool=a").unwrap();
        assert_eq!((selector.exact("pool"), selector.exact("x"), selector.exact("y")), (Some("a"), None, None));
    }
}
