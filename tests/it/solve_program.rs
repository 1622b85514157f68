//! The verb `solve` as a program.

use assert_cmd::Command;
use serde_json::Value;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/instances");

fn solve(arguments: &[&str]) -> std::process::Output {
    Command::cargo_bin("poolwright").unwrap().arg("solve").args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = solve(&[arguments, &["-o", "json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_answer_can_be_checked_by_others_and_begun_from() {
    let file = format!("{FIXTURES}/melange.json");
    let answer = json(&[&file]);
    assert_eq!(answer["plan"], serde_json::json!({"0": 1, "1": 1}));
    assert!((answer["objective"].as_f64().unwrap() - 4.68).abs() < 1e-6);
    assert!(answer["bound"].as_f64().unwrap() <= answer["objective"].as_f64().unwrap());
    assert!(answer["gap"].as_f64().unwrap() < 1e-5 && answer["seconds"].as_f64().unwrap() >= 0.0);
    let plan = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(plan.path(), answer.to_string()).unwrap();
    let warm = json(&[&file, "--from-plan", plan.path().to_str().unwrap(), "--budget", "5"]);
    assert_eq!(warm["plan"], answer["plan"]);
    assert_eq!(warm["objective"], answer["objective"]);
}

#[test]
fn units_repeat_the_plan_and_the_table_names_what_runs() {
    let folder = format!("{FIXTURES}/inferno-small");
    let plan = || json(&[&folder, "--single", "--units", "1000"])["plan"].clone();
    assert_eq!(plan(), plan());
    let table = String::from_utf8(solve(&[&folder, "--single"]).stdout).unwrap();
    assert!(table.contains("Premium-llama_70b on 4xA100   28"), "{table}");
    assert!(table.contains("objective 35767.0000"), "{table}");
}

#[test]
fn wrong_use_is_one_line_and_exit_code_2() {
    let file = format!("{FIXTURES}/melange.json");
    let readme = format!("{FIXTURES}/README.md");
    for arguments in [vec![readme.as_str()], vec![&file, "--single"], vec![&file, "--from-plan", &file]] {
        let output = solve(&arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    assert_eq!(solve(&["no-such-file.json"]).status.code(), Some(1));
}
