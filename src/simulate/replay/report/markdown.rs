//! The report as Markdown, with the pictures beside it.

use std::fmt::Write as _;

use comfy_table::presets;

use super::figures::Report;
use super::tables::{Table, tables};

/// The text; `drawn` are the pictures: file, what it shows, contents.
pub(super) fn markdown(report: &Report, drawn: &[(&'static str, &'static str, String)]) -> String {
    let mut text = "# What it would cost\n\n".to_owned();
    for sentence in &report.summary {
        let _ = writeln!(text, "- {}", plain(sentence));
    }
    text.push('\n');
    for line in report.traffic.iter().chain(&report.circumstances) {
        let _ = writeln!(text, "    {line}");
    }
    for (file, about, _) in drawn {
        let _ = write!(text, "\n![{about}]({file})\n\n{about}\n");
    }
    for table in tables(report) {
        let _ = write!(text, "\n## {}\n\n{}\n\n{}\n", table.title, table.about, rows(&table));
    }
    text
}

fn rows(table: &Table) -> String {
    let mut drawn = comfy_table::Table::new();
    drawn.load_style(presets::ASCII_MARKDOWN).set_header(&table.head);
    drawn.add_rows(table.rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect::<Vec<_>>()));
    drawn.trim_fmt()
}

/// Without what Markdown would take for its own marks.
fn plain(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('*', "\\*").replace('<', "&lt;")
}
