//! One moment of a journal: what was decided then, and the same decision made again with more of its reasons.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::journal::file_name;
use super::{Decision, Detail, Entry, Search, SolveReport, State, decide_within};
use crate::observe::Observation;
use crate::policy::Policy;

/// A decision of the journal and, where it was asked for, what led to it.
#[derive(Debug)]
pub struct Moment {
    pub decision: Box<Decision>,
    /// State before the first of `ticks`.
    before: Option<Box<State>>,
    /// What was seen since then and how the plan was found, the decision's own last.
    ticks: Vec<(f64, Box<Observation>, SolveReport)>,
}

/// The newest decision at or before `at_seconds` (Unix time), or the newest of all. `path` is a journal file or the
/// directory that holds them. With `replayable` it can be made again.
///
/// # Errors
/// There is no such file, no such decision, or a line is no entry.
pub fn moment(path: &Path, at_seconds: Option<f64>, replayable: bool) -> Result<Moment> {
    let at = at_seconds.unwrap_or(f64::INFINITY);
    let mut oldest: Option<f64> = None;
    for file in files(path)? {
        let (found, first) = search(&file, at, replayable)?;
        if let Some(found) = found {
            return Ok(found);
        }
        oldest = first.or(oldest);
    }
    match oldest {
        Some(first) => bail!("{}: the first decision is of {first:.0}, after the time asked for", path.display()),
        None => bail!("{}: holds no decision yet", path.display()),
    }
}

/// One decision of a journal, where it stands and what it was made from.
#[derive(Clone, Copy, Debug)]
pub struct JournalTick<'a> {
    pub file: &'a Path,
    /// From 1.
    pub line: usize,
    /// Unix time, seconds.
    pub at_seconds: f64,
    pub observation: &'a Observation,
    pub decision: &'a Decision,
}

/// Shows every decision of a journal, the oldest first. `path` is a journal file or the directory that holds them.
///
/// # Errors
/// A file cannot be read, a line is no entry (one that a crash cut short is left out), or `visit` refuses it.
pub fn each_tick(path: &Path, mut visit: impl FnMut(&JournalTick<'_>) -> Result<()>) -> Result<()> {
    for path in files(path)?.iter().rev() {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut broken = None::<String>;
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let place = || format!("{}:{}", path.display(), number + 1);
            let line = line.with_context(place)?;
            if line.is_empty() {
                // A line before an empty one was cut short by a crash.
                broken = None;
                continue;
            }
            if let Some(error) = broken {
                bail!("{error}");
            }
            match serde_json::from_str(&line) {
                Ok(Entry::State(_)) => {}
                Ok(Entry::Tick { at_seconds, observation, decision }) => {
                    let (observation, decision) = (&*observation, &*decision);
                    visit(&JournalTick { file: path, line: number + 1, at_seconds, observation, decision })?;
                }
                Err(e) => broken = Some(format!("{}: {e}", place())),
            }
        }
    }
    Ok(())
}

/// The files of a journal, newest first.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let newest = path.join(file_name(0));
    if !newest.exists() {
        bail!("{}: no {}; is it the --state-dir of a daemon?", path.display(), file_name(0));
    }
    Ok((0..).map(|age| path.join(file_name(age))).take_while(|f| f.exists()).collect())
}

/// The newest tick of a file not after `at`, and the time of its first tick.
fn search(path: &Path, at: f64, replayable: bool) -> Result<(Option<Moment>, Option<f64>)> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut found, mut first, mut broken) = (None::<Moment>, None, None::<String>);
    let (mut before, mut ticks, mut next) = (None, vec![], None);
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| path.display().to_string())?;
        if line.is_empty() {
            // A line before an empty one was cut short by a crash.
            broken = None;
            continue;
        }
        if let Some(error) = broken {
            bail!("{error}");
        }
        match serde_json::from_str(&line) {
            Ok(Entry::State(state)) => next = Some(state),
            Ok(Entry::Tick { at_seconds, observation, decision }) => {
                first = first.or(Some(at_seconds));
                if at_seconds.is_nan() || at_seconds > at {
                    break;
                }
                if replayable {
                    if let Some(state) = next.take() {
                        (before, ticks) = (Some(state), vec![]);
                    }
                    ticks.push((at_seconds, observation, decision.solve.clone()));
                }
                found = Some(Moment { decision, before: None, ticks: vec![] });
            }
            Err(e) => broken = Some(format!("{}:{}: {e}", path.display(), number + 1)),
        }
    }
    let found = found.map(|moment| Moment { before, ticks, ..moment });
    Ok((found, first))
}

impl Moment {
    /// Make the decision again with all of its reasons.
    ///
    /// # Errors
    /// Why it cannot be: the policy is another one, the journal does not reach back, or this version decides
    /// otherwise.
    pub fn decide_again(self, policy: &Policy, detail: Detail) -> Result<Decision, String> {
        let recorded = self.decision;
        if policy.fingerprint != recorded.policy {
            return Err(format!(
                "the decision was made with policy {}, this is {}",
                recorded.policy, policy.fingerprint
            ));
        }
        let (Some(before), Some((last, ticks))) = (self.before, self.ticks.split_last()) else {
            return Err("the journal does not hold the state before the decision".to_owned());
        };
        let mut state = *before;
        for (at_seconds, observation, solve) in ticks {
            state = decide_within(policy, observation, state, *at_seconds, &search_behind(solve)).1;
        }
        let search = Search { detail, ..search_behind(&last.2) };
        let (decision, _) = decide_within(policy, &last.1, state, last.0, &search);
        let said = |d: &Decision| d.pools.iter().map(|p| (p.desired, p.planned)).collect::<Vec<_>>();
        if said(&decision) != said(&recorded) {
            return Err("made again, the decision comes out differently: it is of another version of poolwright, or \
                        its policy was edited shortly before"
                .to_owned());
        }
        Ok(decision)
    }
}

/// The search that found a plan.
fn search_behind(solve: &SolveReport) -> Search<'_> {
    // Before its limit was journaled, a search had the usual one.
    if solve.effort_units == 0 { Search::default() } else { Search::of(solve) }
}
