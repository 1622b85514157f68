//! Values set beside the policy files: where they go, that they are judged as if they stood there, what is refused.

use std::path::Path;

use assert_cmd::Command;
use poolwright::policy::{Change, Policy, Promise, Watcher, load, load_with};

use crate::simulate_program::Folder;

const FILE: &str = "policies/heterogeneous.yaml";

fn changes(texts: &[&str]) -> Vec<Change> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn with(texts: &[&str]) -> Policy {
    load_with(Path::new(FILE), &changes(texts)).unwrap_or_else(|errors| panic!("{errors}"))
}

fn refused(text: &str) -> String {
    let said = load_with(Path::new(FILE), &changes(&[text])).unwrap_err().to_string();
    assert!(said.lines().count() == 1 && said.starts_with(&format!("--set {text}: ")), "{said}");
    said
}

#[test]
fn a_value_goes_where_its_path_leads() {
    let plain = load(Path::new(FILE)).unwrap();
    let policy = with(&[
        "accelerators.h100.price=2.1",
        "accelerators.l40s.stock=7",
        "classes.interactive.ttft=1s",
        "planner.scaleDownDwell=5m",
        "models.llama-70b.pools.llama-70b-l40s.performance.estimate.weights=bf16",
        "models.llama-8b.classes.interactive.share=0.9",
        "models.llama-70b.demand.shape.inputTokens=3000",
        "budgetPerHour=500",
        "currency=EUR",
    ]);
    let accelerator = |name: &str| policy.accelerators.iter().find(|a| a.name == name).unwrap();
    assert_eq!((accelerator("h100").price_per_hour, accelerator("l40s").stock), (2.1, 7));
    let untouched = plain.accelerators.iter().find(|a| a.name == "a100").unwrap();
    assert_eq!((accelerator("a100").price_per_hour, accelerator("a100").stock), (untouched.price_per_hour, 32));
    let class = policy.classes.iter().find(|c| c.name == "interactive").unwrap();
    assert!(matches!(class.promise, Promise::Latency { ttft_seconds: 1.0, itl_seconds: 0.06, .. }), "{class:?}");
    assert_eq!((policy.planner.scale_down_dwell_seconds, policy.currency.as_str()), (300.0, "EUR"));
    let l40s = |p: &Policy| p.pools.iter().find(|p| p.name == "llama-70b-l40s").unwrap().parameters;
    assert_ne!(l40s(&policy), l40s(&plain));
    let model = |name: &str| policy.models.iter().find(|m| m.name == name).unwrap();
    assert_eq!(model("llama-8b").classes.iter().map(|c| c.1).fold(0.0, f64::max), 0.9);
    assert_eq!(policy.limits.len(), plain.limits.len() + 1);
}

#[test]
fn what_is_set_makes_another_policy_and_nothing_set_makes_the_same() {
    let plain = load(Path::new(FILE)).unwrap();
    assert_eq!(with(&[]).fingerprint, plain.fingerprint);
    let dearer = with(&["accelerators.h100.price=9"]);
    assert_ne!(dearer.fingerprint, plain.fingerprint);
    assert_ne!(with(&["accelerators.h100.price=8"]).fingerprint, dearer.fingerprint);
    let mut watcher = Watcher::with(FILE, changes(&["accelerators.h100.price=9"]));
    assert_eq!(watcher.poll().unwrap().unwrap().fingerprint, dearer.fingerprint);
    assert!(watcher.poll().is_none());
}

#[test]
fn a_wrong_path_names_what_there_is() {
    let says = |text: &str, parts: &[&str]| {
        let said = refused(text);
        parts.iter().for_each(|part| assert!(said.contains(part), "{part} is missing in {said}"));
    };
    says("accelerators.h10.price=2", &["no `h10` in accelerators", "`h100`", "h100, a100, l40s"]);
    says("accelerators.h100.colour=2", &["no `colour` in accelerators.h100", "pricePerHour", "stock"]);
    says("accelerator=2", &["accelerators holds more than one value", "h100, a100, l40s"]);
    says("prices.h100=2", &["no `prices` in the fleet", "classes", "models.NAME"]);
    says("planner.max=2", &["`max` may be one of: maxAge, maxStepDown, maxStepUp"]);
    says("models.llama.pools.x.max=2", &["no such model", "llama-70b, llama-8b"]);
    says("models.llama-70b.pools.h100.max=2", &["no `h100` in models.llama-70b.pools", "llama-70b-h100"]);
    says("models.llama-70b=2", &["models.llama-70b holds more than one value", "pools"]);
    says("currency.name=2", &["currency is one value"]);
}

#[test]
fn a_wrong_value_is_refused_as_in_a_file_and_named_as_set() {
    assert!(refused("accelerators.h100.price=-1").contains("spec.accelerators[0].pricePerHour: -1 is too small"));
    assert!(refused("classes.interactive.ttft=fast").contains("spec.classes[0].ttft"));
    assert!(refused("models.llama-70b.pools.llama-70b-h100.accelerator=tpu").contains("tpu"));
    for text in ["accelerators.h100.price", "=2", "a..b=2", "a.b=[1, 2]", "a.b={c: 1}", "a.b="] {
        assert!(text.parse::<Change>().is_err(), "{text}");
    }
}

#[test]
fn a_replay_says_what_was_set_and_costs_what_it_would() {
    let folder = Folder::new();
    let cost = |set: &[&str]| {
        let (code, out, err) = folder.played(&[&["--against", "none", "-o", "json"], set].concat());
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let told: serde_json::Value = serde_json::from_str(&out).unwrap();
        (told["ours"][0]["cost"].as_f64().unwrap(), told["circumstances"].clone())
    };
    let (plain, told) = cost(&[]);
    assert_eq!(told, serde_json::json!([]));
    let both = ["--set", "accelerators.h100.price=6", "--set", "accelerators.l40s.price=1.6"];
    let (twice, told) = cost(&both);
    assert!((twice / plain - 2.0).abs() < 1e-9, "{plain} {twice}");
    assert_eq!(told, serde_json::json!(["set accelerators.h100.price=6", "set accelerators.l40s.price=1.6"]));
    let (code, out, _) = folder.played(&["--against", "none", "--set", "accelerators.h100.stock=3"]);
    assert!(code == Some(0) && out.contains("set accelerators.h100.stock=3"), "{out}");
    let (code, out, err) = folder.played(&["--set", "accelerators.b200.stock=3"]);
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(2), "", 1), "{err}");
}

#[test]
fn plan_and_explain_take_it_too() {
    let ran = |arguments: &[&str]| {
        let output = Command::cargo_bin("poolwright").unwrap().args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for verb in [&["plan"][..], &["explain", "llama-70b-h100"]] {
        let (code, err) = ran(&[verb, &["--policy", FILE, "--set", "accelerators.h100.prize=2"]].concat());
        assert!(
            code == Some(2) && err.contains("no `prize` in accelerators.h100") && err.contains("pricePerHour"),
            "{err}"
        );
    }
    let (code, err) = ran(&["explain", "x", "--demo", "--set", "accelerators.h100.price=2"]);
    assert!(code == Some(2) && err.contains("give --policy"), "{err}");
}
