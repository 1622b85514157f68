//! Whether one sync reaches the published number in both directions: tolerance, stabilisation, rate policies.

use super::{Problems, Subject};
use crate::observe::FindingKind;
use crate::observe::cluster::{RatePolicy, Rules};

/// Changes of less than this share are ignored where nothing else is said.
const DEFAULT_TOLERANCE: f64 = 0.1;
/// Seconds for which the highest number wins on the way down where nothing else is said.
const DEFAULT_DOWN_STABILIZATION: i64 = 300;
/// Seconds between two syncs of the HPA controller.
const SYNC_SECONDS: i64 = 15;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Direction {
    fn field(self) -> &'static str {
        match self {
            Self::Up => "scaleUp",
            Self::Down => "scaleDown",
        }
    }
}

pub(super) fn check(
    subject: &Subject<'_>,
    whose: &str,
    up: Option<&Rules>,
    down: Option<&Rules>,
    scaler_min: i64,
    problems: &mut Problems,
) {
    tolerance(subject, whose, up, down, problems);
    for (direction, rules) in [(Direction::Up, up), (Direction::Down, down)] {
        let default = Rules::default();
        let rules = rules.unwrap_or(&default);
        stabilization(whose, direction, rules, problems);
        rate(subject, whose, direction, rules, scaler_min, problems);
    }
}

fn tolerance(subject: &Subject<'_>, whose: &str, up: Option<&Rules>, down: Option<&Rules>, problems: &mut Problems) {
    let of = |rules: Option<&Rules>| rules.and_then(|r| r.tolerance).unwrap_or(DEFAULT_TOLERANCE);
    let (up, down) = (of(up), of(down));
    if up == 0.0 && down == 0.0 {
        return;
    }
    let most = subject.pool().max;
    let lost = largest_ignored(most, up.max(down));
    if subject.is_before(33) {
        // There is nothing to write on such a server; where no step is lost there is nothing to say either.
        if lost > 0 {
            let message = format!(
                "{whose} ignores changes of up to {lost} at {most} replicas, and this server has no `tolerance` field \
                 (it came with 1.33): start kube-controller-manager with --horizontal-pod-autoscaler-tolerance=0, or \
                 expect replicas up to 10 % off"
            );
            problems.notes(FindingKind::ScalerServer, message);
        }
        return;
    }
    let gate = if subject.is_before(35) {
        " (this server needs the feature gate HPAConfigurableTolerance for it, else the field is dropped)"
    } else {
        ""
    };
    let what = if lost > 0 {
        format!("changes of up to {lost} at {most} replicas are ignored")
    } else {
        "the surge of a rolling update can stay".to_owned()
    };
    let message = format!(
        "{whose} has tolerance {up} up and {down} down: {what}; write `tolerance: \"0\"` under `behavior.scaleUp` and \
         `behavior.scaleDown`{gate}"
    );
    if lost > 0 && subject.is_before(35) {
        problems.notes(FindingKind::ScalerServer, message);
    } else if lost > 0 {
        problems.blocks(FindingKind::ScalerTolerance, message);
    } else {
        problems.notes(FindingKind::ScalerTolerance, message);
    }
}

/// The largest change from `replicas` that lies within the tolerance.
fn largest_ignored(replicas: u32, tolerance: f64) -> u32 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Not negative, and at most u32::MAX.
    {
        // Rounded as the controller's floats are: 10 -> 9 at a tolerance of 0.1 is within.
        (f64::from(replicas) * tolerance.clamp(0.0, 1.0) + 1e-9).floor() as u32
    }
}

fn stabilization(whose: &str, direction: Direction, rules: &Rules, problems: &mut Problems) {
    let default = if direction == Direction::Down { DEFAULT_DOWN_STABILIZATION } else { 0 };
    let seconds = rules.stabilization_seconds.unwrap_or(default);
    if seconds > 0 {
        let field = direction.field();
        let message = format!(
            "{whose} waits {seconds} s more before it follows ({field}.stabilizationWindowSeconds), on top of the wait \
             that the policy already makes; write {field}.stabilizationWindowSeconds: 0"
        );
        problems.blocks(FindingKind::ScalerBehavior, message);
    }
}

fn rate(
    subject: &Subject<'_>,
    whose: &str,
    direction: Direction,
    rules: &Rules,
    scaler_min: i64,
    problems: &mut Problems,
) {
    let (pool, field) = (subject.pool(), direction.field());
    let (least, most) = (i64::from(pool.min).max(scaler_min).max(0), i64::from(pool.max));
    let span = (most - least).max(1);
    let write = format!("write `policies: [{{type: Pods, value: {}, periodSeconds: 15}}]` under {field}", most.max(1));
    let select = rules.select.as_deref().unwrap_or("Max");
    if select == "Disabled" {
        let message = format!("{whose} never goes this way: {field}.selectPolicy is Disabled; remove it and {write}");
        problems.blocks(FindingKind::ScalerBehavior, message);
        return;
    }
    let default = match direction {
        Direction::Up => vec![policy("Pods", 4), policy("Percent", 100)],
        Direction::Down => vec![policy("Percent", 100)],
    };
    let policies = rules.policies.as_ref().unwrap_or(&default);
    let reaches = |policy: &RatePolicy| {
        let at_once = policy.period_seconds <= SYNC_SECONDS;
        let share = match direction {
            // From the fewest replicas to the most; a share of nothing is nothing.
            Direction::Up => least.saturating_mul(policy.value) / 100,
            Direction::Down => most.saturating_mul(policy.value) / 100,
        };
        at_once && if policy.kind == "Percent" { share >= span } else { policy.value >= span }
    };
    let enough = if select == "Min" { policies.iter().all(reaches) } else { policies.iter().any(reaches) };
    if enough {
        return;
    }
    let only_percent = policies.iter().all(|policy| policy.kind == "Percent");
    let message = if direction == Direction::Up && only_percent && least == 0 {
        format!("{whose} never leaves 0: {field} has only Percent policies, and a share of nothing is nothing; {write}")
    } else {
        format!("{whose} needs several syncs for a change of {span} ({field} policies are smaller); {write}")
    };
    problems.blocks(FindingKind::ScalerBehavior, message);
}

fn policy(kind: &str, value: i64) -> RatePolicy {
    RatePolicy { kind: kind.to_owned(), value, period_seconds: SYNC_SECONDS }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the controller's arithmetic at the default tolerance.
    #[test]
    fn ignored_steps_are_those_of_the_controller() {
        for (replicas, ignored) in [(0, 0), (1, 0), (9, 0), (10, 1), (19, 1), (20, 2), (30, 3), (50, 5), (100, 10)] {
            assert_eq!(largest_ignored(replicas, 0.1), ignored, "{replicas}");
        }
        assert_eq!(largest_ignored(u32::MAX, f64::MAX), u32::MAX);
    }
}
