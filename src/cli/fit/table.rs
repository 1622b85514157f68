//! The result of a fit for people.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use crate::perf::Parameters;
use crate::perf::fit::{ErrorSummary, Fit, Judged, Span, Spread, Use};
use crate::policy::units::Duration;

/// Points shown; of more only those that fit worst.
const SHOWN: usize = 24;

/// Everything about a fit.
pub fn fit(fit: &Fit, notes: &[String]) -> String {
    let mut text = format!("{}\n{}", points(fit), parameters(&fit.parameters, Some(&fit.spread)));
    let _ = writeln!(text, "covers     {}", covered(fit));
    if let Some(line) = kv(fit) {
        let _ = writeln!(text, "KV tokens  {line}");
    }
    let _ = writeln!(text, "misfit     {}", errors(fit.ttft_error, fit.itl_error));
    match &fit.cross_validation {
        Some(c) => {
            let _ = writeln!(text, "left out   {} ({} at a time)", errors(c.ttft, c.itl), c.method);
        }
        None => text.push_str("left out   too few points to leave any out\n"),
    }
    let _ = writeln!(text, "spread     a predicted time is good to about ±{:.0} %", 100.0 * fit.relative_spread);
    for warning in fit.warnings.iter().map(|w| &w.message).chain(notes) {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// One line a parameter.
pub fn parameters(p: &Parameters, spread: Option<&Spread>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, seconds: f64, what: &str, spread: Option<Option<f64>>| {
        let known = match spread {
            Some(Some(s)) => format!("±{:.0} %", 100.0 * s.min(9.99)),
            Some(None) => "not fitted".to_owned(),
            None => String::new(),
        };
        let value = Duration::from_seconds(seconds).to_string();
        let _ = writeln!(text, "{name:<10} {value:>12}  {known:<10}  {what}");
    };
    line("alpha", p.alpha_seconds, "an iteration", spread.map(|s| s.alpha));
    line("beta", p.beta_seconds_per_token, "per prompt token", spread.map(|s| s.beta));
    line("decode", p.decode_seconds_per_token, "per token decoded", spread.map(|s| s.decode));
    line("gamma", p.gamma_seconds_per_token, "per KV token read", spread.map(|s| s.gamma));
    let (attention, overhead) = (p.prompts.attention_seconds_per_pair, p.prompts.overhead_seconds);
    if attention > 0.0 {
        line("attention", attention, "per pair of prompt tokens", spread.map(|s| s.attention));
    }
    if overhead > 0.0 {
        line("overhead", overhead, "a request, before its first token", spread.map(|s| s.overhead));
    }
    if p.experts.all_seconds > 0.0 {
        line("experts", p.experts.all_seconds, "reading all experts", spread.map(|s| s.experts));
    }
    text
}

fn points(fit: &Fit) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["POINT", "LOAD", "IN", "OUT", "TTFT ms", "PREDICTED", "ITL ms", "PREDICTED", "USE"]);
    let mut shown: Vec<&Judged> = fit.points.iter().collect();
    if shown.len() > SHOWN {
        shown.sort_by(|a, b| worst(b).total_cmp(&worst(a)));
        shown.truncate(SHOWN);
    }
    let ms = |seconds: Option<f64>| seconds.map_or_else(|| "–".to_owned(), |s| format!("{:.1}", 1e3 * s));
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    for p in &shown {
        table.add_row([
            Cell::new(&p.origin),
            right(p.load.to_string()),
            right(format!("{:.0}", p.input_tokens)),
            right(format!("{:.0}", p.output_tokens)),
            right(ms(p.ttft.map(|l| l.mean_seconds))),
            right(ms(p.predicted_ttft_seconds)),
            right(ms(p.itl.map(|l| l.mean_seconds))),
            right(ms(p.predicted_itl_seconds)),
            Cell::new(how(p.used)),
        ]);
    }
    table
}

fn how(used: Use) -> &'static str {
    match used {
        Use::Fitted => "fitted",
        Use::Wild => "wild",
        Use::BeyondLimit => "beyond limit",
        Use::QueueDominated => "queue",
        Use::Overloaded => "overload",
    }
}

/// The larger misfit of a point; those that were put aside come last.
fn worst(p: &Judged) -> f64 {
    let miss = |measured: Option<f64>, predicted: Option<f64>| match (measured, predicted) {
        (Some(m), Some(p)) => (p / m).ln().abs(),
        _ => 0.0,
    };
    let size = miss(p.ttft.map(|l| l.mean_seconds), p.predicted_ttft_seconds)
        .max(miss(p.itl.map(|l| l.mean_seconds), p.predicted_itl_seconds));
    if matches!(p.used, Use::Fitted | Use::Wild) { size } else { -1.0 / (1.0 + size) }
}

fn errors(ttft: Option<ErrorSummary>, itl: Option<ErrorSummary>) -> String {
    let of = |name: &str, e: Option<ErrorSummary>| {
        let figures = |e: ErrorSummary| {
            format!("{name} {:.1} % mean, {:.1} % median, {:.1} % p90", 100.0 * e.mean, 100.0 * e.median, 100.0 * e.p90)
        };
        e.map_or_else(|| format!("{name} not measured"), figures)
    };
    format!("{}; {}", of("TTFT", ttft), of("ITL", itl))
}

fn covered(fit: &Fit) -> String {
    let v = &fit.validity;
    let span = |name: &str, span: Option<Span>| {
        span.map(|s| {
            let digits = if s.to < 10.0 && s.to.fract() != 0.0 { 1 } else { 0 };
            match s.to > s.from {
                true => format!("{:.digits$}–{:.digits$} {name}", s.from, s.to),
                false => format!("{:.digits$} {name}", s.to),
            }
        })
    };
    let all = [
        span("at a time", v.concurrency),
        span("requests/s", v.rate_per_second),
        span("prompt tokens", v.input_tokens),
        span("output tokens", v.output_tokens),
        span("KV tokens in use", v.kv_tokens),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn kv(fit: &Fit) -> Option<String> {
    let kv = &fit.kv;
    match (kv.at_least, kv.below, kv.estimate) {
        (_, _, Some(estimate)) => Some(format!(
            "about {estimate:.0}: requests queue from {:.0} on, not yet at {:.0}",
            kv.below?, kv.at_least?
        )),
        (Some(low), None, _) => Some(format!("at least {low:.0}: no point shows a full memory")),
        _ => None,
    }
}
