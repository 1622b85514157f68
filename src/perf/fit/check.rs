//! What somebody should know before believing a fit.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cliff::KvBounds;
use super::point::{Load, Point, shapes};
use super::predict::Predictor;
use super::report::{Use, Validity};
use super::solve::{Kind, Solution, median};
use super::{Fitted, Options, USUAL_BUDGET, rows};

/// What kind of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarningKind {
    TooFewPoints,
    Unidentifiable,
    Uncovered,
    NonMonotone,
    MixedServers,
    MixedTargets,
    WildPoint,
    Overload,
    KvMemory,
    Assumption,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Warning {
    pub kind: WarningKind,
    pub message: String,
}

/// Everything a warning may be about.
pub struct Findings<'a> {
    pub points: &'a [Point],
    pub predictors: &'a [Predictor],
    pub uses: &'a [Use],
    pub options: &'a Options,
    pub fitted: &'a Fitted,
    pub validity: &'a Validity,
    pub kv: &'a KvBounds,
}

/// Points that a fit should have.
const ENOUGH: usize = 8;
/// A residual beyond this many spreads, and beyond [`WILD_LEAST`], is wild.
const WILD_SPREADS: f64 = 4.0;
const WILD_LEAST: f64 = 0.4;
/// A latency that falls by more than this while the load grows is strange.
const FALL: f64 = 0.1;
/// How far outside of the covered range is still near.
const NEAR: f64 = 2.0;

pub fn mark_wild(points: &[Point], predictors: &[Predictor], solution: &Solution, uses: &mut [Use]) {
    let chosen: Vec<usize> = (0..points.len()).filter(|i| uses[*i] == Use::Fitted).collect();
    for row in rows(points, predictors, &chosen) {
        let bound = (WILD_SPREADS * solution.spreads[row.kind as usize]).max(WILD_LEAST);
        if row.residual(&solution.theta).abs() > bound {
            uses[row.point] = Use::Wild;
        }
    }
}

pub fn warnings(findings: &Findings) -> Vec<Warning> {
    let mut all = Vec::new();
    let mut add =
        |kind, messages: Vec<String>| all.extend(messages.into_iter().map(|message| Warning { kind, message }));
    add(WarningKind::TooFewPoints, few(findings));
    add(WarningKind::Unidentifiable, unidentifiable(findings));
    add(WarningKind::Uncovered, uncovered(findings));
    add(WarningKind::NonMonotone, non_monotone(findings.points, findings.uses));
    add(WarningKind::MixedServers, mixed_servers(findings));
    add(WarningKind::MixedTargets, mixed_targets(findings.points));
    add(WarningKind::WildPoint, wild(findings));
    add(WarningKind::Overload, put_aside(findings));
    add(WarningKind::KvMemory, kv_memory(findings));
    add(WarningKind::Assumption, assumptions(findings));
    all
}

fn few(f: &Findings) -> Vec<String> {
    let n = f.uses.iter().filter(|u| matches!(u, Use::Fitted | Use::Wild)).count();
    if n >= ENOUGH {
        return vec![];
    }
    let anchor = if f.options.prior.is_some() { "; the estimate fills in" } else { "" };
    vec![format!("{n} points are few: {ENOUGH} over two prompt lengths and two loads are a start{anchor}")]
}

fn unidentifiable(f: &Findings) -> Vec<String> {
    let mut messages = Vec::new();
    if f.fitted.decode_unseen {
        let message =
            "decoded tokens cannot be told apart from the rest: they are taken to cost what prompt tokens cost";
        messages.push(message.to_owned());
    }
    if !f.fitted.sight.is_clear() {
        messages.push(format!(
            "the points do not see {} (condition number {:.0e}): there the estimate is kept",
            f.fitted.sight.in_words(),
            f.fitted.sight.condition
        ));
    }
    for name in &f.fitted.sight.invisible {
        messages.push(format!(
            "{name} makes up less than 1 % of every measured time: it may be anything from zero to a few times its value"
        ));
    }
    messages
}

