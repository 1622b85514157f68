//! What is played: traces, lengths, policies and named windows, at scales at which the busiest minute of the week needs
//! about twenty replicas of the best single type. The scales are fixed, so that the same requests come whatever the
//! planner makes of them; what its busiest minute needs today is printed beside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use poolwright::control::{GivenDemand, State, size};
use poolwright::policy::{Policy, Promise, from_text};
use poolwright::simulate::Trace;
use poolwright::simulate::replay::{Hardware, Lengths, Play, Recording, Traffic, singles};

use crate::stage::Stage;

/// Busiest minutes that are sized to find it.
const PEAK_MINUTES: usize = 10;
/// Seed of the noise in the week whose busiest minute is sized.
const PEAK_SEED: u64 = 1;
/// Share of all tokens that is batch work in workload C.
const BATCH_TOKENS: f64 = 0.3;
/// Monday 2026-01-05 00:00 UTC.
const START_UNIX_SECONDS: f64 = 1_767_571_200.0;
const HOUR: f64 = 3600.0;

/// A named stretch of a workload, hours since its recording began.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub name: &'static str,
    pub from_hours: f64,
    pub hours: f64,
}

const fn window(name: &'static str, from_hours: f64, hours: f64) -> Window {
    Window { name, from_hours, hours }
}

/// One stream of requests of a workload.
#[derive(Clone, Debug)]
struct Track {
    /// The class that it is of.
    class: &'static str,
    recording: Arc<Recording>,
    lengths: Lengths,
    /// Where its recording stands when the workload's clock shows zero, hours.
    offset_hours: f64,
}

/// A workload at the scale of the benches.
#[derive(Clone, Debug)]
pub struct Workload {
    pub id: &'static str,
    pub about: &'static str,
    pub policy: Policy,
    pub scale: f64,
    /// The pool that serves the busiest minute at the least cost alone, and what that takes.
    pub single: Hardware,
    pub peak_replicas: u32,
    pub peak_cost_per_hour: f64,
    pub windows: [Window; 2],
    pub quick: Window,
    pub week: Window,
    tracks: Vec<Track>,
}

/// A shipped policy of the benches.
pub fn policy(name: &str) -> Result<Policy> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gates/policies").join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    from_text(name, &text).map_err(|errors| anyhow::anyhow!("{errors}"))
}

/// The policy with this share of every class's requests promised.
pub fn at_level(policy: &Policy, level: f64) -> Policy {
    let mut policy = policy.clone();
    for class in &mut policy.classes {
        if let Promise::Latency { quantile, .. } = &mut class.promise {
            *quantile = level;
        }
    }
    policy
}

/// The policy with this start-up time in all pools.
pub fn starting_in(policy: &Policy, minutes: f64) -> Policy {
    let mut policy = policy.clone();
    policy.pools.iter_mut().for_each(|pool| pool.startup_seconds = 60.0 * minutes);
    policy
}

/// The policy with no pools but these.
pub fn only_on(policy: &Policy, hardware: &Hardware) -> Policy {
    let mut policy = policy.clone();
    for (index, pool) in policy.pools.iter_mut().enumerate() {
        if !hardware.shares.iter().any(|(p, _)| *p == index) {
            (pool.min, pool.max) = (0, 0);
        }
    }
    policy
}

fn recording(file: &str) -> Result<Arc<Recording>> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "data/traces", file].iter().collect();
    Ok(Arc::new(Recording::read(&path, None)?))
}

fn track(class: &'static str, recording: Arc<Recording>, lengths: Lengths) -> Track {
    Track { class, recording, lengths, offset_hours: 0.0 }
}

fn chat() -> Result<Track> {
    let lengths = Lengths::Drawn(Arc::new(Trace::conversation()?));
    Ok(track("chat", recording("azure2024_conv_week_rpm_digitised.csv.gz")?, lengths))
}

fn code() -> Result<Track> {
    let lengths = Lengths::Drawn(Arc::new(Trace::code()?));
    Ok(track("code", recording("azure2024_code_week_rpm_digitised.csv.gz")?, lengths))
}

/// Steady batch work that ends a deadline before the window does: what is left at the end would cost nothing.
fn steady(rate: f64, seconds: f64, deadline_seconds: f64) -> Result<Arc<Recording>> {
    let end = seconds - deadline_seconds;
    let csv = format!("t_s,rate_rps\n0,{rate}\n{end},0\n");
    Ok(Arc::new(Recording::parse("steady batch work", csv.as_bytes(), None)?))
}

/// A steady stream of batch requests with the lengths of conversations, so many of all tokens.
fn batch(others: &[Track]) -> Result<Track> {
    let tokens = |trace: &Trace| {
        let (input, output) = trace.mean_shape();
        input + output
    };
    let of = |track: &Track| match &track.lengths {
        Lengths::Drawn(trace) => tokens(trace) * track.recording.mean_rate(),
        _ => 0.0,
    };
    let trace = Trace::conversation()?;
    let rate = BATCH_TOKENS / (1.0 - BATCH_TOKENS) * others.iter().map(of).sum::<f64>() / tokens(&trace);
    // replaced by one that fits the window when it is played
    let csv = format!("t_s,rate_rps\n0,{rate}\n{HOUR},{rate}\n");
    let recording = Arc::new(Recording::parse("steady batch work", csv.as_bytes(), None)?);
    Ok(track("batch", recording, Lengths::Drawn(Arc::new(trace))))
}

