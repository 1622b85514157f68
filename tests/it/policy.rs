use std::fs;
use std::path::{Path, PathBuf};

use poolwright::perf::{Evidence, Limits};
use poolwright::policy::{Mode, Policy, Promise, Watcher, check_report, from_text, json_schema, load};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Set to rewrite expected files instead of comparing with them.
const UPDATE: &str = "POOLWRIGHT_UPDATE_EXPECTED";

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} holds no policy");
    files
}

fn compare(expected: &Path, found: &str) {
    if std::env::var_os(UPDATE).is_some() {
        fs::write(expected, found).unwrap();
    }
    let wanted = fs::read_to_string(expected).unwrap_or_default();
    assert_eq!(found, wanted, "{} differs; set {UPDATE}=1 to accept", expected.display());
}

#[test]
fn every_example_is_valid() {
    for file in yaml_files("policies") {
        let policy = load(&file).unwrap_or_else(|errors| panic!("{errors}"));
        assert_consistent(&policy);
        assert!(policy.pools.iter().all(|p| p.mode != Mode::Off && p.max > 0), "{}", file.display());
        assert!(check_report(&policy).lines().count() > policy.pools.len(), "{}", file.display());
    }
    let lines = fs::read_to_string("policies/quickstart.yaml").unwrap().lines().count();
    assert!(lines <= 30, "the quickstart has {lines} lines");
}

