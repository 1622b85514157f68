//! The arguments of the Deployment against the program's own parser, as shipped and in every variant.

use std::fs;
use std::path::{Path, PathBuf};

use poolwright::cli;
use poolwright::cluster::manifests::{Certificates, Follower, MetricsFrom, Options, Part, StateVolume, render};
use poolwright::policy::{Policy, load};
use serde_json::Value;

/// What a Deployment starts; `None` for another object.
fn arguments(object: &Value) -> Option<Vec<String>> {
    let arguments = object.pointer("/spec/template/spec/containers/0/args")?.as_array().unwrap();
    Some(arguments.iter().map(|a| a.as_str().unwrap().to_owned()).collect())
}

fn parse(arguments: &[String], whose: &str) {
    let line: Vec<&str> = std::iter::once("poolwright").chain(arguments.iter().map(String::as_str)).collect();
    cli::check(&line).unwrap_or_else(|error| panic!("{whose}: {error}"));
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn shipped_deployments_start_a_program_that_knows_their_arguments() {
    let mut found = 0;
    for file in files_below(Path::new("manifests")) {
        let text = fs::read_to_string(&file).unwrap();
        let Ok(objects) = serde_saphyr::from_multiple::<Value>(&text) else { continue };
        for arguments in objects.iter().filter_map(arguments) {
            parse(&arguments, &file.display().to_string());
            found += 1;
        }
    }
    assert_eq!(found, 2, "of base and of keda");
}

#[test]
fn every_choice_renders_arguments_that_are_known() {
    let policy: Policy = load(Path::new("policies/quickstart.yaml")).unwrap();
    let all = [Follower::Hpa, Follower::Keda, Follower::MetricsApi].into_iter().flat_map(|follower| {
        let of = Options { follower, ..Options::default() };
        [
            of.clone(),
            Options { certificates: Certificates::CertManager, ..of.clone() },
            Options { upstream: (follower == Follower::Hpa).then(|| "https://a.b.svc".into()), ..of.clone() },
            Options { keda_tls: false, state: StateVolume::Empty, ..of.clone() },
            Options { metrics: MetricsFrom::Prometheus("http://prometheus:9090".into()), service_monitor: true, ..of },
        ]
    });
    for options in all {
        let rendered = render(&policy, &options, &Part::ALL).unwrap();
        let found: Vec<_> = rendered.manifests.iter().filter_map(|m| arguments(&m.object)).collect();
        assert_eq!(found.len(), 1);
        parse(&found[0], &format!("{options:?}"));
        let takes = found[0].iter().any(|argument| argument == "--take-over");
        let registers = rendered.manifests.iter().any(|m| m.object["kind"] == "APIService");
        assert_eq!((takes, registers), (options.upstream.is_some(), options.follower == Follower::Hpa && !takes));
        assert!(cli::check(&["poolwright", "serve", "--policy=p", "--no-such-flag"]).is_err(), "the parser is asked");
    }
}
