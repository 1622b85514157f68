//! One run: requests, a fleet, a scaling rule, the books.
//!
//! Every step of 15 seconds the fleet goes on, its servers are read, the rule is shown what was read some time ago
//! and its answer is written to the scale targets. Nothing else joins the two.

use std::collections::VecDeque;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::books::{Books, ModelState};
use super::opponents::{Hardware, Kind, Opponent, Order, Seen, Setting, Truth};
use super::outcome::{MinutePoint, Outcome};
use super::view::{Sight, View};
use crate::control::{GivenDemand, State, size};
use crate::policy::{Policy, Promise};
use crate::simulate::RequestStream;
use crate::simulate::{Fleet, FleetOptions, RouteShares, seed};

/// Time between two scrapes and between two syncs of a controller, seconds: the defaults of Prometheus and HPA.
pub const STEP_SECONDS: f64 = 15.0;
/// Time that requests still inside at the end of a run are given to finish, seconds.
const DRAIN_SECONDS: f64 = 1800.0;

/// How the world differs from the figures, and what goes wrong in it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOptions {
    pub seed: u64,
    /// Every pool is slower or faster than its figures by a factor drawn within ± this share, or by just this factor.
    pub error: ModelError,
    /// Every start-up time varies within ± this share.
    pub startup_spread: f64,
    /// Age of what a rule is shown, seconds.
    pub lag_seconds: f64,
    /// Share of every prompt that prefix caches spare, 0..1.
    pub prefix_hit_ratio: f64,
    pub faults: Faults,
    /// End the run when it is hopeless. The outcome is then that of the time until it was given up, and all that was
    /// inside is late.
    pub give_up: Option<GiveUp>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            error: ModelError::Within(0.08),
            startup_spread: 0.05,
            lag_seconds: 0.0,
            prefix_hit_ratio: 0.0,
            faults: Faults::default(),
            give_up: None,
        }
    }
}

/// When a run is not worth playing to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GiveUp {
    /// More requests than this were late.
    pub late: u64,
    /// It has cost more than this, in the policy's currency.
    pub cost: f64,
}

/// How far servers are from their figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ModelError {
    /// Each pool's own factor, drawn evenly within ± this share.
    Within(f64),
    /// All pools take this many times as long.
    Factor(f64),
}

/// What goes wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// Replicas that die, per replica and hour.
    pub deaths_per_hour: f64,
    /// Accelerator types that are lost for a while.
    pub losses: Vec<Loss>,
    /// Nothing can be read from ..= to, seconds of the run.
    pub blind: Vec<(f64, f64)>,
    /// Share of the servers that do not answer a scrape.
    pub silent_share: f64,
    /// The controller forgets everything at these times, seconds of the run.
    pub restarts: Vec<f64>,
}

/// A type of which only a part is left for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Index of the accelerator.
    pub accelerator: usize,
    pub from_seconds: f64,
    pub to_seconds: f64,
    /// Accelerators that are left.
    pub left: u32,
}

/// Who scales, on what.
#[derive(Clone, Debug)]
pub struct Contestant<'a> {
    pub kind: &'a dyn Kind,
    pub hardware: Hardware,
    /// Value of the swept target.
    pub target: f64,
}

/// Play `requests` for `seconds` (whole minutes) and scale the fleet as the contestant says.
pub fn run(
    policy: &Policy,
    requests: Box<dyn RequestStream>,
    truth: &Truth,
    seconds: f64,
    contestant: &Contestant<'_>,
    options: &RunOptions,
) -> Outcome {
    let mut run = Run::new(policy, requests, truth, contestant, options);
    let steps = (seconds / STEP_SECONDS).round().max(1.0) as usize;
    let is_played_out = (1..=steps).all(|step| {
        run.step(step);
        !run.is_given_up(step)
    });
    run.finish(contestant, options, is_played_out)
}

