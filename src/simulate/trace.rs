//! Request traces: when requests came and how long prompts and answers were. Files of three columns,
//! plain or gzip, and the two embedded hours. A wrong trace is refused with file and line.

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

use csv::StringRecord;
use flate2::read::MultiGzDecoder;

/// Header of every trace file.
const COLUMNS: [&str; 3] = ["t_s", "input_tokens", "output_tokens"];

/// Longest prompt or answer believed, tokens.
pub(in crate::simulate) const MAX_TOKENS: u32 = 10_000_000;

/// First bytes of a gzip stream.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

const CONVERSATION: &[u8] = include_bytes!("../../data/traces/azure2023_conv_requests.csv.gz");
const CODE: &[u8] = include_bytes!("../../data/traces/azure2023_code_requests.csv.gz");

/// One request of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceRow {
    /// Arrival, seconds since the start of the trace.
    pub at_seconds: f64,
    /// Prompt length, at least 1.
    pub input_tokens: u32,
    /// Answer length, at least 1.
    pub output_tokens: u32,
}

/// A recorded stretch of requests in time order, never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    name: String,
    rows: Vec<TraceRow>,
}

/// Why a trace is refused.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("cannot read trace {file}: {source}")]
    Read { file: String, source: std::io::Error },
    #[error("{file}:1: columns are `{found}`, expected `t_s,input_tokens,output_tokens`")]
    Columns { file: String, found: String },
    #[error("{file}:{line}: {what}")]
    Row { file: String, line: u64, what: String },
    #[error("{file}: holds no requests")]
    Empty { file: String },
    #[error("{file}:{line}: the gzip data is cut or damaged here ({source}), expected a whole file")]
    Gzip { file: String, line: usize, source: std::io::Error },
    #[error("{file}:1: columns are `{found}`, expected one of {expected}")]
    Layout { file: String, found: String, expected: &'static str },
    #[error("{file}: holds too few rows below its header, expected at least {least}")]
    TooFewRows { file: String, least: usize },
}

impl Trace {
    /// Read a trace file, plain CSV or gzip (told by its first bytes).
    ///
    /// # Errors
    /// The file cannot be read or is no trace; see [`TraceError`].
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let (file, bytes) = read_bytes(path)?;
        Self::parse(&file, &bytes)
    }

    /// A trace of rows that are already known to ascend and not to be empty.
    pub(in crate::simulate) fn of_rows(name: &str, rows: Vec<TraceRow>) -> Self {
        Self { name: name.to_owned(), rows }
    }

    /// Parse the bytes of a trace file; `name` stands for the file in messages.
    ///
    /// # Errors
    /// Wrong columns, a value that is no number, negative, not finite or out of order, or no request.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, TraceError> {
        parse_csv(name, &unpacked(name, bytes)?)
    }

    /// The embedded hour of a conversation service (Azure, November 2023; CC-BY-4.0).
    ///
    /// # Errors
    /// Never for the file as shipped.
    pub fn conversation() -> Result<Self, TraceError> {
        Self::parse("azure2023_conv_requests.csv.gz", CONVERSATION)
    }

    /// The embedded hour of a code completion service (Azure, November 2023; CC-BY-4.0).
    ///
    /// # Errors
    /// Never for the file as shipped.
    pub fn code() -> Result<Self, TraceError> {
        Self::parse("azure2023_code_requests.csv.gz", CODE)
    }

    /// File name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn rows(&self) -> &[TraceRow] {
        &self.rows
    }

    /// Time after which the trace starts again, seconds: the last arrival plus one mean gap, at least 1.
    pub fn period_seconds(&self) -> f64 {
        let last = self.rows.last().map_or(0.0, |r| r.at_seconds);
        let gaps = self.rows.len().saturating_sub(1).max(1);
        (last + last / gaps as f64).max(1.0)
    }

    /// Mean prompt and answer length, tokens.
    pub fn mean_shape(&self) -> (f64, f64) {
        let n = self.rows.len().max(1) as f64;
        let sum = |of: fn(&TraceRow) -> u32| self.rows.iter().map(|r| f64::from(of(r))).sum::<f64>() / n;
        (sum(|r| r.input_tokens), sum(|r| r.output_tokens))
    }
}

/// The bytes of a file and its name for messages.
pub(in crate::simulate) fn read_bytes(path: &Path) -> Result<(String, Vec<u8>), TraceError> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| TraceError::Read { file: file.clone(), source })?;
    Ok((file, bytes))
}

/// The text of a file that may be gzip, told by its first bytes.
pub(in crate::simulate) fn unpacked<'a>(name: &str, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, TraceError> {
    if !bytes.starts_with(&GZIP_MAGIC) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut text = Vec::new();
    match MultiGzDecoder::new(bytes).read_to_end(&mut text) {
        Ok(_) => Ok(Cow::Owned(text)),
        Err(source) => {
            let line = 1 + text.iter().filter(|&&byte| byte == b'\n').count();
            Err(TraceError::Gzip { file: name.to_owned(), line, source })
        }
    }
}

