//! From what the plan wants to what is said, one pool at a time.

use super::PoolMemory;

/// How much is known of a pool's load and replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// Everything needed to shrink is fresh.
    Full,
    /// Something is stale, partial or missing: the number may grow, never shrink.
    Partial,
    /// Nothing usable: the last number is kept.
    None,
}

/// One pool's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// What the plan wants; `None` when there is no plan.
    pub planned: Option<u32>,
    /// What the pool runs as long as changing to `planned` does not pay; `None` when it may change.
    pub held: Option<u32>,
    pub knowledge: Knowledge,
    /// Replicas that run or start, if known.
    pub current: Option<u32>,
    pub min: u32,
    pub max: u32,
    pub dwell_seconds: f64,
    pub max_step_up: Option<u32>,
    pub max_step_down: Option<u32>,
}

/// Age up to which a number remembered from before a start counts against what is seen to run, seconds.
const REMEMBERED_SECONDS: f64 = 900.0;

/// Which rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The plan as it is.
    Plan,
    /// Data is missing: kept, or grown only.
    Hold,
    /// A smaller number must prove itself first.
    Dwell,
    /// The step was cut.
    Step,
    Min,
    Max,
}

/// What may be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `None`: nothing is known and nothing was ever said, so nothing may be said.
    pub replicas: Option<u32>,
    pub rule: Rule,
}

/// Judge one pool. The memory is updated with what was wanted; what is said is stored by the caller once
/// the order of steps is settled.
pub fn judge(inputs: &Inputs, memory: &mut PoolMemory, now_seconds: f64) -> Verdict {
    if !memory.seen {
        if inputs.knowledge == Knowledge::None || inputs.current.is_none() {
            // Remembered from before the start, possibly long ago: nothing may be said before replicas were counted.
            return Verdict { replicas: None, rule: Rule::Hold };
        }
        memory.seen = true;
        memory.interrupt();
        let age_seconds = memory.said_at_seconds.map_or(0.0, |at| now_seconds - at);
        memory.published = if inputs.knowledge == Knowledge::Full && age_seconds > REMEMBERED_SECONDS {
            // Long ago: what runs now is somebody's will, and all of it is seen.
            inputs.current
        } else {
            memory.published.max(inputs.current)
        };
    }
    // The last word, or what runs: whichever is known. Both are safe to repeat.
    let base = memory.published.or(inputs.current);
    let (Some(planned), true) = (inputs.planned, inputs.knowledge != Knowledge::None) else {
        memory.interrupt();
        return Verdict { replicas: base.map(|n| n.max(inputs.min)), rule: Rule::Hold };
    };
    let meant = inputs.held.unwrap_or(planned);
    // A number that is grown to is wanted, whatever would be best without what runs.
    let is_growth = base.is_some_and(|base| meant > base);
    memory.want(now_seconds, if is_growth { planned.max(meant) } else { planned }, inputs.dwell_seconds);
    let bounded = meant.clamp(inputs.min, inputs.max.max(inputs.min));
    let Some(base) = base else {
        // Never said anything and the replicas are not known: a number could shrink a pool unseen.
        return Verdict { replicas: None, rule: Rule::Hold };
    };
    let (wanted, rule) = match bounded.cmp(&base) {
        std::cmp::Ordering::Less => shrink(inputs, memory, bounded, base, now_seconds),
        std::cmp::Ordering::Greater => grow(inputs, bounded, base),
        // The plan of a pool that is only partly known never asks for less than the last word.
        std::cmp::Ordering::Equal if inputs.knowledge != Knowledge::Full => (base, Rule::Hold),
        std::cmp::Ordering::Equal if meant != planned && bounded == meant => (base, Rule::Dwell),
        std::cmp::Ordering::Equal => (base, Rule::Plan),
    };
    let limit = match rule {
        Rule::Plan if bounded > meant => Rule::Min,
        Rule::Plan if bounded < meant => Rule::Max,
        other => other,
    };
    // A limit that the operator lowered wins over everything but missing data.
    let most = inputs.max.max(inputs.min);
    if wanted > most && inputs.knowledge == Knowledge::Full {
        return Verdict { replicas: Some(most), rule: Rule::Max };
    }
    Verdict { replicas: Some(wanted.max(inputs.min)), rule: limit }
}

fn shrink(inputs: &Inputs, memory: &PoolMemory, wanted: u32, base: u32, now_seconds: f64) -> (u32, Rule) {
    if inputs.knowledge != Knowledge::Full {
        return (base, Rule::Hold);
    }
    let Some(most) = memory.most_wanted(now_seconds, inputs.dwell_seconds) else {
        return (base, Rule::Dwell);
    };
    let proven = most.clamp(wanted, base);
    let stepped = inputs.max_step_down.map_or(proven, |step| proven.max(base.saturating_sub(step)));
    let rule = match (proven > wanted, stepped > proven) {
        (_, true) => Rule::Step,
        (true, false) => Rule::Dwell,
        (false, false) => Rule::Plan,
    };
    (stepped, rule)
}