struct Run<'a> {
    policy: &'a Policy,
    truth: &'a Truth,
    contestant: &'a Contestant<'a>,
    options: &'a RunOptions,
    fleet: Fleet,
    view: View,
    /// What was read and not yet shown.
    sights: VecDeque<Sight>,
    shown: Option<Sight>,
    rule: Box<dyn Opponent + 'a>,
    books: Books,
    wanted: Vec<u32>,
    actions: u64,
    type_changes: u64,
    /// Both of these at the end of the last minute.
    told: (u64, u64),
    most_waiting: u64,
    chance: ChaCha8Rng,
}

impl<'a> Run<'a> {
    fn new(
        policy: &'a Policy,
        requests: Box<dyn RequestStream>,
        truth: &'a Truth,
        contestant: &'a Contestant<'a>,
        options: &'a RunOptions,
    ) -> Self {
        let mut world = policy.clone();
        if contestant.kind.has_instant_start() {
            world.pools.iter_mut().for_each(|p| p.startup_seconds = 0.0);
        }
        world.pools.iter_mut().for_each(|p| p.min = 0);
        if let ModelError::Factor(factor) = options.error {
            world.pools.iter_mut().for_each(|p| p.parameters = p.parameters.slowed(factor));
        }
        let fleet_options = FleetOptions {
            seed: options.seed,
            error: if let ModelError::Within(share) = options.error { share } else { 0.0 },
            noise: 0.0,
            startup_spread: options.startup_spread,
            prefix_hit_ratio: options.prefix_hit_ratio,
            start_unix_seconds: truth.start_seconds,
            keep_completions: true,
        };
        let mut fleet = Fleet::new(&world, vec![], fleet_options);
        let wanted = first_fleet(policy, truth, contestant);
        for (pool, replicas) in wanted.iter().enumerate() {
            fleet.place_ready(pool, *replicas);
        }
        fleet.set_routes(fixed_routes(policy, &contestant.hardware));
        fleet.start_stream(requests);
        let books = Books::new(policy, &fleet, STEP_SECONDS);
        let mut run = Self {
            policy,
            truth,
            contestant,
            options,
            fleet,
            view: View::new(),
            sights: VecDeque::new(),
            shown: None,
            rule: start(policy, truth, contestant),
            books,
            wanted,
            actions: 0,
            type_changes: 0,
            told: (0, 0),
            most_waiting: 0,
            chance: seed::rng(options.seed, "faults", 0),
        };
        run.look();
        run.books.begin_step(run.states());
        run
    }

    fn step(&mut self, step: usize) {
        let now_seconds = STEP_SECONDS * step as f64;
        self.fleet.advance(now_seconds);
        for completion in self.fleet.take_completions() {
            self.books.finished(&completion);
        }
        self.fail(now_seconds);
        self.look();
        let waiting: u64 = self.fleet.pools().iter().flat_map(|p| &p.replicas).map(|r| r.engine.waiting() as u64).sum();
        self.most_waiting = self.most_waiting.max(waiting + self.fleet.at_gateway().count() as u64);
        self.sync();
        self.books.begin_step(self.states());
        if step.is_multiple_of(4) {
            let minute = self.minute();
            self.books.end_minute(step / 4 - 1, minute);
        }
    }

    /// Looked at once a minute.
    fn is_given_up(&self, step: usize) -> bool {
        let Some(GiveUp { late, cost }) = self.options.give_up.filter(|_| step.is_multiple_of(4)) else { return false };
        let seconds = self.fleet.now_seconds();
        let price = |pool: &super::super::pool::Pool| pool.replica_seconds(seconds) / 3600.0 * pool.price_per_hour;
        self.books.late() > late || self.fleet.pools().iter().map(price).fold(0.0, |sum, price| sum + price) > cost
    }

