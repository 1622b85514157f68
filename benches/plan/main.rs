//! Plans of large fleets against their marks, a proven bound, HiGHS and the rules of other projects. `make bench-plan`
//! prints the table.
//!
//! Everything runs on one core. Each instance is solved cold, then once more after its demand has drifted by 10 % while
//! the plan found before is running and its memory is kept. Fleets are made by a seeded generator, so that `--seed` gives others of the same
//! kind; `--dir` takes files instead.

mod ladder;
mod measure;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use poolwright::plan::Problem;
use poolwright::plan::instance::{drifted, generate, read};
use poolwright::plan::peers::{melange, of_servers, one_per_class};
use poolwright::plan::priced;
use poolwright::plot::svg;

use ladder::{LADDER, Mark, Step, mark_of};
use measure::{Run, again, cold, pin_to_one_core, second_opinion};
use table::{Point, Row};

#[derive(Debug, Parser)]
struct Options {
    /// Only these instances, e.g. `T1,M2`; `published` are those of other projects.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Added to every instance's seed: other fleets of the same kind.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Instances from the files of this folder instead; the first letters of a name choose the mark.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Write the generated instances into this folder, for other solvers.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Time for HiGHS on each instance, seconds; 0 leaves it out.
    #[arg(long, default_value_t = 20.0)]
    highs: f64,
    /// Nodes for each model of Mélange's program; 0 leaves it out.
    #[arg(long, default_value_t = 1000)]
    nodes: u64,
    /// Seconds of a longer search of our own, for "best known" where the mark asks for it.
    #[arg(long, default_value_t = 60.0)]
    longer: f64,
    /// Best costs known from elsewhere, e.g. `L1=2672.12`.
    #[arg(long, value_delimiter = ',', value_parser = known)]
    known: Vec<(String, f64)>,
    /// The core that everything runs on. [default: the last]
    #[arg(long)]
    core: Option<usize>,
    /// Leave the rows after drift out.
    #[arg(long)]
    cold: bool,
    /// Draw the cold rows as SVG.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// `cargo bench` passes this.
    #[arg(long, hide = true)]
    bench: bool,
}

fn known(text: &str) -> Result<(String, f64), String> {
    let (name, cost) = text.split_once('=').ok_or("expected NAME=COST")?;
    Ok((name.to_owned(), cost.parse().map_err(|_| format!("`{cost}` is no cost"))?))
}

fn main() -> Result<()> {
    let options = Options::parse();
    pin_to_one_core(options.core);
    println!(
        "one core; gaps are to our own proven bound; the others' columns are their cost over ours; MiB include what HiGHS left behind (--highs 0: ours alone)"
    );
    table::print_head();
    let mut missed = 0;
    let mut points = vec![];
    for (name, problem, mark) in instances(&options)? {
        missed += rows(&name, &problem, mark, &options, &mut points);
    }
    if let Some(path) = &options.plot {
        std::fs::write(path, svg(&table::picture(&points))?).with_context(|| path.display().to_string())?;
    }
    if options.only.is_empty() || options.only.iter().any(|o| o == "published") {
        missed += published()?;
    }
    println!("{missed} marks missed");
    Ok(())
}

fn instances(options: &Options) -> Result<Vec<(String, Problem, Mark)>> {
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|o| o == name);
    if let Some(folder) = &options.dir {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
            .with_context(|| folder.display().to_string())?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
        paths.sort();
        let mut found = vec![];
        for path in paths {
            let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
            if wanted(&name) {
                found.push((name.clone(), load(&path)?, mark_of(&name)));
            }
        }
        return Ok(found);
    }
    let mut found = vec![];
    for Step { name, recipe } in LADDER.iter().filter(|s| wanted(s.name)) {
        let mut recipe = *recipe;
        recipe.seed += options.seed;
        let fleet = generate(&recipe);
        if let Some(folder) = &options.write {
            std::fs::create_dir_all(folder)?;
            std::fs::write(folder.join(format!("{name}.json")), serde_json::to_string(&fleet)?)?;
        }
        found.push(((*name).to_owned(), fleet.problem(), mark_of(name)));
    }
    Ok(found)
}

