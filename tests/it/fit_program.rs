//! `poolwright fit` as a program: table, profile, picture, exit codes, and the policy that reads the profile.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use poolwright::perf::Evidence;
use poolwright::policy::load;

const FOLDER: &str = "tests/fixtures/fit";

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::cargo_bin("poolwright").unwrap().arg("fit").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn own(rest: &[&str]) -> (Option<i32>, String, String) {
    let file = format!("{FOLDER}/own.csv");
    run(&[&[file.as_str()], rest].concat())
}

#[test]
fn a_table_says_parameters_errors_and_warnings() {
    let (code, out, err) = own(&[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    for part in
        ["alpha", "per KV token read", "covers", "left out", "one shape left out", "own.csv, line 3", "warning: "]
    {
        assert!(out.contains(part), "{part} is missing in\n{out}");
    }
}

#[test]
fn json_and_yaml_are_whole() {
    let (code, out, _) = own(&["-o", "json", "--kv-tokens", "50000"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(json["fit"]["points"].as_array().unwrap().len(), 10);
    assert_eq!(json["profile"]["spec"]["kvTokens"], 50_000);
    assert!(json["fit"]["parameters"]["alpha_seconds"].as_f64().unwrap() > 1e-3);
    let (code, out, _) = own(&["-o", "yaml", "--name", "mine"]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("---\napiVersion: poolwright.dev/v1alpha1\nkind: Profile\n"), "{out}");
    assert!(out.contains("name: mine") && out.contains("points: 10"), "{out}");
}

const POLICY: &str = "
apiVersion: poolwright.dev/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  accelerators: [{name: H100, pricePerHour: 3, stock: 8}]
  classes: [{name: fast, percentile: 95, ttft: 2s, itl: 100ms}]
---
apiVersion: poolwright.dev/v1alpha1
kind: ServedModel
metadata: {name: m}
spec:
  model: made-up
  classes: [{name: fast}]
  pools: [{name: p, accelerator: H100, performance: {profile: p.yaml}}]
";

/// What `fit` writes the policy reads, with all four parameters, the spread and the limits of the server.
#[test]
fn the_policy_reads_the_profile() {
    let folder = tempfile::tempdir().unwrap();
    let (profile, policy) = (folder.path().join("p.yaml"), folder.path().join("policy.yaml"));
    let target = profile.to_str().unwrap();
    let (code, out, err) = own(&["-o", target, "--kv-tokens", "400000", "--max-num-seqs", "64"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains(&format!("profile written to {target}")), "{out}");
    fs::write(&policy, POLICY).unwrap();
    let pool = load(&policy).unwrap_or_else(|e| panic!("{e}")).pools.remove(0);
    let (_, json, _) = own(&["-o", "json", "--kv-tokens", "400000", "--max-num-seqs", "64"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let wanted = &json["fit"]["parameters"];
    for (got, key) in [
        (pool.parameters.alpha_seconds, "alpha_seconds"),
        (pool.parameters.beta_seconds_per_token, "beta_seconds_per_token"),
        (pool.parameters.decode_seconds_per_token, "decode_seconds_per_token"),
        (pool.parameters.gamma_seconds_per_token, "gamma_seconds_per_token"),
    ] {
        assert!((got / wanted[key].as_f64().unwrap() - 1.0).abs() < 1e-3, "{key}: {got}");
    }
    assert_eq!((pool.evidence, pool.kv_tokens, pool.limits.max_num_seqs), (Evidence::Curve, 400_000.0, 64));
    assert!(
        pool.margin > 0.02 && pool.margin < 0.5 && pool.margin != Evidence::Curve.safety_margin(),
        "{}",
        pool.margin
    );
}

#[test]
fn a_picture_is_the_same_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let draw = |name: &str| {
        let file = folder.path().join(name);
        let (code, _, err) = own(&["--plot", file.to_str().unwrap(), "--kv-tokens", "3000"]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        fs::read_to_string(file).unwrap()
    };
    let first = draw("a.svg");
    assert_eq!(first, draw("b.svg"));
    for part in
        ["time to first token", "time between tokens", "256 in, 64 out", "KV memory full", "requests per second"]
    {
        assert!(first.contains(part), "{part} is missing");
    }
}

#[test]
fn parameters_of_somebody_else_become_a_profile() {
    let file = format!("{FOLDER}/inferno.json");
    let (code, out, _) = run(&[&file, "--where", "acc=H100", "-o", "yaml"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("alpha: 9.1ms") && out.contains("beta: 40us") && out.contains("gamma: 900ns"), "{out}");
    assert!(out.contains("maxNumSeqs: 64"), "{out}");
}

#[test]
fn exit_codes_tell_bad_input_from_points_that_say_too_little() {
    let one_line = |err: &str| assert_eq!(err.trim_end().lines().count(), 1, "{err}");
    let (code, _, err) = run(&[&format!("{FOLDER}/bad/vllm.json")]);
    assert_eq!(code, Some(2));
    one_line(&err);
    assert!(err.contains("bad/vllm.json, mean_tpot_ms: \"fast\" is no number above zero"), "{err}");
    let (code, _, err) = run(&["/nowhere/points.csv"]);
    assert_eq!(code, Some(2));
    one_line(&err);
    assert_eq!(own(&["--where", "concurrency"]).0, Some(2));
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("fit.svg");
    let (code, _, err) = own(&["--plot", picture.to_str().unwrap(), "-o", "/nowhere/profile.yaml"]);
    assert_eq!((code, picture.exists()), (Some(2), false), "nothing is half written");
    one_line(&err);
    assert_eq!(own(&["--name", ""]).0, Some(2));
    assert_eq!(own(&["--model", "llama-3.1-8b"]).0, Some(2));
    assert_eq!(own(&["--model", "llama-3.1-8b", "--accelerator", "H1"]).0, Some(2));
    let mixed = format!("{FOLDER}/inferno.json");
    assert_eq!(own(&[&mixed, "--where", "acc=H100"]).0, Some(2));

    let folder = tempfile::tempdir().unwrap();
    let few = folder.path().join("few.csv");
    fs::write(&few, "concurrency,input_tokens,output_tokens,ttft_ms,itl_ms\n4,512,128,80,12\n4,512,128,80,12\n")
        .unwrap();
    let (code, _, err) = run(&[few.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    one_line(&err);
    assert!(err.contains("cannot tell the parameters apart"), "{err}");
    let anchored = run(&[few.to_str().unwrap(), "--model", "llama-3.1-8b", "--accelerator", "H100"]);
    assert_eq!(anchored.0, Some(0), "{}", anchored.2);
    assert!(
        anchored.1.contains("the estimate is kept") || anchored.1.contains("the estimate fills in"),
        "{}",
        anchored.1
    );
}

#[test]
fn one_server_is_picked_out_of_a_table_of_many() {
    let bad = format!("{FOLDER}/bad/aiconfigurator.csv");
    assert!(Path::new(&bad).exists());
    let (code, _, err) = run(&[&bad]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--where system=h100_sxm"), "{err}");
    let (code, out, _) = run(&[&bad, "--where", "system=h100_sxm"]);
    assert_eq!(code, Some(0), "{out}");
}
