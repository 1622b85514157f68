//! `poolwright simulate` as a program: what it compares, what it repeats, what it refuses.

use std::fs;

use assert_cmd::Command;

const POLICY: &str = "
apiVersion: poolwright.dev/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  currency: USD
  accelerators:
    - {name: h100, type: H100, pricePerHour: 3, stock: 20}
    - {name: l40s, type: L40S, pricePerHour: 0.8, stock: 20}
  classes: [{name: chat, percentile: 99, ttft: 2s, itl: 80ms}]
---
apiVersion: poolwright.dev/v1alpha1
kind: ServedModel
metadata: {name: m, namespace: n}
spec:
  model: meta-llama/Llama-3.1-8B-Instruct
  classes: [{name: chat}]
  pools: [{name: big, accelerator: h100, startupTime: 2m}, {name: small, accelerator: l40s, startupTime: 2m}]
";

/// Where a replay is run.
pub struct Folder(pub tempfile::TempDir);

impl Folder {
    /// A policy, twelve minutes of rates that double in the middle, and lengths for them.
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("policy.yaml", POLICY);
        let minutes = |n: u32| if n < 6 { 120 } else { 240 };
        let rates: String = (0..12).map(|n| format!("{n},{}\n", minutes(n))).collect();
        folder.write("rates.csv", &format!("minute,chat\n{rates}"));
        folder.write("lengths.csv", "t_s,input_tokens,output_tokens\n0,300,40\n1,900,80\n2,100,10\n");
        folder
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::cargo_bin("poolwright").unwrap();
        let output = command.current_dir(self.0.path()).arg("simulate").args(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    pub fn played(&self, rest: &[&str]) -> (Option<i32>, String, String) {
        let usual = ["--policy", "policy.yaml", "--trace", "m=rates.csv", "--lengths", "lengths.csv"];
        self.run(&[&usual, rest].concat())
    }
}

#[test]
fn every_request_is_met_or_has_a_cause_and_one_seed_gives_the_same_bytes() {
    let folder = Folder::new();
    let arguments = ["--against", "keda-rate,static-peak", "--hardware", "big", "--targets", "0.5,1", "-o", "json"];
    let (code, out, err) = folder.played(&arguments);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(folder.played(&[&arguments[..], &["--threads", "1"]].concat()).1, out, "threads change nothing");
    assert_ne!(folder.played(&[&arguments[..], &["--seed", "2"]].concat()).1, out);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let others = json["others"].as_array().unwrap();
    assert_eq!((others[0]["points"].as_array().unwrap().len(), others[1]["points"].as_array().unwrap().len()), (2, 1));
    let runs =
        json["ours"].as_array().unwrap().iter().chain(others.iter().flat_map(|o| o["points"].as_array().unwrap()));
    for run in runs {
        let class = &run["classes"][0];
        let late: u64 = class["late"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        let (arrived, met) = (class["arrived"].as_u64().unwrap(), class["met"].as_u64().unwrap());
        // 2,160 are expected: 6 minutes of 120 and 6 of 240.
        assert!((1900..2400).contains(&arrived) && arrived == met + late, "{class}");
        assert_eq!(run["minutes"].as_array().unwrap().len(), 12);
        let hours: f64 = run["accelerator_hours"].as_object().unwrap().values().map(|h| h.as_f64().unwrap()).sum();
        assert!(hours > 0.1 && run["cost"].as_f64().unwrap() > 0.0, "{run}");
    }
}

#[test]
fn the_table_names_the_cheapest_try_that_serves_as_well() {
    let folder = Folder::new();
    let (code, out, err) = folder.played(&["--against", "static-peak,keda-rate", "--targets", "0.2,0.3"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("n/m: rates.csv from 0.0 h for 0.2 h"), "{out}");
    assert!(out.contains("poolwright") && out.contains("cost, USD") && out.contains("chat "), "{out}");
    assert!(out.contains("keda-rate: the cheapest of 10 tries") && out.contains("static-peak: serves"), "{out}");
    let (code, out, _) = folder.run(&["--list"]);
    assert_eq!(code, Some(0));
    for rule in ["poolwright", "hpa-kv", "hpa-queue", "keda-rate", "kpa", "wva-v2", "inferno", "melange", "oracle"] {
        assert!(out.contains(rule), "{rule} is missing in\n{out}");
    }
}

#[test]
fn what_is_wrong_is_refused_in_one_line() {
    let folder = Folder::new();
    folder.write("gap.csv", "minute,chat\n0,5\n2,5\n");
    folder.write("negative.csv", "minute,chat\n0,5\n1,-5\n");
    folder.write("columns.csv", "when,what\n0,5\n");
    folder.write("two.csv", "minute,a,b\n0,5,6\n1,5,6\n");
    let refused = |arguments: &[&str], parts: &[&str]| {
        let (code, out, err) = folder.run(&[&["--policy", "policy.yaml"], arguments].concat());
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        parts.iter().for_each(|part| assert!(err.contains(part), "{part} is missing in {err}"));
    };
    let trace = |file: &'static str| ["--trace", file, "--lengths", "lengths.csv"];
    refused(&trace("gap.csv"), &["gap.csv:3"]);
    refused(&trace("negative.csv"), &["negative.csv:3", "-5"]);
    refused(&trace("columns.csv"), &["columns.csv:1", "when,what"]);
    refused(&trace("two.csv"), &["two.csv:1", "`a`, `b`"]);
    refused(&["--trace", "rates.csv"], &["--lengths"]);
    refused(&trace("other=rates.csv"), &["other", "no model of the policy (m)"]);
    refused(&[&trace("rates.csv")[..], &["--against", "luck"]].concat(), &["--against luck", "keda-rate"]);
    refused(&[&trace("rates.csv")[..], &["--hardware", "small=0.4"]].concat(), &["sum to 0.4, expected 1"]);
    refused(&[&trace("rates.csv")[..], &["--from", "5h"]].concat(), &["--from"]);
    refused(&[&trace("rates.csv")[..], &["--error", "1.5"]].concat(), &["--error 1.5", "share"]);
}
