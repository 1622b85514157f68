//! The verb `explain` as a program.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use poolwright::control::{Journal, JournalLimits, State, decide};
use poolwright::observe::PoolObservation;
use poolwright::simulate::{Stage, StageOptions};
use serde_json::Value;

use crate::decide::{START, seen};
use crate::explain_decide::{POLICY, journaled, policy_in};

fn explain(arguments: &[&str]) -> Output {
    Command::cargo_bin("poolwright").unwrap().arg("explain").args(arguments).output().unwrap()
}

fn text(arguments: &[&str]) -> String {
    let output = explain(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&text(&[arguments, &["-o", "json"]].concat())).unwrap()
}

/// One line, and the exit code.
fn refused(arguments: &[&str], code: i32) -> String {
    let output = explain(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    assert!(output.stdout.is_empty());
    text
}

/// A folder with a policy and the journal of a fleet whose load grew.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy_in(folder.path(), POLICY);
    journaled(folder.path(), &policy, 24, 80.0);
    folder
}

fn sentences(answer: &Value, part: &str) -> Vec<String> {
    answer[part].as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect()
}

fn says(answer: &Value, part: &str, what: &str) {
    assert!(sentences(answer, part).iter().any(|s| s.contains(what)), "{part} has no `{what}`: {answer:#}");
}

#[test]
fn the_journal_alone_answers_with_what_it_holds() {
    let folder = folder();
    let journal = ["--journal", folder.path().to_str().unwrap()];
    let shown = text(&[&["llama-h100"], &journal[..]].concat());
    let parts: Vec<&str> = shown.lines().filter(|l| !l.starts_with(' ') && !l.is_empty()).collect();
    let titles = ["Why this many", "Why this hardware", "What would change it", "Not known"];
    assert!(parts[0].starts_with("pool prod/llama-h100 at 20"), "{shown}");
    assert_eq!(parts[1..], titles, "{shown}");
    assert!(
        shown.contains("Without the change: kept at 1, it would cost") && shown.contains("h100 is used up"),
        "{shown}"
    );
    assert!(shown.contains("per 1,000 requests") && shown.contains("--policy"), "{shown}");
    assert_eq!(shown, text(&[&["prod/llama-h100"], &journal[..]].concat()), "both names, the same words");
}

#[test]
fn with_the_policy_the_decision_is_made_again_and_all_is_said() {
    let folder = folder();
    let policy = folder.path().join("policy.yaml");
    let from = ["--journal", folder.path().to_str().unwrap(), "--policy", policy.to_str().unwrap()];
    let pool = json(&[&["llama-h100"], &from[..]].concat());
    assert_eq!((&pool["kind"], &pool["name"]), (&"pool".into(), &"prod/llama-h100".into()));
    says(&pool, "what_would_change_it", "One more h100 would save ");
    says(&pool, "what_would_change_it", "Relaxing interactive's TTFT by 10 % (2s → 2.2s)");
    says(&pool, "what_would_change_it", "req/s here");
    says(&pool, "why_this_many", "The plan is proven best.");
    assert!(sentences(&pool, "unknown").is_empty());
    assert_eq!(pool["pool"]["planned"], 2);

    let class = json(&[&["--class", "interactive"], &from[..]].concat());
    says(&class, "why_this_many", "TTFT 2s and ITL 80ms at p99");
    says(&class, "why_this_many", "all of it is served in time");
    says(&class, "why_this_hardware", "prod/llama-l40s is 1 l40s for 1.60 USD/h");
    assert_eq!(class["relaxations"].as_array().unwrap().len(), 2);

    let scarce = json(&[&["--accelerator", "h100"], &from[..]].concat());
    says(&scarce, "why_this_many", "prod/llama-h100, 1 h100 each");
    assert!(scarce["accelerators"][0]["gain"]["saved_cost_per_hour"].as_f64().unwrap() > 0.0, "{scarce:#}");

    std::fs::write(&policy, POLICY.replace("80ms", "70ms")).unwrap();
    let edited = json(&[&["llama-h100"], &from[..]].concat());
    says(&edited, "unknown", "the decision was made with policy");
}