fn uncovered(f: &Findings) -> Vec<String> {
    let v = f.validity;
    let mut messages = Vec::new();
    let fixed = |span: &Option<super::Span>| span.is_some_and(|s| s.to < 1.5 * s.from);
    if fixed(&v.input_tokens) {
        messages.push(format!(
            "all prompts have about {:.0} tokens: other lengths are extrapolated",
            v.input_tokens.map_or(0.0, |s| s.to)
        ));
    }
    if fixed(&v.concurrency) && v.rate_per_second.is_none_or(|s| s.to < 1.5 * s.from) {
        messages.push("all points have one load: others are extrapolated".to_owned());
    }
    for (load, input, output) in &f.options.asked {
        let inside = |span: &Option<super::Span>, value: f64| span.is_none_or(|s| s.covers(value, NEAR));
        for (name, span, value) in [
            ("load", &v.concurrency, load),
            ("prompt length", &v.input_tokens, input),
            ("output length", &v.output_tokens, output),
        ] {
            if !inside(span, *value)
                && let Some(span) = span
            {
                messages.push(format!(
                    "{name} {value:.0} is far outside of what was measured, {:.0} to {:.0}",
                    span.from, span.to
                ));
            }
        }
    }
    messages
}

/// Points of one shape in the order of their load must not get faster.
fn non_monotone(points: &[Point], uses: &[Use]) -> Vec<String> {
    let mut groups: BTreeMap<(usize, u8), Vec<&Point>> = BTreeMap::new();
    let (_, of) = shapes(points);
    for ((point, shape), _) in points.iter().zip(of).zip(uses).filter(|(_, u)| matches!(u, Use::Fitted | Use::Wild)) {
        let kind = match point.load {
            Load::Closed { .. } => 0,
            Load::Open { .. } => 1,
            Load::Decode { .. } => 2,
        };
        groups.entry((shape, kind)).or_default().push(point);
    }
    let mut messages = Vec::new();
    for group in groups.values_mut() {
        group.sort_by(|a, b| a.load.size().total_cmp(&b.load.size()));
        for pair in group.windows(2).filter(|p| p[1].load.size() > 1.2 * p[0].load.size()) {
            let fell = |of: fn(&Point) -> Option<f64>| Some(of(pair[1])? < (1.0 - FALL) * of(pair[0])?).filter(|f| *f);
            let (name, cause) = if fell(|p| p.ttft.map(|l| l.mean_seconds)).is_some() {
                ("TTFT", "was prefix caching on while prompts repeat?")
            } else if fell(|p| p.itl.map(|l| l.mean_seconds)).is_some() {
                ("ITL", "was the server busy with something else?")
            } else {
                continue;
            };
            messages.push(format!(
                "{name} falls from {} ({}) to {} ({}): {cause}",
                pair[0].load, pair[0].origin, pair[1].load, pair[1].origin
            ));
        }
    }
    messages
}

/// Residuals that fall into two clusters come from two servers, or from one under two settings.
fn mixed_servers(f: &Findings) -> Vec<String> {
    let chosen: Vec<usize> = (0..f.points.len()).filter(|i| matches!(f.uses[*i], Use::Fitted | Use::Wild)).collect();
    let rows = rows(f.points, f.predictors, &chosen);
    let mut residuals: Vec<(f64, usize)> = rows
        .iter()
        .filter(|r| r.kind != Kind::Ttft)
        .map(|r| (-r.residual(&f.fitted.solution.theta), r.point))
        .collect();
    residuals.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n = residuals.len();
    let gap = |i: usize| residuals[i].0 - residuals[i - 1].0;
    let Some(cut) = (3..n.saturating_sub(2)).max_by(|a, b| gap(*a).total_cmp(&gap(*b))) else { return vec![] };
    let (low, high) = residuals.split_at(cut);
    let width = |part: &[(f64, usize)]| {
        let middle = median(part.iter().map(|r| r.0).collect()).unwrap_or(0.0);
        (middle, median(part.iter().map(|r| (r.0 - middle).abs()).collect()).unwrap_or(0.0))
    };
    let ((low_at, low_width), (high_at, high_width)) = (width(low), width(high));
    let apart = high_at - low_at;
    if gap(cut) < 0.1 || apart < 0.25 || apart < 5.0 * (low_width + high_width) || 5 * low.len().min(high.len()) < n {
        return vec![];
    }
    let files = |part: &[(f64, usize)]| {
        let mut files: Vec<&str> = part.iter().map(|r| f.points[r.1].origin.file.as_str()).collect();
        files.sort_unstable();
        files.dedup();
        files.join(", ")
    };
    let example = |part: &[(f64, usize)]| part.first().map_or(String::new(), |r| f.points[r.1].origin.to_string());
    let (slow, fast) = if files(low) == files(high) {
        (format!("{} points (such as {})", high.len(), example(high)), format!("{} others", low.len()))
    } else {
        (format!("{} points of {}", high.len(), files(high)), format!("{} of {}", low.len(), files(low)))
    };
    vec![format!(
        "{slow} are {:.0} % slower than {fast}: two servers, or one under two settings? Fit them apart",
        100.0 * (apart.exp() - 1.0)
    )]
}

