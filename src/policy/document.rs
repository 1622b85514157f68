//! From texts to typed documents: which file, which kind, which line. Structure only.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::change::{Change, Changed, apply, told};
use super::node::{Node, Value};
use super::problem::{Problem, did_you_mean};
use super::schema::{API_VERSION, FleetDocument, ServedModelDocument};
use super::shape::{Layout, Misfit, read};

/// Policy texts and the profiles and model configurations they name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// (name to print, text or why it cannot be read), sorted by name.
    pub documents: Vec<(String, Result<String, String>)>,
    /// Profile files and model configurations by the name that [`profile_path`] gives them. A quantisation file
    /// that nobody named is among them even when it does not exist, so that its appearance is noticed.
    pub profiles: BTreeMap<String, Result<String, String>>,
    /// Values that are set in the documents.
    pub changes: Vec<Change>,
}

/// Where in which file the parts of a document are.
#[derive(Clone, Debug)]
pub struct Place {
    pub file: String,
    /// `ServedModel llama-70b`.
    pub document: String,
    layout: Layout,
}

impl Place {
    /// Line of a path, or of the nearest thing around it that was written.
    fn line(&self, path: &str) -> u64 {
        let mut path = path;
        loop {
            if let Some(line) = self.layout.lines.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return self.layout.lines.get("").copied().unwrap_or(0),
            }
        }
    }

    /// True when nothing at, inside or around the path is a stand-in.
    pub fn is_sound(&self, path: &str) -> bool {
        let inside = |outer: &str, inner: &str| {
            outer.is_empty()
                || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        !self.layout.bad.iter().any(|bad| inside(bad, path) || inside(path, bad))
    }
}

/// Problems as they are found.
#[derive(Debug, Default)]
pub struct Report {
    pub problems: Vec<Problem>,
    /// Values that do not stand in the files.
    pub(super) changed: Vec<Changed>,
}

impl Report {
    /// Says what is wrong at `path`, unless its structure was wrong already.
    pub fn add(&mut self, place: &Place, path: &str, message: impl Into<String>, hint: Option<String>) {
        if place.is_sound(path) {
            self.problems.push(Problem {
                file: place.file.clone(),
                line: place.line(path),
                document: place.document.clone(),
                path: path.to_owned(),
                message: message.into(),
                hint,
            });
        }
    }

    /// All problems; those with a value that was set name the setting in the place of the file.
    pub fn attributed(self) -> Vec<Problem> {
        let Self { problems, changed } = self;
        let by_change = |mut problem: Problem| {
            let is_at = |c: &&Changed| c.file == problem.file && c.path == problem.path && !c.path.is_empty();
            if let Some(changed) = changed.iter().rfind(is_at) {
                (problem.file, problem.line) = (told(&changed.change), 0);
            }
            problem
        };
        problems.into_iter().map(by_change).collect()
    }

    fn misfits(&mut self, file: &str, document: &str, misfits: Vec<Misfit>) {
        self.problems.extend(misfits.into_iter().map(|m| Problem {
            file: file.to_owned(),
            line: m.line,
            document: document.to_owned(),
            path: m.path,
            message: m.message,
            hint: m.hint,
        }));
    }
}

/// One document with its place.
pub type Placed<T> = (Place, T);

/// The documents of a policy.
#[derive(Debug, Default)]
pub struct Documents {
    pub fleets: Vec<Placed<FleetDocument>>,
    pub models: Vec<Placed<ServedModelDocument>>,
    /// Every document could be told by its kind; only then is "there is no such thing" certain.
    pub complete: bool,
}

/// The trees of one policy file.
pub type Parsed = (String, Vec<Node>);

/// Parses all texts and puts the changes in; what is no YAML is reported and left out.
pub fn parse(texts: &Texts, report: &mut Report) -> Vec<Parsed> {
    let mut parsed = Vec::new();
    for (file, text) in &texts.documents {
        let result = match text {
            Ok(text) => Node::parse(text).map_err(|(line, why)| (line, format!("is no valid YAML: {why}"))),
            Err(why) => Err((0, why.clone())),
        };
        match result {
            Ok(nodes) => parsed.push((file.clone(), nodes)),
            Err((line, message)) => report.problems.push(Problem {
                file: file.clone(),
                line,
                document: String::new(),
                path: String::new(),
                message,
                hint: None,
            }),
        }
    }
    apply(&mut parsed, &texts.changes, report);
    parsed
}

/// Sorts trees by their kind and reads them.
pub fn documents(parsed: &[Parsed], report: &mut Report) -> Documents {
    let mut documents = Documents { complete: report.problems.is_empty(), ..Documents::default() };
    for (file, node) in parsed.iter().flat_map(|(file, nodes)| nodes.iter().map(move |n| (file, n))) {
        match node.get("kind").and_then(Node::as_text) {
            Some("Fleet") => documents.fleets.extend(document(file, "Fleet", node, report)),
            Some("ServedModel") => documents.models.extend(document(file, "ServedModel", node, report)),
            other => {
                documents.complete = false;
                report.problems.push(no_kind(file, node, other));
            }
        }
    }
    documents
}

