//! Profile files: the measured figures of one replica, beside the policy that names them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::node::Node;
use super::problem::Problem;
use super::schema::ParametersSpec;
use super::shape::read;
use super::units::Duration;

/// Contents of a profile file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProfileFile {
    /// Fixed time of an iteration.
    alpha: Duration,
    /// Time per token computed.
    beta: Duration,
    /// Time per KV token read.
    gamma: Duration,
    /// KV-cache capacity of one replica, tokens.
    #[serde(default)]
    kv_tokens: Option<u64>,
    /// Where the figures come from; for people.
    #[serde(default)]
    #[allow(dead_code)] // read by people only
    source: Option<String>,
}

/// Reads a profile.
///
/// # Errors
/// Everything that is wrong with it, with lines of the profile file.
pub fn profile(file: &str, text: &str) -> Result<ParametersSpec, Vec<Problem>> {
    let problem = |line: u64, path: String, message: String, hint: Option<String>| Problem {
        file: file.to_owned(),
        line,
        document: String::new(),
        path,
        message,
        hint,
    };
    let nodes = Node::parse(text)
        .map_err(|(line, message)| vec![problem(line, String::new(), format!("is no valid YAML: {message}"), None)])?;
    let [node] = &nodes[..] else {
        let message = format!("a profile file holds one document, not {}", nodes.len());
        return Err(vec![problem(1, String::new(), message, None)]);
    };
    match read::<ProfileFile>(node, &[]) {
        (Some(read), _, misfits) if misfits.is_empty() => {
            Ok(ParametersSpec { alpha: read.alpha, beta: read.beta, gamma: read.gamma, kv_tokens: read.kv_tokens })
        }
        (_, _, misfits) => Err(misfits.into_iter().map(|m| problem(m.line, m.path, m.message, m.hint)).collect()),
    }
}
