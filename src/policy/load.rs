//! Policy files: reading a file or a folder, and noticing that its contents changed. The only part of
//! this room that touches the disk; it applies a policy as a whole or not at all.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::change::Change;
use super::document::{NO_FILE, Report, Texts, may_be_missing, named_files, parse};
use super::problem::PolicyErrors;
use super::resolve::resolve;
use super::resolved::Policy;

/// Times a set of files is read again when it changes while it is read.
const READ_AGAIN: usize = 3;

/// Reads a policy from a file, or from all `*.yaml`, `*.yml` and `*.json` of a folder in the order of
/// their names. Hidden names are skipped, among them the `..data` links of a mounted ConfigMap.
///
/// # Errors
/// Everything that is wrong, with file and line.
pub fn load(path: &Path) -> Result<Policy, PolicyErrors> {
    load_with(path, &[])
}

/// As [`load`], with values that are set in the documents before they are looked at.
///
/// # Errors
/// Everything that is wrong, with file and line, or with the change that it comes from.
pub fn load_with(path: &Path, changes: &[Change]) -> Result<Policy, PolicyErrors> {
    resolve(&read_stable(path, changes))
}

/// The texts that make up a policy, profiles included, by their path below its folder.
///
/// # Errors
/// The first file that cannot be read, and why.
pub fn files(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or_else(|| Path::new("")) };
    let Texts { documents, profiles, .. } = read_stable(path, &[]);
    let below = |name: &str| {
        let path = Path::new(name);
        path.strip_prefix(folder).unwrap_or(path).display().to_string()
    };
    documents
        .into_iter()
        .chain(profiles.into_iter().filter(|(name, text)| text.is_ok() || !may_be_missing(name)))
        .map(|(name, text)| match text {
            Ok(text) => Ok((below(&name), text)),
            Err(error) => Err(format!("{name}: {error}")),
        })
        .collect()
}

/// Resolves a policy from one text; `name` stands for the file in messages. Profile files are looked for
/// beside that name.
///
/// # Errors
/// Everything that is wrong, with line.
pub fn from_text(name: &str, text: &str) -> Result<Policy, PolicyErrors> {
    resolve(&with_profiles(vec![(name.to_owned(), Ok(text.to_owned()))], &[]))
}

/// Notices changes of a policy by its contents, never by time stamps: a ConfigMap swaps links, editors
/// replace files, and both happen within the resolution of a file system's clock.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
    changes: Vec<Change>,
    last: Option<Texts>,
}

impl Watcher {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with(path, vec![])
    }

    /// With values that are set in the documents each time.
    pub fn with(path: impl Into<PathBuf>, changes: Vec<Change>) -> Self {
        Self { path: path.into(), changes, last: None }
    }

    /// The policy, if the contents changed since the last call; the first call always answers. On an
    /// error the caller keeps the policy it has; the same broken contents are reported once.
    pub fn poll(&mut self) -> Option<Result<Policy, PolicyErrors>> {
        if self.last.as_ref().is_some_and(|last| is_unchanged(&self.path, last)) {
            return None;
        }
        let texts = read_stable(&self.path, &self.changes);
        if self.last.as_ref() == Some(&texts) {
            return None;
        }
        let resolved = resolve(&texts);
        self.last = Some(texts);
        Some(resolved)
    }
}

/// Compares without parsing: which profiles are named follows from the documents.
fn is_unchanged(path: &Path, last: &Texts) -> bool {
    read_documents(path) == last.documents
        && last.profiles.iter().all(|(name, text)| read_text(Path::new(name)) == *text)
}

/// Reads until two readings agree, so that half of an old and half of a new set is not taken for one.
fn read_stable(path: &Path, changes: &[Change]) -> Texts {
    let mut texts = read(path, changes);
    for _ in 0..READ_AGAIN {
        let again = read(path, changes);
        if again == texts {
            break;
        }
        texts = again;
    }
    texts
}

fn read(path: &Path, changes: &[Change]) -> Texts {
    with_profiles(read_documents(path), changes)
}

fn with_profiles(documents: Vec<(String, Result<String, String>)>, changes: &[Change]) -> Texts {
    let mut texts = Texts { documents, profiles: BTreeMap::new(), changes: changes.to_vec() };
    for name in named_files(&parse(&texts, &mut Report::default())) {
        let text = read_text(Path::new(&name));
        texts.profiles.insert(name, text);
    }
    texts
}

fn read_documents(path: &Path) -> Vec<(String, Result<String, String>)> {
    let shown = |path: &Path| path.display().to_string();
    if !path.is_dir() {
        return vec![(shown(path), read_text(path))];
    }
    match policy_files(path) {
        Err(error) => vec![(shown(path), Err(reason(&error)))],
        Ok(files) if files.is_empty() => {
            vec![(shown(path), Err("the folder holds no *.yaml, *.yml or *.json file".to_owned()))]
        }
        Ok(files) => files.iter().map(|file| (shown(file), read_text(file))).collect(),
    }
}

fn policy_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let is_policy = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if is_policy && !name.to_string_lossy().starts_with('.') && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_text(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| reason(&error))?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        format!("is no UTF-8 text from line {line} on")
    })
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => NO_FILE.to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}
