//! Where the programs of the control plane and of KEDA are.

use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Assets {
    /// Folder of `etcd`, `kube-apiserver`, `kube-controller-manager`, `kubectl`.
    pub controlplane: PathBuf,
    /// Folder of `operator`, `adapter` and `crds/`.
    pub keda: PathBuf,
}

impl Assets {
    /// Find what `scripts/cluster-build` built; an error in words when it is not there.
    pub fn find() -> Result<Self, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/cluster-build");
        let output = Command::new(&script).arg("--where").output();
        let output = output.map_err(|error| format!("{}: {error}", script.display()))?;
        if !output.status.success() {
            return Err("the control plane is not built; `make cluster-test` builds it, which takes Go".into());
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let place = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(PathBuf::from).ok_or_else(|| format!("scripts/cluster-build does not say where {name} is"))
        };
        Ok(Self { controlplane: place("controlplane")?, keda: place("keda")? })
    }
}
