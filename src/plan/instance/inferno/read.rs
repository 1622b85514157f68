//! The files of an instance. They are told apart by the list each of them holds, not by their names.

use serde_json::Value;

use super::candidates::{Load, Performance};
use super::{Accelerator, Current, Server, Servers};
use crate::plan::instance::field::{Place, Refusal};

/// Lists that are read, and those that say nothing about the problem.
const WANTED: [&str; 5] = ["accelerators", "count", "models", "serviceClasses", "servers"];
const OTHER: [&str; 2] = ["optimizer", "allocations"];
/// Priority of a server whose class is not described.
const FREE: u32 = 100;

/// What a class promises for a model; absent where nothing is promised.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Target {
    pub ttft_seconds: Option<f64>,
    pub itl_seconds: Option<f64>,
    pub tokens_per_second: Option<f64>,
}

/// A service class with its targets by model.
struct Class<'a> {
    name: &'a str,
    priority: u32,
    targets: Vec<(&'a str, Target)>,
}

impl Servers {
    pub(in crate::plan::instance) fn read(files: &[(&str, Value)]) -> Result<Self, Refusal> {
        let [accelerators, stock, models, classes, servers] = lists(files)?;
        let stock = stock.items()?.iter().map(stocked).collect::<Result<Vec<_>, _>>()?;
        let accelerators =
            accelerators.items()?.iter().map(|p| accelerator(p, &stock)).collect::<Result<Vec<_>, _>>()?;
        let models = models.items()?.iter().map(|p| performance(p, &accelerators)).collect::<Result<Vec<_>, _>>()?;
        let classes = classes.items()?.iter().map(class).collect::<Result<Vec<_>, _>>()?;
        let names = Names { accelerators: &accelerators, models: &models, classes: &classes };
        let servers = servers.items()?.iter().map(|p| names.server(p)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { accelerators, stock, servers })
    }
}

/// The list under each of the wanted keys, from whichever file has it.
fn lists<'a>(files: &'a [(&'a str, Value)]) -> Result<[Place<'a>; 5], Refusal> {
    let mut found: [Option<Place<'a>>; 5] = Default::default();
    for (file, value) in files {
        let root = Place::root(file, value);
        let mut of_use = false;
        for (key, place) in root.entries()? {
            of_use |= OTHER.contains(&key);
            if let Some(i) = WANTED.iter().position(|wanted| *wanted == key) {
                of_use = true;
                if found[i].replace(place.clone()).is_some() {
                    return Err(place.refuse("this list in one file only"));
                }
            }
        }
        if !of_use {
            return Err(root.refuse(&format!(
                "\"format\": \"hetero-alloc/1\", or one of the lists {} of inferno's optimiser",
                WANTED.join(", ")
            )));
        }
    }
    let names: Vec<&str> = files.iter().map(|(file, _)| *file).collect();
    let missing = |key: &str| Refusal {
        file: if names.is_empty() { "no file".into() } else { names.join(", ") },
        field: key.into(),
        found: "nothing".into(),
        wanted: format!("a list `{key}`, as inferno's optimiser has it (or \"format\": \"hetero-alloc/1\")"),
    };
    let mut all = vec![];
    for (key, place) in WANTED.iter().zip(found) {
        all.push(place.ok_or_else(|| missing(key))?);
    }
    all.try_into().map_err(|_| missing(WANTED[0]))
}

fn stocked(place: &Place<'_>) -> Result<(String, u32), Refusal> {
    Ok((place.at("type").text()?.to_owned(), place.at("count").count()?))
}

fn accelerator(place: &Place<'_>, stock: &[(String, u32)]) -> Result<Accelerator, Refusal> {
    let kinds = stock.iter().map(|(name, _)| name.as_str());
    Ok(Accelerator {
        name: place.at("name").text()?.into(),
        kind: place.at("type").named(kinds, "types with a `count`")?,
        multiplicity: place.get("multiplicity").map_or(Ok(1), |p| p.count())?,
        cost: place.at("cost").amount()?,
    })
}

/// A model's name and what one replica of it does.
fn performance<'a>(place: &Place<'a>, accelerators: &[Accelerator]) -> Result<(&'a str, Performance), Refusal> {
    let parameters = place.at("perfParms");
    let performance = Performance {
        accelerator: place.at("acc").named(accelerators.iter().map(|a| a.name.as_str()), "accelerators")?,
        count: place.get("accCount").map_or(Ok(1), |p| p.count())?,
        max_batch: place.at("maxBatchSize").count()?,
        at_tokens: place.at("atTokens").count()?,
        alpha: parameters.at("alpha").amount()?,
        beta: parameters.at("beta").amount()?,
        gamma: parameters.at("gamma").amount()?,
    };
    Ok((place.at("name").text()?, performance))
}

fn class<'a>(place: &Place<'a>) -> Result<Class<'a>, Refusal> {
    let promised = |place: &Place<'a>, key: &str| -> Result<Option<f64>, Refusal> {
        let value = place.get(key).map_or(Ok(0.0), |p| p.amount())?;
        Ok(Some(value).filter(|v| *v > 0.0))
    };
    let mut targets = vec![];
    for target in place.at("modelTargets").items()? {
        let found = Target {
            ttft_seconds: promised(&target, "slo-ttft")?.map(|ms| ms * 1e-3),
            itl_seconds: promised(&target, "slo-itl")?.map(|ms| ms * 1e-3),
            tokens_per_second: promised(&target, "slo-tps")?,
        };
        targets.push((target.at("model").text()?, found));
    }
    Ok(Class { name: place.at("name").text()?, priority: place.at("priority").count()?, targets })
}

