//! The metric families that come from a decision.

use std::collections::BTreeMap;
use std::fmt;

use super::metrics::{Labels, Page};
use super::number;
use crate::control::{AcceleratorUse, ClassDecision, Decision, Latency, LimitUse, ModelDecision, PoolDecision};
use crate::observe::FindingKind;
use crate::policy::{Mode, Promise};

/// Write every family of this decision.
pub(super) fn decision(page: &mut Page<'_>, decision: &Decision) -> fmt::Result {
    published(page, decision)?;
    replicas(page, &decision.pools)?;
    follows(page, decision)?;
    inputs(page, &decision.pools)?;
    correction(page, &decision.pools)?;
    load(page, &decision.pools)?;
    latency(page, &decision.pools)?;
    fleet(page, decision)?;
    classes(page, decision)?;
    models(page, decision)?;
    solver(page, decision)
}

/// `namespace`, `pool`, `model`.
fn labels(pool: &PoolDecision) -> Labels<'_> {
    vec![("namespace", &pool.namespace), ("pool", &pool.pool), ("model", &pool.model)]
}

fn with<'a>(mut labels: Labels<'a>, name: &'static str, value: &'a str) -> Labels<'a> {
    labels.push((name, value));
    labels
}

/// One value per pool under `namespace`, `pool`, `model`.
fn per_pool(
    page: &mut Page<'_>,
    pools: &[PoolDecision],
    name: &str,
    help: &str,
    value: impl Fn(&PoolDecision) -> Option<f64>,
) -> fmt::Result {
    page.gauges(name, help, pools.iter().map(|pool| (labels(pool), value(pool))))
}

/// The numbers that somebody follows, and the shadow of those nobody should.
fn published(page: &mut Page<'_>, decision: &Decision) -> fmt::Result {
    let pools = decision.pools.as_slice();
    let error = decision.source_error.as_deref();
    let desired = |pool: &PoolDecision| number::of_pool(pool, error).ok().map(f64::from);
    let help = "Replicas the pool should run. Only pools in mode act.";
    per_pool(page, pools, "poolwright_desired_replicas", help, desired)?;
    let help = "The same as poolwright_desired_replicas, under the name and labels known from WVA.";
    let alias = pools.iter().map(|pool| {
        let labels: Labels<'_> =
            vec![("namespace", &pool.namespace), ("variant_name", &pool.pool), ("accelerator_type", &pool.accelerator)];
        (labels, desired(pool))
    });
    page.gauges("wva_desired_replicas", help, alias)?;
    let help = "Replicas poolwright would run. Only pools in mode advise; nobody should follow it.";
    per_pool(page, pools, "poolwright_advised_replicas", help, |pool| {
        (pool.mode == Mode::Advise).then_some(pool.desired).flatten().map(f64::from)
    })
}

fn replicas(page: &mut Page<'_>, pools: &[PoolDecision]) -> fmt::Result {
    let help = "Replicas seen: state ready serves, state starting is wanted and does not serve yet.";
    let current = pools.iter().flat_map(|pool| {
        let ready = (with(labels(pool), "state", "ready"), pool.ready.map(f64::from));
        [ready, (with(labels(pool), "state", "starting"), pool.starting.map(f64::from))]
    });
    page.gauges("poolwright_current_replicas", help, current)?;
    let help = "Replicas the plan asked for, before the safety rules.";
    per_pool(page, pools, "poolwright_planned_replicas", help, |pool| pool.planned.map(f64::from))?;
    let help = "What is done with the pool's number: off, advise or act; always 1.";
    let modes = pools.iter().map(|pool| (with(labels(pool), "mode", pool.mode.as_str()), Some(1.0)));
    page.gauges("poolwright_pool_mode", help, modes)?;
    let help = "What keeps the pool's number from being another one; always 1.";
    let bindings = pools.iter().map(|pool| (with(labels(pool), "binding", pool.binding.as_str()), Some(1.0)));
    page.gauges("poolwright_pool_binding", help, bindings)
}

