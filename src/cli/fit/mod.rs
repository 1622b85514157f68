//! `poolwright fit`: measured points in, a profile out.

mod picture;
mod table;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use super::Exit;
use crate::perf::fit::read::{self, Measurements};
use crate::perf::fit::{Fit, FitError, Options, Point, Prior, fit};
use crate::perf::{self, Estimate, NumberFormat, Parameters, architecture, data_sheet, known_accelerators};
use crate::policy::profile::{Profile, Provenance};
use crate::policy::schema::{LimitsSpec, ParametersSpec};

/// How far the estimate may be off, as the standard deviation of a logarithm: a factor of 1.5 either way.
const ESTIMATE_SPREAD: f64 = 0.4;

#[derive(Debug, Args)]
pub struct FitArgs {
    /// Files with measured points, several of one server: poolwright CSV, aiconfigurator CSV, or the JSON of
    /// `vllm bench serve --save-result`, guidellm, Dynamo's profiler, AIBrix's profiles, inferno's model data.
    #[arg(value_name = "POINTS", required = true)]
    points: Vec<PathBuf>,
    /// `table`, `json` (everything, with all points), `yaml` (the profile), or a file to write the profile to.
    #[arg(short, long, default_value = "table", value_name = "FORM|FILE")]
    output: String,
    /// Write a picture of measured against predicted, SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// `--max-num-seqs` of the server that was measured.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_num_seqs: Option<u32>,
    /// `--max-num-batched-tokens` of the server that was measured. [default: 8192]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_num_batched_tokens: Option<u32>,
    /// KV-cache capacity that the server printed at its start, tokens.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(1..))]
    kv_tokens: Option<u64>,
    /// Take only rows whose column has this value; may be repeated.
    #[arg(long = "where", value_name = "COLUMN=VALUE")]
    selection: Vec<String>,
    /// Anchor few points on the estimate for this model (a name of the built-in catalogue) …
    #[arg(long, value_name = "NAME", requires = "accelerator")]
    model: Option<String>,
    /// … on this accelerator.
    #[arg(long, value_name = "NAME", requires = "model")]
    accelerator: Option<String>,
    /// Accelerators of the replica, for the estimate.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    accelerators_per_replica: u32,
    /// Number format of the weights, for the estimate: bf16, fp8 or int4.
    #[arg(long, value_name = "FORMAT", default_value = "bf16", value_parser = number_format)]
    weights: NumberFormat,
    /// Warn where this load is not covered: concurrency, prompt and output tokens; may be repeated.
    #[arg(long = "ask", value_name = "C:IN:OUT", value_parser = asked)]
    asked: Vec<(f64, f64, f64)>,
    /// Name inside the profile. [default: the model's name, or that of the file]
    #[arg(long)]
    name: Option<String>,
}

fn number_format(text: &str) -> Result<NumberFormat, String> {
    let all = [NumberFormat::Bf16, NumberFormat::Fp8, NumberFormat::Int4];
    all.into_iter().find(|f| f.as_str() == text).ok_or_else(|| "write bf16, fp8 or int4".to_owned())
}

fn asked(text: &str) -> Result<(f64, f64, f64), String> {
    let numbers: Result<Vec<f64>, _> = text.split(':').map(str::parse).collect();
    match numbers.as_deref() {
        Ok([c, l, k]) if [c, l, k].iter().all(|v| v.is_finite() && **v > 0.0) => Ok((*c, *l, *k)),
        _ => Err("write concurrency, prompt and output tokens, for example 32:1024:128".to_owned()),
    }
}

/// What can be said before anything is read: nothing is written when a part of it cannot be.
fn wrong_usage(args: &FitArgs) -> Option<String> {
    let file = (!matches!(args.output.as_str(), "table" | "json" | "yaml")).then(|| Path::new(&args.output));
    let no_place = |path: &Path| {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        (path.is_dir() || !folder.is_dir()).then(|| format!("{}: no file can be written there", path.display()))
    };
    if let Some(why) = file.and_then(no_place) {
        return Some(format!("--output {why}"));
    }
    if let Some(why) = args.plot.as_deref().and_then(no_place) {
        return Some(format!("--plot {why}"));
    }
    if args.name.as_deref().is_some_and(|name| name.trim().is_empty()) {
        return Some("--name: is empty".to_owned());
    }
    (args.model.is_some() != args.accelerator.is_some()).then(|| "--model and --accelerator belong together".to_owned())
}

