//! What several rules read from what is seen, summed over pods and pools.

use super::{Seen, Setting};
use crate::observe::Histogram;
use crate::policy::Policy;

/// Pools of the given hardware that serve this model.
pub(super) fn pools_of(setting: &Setting<'_>, model: usize) -> Vec<usize> {
    let given = setting.hardware.shares.iter().map(|(pool, _)| *pool);
    given.filter(|p| setting.policy.pools[*p].model == model).collect()
}

/// Replicas of a pool that were asked for and show no gauges yet.
pub(super) fn pending(seen: &Seen<'_>, pool: usize) -> u32 {
    seen.wanted[pool].saturating_sub(seen.replicas[pool].len() as u32)
}

/// Rate of a model over the window, all of its pools, requests per second; `None` when no pool tells one.
pub(super) fn rate_of(policy: &Policy, seen: &Seen<'_>, model: usize) -> Option<f64> {
    let pools = policy.models[model].pools.iter();
    let rates = pools.filter_map(|&p| seen.observation.pools.get(p)?.arrival_rate.value);
    rates.reduce(|a, b| a + b)
}

/// Prompt and answer lengths of a model's requests that were finished in the window, all of its pools.
pub(super) fn lengths_of(policy: &Policy, seen: &Seen<'_>, model: usize) -> (Histogram, Histogram) {
    let (mut input, mut output) = (Histogram::default(), Histogram::default());
    for pool in policy.models[model].pools.iter().filter_map(|p| seen.observation.pools.get(*p)) {
        if let (Some(i), Some(o)) = (&pool.input_tokens.value, &pool.output_tokens.value) {
            input.add(i);
            output.add(o);
        }
    }
    (input, output)
}

/// Their means, tokens; what the policy expects where none was finished.
pub(super) fn mean_lengths(policy: &Policy, seen: &Seen<'_>, model: usize) -> Option<(f64, f64)> {
    let (input, output) = lengths_of(policy, seen, model);
    input.mean().zip(output.mean()).or(policy.models[model].expected_shape)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Room, Scene};
    use super::*;
    use crate::observe::Signal;

    #[test]
    fn pools_add_up_and_what_is_not_told_is_no_zero() {
        let room = Room::split(0.5);
        let mut scene = Scene::new(&[2, 1]).rate(0, 3.0).rate(1, 4.0).starting(1, 2);
        assert_eq!(rate_of(&room.policy, &scene.seen(), 0), Some(7.0));
        assert_eq!((pending(&scene.seen(), 0), pending(&scene.seen(), 1)), (0, 2));
        let lengths = scene.observation.pools[1].input_tokens.value.as_mut().expect("lengths");
        (lengths.sum, lengths.count) = (300_000.0, 3000.0);
        assert_eq!(mean_lengths(&room.policy, &scene.seen(), 0), Some((200.0, 100.0)));
        scene.observation.pools[0].arrival_rate = Signal::missing();
        assert_eq!(rate_of(&room.policy, &scene.seen(), 0), Some(4.0));
        scene.observation.pools[1].arrival_rate = Signal::missing();
        assert_eq!(rate_of(&room.policy, &scene.seen(), 0), None);
        for pool in &mut scene.observation.pools {
            pool.input_tokens = Signal::missing();
        }
        assert_eq!(mean_lengths(&room.policy, &scene.seen(), 0), None);
    }

    #[test]
    fn pools_of_a_model_are_those_given() {
        assert_eq!(pools_of(&Room::split(0.5).setting(0.0), 0), [0, 1]);
        assert_eq!(pools_of(&Room::on(1).setting(0.0), 0), [1]);
    }
}
