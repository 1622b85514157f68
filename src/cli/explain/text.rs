//! From a decision to sentences about one pool, class or accelerator. Every number comes from the decision.

use std::fmt;

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use super::names::Subject;
use crate::control::{
    AcceleratorUse, AcceleratorValue, ClassDecision, Decision, Latency, OtherChoice, PoolDecision, Relaxation,
};
use crate::policy::units::Duration;
use crate::policy::{Mode, Promise};

/// The answer.
#[derive(Debug, Serialize)]
pub struct Explanation<'d> {
    /// `pool`, `class` or `accelerator`.
    kind: &'static str,
    name: String,
    at_seconds: f64,
    policy: &'d str,
    why_this_many: Vec<String>,
    why_this_hardware: Vec<String>,
    what_would_change_it: Vec<String>,
    /// What is not said, and why.
    unknown: Vec<String>,
    /// What the sentences were made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<&'d PoolDecision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'d ClassDecision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accelerator: Option<&'d AcceleratorUse>,
    accelerators: Vec<&'d AcceleratorValue>,
    relaxations: Vec<&'d Relaxation>,
}

pub fn explain(decision: &Decision, subject: Subject, unknown: Vec<String>) -> Explanation<'_> {
    let facts = Facts { decision };
    let base = Explanation {
        kind: "",
        name: String::new(),
        at_seconds: decision.at_seconds,
        policy: &decision.policy,
        why_this_many: vec![],
        why_this_hardware: vec![],
        what_would_change_it: vec![],
        unknown,
        pool: None,
        class: None,
        accelerator: None,
        accelerators: vec![],
        relaxations: vec![],
    };
    let mut answer = match subject {
        Subject::Pool(p) => facts.pool(&decision.pools[p], base),
        Subject::Class(c) => facts.class(&decision.classes[c], base),
        Subject::Accelerator(a) => facts.accelerator(&decision.accelerators[a], base),
    };
    let values = answer.accelerators.iter().map(|v| sentence(&v.sentence));
    let values: Vec<String> = values.chain(answer.relaxations.iter().map(|r| sentence(&r.sentence))).collect();
    answer.what_would_change_it.extend(values);
    answer
}

struct Facts<'d> {
    decision: &'d Decision,
}