/// Conversations.
pub fn a() -> Result<Workload> {
    Workload::scaled(
        "A",
        "conversations: rates of an Azure week, sizes of an Azure hour",
        1.2943,
        policy("conversation")?,
        vec![chat()?],
        [window("Tuesday", 48.0, 24.0), window("Sunday noon to Monday noon", 12.0, 24.0)],
        window("Tuesday 10-13 h", 58.0, 3.0),
        window("the week", 0.0, 167.0),
    )
}

/// Code completion.
pub fn b() -> Result<Workload> {
    Workload::scaled(
        "B",
        "code completion: rates of an Azure week, sizes of an Azure hour",
        0.3223,
        policy("code")?,
        vec![code()?],
        [window("Tuesday", 96.0, 24.0), window("Sunday noon to Monday noon", 60.0, 24.0)],
        window("Tuesday 11-14 h", 107.0, 3.0),
        window("the week", 0.0, 167.0),
    )
}

/// A, B and batch work on one model.
pub fn c() -> Result<Workload> {
    let mut code = code()?;
    // The code week begins on a Friday, the conversation week on a Sunday.
    code.offset_hours = 48.0;
    let mut tracks = vec![chat()?, code];
    tracks.push(batch(&tracks)?);
    Workload::scaled(
        "C",
        "A, B and steady batch work (30 % of the tokens, deadline 8 h) as classes of one model",
        0.2469,
        policy("shared")?,
        tracks,
        [window("Tuesday", 48.0, 24.0), window("Sunday noon to Monday noon", 12.0, 24.0)],
        window("Tuesday 10-13 h", 58.0, 3.0),
        window("Sunday to Thursday", 0.0, 119.0),
    )
}

/// Large clients, each with its own rhythm.
pub fn d() -> Result<Workload> {
    let lengths = Lengths::known("servegen-m-large").context("published lengths")?;
    Workload::scaled(
        "D",
        "ServeGen m-large: the twelve largest clients and the rest, each with the spread of its own gaps",
        0.1784,
        policy("clients")?,
        vec![track("chat", recording("servegen_m-large_top12_clients_10min.csv.gz")?, lengths)],
        [window("first day", 0.0, 24.0), window("ninth day", 192.0, 24.0)],
        window("first day 11-14 h", 11.0, 3.0),
        window("the first week", 0.0, 168.0),
    )
}

/// Conversations or code on a small model that runs on one accelerator of any of five types, about 16 requests/s.
pub fn small(is_code: bool) -> Result<Workload> {
    let mut track = if is_code { code()? } else { chat()? };
    track.class = "chat";
    let (tuesday, id) = if is_code { (96.0, "5b") } else { (48.0, "5a") };
    let quick = if is_code { window("Tuesday 11-14 h", 107.0, 3.0) } else { window("Tuesday 10-13 h", 58.0, 3.0) };
    let mean_rate = track.recording.mean_rate();
    let mut workload = Workload {
        id,
        about: "one accelerator a replica, five types, 16 requests/s in the mean of the week",
        policy: policy("small")?,
        scale: 16.0 / mean_rate,
        single: Hardware::default(),
        peak_replicas: 0,
        peak_cost_per_hour: 0.0,
        windows: [window("Tuesday", tuesday, 24.0), window("Sunday noon to Monday noon", tuesday - 36.0, 24.0)],
        quick,
        week: window("the week", 0.0, 167.0),
        tracks: vec![track],
    };
    workload.find_single()?;
    Ok(workload)
}

/// A model that is asked for half an hour and then not for an hour, again and again.
pub fn on_off() -> Result<Workload> {
    let rate = |step: u32| if step % 2 == 1 { 4.0 } else { 0.0 };
    let at = |step: u32| 1800 * (step / 2 * 3 + step % 2 * 2);
    let rows: String = (0..=32).map(|step| format!("{},{}\n", at(step), rate(step))).collect();
    let recording = Arc::new(Recording::parse("on and off", format!("t_s,rate_rps\n{rows}").as_bytes(), None)?);
    let whole = window("24 hours", 0.0, 24.0);
    Ok(Workload {
        id: "on/off",
        about: "4 requests/s for half an hour after an hour without any",
        policy: policy("small")?,
        scale: 1.0,
        single: Hardware::default(),
        peak_replicas: 0,
        peak_cost_per_hour: 0.0,
        windows: [whole, whole],
        quick: window("6 hours", 0.0, 6.0),
        week: whole,
        tracks: vec![track("chat", recording, Lengths::Drawn(Arc::new(Trace::conversation()?)))],
    })
}

