//! `model-data.json` of llm-inferno: parameters of pairs of model and accelerator, in milliseconds. No points: what
//! it says is taken over.

use super::super::super::Parameters;
use super::json::At;
use super::{Measurements, ReadError, Selection};

const HINT: &str = "an entry has `name`, `acc` and `perfParms` with alpha, beta and gamma in milliseconds";

pub fn read(at: &At, selection: &Selection) -> Result<Measurements, ReadError> {
    let models = at.get("models", HINT)?;
    let mut matching = Vec::new();
    let mut names = Vec::new();
    for entry in models.list()? {
        let text = |key: &str| {
            let value = entry.get(key, HINT)?;
            value.text().ok_or_else(|| value.refuse(&format!("{} is no text", value.shown()), HINT))
        };
        let (name, acc) = (text("name")?, text("acc")?);
        names.push(format!("{name} on {acc}"));
        let fits = selection.iter().all(|(column, wanted)| match column.as_str() {
            "name" | "model" => *wanted == name,
            "acc" | "accelerator" => *wanted == acc,
            _ => entry.maybe(column).is_some_and(|v| v.text().unwrap_or_else(|| v.value.to_string()) == *wanted),
        });
        if fits {
            matching.push((entry, name, acc));
        }
    }
    let [(entry, name, acc)] = &matching[..] else {
        let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        let message = format!("{} of {} entries are meant ({shown}, …)", matching.len(), names.len());
        return Err(models.refuse(&message, "pick one with `--where name=MODEL --where acc=ACCELERATOR`"));
    };
    let batch = match entry.maybe("maxBatchSize") {
        Some(most) => Some(most.positive()? as u32),
        None => None,
    };
    Ok(Measurements {
        format: "inferno model data",
        parameters: Some((parameters(entry)?, batch)),
        model: Some(name.clone()),
        accelerator: Some(acc.clone()),
        ..Measurements::default()
    })
}

fn parameters(entry: &At) -> Result<Parameters, ReadError> {
    if let (Some(decode), Some(prefill)) = (entry.maybe("decodeParms"), entry.maybe("prefillParms")) {
        // The plainest model: ITL = alpha + beta x batch, TTFT = gamma + delta x prompt tokens x batch.
        let of = |at: &At, key: &str| Ok::<_, ReadError>(at.get(key, HINT)?.number()? / 1e3);
        let (alpha, beta, delta) = (of(&decode, "alpha")?, of(&decode, "beta")?, of(&prefill, "delta")?);
        return Ok(Parameters {
            beta_seconds_per_token: delta,
            decode_seconds_per_token: beta,
            ..Parameters::uniform(alpha, beta, 0.0)
        });
    }
    let given = entry.get("perfParms", HINT)?;
    let of = |key: &str| Ok::<_, ReadError>(given.get(key, HINT)?.number()? / 1e3);
    let parameters = Parameters::uniform(of("alpha")?, of("beta")?, of("gamma")?);
    if !parameters.is_usable() {
        return Err(given.refuse("all parameters are zero", "measure the pair and fit it"));
    }
    Ok(parameters)
}