fn parse_csv(name: &str, bytes: &[u8]) -> Result<Trace, TraceError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let refused = |line: u64, what: String| TraceError::Row { file: name.to_owned(), line, what };
    let headers = reader.headers().map_err(|e| refused(1, e.to_string()))?;
    if headers.iter().ne(COLUMNS) {
        let found = headers.iter().collect::<Vec<_>>().join(",");
        return Err(TraceError::Columns { file: name.to_owned(), found });
    }
    let mut rows: Vec<TraceRow> = Vec::new();
    let mut record = StringRecord::new();
    loop {
        let line = reader.position().line();
        if !reader.read_record(&mut record).map_err(|e| refused(line, e.to_string()))? {
            break;
        }
        let line = record.position().map_or(line, csv::Position::line);
        let previous = rows.last().map_or(0.0, |r| r.at_seconds);
        rows.push(parse_row(&record, previous).map_err(|what| refused(line, what))?);
    }
    if rows.is_empty() {
        return Err(TraceError::Empty { file: name.to_owned() });
    }
    Ok(Trace { name: name.to_owned(), rows })
}

fn parse_row(record: &StringRecord, previous_seconds: f64) -> Result<TraceRow, String> {
    let text = |i: usize| record.get(i).unwrap_or_default();
    let at_seconds: f64 = text(0).parse().map_err(|_| format!("t_s is `{}`, expected seconds", text(0)))?;
    if !at_seconds.is_finite() || at_seconds < 0.0 {
        return Err(format!("t_s is {at_seconds}, expected a finite number of seconds, 0 or more"));
    }
    if at_seconds < previous_seconds {
        return Err(format!("t_s goes back from {previous_seconds} to {at_seconds}, expected ascending times"));
    }
    let tokens = |i: usize| match text(i).parse::<u32>() {
        Ok(n) if (1..=MAX_TOKENS).contains(&n) => Ok(n),
        _ => Err(format!("{} is `{}`, expected a whole number from 1 to {MAX_TOKENS}", COLUMNS[i], text(i))),
    };
    Ok(TraceRow { at_seconds, input_tokens: tokens(1)?, output_tokens: tokens(2)? })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn embedded_hours_are_complete() {
        let (conversation, code) = (Trace::conversation().unwrap(), Trace::code().unwrap());
        assert_eq!((conversation.rows().len(), code.rows().len()), (19_366, 8_819));
        assert!((conversation.mean_shape().0 - 1154.7).abs() < 0.1 && (code.mean_shape().1 - 27.9).abs() < 0.1);
        assert!((3501.0..3503.0).contains(&conversation.period_seconds()));
    }

    #[test]
    fn plain_and_gzip_files_read_the_same() {
        let text = "t_s,input_tokens,output_tokens\n0.0,10,1\n0.5,20,2\n";
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace.csv.gz");
        std::fs::write(&path, gz.finish().unwrap()).unwrap();
        let zipped = Trace::read(&path).unwrap();
        assert_eq!(zipped.rows(), Trace::parse("plain", text.as_bytes()).unwrap().rows());
        assert_eq!(zipped.rows()[1], TraceRow { at_seconds: 0.5, input_tokens: 20, output_tokens: 2 });
    }

    #[test]
    fn bad_traces_are_refused_with_file_and_line() {
        let refuse = |body: &str| {
            let text = format!("t_s,input_tokens,output_tokens\n{body}");
            Trace::parse("bad.csv", text.as_bytes()).unwrap_err().to_string()
        };
        assert_eq!(refuse("1,2,3\n0.5,2,3\n"), "bad.csv:3: t_s goes back from 1 to 0.5, expected ascending times");
        assert_eq!(refuse("-1,2,3\n"), "bad.csv:2: t_s is -1, expected a finite number of seconds, 0 or more");
        assert!(refuse("NaN,2,3\n").starts_with("bad.csv:2: t_s is NaN"));
        assert!(refuse("inf,2,3\n").starts_with("bad.csv:2: t_s is inf"));
        assert!(refuse("x,2,3\n").starts_with("bad.csv:2: t_s is `x`"));
        assert!(refuse("1,2,3\n2,0,3\n").starts_with("bad.csv:3: input_tokens is `0`"));
        assert!(refuse("1,2,-3\n").starts_with("bad.csv:2: output_tokens is `-3`"));
        assert!(refuse("1,2,2.5\n").starts_with("bad.csv:2: output_tokens is `2.5`"));
        assert!(refuse("1,2,3\n2,3\n").starts_with("bad.csv:3: "));
        assert_eq!(refuse(""), "bad.csv: holds no requests");
    }

    #[test]
    fn other_columns_are_refused() {
        let error = Trace::parse("bad.csv", b"time,input,output\n1,2,3\n").unwrap_err().to_string();
        assert_eq!(error, "bad.csv:1: columns are `time,input,output`, expected `t_s,input_tokens,output_tokens`");
        assert!(matches!(Trace::parse("cut.gz", &CONVERSATION[..1000]), Err(TraceError::Gzip { .. })));
        assert!(matches!(Trace::read(Path::new("no/such.csv")), Err(TraceError::Read { .. })));
    }
}
