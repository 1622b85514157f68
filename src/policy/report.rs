//! What a policy says, for people and for editors: the summary of a valid policy and the JSON Schema.

use std::fmt::Write;

use serde_json::{Value, json};

use super::resolved::{Floor, Least, Model, Policy, Pool, Promise};
use super::schema::Document;
use super::units::Duration;

/// The JSON Schema of a policy document.
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(Document).to_value();
    schema["title"] = json!("poolwright policy document");
    // The documents carry `kind` beside their fields, so that only here all keys are known.
    for option in schema["oneOf"].as_array_mut().into_iter().flatten() {
        option["unevaluatedProperties"] = json!(false);
    }
    schema
}

/// A summary of a valid policy: what was understood, defaults and estimates included.
pub fn check_report(policy: &Policy) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = summary(policy, &mut out);
    out
}

fn summary(policy: &Policy, out: &mut String) -> std::fmt::Result {
    let short: String = policy.fingerprint.chars().take(12).collect();
    writeln!(
        out,
        "valid: {}, {}, {}, {} (fingerprint {short})",
        counted(policy.accelerators.len(), "accelerator type"),
        counted(policy.classes.len(), "class"),
        counted(policy.models.len(), "model"),
        counted(policy.pools.len(), "pool")
    )?;
    for a in &policy.accelerators {
        let (name, stock, price, currency) = (&a.name, a.stock, a.price_per_hour, &policy.currency);
        writeln!(out, "accelerator {name}: stock {stock}, {price:.2} {currency}/h each, data sheet {}", a.sheet.name)?;
    }
    for limit in &policy.limits {
        writeln!(out, "limit {}: at most {}", limit.name, limit.words(limit.most, policy))?;
    }
    for schedule in &policy.schedules {
        writeln!(out, "schedule {}: {schedule}", schedule.name)?;
    }
    for class in &policy.classes {
        let wait = if class.may_wait { ", may wait for capacity that others leave" } else { "" };
        writeln!(out, "class {} (priority {}): {}{wait}", class.name, class.priority, promise(&class.promise))?;
    }
    for model in &policy.models {
        writeln!(out, "model {}", model_line(policy, model))?;
        for floor in &model.floors {
            writeln!(out, "  floor {}", floor_line(policy, floor))?;
        }
        for pool in &model.pools {
            writeln!(out, "  pool {}", pool_line(policy, &policy.pools[*pool]))?;
        }
    }
    Ok(())
}

fn counted(n: usize, what: &str) -> String {
    let plural = if what.ends_with('s') { "es" } else { "s" };
    format!("{n} {what}{}", if n == 1 { "" } else { plural })
}

fn promise(promise: &Promise) -> String {
    let time = |seconds: f64| Duration::from_seconds(seconds);
    match *promise {
        Promise::Deadline { seconds } => format!("finished within {}", time(seconds)),
        Promise::Latency { quantile, ttft_seconds, itl_seconds } => {
            let targets = [("TTFT", ttft_seconds), ("ITL", itl_seconds)];
            let given = targets.iter().filter(|(_, t)| t.is_finite()).map(|(n, t)| format!("{n} {}", time(*t)));
            // Percentiles are written with few digits; the quantile's binary rest is noise.
            let percent = (quantile * 1e8).round() / 1e6;
            format!("{} for {percent} % of the requests", given.collect::<Vec<_>>().join(" and "))
        }
    }
}

fn model_line(policy: &Policy, model: &Model) -> String {
    let shares: Vec<String> =
        model.classes.iter().map(|(c, share)| format!("{} {:.0} %", policy.classes[*c].name, 100.0 * share)).collect();
    let architecture = model.architecture.as_ref().map_or("unknown architecture", |a| &a.name);
    format!("{}/{}: {} ({architecture}); {}", model.namespace, model.name, model.served_name, shares.join(", "))
}

fn floor_line(policy: &Policy, floor: &Floor) -> String {
    let least = match floor.least {
        Least::Replicas { pool: Some(pool), replicas } => format!("{replicas} replicas of {}", policy.pools[pool].name),
        Least::Replicas { pool: None, replicas } => format!("{replicas} replicas"),
        Least::Rate { class: Some(class), requests_per_second } => {
            format!("{requests_per_second} req/s of {}", policy.classes[class].name)
        }
        Least::Rate { class: None, requests_per_second } => format!("{requests_per_second} req/s"),
    };
    let when = floor.schedule.map_or("always".to_owned(), |s| format!("during {}", policy.schedules[s].name));
    format!("{least} {when}")
}

fn pool_line(policy: &Policy, pool: &Pool) -> String {
    let p = &pool.parameters;
    let time = |seconds: f64| Duration::from_seconds(seconds);
    format!(
        "{}: {} x {}, {} to {} replicas at {:.2} {}/h, start-up {}, mode {}; an iteration takes {} + {}/token + \
         {}/1000 cached tokens, {:.0} KV tokens ({})",
        pool.name,
        pool.accelerators_per_replica,
        policy.accelerators[pool.accelerator].name,
        pool.min,
        pool.max,
        pool.price_per_hour(&policy.accelerators),
        policy.currency,
        time(pool.startup_seconds),
        pool.mode.as_str(),
        time(p.alpha_seconds),
        time(p.beta_seconds_per_token),
        time(1000.0 * p.gamma_seconds_per_token),
        pool.kv_tokens,
        pool.evidence.as_str()
    )
}