/// Lists are sorted and indices lead where they should.
fn assert_consistent(policy: &Policy) {
    let ids: Vec<(&str, &str)> = policy.pools.iter().map(|p| (p.namespace.as_str(), p.name.as_str())).collect();
    assert!(ids.is_sorted() && policy.models.is_sorted_by_key(|m| (&m.namespace, &m.name)));
    assert!(policy.classes.is_sorted_by_key(|c| (-c.priority, &c.name)));
    for (m, model) in policy.models.iter().enumerate() {
        assert!((model.classes.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(model.classes.iter().all(|(class, _)| *class < policy.classes.len()));
        assert!(!model.pools.is_empty() && model.pools.iter().all(|p| policy.pools[*p].model == m));
    }
    for pool in &policy.pools {
        assert!(policy.models[pool.model].pools.iter().any(|p| policy.pools[*p].name == pool.name));
        assert!(pool.accelerator < policy.accelerators.len() && pool.min <= pool.max);
        assert!(pool.parameters.is_usable() && pool.kv_tokens > 0.0);
        assert_eq!(pool.selector.namespace, pool.namespace);
    }
}

#[test]
fn broken_policies_are_refused_with_every_line() {
    for file in yaml_files("tests/fixtures/policies/fail") {
        let errors = load(&file).err().unwrap_or_else(|| panic!("{} must be refused", file.display()));
        for problem in errors.problems() {
            assert!(!problem.to_string().contains('\n'), "{problem}");
        }
        compare(&file.with_extension("txt"), &format!("{errors}\n"));
    }
}

#[test]
fn the_printed_schema_is_the_shipped_one() {
    compare(Path::new("policies/schema.json"), &format!("{:#}\n", json_schema()));
}

const FLEET: &str = "
apiVersion: poolwright.dev/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  accelerators:
    - {name: spot, type: H100, pricePerHour: 2, stock: 5, memoryGB: 94}
    - {name: own, pricePerHour: 1, stock: 0, memoryGB: 64, bandwidthGBps: 1000, bf16TFLOPS: 200, linkGBps: 50}
  classes:
    - {name: low, priority: -5, deadline: 1h}
    - {name: b, percentile: 99.9, itl: 50ms}
    - {name: a, percentile: 95, ttft: 1s}
";

const MODEL: &str = "
apiVersion: poolwright.dev/v1alpha1
kind: ServedModel
metadata: {name: m, namespace: ns}
spec:
  model: Qwen/Qwen2.5-7B-Instruct
  classes: [{name: low, share: 0.5}, {name: a}, {name: b}]
  pools:
    - {name: z, accelerator: spot, acceleratorsPerReplica: 2, max: 9, target: {kind: StatefulSet, name: other}}
    - {name: d.x, accelerator: own, min: 0}
";

fn two_documents() -> String {
    format!("{FLEET}---{}", MODEL.replace("d.x", "d"))
}

#[test]
fn names_become_indices_and_defaults_are_filled_in() {
    let policy = from_text("p.yaml", &two_documents()).unwrap();
    assert_consistent(&policy);
    assert_eq!(policy.classes.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b", "low"]);
    assert_eq!(policy.models[0].classes, [(0, 0.25), (1, 0.25), (2, 0.5)]);
    let Promise::Latency { quantile, ttft_seconds, itl_seconds } = policy.classes[1].promise else { panic!() };
    assert!((quantile - 0.999).abs() < 1e-12 && ttft_seconds.is_infinite() && itl_seconds == 0.05);
    assert_eq!(policy.classes[2].promise, Promise::Deadline { seconds: 3600.0 });

    let [spot, own] = &policy.accelerators[..] else { panic!() };
    assert_eq!((spot.sheet.memory_bytes, spot.sheet.bf16_flops), (94e9, 989e12));
    assert_eq!((own.sheet.fp8_flops, own.sheet.name.as_ref()), (200e12, "own"));

    let [d, z] = &policy.pools[..] else { panic!() };
    assert_eq!((d.id().as_str(), z.id().as_str()), ("ns/d", "ns/z"));
    assert_eq!((d.max, z.max), (0, 2), "the stock bounds what the operator allows");
    assert_eq!((z.evidence, z.mode, z.limits), (Evidence::OutsideIn, Mode::Advise, Limits::default()));
    assert_eq!((z.startup_seconds, z.price_per_hour(&policy.accelerators)), (240.0, 4.0));
    assert_eq!((z.target.api_version.as_str(), z.target.name.as_str()), ("apps/v1", "other"));
}

#[test]
fn series_follow_from_the_scale_target() {
    let policy = from_text("p.yaml", &two_documents()).unwrap();
    let selects = |pool: usize, pod: &str| {
        let labels = [("namespace", "ns"), ("pod", pod)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        policy.pools[pool].selector.selects(&labels.into())
    };
    assert!(selects(0, "d-5f7d9c6b8-x2x4z") && !selects(0, "d-0") && !selects(0, "d-e-5f7d9c6b8-x2x4z"));
    assert!(selects(1, "other-0") && selects(1, "other-12") && !selects(1, "z-5f7d9c6b8-x2x4z"));

    let group = two_documents().replace("kind: StatefulSet", "kind: LeaderWorkerSet");
    let policy = from_text("p.yaml", &group).unwrap();
    let pod = |name: &str| [("namespace", "ns"), ("pod", name)].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    assert!(policy.pools[1].selector.selects(&pod("other-0")) && policy.pools[1].selector.selects(&pod("other-0-3")));
    assert!(!policy.pools[1].selector.selects(&pod("other-x")));
}

#[test]
fn the_fingerprint_follows_the_text_alone() {
    let text = two_documents();
    let fingerprint = |name: &str, text: &str| from_text(name, text).unwrap().fingerprint;
    assert_eq!(fingerprint("a.yaml", &text), fingerprint("b.yaml", &text));
    assert_ne!(fingerprint("a.yaml", &text), fingerprint("a.yaml", &format!("{text}\n# changed")));
    assert_eq!(fingerprint("a.yaml", &text).len(), 64);
}

#[test]
fn a_folder_is_read_as_one_policy_with_its_profiles() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("10-fleet.yaml", FLEET);
    let profiled = MODEL.replace("name: d.x,", "name: d, performance: {profile: profile.yaml},");
    write("20-model.yml", &profiled);
    write("profile.yaml", "alpha: 7ms\nbeta: 20us\ngamma: 50ns\nsource: a measurement\nkvTokens: 123456\n");
    write("README.md", "not a policy");
    write("..hidden.yaml", "neither: is this");
    let policy = load(folder.path()).unwrap_or_else(|errors| panic!("{errors}"));
    let pool = &policy.pools[0];
    assert_eq!((pool.evidence, pool.kv_tokens, pool.parameters.alpha_seconds), (Evidence::Curve, 123_456.0, 0.007));

    write("20-model.yml", &profiled.replace("accelerator: own", "accelerator: owm"));
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("20-model.yml:10: spec.pools[1].accelerator: no accelerator `owm`"), "{error}");
}

#[test]
fn json_is_a_policy_too() {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&two_documents()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (i, document) in documents.iter().enumerate() {
        fs::write(folder.path().join(format!("{i}.json")), format!("{document:#}")).unwrap();
    }
    let (yaml, json) = (from_text("p", &two_documents()).unwrap(), load(folder.path()).unwrap());
    assert_eq!(
        check_report(&yaml).lines().skip(1).collect::<Vec<_>>(),
        check_report(&json).lines().skip(1).collect::<Vec<_>>()
    );
}

#[test]
fn a_watcher_answers_when_and_only_when_contents_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    fs::write(&file, two_documents()).unwrap();
    let mut watcher = Watcher::new(&file);
    let first = watcher.poll().unwrap().unwrap();
    assert!(watcher.poll().is_none());

    // Touched and replaced by the same text: nothing changed.
    fs::write(&file, two_documents()).unwrap();
    assert!(watcher.poll().is_none());

    fs::write(&file, two_documents().replace("stock: 5", "stock: five")).unwrap();
    let error = watcher.poll().unwrap().unwrap_err().to_string();
    assert!(error.contains("policy.yaml:7: spec.accelerators[0].stock: must be a whole number"), "{error}");
    assert!(watcher.poll().is_none(), "the same mistake is told once");

    fs::remove_file(&file).unwrap();
    assert!(watcher.poll().unwrap().unwrap_err().to_string().contains("does not exist"));
    assert!(watcher.poll().is_none());

    fs::write(&file, two_documents()).unwrap();
    assert_eq!(watcher.poll().unwrap().unwrap().fingerprint, first.fingerprint);
}

#[test]
fn a_watcher_sees_a_changed_profile() {
    let folder = tempfile::tempdir().unwrap();
    let (file, profile) = (folder.path().join("policy.yaml"), folder.path().join("figures/d.yaml"));
    fs::create_dir(folder.path().join("figures")).unwrap();
    let text = two_documents().replace("name: d,", "name: d, performance: {profile: figures/d.yaml},");
    fs::write(&file, text).unwrap();
    fs::write(&profile, "{alpha: 7ms, beta: 20us, gamma: 50ns, kvTokens: 1000}").unwrap();
    let mut watcher = Watcher::new(&file);
    let first = watcher.poll().unwrap().unwrap();
    assert!(watcher.poll().is_none());
    fs::write(&profile, "{alpha: 8ms, beta: 20us, gamma: 50ns, kvTokens: 1000}").unwrap();
    let second = watcher.poll().unwrap().unwrap();
    assert_eq!(second.pools[0].parameters.alpha_seconds, 0.008);
    assert_ne!(first.fingerprint, second.fingerprint);
}

/// A ConfigMap volume: files are links through `..data`, which is swapped as a whole.
#[cfg(unix)]
#[test]
fn a_watcher_follows_the_link_swap_of_a_config_map() {
    use std::os::unix::fs::symlink;

    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, stock) in [("..v1", "stock: 5"), ("..v2", "stock: 7"), ("..v3", "stock: -7")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("policy.yaml"), two_documents().replace("stock: 5", stock)).unwrap();
    }
    symlink("..v1", at("..data")).unwrap();
    symlink("..data/policy.yaml", at("policy.yaml")).unwrap();
    let swap = |version: &str| {
        symlink(version, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };

    let mut watcher = Watcher::new(folder.path());
    assert_eq!(watcher.poll().unwrap().unwrap().accelerators[0].stock, 5);
    assert!(watcher.poll().is_none());
    swap("..v2");
    assert_eq!(watcher.poll().unwrap().unwrap().accelerators[0].stock, 7);
    swap("..v3");
    assert!(watcher.poll().unwrap().is_err());
    swap("..v2");
    assert!(watcher.poll().unwrap().is_ok());
    assert!(watcher.poll().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_loader_panic(text in "\\PC{0,200}") {
        let _ = from_text("p.yaml", &text);
    }

    #[test]
    fn no_yaml_makes_the_loader_panic(words in prop::collection::vec(token(), 0..60)) {
        let _ = from_text("p.yaml", &words.concat());
    }

    /// A valid policy in which some pieces were replaced by others is valid or refused with lines.
    #[test]
    fn no_edit_makes_the_loader_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), token()), 1..6)) {
        let text = two_documents();
        let mut pieces: Vec<&str> = text.split_inclusive([' ', ',', ':', '\n']).collect();
        for (at, word) in &edits {
            let at = at.index(pieces.len());
            pieces[at] = word;
        }
        if let Err(errors) = from_text("p.yaml", &pieces.concat()) {
            prop_assert!(!errors.problems().is_empty());
            for line in errors.to_string().lines() {
                prop_assert!(line.starts_with("p.yaml"), "{line}");
            }
        }
    }
}

fn token() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        " ",
        "\n",
        "\n  ",
        "\n    - ",
        "- ",
        ": ",
        ", ",
        "{",
        "}",
        "[",
        "]",
        "---\n",
        "&a ",
        "*a ",
        "<<: ",
        "!!int ",
        "# ",
        "| ",
        "? ",
        "\"",
        "'",
        "null",
        "~",
        "true",
        "off",
        "0",
        "-1",
        "1e309",
        ".nan",
        ".inf",
        "99999999999999999999",
        "0x10",
        "500ms",
        "1d",
        "1e300s",
        "\t",
        "\u{feff}",
        "é",
        "kind",
        "spec",
        "metadata",
        "name",
        "pools: ",
        "Fleet",
        "ServedModel",
        "performance: {profile: x}",
        "series: {matches: {pod: \"(a|b){1000}{1000}\"}}",
        "architecture: ",
        "stock: ",
    ])
}
