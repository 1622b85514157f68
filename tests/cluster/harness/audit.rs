//! What kube-apiserver saw somebody do: every request of poolwright's service account, with its outcome.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Name of the file, in the control plane's folder.
pub const LOG: &str = "audit.log";

/// Only the one account, and no bodies.
const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ["system:serviceaccount:poolwright-system:poolwright"]}
- {level: None}
"#;

/// Write what is to be recorded.
pub fn policy(folder: &Path) -> PathBuf {
    let file = folder.join("audit-policy.yaml");
    fs::write(&file, POLICY).expect("a file can be written");
    file
}

/// The record from now on.
pub struct Audit {
    file: PathBuf,
    from: usize,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deed {
    pub verb: String,
    /// `resource/subresource` and the name, where there is one.
    pub what: String,
    pub code: u64,
}

impl Deed {
    fn read(line: &str) -> Option<Self> {
        let entry: Value = serde_json::from_str(line).ok()?;
        let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let mut what = text("/objectRef/resource").to_owned();
        for (sign, pointer) in [("/", "/objectRef/subresource"), (" ", "/objectRef/name")] {
            if !text(pointer).is_empty() {
                what = format!("{what}{sign}{}", text(pointer));
            }
        }
        if what.is_empty() {
            what = text("/requestURI").to_owned();
        }
        let code = entry.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or(0);
        Some(Self { verb: text("/verb").to_owned(), what, code })
    }

    pub fn is_write(&self) -> bool {
        ["create", "update", "patch", "delete", "deletecollection"].contains(&self.verb.as_str())
    }
}

impl Audit {
    pub fn start(folder: &Path) -> Self {
        let file = folder.join(LOG);
        let from = fs::read(&file).map(|bytes| bytes.len()).unwrap_or(0);
        Self { file, from }
    }

    /// All requests of poolwright's service account since the start.
    pub fn deeds(&self) -> Vec<Deed> {
        let bytes = fs::read(&self.file).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes.get(self.from..).unwrap_or_default()).into_owned();
        text.lines().filter_map(Deed::read).collect()
    }

    /// Changes of the APIService of external metrics.
    pub fn registrations(&self) -> Vec<Deed> {
        let ours = |deed: &Deed| deed.is_write() && deed.what.starts_with("apiservices");
        self.deeds().into_iter().filter(ours).collect()
    }
}
