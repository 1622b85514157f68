//! A window of a workload under a policy, and single runs on it: done on all cores, kept in memory and, when a folder
//! is given, on disk, so that a bench that was stopped goes on where it was.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use poolwright::policy::Policy;
use poolwright::simulate::replay::{
    Contestant, GiveUp, Hardware, Kind, Outcome, RunOptions, Traffic, Truth, first_fleet, in_parallel, kind_named, run,
};
use sha2::{Digest, Sha256};

/// Rules that know nothing of our planner: what they do hangs on fewer sources.
pub const REACTIVE: [&str; 7] = ["hpa-kv", "hpa-running", "hpa-queue", "keda-rate", "kpa", "wva-v1", "wva-v2"];
/// Rooms that they hang on; their first fleet and the true rates are part of the key.
const REACTIVE_ROOMS: [&str; 4] = ["simulate", "perf", "policy", "observe"];
/// Rooms that any run hangs on.
const ROOMS: [&str; 8] = ["simulate", "perf", "policy", "observe", "demand", "plan", "safety", "control"];
/// What is told of runs, inside the room of the replay: all but these files and folders of it.
const REPLAY: [&str; 11] = [
    "arrivals",
    "arrivals.rs",
    "books.rs",
    "lengths.rs",
    "opponents",
    "play.rs",
    "recording",
    "recording.rs",
    "run.rs",
    "truth.rs",
    "view.rs",
];

/// See the module.
#[derive(Debug)]
pub struct Stage {
    pub name: String,
    pub policy: Policy,
    traffic: Traffic,
    /// What it is, as a digest.
    stamp: String,
    truths: Mutex<BTreeMap<u64, Known>>,
}

/// True rates and lengths, and their digest.
type Known = (Arc<Truth>, Arc<str>);

impl Stage {
    pub fn new(name: String, policy: Policy, traffic: Traffic) -> Self {
        let stamp = digest(&[&format!("{policy:?}"), &format!("{traffic:?}")]);
        Self { name, policy, traffic, stamp, truths: Mutex::new(BTreeMap::new()) }
    }

    pub fn seconds(&self) -> f64 {
        self.traffic.seconds()
    }

    /// True rates and lengths of a seed.
    pub fn truth(&self, seed: u64) -> Arc<Truth> {
        self.known(seed).0
    }

    fn known(&self, seed: u64) -> Known {
        let mut truths = self.truths.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            // The traffic was made by the same check.
            let truth = self.traffic.truth(&self.policy, seed).unwrap_or_default();
            let stamp = digest(&[&format!("{truth:?}")]);
            (Arc::new(truth), stamp.into())
        };
        truths.entry(seed).or_insert_with(make).clone()
    }
}

/// One run to be done.
#[derive(Clone, Debug)]
pub struct Job {
    pub stage: Arc<Stage>,
    pub kind: &'static dyn Kind,
    pub hardware: Hardware,
    pub target: f64,
    pub options: RunOptions,
    /// Whether the minutes of the run are kept.
    pub with_minutes: bool,
}

impl Job {
    /// Our planner.
    pub fn ours(stage: &Arc<Stage>, seed: u64) -> Result<Self> {
        Self::of("poolwright", stage, Hardware::default(), 0.0, seed)
    }

    pub fn of(rule: &str, stage: &Arc<Stage>, hardware: Hardware, target: f64, seed: u64) -> Result<Self> {
        let kind = kind_named(rule).with_context(|| format!("no rule is called {rule}"))?;
        let options = RunOptions { seed, ..RunOptions::default() };
        Ok(Self { stage: Arc::clone(stage), kind, hardware, target, options, with_minutes: false })
    }

    /// To be given up when more than this share of all requests is late or it costs more.
    pub fn unless_hopeless(mut self, late: f64, cost: f64) -> Self {
        let truth = self.stage.truth(self.options.seed);
        let rates = truth.minutes.iter().flatten().flat_map(|demand| &demand.classes).map(|(_, rate)| rate);
        self.options.give_up = Some(GiveUp { late: (60.0 * late * rates.sum::<f64>()).ceil() as u64, cost });
        self
    }

    fn run(&self, truth: &Truth) -> Outcome {
        let Self { stage, kind, hardware, target, options, .. } = self;
        let contestant = Contestant { kind: *kind, hardware: hardware.clone(), target: *target };
        let requests = stage.traffic.requests(&stage.policy, options.seed);
        let mut outcome = run(&stage.policy, requests, truth, stage.seconds(), &contestant, options);
        if !self.with_minutes {
            outcome.minutes = vec![];
        }
        outcome
    }
}