impl<'d> Facts<'d> {
    fn pool(&self, pool: &'d PoolDecision, base: Explanation<'d>) -> Explanation<'d> {
        let id = id(pool);
        let beside = |other: &&PoolDecision| other.model == pool.model && other.namespace == pool.namespace;
        let others = self.decision.pools.iter().filter(beside).filter(|o| o.pool != pool.pool);
        let mut hardware = vec![self.hardware(pool)];
        hardware.extend(others.map(|other| self.hardware(other)));
        if hardware.len() == 1 {
            hardware.push(format!("It is the only pool of {}.", pool.model));
        }
        let without = pool.alternatives.iter().find(|a| a.choice == OtherChoice::Without);
        hardware.extend(without.or_else(|| self.without(pool)).map(|a| sentence(&a.sentence)));
        let routed = |class: &str| {
            let routes = self.decision.models.iter().filter(|m| m.model == pool.model && m.namespace == pool.namespace);
            routes.flat_map(|m| &m.routes).any(|r| r.class == class)
        };
        let moves = |r: &&Relaxation| routed(&r.class) || r.gain.changes.iter().any(|c| c.pool == id);
        let threshold = threshold(pool);
        Explanation {
            kind: "pool",
            name: id.clone(),
            what_would_change_it: threshold.into_iter().collect(),
            why_this_many: self.why_this_many(pool),
            why_this_hardware: hardware,
            accelerators: self.values(|v| v.accelerators.contains(&pool.accelerator)),
            relaxations: self.relaxations().filter(moves).collect(),
            pool: Some(pool),
            ..base
        }
    }

    /// Where the plan without the pool is the same as the one with a replica less, that one is kept.
    fn without(&self, pool: &'d PoolDecision) -> Option<&'d crate::control::OtherPlan> {
        pool.alternatives.iter().find(|a| a.choice == OtherChoice::Fewer && a.replicas == 0)
    }

    fn why_this_many(&self, pool: &PoolDecision) -> Vec<String> {
        let running = match (pool.ready, pool.starting) {
            (Some(ready), Some(starting)) if starting > 0 => format!("; {ready} are ready and {starting} start"),
            (Some(ready), _) if pool.desired != Some(ready) => format!("; {ready} {} ready", are(ready)),
            _ => String::new(),
        };
        let mut said = vec![match pool.desired {
            Some(n) => format!("{}{running}: {}.", replicas(n), pool.reason),
            // The reason says that none is given.
            None => sentence(&format!("{}{running}", pool.reason)),
        }];
        if pool.planned.is_some_and(|planned| Some(planned) != pool.desired) {
            let planned = pool.planned.unwrap_or(0);
            said.push(format!("The plan itself asks for {planned}; the safety rules make the difference."));
        }
        said.extend(pool.level.as_ref().map(|level| format!("It is run {}.", level.why)));
        said.extend(predicted(pool));
        if !pool.full_limits.is_empty() {
            said.push(format!("There is no room for one more replica: {} used up.", listed(&pool.full_limits)));
        }
        if let Some(next) = &pool.runner_up {
            // Of a pool that changes it is the best plan in which it does not, and another may come nearer.
            let label = if next.choice == OtherChoice::Keep { "Without the change" } else { "Next best" };
            said.push(format!("{label}: {}.", next.sentence));
        }
        let runner_up = pool.runner_up.as_ref().map(|r| r.sentence.as_str());
        let near = pool.alternatives.iter().filter(|a| a.choice != OtherChoice::Without);
        said.extend(near.filter(|a| Some(a.sentence.as_str()) != runner_up).map(|a| sentence(&a.sentence)));
        // Of a pool of which nothing is known the plan says nothing.
        if pool.planned.is_some() {
            said.push(self.certainty());
        }
        said
    }

    /// How good the plan is known to be.
    fn certainty(&self) -> String {
        let solve = &self.decision.solve;
        match solve.gap {
            gap if gap <= 1e-6 && !solve.stopped => "The plan is proven best.".to_owned(),
            // The bound speaks of the cost of plans that serve as much, not of what else could be served.
            gap if gap <= 1e-6 => "The search was ended early; no plan that serves as much costs less.".to_owned(),
            gap => format!(
                "The plan is not proven best: no plan that serves as much costs less than {} (gap {:.1} %).",
                self.money(solve.bound),
                gap * 100.0
            ),
        }
    }

    /// What one replica is, what it carries and what a thousand requests cost on it.
    fn hardware(&self, pool: &PoolDecision) -> String {
        let price = pool.price_per_hour;
        let of = price.map(|p| format!(" for {}", self.money(p))).unwrap_or_default();
        let lead = format!("One replica of {} is {} {}{of}", id(pool), pool.accelerators_per_replica, pool.accelerator);
        let Some(rate) = pool.replica_capacity.filter(|r| *r > 0.0) else {
            return format!("{lead}; {}.", pool.reason);
        };
        let thousand =
            price.map(|p| format!(": {:.2} {} per 1,000 requests", p / (3.6 * rate), self.decision.currency));
        let unused = if pool.planned_rate > 0.0 { "" } else { "; the plan sends it nothing" };
        format!("{lead} and carries {rate:.2} req/s{}{unused}.", thousand.unwrap_or_default())
    }

    fn class(&self, class: &'d ClassDecision, base: Explanation<'d>) -> Explanation<'d> {
        let routes = self.decision.models.iter().flat_map(|m| &m.routes).filter(|r| r.class == class.class);
        let used: Vec<(&PoolDecision, f64)> =
            routes.filter_map(|r| self.decision.pools.iter().find(|p| id(p) == r.pool).map(|p| (p, r.rate))).collect();
        let models: Vec<(&str, &str)> = used.iter().map(|(p, _)| (p.namespace.as_str(), p.model.as_str())).collect();
        let beside =
            |p: &&PoolDecision| models.contains(&(p.namespace.as_str(), p.model.as_str())) && p.mode != Mode::Off;
        let pools: Vec<&PoolDecision> = self.decision.pools.iter().filter(beside).collect();
        let mut hardware: Vec<String> = pools.iter().map(|p| self.hardware(p)).collect();
        hardware.extend(
            used.iter().filter_map(|(p, _)| p.level.as_ref().map(|level| format!("{} is run {}.", id(p), level.why))),
        );
        let mut many = self.class_numbers(class, &used);
        many.extend(self.full_limits(&pools));
        let mut unknown = base.unknown.clone();
        if matches!(class.promise, Promise::Deadline { .. }) && self.decision.analysis.is_some() {
            unknown.push("what a longer deadline would bring: only latency targets are relaxed".to_owned());
        }
        Explanation {
            unknown,
            kind: "class",
            name: class.class.clone(),
            why_this_many: many,
            why_this_hardware: hardware,
            accelerators: self.values(|v| pools.iter().any(|p| v.accelerators.contains(&p.accelerator))),
            relaxations: self.relaxations().filter(|r| r.class == class.class).collect(),
            class: Some(class),
            ..base
        }
    }

    fn class_numbers(&self, class: &ClassDecision, used: &[(&PoolDecision, f64)]) -> Vec<String> {
        let promise = match class.promise {
            Promise::Latency { quantile, ttft_seconds, itl_seconds } => {
                let of = |name: &str, s: f64| s.is_finite().then(|| format!("{name} {}", words(s)));
                let targets: Vec<String> =
                    [of("TTFT", ttft_seconds), of("ITL", itl_seconds)].into_iter().flatten().collect();
                format!("{} at p{}", targets.join(" and "), percentile(quantile))
            }
            Promise::Deadline { seconds } => format!("an answer within {}", words(seconds)),
        };
        let mut said = vec![format!("It is promised {promise}, with priority {}.", class.priority)];
        // Work that may wait is sent wherever there is room, more of it than the plan had to find room for.
        let sent: f64 = used.iter().map(|(_, rate)| rate).sum();
        let fills = sent > class.demand_rate * (1.0 + 1e-6);
        let planned = match fills {
            true => format!("{:.2} req/s must be served now to keep the promise", class.demand_rate),
            false => format!("{:.2} req/s are planned for", class.demand_rate),
        };
        let is_short = class.shortfall_rate > 1e-6 * class.demand_rate.max(1e-3);
        said.push(match (class.demand_rate > 0.0, is_short) {
            (false, _) => "No load is planned for.".to_owned(),
            (_, false) => format!("{planned}; all of it is served in time."),
            (_, true) => {
                format!("{planned}; {:.2} req/s of it miss the target, because there is no room.", class.shortfall_rate)
            }
        });
        if !class.infeasible.is_empty() {
            said.push(format!("No pool can meet the targets of {}; it is served late.", class.infeasible.join(", ")));
        }
        for (pool, rate) in used {
            let n = pool.planned.or(pool.desired).unwrap_or(0);
            let shared = if pool.planned_rate > rate * (1.0 + 1e-6) { ", shared with other classes" } else { "" };
            let up_to = if fills { "Up to " } else { "" };
            said.push(format!("{up_to}{rate:.2} req/s go to {}, planned at {}{shared}.", id(pool), replicas(n)));
        }
        if fills {
            said.push("That is more than must be served now: what waits fills the room that is left there.".to_owned());
        }
        if let Some(predicted) = class.predicted {
            let latency = |name: &str, s: Option<f64>| s.map(|s| format!("{name} {}", short(s)));
            let latencies: Vec<String> =
                [latency("TTFT", predicted.ttft_seconds), latency("ITL", predicted.itl_seconds)]
                    .into_iter()
                    .flatten()
                    .chain(predicted.attainment.map(|a| format!("at least {:.1} % of the requests in time", a * 100.0)))
                    .collect();
            said.push(format!("The plan predicts {}.", latencies.join(", ")));
        }
        said.extend(class.attainment.map(|a| format!("Measured now: {:.1} % of the requests in time.", a * 100.0)));
        said
    }

    fn accelerator(&self, used: &'d AcceleratorUse, base: Explanation<'d>) -> Explanation<'d> {
        let name = &used.accelerator;
        let pools: Vec<&PoolDecision> = self.decision.pools.iter().filter(|p| p.accelerator == *name).collect();
        let free = used.stock.saturating_sub(used.planned);
        let mut many = vec![format!(
            "{} of {} {name} are asked for, {} are in use now, {free} stay free.",
            used.planned, used.stock, used.in_use
        )];
        many.extend(pools.iter().map(|pool| {
            let number = pool.desired.map(|n| format!(", takes {}", replicas(n))).unwrap_or_default();
            let each = pool.accelerators_per_replica;
            format!("{}, {each} {name} each{number}: {}.", id(pool), pool.reason)
        }));
        many.extend(self.full_limits(&pools));
        if pools.is_empty() {
            many.push("No pool uses it.".to_owned());
        }
        let of_models = |p: &&PoolDecision| {
            let same = |own: &&PoolDecision| own.model == p.model && own.namespace == p.namespace;
            pools.iter().any(same)
        };
        let moves = |r: &&Relaxation| {
            let is_own = |id_of: &str| pools.iter().any(|p| id(p) == id_of);
            r.gain.changes.iter().any(|c| is_own(&c.pool))
        };
        Explanation {
            kind: "accelerator",
            name: name.clone(),
            why_this_many: many,
            why_this_hardware: self.decision.pools.iter().filter(of_models).map(|p| self.hardware(p)).collect(),
            accelerators: self.values(|v| v.accelerators.contains(name)),
            relaxations: self.relaxations().filter(moves).collect(),
            accelerator: Some(used),
            ..base
        }
    }

    /// What leaves these pools no room for one more replica, and how much of it is taken.
    fn full_limits(&self, pools: &[&PoolDecision]) -> Vec<String> {
        let mut names: Vec<&str> = vec![];
        for name in pools.iter().flat_map(|p| &p.full_limits) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let say = |name: &str| {
            let full = pools.iter().filter(|p| p.full_limits.iter().any(|l| l == name));
            let full: Vec<String> = full.map(|p| id(p)).collect();
            let taken = self.taken(name).map(|taken| format!(": {taken} are asked for")).unwrap_or_default();
            format!("{name} leaves no room for one more replica of {}{taken}.", full.join(" or "))
        };
        names.into_iter().map(say).collect()
    }

    /// `9.1 of 12 USD/h`, `14 of 16 h100`.
    fn taken(&self, limit: &str) -> Option<String> {
        let currency = &self.decision.currency;
        if let Some(used) = self.decision.limits.iter().find(|l| l.limit == limit) {
            let amount = |amount: f64| used.scope.amount(amount, "accelerators", currency);
            let planned = amount(used.planned);
            // The unit once.
            let number = planned.split(' ').next().unwrap_or(&planned);
            return Some(format!("{number} of {}", amount(used.most)));
        }
        let stock = self.decision.accelerators.iter().find(|a| a.accelerator == limit)?;
        Some(format!("{} of {} {limit}", stock.planned, stock.stock))
    }

    fn values(&self, fits: impl Fn(&AcceleratorValue) -> bool) -> Vec<&'d AcceleratorValue> {
        let all = self.decision.analysis.iter().flat_map(|a| &a.accelerators);
        all.filter(|v| fits(v)).collect()
    }

    fn relaxations(&self) -> impl Iterator<Item = &'d Relaxation> + use<'d> {
        self.decision.analysis.iter().flat_map(|a| &a.relaxations)
    }

    fn money(&self, amount: f64) -> String {
        format!("{amount:.2} {}/h", self.decision.currency)
    }
}

