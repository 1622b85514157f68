//! `poolwright simulate --report`: the files it writes, that they agree with each other, and that they repeat.

use std::collections::BTreeMap;
use std::fs;

use crate::simulate_program::Folder;

const AGAINST: [&str; 4] = ["--against", "keda-rate,static-peak,oracle", "--targets", "0.5,1"];

/// All files of a folder.
fn files(folder: &Folder, name: &str) -> BTreeMap<String, String> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
    };
    fs::read_dir(folder.0.path().join(name)).unwrap().map(read).collect()
}

#[test]
fn a_report_is_one_page_with_its_figures_and_the_same_seed_gives_the_same_bytes() {
    let folder = Folder::new();
    let written = |name: &str, more: &[&str]| {
        let (code, out, err) = folder.played(&[&AGAINST[..], &["--report", name, "-o", "json"], more].concat());
        assert_eq!((code, err.as_str()), (Some(0), ""));
        (files(&folder, name), serde_json::from_str::<serde_json::Value>(&out).unwrap())
    };
    let (first, told) = written("deep/first", &[]);
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    let pictures = ["actions.svg", "cost.svg", "latency.svg", "pools.svg", "replicas.svg"];
    assert!(["index.html", "report.json", "report.md"].iter().chain(&pictures).all(|n| names.contains(n)), "{names:?}");
    assert_eq!(first, written("second", &["--threads", "1"]).0);
    assert_ne!(first["report.json"], written("third", &["--seed", "2"]).0["report.json"]);

    let page = &first["index.html"];
    assert_eq!((page.matches("<svg").count(), page.matches("</html>").count()), (names.len() - 3, 1));
    let outside = ["src=", "href=", "<script", "@import", "url("];
    outside.iter().for_each(|part| assert!(!page.contains(part), "{part}"));
    assert!(page.contains("prefers-color-scheme: dark") && page.len() < 2_000_000);
    let markdown = &first["report.md"];
    pictures.iter().for_each(|name| assert!(markdown.contains(&format!("({name})")), "{name}"));

    let figures: serde_json::Value = serde_json::from_str(&first["report.json"]).unwrap();
    assert_eq!(figures["schema"], "poolwright.dev/simulate-report/v1");
    let (ours, run) = (&figures["ours"][0], &told["ours"][0]);
    let near = |a: &serde_json::Value, b: &serde_json::Value| {
        let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
        assert!((a - b).abs() <= 1e-5 * b.abs(), "{a} {b}");
    };
    near(&ours["cost"], &run["cost"]);
    // Twelve minutes are 1/120 of a day.
    assert_eq!(ours["actions_per_day"].as_f64().unwrap(), run["actions"].as_f64().unwrap() * 120.0);
    let sum = |list: &serde_json::Value| list.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).sum::<f64>();
    let series = &figures["series"][0];
    assert_eq!(sum(&series["actions"]["actions"]), run["actions"].as_f64().unwrap());
    let class = &run["classes"][0];
    assert!((60.0 * sum(&figures["demand"][0]) - class["arrived"].as_f64().unwrap()).abs() < 0.1);
    let late: f64 = series["late_per_minute"].as_object().unwrap().values().map(sum).sum();
    assert!((late - (class["arrived"].as_f64().unwrap() - class["met"].as_f64().unwrap())).abs() < 1e-6);
    let tries: usize = told["others"].as_array().unwrap().iter().map(|o| o["points"].as_array().unwrap().len()).sum();
    assert_eq!(figures["tries"].as_array().unwrap().len(), 1 + tries);
    // A first token of 300 and more prompt tokens takes milliseconds at least.
    let [p50, p99] = ["p50", "p99"].map(|p| ours["classes"][0]["ttft"][p].as_f64().unwrap());
    assert!(p50 > 0.003 && p99 >= p50 && p99 < 60.0, "{p50} {p99}");
}

#[test]
fn the_summary_names_the_cheapest_rule_that_serves_as_well() {
    let folder = Folder::new();
    let (code, _, err) = folder.played(&[&AGAINST[..], &["--report", "out"]].concat());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let figures: serde_json::Value = serde_json::from_str(&files(&folder, "out")["report.json"]).unwrap();
    let summary: Vec<&str> = figures["summary"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    let others = figures["others"].as_array().unwrap();
    let rivals = others.iter().filter(|o| o["knows_future"] == false && o["serves_as_well"] == true);
    let best = rivals.min_by(|a, b| a["cost"].as_f64().unwrap().total_cmp(&b["cost"].as_f64().unwrap()));
    assert_eq!(figures["best_other"], best.map_or(serde_json::Value::Null, |b| b["rule"].clone()));
    let said = match best {
        Some(best) => {
            let word = if best["cost_ratio"].as_f64().unwrap() < 1.0 { "less" } else { "more" };
            assert!(summary[1].contains(word) || summary[1].contains("about the same"), "{summary:?}");
            best["rule"].as_str().unwrap()
        }
        None => "No other rule",
    };
    assert!(summary[0].contains("this planner costs") && summary[1].contains(said), "{summary:?}");
    assert_eq!(others.iter().filter(|o| o["knows_future"] == true).count(), 1);
    // Without others there is nothing to compare, and still a report.
    let (code, _, err) = folder.played(&["--against", "none", "--report", "alone"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let page = &files(&folder, "alone")["index.html"];
    assert!(!page.contains("No other rule") && !page.contains("cheapest other rule"));
    folder.write("taken", "");
    let (code, _, err) = folder.played(&["--against", "none", "--report", "taken"]);
    assert!(code == Some(1) && err.contains("--report taken"), "{err}");
}
