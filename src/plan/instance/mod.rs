//! Planning problems as files: what is read, what is refused with which line, what a plan means in the file's words.
//!
//! Text in, [`Problem`] out. Three sources share two formats: the synthetic fleets of `hetero-alloc/1` (Mélange's
//! sample is written in it too) and the folders of inferno's optimiser. This module knows no path and no solver.

mod field;
mod generate;
mod hetero;
mod inferno;

pub use field::Refusal;
pub use generate::{Recipe, drifted, generate};
pub use hetero::Fleet;
pub use inferno::{Candidate, Current, Server, Servers};

use serde_json::Value;

use super::Problem;

/// A problem with the words of the file it came from.
#[derive(Clone, Debug)]
pub struct Instance {
    /// As the file calls it, or the file's name.
    pub name: String,
    pub problem: Problem,
    /// Replicas that one replica of a pool of the problem stands for: 1, or those of a whole allocation where
    /// only whole allocations can be chosen.
    pub bundle: Vec<u32>,
    /// Servers with their candidates, where the file is of that kind.
    pub servers: Option<Servers>,
}

impl Instance {
    /// Replicas as the file counts them.
    pub fn replicas(&self, of_problem: &[u32]) -> Vec<u32> {
        of_problem.iter().zip(&self.bundle).map(|(n, bundle)| n * bundle).collect()
    }

    /// The most replicas of each variant, as the file counts them.
    pub fn most(&self) -> Vec<u32> {
        let most: Vec<u32> = self.problem.pools.iter().map(|p| p.max).collect();
        self.replicas(&most)
    }

    /// Replicas of the problem from those of the file; halves of an allocation are none.
    pub fn start(&self, of_file: &[u32]) -> Vec<u32> {
        of_file.iter().zip(&self.bundle).map(|(n, bundle)| n / bundle).collect()
    }

    /// The same with each server on exactly one accelerator; `None` where the file knows no servers.
    pub fn single(&self) -> Option<Self> {
        self.servers.as_ref().map(|servers| servers.single(&self.name))
    }
}

/// Read an instance from its files, (name, text) each: one of `hetero-alloc/1`, or those of inferno's optimiser.
///
/// # Errors
/// The first thing that is wrong, with file, field, value and what would be right.
pub fn read(files: &[(String, String)]) -> Result<Instance, Refusal> {
    let mut values = vec![];
    for (name, text) in files {
        let value: Value = serde_json::from_str(text).map_err(|error| Refusal::no_json(name, &error))?;
        values.push((name.as_str(), value));
    }
    if let [(file, value)] = &values[..]
        && value.get("format").is_some()
    {
        let fleet = Fleet::read(file, value)?;
        let problem = fleet.problem();
        return Ok(Instance { name: fleet.name, bundle: vec![1; problem.pools.len()], problem, servers: None });
    }
    let servers = Servers::read(&values)?;
    let name = values.first().map_or("", |(name, _)| name).to_owned();
    let problem = servers.problem();
    Ok(Instance { name, bundle: vec![1; problem.pools.len()], problem, servers: Some(servers) })
}

/// Read a plan: `{"variant index": replicas}` or an object that holds such a `plan`; pools that are not named run
/// nothing. `most`: replicas that each variant may have (see [`Instance::most`]).
///
/// # Errors
/// As for [`read`].
pub fn read_plan(file: &str, text: &str, most: &[u32]) -> Result<Vec<u32>, Refusal> {
    let value: Value = serde_json::from_str(text).map_err(|error| Refusal::no_json(file, &error))?;
    let root = field::Place::root(file, &value);
    let plan = root.get("plan").unwrap_or(root);
    let mut replicas = vec![0; most.len()];
    for (key, place) in plan.entries()? {
        let index = key.parse::<usize>().ok().filter(|i| *i < most.len());
        let last = most.len().saturating_sub(1);
        let index = index.ok_or_else(|| place.refuse(&format!("an index of a variant, 0 to {last}, as key")))?;
        replicas[index] = place.count_to(most[index], "the most of this variant")?;
    }
    Ok(replicas)
}
