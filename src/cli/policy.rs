//! `poolwright policy`: check and schema.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{Exit, load_policy};

#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    verb: PolicyVerb,
}

#[derive(Debug, Subcommand)]
enum PolicyVerb {
    /// Check a policy file or folder; prints what was understood, or every problem with file and line.
    Check {
        /// File or folder.
        #[arg(value_name = "FILE|DIR")]
        path: PathBuf,
    },
    /// Print the JSON Schema of policy documents, for editors.
    Schema,
}

pub fn run(args: &PolicyArgs) -> Result<Exit> {
    let mut out = std::io::stdout().lock();
    match &args.verb {
        PolicyVerb::Check { path } => match load_policy(path) {
            Ok(policy) => write!(out, "{}", crate::policy::check_report(&policy))?,
            Err(exit) => return Ok(exit),
        },
        PolicyVerb::Schema => {
            serde_json::to_writer_pretty(&mut out, &crate::policy::json_schema())?;
            writeln!(out)?;
        }
    }
    Ok(Exit::Done)
}