impl Workload {
    #[expect(clippy::too_many_arguments, reason = "one of each, all named where it is called")]
    fn scaled(
        id: &'static str,
        about: &'static str,
        scale: f64,
        policy: Policy,
        tracks: Vec<Track>,
        windows: [Window; 2],
        quick: Window,
        week: Window,
    ) -> Result<Self> {
        let single = Hardware::default();
        let (peak_replicas, peak_cost_per_hour) = (0, 0.0);
        let mut workload =
            Self { id, about, policy, scale, single, peak_replicas, peak_cost_per_hour, windows, quick, week, tracks };
        workload.find_single()?;
        Ok(workload)
    }

    /// Only the tracks of these classes.
    pub fn with(&self, classes: &[&str]) -> Self {
        let mut fewer = self.clone();
        fewer.tracks.retain(|track| classes.contains(&track.class));
        fewer
    }

    fn find_single(&mut self) -> Result<()> {
        (self.single, self.peak_replicas, self.peak_cost_per_hour) = self.peak(&self.busiest()?);
        Ok(())
    }

    /// Demands of the busiest minutes.
    fn busiest(&self) -> Result<Vec<Vec<GivenDemand>>> {
        let truth = self.traffic(&self.policy, self.week)?.truth(&self.policy, PEAK_SEED)?;
        let rate = |demands: &Vec<GivenDemand>| demands.iter().flat_map(|d| &d.classes).map(|c| c.1).sum::<f64>();
        let mut minutes = truth.minutes;
        minutes.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
        minutes.truncate(PEAK_MINUTES);
        Ok(minutes)
    }

    /// The best single type for the dearest of these minutes: hardware, replicas, cost per hour.
    fn peak(&self, busiest: &[Vec<GivenDemand>]) -> (Hardware, u32, f64) {
        let mut found: Vec<(Hardware, u32, f64)> = vec![];
        for hardware in singles(&self.policy) {
            let policy = only_on(&self.policy, &hardware);
            let dearest = busiest.iter().map(|demands| {
                let sizing = size(&policy, demands, &mut State::default());
                // What cannot be served within its target makes a type no choice.
                let cost = if sizing.shortfall_rate > 1e-6 { f64::INFINITY } else { sizing.cost_per_hour };
                (sizing.replicas.iter().sum::<u32>(), cost)
            });
            let (replicas, cost) = dearest.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0));
            found.push((hardware, replicas, cost));
        }
        let none = (Hardware::default(), u32::MAX, f64::INFINITY);
        found.into_iter().min_by(|a, b| a.2.total_cmp(&b.2)).filter(|best| best.2.is_finite()).unwrap_or(none)
    }

    fn traffic(&self, policy: &Policy, window: Window) -> Result<Traffic> {
        let plays: Result<Vec<Play>> = self.tracks.iter().map(|track| self.play(track, policy, window)).collect();
        Ok(Traffic::new(plays?, policy, START_UNIX_SECONDS)?)
    }

    /// Of the model that has the track's class.
    fn play(&self, track: &Track, policy: &Policy, window: Window) -> Result<Play> {
        let class = policy.classes.iter().position(|c| c.name == track.class).context(track.class)?;
        let has = |model: &poolwright::policy::Model| model.classes.iter().any(|(c, _)| *c == class);
        let model = policy.models.iter().position(has).context(track.class)?;
        let seconds = HOUR * window.hours;
        let (recording, from_seconds) = match policy.classes[class].promise {
            Promise::Deadline { seconds: deadline } => (steady(track.recording.mean_rate(), seconds, deadline)?, 0.0),
            Promise::Latency { .. } => {
                let hours = window.from_hours + track.offset_hours;
                (Arc::clone(&track.recording), track.recording.begin_seconds() + HOUR * hours)
            }
        };
        Ok(Play {
            class: Some(class),
            scale: self.scale,
            from_seconds,
            to_seconds: from_seconds + seconds,
            ..Play::whole(recording, model, track.lengths.clone())
        })
    }

    /// A window of it under `policy`, which is the workload's own or has the same classes. A deadline is at most a third
    /// of the window.
    pub fn stage(&self, mut policy: Policy, window: Window) -> Result<Arc<Stage>> {
        for class in &mut policy.classes {
            if let Promise::Deadline { seconds } = &mut class.promise {
                *seconds = seconds.min(HOUR * window.hours / 3.0);
            }
        }
        let traffic = self.traffic(&policy, window)?;
        Ok(Arc::new(Stage::new(format!("{} {}", self.id, window.name), policy, traffic)))
    }

    /// Cost of the fleet that the busiest minute of the week needs on the best single type, over so many seconds.
    pub fn static_cost(&self, seconds: f64) -> f64 {
        self.peak_cost_per_hour * seconds / HOUR
    }

    pub fn words(&self) -> String {
        format!(
            "{}: {}; rates times {:.4}, so that the busiest minute needs {} replicas of {} ({:.2} {}/h)",
            self.id,
            self.about,
            self.scale,
            self.peak_replicas,
            self.single.words(&self.policy),
            self.peak_cost_per_hour,
            self.policy.currency,
        )
    }
}
