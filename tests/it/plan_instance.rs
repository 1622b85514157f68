//! Planning problems in files: published instances and their optima, and what is refused.

use std::path::Path;

use poolwright::plan::instance::{Instance, Recipe, drifted, generate, read, read_plan};
use poolwright::plan::{Effort, LimitKind, Objective, solve, verify};
use poolwright::plan::{priced, solve_from};
use serde_json::{Value, json};

fn fixture(name: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/instances").join(name);
    let mut paths = vec![path.clone()];
    if path.is_dir() {
        paths = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
    }
    let name = |p: &Path| p.file_name().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|p| (name(p), std::fs::read_to_string(p).unwrap())).collect()
}

fn inferno() -> Instance {
    read(&fixture("inferno-small")).unwrap()
}

/// The file's JSON, changed.
fn changed(file: &str, change: impl Fn(&mut Value)) -> Vec<(String, String)> {
    let folder = if file == "melange.json" { file } else { "inferno-small" };
    let mut files = fixture(folder);
    let (_, text) = files.iter_mut().find(|(name, _)| name == file).unwrap();
    let mut value: Value = serde_json::from_str(text).unwrap();
    change(&mut value);
    *text = value.to_string();
    files
}

fn refusal(file: &str, change: impl Fn(&mut Value)) -> String {
    let text = read(&changed(file, change)).unwrap_err().to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn melanges_sample_costs_4_68() {
    let instance = read(&fixture("melange.json")).unwrap();
    let found = solve(&instance.problem, &Effort::default());
    assert!((found.objective - 4.68).abs() < 1e-6, "{found:?}");
    assert!(found.gap < 1e-5);
    // Both machines are full to the last request: a knife edge.
    assert_eq!(found.plan.replicas, [1, 1]);
    verify(&instance.problem, &found.plan).unwrap();
}

#[test]
fn small_fleets_cost_what_two_other_solvers_proved() {
    for (file, wanted) in [("fleet-8.json", 49.9162), ("fleet-24.json", 313.2681)] {
        let instance = read(&fixture(file)).unwrap();
        let found = solve(&instance.problem, &Effort::default());
        assert!((found.objective - wanted).abs() < 1e-4 && found.gap < 1e-5, "{file}: {}", found.objective);
        verify(&instance.problem, &found.plan).unwrap();
    }
}

/// Published solution of the small instance: replicas, cost, mean ITL and TTFT in milliseconds.
#[test]
fn candidates_of_inferno_are_the_published_ones() {
    let published = [
        ("Premium-granite_13b", "G2", 38, 2, 46.0, 29.4089, 62.262),
        ("Premium-granite_34b", "G2", 14, 7, 322.0, 54.9781, 956.394),
        ("Premium-llama_13b", "G2", 38, 3, 69.0, 41.9733, 94.390),
        ("Premium-llama_70b", "G2", 6, 43, 3956.0, 67.3870, 930.179),
        ("Premium-mixtral_8_7b", "G2", 9, 27, 1242.0, 76.2109, 915.873),
        ("Bronze-granite_13b", "G2", 38, 3, 69.0, 36.4197, 425.167),
        ("Bronze-granite_34b", "G2", 14, 13, 598.0, 56.0396, 1823.308),
        ("Bronze-llama_13b", "G2", 38, 5, 115.0, 53.8305, 618.983),
        ("Bronze-llama_70b", "4xA100", 5, 48, 7680.0, 41.2759, 1866.156),
        ("Bronze-mixtral_8_7b", "G2", 9, 49, 2254.0, 81.4040, 1858.546),
        ("Free-granite_13b", "G2", 38, 6, 138.0, 36.4197, 425.167),
        ("Free-granite_34b", "G2", 14, 24, 1104.0, 57.2814, 3826.373),
        ("Free-llama_13b", "G2", 38, 10, 230.0, 53.8305, 618.983),
        ("Free-llama_70b", "4xA100", 5, 83, 13280.0, 43.8479, 3889.663),
        ("Free-mixtral_8_7b", "4xA100", 8, 54, 8640.0, 51.6318, 3856.783),
        ("Premium-llama_70b", "4xA100", 5, 28, 4480.0, f64::NAN, f64::NAN),
        ("Premium-llama_70b", "A100", 5, 65, 10400.0, f64::NAN, f64::NAN),
    ];
    let servers = inferno().servers.unwrap();
    for (name, accelerator, batch, replicas, cost, itl, ttft) in published {
        let server = servers.servers.iter().find(|s| s.name == name).unwrap();
        let on = |a: usize| servers.accelerators[a].name == accelerator;
        let found = server.candidates.iter().find(|c| on(c.accelerator)).unwrap();
        assert_eq!((found.batch, found.replicas), (batch, replicas), "{name} on {accelerator}");
        assert!((servers.price(found) * f64::from(found.replicas) - cost).abs() < 1e-9, "{name}");
        if itl.is_finite() {
            let close = |got: Option<f64>, wanted: f64| (got.unwrap() * 1e3 / wanted - 1.0).abs() < 1e-4;
            assert!(close(found.itl_seconds, itl) && close(found.ttft_seconds, ttft), "{name}: {found:?}");
        }
    }
}

#[test]
fn infernos_small_instance_mixed_and_single() {
    let mixed = inferno();
    let single = mixed.single().unwrap();
    for (instance, wanted) in [(&mixed, 35_386.5), (&single, 35_767.0)] {
        let found = solve(&instance.problem, &Effort { units: 20_000_000, stop: None, ..Effort::default() });
        assert!((found.objective - wanted).abs() < 0.5, "{} against {wanted}", found.objective);
        assert!(found.gap < 1e-4, "{}", found.gap);
        verify(&instance.problem, &found.plan).unwrap();
        // The start is counted as the file counts it.
        let of_file = instance.replicas(&found.plan.replicas);
        assert_eq!(instance.start(&of_file), found.plan.replicas);
    }
}

#[test]
fn infernos_small_instance_without_capacity() {
    let files = changed("capacity-data.json", |file| {
        for item in file["count"].as_array_mut().unwrap() {
            item["count"] = json!(100_000);
        }
    });
    let mixed = read(&files).unwrap();
    for (instance, wanted) in [(mixed.single().unwrap(), 33_327.0), (mixed, 33_230.5)] {
        let found = solve(&instance.problem, &Effort { units: 20_000_000, stop: None, ..Effort::default() });
        assert!((found.objective - wanted).abs() < 0.5, "{} against {wanted}", found.objective);
    }
}

#[test]
fn a_server_without_any_accelerator_is_an_error_and_no_empty_plan() {
    let text = refusal("model-data.json", |file| {
        for model in file["models"].as_array_mut().unwrap() {
            if model["name"] == "granite_13b" {
                model["perfParms"] = json!({"alpha": 0, "beta": 0, "gamma": 0});
            }
        }
    });
    assert!(text.contains("Premium-granite_13b"), "{text}");
}

#[test]
fn targets_out_of_reach_are_named() {
    let text = refusal("serviceclass-data.json", |file| {
        file["serviceClasses"][0]["modelTargets"][0]["slo-itl"] = json!(1);
    });
    assert!(text.contains("Premium-llama_13b") && text.contains("targets of Premium for llama_13b"), "{text}");
}

#[test]
fn wrong_files_are_refused_with_field_value_and_what_would_be_right() {
    let melange = |change: fn(&mut Value)| refusal("melange.json", change);
    let cases = [
        (
            melange(|f| f["format"] = json!("hetero-alloc/2")),
            r#"format: found "hetero-alloc/2"; wanted: "hetero-alloc/1""#,
        ),
        (melange(|f| f["variants"][1]["cost"] = json!("3.67")), r#"variants[1].cost: found "3.67"; wanted: a number"#),
        (melange(|f| f["variants"][0]["gpus"] = json!(0)), "variants[0].gpus: found 0; wanted: 1 or more"),
        (melange(|f| f["variants"][0]["max"] = json!(1.5)), "variants[0].max: found 1.5; wanted: a whole number"),
        (melange(|f| f["cells"][2]["t"][1] = json!(0)), "cells[2].t[1]: found 0; wanted: a number above 0"),
        (melange(|f| f["cells"][2]["t"] = json!([1])), "cells[2].t: found [1]; wanted: one rate for each of the 2"),
        (melange(|f| f["cells"][0]["v"][0] = json!(2)), "cells[0].v[0]: found 2; wanted: the place of one of the 2"),
        (melange(|f| f["cells"][0]["v"][1] = json!(0)), "cells[0].v[1]: found 0; wanted: each variant once"),
        (melange(|f| f["cells"][0]["rate"] = json!(-1)), "cells[0].rate: found -1; wanted: a number from 0"),
        (melange(|f| f["cells"][0]["rats"] = json!(1)), "cells[0].rats: found 1; wanted: no such field"),
        (melange(|f| f["models"] = Value::Null), "models: found null; wanted: a list"),
        (melange(|f| *f = json!({"pods": 3})), "the file: found {\"pods\":3}; wanted: \"format\": \"hetero-alloc/1\""),
    ];
    for (text, wanted) in cases {
        assert!(text.starts_with(&format!("melange.json: {wanted}")), "{text}\n{wanted}");
    }
    let text = refusal("server-data.json", |f| f["servers"][3]["model"] = json!("gpt"));
    assert!(text.starts_with("server-data.json: servers[3].model: found \"gpt\"; wanted: the name of one"), "{text}");
    let text = read(&[("a.json".into(), "{\"format\": \n".into())]).unwrap_err().to_string();
    assert_eq!(text, "a.json: line 2, column 0: found no JSON (EOF while parsing a value); wanted: valid JSON");
    assert!(read(&[]).is_err());
}

#[test]
fn a_plan_to_begin_from_is_read_from_an_answer_too() {
    let read = |text: &str| read_plan("p.json", text, &[9, 2, 5]);
    assert_eq!(read(r#"{"2": 5}"#).unwrap(), [0, 0, 5]);
    assert_eq!(read(r#"{"plan": {"0": 1, "1": 2}, "objective": 3.5}"#).unwrap(), [1, 2, 0]);
    for wrong in [r#"{"3": 1}"#, r#"{"x": 1}"#, r#"{"0": -1}"#, "[1]"] {
        assert!(read(wrong).unwrap_err().to_string().starts_with("p.json: "), "{wrong}");
    }
    let more = read(r#"{"1": 3}"#).unwrap_err().to_string();
    assert_eq!(more, "p.json: 1: found 3; wanted: a whole number from 0 to 2, the most of this variant");
}

#[test]
fn the_format_keeps_floors_switching_and_penalties() {
    let files = changed("melange.json", |f| {
        f["models"][0]["min_replicas"] = json!(4);
        f["variants"][0]["y0"] = json!(2);
        f["variants"][1]["up"] = json!(0.5);
        f["variants"][0]["down"] = json!(0.25);
    });
    let problem = read(&files).unwrap().problem;
    let floor = problem.limits.iter().find(|l| l.kind == LimitKind::Floor).unwrap();
    assert_eq!((floor.most, &floor.uses[..]), (-4.0, &[(0, -1.0), (1, -1.0)][..]));
    assert_eq!(problem.objective, Objective::Weighted(vec![1000.0; 4]));
    let found = solve(&problem, &Effort::default());
    // Three A10G and an A100: one start of each, no stop.
    assert_eq!(found.plan.replicas, [3, 1]);
    assert!((found.objective - (3.0 * 1.01 + 3.67 + 0.5)).abs() < 1e-6, "{}", found.objective);
    let stopped = priced(&problem, &[0, 4]).unwrap();
    assert!((stopped.objective - (4.0 * 3.67 + 4.0 * 0.5 + 2.0 * 0.25)).abs() < 1e-6, "{}", stopped.objective);
    assert!(priced(&problem, &[1, 1]).is_none(), "below the floor");
}

#[test]
fn generated_fleets_repeat_and_read_back() {
    let recipe = Recipe { models: 3, accelerators: 4, cells: 30, most_variants: 24, load: 2.0, tight: 1.2, seed: 12 };
    let fleet = generate(&recipe);
    assert_eq!(fleet, generate(&recipe));
    assert_ne!(fleet, generate(&Recipe { seed: 13, ..recipe }));
    assert_eq!((fleet.models.len(), fleet.cells.len()), (3, 30));
    assert!(fleet.variants.len() <= 24);
    let text = serde_json::to_string(&fleet).unwrap();
    let problem = read(&[("fleet.json".into(), text)]).unwrap().problem;
    assert_eq!(problem, fleet.problem());
    // Running replicas are within the stock, so that keeping them is a plan.
    let running: Vec<u32> = problem.pools.iter().map(|p| p.running).collect();
    assert!(priced(&problem, &running).is_some());
}

#[test]
fn a_start_is_never_made_worse() {
    let recipe = Recipe { models: 2, accelerators: 3, cells: 8, most_variants: 8, load: 2.0, tight: 0.8, seed: 5 };
    let problem = generate(&recipe).problem();
    let best = solve(&problem, &Effort::default());
    let next = drifted(&problem, &best.plan.replicas, 0.1, 1);
    let kept = priced(&next, &best.plan.replicas).unwrap();
    let found = solve_from(&next, &Effort { units: 0, stop: None, ..Effort::default() }, Some(&best.plan.replicas));
    assert!(found.objective <= kept.objective + 1e-9, "{} against {}", found.objective, kept.objective);
    verify(&next, &found.plan).unwrap();
}
