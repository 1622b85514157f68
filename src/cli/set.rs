//! `--set`: values of the policy for one run, without an edit of its files.

use std::path::Path;

use clap::Args;

use super::Exit;
use crate::policy::{Change, Policy, load_with};

#[derive(Debug, Default, Args)]
pub struct SetArgs {
    /// Set a value of the policy for this run, for example `accelerators.h100.price=2.1`,
    /// `classes.interactive.ttft=1s`, `models.llama-70b.pools.llama-70b-l40s.max=4`; keys may be cut short. May be
    /// given several times.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub changes: Vec<Change>,
}

impl SetArgs {
    /// The policy with what is set, or line by line what is wrong with it.
    pub fn load(&self, path: &Path) -> Result<Policy, Exit> {
        load_with(path, &self.changes).map_err(|errors| {
            eprintln!("{errors}");
            Exit::Usage
        })
    }

    /// What is set, a line each.
    pub fn words(&self) -> Vec<String> {
        self.changes.iter().map(|change| format!("set {change}")).collect()
    }

    /// Says on standard error what is set: the answer itself has a fixed form.
    pub fn say(&self) {
        self.words().iter().for_each(|line| eprintln!("poolwright: {line}"));
    }
}