/// Says on one line why the command cannot do what was asked.
fn refuse(exit: Exit, why: &impl std::fmt::Display) -> Result<Exit> {
    eprintln!("poolwright: {why}");
    Ok(exit)
}

pub fn run(args: &FitArgs) -> Result<Exit> {
    let mut selection = Vec::new();
    for text in &args.selection {
        match text.split_once('=') {
            Some((column, value)) => selection.push((column.trim().to_owned(), value.trim().to_owned())),
            None => return refuse(Exit::Usage, &format!("--where {text}: write COLUMN=VALUE")),
        }
    }
    if let Some(why) = wrong_usage(args) {
        return refuse(Exit::Usage, &why);
    }
    let mut files = Vec::new();
    for path in &args.points {
        let name = path.display().to_string();
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return refuse(Exit::Usage, &format!("{name}: {error}")),
        };
        let Ok(text) = String::from_utf8(bytes) else {
            return refuse(Exit::Usage, &format!("{name}: is no text; known are {}", read::FORMATS));
        };
        match read::read(&name, &text, &selection) {
            Ok(found) => files.push(found),
            Err(error) => return refuse(Exit::Usage, &error),
        }
    }
    let anchor = match anchor(args) {
        Ok(anchor) => anchor,
        Err(why) => return refuse(Exit::Usage, &why),
    };
    match &files[..] {
        [only] if only.parameters.is_some() => take_over(args, only),
        _ if files.iter().any(|f| f.parameters.is_some()) => refuse(
            Exit::Usage,
            &"parameters that were fitted elsewhere cannot be mixed with points; give that file alone",
        ),
        _ => fit_points(args, &files, anchor),
    }
}

/// The estimate for model and accelerator.
fn anchor(args: &FitArgs) -> Result<Option<Estimate>, String> {
    let (Some(model), Some(accelerator)) = (&args.model, &args.accelerator) else { return Ok(None) };
    let found = architecture(model).ok_or_else(|| {
        format!("--model {model}: no such model is built in; {} are", perf::known_architectures().len())
    })?;
    let sheet = data_sheet(accelerator).ok_or_else(|| {
        format!(
            "--accelerator {accelerator}: no such data sheet is built in; known are {}",
            known_accelerators().join(", ")
        )
    })?;
    let n = args.accelerators_per_replica;
    perf::estimate(&sheet, &found, n, args.weights, NumberFormat::Bf16).map(Some).map_err(|e| e.to_string())
}

fn fit_points(args: &FitArgs, files: &[Measurements], anchor: Option<Estimate>) -> Result<Exit> {
    let points: Vec<Point> = files.iter().flat_map(|f| f.points.iter().cloned()).collect();
    let kv_given = args.kv_tokens.map(|t| t as f64).or_else(|| files.iter().find_map(|f| f.kv_tokens));
    let options = Options {
        max_num_seqs: args.max_num_seqs,
        max_num_batched_tokens: args.max_num_batched_tokens,
        kv_tokens: kv_given,
        prior: anchor.map(|e| Prior { parameters: e.parameters, spread: ESTIMATE_SPREAD }),
        asked: args.asked.clone(),
    };
    let found = match fit(&points, &options) {
        Ok(found) => found,
        Err(error @ FitError::BadPoint { .. }) => return refuse(Exit::Usage, &error),
        Err(error) => return refuse(Exit::Failed, &error),
    };
    let mut notes: Vec<String> = files.iter().flat_map(|f| f.notes.iter().cloned()).collect();
    notes.extend(one_model(files));
    let kv_tokens = kv_given.or(found.kv.estimate).map(|t| t as u64);
    if kv_tokens.is_none() {
        notes.push("the KV capacity is not known: give --kv-tokens, or the policy estimates it".to_owned());
    }
    let profile = Profile::of_fit(&name(args, files), &found, kv_tokens, limits(args, None), provenance(args, files));
    if let Some(path) = &args.plot {
        let svg = crate::plot::svg(&picture::picture(&found, &points, kv_tokens, args.max_num_seqs))?;
        write_file(path, &svg)?;
    }
    print(args, &profile, Some((&found, &notes)))
}

