//! `poolwright capacity`: what one replica carries, by shape of the requests and latency target.

mod loaded;
mod picture;
mod print;
mod subject;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::subject::{Subject, Tier};
use super::Exit;
use crate::perf::{Curve, Limit, Replica, Shape, Target, Traffic};
use crate::policy::units::Duration;

#[derive(Debug, Args)]
pub struct CapacityArgs {
    /// Policy file or folder: its pools, its classes and the lengths it expects.
    #[arg(long, value_name = "FILE|DIR", help_heading = "Replica")]
    policy: Option<PathBuf>,
    /// Only this pool of the policy; `NAMESPACE/` may be left out where the name is unique.
    #[arg(long, value_name = "NAMESPACE/NAME", help_heading = "Replica")]
    pool: Option<String>,
    /// Model whose architecture is built in.
    #[arg(long, value_name = "NAME", help_heading = "Replica")]
    model: Option<String>,
    /// Accelerator whose data sheet is built in.
    #[arg(long, value_name = "NAME", help_heading = "Replica")]
    accelerator: Option<String>,
    /// Accelerators of one replica. [default: 1]
    #[arg(long, value_name = "N", help_heading = "Replica")]
    accelerators_per_replica: Option<u32>,
    /// Number format of the weights, e.g. bf16, fp8 or int4. [default: as the model is published]
    #[arg(long, value_name = "FORMAT", help_heading = "Replica")]
    weights: Option<String>,
    /// Number format of the KV cache. [default: as the model is published]
    #[arg(long, value_name = "FORMAT", help_heading = "Replica")]
    kv: Option<String>,
    /// Profile file with measured figures.
    #[arg(long, value_name = "FILE", help_heading = "Replica")]
    profile: Option<PathBuf>,
    /// KV-cache capacity of one replica in tokens, as the server reports it.
    #[arg(long, value_name = "TOKENS", help_heading = "Replica")]
    kv_tokens: Option<f64>,
    /// The server's `--max-num-seqs`. [default: the pool's, else 256]
    #[arg(long, value_name = "N", help_heading = "Replica")]
    max_num_seqs: Option<u32>,
    /// The server's `--max-num-batched-tokens`. [default: the pool's, else 8192]
    #[arg(long, value_name = "TOKENS", help_heading = "Replica")]
    max_num_batched_tokens: Option<u32>,
    /// Prompt and answer length in tokens, e.g. 1024/256; may be repeated.
    #[arg(long, value_name = "IN/OUT", value_parser = shape, num_args = 1.., help_heading = "Requests")]
    shape: Vec<Shape>,
    /// Squared coefficient of variation of the times between arrivals; 1 is Poisson, larger comes in bursts.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = positive, help_heading = "Requests")]
    burstiness: f64,
    /// Standard deviation over mean of the prompt lengths.
    #[arg(long, value_name = "RATIO", default_value_t = Traffic::default().input_cv, value_parser = positive, help_heading = "Requests")]
    input_cv: f64,
    /// Standard deviation over mean of the answer lengths.
    #[arg(long, value_name = "RATIO", default_value_t = Traffic::default().output_cv, value_parser = positive, help_heading = "Requests")]
    output_cv: f64,
    /// Share of the prompt tokens that the prefix cache spares, 0 to 0.95.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = positive, help_heading = "Requests")]
    prefix_hit_ratio: f64,
    /// Time to first token that is promised; takes the place of the policy's classes.
    #[arg(long, value_name = "DURATION", help_heading = "Target")]
    ttft: Option<Duration>,
    /// Mean time between output tokens that is promised; takes the place of the policy's classes.
    #[arg(long, value_name = "DURATION", help_heading = "Target")]
    itl: Option<Duration>,
    /// Percentile of the requests at which the targets hold.
    #[arg(long, value_name = "PERCENT", default_value_t = 95.0, help_heading = "Target")]
    percentile: f64,
    /// Print what requests see at this rate instead of the capacity, requests per second sent to one replica; may be
    /// repeated.
    #[arg(long, value_name = "REQ/S", value_parser = rate, num_args = 1.., conflicts_with_all = ["ttft", "itl"], help_heading = "Target")]
    rate: Vec<f64>,
    /// Draw latency over load into this file, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Form of the answer.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// One line of the answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// Pool, or model and accelerator, or profile.
    replica: String,
    input_tokens: f64,
    output_tokens: f64,
    class: String,
    percentile: f64,
    ttft_target_seconds: Option<f64>,
    itl_target_seconds: Option<f64>,
    /// Of one replica, the error taken off; 0 when the target is out of reach.
    requests_per_second: f64,
    limit: Limit,
    /// At that rate and percentile; of an empty replica when the target is out of reach, absent when a request
    /// does not fit at all.
    ttft_seconds: Option<f64>,
    itl_seconds: Option<f64>,
    /// Mean requests in execution.
    batch: f64,
    /// Mean share of the KV memory in use.
    kv_use: Option<f64>,
    evidence: &'static str,
    /// Share of the rate that is kept back because the model may be wrong by that much.
    error: f64,
}

fn shape(text: &str) -> Result<Shape, String> {
    let (input, output) = text.split_once('/').ok_or("expected IN/OUT, for example 1024/256")?;
    let tokens = |part: &str| match part.trim().parse::<f64>() {
        Ok(tokens) if (1.0..=10_000_000.0).contains(&tokens) => Ok(tokens),
        _ => Err(format!("`{part}` is no number of tokens")),
    };
    Ok(Shape { input_tokens: tokens(input)?, output_tokens: tokens(output)? })
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1000.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 1000".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e9 => Ok(rate),
        _ => Err("expected requests per second, more than 0".to_owned()),
    }
}

