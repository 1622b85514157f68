//! Limits of a server from the words it is started with, which no engine prints on its metrics page.
//!
//! Owns the reading of `command`, `args` and literal environment values of a pod's containers, and the choice where
//! the pods of one pool differ. Pure. Nothing but the limits is kept of the words: secrets may be among them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::facts::{Pod, Target};
use super::json::{list, text};
use crate::observe::FindingKind;
use crate::observe::reading::Findings;
use crate::perf::GivenLimits;
use crate::policy::Pool;

/// A shell may be started by a shell.
const MOST_SHELLS: u32 = 3;
/// As much of a value that cannot be used as a message repeats, characters.
const SHOWN: usize = 24;

/// What the words of a pod say about its server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arguments {
    pub limits: GivenLimits,
    pub refused: Vec<RefusedArgument>,
}

/// A limit that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedArgument {
    /// As it was written, with its dashes.
    pub flag: String,
    pub why: String,
}

/// Which limit a flag sets.
#[derive(Clone, Copy)]
enum Sets {
    Sequences,
    BatchedTokens,
    ModelLength,
}

impl Sets {
    /// The flags of vLLM, SGLang and `trtllm-serve`, with dashes for underscores.
    fn of(flag: &str) -> Option<Self> {
        match flag {
            "max-num-seqs" | "max-running-requests" | "max-batch-size" => Some(Self::Sequences),
            "max-num-batched-tokens" | "chunked-prefill-size" | "max-num-tokens" => Some(Self::BatchedTokens),
            "max-model-len" | "context-length" | "max-seq-len" => Some(Self::ModelLength),
            _ => None,
        }
    }

    /// Above this a value is a mistake.
    fn most(self) -> u32 {
        match self {
            Self::Sequences => 65_536,
            Self::BatchedTokens => 16_777_216,
            Self::ModelLength => 100_000_000,
        }
    }

    /// The words by which an engine is told to choose itself.
    fn is_automatic(self, value: &str) -> bool {
        value == "auto" || (value == "-1" && !matches!(self, Self::Sequences))
    }

    /// Where the operator says it.
    fn in_policy(self) -> &'static str {
        match self {
            Self::Sequences => "maxNumSeqs",
            Self::BatchedTokens => "maxNumBatchedTokens",
            Self::ModelLength => "maxModelLen",
        }
    }
}

impl Arguments {
    /// Read the specification of a pod. Of several containers the first one that sets a limit is the server.
    pub fn of_pod(spec: &Value) -> Self {
        let read = list(spec, "/containers").iter().map(Self::of_container);
        read.into_iter().find(|arguments| *arguments != Self::default()).unwrap_or_default()
    }

    fn of_container(container: &Value) -> Self {
        let variables: BTreeMap<String, String> = list(container, "/env")
            .iter()
            .filter_map(|variable| Some((text(variable, "/name")?, text(variable, "/value")?)))
            .collect();
        let given = ["/command", "/args"].into_iter().flat_map(|key| list(container, key)).filter_map(Value::as_str);
        let mut words = Vec::new();
        given.for_each(|word| add_words(word, &variables, MOST_SHELLS, &mut words));
        Self::of_words(&words)
    }

    /// The last value of a flag counts, as it does for the engines.
    fn of_words(words: &[String]) -> Self {
        let mut found = Self::default();
        let mut words = words.iter().map(String::as_str).peekable();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--") else { continue };
            let (flag, joined) = flag.split_once('=').map_or((flag, None), |(flag, value)| (flag, Some(value)));
            let Some(sets) = Sets::of(&flag.replace('_', "-")) else { continue };
            let value = joined.or_else(|| words.next_if(|next| !next.starts_with("--"))).unwrap_or_default();
            let read = number(value, sets);
            let limits = &mut found.limits;
            let limit = match sets {
                Sets::Sequences => &mut limits.max_num_seqs,
                Sets::BatchedTokens => &mut limits.max_num_batched_tokens,
                Sets::ModelLength => &mut limits.max_model_len,
            };
            found.refused.retain(|refused| refused.flag != format!("--{flag}"));
            *limit = read.unwrap_or_else(|why| {
                let why = format!("{why}; correct it, or write `{}` under `limits` in the policy", sets.in_policy());
                found.refused.push(RefusedArgument { flag: format!("--{flag}"), why });
                None
            });
        }
        found
    }
}

/// The words of one argument: those of the line where a shell is given one.
fn add_words(word: &str, variables: &BTreeMap<String, String>, shells: u32, to: &mut Vec<String>) {
    let word = substituted(word, variables);
    if shells == 0 || !word.contains(char::is_whitespace) || !word.contains("--") {
        to.push(word.into_owned());
        return;
    }
    // A line that no shell would take is still likely to name its flags in plain words.
    let words = shlex::split(&word).unwrap_or_else(|| word.split_whitespace().map(str::to_owned).collect());
    words.iter().for_each(|word| add_words(word, variables, shells - 1, to));
}

