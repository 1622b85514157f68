//! Profile files: the measured figures of one replica, beside the policy that names them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::node::Node;
use super::problem::Problem;
use super::schema::{API_VERSION, ExpertsSpec, LimitsSpec, ParametersSpec};
use super::shape::{Misfit, read};
use super::units::Duration;
use crate::perf::fit::{CrossValidation, ErrorSummary, Fit, KvBounds, Spread, Validity};

/// `kind` of a profile document.
const KIND: &str = "Profile";

/// What a profile says to the policy that names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    pub parameters: ParametersSpec,
    /// Relative standard deviation of a predicted time.
    pub spread: Option<f64>,
    /// Limits of the server that was measured.
    pub limits: LimitsSpec,
}

impl Figures {
    /// Share of a capacity to keep in reserve, 0..1, where the profile says how good it is: a server that is slower by
    /// one standard deviation still keeps its promise.
    pub fn margin(&self) -> Option<f64> {
        self.spread.map(|deviation| (1.0 - (-deviation).exp()).clamp(0.03, 0.5))
    }
}

/// A profile as `poolwright fit` writes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    api_version: &'static str,
    kind: &'static str,
    metadata: Name,
    spec: Written,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Name {
    /// For people.
    name: String,
}

/// Where the figures come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    pub by: String,
    pub files: Vec<String>,
    pub formats: Vec<String>,
    pub points: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// What the fit was anchored on besides the points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    parameters: ParametersSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_tokens: Option<u64>,
    limits: LimitsSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    relative_spread: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fit: Option<Evidence>,
    provenance: Provenance,
}

/// How much the figures are worth; for people and for reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Evidence {
    validity: Validity,
    kv_bounds: KvBounds,
    parameter_spread: Spread,
    condition: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttft_error: Option<ErrorSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    itl_error: Option<ErrorSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cross_validation: Option<CrossValidation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Profile {
    /// The profile of a fit. `limits` are those that were known, not assumed.
    pub fn of_fit(name: &str, fit: &Fit, kv_tokens: Option<u64>, limits: LimitsSpec, provenance: Provenance) -> Self {
        let spread = rounded(fit.relative_spread);
        let evidence = Evidence {
            validity: fit.validity,
            kv_bounds: fit.kv,
            parameter_spread: fit.spread,
            condition: fit.condition,
            ttft_error: fit.ttft_error,
            itl_error: fit.itl_error,
            cross_validation: fit.cross_validation.clone(),
            warnings: fit.warnings.iter().map(|w| w.message.clone()).collect(),
        };
        let parameters = ParametersSpec::from_parameters(&fit.parameters, None);
        Self::new(name, parameters, kv_tokens, limits, Some(spread), Some(evidence), provenance)
    }

    /// Parameters that somebody else has fitted.
    pub fn taken_over(
        name: &str,
        parameters: ParametersSpec,
        kv_tokens: Option<u64>,
        limits: LimitsSpec,
        provenance: Provenance,
    ) -> Self {
        Self::new(name, parameters, kv_tokens, limits, None, None, provenance)
    }

    fn new(
        name: &str,
        parameters: ParametersSpec,
        kv_tokens: Option<u64>,
        limits: LimitsSpec,
        relative_spread: Option<f64>,
        fit: Option<Evidence>,
        provenance: Provenance,
    ) -> Self {
        Self {
            api_version: API_VERSION,
            kind: KIND,
            metadata: Name { name: name.to_owned() },
            spec: Written { parameters, kv_tokens, limits, relative_spread, fit, provenance },
        }
    }
}

/// Four digits are more than a spread is known to.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// What is read of a profile document; the rest is for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    /// `poolwright.dev/v1alpha1`.
    api_version: String,
    /// `Profile`.
    kind: String,
    #[serde(default)]
    metadata: Option<Name>,
    spec: Spec,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    parameters: Times,
    /// KV-cache capacity of one replica, tokens.
    #[serde(default)]
    kv_tokens: Option<u64>,
    /// Limits of the server that was measured.
    #[serde(default)]
    limits: LimitsSpec,
    /// Relative standard deviation of a predicted time, 0.1 is 10 %.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 10.0))]
    relative_spread: Option<f64>,
    /// What the fit says of itself.
    #[serde(default)]
    fit: Option<Free>,
    /// Where the figures come from.
    #[serde(default)]
    provenance: Option<Free>,
}

/// A map that is not looked into.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Free {}

impl JsonSchema for Free {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Free".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": {} })
    }
}

/// The parameters of an iteration without the KV capacity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Times {
    /// Fixed time of an iteration.
    alpha: Duration,
    /// Time per prompt token computed.
    beta: Duration,
    /// Time per token decoded; `beta` when absent.
    #[serde(default)]
    decode: Option<Duration>,
    /// Time per KV token read.
    gamma: Duration,
    /// Time per pair of prompt tokens of which one attends to the other.
    #[serde(default)]
    attention: Option<Duration>,
    /// Time of a request before its first token that takes nothing from others.
    #[serde(default)]
    overhead: Option<Duration>,
    /// Reading the experts of a mixture.
    #[serde(default)]
    experts: Option<ExpertsSpec>,
}

impl Times {
    fn with(self, kv_tokens: Option<u64>) -> ParametersSpec {
        let Self { alpha, beta, decode, gamma, attention, overhead, experts } = self;
        ParametersSpec { alpha, beta, decode, gamma, attention, overhead, experts, kv_tokens }
    }
}

