//! The Prometheus text exposition format: one pass over a page, nothing copied that need not be.
//!
//! Strict and small: a line is a comment, a sample, or bad. Bad lines are counted and skipped, the rest of the
//! page is still read. Knows nothing of engines or signals; see `dialect` for meaning. What OpenMetrics adds to
//! sample lines (`# EOF`, exemplars) is tolerated and ignored.

use std::borrow::Cow;

/// One sample line.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// Metric name, colons included.
    pub name: &'a str,
    /// Labels in the order of the page, values unescaped.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// May be infinite or NaN.
    pub value: f64,
    /// Unix time of the sample where the page gives one, seconds.
    pub timestamp_seconds: Option<f64>,
}

impl Sample<'_> {
    /// Value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_ref())
    }
}

/// A line that is neither a comment nor a sample.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadLine {
    /// Number of the line, from 1.
    pub line: usize,
    /// What was expected.
    pub what: &'static str,
}

/// A page read as a whole.
#[derive(Clone, Debug, Default)]
pub struct Page<'a> {
    pub samples: Vec<Sample<'a>>,
    /// Lines that were skipped.
    pub bad_lines: usize,
    /// The first of them.
    pub first_bad: Option<BadLine>,
}

/// Read a whole page.
pub fn parse(text: &str) -> Page<'_> {
    let mut page = Page::default();
    for line in samples(text) {
        match line {
            Ok(sample) => page.samples.push(sample),
            Err(bad) => {
                page.bad_lines += 1;
                page.first_bad.get_or_insert(bad);
            }
        }
    }
    page
}

/// Read a page line by line; comments and empty lines are left out. Reading ends at `# EOF`.
pub fn samples(text: &str) -> impl Iterator<Item = Result<Sample<'_>, BadLine>> {
    samples_of(text, |_| true)
}

/// Like [`samples`], but a line whose metric is not wanted is passed over without a look at its labels and value:
/// most lines of an engine's page are never used.
pub fn samples_of<'a>(
    text: &'a str,
    mut wanted: impl FnMut(&'a str) -> bool,
) -> impl Iterator<Item = Result<Sample<'a>, BadLine>> {
    text.split('\n')
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_matches([' ', '\t', '\r'])))
        .take_while(|(_, line)| *line != "# EOF")
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .filter_map(move |(line, text)| {
            let result = match split_name(text, true) {
                Some((name, _)) if !wanted(name) => return None,
                Some((name, rest)) => sample(name, rest),
                None => Err("no metric name"),
            };
            Some(result.map_err(|what| BadLine { line, what }))
        })
}

fn sample<'a>(name: &'a str, after_name: &'a str) -> Result<Sample<'a>, &'static str> {
    let rest = after_name.trim_start_matches([' ', '\t']);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        // Without labels a blank must end the name.
        None if rest.len() < after_name.len() => (Vec::new(), rest),
        None => return Err("neither labels nor a value after the name"),
    };
    // An exemplar of OpenMetrics starts with `#`.
    let mut fields = rest.split([' ', '\t']).filter(|f| !f.is_empty()).take_while(|f| *f != "#");
    let value = fields.next().and_then(|f| f.parse().ok()).ok_or("the value is not a number")?;
    let timestamp_seconds = fields.next().map(timestamp).transpose()?;
    if fields.next().is_some() {
        return Err("more than a value and a time stamp");
    }
    Ok(Sample { name, labels, value, timestamp_seconds })
}

/// Milliseconds as an integer (Prometheus) or seconds with a fraction (OpenMetrics), as seconds.
fn timestamp(field: &str) -> Result<f64, &'static str> {
    const BAD: &str = "the time stamp is not a number";
    if field.contains('.') {
        return field.parse::<f64>().ok().filter(|t| t.is_finite()).ok_or(BAD);
    }
    #[allow(clippy::cast_precision_loss)] // Milliseconds since 1970 are far below 2^53.
    field.parse::<i64>().map(|ms| ms as f64 / 1000.0).map_err(|_| BAD)
}