/// References to variables: `$(X)` of Kubernetes, `$X`, `${X}` and `${X:-else}` of a shell.
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\$(?:\((\w+)\)|\{(\w+)(?::?-([^}]*))?\}|([A-Za-z_]\w*))").expect("the pattern is a constant")
});

fn substituted<'a>(word: &'a str, variables: &BTreeMap<String, String>) -> Cow<'a, str> {
    REFERENCE.replace_all(word, |found: &Captures| {
        let name = found.get(1).or(found.get(2)).or(found.get(4)).map_or("", |name| name.as_str());
        let value = variables.get(name).map(String::as_str).or(found.get(3).map(|or_else| or_else.as_str()));
        value.unwrap_or(&found[0]).to_owned()
    })
}

/// The value of a limit: nothing where the engine is to choose.
fn number(value: &str, sets: Sets) -> Result<Option<u32>, String> {
    // What ends a command in a shell's line is no part of its last word.
    let value = value.trim_end_matches([';', '&', '|', ')']);
    if value.is_empty() {
        return Err("has no value".to_owned());
    }
    if sets.is_automatic(value) {
        return Ok(None);
    }
    let shown: String = value.chars().take(SHOWN).collect();
    if value.contains('$') {
        return Err(format!("is set by `{shown}`, which cannot be seen here"));
    }
    let number = human_readable(value).ok_or_else(|| format!("is `{shown}`, which is no whole number above zero"))?;
    let most = sets.most();
    let number = u32::try_from(number).ok().filter(|number| *number <= most);
    number.map(Some).ok_or_else(|| format!("is `{shown}`, more than {most} is a mistake"))
}

/// Whole numbers as the engines take them: `16384`, `16k` = 16,000, `25.6k` = 25,600, `16K` = 16,384.
fn human_readable(value: &str) -> Option<u64> {
    let (digits, unit) = match value.char_indices().last()? {
        (at, unit) if unit.is_ascii_alphabetic() => (&value[..at], Some(unit)),
        _ => (value, None),
    };
    if !digits.chars().all(|c| c.is_ascii_digit() || c == '.') || !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let power = match unit.map(|unit| unit.to_ascii_lowercase()) {
        None => 0,
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some(_) => return None,
    };
    let is_decimal = unit.is_some_and(|unit| unit.is_ascii_lowercase());
    if is_decimal {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A float becomes the nearest that fits.
        return digits.parse::<f64>().ok().map(|n| (n * 1000_f64.powi(power)).floor() as u64).filter(|n| *n > 0);
    }
    let whole: u64 = digits.parse().ok()?;
    // Beyond 64 bits is beyond any limit.
    Some((0..power).fold(whole, |n, _| n.saturating_mul(1024))).filter(|n| *n > 0)
}