/// Whether what scales a pool sets exactly its number. Only of acting pools in a cluster, where it is known.
fn follows(page: &mut Page<'_>, decision: &Decision) -> fmt::Result {
    let nobody = |pool: &PoolDecision| {
        let id = format!("{}/{}", pool.namespace, pool.pool);
        decision.findings.iter().any(|f| f.kind == FindingKind::NoScaler && f.subject == id)
    };
    let help = "1 when the pool's HPA or ScaledObject sets exactly its number, as far as its settings tell, else 0.";
    per_pool(page, &decision.pools, "poolwright_pool_follows", help, |pool| {
        let cluster = pool.cluster.as_ref().filter(|_| pool.mode == Mode::Act)?;
        match &cluster.scaler {
            Some(scaler) => Some(f64::from(u8::from(scaler.follows))),
            None => nobody(pool).then_some(0.0),
        }
    })
}

fn inputs(page: &mut Page<'_>, pools: &[PoolDecision]) -> fmt::Result {
    let help = "Age of the oldest measurement the pool's decision used, seconds.";
    per_pool(page, pools, "poolwright_input_age_seconds", help, |pool| pool.input_age_seconds)?;
    let qualities: Vec<String> = pools
        .iter()
        .map(|pool| {
            serde_json::to_value(pool.quality).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
        })
        .collect();
    let help = "How far the pool's measurements can be trusted: fresh, confirmed-idle, stale or missing; always 1.";
    let series =
        pools.iter().zip(&qualities).map(|(pool, quality)| (with(labels(pool), "quality", quality), Some(1.0)));
    page.gauges("poolwright_input_quality", help, series)
}

/// What the servers made of the performance figures they were given.
fn correction(page: &mut Page<'_>, pools: &[PoolDecision]) -> fmt::Result {
    let help = "Factors on the pool's performance figures as its servers showed them: iteration (fixed time), tokens, kv, and itl where the pool is operated; above 1 is slower than stated.";
    let factors = pools.iter().filter_map(|pool| Some((pool, pool.live?))).flat_map(|(pool, live)| {
        let parts = [("iteration", live.iteration), ("tokens", live.tokens), ("kv", live.kv), ("itl", live.itl)];
        parts.map(|(factor, value)| (with(labels(pool), "factor", factor), Some(value)))
    });
    page.gauges("poolwright_pool_correction_ratio", help, factors)?;
    let help = "Share of a replica's capacity kept in reserve after what its servers showed, 0 to 1.";
    per_pool(page, pools, "poolwright_pool_reserve_ratio", help, |pool| pool.live.map(|live| live.spread))?;
    let help =
        "1 while the pool's servers are further from their performance figures than the evidence for these allows.";
    per_pool(page, pools, "poolwright_pool_model_drift", help, |pool| {
        pool.live.map(|live| f64::from(u8::from(live.drift)))
    })
}

fn load(page: &mut Page<'_>, pools: &[PoolDecision]) -> fmt::Result {
    type Value = fn(&PoolDecision) -> Option<f64>;
    let families: [(&str, &str, Value); 8] = [
        ("poolwright_pool_arrival_rate", "Offered load seen, requests per second.", |p| p.arrival_rate),
        ("poolwright_pool_planned_rate", "Load the plan sends to the pool, requests per second.", |p| {
            Some(p.planned_rate)
        }),
        (
            "poolwright_replica_capacity_rate",
            "Highest load of one replica within the targets, for the mix it is given, requests per second.",
            |p| p.replica_capacity,
        ),
        (
            "poolwright_pool_capacity_stretch_ratio",
            "Load that a replica is given over what its figures say, because few requests were late; 1 is what they say.",
            |p| p.capacity_stretch,
        ),
        ("poolwright_running_requests", "Requests in execution.", |p| p.running),
        ("poolwright_waiting_requests", "Requests waiting.", |p| p.waiting),
        ("poolwright_kv_usage_ratio", "Use of the KV cache, 0 to 1, mean over the replicas.", |p| p.kv_usage),
        ("poolwright_pool_cost_per_hour", "Cost of the desired replicas per hour, in the policy's currency.", |p| {
            Some(p.cost_per_hour)
        }),
    ];
    families.into_iter().try_for_each(|(name, help, value)| per_pool(page, pools, name, help, value))
}

