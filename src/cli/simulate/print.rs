//! What is printed of a comparison.

use std::fmt::Write as _;

use comfy_table::{Table, presets};

use crate::simulate::replay::{ClassOutcome, Comparison, Outcome, kinds};

/// The rules that there are.
pub fn rules() -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["rule", "what it is", "swept"]);
    for kind in kinds() {
        table.add_row([kind.name(), kind.about(), kind.target()]);
    }
    format!("{table}\n")
}

/// Ours, and of every other rule its cheapest try that serves as well; `all` tries when asked.
pub fn table(comparison: &Comparison, all: bool) -> String {
    let mut text = String::new();
    for line in comparison.traffic.iter().chain(&comparison.circumstances) {
        let _ = writeln!(text, "{line}");
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let cost = format!("cost, {}", comparison.currency);
    table.set_header(["rule", "hardware", "target", &cost, "in time", "hours kept", "changes/day", "late, most by"]);
    for ours in &comparison.ours {
        table.add_row(row(ours, ""));
    }
    for contest in &comparison.others {
        for (index, point) in contest.points.iter().enumerate() {
            let is_best = contest.best == Some(index);
            if all || is_best {
                table.add_row(row(point, if is_best && all { " *" } else { "" }));
            }
        }
    }
    let _ = writeln!(text, "{table}");
    for contest in &comparison.others {
        let rule = &contest.rule;
        let _ = match (contest.points.len(), contest.best) {
            (1, Some(_)) => writeln!(text, "{rule}: serves every class as well as ours"),
            (1, None) => writeln!(text, "{rule}: does not serve every class as well as ours"),
            (n, Some(_)) => writeln!(text, "{rule}: the cheapest of {n} tries that serves every class as well as ours"),
            (n, None) => writeln!(text, "{rule}: none of {n} tries serves every class as well as ours"),
        };
    }
    text
}

fn row(o: &Outcome, mark: &str) -> Vec<String> {
    let each = |f: &dyn Fn(&ClassOutcome) -> String| o.classes.iter().map(f).collect::<Vec<_>>().join("\n");
    let percent = |share: Option<f64>, digits: usize| share.map_or("-".into(), |s| format!("{:.digits$} %", 100.0 * s));
    let worst = |c: &ClassOutcome| {
        let worst = c.late.iter().max_by_key(|(_, requests)| **requests);
        worst.map_or(String::new(), |(cause, requests)| format!("{} {requests}", cause.words()))
    };
    vec![
        format!("{}{mark}", o.rule),
        o.hardware.clone(),
        o.target.map_or(String::new(), |t| format!("{t:.2}")),
        format!("{:.2}", o.cost),
        each(&|c| format!("{} {}", c.class, percent(c.attainment, 3))),
        each(&|c| percent(c.hours_kept, 1)),
        format!("{:.0}", o.actions as f64 * 86_400.0 / o.seconds),
        each(&worst),
    ]
}