/// Print what a replica carries.
pub fn run(args: &CapacityArgs) -> Result<Exit> {
    if args.prefix_hit_ratio > 0.95 {
        return Ok(refuse("--prefix-hit-ratio: expected a share from 0 to 0.95"));
    }
    let given = match given_tier(args) {
        Ok(tier) => tier,
        Err(why) => return Ok(refuse(&why)),
    };
    let subjects = match subject::subjects(args) {
        Ok(subjects) => subjects,
        Err(subject::Refusal::Said) => return Ok(Exit::Usage),
        Err(subject::Refusal::Why(why)) => return Ok(refuse(&why)),
    };
    let traffic = Traffic { burstiness: args.burstiness, input_cv: args.input_cv, output_cv: args.output_cv };
    if let Some(path) = &args.plot
        && let Err(why) = draw(args, path, &subjects, given.as_ref(), &traffic)
    {
        return Ok(refuse(&why));
    }
    let asked = subjects.iter().flat_map(|subject| {
        let shapes = if args.shape.is_empty() { &subject.shapes } else { &args.shape };
        shapes.iter().map(move |shape| (subject, shape))
    });
    if args.rate.is_empty() {
        let rows = asked.flat_map(|(subject, shape)| {
            let tiers = given.as_ref().map_or(subject.tiers.as_slice(), std::slice::from_ref);
            subject_rows(subject, shape, &traffic, tiers)
        });
        answer(args.output, &rows.collect::<Vec<_>>(), print::table)
    } else {
        let rows =
            asked.flat_map(|(subject, shape)| loaded::rows(subject, shape, &traffic, &args.rate, args.percentile));
        answer(args.output, &rows.collect::<Vec<_>>(), loaded::table)
    }
}

/// Writes the picture.
fn draw(
    args: &CapacityArgs,
    path: &Path,
    subjects: &[Subject],
    given: Option<&Tier>,
    traffic: &Traffic,
) -> Result<(), String> {
    if subjects.len() > picture::MOST_SUBJECTS {
        let most = picture::MOST_SUBJECTS;
        return Err(format!(
            "--plot: {} pools do not fit a picture, at most {most}; choose with --pool",
            subjects.len()
        ));
    }
    let scenes: Vec<picture::Scene<'_>> = subjects
        .iter()
        .map(|subject| picture::Scene {
            subject,
            shapes: if args.shape.is_empty() { &subject.shapes } else { &args.shape },
            tiers: given.map_or(subject.tiers.as_slice(), std::slice::from_ref),
        })
        .collect();
    let svg = crate::plot::svg(&picture::picture(&scenes, traffic, args.percentile)).map_err(|e| e.to_string())?;
    std::fs::write(path, svg).map_err(|error| format!("--plot {}: {error}", path.display()))
}

fn answer<R: Serialize>(output: Output, rows: &[R], table: fn(&[R]) -> String) -> Result<Exit> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Table => write!(out, "{}", table(rows))?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, rows)?;
            writeln!(out)?;
        }
    }
    Ok(Exit::Done)
}

fn refuse(why: &str) -> Exit {
    eprintln!("poolwright: {why}");
    Exit::Usage
}

/// The targets of the command line, if there are any.
fn given_tier(args: &CapacityArgs) -> Result<Option<Tier>, String> {
    if !(args.percentile > 0.0 && args.percentile < 100.0) {
        return Err(format!("--percentile {}: expected more than 0 and less than 100", args.percentile));
    }
    for (name, target) in [("--ttft", args.ttft), ("--itl", args.itl)] {
        if target.is_some_and(|t| t.seconds() <= 0.0) {
            return Err(format!("{name}: must be longer than zero"));
        }
    }
    let seconds = |target: Option<Duration>| target.map_or(f64::INFINITY, Duration::seconds);
    Ok((args.ttft.is_some() || args.itl.is_some()).then(|| Tier {
        name: "given".to_owned(),
        target: Target {
            quantile: args.percentile / 100.0,
            ttft_seconds: seconds(args.ttft),
            itl_seconds: seconds(args.itl),
        },
    }))
}

fn subject_rows(subject: &Subject, shape: &Shape, traffic: &Traffic, tiers: &[Tier]) -> Vec<Row> {
    let replica: Replica = subject.at(shape);
    let curve = subject.takes(shape).then(|| Curve::new(&replica, shape, traffic)).flatten();
    let finite = |value: f64| value.is_finite().then_some(value);
    let row = |tier: &Tier| {
        let found = curve.as_ref().map(|c| c.capacity(&tier.target));
        let rate = found.map_or(0.0, |c| c.rate);
        Row {
            replica: subject.name.clone(),
            input_tokens: shape.input_tokens,
            output_tokens: shape.output_tokens,
            class: tier.name.clone(),
            percentile: tier.target.quantile * 100.0,
            ttft_target_seconds: finite(tier.target.ttft_seconds),
            itl_target_seconds: finite(tier.target.itl_seconds),
            requests_per_second: rate,
            limit: found.map_or(Limit::Infeasible, |c| c.limit),
            ttft_seconds: found.and_then(|c| finite(c.ttft_seconds)),
            itl_seconds: found.and_then(|c| finite(c.itl_seconds)),
            batch: found.map_or(0.0, |c| c.batch),
            kv_use: curve.as_ref().filter(|_| rate > 0.0).and_then(|c| c.kv_use(rate)),
            evidence: replica.evidence.as_str(),
            error: replica.spread,
        }
    };
    tiers.iter().map(row).collect()
}
