//! What is kept ready whatever the load is, now: `min`, and floors whose schedules are on or begin within the time
//! that starting takes.

use crate::policy::{Least, Model, Policy};

/// Fewest replicas of a pool or a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Floor {
    pub replicas: u32,
    /// The schedule that asks for them, by index; `None` when they are asked for always.
    pub schedule: Option<usize>,
}

/// A time and how far ahead of it things have to be asked for, seconds. Without a time only what is asked for always
/// counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    pub now_seconds: Option<f64>,
    pub lead_seconds: f64,
}

impl Ahead {
    /// For a demand that is given, at no particular time.
    pub const ALWAYS: Self = Self { now_seconds: None, lead_seconds: 0.0 };

    fn is_on(self, policy: &Policy, schedule: Option<usize>) -> bool {
        match (schedule, self.now_seconds) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(s), Some(now)) => policy.schedules[s].is_on_within(now, self.lead_seconds),
        }
    }
}

/// Fewest replicas of one pool.
pub(super) fn of_pool(policy: &Policy, pool: usize, ahead: Ahead) -> Floor {
    let min = Floor { replicas: policy.pools[pool].min, schedule: None };
    highest(policy, &policy.models[policy.pools[pool].model], Some(pool), ahead, min)
}

/// Fewest replicas of all pools of a model together; 0 when nothing is asked for.
pub(super) fn of_model(policy: &Policy, model: &Model, ahead: Ahead) -> Floor {
    highest(policy, model, None, ahead, Floor::default())
}

fn highest(policy: &Policy, model: &Model, of: Option<usize>, ahead: Ahead, least: Floor) -> Floor {
    let floors = model.floors.iter().filter_map(|floor| match floor.least {
        Least::Replicas { pool, replicas } if pool == of => Some(Floor { replicas, schedule: floor.schedule }),
        _ => None,
    });
    floors.filter(|f| f.replicas > least.replicas).fold(least, |highest, floor| {
        // The time zone is asked only where the answer matters.
        let higher = floor.replicas > highest.replicas && ahead.is_on(policy, floor.schedule);
        if higher { floor } else { highest }
    })
}

/// Raise the demand of a model's classes (class, requests per second) to its floors. Returns what raised it, in words.
pub(super) fn raise(policy: &Policy, model: &Model, classes: &mut [(usize, f64)], ahead: Ahead) -> Option<String> {
    let mut raised = None;
    for floor in &model.floors {
        let Least::Rate { class: only, requests_per_second } = floor.least else { continue };
        if !ahead.is_on(policy, floor.schedule) {
            continue;
        }
        for (class, rate) in classes.iter_mut().filter(|(class, _)| only.is_none_or(|only| only == *class)) {
            let share = model.classes.iter().find(|(c, _)| c == class).map_or(0.0, |(_, share)| *share);
            let least = if only.is_some() { requests_per_second } else { requests_per_second * share };
            if least > *rate {
                *rate = least;
                raised = Some(format!("a floor of {requests_per_second} req/s{}", during(policy, floor.schedule)));
            }
        }
    }
    raised
}

/// ` during office-hours`, or nothing for what is asked for always.
pub(super) fn during(policy: &Policy, schedule: Option<usize>) -> String {
    schedule.map_or(String::new(), |s| format!(" during {}", policy.schedules[s].name))
}
