//! `poolwright solve`: a planning problem from a file, so that anyone can compare solvers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::Exit;
use crate::control::units_per_second;
use crate::plan::instance::{Instance, read, read_plan};
use crate::plan::solve_from;
use crate::plan::{DEFAULT_UNITS, Effort, Solution, verify};

#[derive(Debug, Args)]
pub struct SolveArgs {
    /// Instance: a file in the format `hetero-alloc/1`, or the folder (or one file) of an instance of inferno's
    /// optimiser. Its own objective is minimised.
    #[arg(value_name = "FILE|DIR")]
    instance: PathBuf,
    /// End the search after this time and answer with the best plan found. The machine's speed is measured before.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "units")]
    budget: Option<f64>,
    /// End the search after this many units of work, some microseconds each; the same units find the same plan.
    /// [default: 2000000]
    #[arg(long, value_name = "N")]
    units: Option<u64>,
    /// Begin from this plan: `{"variant index": replicas}`, or an earlier answer in JSON. What runs now is what the
    /// instance says.
    #[arg(long, value_name = "PLAN.json")]
    from_plan: Option<PathBuf>,
    /// Each server on exactly one accelerator (instances of inferno's optimiser only).
    #[arg(long)]
    single: bool,
    /// Form of the answer.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// The answer in JSON.
#[derive(Debug, Serialize)]
struct Answer {
    /// Replicas by index of the variant; those that are not named run nothing.
    plan: BTreeMap<usize, u32>,
    /// The instance's own, currency per hour.
    objective: f64,
    /// No plan costs less.
    bound: f64,
    /// (objective - bound) / objective.
    gap: f64,
    seconds: f64,
    solver: String,
    work_units: u64,
    /// Whether the search was ended before its end.
    stopped: bool,
    /// Load that is not served, requests per second, by cell.
    shortfall: BTreeMap<String, f64>,
    /// Names of the variants in the plan.
    names: BTreeMap<usize, String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 1e6 => Ok(seconds),
        _ => Err("expected seconds, more than 0".to_owned()),
    }
}

/// Solve and print.
pub fn run(args: &SolveArgs) -> Result<Exit> {
    let instance = match read(&files(&args.instance)?) {
        Ok(instance) => instance,
        Err(refusal) => return usage(&refusal.to_string()),
    };
    let instance = match (args.single, instance.single()) {
        (false, _) => instance,
        (true, Some(single)) => single,
        (true, None) => {
            return usage(&format!(
                "--single: {} has no servers, only instances of inferno's optimiser do",
                instance.name
            ));
        }
    };
    let start = match &args.from_plan {
        None => None,
        Some(path) => match read_plan(&name_of(path), &text_of(path)?, &instance.most()) {
            Ok(replicas) => Some(instance.start(&replicas)),
            Err(refusal) => return usage(&refusal.to_string()),
        },
    };
    if let Some(conflict) = instance.problem.conflicts().first() {
        return usage(&format!("{}: no plan keeps the limit {conflict}", instance.name));
    }
    let units = units_of(args);
    let began = Instant::now();
    let solution = search(&instance, units, args.budget, start.as_deref());
    let took = began.elapsed().as_secs_f64();
    if let Err(violation) = verify(&instance.problem, &solution.plan) {
        eprintln!("poolwright: {}: no plan found: {violation}", instance.name);
        return Ok(Exit::Failed);
    }
    print(&instance, &solution, took, args.output)?;
    Ok(Exit::Done)
}

fn usage(message: &str) -> Result<Exit> {
    eprintln!("poolwright: {message}");
    Ok(Exit::Usage)
}

/// The search shares its units out between its phases, so it must know how many there are.
fn units_of(args: &SolveArgs) -> u64 {
    match (args.units, args.budget) {
        (Some(units), _) => units,
        (None, Some(budget)) => (budget * units_per_second()) as u64,
        (None, None) => DEFAULT_UNITS,
    }
}

fn search(instance: &Instance, units: u64, budget: Option<f64>, start: Option<&[u32]>) -> Solution {
    let stop = Arc::new(AtomicBool::new(false));
    if let Some(budget) = budget {
        let stop = Arc::clone(&stop);
        // Not joined: it ends with the program.
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs_f64(budget));
            stop.store(true, Ordering::Relaxed);
        });
    }
    let effort = Effort { units, stop: Some(&stop), ..Effort::default() };
    solve_from(&instance.problem, &effort, start)
}

/// The file itself, or the JSON files of a folder by name.
fn files(path: &Path) -> Result<Vec<(String, String)>> {
    let mut paths = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
        paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
        paths.sort();
    }
    paths.iter().map(|p| Ok((name_of(p), text_of(p)?))).collect()
}

fn text_of(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn print(instance: &Instance, solution: &Solution, seconds: f64, output: Output) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, &answer(instance, solution, seconds))?;
            writeln!(out)?;
        }
        Output::Table => write!(out, "{}", table(instance, solution, seconds))?,
    }
    Ok(())
}

fn answer(instance: &Instance, solution: &Solution, seconds: f64) -> Answer {
    let problem = &instance.problem;
    let replicas = instance.replicas(&solution.plan.replicas);
    let plan: BTreeMap<usize, u32> = replicas.into_iter().enumerate().filter(|(_, n)| *n > 0).collect();
    let short = problem.cells.iter().zip(&solution.plan.shortfall).filter(|(_, s)| **s > 0.0);
    Answer {
        names: plan.keys().map(|&i| (i, problem.pools[i].name.clone())).collect(),
        plan,
        objective: solution.objective,
        bound: solution.bound,
        gap: solution.gap,
        seconds,
        solver: solution.solver.clone(),
        work_units: solution.work_units,
        stopped: solution.stopped,
        shortfall: short.map(|(cell, s)| (cell.name.clone(), *s)).collect(),
    }
}

fn table(instance: &Instance, solution: &Solution, seconds: f64) -> String {
    let (problem, plan) = (&instance.problem, &solution.plan);
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["variant", "name", "replicas", "cost/h"]);
    for (i, (pool, &n)) in problem.pools.iter().zip(&plan.replicas).enumerate().filter(|(_, (_, n))| **n > 0) {
        let cost = pool.price_per_hour * f64::from(n);
        table.add_row([i.to_string(), pool.name.clone(), (n * instance.bundle[i]).to_string(), format!("{cost:.2}")]);
    }
    let mut text = format!("{table}\n");
    let _ = writeln!(
        text,
        "objective {:.4}, bound {:.4}, gap {:.3} %; {seconds:.3} s; solver {}, {} work units{}",
        solution.objective,
        solution.bound,
        solution.gap * 100.0,
        solution.solver,
        solution.work_units,
        if solution.stopped { ", stopped before its end" } else { "" },
    );
    let limits = problem.limits.iter().filter(|l| l.most > 0.0 && !l.uses.is_empty());
    for limit in limits.filter(|l| l.used(&plan.replicas) >= l.most - 1e-6) {
        let _ = writeln!(text, "{}: all {} in use", limit.name, limit.most);
    }
    for (cell, short) in problem.cells.iter().zip(&plan.shortfall).filter(|(_, s)| **s > 0.0) {
        let _ = writeln!(text, "{}: {short:.3} of {:.3} req/s not served", cell.name, cell.rate);
    }
    text
}
