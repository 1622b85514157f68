//! `poolwright accuracy`: how far the performance model is from measured points, and the fit of its constants.

mod print;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::Exit;
use crate::perf::accuracy::{
    By, Models, Options, Report, Subject, Unmodelled, fit_constants, read_points, score, subject,
};
use crate::perf::{Architecture, Constants};

#[derive(Debug, Args)]
pub struct AccuracyArgs {
    /// Measured points in the columns of aiconfigurator's `silicon_sample.csv`, as they are or compressed by gzip.
    #[arg(value_name = "POINTS.csv[.gz]", required = true)]
    points: Vec<PathBuf>,
    /// Also score predictions that are calibrated with so many points of each group; these are not scored.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    calibrate: Option<u32>,
    /// Which points calibrate.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Folder of `config.json` files of models that are not built in: `org--model.json`, or `model/config.json`.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Instead of the constants of the program, fit new ones on these points, for each group (model, system, engine),
    /// model or system without it.
    #[arg(long, value_name = "WHAT", default_value = "none")]
    leave_out: LeaveOut,
    /// Fit the constants of the program on these points and write them to a file; it is compiled into the program
    /// as src/perf/roofline/constants.json.
    #[arg(long, value_name = "FILE")]
    fit_constants: Option<PathBuf>,
    /// Form of the answer.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LeaveOut {
    None,
    Group,
    Model,
    System,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Largest file that is read, unpacked.
const MOST_BYTES: u64 = 512 << 20;

pub fn run(args: &AccuracyArgs) -> Result<Exit> {
    let (subjects, unmodelled) = match read(args) {
        Ok(all) => all,
        Err(why) => {
            eprintln!("poolwright: {why:#}");
            return Ok(Exit::Usage);
        }
    };
    let by = match args.leave_out {
        LeaveOut::None => args.fit_constants.is_some().then_some(By::Group),
        LeaveOut::Group => Some(By::Group),
        LeaveOut::Model => Some(By::Model),
        LeaveOut::System => Some(By::System),
    };
    let fitted = match by.map(|by| fit_constants(&subjects, &source(args), by)) {
        Some(Err(why)) => {
            eprintln!("poolwright: {why}");
            return Ok(Exit::Usage);
        }
        Some(Ok(fitted)) => Some(fitted),
        None => None,
    };
    if let Some((path, fitted)) = args.fit_constants.as_ref().zip(fitted.as_ref()) {
        let text = serde_json::to_string_pretty(&fitted.constants)? + "\n";
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    let constants = match &fitted {
        Some(fitted) => &fitted.constants,
        None => Constants::shipped(),
    };
    let predictions = match &fitted {
        Some(fitted) if args.leave_out != LeaveOut::None => fitted.left_out.clone(),
        _ => subjects.iter().map(|s| Some(s.roofline(constants).ok()?.closed_loop(&s.closed_loop))).collect(),
    };
    let options = Options { calibrate: args.calibrate.map(|n| n as usize), seed: args.seed };
    let report = score(&subjects, &predictions, constants, unmodelled, &options);
    print(args, &report)?;
    Ok(Exit::Done)
}

fn print(args: &AccuracyArgs, report: &Report) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Table => write!(out, "{}", print::tables(report, args.calibrate))?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, report)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// The names of the files, for the provenance of constants.
fn source(args: &AccuracyArgs) -> String {
    let name = |path: &PathBuf| path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    args.points.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The rows that can be modelled, and the others by reason.
fn read(args: &AccuracyArgs) -> Result<(Vec<Subject>, Vec<Unmodelled>)> {
    let mut models = Models::default();
    if let Some(folder) = &args.models {
        read_models(folder, &mut models)?;
    }
    let mut subjects = vec![];
    let mut unmodelled: Vec<Unmodelled> = vec![];
    for path in &args.points {
        let text = read_text(path).with_context(|| path.display().to_string())?;
        for row in read_points(&text).with_context(|| path.display().to_string())? {
            match subject(&row, &models) {
                Ok(found) => subjects.push(found),
                Err(reason) => match unmodelled.iter_mut().find(|u| u.reason == reason) {
                    Some(known) => known.rows += 1,
                    None => unmodelled.push(Unmodelled { reason, rows: 1, first_line: row.line }),
                },
            }
        }
    }
    Ok((subjects, unmodelled))
}

/// A file as it is, or unpacked.
fn read_text(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path)?;
    let mut text = vec![];
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(&bytes[..]).take(MOST_BYTES).read_to_end(&mut text)?;
    } else {
        text = bytes;
    }
    Ok(text)
}

/// All `config.json` files of a folder. A model is named by its file, `org--model.json`, or by the folder that
/// holds its `config.json`.
fn read_models(folder: &Path, models: &mut Models) -> Result<()> {
    let shown = || folder.display().to_string();
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).with_context(shown)?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    entries.sort();
    let mut found = 0;
    for path in entries {
        let (file, name) =
            if path.is_dir() { (path.join("config.json"), path.file_name()) } else { (path.clone(), path.file_stem()) };
        let name = name.map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let is_config = file.extension().is_some_and(|e| e == "json") && file.is_file();
        if !is_config || name.ends_with("hf_quant_config") {
            continue;
        }
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let name = name.replace("--", "/");
        match Architecture::from_config(&text, None) {
            Ok(architecture) => models.add(&name, Architecture { name: name.clone().into(), ..architecture }),
            // Rows of this model will be named as not modelled.
            Err(why) => eprintln!("poolwright: {}: {why}", file.display()),
        }
        found += 1;
    }
    anyhow::ensure!(found > 0, "{}: there is no config.json in it", folder.display());
    Ok(())
}
