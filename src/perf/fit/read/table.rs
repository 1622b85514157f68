//! CSV: poolwright's own columns, and those of aiconfigurator's measured points.
//!
//! Own columns, in any order; a line that begins with `#` is a comment:
//!
//! | Column | Meaning |
//! |---|---|
//! | `concurrency` or `rate` | requests at a time, or requests per second; one of them per row |
//! | `input_tokens`, `output_tokens` | mean lengths |
//! | `ttft_ms`, `itl_ms` | means; one may be empty |
//! | `ttft_p50_ms`, `ttft_p95_ms`, `ttft_p99_ms`, `itl_p50_ms`, … | percentiles, optional |
//! | `burstiness`, `input_cv`, `output_cv`, `completed`, `duration_s` | optional |

use csv::{ReaderBuilder, StringRecord, Trim};

use super::super::super::Shape;
use super::super::point::{Latency, Load, Origin, Point};
use super::{Measurements, ReadError, Selection};

const OWN: [&str; 4] = ["input_tokens", "output_tokens", "ttft_ms", "itl_ms"];
const OWN_OPTIONAL: [&str; 13] = [
    "concurrency",
    "rate",
    "burstiness",
    "input_cv",
    "output_cv",
    "completed",
    "duration_s",
    "ttft_p50_ms",
    "ttft_p95_ms",
    "ttft_p99_ms",
    "itl_p50_ms",
    "itl_p95_ms",
    "itl_p99_ms",
];
/// Shape, load and latencies; the other columns describe the server.
const AICONFIGURATOR: [&str; 5] = ["isl", "osl", "batch_size", "silicon_ttft_ms", "silicon_tpot_ms"];

struct Table<'t> {
    file: &'t str,
    headers: Vec<String>,
}

struct Row<'t> {
    table: &'t Table<'t>,
    line: u64,
    record: StringRecord,
}

/// Reads a table.
pub fn read(file: &str, text: &str, selection: &Selection) -> Result<Measurements, ReadError> {
    let mut reader =
        ReaderBuilder::new().trim(Trim::All).comment(Some(b'#')).flexible(true).from_reader(text.as_bytes());
    let refuse =
        |place: String, message: String, hint: String| ReadError { file: file.to_owned(), place, message, hint };
    let headers = reader.headers().map_err(|e| refuse(String::new(), format!("is no CSV: {e}"), String::new()))?;
    let headers: Vec<String> = headers.iter().map(str::to_owned).collect();
    let table = Table { file, headers };
    let own = table.missing(&OWN).is_none();
    let other = table.missing(&AICONFIGURATOR).is_none();
    if !own && !other {
        return Err(table.unknown());
    }
    if own
        && let Some(bad) =
            table.headers.iter().find(|h| !OWN.contains(&h.as_str()) && !OWN_OPTIONAL.contains(&h.as_str()))
        && selection.iter().all(|(c, _)| c != bad)
    {
        let hint = format!("known are {}, {}", OWN.join(", "), OWN_OPTIONAL.join(", "));
        return Err(refuse("line 1".to_owned(), format!("`{bad}` is no column that is known"), hint));
    }
    if let Some((column, _)) = selection.iter().find(|(c, _)| table.missing(&[c.as_str()]).is_some()) {
        return Err(refuse(
            "line 1".to_owned(),
            format!("there is no column `{column}`"),
            "see the first line".to_owned(),
        ));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| refuse(String::new(), format!("is no CSV: {e}"), String::new()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let row = Row { table: &table, line, record };
        if row.record.len() != table.headers.len() {
            let message = format!("{} values under {} columns", row.record.len(), table.headers.len());
            return Err(row.refuse(message, "give every column a value, or nothing between two commas"));
        }
        if selection.iter().all(|(column, wanted)| row.text(column) == wanted) {
            rows.push(row);
        }
    }
    if rows.is_empty() {
        let message = if selection.is_empty() { "there is no row under the columns" } else { "no row fits `--where`" };
        return Err(refuse(String::new(), message.to_owned(), String::new()));
    }
    if own { own_rows(&rows) } else { aiconfigurator_rows(&rows) }
}

impl Table<'_> {
    fn missing<'c>(&self, wanted: &[&'c str]) -> Option<&'c str> {
        wanted.iter().find(|w| !self.headers.iter().any(|h| h == *w)).copied()
    }

    fn unknown(&self) -> ReadError {
        let like_own = OWN.iter().filter(|c| self.headers.iter().any(|h| h == *c)).count();
        let like_other = AICONFIGURATOR.iter().filter(|c| self.headers.iter().any(|h| h == *c)).count();
        let refuse = |message: String, hint: String| ReadError {
            file: self.file.to_owned(),
            place: "line 1".to_owned(),
            message,
            hint,
        };
        let nearest: &[&str] = if like_other > like_own { &AICONFIGURATOR } else { &OWN };
        match self.missing(nearest) {
            Some(column) if like_own + like_other > 0 => {
                refuse(format!("the column `{column}` is missing"), format!("needed are {}", nearest.join(", ")))
            }
            _ => refuse("belongs to no known format".to_owned(), format!("known are {}", super::FORMATS)),
        }
    }
}

