//! The arguments that say what is played: files, the models they belong to, lengths, scale, stretch.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::Wrong;
use crate::policy::Policy;
use crate::policy::units::Duration;
use crate::simulate::Trace;
use crate::simulate::replay::{JournalTraffic, Lengths, Play, Recording, Traffic};

/// Monday 2026-01-05 00:00 UTC: a run begins then unless something else is said.
const START_UNIX_SECONDS: f64 = 1_767_571_200.0;

#[derive(Debug, Args)]
pub struct TrafficArgs {
    /// What to play: a CSV of requests or rates, plain or gzip, for a model or one of its classes. A file with
    /// several services needs the column. May be given several times.
    #[arg(long = "trace", value_name = "[MODEL[/CLASS]=]FILE[#COLUMN]", required_unless_present_any = ["list", "journal"])]
    traces: Vec<String>,
    /// Play what the daemon saw, in the place of traces: its --state-dir, or one file of its journal. Requests are
    /// drawn anew from the rates of every model, of classes by the policy's shares.
    #[arg(long, value_name = "DIR|FILE", conflicts_with = "traces")]
    journal: Option<PathBuf>,
    /// Lengths for traces that have none: a file of requests to draw from, or known quantiles such as `m-large`.
    #[arg(long, value_name = "[MODEL[/CLASS]=]FILE|NAME")]
    lengths: Vec<String>,
    /// Multiplies the rates.
    #[arg(long, value_name = "[MODEL[/CLASS]=]X")]
    scale: Vec<String>,
    /// Squared coefficient of variation of the times between requests inside a minute; 1 is a Poisson process. For
    /// traces of rates.
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    burstiness: f64,
    /// Where to begin, from the beginning of the traces, for example `24h`.
    #[arg(long, default_value = "0s", value_name = "DURATION")]
    from: Duration,
    /// Where to end, from the beginning of the traces. [default: the end of the shortest]
    #[arg(long, value_name = "DURATION")]
    to: Option<Duration>,
}

/// What stands before `=`: a model and one of its classes, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subject {
    model: usize,
    class: Option<usize>,
}

impl TrafficArgs {
    /// What is played, and what is to be said of it.
    pub fn read(&self, policy: &Policy) -> Result<(Traffic, Vec<String>), Wrong> {
        if let Some(path) = &self.journal {
            return self.of_journal(path, policy);
        }
        let mut plays = vec![];
        for (nth, text) in self.traces.iter().enumerate() {
            let (subject, file) = subject("trace", text, policy)?;
            let subject = match subject {
                Some(subject) => subject,
                // Without a name the first trace is the first model's, and so on.
                None if nth < policy.models.len() => Subject { model: nth, class: None },
                None => return Err(format!("--trace {text}: the policy has no model left for it; write MODEL=FILE")),
            };
            plays.push(self.play(subject, file, policy)?);
        }
        let traffic = Traffic::new(plays, policy, START_UNIX_SECONDS).map_err(|error| error.to_string())?;
        Ok((traffic, vec![]))
    }

    /// The traffic of every model of the policy that the journal knows.
    fn of_journal(&self, path: &Path, policy: &Policy) -> Result<(Traffic, Vec<String>), Wrong> {
        let journal = JournalTraffic::read(path).map_err(|error| format!("--journal {error}"))?;
        let from = self.from.seconds();
        let to = self.to.map_or(journal.seconds(), |to| to.seconds().min(journal.seconds()));
        let (mut plays, mut notes) = (vec![], vec![]);
        for (model, known) in policy.models.iter().enumerate() {
            let id = known.id();
            let found = journal.model(&id, from, to).map_err(|error| format!("--journal {error}"))?;
            let Some(found) = found else {
                notes.push(format!("the journal knows no rate of {id}: nothing is played for it"));
                continue;
            };
            if found.bridged.0 > 0 {
                let (count, longest) = found.bridged;
                notes.push(format!("{id}: {count} gaps of up to {longest:.0} s are bridged by the rate before them"));
            }
            let subject = Subject { model, class: None };
            let named = last_for("lengths", &self.lengths, subject, policy)?;
            let lengths = match (named, found.lengths) {
                (Some(text), _) => lengths(text)?,
                (None, Some(seen)) => seen,
                (None, None) => {
                    return Err(format!("--journal {}: too few lengths of {id}; give --lengths", path.display()));
                }
            };
            plays.push(self.stretch(&path.display().to_string(), found.recording, subject, lengths, policy)?);
        }
        let others = journal.models().filter(|id| policy.models.iter().all(|m| m.id() != *id));
        notes.extend(others.map(|id| format!("{id} is in the journal and not in the policy: it is not played")));
        if plays.is_empty() {
            let models = journal.models().collect::<Vec<_>>().join(", ");
            return Err(format!("--journal {}: no model of the policy; it knows {models}", path.display()));
        }
        let traffic = Traffic::new(plays, policy, journal.begin_seconds + from).map_err(|error| error.to_string())?;
        Ok((traffic, notes))
    }

