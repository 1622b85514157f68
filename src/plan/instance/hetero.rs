//! The format `hetero-alloc/1`: synthetic fleets with stock, penalties for load that is not served, and switching.
//!
//! minimise `sum cost*y + sum penalty*s + sum up*started + down*stopped` over whole replicas `y` and divisible
//! demand; money per hour, rates in requests per second.

use serde::Serialize;
use serde_json::Value;

use super::field::{Place, Refusal};
use crate::plan::{Cell, Limit, LimitKind, Objective, PoolOption, Problem, Serve};

pub(super) const FORMAT: &str = "hetero-alloc/1";

/// One file of the format.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fleet {
    pub format: &'static str,
    pub name: String,
    pub accels: Vec<Accelerator>,
    pub models: Vec<Model>,
    pub variants: Vec<Variant>,
    pub cells: Vec<FleetCell>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accelerator {
    pub name: String,
    pub price: f64,
    /// Accelerators there are.
    pub inventory: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Model {
    pub name: String,
    /// Replicas of all its variants together, at least.
    pub min_replicas: u32,
}

/// A pool that could be: one model on one accelerator type.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Variant {
    pub model: usize,
    pub accel: usize,
    /// Accelerators of one replica.
    pub gpus: u32,
    /// Of one replica, per hour.
    pub cost: f64,
    /// Replicas that run now.
    pub y0: u32,
    /// Cost of starting and of stopping one, per hour.
    pub up: f64,
    pub down: f64,
    pub max: u32,
}

/// Demand of one model at one target and one size of request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FleetCell {
    pub model: usize,
    pub slo: String,
    pub inp: f64,
    pub out: f64,
    /// Requests per second.
    pub rate: f64,
    /// Per hour, of one request per second that is not served.
    pub penalty: f64,
    /// Variants that meet the target, and the requests per second of one replica of each.
    pub v: Vec<usize>,
    pub t: Vec<f64>,
}

impl Fleet {
    pub(super) fn read(file: &str, value: &Value) -> Result<Self, Refusal> {
        let root =
            Place::root(file, value).closed(&["format", "name", "params", "accels", "models", "variants", "cells"])?;
        if root.at("format").text()? != FORMAT {
            return Err(root.at("format").refuse(&format!("\"{FORMAT}\"")));
        }
        let name = root.get("name").map_or(Ok(file), |name| name.text())?.to_owned();
        let accels = each(&root, "accels", accelerator)?;
        let models = each(&root, "models", model)?;
        let variants = each(&root, "variants", |place| variant(place, models.len(), accels.len()))?;
        let cells = each(&root, "cells", |place| cell(place, models.len(), &variants))?;
        Ok(Self { format: FORMAT, name, accels, models, variants, cells })
    }

    /// The problem that the file states; pools are its variants in order.
    pub fn problem(&self) -> Problem {
        let mut classes: Vec<&str> = vec![];
        let cells = self.cells.iter().map(|c| {
            let class = classes.iter().position(|s| *s == c.slo).unwrap_or_else(|| {
                classes.push(&c.slo);
                classes.len() - 1
            });
            let name = format!("{}/{}/{}/{}", self.models[c.model].name, c.slo, c.inp, c.out);
            Cell { name, model: c.model, class, priority: 0, rate: c.rate, may_wait: 0.0 }
        });
        let serves = self.cells.iter().enumerate().flat_map(|(cell, c)| {
            c.v.iter().zip(&c.t).map(move |(&pool, &rate)| Serve { cell, pool, tier: 0, rate, then: None })
        });
        Problem {
            cells: cells.collect(),
            pools: self.variants.iter().map(|v| self.pool(v)).collect(),
            limits: self.stock().chain(self.floors()).collect(),
            serves: serves.collect(),
            objective: Objective::Weighted(self.cells.iter().map(|c| c.penalty).collect()),
        }
    }

