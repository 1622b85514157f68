//! The state directory: what the loop remembers across restarts.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::state::{STATE_VERSION, State};

/// Name of the state file in the directory.
const FILE: &str = "state.json";
/// Name of the file that a running daemon holds.
const LOCK: &str = "lock";

/// A directory on a volume.
#[derive(Clone, Debug)]
pub struct StateStore {
    directory: PathBuf,
}

impl StateStore {
    /// Use `directory`, which is made when it is absent.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the state directory {}", directory.display()))?;
        Ok(Self { directory: directory.to_owned() })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Keep other daemons out for as long as the result lives: two of them would overwrite each other's memory and
    /// publish different numbers.
    ///
    /// # Errors
    /// Another process has it. A volume without locks is used without.
    pub fn lock(&self) -> Result<Option<fs::File>> {
        let path = self.directory.join(LOCK);
        let file = fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => bail!(
                "the state directory {} is in use by another poolwright; give each daemon its own",
                self.directory.display()
            ),
            Err(fs::TryLockError::Error(error)) => {
                tracing::warn!(%error, "{} cannot be locked; make sure that one daemon uses it", path.display());
                Ok(None)
            }
        }
    }

    /// Read the state. `None` when there is none yet, or one of another version.
    ///
    /// # Errors
    /// The file cannot be read or is damaged; the caller starts afresh and says so.
    pub fn load(&self) -> Result<Option<State>> {
        let path = self.directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let mut state: State =
            serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
        if state.version != STATE_VERSION {
            tracing::warn!(version = state.version, "{} is of another version and is not read", path.display());
            return Ok(None);
        }
        // Remembered, not seen: nothing of it is said before something was seen again.
        state.pools.values_mut().for_each(|pool| pool.seen = false);
        Ok(Some(state))
    }

    /// Write the state: a new file, then a rename, so that a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// The volume does not take it.
    pub fn save(&self, state: &State) -> Result<()> {
        let path = self.directory.join(FILE);
        let next = self.directory.join(format!("{FILE}.next"));
        let text = serde_json::to_vec(state).context("cannot write the state as JSON")?;
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&next)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&next, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path()).unwrap();
        let held = store.lock().unwrap();
        assert!(held.is_some());
        let refused = StateStore::open(dir.path()).unwrap().lock().unwrap_err().to_string();
        assert!(refused.contains("in use by another poolwright"), "{refused}");
        drop(held);
        assert!(store.lock().unwrap().is_some());
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(&dir.path().join("a/b")).unwrap();
        assert!(store.load().unwrap().is_none());
        let mut state = State::default();
        state.pools.entry("ns/p".into()).or_default().published = Some(7);
        state.models.entry("ns/m".into()).or_default().rates.note(60.0, 1.25);
        store.save(&state).unwrap();
        let loaded = store.load().unwrap().unwrap();
        assert_eq!((&loaded.pools, &loaded.models), (&state.pools, &state.models));
    }

    #[test]
    fn damage_is_an_error_and_another_version_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(dir.path()).unwrap();
        fs::write(dir.path().join(FILE), b"{\"version\": 1, ").unwrap();
        assert!(store.load().unwrap_err().to_string().contains("damaged"));
        fs::write(dir.path().join(FILE), b"{\"version\": 999, \"models\": {}, \"pools\": {}}").unwrap();
        assert!(store.load().unwrap().is_none());
    }
}
