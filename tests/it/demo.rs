//! The demo: repeats, keeps the promises of its policy, and shows the daemon over real HTTP.

use std::process::{Command, Output};

use poolwright::policy::load;
use poolwright::simulate::{Fleet, FleetOptions, Scenario};
use serde_json::Value;

fn demo(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolwright"));
    command.args(["demo", "--fast", "--listen", "127.0.0.1:0"]).args(args);
    command.output().unwrap()
}

fn summary(args: &[&str]) -> Value {
    let output = demo(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn class<'a>(summary: &'a Value, name: &str) -> &'a Value {
    summary["classes"].as_array().unwrap().iter().find(|c| c["class"] == name).unwrap()
}

#[test]
fn the_shipped_demo_keeps_its_promises_and_saves_money() {
    let summary = summary(&["--seed", "7", "--for", "60s", "-o", "json"]);
    let interactive = class(&summary, "interactive");
    assert!(interactive["attainment"].as_f64().unwrap() >= 0.99, "{summary:#}");
    assert_eq!(
        interactive["arrived"].as_u64().unwrap(),
        interactive["met"].as_u64().unwrap() + interactive["missed"].as_u64().unwrap(),
        "every request counts"
    );
    assert!(class(&summary, "batch")["attainment"].as_f64().unwrap() >= 0.99, "{summary:#}");
    assert!(summary["saving"].as_f64().unwrap() >= 0.1, "{summary:#}");
}

/// The targets of the shipped policy are worth something: half the static fleet breaks them.
#[test]
fn half_the_static_fleet_misses_the_targets() {
    let policy = load(concat!(env!("CARGO_MANIFEST_DIR"), "/policies/demo.yaml").as_ref()).unwrap();
    let scenario = Scenario::new(&policy, 7).unwrap();
    let sizing = scenario.static_fleet(&policy, 3600.0).unwrap();
    let options = FleetOptions { seed: 7, ..FleetOptions::default() };
    let mut fleet = Fleet::new(&policy, scenario.workloads(&policy).unwrap(), options);
    for (pool, replicas) in sizing.replicas.iter().enumerate() {
        fleet.place_ready(pool, replicas.div_ceil(2));
    }
    fleet.advance(2400.0);
    let interactive = fleet.snapshot().classes.into_iter().find(|c| c.class == "interactive").unwrap();
    let kept = interactive.met as f64 / interactive.arrived as f64;
    assert!(kept < 0.9, "half the fleet kept {kept}");
}

#[test]
fn the_same_seed_prints_the_same_and_another_does_not() {
    let run = |seed: &str| demo(&["--seed", seed, "--for", "8s"]).stdout;
    let without_ports = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        text.lines().filter(|l| !l.contains("127.0.0.1:")).map(str::to_owned).collect::<Vec<_>>()
    };
    let first = without_ports(run("7"));
    assert!(first.iter().any(|l| l.starts_with("summary: seed 7")), "{first:?}");
    assert_eq!(first, without_ports(run("7")));
    assert_ne!(first[2..], without_ports(run("8"))[2..]);
}

#[test]
fn nonsense_is_refused_with_one_line() {
    for args in [["--speed", "0"], ["--speed", "nan"], ["--error", "2"], ["--for", "5"]] {
        let output = demo(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
}

/// The pods of a StatefulSet have other names than those of a Deployment; they are found all the same.
#[test]
fn the_load_of_a_stateful_set_is_seen() {
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/provision-for-peak.yaml");
    let summary = summary(&["--policy", policy, "--seed", "7", "--for", "60s", "-o", "json"]);
    let strict = class(&summary, "strict");
    assert!(strict["arrived"].as_u64().unwrap() > 10_000, "{summary:#}");
    assert!(strict["attainment"].as_f64().unwrap() >= 0.999, "{summary:#}");
    assert!(summary["scale_changes"].as_u64().unwrap() >= 1, "{summary:#}");
}

/// Every shipped policy plays. The first ten minutes hold the cold start of everything, so the promise
/// itself is not asked for, but the fleet must cope.
#[test]
fn every_shipped_policy_plays() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/policies")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let path = path.to_str().unwrap();
        let summary = summary(&["--policy", path, "--for", "10s", "-o", "json"]);
        for class in summary["classes"].as_array().unwrap() {
            let Some(attainment) = class["attainment"].as_f64() else { continue };
            assert!(attainment > 0.95, "{path}: {class}");
        }
    }
}