fn load(path: &Path) -> Result<Problem> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(read(&[(path.display().to_string(), text)])?.problem)
}

/// Cold and drifted rows of one instance; returns the marks missed.
fn rows(name: &str, problem: &Problem, mark: Mark, options: &Options, points: &mut Vec<Point>) -> usize {
    let (first, mut memory) = cold(problem, mark.seconds);
    // Without a search by somebody else, or a longer one, the plan itself is no measure.
    let mut best = options.known.iter().find(|(of, _)| of == name).map(|(_, cost)| *cost);
    let highs = second_opinion(problem, options.highs, None);
    if mark.of_best_known && options.longer > 0.0 {
        best = least([best, Some(cold(problem, options.longer).0.solution.objective)]);
    }
    let (missed, point) = report(&format!("{name} cold"), problem, &first, mark, highs, best, options);
    points.push(point);
    if options.cold {
        return missed;
    }
    let state = &first.solution.plan.replicas;
    let next = drifted(problem, state, 0.1, 1);
    let warm = again(&next, Mark::DRIFT.seconds, &mut memory);
    let highs = second_opinion(&next, options.highs.min(5.0), Some(state));
    missed + report(&format!("{name} drift"), &next, &warm, Mark::DRIFT, highs, None, options).0
}

fn least<const N: usize>(costs: [Option<f64>; N]) -> Option<f64> {
    costs.into_iter().flatten().min_by(f64::total_cmp)
}

fn report(
    name: &str,
    problem: &Problem,
    run: &Run,
    mark: Mark,
    highs: Option<measure::Other>,
    best: Option<f64>,
    options: &Options,
) -> (usize, Point) {
    let running: Vec<u32> = problem.pools.iter().map(|p| p.running).collect();
    let price = |replicas: &[u32]| priced(problem, replicas).map(|s| s.objective);
    let best = least([best, highs.as_ref().map(|h| h.objective)]);
    let slices = (options.nodes > 0).then(|| melange(problem, 4, options.nodes));
    let row = Row {
        name,
        pools: problem.pools.len(),
        cells: problem.cells.len(),
        run,
        highs,
        keep: price(&running),
        melange: slices.and_then(|peer| price(&peer.replicas)),
        one_per_class: price(&one_per_class(problem).replicas),
        best,
        mark,
    };
    row.print();
    (usize::from(!row.is_met()), row.point())
}

/// Instances of other projects, with their published optima; returns the marks missed.
fn published() -> Result<usize> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/instances");
    let names = ["accelerator", "capacity", "model", "server", "serviceclass"];
    let mut files = vec![];
    for name in names {
        let path = folder.join(format!("inferno-small/{name}-data.json"));
        files.push((format!("{name}-data.json"), std::fs::read_to_string(path)?));
    }
    let mixed = read(&files)?;
    let single = mixed.single().context("the instance has servers")?;
    let servers = mixed.servers.as_ref().context("the instance has servers")?;
    let greedy = priced(&mixed.problem, &of_servers(servers).replicas).map_or(f64::NAN, |s| s.objective);
    let sample = load(&folder.join("melange.json"))?;
    let theirs = |slices| sample.cost_per_hour(&melange(&sample, slices, 100_000).replicas);
    println!();
    let mut missed = 0;
    for (name, problem, wanted, other) in [
        ("inferno small, mixed", &mixed.problem, 35_386.5, format!("its greedy rule: {greedy:.1}")),
        ("inferno small, one accelerator each", &single.problem, 35_767.0, String::new()),
        ("Mélange's sample", &sample, 4.68, format!("its own rule: {:.2}, with 4 slices {:.2}", theirs(1), theirs(4))),
    ] {
        let (run, _) = cold(problem, 1.0);
        let met = (run.solution.objective - wanted).abs() <= 0.5_f64.min(wanted * 1e-4) && run.seconds <= 1.1;
        missed += usize::from(!met);
        println!(
            "{name}: {:.2} (bound {:.2}) in {:.3} s; mark {wanted} in 1 s: {}; {other}",
            run.solution.objective,
            run.solution.bound,
            run.seconds,
            if met { "met" } else { "MISSED" },
        );
    }
    Ok(missed)
}
