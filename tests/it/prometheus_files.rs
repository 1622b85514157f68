//! Dashboard and alert rules as files: whole, consistent, and about metrics that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

use crate::prometheus_support::{installed, promtool};
use crate::serve_support::{Daemon, decision};

const FIXTURE: &str = "tests/fixtures/prometheus/alerts-test.yaml";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// One panel query or alert expression.
#[derive(Debug)]
pub struct Expression {
    /// File and panel or alert, for messages.
    pub place: String,
    pub text: String,
}

/// The names of poolwright's own metrics in an expression.
pub fn metrics(expression: &str) -> BTreeSet<String> {
    let names = Regex::new(r"\b(?:poolwright|wva)_[a-z_]+").unwrap();
    names.find_iter(expression).map(|m| m.as_str().to_owned()).collect()
}

pub fn alerts() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(&read("grafana/alerts.yaml")).unwrap();
    let groups = rules["groups"].as_array().unwrap();
    groups.iter().flat_map(|g| g["rules"].as_array().unwrap()).cloned().collect()
}

pub fn alert_expressions() -> Vec<Expression> {
    let expression = |alert: &Value| Expression {
        place: format!("alert {}", alert["alert"]),
        text: alert["expr"].as_str().unwrap().to_owned(),
    };
    alerts().iter().map(expression).collect()
}

fn dashboards() -> Vec<(PathBuf, Value)> {
    let files = std::fs::read_dir(root().join("grafana")).unwrap().map(|e| e.unwrap().path());
    let json = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
    json.map(|path| {
        let value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        (path, value)
    })
    .collect()
}

/// Every panel, those inside collapsed rows included.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let inner = |panel: &'_ Value| panel["panels"].as_array().map(|p| p.len()).unwrap_or(0);
    let outer = dashboard["panels"].as_array().unwrap();
    let nested = outer.iter().filter(|p| inner(p) > 0).flat_map(|p| p["panels"].as_array().unwrap());
    outer.iter().chain(nested).collect()
}

/// Every query of every dashboard, those of the variables included, with Grafana's variables filled in as
/// for "All" and a short range.
pub fn dashboard_expressions() -> Vec<Expression> {
    let label_values = Regex::new(r"^label_values\((.+),\s*(\w+)\)$").unwrap();
    let mut found = vec![];
    for (path, dashboard) in dashboards() {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut add = |place: String, text: &str| {
            let text = text.replace("$__rate_interval", "30s").replace("$namespace", ".*").replace("$pool", ".*");
            assert!(!text.contains('$'), "{place}: a variable of Grafana this test does not know: {text}");
            found.push(Expression { place, text });
        };
        for panel in panels(&dashboard) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let place = format!("{file}: panel {} query {}", panel["title"], target["refId"]);
                add(place, target["expr"].as_str().unwrap());
            }
        }
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            if variable["type"] == "query" {
                let query = variable["query"]["query"].as_str().unwrap();
                let parts = label_values.captures(query).unwrap_or_else(|| panic!("{query} is no label_values(…)"));
                add(
                    format!("{file}: variable {}", variable["name"]),
                    &format!("count by ({}) ({})", &parts[2], &parts[1]),
                );
            }
        }
    }
    found
}

/// Names of all metrics that the daemon can expose.
async fn exposed() -> BTreeSet<String> {
    let page = Daemon::new(decision()).get("/metrics").await.body;
    let samples = page.lines().filter(|l| !l.starts_with('#'));
    samples.map(|l| l.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_metric_asked_for_exists() {
    let exposed = exposed().await;
    let expressions: Vec<Expression> = alert_expressions().into_iter().chain(dashboard_expressions()).collect();
    assert!(expressions.len() > 60, "{} expressions found", expressions.len());
    for expression in expressions {
        let asked = metrics(&expression.text);
        assert!(!asked.is_empty(), "{expression:?} asks for none of poolwright's metrics");
        let unknown: Vec<&String> = asked.difference(&exposed).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?} are not exposed", expression.place);
    }
}

#[test]
fn every_alert_says_what_to_do() {
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{name} twice");
        assert!(alert["for"].is_string(), "{name} has no `for`");
        let severity = alert["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("critical" | "warning" | "info")), "{name}: severity {severity:?}");
        for part in ["summary", "description", "runbook"] {
            let text = alert["annotations"][part].as_str().unwrap_or_default();
            assert!(text.len() > 15 && text.ends_with('.') && !text.contains('\n'), "{name}: {part} is `{text}`");
        }
    }
    let tested = read(FIXTURE);
    let untested: Vec<_> = names.iter().filter(|name| !tested.contains(&format!("alertname=\"{name}\""))).collect();
    assert!(untested.is_empty(), "{untested:?} never fire in {FIXTURE}");
}

#[test]
fn dashboards_are_complete() {
    let dashboards = dashboards();
    assert!(!dashboards.is_empty());
    for (path, dashboard) in &dashboards {
        let mut ids = BTreeSet::new();
        let mut cells: BTreeMap<(u64, u64), String> = BTreeMap::new();
        let variables: Vec<&str> =
            dashboard["templating"]["list"].as_array().unwrap().iter().filter_map(|v| v["name"].as_str()).collect();
        assert_eq!(variables, ["datasource", "namespace", "pool"]);
        for panel in panels(dashboard) {
            let title = format!("{}: {}", path.display(), panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is taken");
            let grid = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(grid("x") + grid("w") <= 24, "{title} is too wide");
            for x in grid("x")..grid("x") + grid("w") {
                for y in grid("y")..grid("y") + grid("h") {
                    let other = cells.insert((x, y), title.clone());
                    assert!(other.is_none(), "{title} covers {other:?}");
                }
            }
            if panel["type"] == "row" {
                continue;
            }
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
            assert!(panel["description"].as_str().is_some_and(|d| d.len() > 15), "{title} has no description");
            let targets = panel["targets"].as_array().unwrap();
            for source in targets.iter().chain([panel]) {
                assert_eq!(source["datasource"]["uid"], "${datasource}", "{title}");
            }
        }
    }
}

#[test]
fn the_rules_load_and_fire() {
    if installed() {
        promtool(&["check", "rules", "grafana/alerts.yaml"]);
        promtool(&["test", "rules", FIXTURE]);
    }
}
