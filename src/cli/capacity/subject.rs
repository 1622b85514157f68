//! Whose capacity is asked for: the pools of a policy, a model on an accelerator, or a profile.

use std::path::Path;

use super::CapacityArgs;
use crate::cli::load_policy;
use crate::perf::{
    EngineFamily, Evidence, Limits, NumberFormat, PaperReplica, Parallelism, Replica, Shape, Target, architecture,
    data_sheet, known_accelerators, known_architectures,
};
use crate::policy::{Policy, Pool, Promise, read_profile};

/// A replica with the targets and lengths that belong to it.
pub(super) struct Subject {
    pub name: String,
    pub replica: Replica,
    /// What the replica's figures are estimated from, when they are.
    pub paper: Option<PaperReplica>,
    /// Longest request that the server takes, tokens.
    pub longest: Option<u32>,
    pub tiers: Vec<Tier>,
    pub shapes: Vec<Shape>,
}

impl Subject {
    /// Whether requests of this shape are no longer than the server takes.
    pub fn takes(&self, shape: &Shape) -> bool {
        self.longest.is_none_or(|longest| shape.input_tokens + shape.output_tokens <= f64::from(longest))
    }

    /// The replica for requests of this shape.
    pub fn at(&self, shape: &Shape) -> Replica {
        let Some(paper) = &self.paper else { return self.replica };
        let kv_tokens = match self.replica.evidence {
            Evidence::OutsideIn => paper.kv_tokens(shape),
            _ => self.replica.kv_tokens,
        };
        Replica { parameters: paper.parameters(shape), kv_tokens, ..self.replica }
    }
}

/// A promise with its name.
pub(super) struct Tier {
    pub name: String,
    pub target: Target,
}

/// Why there is no answer.
pub(super) enum Refusal {
    /// The policy's problems were printed.
    Said,
    Why(String),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Why(why)
    }
}

/// Lengths shown when nothing says which.
const USUAL: [(f64, f64); 4] = [(256.0, 256.0), (1024.0, 256.0), (4096.0, 256.0), (1024.0, 1024.0)];

pub(super) fn subjects(args: &CapacityArgs) -> Result<Vec<Subject>, Refusal> {
    let choices = [args.policy.is_some(), args.model.is_some(), args.profile.is_some()];
    if choices.iter().filter(|c| **c).count() != 1 {
        let why = "say whose capacity: --policy FILE [--pool NAME], --model NAME --accelerator NAME, or --profile FILE";
        return Err(why.to_owned().into());
    }
    if args.pool.is_some() && args.policy.is_none() {
        return Err("--pool belongs to --policy".to_owned().into());
    }
    if args.accelerator.is_some() && args.model.is_none() {
        return Err("--accelerator belongs to --model".to_owned().into());
    }
    let of_model = [
        ("--weights", args.weights.is_some()),
        ("--kv", args.kv.is_some()),
        ("--accelerators-per-replica", args.accelerators_per_replica.is_some()),
    ];
    if let (None, Some((flag, _))) = (&args.model, of_model.iter().find(|(_, given)| *given)) {
        return Err(format!("{flag} belongs to --model").into());
    }
    let mut found = match (&args.policy, &args.model, &args.profile) {
        (Some(path), ..) => pools(&load_policy(path).map_err(|_| Refusal::Said)?, args.pool.as_deref())?,
        (_, Some(model), _) => vec![estimated(args, model)?],
        (.., Some(path)) => vec![measured(args, path)?],
        _ => vec![],
    };
    for subject in &mut found {
        overrule(args, &mut subject.replica)?;
    }
    Ok(found)
}

/// What the command line says of the server goes before everything else.
fn overrule(args: &CapacityArgs, replica: &mut Replica) -> Result<(), String> {
    let at_least_one = |name: &str, given: Option<u32>, before: u32| match given {
        Some(0) => Err(format!("{name}: must be at least 1")),
        given => Ok(given.unwrap_or(before)),
    };
    let limits = &mut replica.limits;
    limits.max_num_seqs = at_least_one("--max-num-seqs", args.max_num_seqs, limits.max_num_seqs)?;
    limits.max_num_batched_tokens =
        at_least_one("--max-num-batched-tokens", args.max_num_batched_tokens, limits.max_num_batched_tokens)?;
    replica.prefix_hit_ratio = args.prefix_hit_ratio;
    if let Some(tokens) = args.kv_tokens {
        if !(tokens.is_finite() && tokens >= 1.0) {
            return Err("--kv-tokens: expected a number of tokens".to_owned());
        }
        replica.kv_tokens = tokens;
        if replica.evidence == Evidence::OutsideIn {
            replica.evidence = Evidence::Range;
        }
    }
    Ok(())
}

fn pools(policy: &Policy, wanted: Option<&str>) -> Result<Vec<Subject>, String> {
    let found: Vec<&Pool> = match wanted {
        None => policy.pools.iter().collect(),
        Some(name) => vec![pool_named(policy, name)?],
    };
    Ok(found.into_iter().map(|pool| of_pool(policy, pool)).collect())
}