    fn pool(&self, v: &Variant) -> PoolOption {
        PoolOption {
            name: format!("{} on {}x{}", self.models[v.model].name, v.gpus, self.accels[v.accel].name),
            price_per_hour: v.cost,
            start_cost_per_hour: v.up,
            stop_cost_per_hour: v.down,
            min: 0,
            max: v.max,
            running: v.y0,
            tier: None,
        }
    }

    fn stock(&self) -> impl Iterator<Item = Limit> {
        self.accels.iter().enumerate().map(|(a, accel)| Limit {
            name: accel.name.clone(),
            kind: LimitKind::Stock,
            most: f64::from(accel.inventory),
            uses: self.pools_where(|v| v.accel == a).map(|(i, v)| (i, f64::from(v.gpus))).collect(),
        })
    }

    fn floors(&self) -> impl Iterator<Item = Limit> {
        let asked = self.models.iter().enumerate().filter(|(_, model)| model.min_replicas > 0);
        asked.map(|(m, model)| Limit {
            name: format!("min_replicas of {}", model.name),
            kind: LimitKind::Floor,
            most: -f64::from(model.min_replicas),
            uses: self.pools_where(|v| v.model == m).map(|(i, _)| (i, -1.0)).collect(),
        })
    }

    fn pools_where(&self, wanted: impl Fn(&Variant) -> bool) -> impl Iterator<Item = (usize, &Variant)> {
        self.variants.iter().enumerate().filter(move |(_, v)| wanted(v))
    }
}

fn each<'a, T>(root: &Place<'a>, key: &str, read: impl Fn(Place<'a>) -> Result<T, Refusal>) -> Result<Vec<T>, Refusal> {
    root.at(key).items()?.into_iter().map(read).collect()
}

fn accelerator(place: Place<'_>) -> Result<Accelerator, Refusal> {
    let place = place.closed(&["name", "price", "inventory"])?;
    Ok(Accelerator {
        name: place.at("name").text()?.into(),
        price: place.at("price").amount()?,
        inventory: place.at("inventory").count()?,
    })
}

fn model(place: Place<'_>) -> Result<Model, Refusal> {
    let place = place.closed(&["name", "min_replicas"])?;
    Ok(Model { name: place.at("name").text()?.into(), min_replicas: place.at("min_replicas").count()? })
}

fn variant(place: Place<'_>, models: usize, accels: usize) -> Result<Variant, Refusal> {
    let place = place.closed(&["model", "accel", "gpus", "cost", "y0", "up", "down", "max"])?;
    let gpus = place.at("gpus").count()?;
    if gpus == 0 {
        return Err(place.at("gpus").refuse("1 or more accelerators"));
    }
    Ok(Variant {
        model: place.at("model").index(models, "models")?,
        accel: place.at("accel").index(accels, "accels")?,
        gpus,
        cost: place.at("cost").amount()?,
        y0: place.at("y0").count()?,
        up: place.at("up").amount()?,
        down: place.at("down").amount()?,
        max: place.at("max").count()?,
    })
}

fn cell(place: Place<'_>, models: usize, variants: &[Variant]) -> Result<FleetCell, Refusal> {
    let place = place.closed(&["model", "slo", "inp", "out", "rate", "penalty", "v", "t"])?;
    let model = place.at("model").index(models, "models")?;
    let mut v = vec![];
    for item in place.at("v").items()? {
        let index = item.index(variants.len(), "variants")?;
        if variants[index].model != model {
            return Err(item.refuse(&format!("a variant of model {model}, the cell's")));
        }
        if v.contains(&index) {
            return Err(item.refuse("each variant once"));
        }
        v.push(index);
    }
    let t = place.at("t").items()?.iter().map(Place::positive).collect::<Result<Vec<f64>, Refusal>>()?;
    if t.len() != v.len() {
        return Err(place.at("t").refuse(&format!("one rate for each of the {} variants in `v`", v.len())));
    }
    Ok(FleetCell {
        model,
        slo: place.at("slo").text()?.into(),
        inp: place.at("inp").amount()?,
        out: place.at("out").amount()?,
        rate: place.at("rate").amount()?,
        penalty: place.at("penalty").amount()?,
        v,
        t,
    })
}