/// A file that holds parameters already.
fn take_over(args: &FitArgs, file: &Measurements) -> Result<Exit> {
    let Some((parameters, batch)) = &file.parameters else { return Ok(Exit::Failed) };
    if args.plot.is_some() {
        return refuse(Exit::Usage, &"--plot needs points; the file holds parameters");
    }
    let parameters: &Parameters = parameters;
    let spec = ParametersSpec::from_parameters(parameters, None);
    let files = std::slice::from_ref(file);
    let source = provenance(args, files);
    let profile = Profile::taken_over(&name(args, files), spec, args.kv_tokens, limits(args, *batch), source);
    if args.output == "table" {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}, taken over as it is:\n{}", file.format, table::parameters(parameters, None))?;
        return Ok(Exit::Done);
    }
    print(args, &profile, None)
}

/// Limits that are known, not assumed.
fn limits(args: &FitArgs, batch: Option<u32>) -> LimitsSpec {
    LimitsSpec {
        max_num_seqs: args.max_num_seqs.or(batch),
        max_num_batched_tokens: args.max_num_batched_tokens,
        max_model_len: None,
    }
}

fn first(files: &[Measurements], of: fn(&Measurements) -> &Option<String>) -> Option<String> {
    files.iter().find_map(|f| of(f).clone())
}

/// Files that speak of different models are no measurement of one server.
fn one_model(files: &[Measurements]) -> Option<String> {
    let models: BTreeSet<&str> = files.iter().filter_map(|f| f.model.as_deref()).collect();
    let listed = models.iter().copied().collect::<Vec<_>>().join(", ");
    (models.len() > 1).then(|| format!("the files are of several models: {listed}"))
}

fn name(args: &FitArgs, files: &[Measurements]) -> String {
    let file = || args.points.first().and_then(|p| p.file_stem()).map(|s| s.to_string_lossy().into_owned());
    let named = args.name.clone().or_else(|| first(files, |f| &f.model)).or_else(file);
    named.unwrap_or_else(|| "profile".to_owned())
}

fn provenance(args: &FitArgs, files: &[Measurements]) -> Provenance {
    let formats: BTreeSet<&str> = files.iter().map(|f| f.format).collect();
    let file_name = |p: &PathBuf| p.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    Provenance {
        by: format!("poolwright {}", env!("CARGO_PKG_VERSION")),
        files: args.points.iter().map(file_name).collect(),
        formats: formats.into_iter().map(str::to_owned).collect(),
        points: files.iter().map(|f| f.points.len()).sum(),
        model: first(files, |f| &f.model),
        engine: first(files, |f| &f.engine),
        accelerator: first(files, |f| &f.accelerator).or_else(|| args.accelerator.clone()),
        anchor: args.model.as_ref().zip(args.accelerator.as_ref()).map(|(model, accelerator)| {
            format!("estimate of {model} on {} x {accelerator}", args.accelerators_per_replica)
        }),
    }
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn print(args: &FitArgs, profile: &Profile, fitted: Option<(&Fit, &[String])>) -> Result<Exit> {
    let yaml = || Ok::<_, anyhow::Error>(format!("---\n{}", serde_saphyr::to_string(profile)?));
    let mut out = std::io::stdout().lock();
    match (args.output.as_str(), fitted) {
        ("yaml", _) => write!(out, "{}", yaml()?)?,
        ("json", Some((found, notes))) => {
            let whole = serde_json::json!({ "profile": profile, "fit": found, "notes": notes });
            serde_json::to_writer_pretty(&mut out, &whole)?;
            writeln!(out)?;
        }
        ("json", None) => {
            serde_json::to_writer_pretty(&mut out, &serde_json::json!({ "profile": profile }))?;
            writeln!(out)?;
        }
        (file, _) => {
            if file != "table" {
                write_file(Path::new(file), &yaml()?)?;
            }
            if let Some((found, notes)) = fitted {
                write!(out, "{}", table::fit(found, notes))?;
            }
            if file != "table" {
                writeln!(out, "profile written to {file}")?;
            }
        }
    }
    Ok(Exit::Done)
}