/// From which load on the plan has another number, as long as the mix of requests stays.
fn threshold(pool: &PoolDecision) -> Option<String> {
    let (n, capacity) = (pool.planned.filter(|n| *n > 0)?, pool.replica_capacity?);
    if pool.planned_rate <= 0.0 {
        return None;
    }
    let (most, rate) = (f64::from(n) * capacity, pool.planned_rate);
    let up = format!("above {most:.2} req/s here ({rate:.2} are planned) the plan needs more than {}", replicas(n));
    let down = (n > 1).then(|| format!(", at {:.2} or less one fewer is enough", most - capacity));
    Some(sentence(&format!("{up}{}", down.unwrap_or_default())))
}

fn listed(names: &[String]) -> String {
    if names.len() == 1 { format!("{} is", names[0]) } else { format!("{} are", names.join(" and ")) }
}

/// What the plan makes of the pool's latencies.
fn predicted(pool: &PoolDecision) -> Option<String> {
    let of = |name: &str, latency: &Latency| {
        let predicted = latency.predicted_seconds?;
        let target = latency.target_seconds.map(|t| format!(" of {} allowed", words(t))).unwrap_or_default();
        Some(format!("{name} {}{target}", short(predicted)))
    };
    let both: Vec<String> = [of("TTFT", &pool.ttft), of("ITL", &pool.itl)].into_iter().flatten().collect();
    let quantile = pool.ttft.quantile.or(pool.itl.quantile)?;
    (!both.is_empty()).then(|| format!("Predicted at p{}: {}.", percentile(quantile), both.join(", ")))
}