fn mixed_targets(points: &[Point]) -> Vec<String> {
    let mut targets: Vec<&str> = points.iter().filter_map(|p| p.target.as_deref()).collect();
    targets.sort_unstable();
    targets.dedup();
    if targets.len() < 2 {
        return vec![];
    }
    vec![format!(
        "the points were chosen under different targets ({}): their rates cannot be compared",
        targets.join("; ")
    )]
}

fn wild(f: &Findings) -> Vec<String> {
    let theta = &f.fitted.solution.theta;
    let wild = (0..f.points.len()).filter(|i| f.uses[*i] == Use::Wild);
    wild.map(|i| {
        let of_point = rows(f.points, f.predictors, &[i]);
        let worst = of_point.iter().map(|r| (r.kind, r.residual(theta))).max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
        let (kind, residual) = worst.unwrap_or((Kind::Itl, 0.0));
        let name = match kind {
            Kind::Ttft => "TTFT",
            Kind::Itl => "ITL",
            Kind::Response => "response time",
        };
        format!(
            "{}: the {name} at {} is {:.2} times the predicted one; it has little weight",
            f.points[i].origin,
            f.points[i].load,
            (-residual).exp()
        )
    })
    .collect()
}

fn put_aside(f: &Findings) -> Vec<String> {
    let list = |how: Use| -> Vec<String> {
        f.points
            .iter()
            .zip(f.uses)
            .filter(|(_, u)| **u == how)
            .map(|(p, _)| format!("{} ({})", p.origin, p.load))
            .collect()
    };
    let mut messages = Vec::new();
    for (how, why) in [
        (Use::BeyondLimit, "beyond the given max-num-seqs or KV memory, not fitted"),
        (Use::QueueDominated, "dominated by queueing, used for the KV memory only"),
        (Use::Overloaded, "fewer requests served than sent, not fitted"),
    ] {
        let found = list(how);
        if !found.is_empty() {
            let shown = if found.len() > 3 { format!("{}, …", found[..3].join(", ")) } else { found.join(", ") };
            messages.push(format!("{} points {why}: {shown}", found.len()));
        }
    }
    messages
}

fn kv_memory(f: &Findings) -> Vec<String> {
    match (f.kv.at_least, f.kv.below, f.options.kv_tokens) {
        (Some(low), Some(high), _) if low >= high => vec![format!(
            "requests queue at {high:.0} KV tokens in one shape while {low:.0} were in use without a queue in another: \
             something else than KV memory bounds the batch (max-num-seqs?)"
        )],
        (Some(low), _, Some(kv)) if low > 1.1 * kv => {
            vec![format!("{low:.0} KV tokens were in use without a queue, more than the {kv:.0} that were given")]
        }
        _ => vec![],
    }
}

fn assumptions(f: &Findings) -> Vec<String> {
    let longest = f.validity.kv_tokens.map_or(0.0, |s| s.to);
    if f.options.max_num_batched_tokens.is_none() && longest > 2048.0 {
        return vec![format!(
            "--max-num-batched-tokens is taken to be {USUAL_BUDGET}: it decides how prompts are split"
        )];
    }
    vec![]
}