/// Does runs, each once.
#[derive(Debug)]
pub struct Runner {
    threads: usize,
    folder: Option<PathBuf>,
    /// Digests of the sources: all, and those of the reactive rules.
    sources: (String, String),
    known: Mutex<BTreeMap<String, Outcome>>,
    began: Instant,
    done: AtomicUsize,
}

impl Runner {
    pub fn new(threads: usize, folder: Option<PathBuf>) -> Result<Self> {
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let (all, reactive) = (sources(&ROOMS, false)?, sources(&REACTIVE_ROOMS, true)?);
        let (known, done) = (Mutex::default(), AtomicUsize::new(0));
        Ok(Self { threads, folder, sources: (all, reactive), known, began: Instant::now(), done })
    }

    /// Outcomes in the order of the jobs.
    pub fn run(&self, jobs: &[Job]) -> Vec<Outcome> {
        let answers = in_parallel(self.threads, jobs, |job| self.one(job));
        eprintln!("{:8.0} s  {} runs", self.began.elapsed().as_secs_f64(), self.done.load(Ordering::Relaxed));
        answers
    }

    fn one(&self, job: &Job) -> Outcome {
        let (truth, truth_stamp) = job.stage.known(job.options.seed);
        let key = self.key(job, &truth, &truth_stamp);
        let known = |key: &str| self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        if let Some(outcome) = known(&key).or_else(|| self.stored(&key)) {
            self.remember(key, &outcome);
            return outcome;
        }
        let began = Instant::now();
        let outcome = job.run(&truth);
        self.done.fetch_add(1, Ordering::Relaxed);
        let attained = outcome.classes.iter().map(|c| 100.0 * c.attainment.unwrap_or(1.0));
        eprintln!(
            "{:8.0} s  {} seed {}: {} {} {} -> {:.2}, in time {:.3?} % ({:.1} s)",
            self.began.elapsed().as_secs_f64(),
            job.stage.name,
            job.options.seed,
            outcome.rule,
            outcome.hardware,
            outcome.target.map_or(String::new(), |t| format!("{t:.2}")),
            outcome.cost,
            attained.collect::<Vec<_>>(),
            began.elapsed().as_secs_f64(),
        );
        self.store(&key, &outcome);
        self.remember(key, &outcome);
        outcome
    }

    fn remember(&self, key: String, outcome: &Outcome) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, outcome.clone());
    }

    fn key(&self, job: &Job, truth: &Truth, truth_stamp: &str) -> String {
        let contestant = Contestant { kind: job.kind, hardware: job.hardware.clone(), target: job.target };
        let is_reactive = REACTIVE.contains(&job.kind.name());
        digest(&[
            if is_reactive { &self.sources.1 } else { &self.sources.0 },
            &job.stage.stamp,
            truth_stamp,
            &format!("{:?}", first_fleet(&job.stage.policy, truth, &contestant)),
            job.kind.name(),
            &format!("{:?} {:?} {:?} {}", job.hardware, job.target, job.options, job.with_minutes),
        ])
    }

    fn stored(&self, key: &str) -> Option<Outcome> {
        let text = std::fs::read(self.folder.as_ref()?.join(format!("{key}.json"))).ok()?;
        // Half a file is written by nobody; one of an older layout is run again.
        serde_json::from_slice(&text).ok()
    }

    fn store(&self, key: &str, outcome: &Outcome) {
        let Some(folder) = &self.folder else { return };
        let (path, part) = (folder.join(format!("{key}.json")), folder.join(format!("{key}.part")));
        let text = serde_json::to_vec(outcome).unwrap_or_default();
        let written = std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, &path));
        if let Err(error) = written {
            eprintln!("{}: {error}: the run is not kept", path.display());
        }
    }
}

/// Digest of the sources of these rooms, as far as runs hang on them; our own rule is not one of the reactive ones.
/// The crates that are used are not part of it.
fn sources(rooms: &[&str], is_reactive: bool) -> Result<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let replay = src.join("simulate/replay");
    let counts = |path: &Path| {
        let told = path.strip_prefix(&replay).is_ok_and(|inside| !REPLAY.iter().any(|part| inside.starts_with(part)));
        !(told || is_reactive && path.ends_with("opponents/ours.rs"))
    };
    let mut open: Vec<PathBuf> = rooms.iter().map(|room| src.join(room)).collect();
    let mut files = vec![];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if counts(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut all = Sha256::new();
    for file in files {
        all.update(std::fs::read(&file).with_context(|| file.display().to_string())?);
    }
    Ok(hex(&all.finalize()))
}

fn digest(parts: &[&str]) -> String {
    let mut all = Sha256::new();
    for part in parts {
        all.update((part.len() as u64).to_le_bytes());
        all.update(part.as_bytes());
    }
    hex(&all.finalize()[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
