//! What a gate tells: sentences, tables and a verdict, as Markdown that is readable in a terminal too.

use std::fmt::Write as _;

/// Rows under a head, all as text.
#[derive(Clone, Debug, Default)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|&h| h.to_owned()).collect(), rows: vec![] }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn text(&self) -> String {
        let width = |column: usize| {
            let all = self.rows.iter().chain([&self.head]);
            all.filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: &[String]| {
            let cell = |(column, width): (usize, &usize)| {
                let text = cells.get(column).map_or("", String::as_str);
                format!(" {text:<width$} ", width = *width)
            };
            format!("|{}|\n", widths.iter().enumerate().map(cell).collect::<Vec<_>>().join("|"))
        };
        let rule = widths.iter().map(|w| "-".repeat(w + 2)).collect::<Vec<_>>().join("|");
        let mut text = format!("{}|{rule}|\n", line(&self.head));
        self.rows.iter().for_each(|row| text.push_str(&line(row)));
        text
    }
}

/// How a gate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Met,
    Missed,
    /// Not judged here.
    Elsewhere,
}

impl Verdict {
    pub fn words(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Elsewhere => "not judged here",
        }
    }
}

/// One gate.
#[derive(Clone, Debug)]
pub struct Section {
    pub title: String,
    /// What is asked.
    pub asked: &'static str,
    pub verdict: Verdict,
    /// Conditions with their figures, and whether they are met.
    figures: Vec<(bool, String)>,
    body: String,
}

impl Section {
    pub fn new(title: &str, asked: &'static str) -> Self {
        Self { title: title.to_owned(), asked, verdict: Verdict::Met, figures: vec![], body: String::new() }
    }

    pub fn say(&mut self, text: &str) {
        let _ = writeln!(self.body, "{text}\n");
    }

    pub fn table(&mut self, table: &Table) {
        let _ = writeln!(self.body, "{}", table.text());
    }

    /// One condition of the gate, with its figure.
    pub fn judge(&mut self, is_met: bool, figure: String) {
        if !is_met && self.verdict == Verdict::Met {
            self.verdict = Verdict::Missed;
        }
        self.figures.push((is_met, figure));
    }

    pub fn text(&self) -> String {
        let Self { title, asked, verdict, figures, body } = self;
        let line =
            |(is_met, figure): &(bool, String)| format!("- {figure}{}\n", if *is_met { "" } else { " - **missed**" });
        let lines: String = figures.iter().map(line).collect();
        let gap = if lines.is_empty() { "" } else { "\n" };
        format!("## {title}\n\n*Asked:* {asked}\n\n**{}**\n\n{lines}{gap}{body}", verdict.words())
    }

    /// How many conditions are missed, the first of them by name.
    fn short(&self) -> String {
        let missed: Vec<&str> = self.figures.iter().filter(|(is_met, _)| !is_met).map(|(_, f)| f.as_str()).collect();
        match (missed.as_slice(), self.figures.as_slice()) {
            (_, []) => String::new(),
            ([], [(_, only)]) => only.clone(),
            ([], all) => format!("all {} conditions", all.len()),
            ([first], all) => format!("1 of {} conditions missed: {first}", all.len()),
            ([first, ..], all) => format!("{} of {} conditions missed, such as {first}", missed.len(), all.len()),
        }
    }
}

/// All gates in one table.
pub fn summary(sections: &[Section]) -> String {
    let mut table = Table::new(&["gate", "verdict", "conditions"]);
    for section in sections {
        table.row(vec![section.title.clone(), section.verdict.words().to_owned(), section.short()]);
    }
    table.text()
}

/// For example `99.12 %`.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// The least and the most of several seeds, or the one figure there is.
pub fn spread(values: &[f64], words: impl Fn(f64) -> String) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (least, most) = (words(least), words(most));
    if least == most { least } else { format!("{least} to {most}") }
}