/// The plain form: the figures alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Plain {
    /// Fixed time of an iteration.
    alpha: Duration,
    /// Time per prompt token computed.
    beta: Duration,
    /// Time per token decoded; `beta` when absent.
    #[serde(default)]
    decode: Option<Duration>,
    /// Time per KV token read.
    gamma: Duration,
    /// KV-cache capacity of one replica, tokens.
    #[serde(default)]
    kv_tokens: Option<u64>,
    /// Where the figures come from; for people.
    #[serde(default)]
    source: Option<String>,
}

/// Reads a profile: the document that `poolwright fit` writes, or the figures alone.
///
/// # Errors
/// Everything that is wrong with it, with lines of the profile file.
pub fn profile(file: &str, text: &str) -> Result<Figures, Vec<Problem>> {
    let problem = |line: u64, path: String, message: String, hint: Option<String>| Problem {
        file: file.to_owned(),
        line,
        document: String::new(),
        path,
        message,
        hint,
    };
    let all = |misfits: Vec<Misfit>| -> Vec<Problem> {
        misfits.into_iter().map(|m| problem(m.line, m.path, m.message, m.hint)).collect()
    };
    let nodes = Node::parse(text)
        .map_err(|(line, message)| vec![problem(line, String::new(), format!("is no valid YAML: {message}"), None)])?;
    let [node] = &nodes[..] else {
        let message = format!("a profile file holds one document, not {}", nodes.len());
        return Err(vec![problem(1, String::new(), message, None)]);
    };
    if node.get("kind").is_none() && node.get("apiVersion").is_none() {
        return match read::<Plain>(node, &[]) {
            (Some(read), _, misfits) if misfits.is_empty() => {
                let Plain { alpha, beta, decode, gamma, kv_tokens, .. } = read;
                let (attention, overhead, experts) = (None, None, None);
                let parameters = ParametersSpec { alpha, beta, decode, gamma, attention, overhead, experts, kv_tokens };
                Ok(Figures { parameters, spread: None, limits: LimitsSpec::default() })
            }
            (_, _, misfits) => Err(all(misfits)),
        };
    }
    match read::<Document>(node, &[]) {
        (Some(read), layout, misfits) if misfits.is_empty() => {
            for (key, found, wanted) in [("apiVersion", &read.api_version, API_VERSION), ("kind", &read.kind, KIND)] {
                if found != wanted {
                    let line = layout.lines.get(key).copied().unwrap_or(1);
                    let hint = Some(format!("write `{wanted}`"));
                    return Err(vec![problem(line, key.to_owned(), format!("`{found}` is no profile"), hint)]);
                }
            }
            let Spec { parameters, kv_tokens, limits, relative_spread, .. } = read.spec;
            Ok(Figures { parameters: parameters.with(kv_tokens), spread: relative_spread, limits })
        }
        (_, _, misfits) => Err(all(misfits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = "
apiVersion: poolwright.dev/v1alpha1
kind: Profile
metadata: {name: x}
spec:
  parameters: {alpha: 6.378ms, beta: 353.83us, decode: 235.2us, gamma: 461.99ns, experts: {all: 3ms, leftOut: 0.9},
    attention: 0.033ns, overhead: 5ms}
  kvTokens: 1000
  limits: {maxNumSeqs: 32}
  relativeSpread: 0.12
  fit: {condition: 3.0, warnings: [a]}
  provenance: {points: 8, files: [a.json]}
";

    #[test]
    fn both_forms_are_read() {
        let figures = profile("p.yaml", WRITTEN).unwrap();
        assert_eq!((figures.spread, figures.limits.max_num_seqs), (Some(0.12), Some(32)));
        let p = figures.parameters.parameters();
        assert!((p.gamma_seconds_per_token - 461.99e-9).abs() < 1e-15 && p.experts.left_out == 0.9);
        assert!((p.decode_seconds_per_token - 235.2e-6).abs() < 1e-12);
        assert!((p.prompts.attention_seconds_per_pair - 33e-12).abs() < 1e-18 && p.prompts.overhead_seconds == 5e-3);
        let written = ParametersSpec::from_parameters(&p, None);
        assert_eq!((written.attention.unwrap().to_string(), written.parameters()), ("0.033ns".to_owned(), p));
        let plain = profile("p.yaml", "{alpha: 7ms, beta: 20us, gamma: 50ns, kvTokens: 5, source: me}").unwrap();
        assert_eq!((plain.spread, plain.parameters.kv_tokens), (None, Some(5)));
        let plain = plain.parameters.parameters();
        assert_eq!(plain.decode_seconds_per_token, plain.beta_seconds_per_token);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let of = |text: &str| profile("p.yaml", text).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>();
        let other = of(&WRITTEN.replace("kind: Profile", "kind: Fleet"));
        assert!(other[0].contains("p.yaml:3") && other[0].contains("`Fleet` is no profile"), "{other:?}");
        let unknown = of(&WRITTEN.replace("kvTokens", "kvToken"));
        assert!(unknown[0].contains("kvToken") && unknown[0].contains("kvTokens"), "{unknown:?}");
        let spread = of(&WRITTEN.replace("0.12", "-1"));
        assert!(spread[0].contains("relativeSpread"), "{spread:?}");
    }
}
