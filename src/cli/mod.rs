//! The command line: one file per verb, arguments in, exit code out.
//!
//! This room turns what was typed into calls of the other rooms and their answers into text. It owns no
//! rule of its own: every number it prints comes from a decision or a summary.

mod accuracy;
mod capacity;
mod demo;
mod doctor;
mod explain;
mod fit;
mod kubernetes;
mod live;
mod manifests;
mod plan;
mod policy;
mod serve;
mod set;
mod simulate;
mod solve;
mod source;
mod table;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was decided.
    Done,
    /// Something failed on the way, or a check-up found something wrong.
    Failed,
    /// The command line or the policy is wrong.
    Usage,
    /// Some pools were held for lack of data.
    Held,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Held => 3,
        })
    }
}

/// Decides how many replicas every accelerator pool of an LLM fleet should run.
#[derive(Debug, Parser)]
#[command(name = "poolwright", version, about, max_term_width = 100)]
struct Cli {
    /// What to log, e.g. `info` or `poolwright=debug,warn`. [default: warn; for plan, explain and doctor: error]
    #[arg(long, global = true, env = "POOLWRIGHT_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// How to log to standard error.
    #[arg(long, global = true, env = "POOLWRIGHT_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show a simulated fleet being scaled: no cluster, no Prometheus, no GPU.
    Demo(demo::DemoArgs),
    /// Dry run: print what every pool should run, and why. Writes nothing.
    Plan(plan::PlanArgs),
    /// Say why a pool has its number, a class its hardware, an accelerator its use, and what would change it.
    Explain(Box<explain::ExplainArgs>),
    /// The daemon: decide every interval and publish.
    Serve(Box<serve::ServeArgs>),
    /// Check metrics, cluster, scalers and rights; say for every finding what to do. Changes nothing.
    Doctor(Box<doctor::DoctorArgs>),
    /// Print what to apply to a cluster: the daemon, its rights, an HPA or ScaledObject for every pool.
    Manifests(manifests::ManifestsArgs),
    /// Fit a profile to measured points, and say how far it can be trusted.
    Fit(Box<fit::FitArgs>),
    /// Print what one replica carries: requests per second by shape and latency target, and what binds.
    Capacity(Box<capacity::CapacityArgs>),
    /// Solve a planning problem from a file and say how good the plan is: plan, objective, bound, gap, seconds.
    Solve(solve::SolveArgs),
    /// Replay recorded traffic with our planner and with others: what it costs, who is late, and why.
    Simulate(Box<simulate::SimulateArgs>),
    /// Check policies, print their JSON Schema.
    Policy(policy::PolicyArgs),
    /// How far the performance model is from measured points; fits its constants.
    Accuracy(accuracy::AccuracyArgs),
    /// Print a completion script for a shell.
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write those of all verbs into a folder.
    Man {
        /// Folder for `poolwright.1`, `poolwright-plan.1`, ….
        #[arg(long, value_name = "DIR")]
        dir: Option<std::path::PathBuf>,
    },
}

/// Parse, run, answer with an exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // The dry run and the check-up say themselves, in one line, what a daemon would log.
    let quiet = matches!(cli.verb, Verb::Plan(_) | Verb::Explain(_) | Verb::Doctor(_));
    let filter = cli.log.as_deref().unwrap_or(if quiet { "error" } else { "warn" });
    if let Err(error) = init_logging(filter, cli.log_format) {
        eprintln!("poolwright: --log {filter}: {error}");
        return Exit::Usage.into();
    }
    raise_open_files();
    // One TLS implementation in the whole program; a second call could only follow a first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(cli.verb) {
        Ok(exit) => exit.into(),
        Err(error) if is_broken_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            eprintln!("poolwright: {error:#}");
            Exit::Failed.into()
        }
    }
}

/// Whether this is a command line of the program; its name comes first.
///
/// # Errors
/// What is wrong with it.
pub fn check(arguments: &[&str]) -> Result<(), clap::Error> {
    Cli::try_parse_from(arguments).map(|_| ())
}

fn run(verb: Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::Demo(args) => runtime()?.block_on(demo::run(args)),
        Verb::Plan(args) => runtime()?.block_on(plan::run(args)),
        Verb::Explain(args) => runtime()?.block_on(explain::run(*args)),
        Verb::Serve(args) => runtime()?.block_on(serve::run(*args)),
        Verb::Doctor(args) => runtime()?.block_on(doctor::run(*args)),
        Verb::Manifests(args) => runtime()?.block_on(manifests::run(args)),
        Verb::Fit(args) => fit::run(&args),
        Verb::Capacity(args) => capacity::run(&args),
        Verb::Solve(args) => solve::run(&args),
        Verb::Simulate(args) => simulate::run(&args),
        Verb::Policy(args) => policy::run(&args),
        Verb::Accuracy(args) => accuracy::run(&args),
        Verb::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "poolwright", &mut script);
            std::io::stdout().write_all(&script)?;
            Ok(Exit::Done)
        }
        Verb::Man { dir: Some(dir) } => {
            clap_mangen::generate_to(Cli::command(), dir)?;
            Ok(Exit::Done)
        }
        Verb::Man { dir: None } => {
            clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?;
            Ok(Exit::Done)
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Allow as many open files as the system admits, as Go's programs do: the usual 1024 is for programs that still
/// use `select`, and a flood of connections would be felt everywhere.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, ?limit, "the limit of open files stays");
    }
}

fn init_logging(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

/// A reader that went away (`poolwright plan | head`) is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |e: &(dyn std::error::Error + 'static)| {
        let io = e.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        // JSON keeps the error of the writer to itself.
        io.or_else(|| e.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind))
    };
    error.chain().filter_map(kind).any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}

/// Load a policy or say line by line what is wrong with it.
fn load_policy(path: &std::path::Path) -> Result<crate::policy::Policy, Exit> {
    crate::policy::load(path).map_err(|errors| {
        eprintln!("{errors}");
        Exit::Usage
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        struct Gone;
        impl std::io::Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let json = serde_json::to_writer(Gone, &[1, 2]).unwrap_err();
        assert!(is_broken_pipe(&anyhow::Error::from(json).context("printing")));
        assert!(is_broken_pipe(&std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()));
        assert!(!is_broken_pipe(&anyhow::anyhow!("something else")));
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