#[test]
fn an_earlier_moment_is_found_by_its_time() {
    let folder = folder();
    let journal = ["llama-h100", "--journal", folder.path().to_str().unwrap(), "--at"];
    let at = |time: &str| json(&[&journal[..], &[time]].concat())["at_seconds"].as_f64().unwrap();
    assert_eq!(at("1700000031"), 1_700_000_030.0);
    assert_eq!(at("2023-11-14T22:15:00Z"), 1_700_000_090.0);
    assert_eq!(at("1e12"), 1_700_000_360.0);
    assert!(refused(&[&journal[..], &["1600000000"]].concat(), 1).contains("after the time asked for"));
    assert_eq!(explain(&[&journal[..], &["yesterday"]].concat()).status.code(), Some(2));
}

/// Without what later versions added.
fn older(value: &mut Value) {
    const NEW: [&str; 16] = [
        "analysis",
        "price_per_hour",
        "level",
        "full_limits",
        "runner_up",
        "alternatives",
        "predicted",
        "weights",
        "objective",
        "bound",
        "stopped",
        "reason_units",
        "capacity",
        "effort_units",
        "stopped_at",
        "acting_stopped_at",
    ];
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !NEW.contains(&key.as_str()));
            map.values_mut().for_each(older);
        }
        Value::Array(list) => list.iter_mut().for_each(older),
        _ => {}
    }
}

#[test]
fn a_journal_of_an_older_version_is_read() {
    let folder = folder();
    let file = folder.path().join("journal.jsonl");
    let written = std::fs::read_to_string(&file).unwrap();
    let aged = written.lines().map(|line| {
        let mut entry: Value = serde_json::from_str(line).unwrap();
        if entry["kind"] == "tick" {
            older(&mut entry["decision"]);
        }
        format!("{entry}\n")
    });
    let aged: String = aged.collect();
    assert!(!aged.contains("runner_up"));
    std::fs::write(&file, aged).unwrap();
    let shown = text(&["llama-h100", "--journal", file.to_str().unwrap()]);
    assert!(shown.contains("Why this many\n  - 2 replicas") && !shown.contains("Without the change"), "{shown}");
    let policy = folder.path().join("policy.yaml");
    let again = text(&["llama-h100", "--journal", file.to_str().unwrap(), "--policy", policy.to_str().unwrap()]);
    assert!(again.contains("Without the change: kept at 1"), "made again, all is said: {again}");
}

