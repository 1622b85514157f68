//! The verb `capacity` as a program.

use assert_cmd::Command;
use serde_json::Value;

const POLICY: &str = "\
apiVersion: poolwright.dev/v1alpha1
kind: Fleet
metadata: {name: fleet}
spec:
  accelerators:
    - {name: H100, pricePerHour: 3, stock: 8}
  classes:
    - {name: interactive, priority: 100, percentile: 95, ttft: 2s, itl: 50ms}
    - {name: batch, priority: 0, deadline: 10m}
---
apiVersion: poolwright.dev/v1alpha1
kind: ServedModel
metadata: {name: chat, namespace: web}
spec:
  model: org/chat
  architecture: llama-3.1-8b
  classes: [{name: interactive, share: 0.8}, {name: batch}]
  pools:
    - {name: chat-h100, accelerator: H100}
    - {name: chat-small, accelerator: H100, limits: {maxNumSeqs: 4}}
---
apiVersion: poolwright.dev/v1alpha1
kind: ServedModel
metadata: {name: chat, namespace: lab}
spec:
  model: org/lab
  architecture: llama-3.1-8b
  classes: [{name: interactive}]
  pools:
    - {name: chat-h100, accelerator: H100}
";

fn capacity(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("poolwright").unwrap();
    command.arg("capacity").args(arguments);
    command
}

fn rows(arguments: &[&str]) -> Vec<Value> {
    let output = capacity(arguments).args(["-o", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn rate(row: &Value) -> f64 {
    row["requestsPerSecond"].as_f64().unwrap()
}

/// One line, and the exit code of a wrong command line.
fn refused(arguments: &[&str]) -> String {
    let output = capacity(arguments).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    assert!(output.stdout.is_empty());
    text
}

fn policy_file() -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), POLICY).unwrap();
    file
}

#[test]
fn the_classes_of_the_policy_are_the_tiers() {
    let file = policy_file();
    let path = file.path().to_str().unwrap();
    let found = rows(&["--policy", path, "--pool", "chat-small", "--shape", "1024/256", "8000/64"]);
    let named: Vec<&str> = found.iter().map(|r| r["class"].as_str().unwrap()).collect();
    assert_eq!(named, ["interactive", "batch", "interactive", "batch"]);
    assert!(found.iter().all(|r| r["replica"] == "web/chat-small" && r["evidence"] == "outside-in"));
    assert!(rate(&found[0]) > 0.0 && rate(&found[0]) <= rate(&found[1]), "{found:?}");
    assert_eq!(found[0]["limit"], "max-sequences");
    assert!(found[0]["ttftSeconds"].as_f64().unwrap() <= 2.0);
    assert_eq!(found[1]["ttftTargetSeconds"], Value::Null);
    // All pools, each with the classes of its model: 2 + 2 + 1, for the usual lengths.
    assert_eq!(rows(&["--policy", path]).len(), 5 * 4);
    let given = rows(&["--policy", path, "--pool", "lab/chat-h100", "--itl", "9ms", "--percentile", "99"]);
    assert!(given.iter().all(|r| r["class"] == "given" && r["percentile"] == 99.0));
}

#[test]
fn names_are_unique_or_refused() {
    let file = policy_file();
    let path = file.path().to_str().unwrap();
    assert!(refused(&["--policy", path, "--pool", "chat-h100"]).contains("lab/chat-h100, web/chat-h100"));
    assert!(refused(&["--policy", path, "--pool", "chat-gpu"]).contains("no such pool"));
    assert_eq!(rows(&["--policy", path, "--pool", "web/chat-h100", "--shape", "100/100"]).len(), 2);
}

#[test]
fn a_model_on_an_accelerator_is_estimated() {
    let model = ["--model", "llama-3.1-8b", "--accelerator", "H100", "--shape", "1024/256", "--ttft", "1s"];
    let plain = rows(&model);
    let fp8 = rows(&[&model[..], &["--weights", "fp8", "--itl", "20ms"]].concat());
    assert!(rate(&plain[0]) > 1.0 && rate(&fp8[0]) > 1.0, "{plain:?} {fp8:?}");
    let bursts = rows(&[&model[..], &["--burstiness", "16"]].concat());
    assert!(rate(&bursts[0]) < rate(&plain[0]), "bursts cost capacity");
    let hits = rows(&[&model[..], &["--prefix-hit-ratio", "0.8"]].concat());
    assert!(rate(&hits[0]) > rate(&plain[0]), "hits in the prefix cache spare work");
    let reported = rows(&[&model[..], &["--kv-tokens", "12000"]].concat());
    assert_eq!((&reported[0]["evidence"], &reported[0]["limit"]), (&"range".into(), &"kv-memory".into()));
    assert!(rate(&reported[0]) < rate(&plain[0]));
}

#[test]
fn a_profile_is_read() {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    std::fs::write(&path, "alpha: 10ms\nbeta: 40us\ngamma: 58ns\nkvTokens: 200000\n").unwrap();
    let arguments = ["--profile", &path, "--shape", "871/567", "--ttft", "500ms", "--itl", "25ms"];
    let found = rows(&arguments);
    assert_eq!(found[0]["evidence"], "curve");
    assert!((3.0..6.0).contains(&rate(&found[0])), "{found:?}");
    let out_of_reach = rows(&["--profile", &path, "--shape", "871/567", "--itl", "5ms"]);
    assert_eq!((rate(&out_of_reach[0]), &out_of_reach[0]["limit"]), (0.0, &"infeasible".into()));
    assert!(out_of_reach[0]["itlSeconds"].as_f64().unwrap() > 0.01, "the best there is");
    let too_long = rows(&["--profile", &path, "--shape", "300000/10"]);
    assert_eq!((&too_long[0]["ttftSeconds"], rate(&too_long[0])), (&Value::Null, 0.0));
    std::fs::write(&path, "alpha: 10ms\nbeta: 40us\ngamma: 58ns\n").unwrap();
    assert!(refused(&["--profile", &path]).contains("--kv-tokens"));
    std::fs::write(&path, "alpha: ten\n").unwrap();
    assert!(refused(&["--profile", &path]).contains("line 1"));
}