fn grow(inputs: &Inputs, wanted: u32, base: u32) -> (u32, Rule) {
    let stepped = inputs.max_step_up.map_or(wanted, |step| wanted.min(base.saturating_add(step)));
    (stepped, if stepped < wanted { Rule::Step } else { Rule::Plan })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inputs(planned: u32) -> Inputs {
        Inputs {
            planned: Some(planned),
            held: None,
            knowledge: Knowledge::Full,
            current: Some(5),
            min: 0,
            max: 20,
            dwell_seconds: 120.0,
            max_step_up: None,
            max_step_down: None,
        }
    }

    fn said(n: u32) -> PoolMemory {
        PoolMemory { published: Some(n), seen: true, ..PoolMemory::default() }
    }

    fn verdict(replicas: u32, rule: Rule) -> Verdict {
        Verdict { replicas: Some(replicas), rule }
    }

    #[test]
    fn growth_is_immediate_and_shrinking_proves_itself_first() {
        let mut m = said(5);
        assert_eq!(judge(&inputs(9), &mut m, 0.0), verdict(9, Rule::Plan));
        m.published = Some(9);
        for t in 1..8 {
            assert_eq!(judge(&inputs(3), &mut m, 15.0 * f64::from(t)), verdict(9, Rule::Dwell), "at {t}");
        }
        assert_eq!(judge(&inputs(3), &mut m, 135.0), verdict(3, Rule::Plan));
    }

    #[test]
    fn the_dwell_keeps_the_most_that_was_wanted_in_it() {
        let mut m = said(9);
        for t in 0..20 {
            let wanted = if t == 15 { 6 } else { 3 };
            let v = judge(&inputs(wanted), &mut m, 15.0 * f64::from(t));
            m.published = v.replicas;
        }
        assert_eq!(m.published, Some(6));
    }

    #[test]
    fn a_word_of_long_ago_is_no_base_where_all_that_runs_is_seen() {
        let old = |knowledge: Knowledge, at_seconds: f64| {
            let mut m = PoolMemory { seen: false, said_at_seconds: Some(at_seconds), ..said(16) };
            let inputs = Inputs { knowledge, current: Some(2), ..inputs(2) };
            judge(&inputs, &mut m, 100_000.0).replicas
        };
        assert_eq!(old(Knowledge::Full, 100_000.0 - 60.0), Some(16), "a short absence");
        assert_eq!(old(Knowledge::Full, 0.0), Some(2));
        assert_eq!(old(Knowledge::Partial, 0.0), Some(16), "more may run than is seen");
    }

    #[test]
    fn a_restart_starts_the_dwell_again() {
        let mut m = PoolMemory::default();
        assert_eq!(judge(&inputs(1), &mut m, 1000.0), verdict(5, Rule::Dwell));
    }

    #[test]
    fn partial_data_may_grow_but_never_shrinks() {
        let partial = |planned| Inputs { knowledge: Knowledge::Partial, ..inputs(planned) };
        let mut m = said(5);
        assert_eq!(judge(&partial(8), &mut m, 0.0), verdict(8, Rule::Plan));
        for t in 0..100 {
            assert_eq!(judge(&partial(0), &mut m, 60.0 * f64::from(t)), verdict(5, Rule::Hold));
        }
    }

    #[test]
    fn no_data_keeps_the_last_word_or_what_runs_or_says_nothing() {
        let none = |current| Inputs { planned: None, knowledge: Knowledge::None, current, ..inputs(0) };
        assert_eq!(judge(&none(None), &mut said(7), 0.0), verdict(7, Rule::Hold));
        let partial = Inputs { knowledge: Knowledge::Partial, ..none(Some(4)) };
        assert_eq!(judge(&partial, &mut PoolMemory::default(), 0.0), verdict(4, Rule::Hold));
        let remembered = PoolMemory { published: Some(9), ..PoolMemory::default() };
        let silent = judge(&none(None), &mut remembered.clone(), 0.0);
        assert_eq!(silent.replicas, None, "nothing was seen since the start");
        let seen_again = judge(&Inputs { current: Some(4), ..inputs(2) }, &mut remembered.clone(), 0.0);
        assert_eq!(seen_again, verdict(9, Rule::Dwell));
        let nothing = judge(&none(None), &mut PoolMemory::default(), 0.0);
        assert_eq!(nothing, Verdict { replicas: None, rule: Rule::Hold });
        let unseen = Inputs { current: None, ..inputs(3) };
        assert_eq!(judge(&unseen, &mut PoolMemory::default(), 0.0).replicas, None);
    }

    #[test]
    fn steps_and_limits_are_kept() {
        let stepped = Inputs { max_step_up: Some(2), max_step_down: Some(1), ..inputs(12) };
        assert_eq!(judge(&stepped, &mut said(5), 0.0), verdict(7, Rule::Step));
        let mut m = said(5);
        judge(&Inputs { planned: Some(1), ..stepped }, &mut m, 0.0);
        assert_eq!(judge(&Inputs { planned: Some(1), ..stepped }, &mut m, 130.0), verdict(4, Rule::Step));
        assert_eq!(judge(&Inputs { max: 8, ..inputs(12) }, &mut said(5), 0.0), verdict(8, Rule::Max));
        assert_eq!(judge(&Inputs { min: 6, ..inputs(2) }, &mut said(6), 0.0), verdict(6, Rule::Min));
        assert_eq!(judge(&Inputs { max: 3, ..inputs(9) }, &mut said(5), 0.0), verdict(3, Rule::Max));
    }

    proptest! {
        /// Whatever the plan says and whenever data is lost: without full knowledge no number falls.
        #[test]
        fn missing_data_never_shrinks(
            steps in prop::collection::vec((0u32..30, 0u8..3), 1..60), min in 0u32..3, max in 3u32..25,
        ) {
            let mut m = said(5.clamp(min, max));
            for (i, (planned, known)) in steps.into_iter().enumerate() {
                let knowledge = [Knowledge::Full, Knowledge::Partial, Knowledge::None][usize::from(known)];
                let before = m.published.unwrap();
                let v = judge(&Inputs { knowledge, min, max, ..inputs(planned) }, &mut m, 15.0 * i as f64);
                let after = v.replicas.unwrap();
                if knowledge != Knowledge::Full {
                    prop_assert!(after >= before);
                }
                prop_assert!(after >= min);
                prop_assert!(after <= max.max(before));
                m.published = Some(after);
            }
        }
    }
}
