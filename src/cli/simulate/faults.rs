//! The arguments that say what goes wrong in a replay.

use clap::Args;

use super::Wrong;
use crate::policy::Policy;
use crate::policy::units::Duration;
use crate::simulate::replay::{Faults, Loss};

#[derive(Debug, Args)]
pub struct FaultArgs {
    /// Replicas that die, per replica and day.
    #[arg(long, default_value_t = 0.0, value_name = "N", help_heading = "What goes wrong")]
    deaths: f64,
    /// No rule can read anything during this time of the run, for example `1h-1h10m`. May be given several times.
    #[arg(long, value_name = "FROM-TO", help_heading = "What goes wrong")]
    blind: Vec<String>,
    /// Share of the servers that do not answer; others at every look.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", help_heading = "What goes wrong")]
    silent: f64,
    /// The rule's controller starts anew at this time of the run and remembers nothing. May be given several times.
    #[arg(long, value_name = "T", help_heading = "What goes wrong")]
    restart_at: Vec<Duration>,
    /// Only so many accelerators of a type are left for a while, for example `h100=8@1h-2h`. May be given several
    /// times.
    #[arg(long, value_name = "TYPE=LEFT@FROM-TO", help_heading = "What goes wrong")]
    lose: Vec<String>,
}

impl FaultArgs {
    /// For a run of `seconds`.
    pub fn read(&self, policy: &Policy, seconds: f64) -> Result<Faults, Wrong> {
        if !(0.0..=1000.0).contains(&self.deaths) {
            return Err(format!("--deaths {}: expected a number from 0 to 1000", self.deaths));
        }
        if !(0.0..1.0).contains(&self.silent) {
            return Err(format!("--silent {}: expected a share from 0 to below 1", self.silent));
        }
        let inside = |flag: String, at: f64| match at < seconds {
            true => Ok(at),
            false => Err(format!("{flag}: the run ends after {}", Duration::from_seconds(seconds))),
        };
        let time = |flag: &str, text: &str, times: &str| {
            let flag = format!("--{flag} {text}");
            let (from, to) = span(times).map_err(|wrong| format!("{flag}: {wrong}"))?;
            inside(flag, from).map(|from| (from, to))
        };
        let restart = |at: &Duration| inside(format!("--restart-at {at}"), at.seconds());
        Ok(Faults {
            deaths_per_hour: self.deaths / 24.0,
            losses: self.lose.iter().map(|text| loss(text, policy, time)).collect::<Result<_, _>>()?,
            blind: self.blind.iter().map(|text| time("blind", text, text)).collect::<Result<_, _>>()?,
            silent_share: self.silent,
            restarts: self.restart_at.iter().map(restart).collect::<Result<_, _>>()?,
        })
    }

    /// What goes wrong, a line each.
    pub fn words(&self) -> Vec<String> {
        let deaths = (self.deaths > 0.0).then(|| format!("replicas die {} times a day each", self.deaths));
        let silent = (self.silent > 0.0).then(|| format!("{:.0} % of the servers do not answer", 100.0 * self.silent));
        let blind = self.blind.iter().map(|text| format!("nothing can be read {text}"));
        let restarts = self.restart_at.iter().map(|at| format!("the controller restarts at {at}"));
        let losses = self.lose.iter().map(|text| format!("accelerators are lost: {text}"));
        deaths.into_iter().chain(silent).chain(blind).chain(restarts).chain(losses).collect()
    }
}

/// `FROM-TO`, seconds.
fn span(text: &str) -> Result<(f64, f64), Wrong> {
    let form = || "expected FROM-TO, for example 1h-1h10m".to_owned();
    let (from, to) = text.split_once('-').ok_or_else(form)?;
    let read = |text: &str| text.parse::<Duration>().map_err(|error| error.to_string());
    let (from, to) = (read(from)?.seconds(), read(to)?.seconds());
    if from < to { Ok((from, to)) } else { Err("the end must be after the beginning".to_owned()) }
}

/// `TYPE=LEFT@FROM-TO`.
fn loss(
    text: &str,
    policy: &Policy,
    time: impl Fn(&str, &str, &str) -> Result<(f64, f64), Wrong>,
) -> Result<Loss, Wrong> {
    let form = || format!("--lose {text}: expected TYPE=LEFT@FROM-TO, for example h100=8@1h-2h");
    let (name, rest) = text.split_once('=').ok_or_else(form)?;
    let (left, times) = rest.split_once('@').ok_or_else(form)?;
    let accelerator = policy.accelerators.iter().position(|a| a.name == name).ok_or_else(|| {
        let names = policy.accelerators.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join(", ");
        format!("--lose {text}: no accelerator `{name}`, expected one of {names}")
    })?;
    let stock = policy.accelerators[accelerator].stock;
    let left = left.parse::<u32>().ok().filter(|left| *left <= stock);
    let left = left.ok_or_else(|| format!("--lose {text}: what is left is a whole number from 0 to {stock}"))?;
    let (from_seconds, to_seconds) = time("lose", text, times)?;
    Ok(Loss { accelerator, from_seconds, to_seconds, left })
}
