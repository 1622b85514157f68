//! What came out, in sentences. Says what is so, also where another rule is cheaper or a promise is not kept.

use super::figures::{Report, RuleFigures};
use super::numbers::{grouped, percent};

/// Costs closer than this are told as the same.
const SAME: f64 = 0.005;

/// The sentences at the top of a report.
pub(super) fn summary(report: &Report) -> Vec<String> {
    let Some(ours) = report.ours.first() else { return vec![] };
    let mut told = vec![what_ours_did(report, ours)];
    told.extend(broken_promises(report, ours));
    told.extend(seeds(report));
    told.extend(against_the_best(report, ours));
    told.extend(the_future(report, ours));
    told
}

/// A rule with the setting that was chosen for it, for example `keda-rate (h100, 0.9)`.
pub(super) fn setting(rule: &RuleFigures) -> String {
    let hardware = Some(rule.hardware.clone()).filter(|h| !h.is_empty());
    let told: Vec<String> = hardware.into_iter().chain(rule.target.map(|t| format!("{t}"))).collect();
    if told.is_empty() { rule.rule.clone() } else { format!("{} ({})", rule.rule, told.join("; ")) }
}

/// A length of time as people say it.
pub(super) fn duration(seconds: f64) -> String {
    match seconds / 3600.0 {
        hours if hours >= 48.0 => format!("{:.1} days", hours / 24.0),
        hours if hours >= 2.0 => format!("{hours:.1} hours"),
        hours => format!("{:.0} minutes", 60.0 * hours),
    }
}

fn what_ours_did(report: &Report, ours: &RuleFigures) -> String {
    let arrived: u64 = ours.classes.iter().map(|c| c.arrived).sum();
    let share = |c: &super::ClassFigures| {
        let in_time = c.attainment.map_or("no requests".to_owned(), percent);
        let promise = report.promises.iter().find(|p| p.class == c.class).map_or(1.0, |p| p.quantile);
        format!("{} {in_time} (promised {})", c.class, percent_short(promise))
    };
    format!(
        "{} of traffic, {} requests: this planner costs {} {} and has in time: {}.",
        duration(report.seconds),
        grouped(arrived as f64, 0),
        grouped(ours.cost, 2),
        report.currency,
        ours.classes.iter().map(share).collect::<Vec<_>>().join(", "),
    )
}

fn percent_short(share: f64) -> String {
    format!("{} %", (share * 1e6).round() / 1e4)
}

fn broken_promises(report: &Report, ours: &RuleFigures) -> Option<String> {
    let promised = |class: &str| report.promises.iter().find(|p| p.class == class).map_or(0.0, |p| p.quantile);
    let is_broken = |c: &&super::ClassFigures| c.attainment.is_some_and(|share| share < promised(&c.class));
    let broken: Vec<&str> = ours.classes.iter().filter(is_broken).map(|c| c.class.as_str()).collect();
    (!broken.is_empty()).then(|| format!("It does not keep its promise to {}.", broken.join(" and ")))
}

fn seeds(report: &Report) -> Option<String> {
    let costs = || report.ours.iter().map(|run| run.cost);
    let (low, high) = (costs().fold(f64::INFINITY, f64::min), costs().fold(0.0, f64::max));
    (report.ours.len() > 1).then(|| {
        let (low, high) = (grouped(low, 2), grouped(high, 2));
        format!("With {} seeds it costs {low} to {high} {}.", report.ours.len(), report.currency)
    })
}

fn against_the_best(report: &Report, ours: &RuleFigures) -> Vec<String> {
    let best = report.others.iter().find(|other| report.best_other.as_ref() == Some(&other.rule));
    let rivals = report.others.iter().filter(|other| !other.knows_future);
    let Some(best) = best else {
        let Some(nearest) = rivals.max_by(|a, b| in_time(a).total_cmp(&in_time(b)).then(b.cost.total_cmp(&a.cost)))
        else {
            return vec![];
        };
        return vec![format!(
            "No other rule serves every class as well at any setting that was tried; nearest is {}, with {} of all \
             requests in time at {} {}.",
            setting(nearest),
            percent(in_time(nearest)),
            grouped(nearest.cost, 2),
            report.currency,
        )];
    };
    let ratio = best.cost_ratio;
    let compared = match ratio {
        r if (r - 1.0).abs() <= SAME => "about the same as ours".to_owned(),
        r if r < 1.0 => format!("{:.1} % less than ours", 100.0 * (1.0 - r)),
        r => format!("{:.1} % more than ours", 100.0 * (r - 1.0)),
    };
    let chosen =
        if best.tries > 1 { format!(", chosen in hindsight from {} tries", best.tries) } else { String::new() };
    vec![
        format!(
            "The cheapest other rule that serves every class as well is {}{chosen}: it costs {} {}, {compared}.",
            setting(best),
            grouped(best.cost, 2),
            report.currency,
        ),
        format!(
            "Ours changes the fleet {} times a day, {} {} times.",
            grouped(ours.actions_per_day, 0),
            best.rule,
            grouped(best.actions_per_day, 0),
        ),
    ]
}

fn in_time(rule: &RuleFigures) -> f64 {
    rule.attainment.unwrap_or(1.0)
}

/// What could be reached by who knows what is to come, with real start-up times.
fn the_future(report: &Report, ours: &RuleFigures) -> Option<String> {
    let knowing = report.others.iter().filter(|other| other.knows_future && other.serves_as_well);
    let best = knowing.max_by(|a, b| a.cost.total_cmp(&b.cost))?;
    let (ours, knowing) = (ours.cost, best.cost);
    let compared = match ours / knowing - 1.0 {
        more if more >= 0.0 => format!("ours is {:.1} % above it", 100.0 * more),
        less => format!("ours is {:.1} % below it", -100.0 * less),
    };
    Some(format!("{} knows the future and costs {} {}: {compared}.", best.rule, grouped(knowing, 2), report.currency))
}
