//! The report of a comparison: figures, and the same as pictures, a page and Markdown.
//!
//! This room owns what is told of a comparison and in which words. It computes from outcomes alone, runs nothing and
//! touches no disk: a report is a list of files with their contents, and the same comparison gives the same bytes.

mod figures;
mod markdown;
mod numbers;
mod page;
mod pictures;
mod series;
mod tables;
mod words;

pub use figures::{ClassFigures, LatencyFigures, Report, RuleFigures, SCHEMA, TryFigures};
pub use series::{ActionSeries, MOST_POINTS, RuleSeries};

use crate::plot::{PlotError, svg};

/// A file of the report: its name and what is in it.
pub type File = (&'static str, String);

/// A report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Picture(#[from] PlotError),
    #[error("the figures cannot be written: {0}")]
    Figures(#[from] serde_json::Error),
}

impl Report {
    /// All files of the report: the page, Markdown with its pictures, and the figures.
    ///
    /// # Errors
    /// A picture cannot be drawn.
    pub fn files(&self) -> Result<Vec<File>, ReportError> {
        let mut drawn: Vec<(&'static str, &'static str, String)> = vec![];
        for shown in pictures::all(self) {
            drawn.push((shown.file, shown.about, svg(&shown.picture)?));
        }
        let mut files = vec![
            ("index.html", page::page(self, &drawn)),
            ("report.md", markdown::markdown(self, &drawn)),
            ("report.json", serde_json::to_string_pretty(self)? + "\n"),
        ];
        files.extend(drawn.into_iter().map(|(file, _, svg)| (file, svg)));
        Ok(files)
    }
}
