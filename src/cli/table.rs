//! Tables for people.

use std::fmt::Write as _;

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};

use crate::control::{Decision, Latency, PoolDecision};
use crate::policy::Mode;

/// The recommendation of a dry run.
pub fn plan(decision: &Decision) -> String {
    let mut text = format!("{}\n", pools(decision, None));
    let _ = writeln!(
        text,
        "cost {:.2} {c}/h now, {:.2} {c}/h recommended; solver {}, {} work units, gap {:.2} %",
        decision.current_cost_per_hour,
        decision.planned_cost_per_hour,
        decision.solve.solver,
        decision.solve.work_units,
        decision.solve.gap * 100.0,
        c = decision.currency,
    );
    for class in &decision.classes {
        let _ = write!(text, "class {}: {:.2} req/s planned", class.class, class.demand_rate);
        if class.shortfall_rate > 1e-9 {
            let _ = write!(text, ", {:.2} req/s miss the target", class.shortfall_rate);
        }
        if !class.infeasible.is_empty() {
            let _ = write!(text, " (no pool can meet it for {})", class.infeasible.join(", "));
        }
        text.push('\n');
    }
    for pool in decision.pools.iter().filter(|p| !p.missing.is_empty()) {
        let _ = writeln!(text, "{}/{}: {}", pool.namespace, pool.pool, pool.missing.join(", "));
    }
    for finding in &decision.findings {
        let _ = writeln!(text, "{}: {}: {}", finding.kind.as_str(), finding.subject, finding.message);
    }
    text
}

/// One line a pool. `width` is that of the terminal, if there is one.
pub fn pools(decision: &Decision, width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = width {
        table.set_width(width);
    }
    let currency = format!("{}/h", decision.currency);
    table.set_header(
        ["pool", "accelerator", "now → want", "req/s", "TTFT", "ITL", "KV", currency.as_str(), "why"]
            .map(|h| Cell::new(h).add_attribute(Attribute::Bold)),
    );
    for pool in &decision.pools {
        table.add_row(row(pool));
    }
    for column in 3..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn row(pool: &PoolDecision) -> Vec<String> {
    let mode = if pool.mode == Mode::Act { String::new() } else { format!(" ({})", pool.mode.as_str()) };
    vec![
        format!("{}{mode}", pool.pool),
        format!("{}×{}", pool.accelerators_per_replica, pool.accelerator),
        replicas(pool),
        pool.arrival_rate.map_or_else(|| "-".into(), |r| format!("{r:.1}")),
        latency(&pool.ttft),
        latency(&pool.itl),
        pool.kv_usage.map_or_else(|| "-".into(), |k| format!("{:.0}%", k * 100.0)),
        format!("{:.2}", pool.cost_per_hour),
        format!("{}: {} [{}]", pool.binding.as_str(), pool.reason, pool.evidence.as_str()),
    ]
}

/// `5 → 7 (+2 starting)`.
fn replicas(pool: &PoolDecision) -> String {
    let number = |n: Option<u32>| n.map_or_else(|| "?".into(), |n| n.to_string());
    let starting = match pool.starting {
        Some(n) if n > 0 => format!(" ({n} starting)"),
        _ => String::new(),
    };
    let now = number(pool.ready);
    let want = number(pool.desired);
    if now == want && starting.is_empty() { now } else { format!("{now} → {want}{starting}") }
}

/// `0.84/2.0s`: observed at the class percentile against the target.
fn latency(latency: &Latency) -> String {
    match (latency.observed_seconds, latency.target_seconds) {
        (None, None) => "-".into(),
        (Some(seen), None) => seconds(seen),
        (seen, Some(target)) => format!("{}/{}", seen.map_or_else(|| "-".into(), seconds), seconds(target)),
    }
}

fn seconds(value: f64) -> String {
    if value < 0.9995 { format!("{:.0}ms", value * 1e3) } else { format!("{value:.1}s") }
}
