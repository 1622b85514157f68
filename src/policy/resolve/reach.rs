//! Targets that no pool can meet, however many replicas it has: the latency of a request that is alone
//! on a replica is the least there is.

use super::fleet::Fleet;
use super::model::ModelDraft;
use super::performance::Figures;
use super::pool::PoolDraft;
use crate::perf::Shape;
use crate::policy::document::Report;
use crate::policy::resolved::Promise;
use crate::policy::units::Duration;

/// Lengths assumed where the policy expects none.
const ASSUMED: Shape = Shape { input_tokens: 512.0, output_tokens: 128.0 };

/// Least latencies of a pool.
struct Least<'p> {
    pool: &'p str,
    ttft_seconds: f64,
    itl_seconds: f64,
}

/// Reports every class of a model whose targets none of the model's pools can meet even without load.
///
/// Estimates get the benefit of their known error, so that only what is surely out of reach is refused.
/// Pools whose figures are not known, because something else about them is wrong, are left out.
pub fn unreachable_targets(fleet: &Fleet, models: &[ModelDraft], report: &mut Report) {
    for model in models.iter().filter(|m| m.place.is_sound("spec.demand")) {
        let least: Vec<Least> = model.pools.iter().filter_map(|pool| least(model, pool)).collect();
        for (class, share, position) in &model.classes {
            let Some(class) = fleet.classes[*class].1.as_ref().filter(|_| *share > 0.0) else { continue };
            if let Promise::Latency { ttft_seconds, itl_seconds, .. } = class.promise
                && let Some((message, hint)) = out_of_reach(&least, ttft_seconds, itl_seconds)
            {
                let message = format!("class `{}` promises {message}", class.name);
                report.add(model.place, &format!("spec.classes[{position}]"), message, Some(hint));
            }
        }
    }
}

/// (what is promised in vain, what would be possible).
fn out_of_reach(least: &[Least], ttft_seconds: f64, itl_seconds: f64) -> Option<(String, String)> {
    let meets = |l: &&Least| l.ttft_seconds <= ttft_seconds && l.itl_seconds <= itl_seconds;
    if least.iter().any(|l| meets(&l)) {
        return None;
    }
    let by_ttft = least.iter().min_by(|a, b| a.ttft_seconds.total_cmp(&b.ttft_seconds))?;
    let by_itl = least.iter().min_by(|a, b| a.itl_seconds.total_cmp(&b.itl_seconds))?;
    let time = |seconds: f64| Duration::from_seconds(seconds);
    let mut vain = Vec::new();
    let mut possible = Vec::new();
    if by_ttft.ttft_seconds > ttft_seconds {
        vain.push(format!("a TTFT of {}", time(ttft_seconds)));
        possible.push(format!("the best TTFT is at least {} on pool `{}`", time(by_ttft.ttft_seconds), by_ttft.pool));
    }
    if by_itl.itl_seconds > itl_seconds {
        vain.push(format!("an ITL of {}", time(itl_seconds)));
        possible.push(format!("the best ITL is at least {} on pool `{}`", time(by_itl.itl_seconds), by_itl.pool));
    }
    if vain.is_empty() {
        vain.push(format!("a TTFT of {} with an ITL of {}", time(ttft_seconds), time(itl_seconds)));
        possible.push(format!("pool `{}` has an ITL of {}", by_ttft.pool, time(by_ttft.itl_seconds)));
        possible.push(format!("pool `{}` a TTFT of {}", by_itl.pool, time(by_itl.ttft_seconds)));
    }
    Some((format!("{}, which no pool meets even without load", vain.join(" and ")), possible.join(", ")))
}

/// Latencies of a request that is alone: the prompt in chunks of the token budget, each iteration paying
/// the fixed time and reading what is in the cache; then one token per iteration over a growing context.
fn least<'p>(model: &ModelDraft, pool: &'p PoolDraft) -> Option<Least<'p>> {
    let (input, output) = model.expected_shape.unwrap_or((ASSUMED.input_tokens, ASSUMED.output_tokens));
    let (Figures { parameters: p, margin, .. }, limits) = pool.figures.as_ref()?;
    let chunks = (input / f64::from(limits.max_num_batched_tokens)).ceil().max(1.0);
    let per_prompt_token = p.beta_seconds_per_token + p.gamma_seconds_per_token * (chunks + 1.0) / 2.0;
    let benefit = 1.0 - margin;
    Some(Least {
        pool: &pool.name,
        ttft_seconds: benefit
            * (p.prompts.overhead_seconds
                + p.prompts.attention_seconds(input, input)
                + chunks * (p.alpha_seconds + p.experts.seconds(input))
                + per_prompt_token * input),
        itl_seconds: benefit * p.iteration_seconds(0.0, 1.0, input + output / 2.0),
    })
}
