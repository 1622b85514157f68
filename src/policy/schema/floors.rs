//! What is kept ready whatever the load is, and the hours of the week that it may be bound to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Hours of the week.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleSpec {
    /// Name used by the floors.
    pub name: String,
    /// Days on which it begins; every day when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Weekday>,
    /// Time of the day at which it begins, for example `"08:00"`; midnight when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Time of the day at which it ends, `"24:00"` when absent. A time that is not after `from` is one of the next day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Time zone of both: a name of the IANA time zone database such as `Europe/Berlin`, or a fixed offset such as
    /// `"+02:00"`; UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// What is kept ready whatever the load is: replicas of the model or of one of its pools, or a load that is planned
/// for at least. Exactly one of `replicas` and `requestsPerSecond`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FloorSpec {
    /// Name of a schedule of the Fleet; always when absent. What is to be ready at its beginning is asked for earlier
    /// by the time that starting takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Fewest replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub replicas: Option<u32>,
    /// The pool that the replicas are counted in; all pools of the model together when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Load that is planned for at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub requests_per_second: Option<f64>,
    /// The class whose load it is; divided among the model's classes by their shares when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
}
