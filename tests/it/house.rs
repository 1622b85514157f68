//! The rules of the house that a compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};

const PURE_ROOMS: [&str; 4] = ["perf", "demand", "plan", "safety"];
/// Crates that do I/O or tell the time.
const IMPURE: [&str; 12] = [
    "tokio",
    "tokio_util",
    "kube",
    "k8s_openapi",
    "axum",
    "axum_server",
    "tonic",
    "reqwest",
    "hyper",
    "prometheus_http_query",
    "tower",
    "tracing",
];
/// Parts of the standard library that do the same.
const IMPURE_STD: [&str; 6] = ["std::fs", "std::net", "std::io", "std::time", "std::env", "std::process"];
const MOST_LINES: usize = 500;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn pure_rooms_know_no_io_and_no_clock() {
    for room in PURE_ROOMS {
        for file in sources(&root().join("src").join(room)) {
            let text = fs::read_to_string(&file).unwrap();
            for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
                let used = IMPURE
                    .iter()
                    .map(|c| format!("{c}::"))
                    .chain(IMPURE_STD.iter().map(|&s| s.to_owned()))
                    .chain(["Instant::now".to_owned(), "SystemTime".to_owned(), "Utc::now".to_owned()])
                    .find(|name| line.contains(name.as_str()));
                assert!(used.is_none(), "{}:{}: {} in a pure room", file.display(), number + 1, used.unwrap());
            }
        }
    }
}

#[test]
fn the_decision_knows_no_io_and_no_clock() {
    for file in sources(&root().join("src/control/decide")) {
        let text = fs::read_to_string(&file).unwrap();
        for name in IMPURE.iter().chain(&IMPURE_STD).chain(&["Instant", "SystemTime", "Clock"]) {
            assert!(!text.contains(&format!("{name}::")), "{}: {name}", file.display());
        }
    }
}

/// Data flows from the first room to the last; a room may use those before it.
#[test]
fn rooms_do_not_look_back_up() {
    let later: [(&str, &[&str]); 9] = [
        ("perf", &["policy", "observe", "demand", "plan", "safety", "control", "cluster", "serve", "simulate", "cli"]),
        ("policy", &["observe", "demand", "plan", "safety", "control", "cluster", "serve", "simulate", "cli"]),
        ("observe", &["demand", "plan", "safety", "control", "cluster", "serve", "simulate", "cli"]),
        ("demand", &["plan", "safety", "control", "cluster", "serve", "simulate", "cli"]),
        ("plan", &["control", "cluster", "serve", "simulate", "cli"]),
        ("safety", &["control", "cluster", "serve", "simulate", "cli"]),
        ("control", &["cluster", "serve", "simulate", "cli"]),
        ("serve", &["cluster", "simulate", "cli"]),
        ("cluster", &["simulate", "cli"]),
    ];
    for (room, forbidden) in later {
        for file in sources(&root().join("src").join(room)) {
            let text = fs::read_to_string(&file).unwrap();
            for other in forbidden {
                let uses =
                    text.lines().any(|l| !l.trim_start().starts_with("//") && l.contains(&format!("crate::{other}")));
                assert!(!uses, "{} uses crate::{other}", file.display());
            }
        }
    }
}

#[test]
fn files_stay_readable() {
    for folder in ["src", "tests"] {
        for file in sources(&root().join(folder)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= MOST_LINES, "{} has {lines} lines, at most {MOST_LINES}", file.display());
        }
    }
}

/// A table that names a test which is not there proves nothing.
#[test]
fn every_test_named_in_the_conformance_table_exists() {
    let table = fs::read_to_string(root().join("docs/CONFORMANCE.md")).unwrap();
    let rows: Vec<&str> = table.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| #")).collect();
    let numbers: Vec<usize> = rows.iter().map(|r| r.split('|').nth(1).unwrap().trim().parse().unwrap()).collect();
    assert_eq!(numbers, (1..=130).collect::<Vec<_>>());
    for row in rows {
        let proof = row.split('|').nth(3).unwrap();
        let note = row.split('|').nth(4).unwrap();
        assert!(proof.trim() != "–" || !note.trim().is_empty(), "neither proof nor reason: {row}");
        let mut place = "tests/it".to_owned();
        for name in proof.split('`').skip(1).step_by(2) {
            match name.split_once("::") {
                Some((file, test)) => {
                    let text = fs::read_to_string(root().join(&place).join(format!("{file}.rs"))).expect(name);
                    let there = test == "*" || text.contains(&format!("fn {test}("));
                    assert!(there, "{place}/{file}.rs has no test {test}");
                    place = "tests/it".to_owned();
                }
                None if name.starts_with("make ") => {}
                None if root().join(name).exists() => place = name.to_owned(),
                None => {
                    let text = fs::read_to_string(root().join(&place)).expect(name);
                    assert!(text.contains(&format!("fn {name}(")), "{place} has no test {name}");
                    place = "tests/it".to_owned();
                }
            }
        }
    }
}
