//! The architecture of a model in the policy: its own `config.json`, the quantisation file beside it, the
//! format that a name tells.

use std::fs;
use std::path::Path;

use poolwright::perf::NumberFormat;
use poolwright::policy::{Policy, Watcher, from_text, load};

const FLEET: &str = "apiVersion: poolwright.dev/v1alpha1\nkind: Fleet\nmetadata: {name: f}\nspec:\n  accelerators:\n\
    \x20 - {name: H200, pricePerHour: 4, stock: 64}\n  classes:\n\
    \x20 - {name: c, priority: 1, percentile: 95, ttft: 60s, itl: 5s}\n---\n";
/// Line of `spec.architecture` in the policies below.
const LINE: &str = "policy.yaml:15: spec.architecture";

fn policy(model: &str, architecture: &str, estimate: &str) -> String {
    format!(
        "{FLEET}apiVersion: poolwright.dev/v1alpha1\nkind: ServedModel\nmetadata: {{name: m}}\nspec:\n  model: {model}\n\
         {architecture}  classes: [{{name: c}}]\n\
         \x20 pools:\n  - {{name: p, accelerator: H200, acceleratorsPerReplica: 8, max: 2{estimate}}}\n"
    )
}

fn fixture(name: &str) -> String {
    fs::read_to_string(Path::new("tests/fixtures/model_configs").join(name)).unwrap()
}

fn stored(policy: &Policy) -> NumberFormat {
    policy.models[0].architecture.as_ref().unwrap().stored_format()
}

#[test]
fn a_config_file_and_the_quantisation_beside_it_are_read_and_watched() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir(folder.path().join("glm")).unwrap();
    let text = policy(
        "org/own-model",
        "  architecture: {config: glm/config.json}\n",
        ", performance: {estimate: {weights: fp8}}",
    );
    write("policy.yaml", &text);
    write("glm/config.json", &fixture("zai-org--GLM-5.json"));
    let mut watcher = Watcher::new(folder.path());
    let wide = watcher.poll().unwrap().unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(stored(&wide), NumberFormat::Bf16);
    assert_eq!(wide.models[0].architecture.as_ref().unwrap().name, "org/own-model");
    assert!(watcher.poll().is_none());

    // The quantisation file appears, and is used.
    write("glm/hf_quant_config.json", &fixture("nvidia--GLM-5-NVFP4.hf_quant_config.json"));
    let narrow = watcher.poll().unwrap().unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(stored(&narrow), NumberFormat::Nvfp4);
    assert_ne!(wide.fingerprint, narrow.fingerprint);

    write("glm/hf_quant_config.json", "{");
    let error = watcher.poll().unwrap().unwrap_err().to_string();
    assert!(error.contains(LINE), "{error}");
    assert!(error.contains("the quantisation file is no JSON"), "{error}");
}

#[test]
fn a_folder_may_hold_the_config_among_the_policies() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("policy.yaml", &policy("org/m", "  architecture: {config: kimi.json}\n", ""));
    write("kimi.json", &fixture("Qwen--Qwen3-235B-A22B-FP8.json"));
    let read = load(folder.path()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(stored(&read), NumberFormat::Fp8);
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_the_line_of_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    let error = |architecture: &str| {
        fs::write(&file, policy("org/m", &format!("  architecture: {architecture}\n"), "")).unwrap();
        load(&file).unwrap_err().to_string()
    };
    fs::write(folder.path().join("strange.json"), r#"{"model_type": "jamba"}"#).unwrap();
    fs::write(folder.path().join("fine.json"), fixture("Qwen--Qwen3-8B.json")).unwrap();
    for (architecture, line) in [
        ("{config: nowhere.json}", "nowhere.json` does not exist"),
        ("{config: ../config.json}", "`../config.json` must be a path below the folder of the policy file"),
        ("{config: strange.json}", "strange.json`: `model_type` is `\"jamba\"`: is not known"),
        ("{config: fine.json, quantisation: q.json}", "q.json` does not exist"),
        ("{config: fine.json, quantization: q.json}", "quantisation"),
        ("{config: 7}", "must be text"),
        ("{layers: 3}", "is missing"),
    ] {
        let found = error(architecture);
        assert!(found.contains(LINE) && found.contains(line), "{architecture}: {found}");
    }
}

#[test]
fn the_end_of_a_name_tells_the_format_unless_the_policy_does() {
    let tokens = |model: &str, architecture: &str, estimate: &str| {
        let read = from_text("p", &policy(model, architecture, estimate)).unwrap_or_else(|errors| panic!("{errors}"));
        read.pools[0].kv_tokens
    };
    let told = tokens("nvidia/Llama-3.3-70B-Instruct-FP8", "", "");
    assert_eq!(told, tokens("llama-70b", "", ", performance: {estimate: {weights: fp8}}"));
    assert_eq!(told, tokens("own-FP8", "  architecture: llama-3.1-70b\n", ""));
    assert!(told > tokens("llama-70b", "", ""));
    let given = ", performance: {estimate: {weights: bf16}}";
    assert_eq!(tokens("nvidia/Llama-3.3-70B-Instruct-FP8", "", given), tokens("llama-70b", "", ""));
    // A publisher's own format needs no word at all.
    assert_eq!(tokens("deepseek-ai/DeepSeek-R1", "", ""), tokens("r", "  architecture: deepseek-r1\n", ""));
}
