//! Child processes: a log file each, stopped by their own id when they go out of scope, also by a panic.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Below the range from which systems take the ports of outgoing connections: a port found free there could be
/// such a connection's a moment later.
const PORTS: std::ops::Range<u16> = 21_000..31_000;

/// A port that nobody listens on. Each call gives another one.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let width = PORTS.end - PORTS.start;
    // Two runs at the same time begin at different places, far apart also when one follows the other.
    let start = (std::process::id().wrapping_mul(61) % u32::from(width)) as u16;
    for _ in 0..width {
        let port = PORTS.start + (start + NEXT.fetch_add(1, Ordering::Relaxed) % width) % width;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port in {PORTS:?}");
}

pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Start `program`; what it writes goes to a file in `folder`.
    pub fn start(name: &str, program: &Path, args: &[String], envs: &[(&str, String)], folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log file can be made");
        let copy = file.try_clone().expect("a file handle can be copied");
        let mut command = dying_with_us(program);
        command.args(args).envs(envs.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self { name: name.into(), child, log }
    }

    /// Panics with the end of its log if it has ended by itself.
    pub fn check(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended by itself with {status}:\n{}", self.name, self.tail(30));
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("one's own child can be asked")
    }

    /// The last lines it wrote.
    pub fn tail(&self, lines: usize) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// All that it wrote so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Processor time that it has used, seconds; 0 once it has ended, or where the system does not tell.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&self.child.id().to_string())
    }

    /// Ask it to stop, and end it if it does not within ten seconds.
    pub async fn stop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        for _ in 0..100 {
            if self.ended().is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.kill();
    }

    /// End it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of a process, `self` for this one, as Linux counts it: in hundredths of a second.
pub fn cpu_seconds(process: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // What follows the program's name, which may hold anything.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |field: usize| rest.split_whitespace().nth(field)?.parse::<f64>().ok();
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command that the system ends should this program be killed, where it can be told to. The system watches
/// the thread that starts it: that is the main thread here, on which all tests run.
fn dying_with_us(program: &Path) -> Command {
    const SETPRIV: &str = "/usr/bin/setpriv";
    if !Path::new(SETPRIV).exists() {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
