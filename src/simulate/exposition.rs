//! The metrics page of a replica, printed as vLLM prints it: the page of a real server is the template,
//! so that names, labels, help texts and buckets are the server's own. The template is cut into pieces
//! once per pool; writing a page is then a walk over text and numbers.

use std::fmt::Write;

use super::engine::Engine;
use super::meters::Meter;

/// A real page whose values are literal, or `@slot@` where the engine fills them in.
const TEMPLATE: &str = include_str!("vllm_page.prom");

/// Tokens per KV block that the replicas report.
pub const BLOCK_TOKENS: u64 = 16;

/// The template made ready for one pool.
#[derive(Debug)]
pub struct Page {
    /// Text and the value that follows it.
    pieces: Vec<(String, Slot)>,
    tail: String,
    length: usize,
}

/// A value of the page.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Slot {
    /// Unix time of the server's start.
    Created,
    Running,
    Waiting,
    KvUsage,
    Preempted,
    PromptTokens,
    GenerationTokens,
    Finished,
    Failed,
    /// Cumulative count of the bucket with this number.
    Bucket(Meter, usize),
    Sum(Meter),
    Count(Meter),
}

impl Page {
    /// The page of servers of `model_name` with this KV memory.
    pub fn new(model_name: &str, kv_tokens: u64) -> Self {
        let blocks = kv_tokens / BLOCK_TOKENS;
        let mut pieces = Vec::new();
        let mut text = String::new();
        for line in TEMPLATE.lines().filter(|line| !line.starts_with("# ") || is_metadata(line)) {
            if line.starts_with('#') {
                text.push_str(line);
                text.push('\n');
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap_or((line, "0.0"));
            text.push_str(
                &series
                    .replace("@blocks@", &blocks.to_string())
                    .replace("@block_size@", &BLOCK_TOKENS.to_string())
                    .replace("@kv_tokens@", &(blocks * BLOCK_TOKENS).to_string())
                    .replace("@model@", &escape(model_name)),
            );
            text.push(' ');
            match slot(value, series) {
                Some(slot) => pieces.push((std::mem::take(&mut text), slot)),
                None => text.push_str(value),
            }
            text.push('\n');
        }
        let length = pieces.iter().map(|(t, _)| t.len() + 8).sum::<usize>() + text.len();
        Self { pieces, tail: text, length }
    }

    /// Print the page of `engine`, a server that started at this Unix time.
    pub fn write(&self, engine: &Engine, created_unix_seconds: f64) -> String {
        let mut out = String::with_capacity(self.length + self.length / 8);
        let mut created = String::new();
        write_number(&mut created, created_unix_seconds);
        let meters = engine.meters();
        let mut below = 0;
        for (text, slot) in &self.pieces {
            out.push_str(text);
            let value = match *slot {
                Slot::Created => {
                    out.push_str(&created);
                    continue;
                }
                Slot::Running => engine.running() as f64,
                Slot::Waiting => engine.waiting() as f64,
                Slot::KvUsage => engine.kv_usage(),
                Slot::Preempted => meters.preemptions as f64,
                Slot::PromptTokens => meters.prompt_tokens as f64,
                Slot::GenerationTokens => meters.generation_tokens as f64,
                Slot::Finished => meters.finished as f64,
                Slot::Failed => meters.failed as f64,
                Slot::Bucket(meter, number) => {
                    below = if number == 0 { 0 } else { below };
                    below += meters.tally(meter).buckets().get(number).copied().unwrap_or(0);
                    below as f64
                }
                Slot::Sum(meter) => meters.tally(meter).sum,
                Slot::Count(meter) => meters.tally(meter).count as f64,
            };
            write_number(&mut out, value);
        }
        out.push_str(&self.tail);
        out
    }
}

fn is_metadata(line: &str) -> bool {
    line.starts_with("# HELP ") || line.starts_with("# TYPE ")
}

/// The slot that a template value names; `None` for a literal number.
fn slot(value: &str, series: &str) -> Option<Slot> {
    let name = value.strip_prefix('@')?.strip_suffix('@')?;
    Some(match name {
        "created" => Slot::Created,
        "running" => Slot::Running,
        "waiting" => Slot::Waiting,
        "kv_usage" => Slot::KvUsage,
        "preempted" => Slot::Preempted,
        "prompt_tokens" => Slot::PromptTokens,
        "generation_tokens" => Slot::GenerationTokens,
        "finished" => Slot::Finished,
        "failed" => Slot::Failed,
        _ => {
            let (meter, part) = name.rsplit_once('_')?;
            let meter = meter_named(meter)?;
            match part {
                "bucket" => Slot::Bucket(meter, bucket_number(meter, series)?),
                "sum" => Slot::Sum(meter),
                _ => Slot::Count(meter),
            }
        }
    })
}

fn meter_named(name: &str) -> Option<Meter> {
    Some(match name {
        "prompt" => Meter::Prompt,
        "generation" => Meter::Generation,
        "iteration" => Meter::Iteration,
        "n" => Meter::Answers,
        "ttft" => Meter::Ttft,
        "itl" => Meter::Gap,
        "tpot" => Meter::Tpot,
        "e2e" => Meter::EndToEnd,
        "queue" => Meter::Queue,
        "inference" => Meter::Inference,
        "prefill" => Meter::Prefill,
        "decode" => Meter::Decode,
        "preemptions" => Meter::Preemptions,
        "http_fine" => Meter::HttpFine,
        "http_coarse" => Meter::HttpCoarse,
        _ => return None,
    })
}

fn bucket_number(meter: Meter, series: &str) -> Option<usize> {
    let (_, rest) = series.split_once("le=\"")?;
    let bound: f64 = rest.split_once('"')?.0.parse().ok()?;
    if bound.is_infinite() {
        return Some(meter.bounds().len());
    }
    meter.bounds().iter().position(|b| *b == bound)
}

/// Escape a label value.
pub fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Print a number as the Python client does: shortest form, an exponent from a million upwards.
fn write_number(out: &mut String, value: f64) {
    // writing into a String cannot fail
    if value.abs() < 1e6 {
        let _ = write!(out, "{value:?}");
        return;
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let _ = write!(out, "{mantissa}e+{exponent:0>2}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_of_the_template_is_known() {
        for line in TEMPLATE.lines().filter(|l| !l.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok() || slot(value, series).is_some(), "{line}");
        }
        let bounds = |meter: Meter| {
            let is_bucket = |s: &Slot| matches!(s, Slot::Bucket(m, _) if *m == meter);
            let mut numbers: Vec<_> = Page::new("m", 1600).pieces.iter().map(|p| p.1).filter(is_bucket).collect();
            numbers.truncate(meter.bounds().len() + 1);
            numbers
        };
        for meter in Meter::ALL {
            let expected: Vec<_> = (0..=meter.bounds().len()).map(|n| Slot::Bucket(meter, n)).collect();
            assert_eq!(bounds(meter), expected, "buckets of {meter:?}");
        }
    }

    #[test]
    fn numbers_are_printed_as_the_python_client_prints_them() {
        let print = |value: f64| {
            let mut out = String::new();
            write_number(&mut out, value);
            out
        };
        assert_eq!(print(0.0), "0.0");
        assert_eq!(print(170.0), "170.0");
        assert_eq!(print(0.25), "0.25");
        assert_eq!(print(999_999.0), "999999.0");
        assert_eq!(print(1_000_000.0), "1e+06");
        assert_eq!(print(1_795_395_448.6), "1.7953954486e+09");
    }

    #[test]
    fn a_model_name_cannot_break_the_page() {
        let page = Page::new("a\"b\\c\n@d@", 1600);
        assert!(page.pieces.iter().any(|(text, _)| text.contains(r#"model_name="a\"b\\c\n@d@""#)));
    }
}