#[test]
fn latencies_at_given_rates_agree_with_the_capacity() {
    let model = ["--model", "llama-3.1-8b", "--accelerator", "H100", "--shape", "1024/256"];
    let largest = &rows(&[&model[..], &["--ttft", "300ms", "--percentile", "99"]].concat())[0];
    // The capacity's reserve taken back, and a rate that nobody can work off.
    let most = rate(largest) / (1.0 - largest["error"].as_f64().unwrap());
    let rates = ["1".to_owned(), (0.99 * most).to_string(), (1.02 * most).to_string(), "1e4".to_owned()];
    let asked: Vec<&str> = rates.iter().map(String::as_str).collect();
    let found = rows(&[&model[..], &["--percentile", "99", "--rate"], &asked].concat());
    let of = |row: usize, latency: &str, what: &str| found[row][latency][what].as_f64().unwrap();
    assert!(of(1, "ttft", "atPercentileSeconds") <= 0.3, "{found:#?}");
    assert!(of(2, "ttft", "atPercentileSeconds") >= 0.3, "{found:#?}");
    for latency in ["ttft", "itl"] {
        for what in ["meanSeconds", "p50Seconds", "p95Seconds", "atPercentileSeconds"] {
            assert!(of(0, latency, what) < of(1, latency, what), "{latency} {what}: {found:#?}");
        }
        assert!(of(1, latency, "p50Seconds") < of(1, latency, "p95Seconds"));
    }
    assert!(found[1]["kvUse"].as_f64().unwrap() > found[0]["kvUse"].as_f64().unwrap());
    assert_eq!((&found[3]["ttft"], &found[3]["kvUse"]), (&Value::Null, &Value::Null), "it cannot keep up");
    assert!(found[3]["fullRequestsPerSecond"].as_f64().unwrap() > most);
    let table = capacity(&[&model[..], &["--rate", "1", "1e4"]].concat()).output().unwrap();
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("mean / p50 / p95") && text.contains("cannot keep up"), "{text}");
}

#[test]
fn the_table_says_what_binds_and_how_it_is_known() {
    let model = ["--model", "llama-3.1-8b", "--accelerator", "H100", "--shape", "1024/256", "--itl", "12ms"];
    let output = capacity(&model).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("ITL p95") && text.contains("outside-in; 11 % of the rate"), "{text}");
}

#[test]
fn a_picture_shows_every_shape_and_the_targets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("capacity.svg");
    let path = file.to_str().unwrap();
    let model = ["--model", "llama-3.1-8b", "--accelerator", "H100", "--itl", "12ms", "--plot", path];
    assert!(capacity(&model).output().unwrap().status.success());
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("ITL p95") && text.contains("TTFT p95") && text.contains("4096 in, 256 out"));
    assert!(text.contains("target") && text.contains("given"));
    let nowhere = folder.path().join("none/x.svg");
    assert!(
        refused(&["--model", "llama-3.1-8b", "--accelerator", "H100", "--plot", nowhere.to_str().unwrap()])
            .contains("--plot")
    );
}

#[test]
fn nonsense_is_refused_with_one_line() {
    let model = ["--model", "llama-3.1-8b", "--accelerator", "H100"];
    for (extra, wanted) in [
        (&["--percentile", "100"][..], "less than 100"),
        (&["--ttft", "0s"], "longer than zero"),
        (&["--max-num-seqs", "0"], "at least 1"),
        (&["--kv-tokens", "nan"], "number of tokens"),
        (&["--weights", "fp7"], "number format"),
        (&["--prefix-hit-ratio", "2"], "0 to 0.95"),
        (&["--accelerators-per-replica", "0"], "at least one accelerator"),
        (&["--accelerators-per-replica", "3"], "3-way tensor parallelism cannot divide the 32 attention heads"),
        (&["--pool", "x"], "belongs to --policy"),
    ] {
        let text = refused(&[&model[..], extra].concat());
        assert!(text.contains(wanted), "{text}");
    }
    assert!(refused(&[]).contains("say whose capacity"));
    assert!(refused(&["--policy", "policies/quickstart.yaml", "--weights", "fp8"]).contains("--weights belongs to"));
    assert!(refused(&["--model", "llama-3.1-8b"]).contains("needs --accelerator"));
    assert!(refused(&["--model", "no-such", "--accelerator", "H100"]).contains("not built in"));
    assert!(refused(&["--model", "llama-3.1-8b", "--accelerator", "X9"]).contains("no data sheet"));
    assert!(refused(&["--profile", "/no/such/file"]).contains("/no/such/file"));
}

#[test]
fn requests_longer_than_the_server_takes_are_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string("policies/quickstart.yaml").unwrap();
    let pool = "acceleratorsPerReplica: 4, min: 1}";
    assert!(text.contains(pool));
    let short = text.replace(pool, "acceleratorsPerReplica: 4, min: 1, limits: {maxModelLen: 2000}}");
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, short).unwrap();
    let pool = ["--policy", file.to_str().unwrap(), "--pool", "llama-70b-h100"];
    let of = |shape: &str| rate(&rows(&[&pool[..], &["--shape", shape]].concat())[0]);
    assert!(of("1024/256") > 0.0);
    assert_eq!(of("1800/256"), 0.0);
}
