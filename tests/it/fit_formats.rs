//! Benchmark files of every tool: what is read, and with which line a broken one is refused.

use std::fs;
use std::path::Path;

use poolwright::perf::fit::read::{Measurements, read};
use poolwright::perf::fit::{Load, Options, fit};

const FOLDER: &str = "tests/fixtures/fit";
const UPDATE: &str = "POOLWRIGHT_UPDATE_EXPECTED";

fn of(name: &str) -> Measurements {
    let text = fs::read_to_string(format!("{FOLDER}/{name}")).unwrap();
    read(name, &text, &[]).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_format_is_known_by_its_content() {
    for (name, format, points) in [
        ("own.csv", "poolwright CSV", 10),
        ("aiconfigurator.csv", "aiconfigurator CSV", 9),
        ("vllm.jsonl", "vllm bench serve", 9),
        ("guidellm.json", "guidellm", 10),
        ("dynamo.json", "Dynamo profiler", 16),
        ("aibrix.json", "AIBrix profile", 8),
    ] {
        let found = of(name);
        assert_eq!((found.format, found.points.len()), (format, points), "{name}");
        assert!(found.points.iter().all(|p| p.fault().is_none() && p.origin.file == name), "{name}");
    }
}

/// Four tools saw the same server: the same times come out of their files.
#[test]
fn the_same_numbers_come_out_of_four_formats() {
    let own = of("own.csv").points;
    for name in ["aiconfigurator.csv", "vllm.jsonl", "guidellm.json"] {
        for (point, wanted) in of(name).points.iter().zip(&own) {
            assert_eq!((point.load, point.shape), (wanted.load, wanted.shape), "{name} {}", point.origin);
            let close = |a: Option<f64>, b: Option<f64>| (a.unwrap() / b.unwrap() - 1.0).abs() < 1e-3;
            assert!(close(point.ttft.map(|l| l.mean_seconds), wanted.ttft.map(|l| l.mean_seconds)), "{name}");
            assert!(close(point.itl.map(|l| l.mean_seconds), wanted.itl.map(|l| l.mean_seconds)), "{name}");
        }
    }
    assert_eq!(own[9].load, Load::Open { rate: 2.0, burstiness: 1.0 });
    assert_eq!(own[0].ttft.unwrap().p95_seconds, Some(0.05421));
    assert_eq!(own[0].origin.to_string(), "own.csv, line 3");
}

#[test]
fn what_only_one_tool_says_is_kept() {
    let vllm = of("vllm.jsonl");
    assert_eq!((vllm.model.as_deref(), vllm.engine.as_deref()), (Some("made-up"), Some("vllm")));
    assert_eq!(vllm.points[1].origin.to_string(), "vllm.jsonl, document 2");
    let ai = of("aiconfigurator.csv");
    assert_eq!(ai.accelerator.as_deref(), Some("h100_sxm"));
    assert!(ai.notes[0].contains("1 rows of separate prefill and decode servers"), "{:?}", ai.notes);
    let guidellm = of("guidellm.json");
    assert_eq!(guidellm.points[9].load, Load::Open { rate: 2.0, burstiness: 1.0 });
    assert!(guidellm.notes[0].contains("throughput without a concurrency"), "{:?}", guidellm.notes);
    let dynamo = of("dynamo.json");
    assert_eq!((dynamo.kv_tokens, dynamo.notes.len()), (Some(400_000.0), 0));
    assert!(matches!(dynamo.points[6].load, Load::Decode { batch } if (batch - 8.0).abs() < 0.01));
    let aibrix = of("aibrix.json");
    assert!(aibrix.points[0].target.as_deref().unwrap().contains("\"e2e\":20.0"));
    assert!(aibrix.notes[0].contains("1 cells without a rate"), "{:?}", aibrix.notes);
}

/// Prompts on an empty engine and decoding without prompts say everything: Dynamo's sweeps give the server back.
#[test]
fn separate_sweeps_of_prefill_and_decode_give_the_parameters() {
    let found = of("dynamo.json");
    let fitted = fit(&found.points, &Options { kv_tokens: found.kv_tokens, ..Options::default() }).unwrap();
    let p = fitted.parameters;
    for (got, wanted) in [
        (p.alpha_seconds, 8e-3),
        (p.beta_seconds_per_token, 120e-6),
        (p.decode_seconds_per_token, 40e-6),
        (p.gamma_seconds_per_token, 90e-9),
    ] {
        assert!((got / wanted - 1.0).abs() < 0.05, "{p:?}");
    }
}

#[test]
fn parameters_that_exist_already_are_picked_by_name() {
    let text = fs::read_to_string(format!("{FOLDER}/inferno.json")).unwrap();
    let pick = |conditions: &[(&str, &str)]| {
        let conditions: Vec<_> = conditions.iter().map(|(c, v)| ((*c).to_owned(), (*v).to_owned())).collect();
        read("inferno.json", &text, &conditions)
    };
    let (parameters, batch) = pick(&[("acc", "H100")]).unwrap().parameters.unwrap();
    assert!((parameters.alpha_seconds - 9.1e-3).abs() < 1e-12 && batch == Some(64));
    let error = pick(&[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "inferno.json, models: 2 of 2 entries are meant (llama_13b on A100, llama_13b on H100, …); pick one with \
         `--where name=MODEL --where acc=ACCELERATOR`"
    );
}

/// One line each, with file, place, value and what would be right.
#[test]
fn broken_files_are_refused_with_one_line() {
    let mut said = String::new();
    let mut files: Vec<_> =
        fs::read_dir(format!("{FOLDER}/bad")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    for name in files.iter().filter(|n| !n.ends_with(".txt")) {
        let text = fs::read_to_string(format!("{FOLDER}/bad/{name}")).unwrap();
        let acc = [("acc".to_owned(), "H100".to_owned())];
        let error = read(name, &text, if name == "inferno.json" { &acc } else { &[] }).unwrap_err().to_string();
        assert!(error.starts_with(name.as_str()) && !error.contains('\n'), "{error}");
        said += &format!("{error}\n");
    }
    let expected = Path::new(FOLDER).join("bad/refused.txt");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&expected, &said).unwrap();
    }
    assert_eq!(said, fs::read_to_string(expected).unwrap_or_default());
}

#[test]
fn no_text_makes_the_reader_panic() {
    let good: Vec<String> = ["own.csv", "vllm.jsonl", "guidellm.json", "dynamo.json", "aibrix.json", "inferno.json"]
        .iter()
        .map(|n| fs::read_to_string(format!("{FOLDER}/{n}")).unwrap())
        .collect();
    for text in good {
        let step = (text.len() / 60).max(1);
        for cut in (0..text.len()).step_by(step) {
            let _ = read("f", &text[..cut], &[]);
            let mut broken = text.clone().into_bytes();
            broken[cut] = b'-';
            let _ = read("f", &String::from_utf8_lossy(&broken), &[]);
        }
    }
}