fn latency(page: &mut Page<'_>, pools: &[PoolDecision]) -> fmt::Result {
    type Part = fn(&PoolDecision) -> Latency;
    type Value = fn(Latency) -> Option<f64>;
    let kinds: [(&str, &str, Part); 2] =
        [("ttft", "Time to first token", |p| p.ttft), ("itl", "Mean time per output token of a request", |p| p.itl)];
    for (kind, words, part) in kinds {
        let families: [(&str, &str, Value); 3] = [
            ("observed", "at the tightest class's percentile, measured over the window, seconds.", |l| {
                l.observed_seconds
            }),
            ("predicted", "at the tightest class's percentile, as the plan expects it, seconds.", |l| {
                l.predicted_seconds
            }),
            ("target", "promised by the tightest class, seconds.", |l| l.target_seconds),
        ];
        for (name, about, value) in families {
            let name = format!("poolwright_{kind}_{name}_seconds");
            per_pool(page, pools, &name, &format!("{words} {about}"), |pool| value(part(pool)))?;
        }
        let name = format!("poolwright_{kind}_quantile");
        let help = format!("Quantile, 0 to 1, that poolwright_{kind}_*_seconds speak of.");
        per_pool(page, pools, &name, &help, |pool| part(pool).quantile)?;
    }
    Ok(())
}

fn fleet(page: &mut Page<'_>, decision: &Decision) -> fmt::Result {
    type Use = fn(&AcceleratorUse) -> u32;
    let currency = || -> Labels<'_> { vec![("currency", &decision.currency)] };
    let help = "Cost per hour of the replicas that are ready or starting.";
    page.gauges("poolwright_current_cost_per_hour", help, [(currency(), Some(decision.current_cost_per_hour))])?;
    let help = "Cost per hour of the desired replicas.";
    page.gauges("poolwright_planned_cost_per_hour", help, [(currency(), Some(decision.planned_cost_per_hour))])?;
    let families: [(&str, &str, Use); 3] = [
        ("poolwright_accelerator_stock", "Accelerators that can be had.", |a| a.stock),
        ("poolwright_accelerator_in_use", "Accelerators in replicas that are ready or starting.", |a| a.in_use),
        ("poolwright_accelerator_planned", "Accelerators in desired replicas.", |a| a.planned),
    ];
    for (name, help, value) in families {
        let series = decision.accelerators.iter().map(|a| {
            let labels: Labels<'_> = vec![("accelerator", &a.accelerator)];
            (labels, Some(f64::from(value(a))))
        });
        page.gauges(name, help, series)?;
    }
    type Limit = fn(&LimitUse) -> f64;
    let families: [(&str, &str, Limit); 3] = [
        (
            "poolwright_limit_most",
            "Most of a limit: accelerators, currency per hour or watts, as the scope says.",
            |l| l.most,
        ),
        ("poolwright_limit_in_use", "What replicas that are ready or starting use of a limit.", |l| l.in_use),
        ("poolwright_limit_planned", "What desired replicas use of a limit.", |l| l.planned),
    ];
    for (name, help, value) in families {
        let series = decision.limits.iter().map(|l| {
            let labels: Labels<'_> = vec![("limit", &l.limit), ("scope", l.scope.as_str())];
            (labels, Some(value(l)))
        });
        page.gauges(name, help, series)?;
    }
    let mut findings: BTreeMap<&str, f64> = BTreeMap::new();
    for finding in &decision.findings {
        *findings.entry(finding.kind.as_str()).or_default() += 1.0;
    }
    let help = "Findings about the data in the last observation, by kind.";
    page.gauges("poolwright_findings", help, findings.into_iter().map(|(kind, n)| (vec![("kind", kind)], Some(n))))
}