/// The pool with this name; the namespace may be left out where that leaves one.
fn pool_named<'p>(policy: &'p Policy, name: &str) -> Result<&'p Pool, String> {
    let found: Vec<&Pool> = policy.pools.iter().filter(|p| p.id() == name || p.name == name).collect();
    match found.as_slice() {
        [pool] => Ok(pool),
        [] => {
            let known: Vec<String> = policy.pools.iter().take(20).map(Pool::id).collect();
            Err(format!("--pool {name}: the policy has no such pool; it has {}", known.join(", ")))
        }
        several => {
            let ids: Vec<String> = several.iter().map(|p| p.id()).collect();
            Err(format!("--pool {name}: which of {}?", ids.join(", ")))
        }
    }
}

fn of_pool(policy: &Policy, pool: &Pool) -> Subject {
    let model = &policy.models[pool.model];
    let tier = |&(class, _): &(usize, f64)| {
        let class = &policy.classes[class];
        let target = match class.promise {
            Promise::Latency { quantile, ttft_seconds, itl_seconds } => Target { quantile, ttft_seconds, itl_seconds },
            Promise::Deadline { .. } => Target::THROUGHPUT,
        };
        Tier { name: class.name.clone(), target }
    };
    Subject {
        name: pool.id(),
        replica: Replica {
            spread: pool.margin,
            ..Replica::new(pool.parameters, pool.limits, pool.kv_tokens, pool.evidence)
        },
        paper: pool.paper.clone(),
        longest: pool.max_model_len,
        tiers: model.classes.iter().map(tier).collect(),
        shapes: match model.expected_shape {
            Some((input_tokens, output_tokens)) => vec![Shape { input_tokens, output_tokens }],
            None => usual_shapes(),
        },
    }
}

fn usual_shapes() -> Vec<Shape> {
    USUAL.iter().map(|&(input_tokens, output_tokens)| Shape { input_tokens, output_tokens }).collect()
}

/// Nothing is promised when no target was given: the throughput is shown.
fn throughput() -> Vec<Tier> {
    vec![Tier { name: "throughput".to_owned(), target: Target::THROUGHPUT }]
}

fn format(name: &str, given: Option<&String>, stored: NumberFormat) -> Result<NumberFormat, String> {
    given.map_or(Ok(stored), |text| {
        let known = serde_json::from_value(serde_json::Value::String(text.to_lowercase()));
        known.map_err(|_| format!("{name} {text}: not a number format this program knows, for example fp8"))
    })
}

fn estimated(args: &CapacityArgs, model: &str) -> Result<Subject, String> {
    let Some(accelerator) = &args.accelerator else {
        return Err("--model needs --accelerator".to_owned());
    };
    let of = architecture(model).ok_or_else(|| {
        format!("--model {model}: its architecture is not built in; known are {}", known_architectures().join(", "))
    })?;
    let sheet = data_sheet(accelerator).ok_or_else(|| {
        format!("--accelerator {accelerator}: no data sheet is built in; known are {}", known_accelerators().join(", "))
    })?;
    let weights = format("--weights", args.weights.as_ref(), of.stored_format())?;
    let kv = format("--kv", args.kv.as_ref(), of.kv_format)?;
    let count = args.accelerators_per_replica.unwrap_or(1);
    let parallel = Parallelism::tensor(count);
    let paper = PaperReplica::new(&sheet, &of.stored_as(weights), parallel, kv, EngineFamily::Vllm)
        .map_err(|error| error.to_string())?;
    let found = paper.estimate();
    let replica = Replica::new(found.parameters, Limits::default(), found.kv_tokens, Evidence::OutsideIn);
    Ok(Subject {
        name: format!("{model} on {count} x {}", sheet.name),
        replica: Replica { spread: paper.margin(), ..replica },
        paper: Some(paper),
        longest: None,
        tiers: throughput(),
        shapes: usual_shapes(),
    })
}

fn measured(args: &CapacityArgs, path: &Path) -> Result<Subject, String> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("--profile {shown}: {error}"))?;
    let given = read_profile(&shown, &text).map_err(|problems| {
        let first = problems.first().map(|p| format!("line {}: {} {}", p.line, p.path, p.message));
        format!("--profile {shown}: {}", first.unwrap_or_else(|| "cannot be read".to_owned()))
    })?;
    let parameters = given.parameters.parameters();
    if !parameters.is_usable() {
        return Err(format!("--profile {shown}: an iteration would take no time"));
    }
    let kv_tokens = match (given.parameters.kv_tokens, args.kv_tokens) {
        (_, Some(tokens)) => tokens,
        (Some(tokens), None) => tokens as f64,
        (None, None) => return Err(format!("--profile {shown}: says no kvTokens; give --kv-tokens")),
    };
    Ok(Subject {
        name: shown,
        replica: Replica {
            spread: given.margin().unwrap_or(Evidence::Curve.safety_margin()),
            ..Replica::new(parameters, given.limits.or(&Limits::default()), kv_tokens, Evidence::Curve)
        },
        paper: None,
        longest: given.limits.max_model_len,
        tiers: throughput(),
        shapes: usual_shapes(),
    })
}