/// What servers refer to.
struct Names<'a> {
    accelerators: &'a [Accelerator],
    models: &'a [(&'a str, Performance)],
    classes: &'a [Class<'a>],
}

impl Names<'_> {
    fn server(&self, place: &Place<'_>) -> Result<Server, Refusal> {
        let name = place.at("name").text()?;
        let model = place.at("model").text()?;
        place.at("model").named(self.models.iter().map(|(name, _)| *name), "models with `perfParms`")?;
        let class_name = place.at("class").text()?;
        let class = self.classes.iter().find(|c| c.name == class_name);
        let target = class.and_then(|c| c.targets.iter().find(|(m, _)| *m == model)).map_or(Target::default(), |t| t.1);
        let load = load(place)?;
        let current = self.current(&place.at("currentAlloc"))?;
        let keeps = place.get("keepAccelerator").map_or(Ok(false), |p| p.is_true())?;
        let allowed = |p: &Performance| !keeps || current.is_none_or(|c| c.accelerator == p.accelerator);
        let of_model = self.models.iter().filter(|(m, p)| *m == model && allowed(p));
        let candidates: Vec<_> = of_model.filter_map(|(_, p)| p.candidate(&load, &target)).collect();
        if candidates.is_empty() {
            let wanted = format!("parameters with which an accelerator meets the targets of {class_name} for {model}");
            return Err(place.at("name").refuse(&wanted));
        }
        Ok(Server {
            name: name.into(),
            priority: class.map_or(FREE, |c| c.priority),
            rate: target.rate(&load),
            min_replicas: load.min_replicas,
            current,
            candidates,
        })
    }

    fn current(&self, place: &Place<'_>) -> Result<Option<Current>, Refusal> {
        let Some(accelerator) = place.get("accelerator") else { return Ok(None) };
        if accelerator.text()?.is_empty() {
            return Ok(None);
        }
        Ok(Some(Current {
            accelerator: accelerator.named(self.accelerators.iter().map(|a| a.name.as_str()), "accelerators")?,
            replicas: place.get("numReplicas").map_or(Ok(0), |p| p.count())?,
            cost: place.get("cost").map_or(Ok(0.0), |p| p.amount())?,
        }))
    }
}

fn load(place: &Place<'_>) -> Result<Load, Refusal> {
    let load = place.at("currentAlloc").at("load");
    // The sample's files spell these in two ways.
    let tokens = |keys: [&str; 2]| load.get(keys[1]).unwrap_or_else(|| load.at(keys[0])).count();
    let own_batch = place.get("maxBatchSize").map_or(Ok(0), |p| p.count())?;
    Ok(Load {
        rate: load.at("arrivalRate").amount()? / 60.0,
        input_tokens: tokens(["AvgInTokens", "avgInTokens"])?,
        output_tokens: tokens(["AvgOutTokens", "avgOutTokens"])?,
        min_replicas: place.get("minNumReplicas").map_or(Ok(0), |p| p.count())?,
        max_batch: Some(own_batch).filter(|n| *n > 0),
    })
}
