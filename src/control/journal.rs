//! The journal: one JSON line a tick with what was seen and what was decided, in files of limited size.
//!
//! Every file starts with the state before its first tick, so that each can be replayed on its own; so does
//! every part of a file that follows a restart, and every hour or so, so that a moment is replayed fast.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Decision, State};
use crate::observe::Observation;

const NAME: &str = "journal";
/// Ticks after which the state is written again.
const STATE_TICKS: u32 = 240;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Entry {
    /// State before the ticks that follow.
    State(Box<State>),
    /// One tick.
    Tick { at_seconds: f64, observation: Box<Observation>, decision: Box<Decision> },
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalLimits {
    /// Bytes after which a new file is begun.
    pub file_bytes: u64,
    /// Files kept, the current one included.
    pub files: usize,
}

impl Default for JournalLimits {
    fn default() -> Self {
        Self { file_bytes: 64 << 20, files: 4 }
    }
}

/// Appends to `journal.jsonl` in a directory; older files are `journal.1.jsonl`, `journal.2.jsonl`, …
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    limits: JournalLimits,
    file: Option<File>,
    written: u64,
    /// Ticks since the state was written.
    ticks: u32,
}

impl Journal {
    pub fn new(directory: &Path, limits: JournalLimits) -> Self {
        Self { directory: directory.to_owned(), limits, file: None, written: 0, ticks: 0 }
    }

    fn path(&self, age: usize) -> PathBuf {
        self.directory.join(file_name(age))
    }

    /// Append one tick. `before` is the state the decision was made from; it is written only where a file
    /// begins.
    ///
    /// # Errors
    /// The volume does not take it; the next tick tries again with a new file.
    pub fn append(&mut self, before: &State, observation: &Observation, decision: &Decision) -> Result<()> {
        let result = self.try_append(before, observation, decision);
        if result.is_err() {
            self.file = None;
        }
        result.with_context(|| format!("cannot write the journal in {}", self.directory.display()))
    }

    fn try_append(&mut self, before: &State, observation: &Observation, decision: &Decision) -> Result<()> {
        let entry = Entry::Tick {
            at_seconds: decision.at_seconds,
            observation: Box::new(observation.clone()),
            decision: Box::new(decision.clone()),
        };
        let line = line(&entry)?;
        let is_full = self.written + line.len() as u64 > self.limits.file_bytes;
        let begins = self.file.is_none() || is_full;
        if is_full {
            self.rotate()?;
        } else if begins {
            self.reopen(line.len() as u64)?;
        }
        if begins || self.ticks >= STATE_TICKS {
            let head = self::line(&Entry::State(Box::new(before.clone())))?;
            self.write(&head)?;
            self.ticks = 0;
        }
        self.ticks += 1;
        self.write(&line)
    }

    fn write(&mut self, line: &[u8]) -> Result<()> {
        if let Some(file) = self.file.as_mut() {
            file.write_all(line)?;
            self.written += line.len() as u64;
        }
        Ok(())
    }

    /// Go on with the newest file, after a start or an error, as long as it has room for `next` more bytes.
    fn reopen(&mut self, next: u64) -> Result<()> {
        fs::create_dir_all(&self.directory)?;
        let length = fs::metadata(self.path(0)).map_or(0, |m| m.len());
        if length + next > self.limits.file_bytes {
            return self.rotate();
        }
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(0))?;
        if length > 0 {
            // Ends a line that a crash may have cut short; an empty line is no entry.
            file.write_all(b"\n")?;
        }
        self.file = Some(file);
        self.written = length + 1;
        Ok(())
    }

    fn rotate(&mut self) -> Result<()> {
        self.file = None;
        fs::create_dir_all(&self.directory)?;
        let keep = self.limits.files.max(1);
        for age in (0..keep).rev() {
            let from = self.path(age);
            if from.exists() {
                if age + 1 >= keep { fs::remove_file(from)? } else { fs::rename(from, self.path(age + 1))? }
            }
        }
        self.file = Some(OpenOptions::new().create(true).append(true).open(self.path(0))?);
        self.written = 0;
        Ok(())
    }
}

/// Name of a journal file; 0 is the newest.
pub(super) fn file_name(age: usize) -> String {
    if age == 0 { format!("{NAME}.jsonl") } else { format!("{NAME}.{age}.jsonl") }
}

fn line(entry: &Entry) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    Ok(line)
}

/// Read one journal file.
///
/// # Errors
/// The file cannot be read, or a line is no entry (one that a crash cut short is left out).
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines: Vec<String> =
        BufReader::new(file).lines().collect::<std::io::Result<_>>().with_context(|| path.display().to_string())?;
    let last = lines.len();
    let mut entries = Vec::with_capacity(last);
    let ends = |number: usize| number + 1 == last || lines[number + 1].is_empty();
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        match serde_json::from_str(line) {
            Ok(entry) => entries.push(entry),
            Err(_) if ends(number) => {}
            Err(e) => anyhow::bail!("{}:{}: {e}", path.display(), number + 1),
        }
    }
    Ok(entries)
}
