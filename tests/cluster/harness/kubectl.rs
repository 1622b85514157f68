//! The real kubectl, with its warnings.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub struct Kubectl {
    program: PathBuf,
    home: PathBuf,
    kubeconfig: PathBuf,
}

/// What one run wrote.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl Kubectl {
    /// As the user of this kubeconfig. Its cache of discovery goes under `home`.
    pub fn new(programs: &Path, home: &Path, kubeconfig: &Path) -> Self {
        Self { program: programs.join("kubectl"), home: home.to_owned(), kubeconfig: kubeconfig.to_owned() }
    }

    /// The same as another user.
    pub fn with_kubeconfig(&self, kubeconfig: &Path) -> Self {
        Self::new(self.program.parent().unwrap_or(Path::new(".")), &self.home, kubeconfig)
    }

    pub fn run(&self, args: &[&str]) -> Said {
        said(self.command(args).stdin(Stdio::null()).output().expect("kubectl can be started"))
    }

    /// Run it; panics if it fails or warns. What it wrote to stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert!(said.ok && said.err.is_empty(), "kubectl {args:?}: {said:?}");
        said.out
    }

    /// Run a line of the documentation as somebody would in a clone of the repository.
    pub fn shell(&self, line: &str) -> Said {
        let folder = self.program.parent().unwrap_or(Path::new("."));
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", line]).current_dir(env!("CARGO_MANIFEST_DIR"));
        command.env("PATH", path).env("HOME", &self.home).env("KUBECONFIG", &self.kubeconfig);
        said(command.stdin(Stdio::null()).output().expect("bash can be started"))
    }

    /// A token of a service account.
    pub fn token(&self, namespace: &str, account: &str) -> String {
        self.ok(&["create", "token", account, "--namespace", namespace, "--duration=24h"]).trim().to_owned()
    }

    /// Apply this YAML; panics if that fails or warns.
    pub fn apply(&self, yaml: &str) {
        let mut child = self
            .command(&["apply", "--filename=-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl can be started");
        child.stdin.take().expect("it was piped").write_all(yaml.as_bytes()).expect("kubectl reads");
        let said = said(child.wait_with_output().expect("kubectl ends"));
        assert!(said.ok && said.err.is_empty(), "kubectl apply: {said:?} of {yaml}");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(args).env("HOME", &self.home).env_remove("KUBECONFIG");
        command
    }
}

fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}
