//! What survives from one decision to the next.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::decide::{LiveMemory, readable};
use crate::demand::{RateMemory, ShapeMemory};
use crate::observe::RatePoint;
use crate::perf::CapacityCache;
use crate::plan::Memory;
use crate::safety::{PoolMemory, Waste};

/// Version of the stored form; a file of another version is not read.
pub const STATE_VERSION: u32 = 1;

/// Memory of the loop: everything a decision needs besides policy and observation. Keys are
/// `namespace/name`, so that an edited policy finds what it still knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    pub version: u32,
    pub models: BTreeMap<String, ModelMemory>,
    pub pools: BTreeMap<String, PoolMemory>,
    /// What pools showed of their servers' speed.
    #[serde(default, deserialize_with = "readable")]
    pub live: BTreeMap<String, LiveMemory>,
    /// What the last plans leave to the next, so that a large fleet is not planned from nothing.
    #[serde(default)]
    pub planner: PlannerMemory,
    /// Capacities already computed. A pure function of its inputs, so leaving it out of the stored form
    /// changes no answer.
    #[serde(skip)]
    pub capacities: CapacityCache,
}

/// Memory of the planner: of the plan with all pools, and of the one with only those that follow it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlannerMemory {
    pub advised: Memory,
    pub acting: Memory,
    /// Of the plan in which models keep what they have.
    #[serde(default)]
    pub kept: Memory,
    /// The same of what is only advised, where other pools act.
    #[serde(default)]
    pub advised_kept: Memory,
}

/// Memory of one model's demand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelMemory {
    pub rates: RateMemory,
    pub shapes: ShapeMemory,
    /// What a cheaper plan would have saved.
    #[serde(default)]
    pub waste: Waste,
    /// The same of what is only advised, where other pools act.
    #[serde(default)]
    pub advised_waste: Waste,
    /// Burstiness that was planned for last.
    #[serde(default)]
    pub burstiness: Option<f64>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: STATE_VERSION,
            models: BTreeMap::new(),
            pools: BTreeMap::new(),
            live: BTreeMap::new(),
            planner: PlannerMemory::default(),
            capacities: CapacityCache::default(),
        }
    }
}

impl State {
    /// A copy to fall back on, without the remembered capacities.
    pub fn checkpoint(&self) -> Self {
        Self {
            version: self.version,
            models: self.models.clone(),
            pools: self.pools.clone(),
            live: self.live.clone(),
            planner: self.planner.clone(),
            capacities: CapacityCache::default(),
        }
    }

    /// Put remembered rates of the past before what is known, by model.
    pub fn fill_back(&mut self, history: BTreeMap<String, Vec<RatePoint>>) {
        for (model, points) in history {
            self.models.entry(model).or_default().rates.fill_back(points);
        }
    }
}