/// Split a metric name (with colons) or a label name off the front.
fn split_name(text: &str, colons: bool) -> Option<(&str, &str)> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (colons && b == b':');
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|&b| !allowed(b)).unwrap_or(bytes.len());
    (end > 0 && !bytes[0].is_ascii_digit()).then(|| text.split_at(end))
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// Read labels up to the closing brace.
fn labels(mut rest: &str) -> Result<(Labels<'_>, &str), &'static str> {
    let blank = [' ', '\t'];
    let mut labels: Labels<'_> = Vec::with_capacity(8);
    loop {
        rest = rest.trim_start_matches(blank);
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = split_name(rest, false).ok_or("no label name")?;
        let after = after.trim_start_matches(blank).strip_prefix('=').ok_or("no `=` after a label name")?;
        let after = after.trim_start_matches(blank).strip_prefix('"').ok_or("a label value without quotes")?;
        let (value, after) = quoted(after).ok_or("a label value without an end")?;
        if labels.iter().any(|(n, _)| *n == name) {
            return Err("a label name twice");
        }
        labels.push((name, value));
        let after = after.trim_start_matches(blank);
        rest = match after.strip_prefix(',') {
            Some(more) => more,
            None if after.starts_with('}') => after,
            None => return Err("neither `,` nor `}` after a label"),
        };
    }
}

/// Read a label value up to its closing quote; borrows unless something is escaped.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let special = text.find(['"', '\\'])?;
    if text.as_bytes()[special] == b'"' {
        return Some((Cow::Borrowed(&text[..special]), &text[special + 1..]));
    }
    let mut value = String::with_capacity(special + 16);
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Some((Cow::Owned(value), &text[index + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c @ ('"' | '\\') => value.push(c),
                // Prometheus' own parser keeps what it does not know.
                other => value.extend(['\\', other]),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Sample<'_> {
        let page = parse(line);
        assert_eq!((page.samples.len(), page.bad_lines), (1, 0), "{line}: {:?}", page.first_bad);
        page.samples.into_iter().next().unwrap()
    }

    #[test]
    fn reads_every_legal_form_of_a_line() {
        assert_eq!(one("up 1").value, 1.0);
        let s = one(r#"vllm:num_requests_running{engine="0",model_name="a,b}c"} 3.0"#);
        assert_eq!((s.name, s.label("model_name"), s.value), ("vllm:num_requests_running", Some("a,b}c"), 3.0));
        let s = one("x { a = \"1\" , b=\"2\", } \t 4e-2  1395066363000");
        assert_eq!((s.label("a"), s.label("b"), s.value), (Some("1"), Some("2"), 0.04));
        assert_eq!(s.timestamp_seconds, Some(1_395_066_363.0));
        assert_eq!(one(r#"p{path="C:\\DIR\\F.TXT",e="a\"b\nc\q"} -1"#).label("e"), Some("a\"b\nc\\q"));
        assert_eq!(one(r#"p{path="C:\\DIR"} -1"#).label("path"), Some(r"C:\DIR"));
        assert_eq!(one(r#"h_bucket{le="+Inf"} +Inf"#).value, f64::INFINITY);
        assert_eq!(one("x{} -Inf -1").timestamp_seconds, Some(-0.001));
        assert!(one("x NaN").value.is_nan());
        assert_eq!(one("foo_bucket{le=\"10.0\"} 17 # {trace_id=\"x y\"} 9.8 1.5").value, 17.0);
        assert_eq!(one("x 1 1520879607.789").timestamp_seconds, Some(1_520_879_607.789));
        assert_eq!(one("x 1\r").value, 1.0);
    }

    #[test]
    fn comments_are_skipped_and_reading_ends_at_eof() {
        let page = parse("# HELP x\n# TYPE x gauge\n\nx 1\n#y 2\n# EOF\nz 3");
        assert_eq!((page.samples.len(), page.bad_lines), (1, 0));
    }

    #[test]
    fn bad_lines_are_counted_and_the_rest_is_read() {
        let bad = [
            "<html>",
            "x",
            "x one",
            "x{a=\"1\" 2",
            "x{a=1} 2",
            "x{a=\"1\"b=\"2\"} 2",
            "x{a=\"1\",a=\"2\"} 2",
            "9x 1",
            "x{9=\"1\"} 2",
            "x{a=\"unfinished",
            "x{a=\"\\",
            "x 1 2 3",
            "x 1 soon",
            "x{\"quoted.name\"} 1",
            "x.y 1",
        ];
        let text = format!("ok 1\n{}\nok 2\n", bad.join("\n"));
        let page = parse(&text);
        assert_eq!((page.samples.len(), page.bad_lines), (2, bad.len()));
        assert_eq!(page.first_bad.unwrap().line, 2);
    }

    fn write_line(name: &str, labels: &[(String, String)], value: f64, ms: Option<i64>) -> String {
        let mut line = name.to_owned();
        if !labels.is_empty() {
            let text: Vec<String> = labels
                .iter()
                .map(|(n, v)| format!("{n}=\"{}\"", v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")))
                .collect();
            let _ = write!(line, "{{{}}}", text.join(","));
        }
        let _ = write!(line, " {value:?}");
        if let Some(ms) = ms {
            let _ = write!(line, " {ms}");
        }
        line
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,20}",
            labels in proptest::collection::btree_map("[a-zA-Z_][a-zA-Z0-9_]{0,8}", "\\PC{0,12}|[\\\\\"\n,={} ]{0,6}", 0..5),
            value in proptest::num::f64::ANY,
            ms in proptest::option::of(0..4_000_000_000_000_i64),
        ) {
            let labels: Vec<(String, String)> = labels.into_iter().collect();
            let line = write_line(&name, &labels, value, ms);
            let page = parse(&line);
            prop_assert_eq!(page.bad_lines, 0, "{}", line);
            let sample = &page.samples[0];
            prop_assert_eq!(sample.name, name);
            let read: Vec<(String, String)> =
                sample.labels.iter().map(|(n, v)| ((*n).to_owned(), v.clone().into_owned())).collect();
            prop_assert_eq!(read, labels);
            prop_assert!(sample.value == value || (sample.value.is_nan() && value.is_nan()));
            #[allow(clippy::cast_precision_loss)]
            let seconds = ms.map(|ms| ms as f64 / 1000.0);
            prop_assert_eq!(sample.timestamp_seconds, seconds);
        }

        #[test]
        fn no_page_makes_it_panic(text in "(\\PC|[\n\\\\\"{}=, #]){0,200}") {
            let lines = text.split('\n').count();
            let page = parse(&text);
            prop_assert!(page.samples.len() + page.bad_lines <= lines);
        }
    }
}
