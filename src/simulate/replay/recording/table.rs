//! A CSV text row by row, with refusals that name file, line, column and value.
//!
//! It knows no layout: which columns there must be and what may follow what is said by its callers.

use csv::StringRecord;

use crate::simulate::TraceError;

/// A CSV text at one of its rows.
pub(super) struct Table<'a> {
    file: &'a str,
    columns: Vec<String>,
    reader: csv::Reader<&'a [u8]>,
    record: StringRecord,
    line: u64,
}

impl<'a> Table<'a> {
    /// Read the header.
    pub fn open(file: &'a str, text: &'a [u8]) -> Result<Self, TraceError> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text);
        let columns = match reader.headers() {
            Ok(headers) => headers.iter().map(str::to_owned).collect(),
            Err(_) => {
                let what = "the header is no UTF-8 text, expected CSV or gzip of it".to_owned();
                return Err(TraceError::Row { file: file.to_owned(), line: 1, what });
            }
        };
        Ok(Self { file, columns, reader, record: StringRecord::new(), line: 1 })
    }

    pub fn file(&self) -> &'a str {
        self.file
    }

    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Whether these are the columns, in this order.
    pub fn has(&self, columns: &[&str]) -> bool {
        self.columns.iter().eq(columns)
    }

    /// Go to the next row; `false` after the last.
    pub fn advance(&mut self) -> Result<bool, TraceError> {
        self.line = self.reader.position().line();
        match self.reader.read_record(&mut self.record) {
            Err(_) => return Err(self.refuse("is no UTF-8 text, expected CSV".to_owned())),
            Ok(false) => return Ok(false),
            Ok(true) => {}
        }
        self.line = self.record.position().map_or(self.line, csv::Position::line);
        if self.record.len() == self.columns.len() {
            return Ok(true);
        }
        let (found, expected) = (self.record.len(), self.columns.len());
        Err(self.refuse(format!("has {found} fields, expected {expected}: {}", self.columns.join(","))))
    }

    /// Text of a field of this row.
    pub fn text(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or_default()
    }

    /// A finite number within bounds.
    pub fn number(&self, column: usize, least: f64, most: f64) -> Result<f64, TraceError> {
        match self.text(column).parse::<f64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(self.wrong(column, &format!("a number from {least} to {most}"))),
        }
    }

    /// A whole number within bounds.
    pub fn whole(&self, column: usize, least: u32, most: u32) -> Result<u32, TraceError> {
        match self.text(column).parse::<u32>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(self.wrong(column, &format!("a whole number from {least} to {most}"))),
        }
    }

    /// The value of a column is not what it should be.
    pub fn wrong(&self, column: usize, expected: &str) -> TraceError {
        let name = self.columns.get(column).map_or("", String::as_str);
        self.refuse(format!("{name} is `{}`, expected {expected}", self.text(column)))
    }

    /// Refuse this row.
    pub fn refuse(&self, what: String) -> TraceError {
        TraceError::Row { file: self.file.to_owned(), line: self.line, what }
    }

    /// Refuse a file with too few rows.
    pub fn too_few(&self, least: usize) -> TraceError {
        TraceError::TooFewRows { file: self.file.to_owned(), least }
    }
}
