//! The report as one page that needs nothing else: pictures inside, no script, light or dark as the reader has it.

use std::fmt::Write as _;

use super::figures::Report;
use super::tables::{Table, tables};
use crate::plot::dark_style;

const STYLE: &str = include_str!("page.css");

/// The page; `drawn` are the pictures: file, what it shows, contents.
pub(super) fn page(report: &Report, drawn: &[(&'static str, &'static str, String)]) -> String {
    let mut body = "<h1>What it would cost</h1>\n<ul class=\"summary\">\n".to_owned();
    for sentence in &report.summary {
        let _ = writeln!(body, "<li>{}</li>", escaped(sentence));
    }
    body.push_str("</ul>\n<pre>");
    for line in report.traffic.iter().chain(&report.circumstances) {
        let _ = writeln!(body, "{}", escaped(line));
    }
    body.push_str("</pre>\n");
    let tables = tables(report);
    body.extend(tables.first().map(section));
    for (_, about, svg) in drawn {
        let _ = write!(body, "<figure>\n{svg}<figcaption>{}</figcaption>\n</figure>\n", escaped(about));
    }
    body.extend(tables.iter().skip(1).map(section));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>poolwright simulate</title>\n\
         <style>\n{STYLE}@media (prefers-color-scheme: dark){{{}}}\n</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        dark_style("figure"),
    )
}

fn section(table: &Table) -> String {
    let mut text =
        format!("<h2>{}</h2>\n<p>{}</p>\n<div class=\"wide\"><table>\n<tr>", table.title, escaped(&table.about));
    for head in &table.head {
        let _ = write!(text, "<th>{}</th>", escaped(head));
    }
    text.push_str("</tr>\n");
    for (index, row) in table.rows.iter().enumerate() {
        text.push_str(if table.marked == Some(index) { "<tr class=\"ours\">" } else { "<tr>" });
        for cell in row {
            let _ = write!(text, "<td>{}</td>", escaped(cell));
        }
        text.push_str("</tr>\n");
    }
    text + "</table></div>\n"
}

/// Text of a page: names come from policies and files.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