    /// What goes wrong now.
    fn fail(&mut self, now_seconds: f64) {
        let faults = &self.options.faults;
        let begun = |at: f64| now_seconds - STEP_SECONDS < at && at <= now_seconds;
        for loss in &faults.losses {
            let all = self.policy.accelerators[loss.accelerator].stock;
            if begun(loss.from_seconds) {
                self.fleet.set_stock(loss.accelerator, loss.left);
            }
            if begun(loss.to_seconds) {
                self.fleet.set_stock(loss.accelerator, all);
            }
        }
        if faults.deaths_per_hour > 0.0 {
            for pool in 0..self.wanted.len() {
                for nth in 0..self.fleet.pools()[pool].ready() {
                    if self.chance.random::<f64>() < faults.deaths_per_hour * STEP_SECONDS / 3600.0 {
                        self.fleet.lose_replica(pool, nth as usize);
                    }
                }
            }
        }
        if faults.restarts.iter().any(|at| begun(*at)) {
            self.rule = start(self.policy, self.truth, self.contestant);
        }
    }

    fn look(&mut self) {
        let now_seconds = self.fleet.now_seconds();
        let faults = &self.options.faults;
        let is_blind = faults.blind.iter().any(|(from, to)| (*from..=*to).contains(&now_seconds));
        let share = faults.silent_share;
        let salt: u64 = if share > 0.0 { self.chance.random() } else { 0 };
        let is_silent = |id: u64| is_blind || share > 0.0 && seed::rng(salt, "silent", id).random::<f64>() < share;
        let sight = self.view.look(self.policy, &mut self.fleet, is_silent);
        self.sights.push_back(Sight { is_blind, ..sight });
    }

    /// One sync of the rule's controller.
    fn sync(&mut self) {
        let now_seconds = self.fleet.unix_seconds();
        let lag_seconds = self.options.lag_seconds;
        while self.sights.front().is_some_and(|s| s.at_seconds <= now_seconds - lag_seconds + 1e-6) {
            self.shown = self.sights.pop_front();
        }
        let Some(sight) = &self.shown else { return };
        if sight.is_blind && self.contestant.kind.holds_when_blind() {
            return;
        }
        let ready: Vec<u32> = self.fleet.pools().iter().map(super::super::pool::Pool::ready).collect();
        let seen = Seen {
            now_seconds,
            observation: &sight.observation,
            replicas: &sight.replicas,
            wanted: &self.wanted,
            ready: &ready,
        };
        let Order { replicas, routes } = self.rule.sync(&seen);
        if let Some(routes) = routes {
            self.fleet.set_routes(routes);
        }
        let before = self.wanted.clone();
        for (pool, replicas) in replicas.into_iter().enumerate().take(before.len()) {
            self.wanted[pool] = replicas.min(self.policy.pools[pool].max);
        }
        // What is given back is given back before what is asked for: it may need the same accelerators.
        let fewer = |pool: &usize| self.wanted[*pool] < before[*pool];
        let mut changed: Vec<usize> = (0..before.len()).filter(|p| self.wanted[*p] != before[*p]).collect();
        changed.sort_by_key(|pool| !fewer(pool));
        for pool in &changed {
            self.fleet.set_replicas(*pool, self.wanted[*pool]);
        }
        self.actions += changed.len() as u64;
        for model in &self.policy.models {
            let of_model = |fewer: bool| {
                model.pools.iter().any(|p| self.wanted[*p] != before[*p] && (self.wanted[*p] < before[*p]) == fewer)
            };
            self.type_changes += u64::from(of_model(true) && of_model(false));
        }
    }

    fn states(&self) -> Vec<ModelState> {
        let pools = self.fleet.pools();
        let state = |model: &crate::policy::Model| ModelState {
            starting: model.pools.iter().any(|p| pools[*p].ready() < pools[*p].wanted),
            ready: model.pools.iter().any(|p| pools[*p].ready() > 0),
        };
        self.policy.models.iter().map(state).collect()
    }

    fn minute(&mut self) -> MinutePoint {
        let pools = self.fleet.pools();
        let now = (self.actions, self.type_changes);
        let before = std::mem::replace(&mut self.told, now);
        MinutePoint {
            wanted: self.wanted.clone(),
            ready: pools.iter().map(super::super::pool::Pool::ready).collect(),
            cost_per_hour: pools.iter().map(|p| p.price_per_hour * p.replicas.len() as f64).sum(),
            actions: (now.0 - before.0) as u32,
            type_changes: (now.1 - before.1) as u32,
            ..MinutePoint::default()
        }
    }