#[test]
fn wrong_names_and_places_are_refused_with_one_line() {
    let folder = folder();
    let journal = ["--journal", folder.path().to_str().unwrap()];
    let with = |arguments: &[&str]| refused(&[arguments, &journal[..]].concat(), 2);
    assert!(with(&["llama-h10"]).contains("did you mean `llama-h100`? there are prod/llama-h100, prod/llama-l40s"));
    assert!(with(&["--class", "interactiv"]).contains("did you mean `interactive`?"));
    assert!(with(&["--accelerator", "b200"]).contains("no accelerator `b200`; there are h100, l40s"));
    assert!(refused(&["llama-h100"], 2).contains("--demo"));
    let nowhere = Path::new("/no/such/folder");
    assert!(refused(&["x", "--journal", nowhere.to_str().unwrap()], 1).contains("/no/such/folder"));
    let empty = tempfile::tempdir().unwrap();
    assert!(refused(&["x", "--journal", empty.path().to_str().unwrap()], 1).contains("--state-dir"));
    for arguments in [&[][..], &["x", "--class", "y", "--demo"], &["x", "--demo", "--journal", "y"]] {
        assert_eq!(explain(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

/// Anyone can try it: the three questions about the fleet of the demo.
#[test]
fn the_demo_answers_the_three_questions() {
    let pool = json(&["llama-70b-h100", "--demo", "--after", "4m"]);
    says(&pool, "why_this_many", "latency-focused at interactive's p99 targets (TTFT 2s, ITL 80ms)");
    says(&pool, "why_this_many", "Next best: ");
    says(&pool, "why_this_hardware", "demo/llama-70b-a100 is 4 a100 for 6.40 USD/h");
    says(&pool, "what_would_change_it", "One more h100 would ");
    says(&pool, "what_would_change_it", "Relaxing interactive's ITL by 10 %");
    let class = text(&["--class", "batch", "--demo", "--after", "2m"]);
    for part in [
        "Why this many",
        "an answer within 10m",
        "throughput-focused: batch only",
        "What would change it",
        "a longer deadline",
    ] {
        assert!(class.contains(part), "{class}");
    }
    let accelerator = text(&["--accelerator", "l40s", "--demo", "--after", "2m"]);
    assert!(accelerator.contains("of 20 l40s are asked for") && accelerator.contains("One more l40s"), "{accelerator}");
    assert!(refused(&["llama-70b", "--demo"], 2).contains("did you mean `"));
}

/// A budget that binds is named for classes and accelerators as it is for pools.
#[test]
fn a_limit_without_room_is_named_for_all_three() {
    let from = ["--demo", "--after", "10m", "--policy", "policies/budget-and-quotas.yaml"];
    let of = |subject: &[&str]| json(&[subject, &from[..]].concat());
    says(&of(&["llama-70b-spot"]), "why_this_many", "spot-spending is used up");
    for subject in [["--accelerator", "h100-spot"], ["--class", "relaxed"]] {
        let answer = of(&subject);
        says(&answer, "why_this_many", "spot-spending leaves no room for one more replica of inference/llama-70b-spot");
        says(&answer, "why_this_many", " of 12 USD/h are asked for");
    }
}

/// Of work that may wait it is told what must be served now, and what is sent because there is room.
#[test]
fn both_rates_of_work_that_may_wait_are_explained() {
    let from = ["--demo", "--after", "10m", "--policy", "policies/batch-and-interactive.yaml"];
    let answer = json(&[&["--class", "overnight"], &from[..]].concat());
    says(&answer, "why_this_many", "req/s must be served now to keep the promise; all of it is served in time.");
    says(&answer, "why_this_many", "req/s go to offline/summaries-l40s, planned at 1 replica");
    says(&answer, "why_this_many", "more than must be served now");
}

#[test]
fn of_a_pool_without_data_no_more_is_said_than_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy_in(folder.path(), POLICY);
    let observation = seen(START, vec![PoolObservation::default(); 2]);
    let (decision, _) = decide(&policy, &observation, State::default(), START);
    let mut journal = Journal::new(folder.path(), JournalLimits::default());
    journal.append(&State::default(), &observation, &decision).unwrap();
    let shown = text(&["llama-h100", "--journal", folder.path().to_str().unwrap()]);
    let many = shown.split("Why this hardware").next().unwrap().to_lowercase();
    assert_eq!(many.matches("no number is given").count(), 1, "{shown}");
    assert!(!shown.contains("proven best"), "{shown}");
}

#[test]
fn a_search_that_was_ended_early_proves_less() {
    let folder = folder();
    let file = folder.path().join("journal.jsonl");
    let written = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, written.replace(r#""stopped":false"#, r#""stopped":true"#)).unwrap();
    let shown = text(&["llama-h100", "--journal", file.to_str().unwrap()]);
    assert!(!shown.contains("is proven best") && shown.contains("The search was ended early"), "{shown}");
}

/// The same sources as `plan` has: here the pages of simulated servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_fleet_is_looked_at() {
    let policy = poolwright::policy::load(Path::new("policies/demo.yaml")).unwrap();
    let options =
        StageOptions { seed: 1, error: 0.0, length_seconds: Some(60.0), listen: "127.0.0.1:0".parse().unwrap() };
    let mut stage = Stage::new(policy, &options).await.unwrap();
    stage.step().await.unwrap();
    let url = stage.discovery_url();
    let asked = move || {
        let from = ["--policy", "policies/demo.yaml", "--scrape-sd", &url, "--window", "1s"];
        text(&[&["llama-8b-l40s"], &from[..]].concat())
    };
    let shown = tokio::task::spawn_blocking(asked).await.unwrap();
    assert!(shown.starts_with("pool demo/llama-8b-l40s at 2") && shown.contains("Why this many"), "{shown}");
}

#[test]
fn a_source_that_is_not_there_is_refused() {
    let policy = ["llama-8b-l40s", "--policy", "policies/demo.yaml"];
    assert!(refused(&policy, 2).contains("say where the metrics are"));
    let nowhere = [&policy[..], &["--prometheus", "http://127.0.0.1:1", "--source-timeout", "1s"]].concat();
    assert_eq!(explain(&nowhere).status.code(), Some(1));
}
