//! Accelerator types as an operator writes them, and limits on several of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One accelerator type. Only name, price and stock are needed for a known type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcceleratorSpec {
    /// Name used by the pools.
    pub name: String,
    /// Data sheet to use, e.g. `H100`; the name itself when absent.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Price of one accelerator per hour.
    #[schemars(range(min = 0.0))]
    pub price_per_hour: f64,
    /// How many accelerators of this type can be had: those in the nodes that exist or that may be added.
    pub stock: u32,
    /// How many of them the account or project may use; holds together with `stock`. A quota over several entries,
    /// such as spot and on-demand ones of one type, is written in `limits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u32>,
    /// How many of them are reserved for this fleet, where no others are to be used; holds together with `stock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<u32>,
    /// Highest power draw of one accelerator, watts; overrides the data sheet. Used for limits on power only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001))]
    pub power_watts: Option<f64>,
    /// Memory of one accelerator, gigabytes (10^9); overrides the data sheet.
    #[serde(default, rename = "memoryGB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001))]
    pub memory_gb: Option<f64>,
    /// Memory bandwidth, gigabytes per second; overrides the data sheet.
    #[serde(default, rename = "bandwidthGBps", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001))]
    pub bandwidth_gbps: Option<f64>,
    /// Dense 16-bit TFLOP/s; overrides the data sheet.
    #[serde(default, rename = "bf16TFLOPS", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001))]
    pub bf16_tflops: Option<f64>,
    /// Dense 8-bit TFLOP/s; overrides the data sheet.
    #[serde(default, rename = "fp8TFLOPS", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001))]
    pub fp8_tflops: Option<f64>,
    /// Bandwidth between accelerators of one replica, gigabytes per second one way; overrides the data sheet.
    #[serde(default, rename = "linkGBps", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001))]
    pub link_gbps: Option<f64>,
}

/// A limit on several accelerator types together: a quota of a cloud account over spot and on-demand ones, the power
/// of a rack, the budget of a department. At least one of `most`, `budgetPerHour` and `powerKW`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitSpec {
    /// As it is called in explanations.
    pub name: String,
    /// Names of accelerators of the Fleet.
    pub accelerators: Vec<String>,
    /// Most of these accelerators in use together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u32>,
    /// Most that they may cost per hour together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub budget_per_hour: Option<f64>,
    /// Most power that they may draw together, kilowatts, each at its highest draw.
    #[serde(default, rename = "powerKW", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub power_kw: Option<f64>,
}