    fn play(&self, subject: Subject, file: &str, policy: &Policy) -> Result<Play, Wrong> {
        let (path, column) = match file.rsplit_once('#') {
            Some((path, column)) if !Path::new(file).exists() => (path, Some(column)),
            _ => (file, None),
        };
        let recording = Recording::read(Path::new(path), column).map_err(|error| error.to_string())?;
        let lengths = match last_for("lengths", &self.lengths, subject, policy)? {
            Some(text) => lengths(text)?,
            None if matches!(recording, Recording::Requests(_)) => Lengths::Own,
            None => {
                let known = Lengths::known_names().join(", ");
                return Err(format!(
                    "--trace {file}: it holds rates only; give --lengths a file of requests or {known}"
                ));
            }
        };
        self.stretch(file, recording, subject, lengths, policy)
    }

    /// The part between `--from` and `--to`, at the rate that is asked for.
    fn stretch(
        &self,
        file: &str,
        recording: Recording,
        subject: Subject,
        lengths: Lengths,
        policy: &Policy,
    ) -> Result<Play, Wrong> {
        let scale = match last_for("scale", &self.scale, subject, policy)? {
            Some(text) => text.parse::<f64>().map_err(|_| format!("--scale {text}: expected a number above 0"))?,
            None => 1.0,
        };
        let begin = recording.begin_seconds();
        let end = recording.end_seconds();
        let from_seconds = begin + self.from.seconds();
        let to_seconds = self.to.map_or(end, |to| (begin + to.seconds()).min(end));
        if from_seconds >= to_seconds {
            let hours = (end - begin) / 3600.0;
            return Err(format!("{file}: nothing lies between --from and --to; it lasts {hours:.1} h"));
        }
        let play = Play::whole(Arc::new(recording), subject.model, lengths);
        Ok(Play { class: subject.class, scale, burstiness: self.burstiness, from_seconds, to_seconds, ..play })
    }
}

fn lengths(text: &str) -> Result<Lengths, Wrong> {
    match Lengths::known(text) {
        Some(known) => Ok(known),
        None => Ok(Lengths::Drawn(Arc::new(Trace::read(Path::new(text)).map_err(|error| error.to_string())?))),
    }
}

/// The last value given for the subject, or for all.
fn last_for<'a>(flag: &str, values: &'a [String], of: Subject, policy: &Policy) -> Result<Option<&'a str>, Wrong> {
    let mut found = None;
    for value in values {
        let (subject, rest) = subject(flag, value, policy)?;
        if subject.is_none_or(|s| s.model == of.model && s.class.is_none_or(|class| Some(class) == of.class)) {
            found = Some(rest);
        }
    }
    Ok(found)
}

/// `MODEL[/CLASS]=rest`, or `rest` alone.
fn subject<'a>(flag: &str, text: &'a str, policy: &Policy) -> Result<(Option<Subject>, &'a str), Wrong> {
    let Some((name, rest)) = text.split_once('=') else { return Ok((None, text)) };
    let is = |m: &crate::policy::Model, name: &str| m.name == name || m.id() == name;
    if let Some(model) = policy.models.iter().position(|m| is(m, name)) {
        return Ok((Some(Subject { model, class: None }), rest));
    }
    let found = name.rsplit_once('/').and_then(|(model, class)| {
        let model = policy.models.iter().position(|m| is(m, model))?;
        let class = policy.classes.iter().position(|c| c.name == class)?;
        Some(Subject { model, class: Some(class) })
    });
    let models = || policy.models.iter().map(|m| m.name.clone()).collect::<Vec<_>>().join(", ");
    match found {
        Some(subject) => Ok((Some(subject), rest)),
        None => Err(format!("--{flag} {text}: `{name}` is no model of the policy ({}), nor MODEL/CLASS", models())),
    }
}