fn no_kind(file: &str, node: &Node, kind: Option<&str>) -> Problem {
    let kinds = ["Fleet", "ServedModel"];
    let (path, message) = match (kind, &node.value) {
        (Some(kind), _) => ("kind", format!("no kind `{kind}` in a policy")),
        (None, Value::Map(_)) => ("kind", "is missing".to_owned()),
        (None, _) => ("", "is no policy document".to_owned()),
    };
    Problem {
        file: file.to_owned(),
        line: node.get("kind").map_or(node.line, |n| n.line),
        document: String::new(),
        path: path.to_owned(),
        message,
        hint: kind
            .and_then(|kind| did_you_mean(kind, kinds))
            .or_else(|| Some("use `kind: Fleet` or `kind: ServedModel`".to_owned())),
    }
}

fn document<T: JsonSchema + DeserializeOwned>(
    file: &str,
    kind: &str,
    node: &Node,
    report: &mut Report,
) -> Option<Placed<T>> {
    let metadata = node.get("metadata");
    let text = |key: &str| metadata.and_then(|m| m.get(key)).and_then(Node::as_text).unwrap_or_default();
    let slash = if text("namespace").is_empty() { "" } else { "/" };
    let document = format!("{kind} {}{slash}{}", text("namespace"), text("name")).trim_end().to_owned();
    let (typed, layout, misfits) = read::<T>(node, &["kind"]);
    report.misfits(file, &document, misfits);
    let place = Place { file: file.to_owned(), document, layout };
    let version = node.get("apiVersion").and_then(Node::as_text).unwrap_or(API_VERSION);
    if version != API_VERSION {
        let hint = format!("this version of poolwright reads `{API_VERSION}`");
        report.add(&place, "apiVersion", format!("`{version}` is not known"), Some(hint));
    }
    typed.map(|typed| (place, typed))
}

/// Name of a profile file: beside the policy file, or below that folder.
///
/// # Errors
/// The path leads elsewhere.
pub fn profile_path(policy_file: &str, profile: &str) -> Result<String, &'static str> {
    let leaves = profile.split(['/', '\\']).any(|part| part == "..") || profile.starts_with(['/', '\\']);
    if leaves || profile.trim().is_empty() {
        return Err("must be a path below the folder of the policy file");
    }
    let profile = profile.trim_start_matches("./");
    Ok(match policy_file.rfind(['/', std::path::MAIN_SEPARATOR]) {
        Some(cut) => format!("{}{profile}", &policy_file[..=cut]),
        None => profile.to_owned(),
    })
}

/// Why a file that does not exist has no text.
pub const NO_FILE: &str = "does not exist";
/// Name of the file beside a `config.json` that tells how a checkpoint is stored.
const QUANTISATION_FILE: &str = "hf_quant_config.json";

/// Where the quantisation file of a model configuration would be.
pub fn quantisation_beside(config: &str) -> String {
    let folder = config.rfind(['/', std::path::MAIN_SEPARATOR]).map_or("", |cut| &config[..=cut]);
    format!("{folder}{QUANTISATION_FILE}")
}

/// True for a file that need not be there.
pub fn may_be_missing(name: &str) -> bool {
    name.ends_with(QUANTISATION_FILE)
}

/// Every profile file and model configuration that the trees name.
pub fn named_files(parsed: &[Parsed]) -> Vec<String> {
    let specs = || {
        let nodes = parsed.iter().flat_map(|(file, nodes)| nodes.iter().map(move |node| (file, node)));
        nodes.filter_map(|(file, node)| Some((file, node.get("spec")?)))
    };
    let profiles = specs()
        .filter_map(|(file, spec)| Some((file, spec.get("pools")?)))
        .flat_map(|(file, pools)| pools.items().iter().map(move |pool| (file, pool)))
        .filter_map(|(file, pool)| profile_path(file, pool.get("performance")?.get("profile")?.as_text()?).ok());
    let configs = specs().filter_map(|(file, spec)| {
        let architecture = spec.get("architecture")?;
        let config = profile_path(file, architecture.get("config")?.as_text()?).ok()?;
        let named = architecture.get("quantisation").and_then(Node::as_text);
        let quantisation = match named {
            Some(named) => profile_path(file, named).ok(),
            None => Some(quantisation_beside(&config)),
        };
        Some([Some(config), quantisation].into_iter().flatten())
    });
    let mut names: Vec<String> = profiles.chain(configs.flatten()).collect();
    names.sort();
    names.dedup();
    names
}