impl Row<'_> {
    fn refuse(&self, message: String, hint: &str) -> ReadError {
        ReadError {
            file: self.table.file.to_owned(),
            place: format!("line {}", self.line),
            message,
            hint: hint.to_owned(),
        }
    }

    fn origin(&self) -> Origin {
        Origin { file: self.table.file.to_owned(), place: format!("line {}", self.line) }
    }

    /// Empty when there is no such column.
    fn text(&self, column: &str) -> &str {
        let index = self.table.headers.iter().position(|h| h == column);
        index.and_then(|i| self.record.get(i)).unwrap_or_default()
    }

    /// A number above zero, or `None` where nothing stands.
    fn number(&self, column: &str) -> Result<Option<f64>, ReadError> {
        let text = self.text(column);
        if text.is_empty() {
            return Ok(None);
        }
        let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(self.refuse(format!("`{column}` is `{text}`"), "a number above zero")),
        }
    }

    fn needed(&self, column: &str) -> Result<f64, ReadError> {
        self.number(column)?.ok_or_else(|| self.refuse(format!("`{column}` is empty"), "a number above zero"))
    }

    fn latency(&self, name: &str) -> Result<Option<Latency>, ReadError> {
        let seconds = |column: String| Ok::<_, ReadError>(self.number(&column)?.map(|ms| ms / 1e3));
        let Some(mean_seconds) = seconds(format!("{name}_ms"))? else { return Ok(None) };
        Ok(Some(Latency {
            mean_seconds,
            p50_seconds: seconds(format!("{name}_p50_ms"))?,
            p95_seconds: seconds(format!("{name}_p95_ms"))?,
            p99_seconds: seconds(format!("{name}_p99_ms"))?,
        }))
    }
}

fn own_rows(rows: &[Row]) -> Result<Measurements, ReadError> {
    let mut found = Measurements { format: "poolwright CSV", ..Measurements::default() };
    for row in rows {
        let load = match (row.number("concurrency")?, row.number("rate")?) {
            (Some(n), None) if n.fract() == 0.0 => Load::Closed { concurrency: n as u32 },
            (Some(n), None) => return Err(row.refuse(format!("`concurrency` is `{n}`"), "a whole number above zero")),
            (None, Some(rate)) => Load::Open { rate, burstiness: row.number("burstiness")?.unwrap_or(1.0) },
            _ => return Err(row.refuse("has neither or both of `concurrency` and `rate`".to_owned(), "give one")),
        };
        let shape = Shape { input_tokens: row.needed("input_tokens")?, output_tokens: row.needed("output_tokens")? };
        let mut point = Point::new(row.origin(), load, shape);
        (point.ttft, point.itl) = (row.latency("ttft")?, row.latency("itl")?);
        if point.ttft.is_none() && point.itl.is_none() {
            return Err(row.refuse("both `ttft_ms` and `itl_ms` are empty".to_owned(), "give at least one"));
        }
        point.input_spread = row.number("input_cv")?.unwrap_or(0.0);
        point.output_spread = row.number("output_cv")?.unwrap_or(0.0);
        point.completed = row.number("completed")?.map(|n| n as u64);
        point.duration_seconds = row.number("duration_s")?;
        found.points.push(point);
    }
    Ok(found)
}

fn aiconfigurator_rows(rows: &[Row]) -> Result<Measurements, ReadError> {
    let mut found = Measurements { format: "aiconfigurator CSV", ..Measurements::default() };
    let (split, whole): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|r| r.text("mode") == "disagg" || r.text("batch_size").is_empty());
    if !split.is_empty() {
        found.notes.push(format!(
            "{}: {} rows of separate prefill and decode servers are left out",
            rows[0].table.file,
            split.len()
        ));
    }
    let [first, rest @ ..] = &whole[..] else {
        return Err(rows[0].refuse("no row is of a server that does both prefill and decode".to_owned(), ""));
    };
    let columns = first.table.headers.iter().filter(|h| !AICONFIGURATOR.contains(&h.as_str()));
    for column in columns {
        if let Some(other) = rest.iter().find(|r| r.text(column) != first.text(column)) {
            let message = format!(
                "`{column}` is `{}`, in line {} it is `{}`",
                other.text(column),
                first.line,
                first.text(column)
            );
            return Err(
                other.refuse(message, &format!("one server at a time: `--where {column}={}`", first.text(column)))
            );
        }
    }
    for row in &whole {
        let batch = row.needed("batch_size")?;
        let shape = Shape { input_tokens: row.needed("isl")?, output_tokens: row.needed("osl")? };
        let point = Point::new(row.origin(), Load::Closed { concurrency: batch as u32 }, shape);
        let seconds = |column: &str| Ok::<_, ReadError>(row.number(column)?.map(|ms| ms / 1e3));
        let point = point.with(seconds("silicon_ttft_ms")?, seconds("silicon_tpot_ms")?);
        if let Some(fault) = point.fault() {
            return Err(row.refuse(fault, ""));
        }
        found.points.push(point);
    }
    let text = |column: &str| Some(first.text(column).to_owned()).filter(|t| !t.is_empty());
    (found.model, found.engine, found.accelerator) = (text("model_path"), text("backend"), text("system"));
    Ok(found)
}