fn id(pool: &PoolDecision) -> String {
    format!("{}/{}", pool.namespace, pool.pool)
}

fn replicas(n: u32) -> String {
    if n == 1 { "1 replica".to_owned() } else { format!("{n} replicas") }
}

fn are(n: u32) -> &'static str {
    if n == 1 { "is" } else { "are" }
}

fn percentile(quantile: f64) -> f64 {
    (quantile * 1e4).round() / 100.0
}

fn words(seconds: f64) -> String {
    Duration::from_seconds(seconds).to_string()
}

/// Three digits are enough of a prediction.
fn short(seconds: f64) -> String {
    match seconds {
        s if s < 0.00995 => format!("{:.2}ms", s * 1e3),
        s if s < 0.9995 => format!("{:.0}ms", s * 1e3),
        s => format!("{s:.2}s"),
    }
}

/// A clause as a sentence.
fn sentence(clause: &str) -> String {
    let mut letters = clause.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::from_timestamp_millis((self.at_seconds * 1e3) as i64);
        let time = time.map(|t| format!(" at {}", t.to_rfc3339_opts(SecondsFormat::Secs, true))).unwrap_or_default();
        writeln!(f, "{} {}{time}", self.kind, self.name)?;
        let parts = [
            ("Why this many", &self.why_this_many),
            ("Why this hardware", &self.why_this_hardware),
            ("What would change it", &self.what_would_change_it),
            ("Not known", &self.unknown),
        ];
        for (title, sentences) in parts.into_iter().filter(|(_, s)| !s.is_empty()) {
            writeln!(f, "\n{title}")?;
            for sentence in sentences {
                writeln!(f, "  - {sentence}")?;
            }
        }
        Ok(())
    }
}
