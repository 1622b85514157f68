//! `poolwright simulate --journal`: the daemon's own journal as traffic, and what of it is refused.

use std::fs;
use std::path::Path;

use poolwright::control::{Journal, JournalLimits, State, decide};
use poolwright::policy::Policy;
use serde_json::Value;

use crate::decide::{START, at_zero, fresh, seen};
use crate::explain_decide::{POLICY, policy_in};
use crate::simulate_program::Folder;

/// A journal of these ticks, 15 s apart, each with its offered rate.
fn write(folder: &Path, policy: &Policy, limits: JournalLimits, ticks: impl Iterator<Item = (u32, f64)>) {
    let mut journal = Journal::new(folder, limits);
    let mut state = State::default();
    for (tick, rate) in ticks {
        let at = START + 15.0 * f64::from(tick);
        let observation = seen(at, vec![fresh("prod/llama-h100", 1, rate, at), at_zero("prod/llama-l40s", at)]);
        let before = state.checkpoint();
        let (decision, next) = decide(policy, &observation, state, at);
        journal.append(&before, &observation, &decision).unwrap();
        state = next;
    }
}

/// Twelve minutes: 10 requests per second, then 30.
fn rate(tick: u32) -> (u32, f64) {
    (tick, if tick < 24 { 10.0 } else { 30.0 })
}

fn folder(ticks: impl Iterator<Item = u32>) -> Folder {
    let folder = Folder::new();
    let policy = policy_in(folder.0.path(), POLICY);
    write(&folder.0.path().join("state"), &policy, JournalLimits::default(), ticks.map(rate));
    folder
}

fn played(folder: &Folder, rest: &[&str]) -> Value {
    let usual = ["--policy", "policy.yaml", "--journal", "state", "--against", "none", "-o", "json"];
    let (code, out, err) = folder.run(&[&usual, rest].concat());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    serde_json::from_str(&out).unwrap()
}

fn refused(folder: &Folder, rest: &[&str]) -> String {
    let (code, out, err) = folder.run(&[&["--policy", "policy.yaml"], rest].concat());
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(2), "", 1), "{err}");
    err
}

fn arrived(told: &Value) -> Vec<f64> {
    told["ours"][0]["classes"].as_array().unwrap().iter().map(|c| c["arrived"].as_f64().unwrap()).collect()
}

#[test]
fn what_the_daemon_saw_comes_again() {
    let folder = folder(0..=48);
    let told = played(&folder, &[]);
    // 6 minutes of 10 and 6 of 30 requests per second are 14,400; the policy sends 80 % to the first class.
    let all = arrived(&told);
    assert!((all[0] + all[1] - 14_400.0).abs() < 500.0 && (all[0] / (all[0] + all[1]) - 0.8).abs() < 0.02, "{all:?}");
    let minutes = told["ours"][0]["minutes"].as_array().unwrap();
    let in_minute =
        |n: usize| minutes[n]["arrived"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).sum::<f64>();
    assert_eq!(minutes.len(), 12);
    assert!((in_minute(2) / 600.0 - 1.0).abs() < 0.2 && (in_minute(9) / 1800.0 - 1.0).abs() < 0.2);
    assert_eq!(told["circumstances"], serde_json::json!([]));
    assert_eq!(told, played(&folder, &[]), "the same seed, the same answer");
    // Another policy, another part, another scale, other lengths.
    let part = played(&folder, &["--from", "6m", "--to", "10m", "--scale", "0.5", "--lengths", "lengths.csv"]);
    let sum: f64 = arrived(&part).iter().sum();
    assert!((sum / 3600.0 - 1.0).abs() < 0.1, "{sum}");
    let dearer = played(&folder, &["--set", "accelerators.h100.price=6"]);
    assert!(dearer["ours"][0]["cost"].as_f64() > told["ours"][0]["cost"].as_f64());
}

#[test]
fn older_files_of_a_journal_come_first() {
    let folder = Folder::new();
    let policy = policy_in(folder.0.path(), POLICY);
    let limits = JournalLimits { file_bytes: 60_000, files: 40 };
    write(&folder.0.path().join("state"), &policy, limits, (0..=48).map(rate));
    assert!(folder.0.path().join("state/journal.2.jsonl").exists());
    let told = played(&folder, &[]);
    assert_eq!(told["ours"][0]["minutes"].as_array().unwrap().len(), 12);
}

#[test]
fn short_gaps_are_said_and_long_ones_refused_with_their_line() {
    let short = folder((0..12).chain(20..=48));
    let told = played(&short, &[]);
    let said = told["circumstances"][0].as_str().unwrap();
    assert!(said.contains("prod/llama: 1 gaps of up to 135 s are bridged"), "{said}");

    let long = folder((0..12).chain(40..=64));
    let err = refused(&long, &["--journal", "state"]);
    // A line for the state, one for each of twelve ticks, and the one after the gap.
    assert!(
        err.contains("journal.jsonl:14: no rate of prod/llama is known for 435 s") && err.contains("--from"),
        "{err}"
    );
    let after = played(&long, &["--from", "10m"]);
    assert_eq!(after["ours"][0]["minutes"].as_array().unwrap().len(), 6);
}

#[test]
fn what_is_no_journal_is_refused_with_file_and_line() {
    let folder = folder(0..=8);
    let file = folder.0.path().join("state/journal.jsonl");
    let lines = fs::read_to_string(&file).unwrap();
    let journal = |text: &str| {
        fs::write(&file, text).unwrap();
        refused(&folder, &["--journal", "state/journal.jsonl"])
    };
    let broken: Vec<&str> =
        lines.lines().enumerate().map(|(n, l)| if n == 3 { "{\"kind\":\"tick\"}" } else { l }).collect();
    let err = journal(&broken.join("\n"));
    assert!(err.contains("state/journal.jsonl:4: "), "{err}");
    let mut turned: Vec<&str> = lines.lines().collect();
    turned.swap(2, 5);
    let err = journal(&turned.join("\n"));
    assert!(err.contains("state/journal.jsonl:4: ") && err.contains("not after the one before it"), "{err}");
    assert!(journal("").contains("holds no decision yet"));
    assert!(refused(&folder, &["--journal", "nowhere"]).contains("nowhere"));
    let (code, _, err) = folder.run(&["--policy", "policy.yaml", "--journal", "state", "--trace", "rates.csv"]);
    assert!(code == Some(2) && err.contains("cannot be used with"), "{err}");
    fs::write(&file, &lines).unwrap();
    folder.write("policy.yaml", &POLICY.replace("name: llama, namespace: prod", "name: other, namespace: prod"));
    assert!(refused(&folder, &["--journal", "state"]).contains("it knows prod/llama"));
}
