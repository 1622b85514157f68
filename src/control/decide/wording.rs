//! Sentences about other plans, from their numbers.

use crate::control::reasons::{Gain, OtherChoice, OtherPlan, PriorityRate, ReplicaChange};

/// Pools that a sentence names.
const MOST_NAMED: usize = 4;
/// Money below this is not worth a word, currency per hour.
const LEAST_MONEY: f64 = 0.005;

/// `kept at 3, 2.4 req/s of interactive would miss their target`.
pub(super) fn other_plan(plan: &OtherPlan, pool: &str, currency: &str) -> String {
    let n = plan.replicas;
    let lead = match plan.choice {
        OtherChoice::Keep => format!("kept at {n}"),
        OtherChoice::Without if n == 0 => "without this pool".to_owned(),
        OtherChoice::Without => format!("at its lower limit of {n}"),
        OtherChoice::Fewer | OtherChoice::More => format!("with {}", replicas(n)),
    };
    let (worse, better): (Vec<_>, Vec<_>) = plan.extra_shortfall.iter().partition(|s| s.rate > 0.0);
    let mut found = vec![];
    if !worse.is_empty() {
        found.push(format!("{} would miss their target", rates(&worse)));
    }
    if !better.is_empty() {
        found.push(format!("{} more would meet their target", rates(&better)));
    }
    let spent = plan.extra_cost_per_hour;
    if spent.abs() >= LEAST_MONEY {
        let starts = (spent - plan.extra_price_per_hour).abs() >= LEAST_MONEY;
        let word = if spent > 0.0 { "more" } else { "less" };
        let starts = if starts { ", starts and stops counted" } else { "" };
        found.push(format!("it would cost {} {word}{starts}", money(spent.abs(), currency)));
    }
    if found.is_empty() {
        found.push("it would cost the same".to_owned());
    }
    let others: Vec<&ReplicaChange> = plan.changes.iter().filter(|c| c.pool != pool).collect();
    let others = if others.is_empty() { String::new() } else { format!(" ({})", changes(&others)) };
    let doubt = if plan.proven { "" } else { "; not proven best" };
    format!("{lead}, {}{others}{doubt}", found.join(" and "))
}

/// `would save 3.20 USD/h (llama-a100 2 → 0)`.
pub(super) fn gain(gain: &Gain, currency: &str) -> String {
    let mut found = vec![];
    if !gain.served.is_empty() {
        let (more, less): (Vec<_>, Vec<_>) = gain.served.iter().partition(|s| s.rate > 0.0);
        if !more.is_empty() {
            found.push(format!("let {} more meet their target", rates(&more)));
        }
        if !less.is_empty() {
            found.push(format!("make {} miss their target", rates(&less)));
        }
    }
    let saved = gain.saved_cost_per_hour;
    if saved >= LEAST_MONEY {
        let net: i64 = gain.changes.iter().map(|c| i64::from(c.from) - i64::from(c.to)).sum();
        let fewer = u32::try_from(net).ok().filter(|n| *n > 0);
        let fewer = fewer.map_or_else(String::new, |n| format!("{} and ", replicas(n)));
        found.push(format!("save {fewer}{}", money(saved, currency)));
    } else if saved <= -LEAST_MONEY {
        found.push(format!("cost {} more", money(-saved, currency)));
    }
    if found.is_empty() {
        return "would change nothing".to_owned();
    }
    let named: Vec<&ReplicaChange> = gain.changes.iter().collect();
    let named = if named.is_empty() { String::new() } else { format!(" ({})", changes(&named)) };
    let doubt = if gain.proven { "" } else { "; not proven best" };
    format!("would {}{named}{doubt}", found.join(" and "))
}

fn money(amount: f64, currency: &str) -> String {
    format!("{amount:.2} {currency}/h")
}

fn replicas(n: u32) -> String {
    if n == 1 { "1 replica".to_owned() } else { format!("{n} replicas") }
}

fn rates(list: &[&PriorityRate]) -> String {
    let one = |r: &&PriorityRate| format!("{} req/s of {}", rate(r.rate.abs()), r.classes.join(" and "));
    list.iter().map(one).collect::<Vec<_>>().join(" and ")
}

fn rate(rate: f64) -> String {
    if rate >= 0.95 { format!("{rate:.1}") } else { format!("{rate:.2}") }
}

fn changes(list: &[&ReplicaChange]) -> String {
    let one = |c: &&ReplicaChange| format!("{} {} → {}", c.pool, c.from, c.to);
    let mut words: Vec<String> = list.iter().take(MOST_NAMED).map(one).collect();
    if list.len() > MOST_NAMED {
        words.push(format!("{} more pools", list.len() - MOST_NAMED));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(pool: &str, from: u32, to: u32) -> ReplicaChange {
        ReplicaChange { pool: pool.into(), from, to }
    }

    fn short(rate: f64) -> PriorityRate {
        PriorityRate { priority: 1, classes: vec!["web".into()], rate }
    }

    #[test]
    fn other_plans_read_as_sentences() {
        let mut plan = OtherPlan {
            choice: OtherChoice::Keep,
            replicas: 3,
            extra_cost_per_hour: 1.2,
            extra_price_per_hour: 1.2,
            extra_shortfall: vec![],
            changes: vec![change("n/a", 5, 3), change("n/b", 0, 4)],
            proven: true,
            sentence: String::new(),
        };
        assert_eq!(other_plan(&plan, "n/a", "USD"), "kept at 3, it would cost 1.20 USD/h more (n/b 0 → 4)");
        plan.extra_shortfall = vec![short(2.44)];
        plan.extra_cost_per_hour = -6.0;
        let wanted = "kept at 3, 2.4 req/s of web would miss their target and it would cost 6.00 USD/h less, starts and \
                      stops counted (n/b 0 → 4)";
        assert_eq!(other_plan(&plan, "n/a", "USD"), wanted);
        let same = OtherPlan {
            choice: OtherChoice::Without,
            replicas: 0,
            extra_cost_per_hour: 0.0,
            extra_shortfall: vec![],
            proven: false,
            changes: vec![],
            ..plan
        };
        let wanted = "without this pool, it would cost the same; not proven best";
        assert_eq!(other_plan(&same, "n/a", "USD"), wanted);
    }

    #[test]
    fn gains_read_as_sentences() {
        let mut found = Gain { proven: true, ..Gain::default() };
        assert_eq!(gain(&found, "USD"), "would change nothing");
        found.saved_cost_per_hour = 3.2;
        found.changes = vec![change("n/a", 3, 2)];
        assert_eq!(gain(&found, "USD"), "would save 1 replica and 3.20 USD/h (n/a 3 → 2)");
        found.served = vec![short(0.5)];
        found.saved_cost_per_hour = -1.0;
        let wanted = "would let 0.50 req/s of web more meet their target and cost 1.00 USD/h more (n/a 3 → 2)";
        assert_eq!(gain(&found, "USD"), wanted);
    }
}