fn classes(page: &mut Page<'_>, decision: &Decision) -> fmt::Result {
    type Value = fn(&ClassDecision) -> Option<f64>;
    let families: [(&str, &str, Value); 5] = [
        (
            "poolwright_class_attainment_ratio",
            "Share of the window's requests within both targets, 0 to 1; absent without requests.",
            |c| c.attainment,
        ),
        (
            "poolwright_class_target_ratio",
            "Share of the requests that must be within both targets, 0 to 1; absent for a deadline class.",
            |c| match c.promise {
                Promise::Latency { quantile, .. } => Some(quantile),
                Promise::Deadline { .. } => None,
            },
        ),
        ("poolwright_class_demand_rate", "Load planned for, requests per second.", |c| Some(c.demand_rate)),
        (
            "poolwright_class_shortfall_rate",
            "Part of the load that cannot be served within the targets, requests per second.",
            |c| Some(c.shortfall_rate),
        ),
        ("poolwright_class_infeasible_cells", "Kinds of requests that no pool can serve within the targets.", |c| {
            Some(c.infeasible.len() as f64)
        }),
    ];
    families.into_iter().try_for_each(|(name, help, value)| {
        let series = decision.classes.iter().map(|class| {
            let labels: Labels<'_> = vec![("class", &class.class)];
            (labels, value(class))
        });
        page.gauges(name, help, series)
    })
}

fn models(page: &mut Page<'_>, decision: &Decision) -> fmt::Result {
    type Value = fn(&ModelDecision) -> Option<f64>;
    let families: [(&str, &str, Value); 5] = [
        ("poolwright_model_offered_rate", "Offered load now, requests per second.", |m| m.offered_rate),
        ("poolwright_model_planned_rate", "Load planned for, requests per second.", |m| Some(m.planned_rate)),
        ("poolwright_model_horizon_seconds", "How far ahead the plan looks, seconds.", |m| Some(m.horizon_seconds)),
        ("poolwright_model_input_tokens", "Prompt length planned with, tokens.", |m| Some(m.input_tokens)),
        ("poolwright_model_output_tokens", "Output length planned with, tokens.", |m| Some(m.output_tokens)),
    ];
    for (name, help, value) in families {
        let series = decision.models.iter().map(|model| {
            let labels: Labels<'_> = vec![("namespace", &model.namespace), ("model", &model.model)];
            (labels, value(model))
        });
        page.gauges(name, help, series)?;
    }
    let routes = decision.models.iter().flat_map(|model| {
        model.routes.iter().map(move |route| {
            // A route names its pool as namespace/name; the namespace is a label of its own.
            let pool = route.pool.split_once('/').map_or(route.pool.as_str(), |(_, name)| name);
            let labels: Labels<'_> =
                vec![("namespace", &model.namespace), ("model", &model.model), ("class", &route.class), ("pool", pool)];
            (labels, Some(route.share))
        })
    });
    page.gauges("poolwright_route_share_ratio", "Share of a class's load the pool should receive, 0 to 1.", routes)
}

fn solver(page: &mut Page<'_>, decision: &Decision) -> fmt::Result {
    let solve = &decision.solve;
    let info: Labels<'_> = vec![("solver", &solve.solver)];
    page.gauges("poolwright_solver_info", "What found the last plan; always 1.", [(info, Some(1.0))])?;
    page.gauge("poolwright_solver_work_units", "Units of work the last plan took.", solve.work_units as f64)?;
    let help = "(cost - bound) / cost of the last plan; 0 when it is proven optimal.";
    page.gauge("poolwright_solver_gap_ratio", help, solve.gap)?;
    let help = "Plans of the last decision that the independent check refused and replaced.";
    page.gauge("poolwright_solver_refused_plans", help, f64::from(solve.refused))
}
