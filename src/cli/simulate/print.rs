//! What is printed of a comparison.

use std::fmt::Write as _;

use comfy_table::{Table, presets};

use crate::simulate::replay::{Comparison, Outcome, kinds};

/// The rules that there are.
pub fn rules() -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["rule", "what it is", "swept"]);
    for kind in kinds() {
        table.add_row([kind.name(), kind.about(), kind.target()]);
    }
    format!("{table}\n")
}

pub fn table(comparison: &Comparison) -> String {
    let mut text = String::new();
    for line in &comparison.traffic {
        let _ = writeln!(text, "{line}");
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["rule", "hardware", "target", "cost", "attainment", "hours kept", "actions/day", "late"]);
    for ours in &comparison.ours {
        table.add_row(row(ours, ""));
    }
    for contest in &comparison.others {
        for (index, point) in contest.points.iter().enumerate() {
            table.add_row(row(point, if contest.best == Some(index) { " *" } else { "" }));
        }
    }
    let _ = writeln!(text, "{table}");
    text
}

fn row(o: &Outcome, mark: &str) -> Vec<String> {
    let each = |f: &dyn Fn(&crate::simulate::replay::ClassOutcome) -> String| {
        o.classes.iter().map(f).collect::<Vec<_>>().join(" ")
    };
    vec![
        format!("{}{mark}", o.rule),
        o.hardware.clone(),
        o.target.map_or(String::new(), |t| format!("{t:.3}")),
        format!("{:.2}", o.cost),
        each(&|c| c.attainment.map_or("-".into(), |a| format!("{:.3}%", 100.0 * a))),
        each(&|c| c.hours_kept.map_or("-".into(), |a| format!("{:.1}%", 100.0 * a))),
        format!("{:.0}", o.actions as f64 * 86_400.0 / o.seconds),
        each(&|c| c.late.iter().map(|(cause, n)| format!("{cause:?} {n}")).collect::<Vec<_>>().join(",")),
    ]
}
