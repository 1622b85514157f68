//! The architecture of a served model: by name, by figures, or from its own `config.json`.

use crate::perf::{self, Architecture, GivenFigures, known_architectures, stored_format_of};
use crate::policy::document::{Place, Report, Texts, profile_path, quantisation_beside};
use crate::policy::problem::{did_you_mean, listed};
use crate::policy::schema::{ArchitectureConfig, ArchitectureFigures, ArchitectureSpec};

const PATH: &str = "spec.architecture";

/// `None` when what was given is wrong (and reported), `Some(None)` when nothing is known. The end of the
/// served name says how the weights are stored, unless the configuration does.
pub fn resolve(
    place: &Place,
    model: &str,
    spec: Option<&ArchitectureSpec>,
    texts: &Texts,
    report: &mut Report,
) -> Option<Option<Architecture>> {
    if !place.is_sound(PATH) {
        return None;
    }
    let found = match spec {
        None => perf::architecture(model),
        Some(ArchitectureSpec::Named(name)) => Some(named(place, name, report)?),
        Some(ArchitectureSpec::Given(figures)) => Some(given(place, model, figures, report)?),
        Some(ArchitectureSpec::Config(files)) => return configured(place, model, files, texts, report).map(Some),
    };
    Some(found.map(|architecture| match stored_format_of(model) {
        Some(format) => architecture.stored_as(format),
        None => architecture,
    }))
}

fn named(place: &Place, name: &str, report: &mut Report) -> Option<Architecture> {
    let found = perf::architecture(name);
    if found.is_none() {
        let known = known_architectures();
        let meant = did_you_mean(name, known.iter().copied()).map(|m| format!(" ({m})")).unwrap_or_default();
        let hint =
            format!("known are {}{meant}; or give the figures, or `{{config: path/to/config.json}}`", listed(known));
        report.add(place, PATH, format!("no architecture `{name}` is built in"), Some(hint));
    }
    found
}

fn given(place: &Place, model: &str, figures: &ArchitectureFigures, report: &mut Report) -> Option<Architecture> {
    let active = figures.active_parameters_billion.unwrap_or(figures.parameters_billion);
    let figures = GivenFigures {
        parameters: figures.parameters_billion * 1e9,
        active_parameters: active * 1e9,
        layers: figures.layers,
        hidden_size: figures.hidden_size,
        kv_heads: figures.kv_heads,
        head_size: figures.head_size,
    };
    let architecture = Architecture::from_figures(model.to_owned(), &figures);
    if !architecture.is_usable() {
        let hint = "every figure must be greater than zero, and no more parameters active than there are";
        report.add(place, PATH, "describes no model", Some(hint.to_owned()));
        return None;
    }
    Some(architecture)
}

fn configured(
    place: &Place,
    model: &str,
    files: &ArchitectureConfig,
    texts: &Texts,
    report: &mut Report,
) -> Option<Architecture> {
    let (name, text) = read(place, "config", &files.config, texts, report)?;
    let quantisation = match &files.quantisation {
        Some(file) => Some(read(place, "quantisation", file, texts, report)?.1),
        None => beside(place, &name, texts, report)?,
    };
    match Architecture::from_config(text, quantisation) {
        Ok(read) => Some(Architecture { name: model.to_owned().into(), ..read }),
        Err(error) => {
            report.add(place, &format!("{PATH}.config"), format!("`{name}`: {error}"), None);
            None
        }
    }
}

/// The quantisation file that nobody named: none, if there is none.
fn beside<'t>(place: &Place, config: &str, texts: &'t Texts, report: &mut Report) -> Option<Option<&'t str>> {
    let name = quantisation_beside(config);
    match texts.profiles.get(&name) {
        Some(Ok(text)) => Some(Some(text)),
        Some(Err(why)) if why != crate::policy::document::NO_FILE => {
            report.add(place, &format!("{PATH}.config"), format!("the file `{name}` beside it {why}"), None);
            None
        }
        _ => Some(None),
    }
}

/// A file that the policy names, and its name.
fn read<'t>(place: &Place, key: &str, file: &str, texts: &'t Texts, report: &mut Report) -> Option<(String, &'t str)> {
    let path = format!("{PATH}.{key}");
    let name = match profile_path(&place.file, file) {
        Ok(name) => name,
        Err(why) => {
            report.add(place, &path, format!("`{file}` {why}"), None);
            return None;
        }
    };
    match texts.profiles.get(&name) {
        Some(Ok(text)) => Some((name, text)),
        Some(Err(why)) => {
            report.add(place, &path, format!("the file `{name}` {why}"), None);
            None
        }
        None => {
            report.add(place, &path, format!("there is no file `{name}`"), None);
            None
        }
    }
}