/// Limits of a pool's servers: of the ready pods, else of those that start, else of the target's template.
///
/// While an update is rolled out the pods differ. Then the smaller number of sequences and of tokens counts, and the
/// greater length, because each means more load or less capacity; a length counts only when every server has one.
pub fn limits(pool: &Pool, pods: &[(&str, &Pod)], target: &Target, findings: &mut Findings) -> Option<GivenLimits> {
    let there = || pods.iter().filter(|(_, pod)| pod.is_there());
    let ready = there().any(|(_, pod)| pod.ready);
    let mut sources: Vec<(Cow<str>, &Arguments)> = there()
        .filter(|(_, pod)| pod.ready == ready)
        .map(|(name, pod)| (Cow::Owned(format!("pod {name}")), &pod.arguments))
        .collect();
    if sources.is_empty() {
        sources.extend(target.template.as_ref().map(|arguments| (Cow::Borrowed("the pod template"), arguments)));
    }
    for (source, arguments) in &sources {
        for RefusedArgument { flag, why } in &arguments.refused {
            let message = format!("the argument {flag} of {source} {why}; it is not used");
            findings.add(FindingKind::Implausible, format!("{} {flag}", pool.id()), message);
        }
    }
    let all = || sources.iter().map(|(_, arguments)| arguments.limits);
    let lengths: Option<Vec<u32>> = all().map(|limits| limits.max_model_len).collect();
    (!sources.is_empty()).then(|| GivenLimits {
        max_num_seqs: all().filter_map(|limits| limits.max_num_seqs).min(),
        max_num_batched_tokens: all().filter_map(|limits| limits.max_num_batched_tokens).min(),
        max_model_len: lengths.and_then(|lengths| lengths.into_iter().max()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(container: Value) -> Arguments {
        Arguments::of_pod(&json!({ "containers": [container] }))
    }

    fn of(args: &[&str]) -> Arguments {
        read(json!({ "args": args }))
    }

    fn figures(arguments: &Arguments) -> [Option<u32>; 3] {
        let GivenLimits { max_num_seqs, max_num_batched_tokens, max_model_len } = arguments.limits;
        [max_num_seqs, max_num_batched_tokens, max_model_len]
    }

    #[test]
    fn every_engines_flags_are_known_in_every_form() {
        let all = [Some(64), Some(8192), Some(16_384)];
        for line in [
            "vllm serve m --max-num-seqs 64 --max-num-batched-tokens=8192 --max-model-len 16K",
            "vllm serve m --max_num_seqs=64 --max_num_batched_tokens 8192 --max_model_len=16384",
            "python3 -m sglang.launch_server --max-running-requests 64 --chunked-prefill-size 8192 --context-length 16384",
            "trtllm-serve m --max_batch_size 64 --max_num_tokens 8192 --max_seq_len 16384",
            "trtllm-serve m --max-batch-size=64 --max-num-tokens=8192 --max-seq-len=16384",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(figures(&of(&words)), all, "{line}");
            assert_eq!(figures(&read(json!({"command": ["sh", "-c", line]}))), all, "{line}");
            assert_eq!(figures(&read(json!({"command": words[..2], "args": words[2..]}))), all, "{line}");
        }
    }

    #[test]
    fn numbers_are_read_as_the_engines_read_them() {
        for (given, expected) in [
            ("1", Some(1)),
            ("8k", Some(8000)),
            ("8K", Some(8192)),
            ("25.6k", Some(25_600)),
            ("1m", Some(1_000_000)),
            ("1M", Some(1_048_576)),
            ("0", None),
            ("0.0001k", None),
            ("-5", None),
            ("+5", None),
            ("25.6K", None),
            ("12.5", None),
            ("1e5", None),
            ("5x", None),
            ("k", None),
            ("many", None),
            ("ÄK", None),
            ("17M", None),
            ("99999999999999999999999", None),
            ("9999999999999T", None),
            ("$TOKENS", None),
        ] {
            let read = of(&["--max-num-batched-tokens", given]);
            assert_eq!(read.limits.max_num_batched_tokens, expected, "{given}");
            assert_eq!(read.refused.len(), usize::from(expected.is_none()), "{given}: {:?}", read.refused);
        }
        let nothing = of(&["--max-num-seqs", "--enable-prefix-caching"]);
        assert!(nothing.refused[0].why.contains("has no value") && nothing.refused[0].why.contains("maxNumSeqs"));
        // The engine is to choose: that is no mistake.
        let own = of(&["--max-model-len", "auto", "--chunked-prefill-size=-1"]);
        assert_eq!((figures(&own), own.refused.len()), ([None; 3], 0));
        assert_eq!(of(&["--max-num-seqs", "-1"]).refused.len(), 1);
    }

    #[test]
    fn a_shells_line_is_read_as_the_shell_reads_it() {
        let line = "set -e; # --max-num-seqs 1\nexec bash -c \"vllm serve 'a b' \\\n  --max-num-seqs '64' \
                    --max-model-len ${LEN:-4096} --max-num-batched-tokens $TOKENS; echo over\"";
        let read = read(json!({"command": ["/bin/sh", "-c"], "args": [line], "env": [
            {"name": "TOKENS", "value": "2k"}, {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s"}}}]}));
        assert_eq!((figures(&read), read.refused), ([Some(64), Some(2000), Some(4096)], vec![]));
        // A line that a shell would refuse.
        assert_eq!(of(&["vllm serve \"m --max-num-seqs 64"]).limits.max_num_seqs, Some(64));
    }

    #[test]
    fn variables_are_followed_where_they_are_written_down() {
        let container = |value: Value| {
            json!({"args": ["--max-num-seqs=$(SEQS)", "$(MORE)"], "env": [
            {"name": "SEQS", "value": value}, {"name": "MORE", "value": "--max-model-len 9000 --api-key s3cr3t"}]})
        };
        assert_eq!(figures(&read(container(json!("32")))), [Some(32), None, Some(9000)]);
        let hidden = read(container(Value::Null));
        assert_eq!(figures(&hidden), [None, None, Some(9000)]);
        assert!(hidden.refused[0].why.contains("cannot be seen here"), "{hidden:?}");
        assert!(!format!("{hidden:?}").contains("s3cr3t"));
    }

    #[test]
    fn the_last_value_and_the_first_server_count() {
        let twice = of(&["--max-num-seqs", "0", "--max-num-seqs", "8"]);
        assert_eq!((twice.limits.max_num_seqs, twice.refused.len()), (Some(8), 0));
        let two = json!({"containers": [{"args": ["--vllm-port=8001"]}, {"args": ["--max-num-seqs=8"]}, {"args":
            ["--max-num-seqs=9", "--max-model-len=7"]}]});
        assert_eq!(figures(&Arguments::of_pod(&two)), [Some(8), None, None]);
        for odd in [json!({}), json!(3), json!({"containers": [{"args": "--max-num-seqs 8", "command": [1, null]}]})] {
            assert_eq!(Arguments::of_pod(&odd), Arguments::default());
        }
    }
}
