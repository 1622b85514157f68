//! Who was served in time outside and inside given stretches of the run, such as those of a fault.
//!
//! The rule is that of the books: met, missed or open. A request belongs to a window when it arrived in it,
//! ends included; when it finished does not matter.

use serde::Serialize;

use super::account::{is_met, is_overdue};
use super::engine::Completion;
use super::workload::Request;
use crate::policy::SloClass;

/// A stretch of the run, seconds since its start, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Window {
    pub from_seconds: f64,
    pub to_seconds: f64,
}

impl Window {
    pub fn contains(&self, at_seconds: f64) -> bool {
        self.from_seconds <= at_seconds && at_seconds <= self.to_seconds
    }
}

/// Requests by their fate; arrived = met + missed + open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Served {
    pub arrived: u64,
    pub met: u64,
    /// Late, failed, or unfinished and too late already.
    pub missed: u64,
    /// Unfinished, and still within its targets.
    pub open: u64,
}

impl Served {
    /// Share of the decided requests that were met, 0..=1; `None` before any.
    pub fn attainment(&self) -> Option<f64> {
        let decided = self.met + self.missed;
        (decided > 0).then(|| self.met as f64 / decided as f64)
    }
}

/// One class, counted outside and inside the windows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassService {
    pub class: String,
    pub outside: Served,
    pub inside: Served,
}

/// Count finished requests and unfinished ones with the times of their first tokens. A class that the
/// policy does not know is left out.
pub fn service<'a>(
    classes: &[SloClass],
    finished: &[Completion],
    unfinished: impl Iterator<Item = (&'a Request, Option<f64>)>,
    now_seconds: f64,
    windows: &[Window],
) -> Vec<ClassService> {
    let entry =
        |c: &SloClass| ClassService { class: c.name.clone(), outside: Served::default(), inside: Served::default() };
    let mut services: Vec<ClassService> = classes.iter().map(entry).collect();
    let mut count = |request: &Request, fate: fn(&mut Served) -> &mut u64| {
        let Some(service) = services.get_mut(request.class) else { return };
        let inside = windows.iter().any(|w| w.contains(request.arrival_seconds));
        let served = if inside { &mut service.inside } else { &mut service.outside };
        served.arrived += 1;
        *fate(served) += 1;
    };
    for completion in finished {
        let Some(class) = classes.get(completion.request.class) else { continue };
        let met = completion.ttft_seconds.is_some_and(|ttft| is_met(&class.promise, completion, ttft));
        count(&completion.request, if met { |s| &mut s.met } else { |s| &mut s.missed });
    }
    for (request, first_token) in unfinished {
        let Some(class) = classes.get(request.class) else { continue };
        let overdue = is_overdue(&class.promise, request, first_token, now_seconds);
        count(request, if overdue { |s| &mut s.missed } else { |s| &mut s.open });
    }
    services
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Promise;

    fn request(at: f64) -> Request {
        Request { id: 0, model: 0, class: 0, priority: 0, arrival_seconds: at, input_tokens: 10, output_tokens: 11 }
    }

    #[test]
    fn arrival_decides_the_side_and_the_books_rule_the_fate() {
        let promise = Promise::Latency { quantile: 0.99, ttft_seconds: 1.0, itl_seconds: 0.1 };
        let classes = [SloClass { name: "interactive".into(), priority: 0, promise, may_wait: false }];
        let done = |at: f64, ttft| Completion {
            request: request(at),
            finish_seconds: at + 2.0,
            ttft_seconds: ttft,
            itl_seconds: Some(0.1),
            preemptions: 0,
            pool: None,
        };
        let finished = [done(9.9, Some(0.5)), done(10.0, Some(0.5)), done(20.0, None), done(20.1, Some(1.5))];
        let waiting = [request(15.0), request(30.0), request(31.0)];
        let windows =
            [Window { from_seconds: 10.0, to_seconds: 20.0 }, Window { from_seconds: 18.0, to_seconds: 19.0 }];
        let unfinished = waiting.iter().map(|r| (r, None));
        let of = service(&classes, &finished, unfinished, 31.5, &windows).remove(0);
        assert_eq!(of.outside, Served { arrived: 4, met: 1, missed: 2, open: 1 });
        assert_eq!(of.inside, Served { arrived: 3, met: 1, missed: 2, open: 0 });
        assert_eq!((of.outside.attainment(), Served::default().attainment()), (Some(1.0 / 3.0), None));
    }

    #[test]
    fn a_class_that_nobody_knows_is_left_out() {
        let stray = [request(0.0)];
        assert_eq!(service(&[], &[], stray.iter().map(|r| (r, None)), 1.0, &[]), Vec::new());
    }
}