    fn finish(mut self, contestant: &Contestant<'_>, options: &RunOptions, is_played_out: bool) -> Outcome {
        let seconds = self.fleet.now_seconds();
        let (mut cost, mut wasted_start_hours) = (0.0, 0.0);
        let mut accelerator_hours = std::collections::BTreeMap::new();
        for pool in self.fleet.pools() {
            let hours = pool.replica_seconds(seconds) / 3600.0;
            let each = f64::from(pool.accelerators_per_replica);
            cost += hours * pool.price_per_hour;
            wasted_start_hours += each * pool.past.never_ready_seconds / 3600.0;
            let name = self.policy.accelerators[pool.accelerator].name.clone();
            *accelerator_hours.entry(name).or_insert(0.0) += hours * each;
        }
        self.fleet.stop_arrivals();
        let deadlines = self.policy.classes.iter().map(|c| match c.promise {
            Promise::Deadline { seconds } => seconds,
            Promise::Latency { .. } => 0.0,
        });
        if is_played_out {
            self.fleet.advance(seconds + deadlines.fold(DRAIN_SECONDS, f64::max));
        }
        for completion in self.fleet.take_completions() {
            self.books.finished(&completion);
        }
        let inside = self.fleet.all().flat_map(|(_, r)| r.engine.unfinished()).map(|(request, _)| request);
        inside.chain(self.fleet.at_gateway()).for_each(|request| self.books.unfinished(request));
        let (classes, minutes) = self.books.close();
        Outcome {
            rule: contestant.kind.name().to_owned(),
            hardware: contestant.hardware.words(self.policy),
            target: (!contestant.kind.target().is_empty()).then_some(contestant.target),
            seed: options.seed,
            seconds,
            cost,
            accelerator_hours,
            classes,
            actions: self.actions,
            type_changes: self.type_changes,
            wasted_start_hours,
            most_waiting: self.most_waiting,
            minutes,
        }
    }
}

fn start<'a>(policy: &'a Policy, truth: &'a Truth, contestant: &'a Contestant<'a>) -> Box<dyn Opponent + 'a> {
    let Contestant { kind, hardware, target } = contestant;
    kind.start(Setting { policy, hardware, target: *target, truth })
}

/// What runs at the beginning: what our planner would buy for the first minute on the contestant's hardware, so that
/// nobody begins with a disadvantage. Replicas by pool.
pub fn first_fleet(policy: &Policy, truth: &Truth, contestant: &Contestant<'_>) -> Vec<u32> {
    let none = vec![0; policy.pools.len()];
    let Some(demands) = truth.minutes.first() else { return none };
    if !contestant.kind.is_given_hardware() {
        return size(policy, demands, &mut State::default()).replicas;
    }
    let mut fleet = none;
    for &(pool, share) in &contestant.hardware.shares {
        let mut alone = policy.clone();
        for (index, other) in alone.pools.iter_mut().enumerate().filter(|(index, _)| *index != pool) {
            (other.min, other.max) =
                (0, if policy.pools[index].model == policy.pools[pool].model { 0 } else { other.max });
        }
        let scaled = |demand: &GivenDemand| GivenDemand {
            classes: demand.classes.iter().map(|(class, rate)| (*class, rate * share)).collect(),
            ..demand.clone()
        };
        let demands: Vec<GivenDemand> = demands.iter().map(scaled).collect();
        fleet[pool] = size(&alone, &demands, &mut State::default()).replicas[pool].max(1);
    }
    fleet
}

/// Each class of a model by the hardware's shares.
fn fixed_routes(policy: &Policy, hardware: &Hardware) -> RouteShares {
    let mut routes = RouteShares::default();
    for &(pool, share) in &hardware.shares {
        let model = policy.pools[pool].model;
        for (class, _) in &policy.models[model].classes {
            routes.0.entry((model, *class)).or_default().push((pool, share));
        }
    }
    routes
}
