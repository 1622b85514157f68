//! The report of a check-up as text.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;

use super::Output;
use crate::cluster::doctor::{Finding, Report, Severity};

/// Width of the texts, where a command may go beyond.
const WIDTH: usize = 100;

const INDENT: &str = "           ";

pub fn report(report: &Report, output: Output) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Table => write!(out, "{}", table(report))?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, report)?;
            writeln!(out)?;
        }
        Output::Yaml => write!(out, "---\n{}", serde_saphyr::to_string(report)?)?,
    }
    Ok(())
}

/// Findings under the heading of their area; one line where there are none.
fn table(report: &Report) -> String {
    let checked = report.checked.join(", ");
    if report.findings.is_empty() {
        return format!("nothing found: {checked}\n");
    }
    let mut text = String::new();
    let mut area = None;
    for finding in &report.findings {
        if area.replace(finding.area) != Some(finding.area) {
            let _ = writeln!(text, "{}", finding.area.title());
        }
        text += &block(finding);
    }
    let count = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
    let [errors, warnings, infos] = [Severity::Error, Severity::Warning, Severity::Info].map(count);
    let _ = writeln!(text, "{errors} errors, {warnings} warnings, {infos} for information; checked: {checked}");
    text
}

fn block(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    let mut text = format!("  {severity:<8} {} ({})\n", finding.object, finding.kind);
    wrap(&mut text, &finding.message);
    wrap(&mut text, &format!("do: {}", finding.action));
    text
}

/// A sentence in indented lines. Lines that are there already, as of YAML, are kept as they are.
fn wrap(text: &mut String, sentence: &str) {
    let mut lines = sentence.lines();
    let mut line = String::new();
    for word in lines.next().unwrap_or_default().split(' ') {
        if !line.is_empty() && INDENT.len() + line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{INDENT}{line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    let _ = writeln!(text, "{INDENT}{line}");
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
}
