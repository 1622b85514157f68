//! The catalogue against published figures.

use super::*;

fn billions(model: &str) -> (f64, f64) {
    let a = architecture(model).unwrap_or_else(|| panic!("{model} must be known"));
    assert!(a.is_usable(), "{model}");
    (a.total_parameters() / 1e9, a.active_parameters() / 1e9)
}

#[test]
fn parameter_counts_are_the_published_ones() {
    for (model, total, active) in [
        ("llama-3.1-8b", 8.03, 8.03),
        ("llama-3.1-70b", 70.55, 70.55),
        ("llama-3.1-405b", 405.85, 405.85),
        ("llama-3.2-1b", 1.236, 1.236),
        ("llama-3.2-3b", 3.21, 3.21),
        ("qwen2.5-7b", 7.62, 7.62),
        ("qwen2.5-14b", 14.77, 14.77),
        ("qwen2.5-32b", 32.76, 32.76),
        ("qwen2.5-72b", 72.71, 72.71),
        ("qwen3-0.6b", 0.596, 0.596),
        ("qwen3-4b", 4.02, 4.02),
        ("qwen3-8b", 8.19, 8.19),
        ("qwen3-14b", 14.77, 14.77),
        ("qwen3-32b", 32.76, 32.76),
        ("mistral-7b", 7.25, 7.25),
        ("mistral-nemo", 12.25, 12.25),
        ("mistral-small-24b", 23.57, 23.57),
        ("mistral-large", 122.6, 122.6),
        ("gemma-7b", 8.54, 8.54),
        ("gemma-2-9b", 9.24, 9.24),
        ("gemma-2-27b", 27.23, 27.23),
        ("phi-4", 14.66, 14.66),
        ("mixtral-8x7b", 46.7, 12.88),
        ("mixtral-8x22b", 140.6, 39.1),
        ("qwen3-30b-a3b", 30.53, 3.35),
        ("qwen3-235b-a22b", 235.1, 22.2),
    ] {
        let found = billions(model);
        assert!((found.0 / total - 1.0).abs() < 0.005, "{model}: {} instead of {total}", found.0);
        assert!((found.1 / active - 1.0).abs() < 0.01, "{model}: {} active instead of {active}", found.1);
    }
}

#[test]
fn served_names_find_their_architecture() {
    for (served, name) in [
        ("meta-llama/Llama-3.1-70B-Instruct", "llama-3.1-70b"),
        ("meta-llama/Meta-Llama-3.1-8B", "llama-3.1-8b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.1-70b"),
        ("neuralmagic/Meta-Llama-3.1-405B-Instruct-FP8", "llama-3.1-405b"),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "llama-3.1-70b"),
        ("Qwen/Qwen2.5-14B-Instruct-AWQ", "qwen2.5-14b"),
        ("Qwen/Qwen2.5-Coder-32B-Instruct", "qwen2.5-32b"),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "qwen3-235b-a22b"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "llama-3.1-70b"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "qwen2.5-14b"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"),
        ("mistralai/Mistral-Small-24B-Instruct-2501", "mistral-small-24b"),
        ("google/gemma-2-9b-it", "gemma-2-9b"),
        ("microsoft/phi-4", "phi-4"),
        ("llama3.1_8b", "llama-3.1-8b"),
    ] {
        assert_eq!(architecture(served).map_or(String::new(), |a| a.name.into_owned()), name, "{served}");
    }
    for unknown in
        ["", "/", "qwen-14b", "llama", "gpt-oss", "instruct", "llama-3.1-71b", "deepseek-v9", "2507", "fp8-awq"]
    {
        assert_eq!(architecture(unknown), None, "{unknown}");
    }
}

#[test]
fn every_catalogue_name_finds_itself() {
    for name in known_architectures() {
        assert_eq!(architecture(name).unwrap().name, name);
    }
}

#[test]
fn kv_bytes_per_token() {
    let small = architecture("llama-3.1-8b").unwrap();
    let large = architecture("llama-3.1-70b").unwrap();
    assert_eq!(small.kv_bytes_per_token(NumberFormat::Bf16), 131_072.0);
    assert_eq!(large.kv_bytes_per_token(NumberFormat::Bf16), 327_680.0);
    assert_eq!(large.kv_bytes_per_token(NumberFormat::Fp8), 163_840.0);
    assert_eq!(large.kv_bytes_per_token_each(NumberFormat::Bf16, 4), 81_920.0);
    assert_eq!(large.kv_bytes_per_token_each(NumberFormat::Bf16, 16), 40_960.0);
}

#[test]
fn names_tell_how_a_checkpoint_is_stored() {
    for (name, format) in [
        ("Qwen/Qwen3-235B-A22B-FP8", Some(NumberFormat::Fp8)),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", Some(NumberFormat::Fp8)),
        ("nvidia/DeepSeek-R1-0528-NVFP4-v2", Some(NumberFormat::Nvfp4)),
        ("nvidia/DeepSeek-R1-FP4", Some(NumberFormat::Nvfp4)),
        ("Qwen/Qwen2.5-14B-Instruct-AWQ", Some(NumberFormat::Int4)),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", Some(NumberFormat::Int8)),
        ("RedHatAI/Llama-3.1-8B-Instruct-quantized.w8a8", Some(NumberFormat::Int8)),
        ("meta-llama/Llama-3.1-8B-Instruct", None),
        ("fp8", None),
    ] {
        assert_eq!(stored_format_of(name), format, "{name}");
    }
    let stored = |name: &str| architecture(name).unwrap().stored_format();
    assert_eq!(stored("nvidia/Llama-3.1-8B-Instruct-FP8"), NumberFormat::Fp8);
    assert_eq!(stored("deepseek-ai/DeepSeek-R1"), NumberFormat::Fp8);
    assert_eq!(stored("moonshotai/Kimi-K2-Instruct"), NumberFormat::Fp8);
    assert_eq!(stored("moonshotai/Kimi-K2-Thinking"), NumberFormat::Int4);
    assert_eq!(stored("openai/gpt-oss-20b"), NumberFormat::Mxfp4);
}

#[test]
fn a_format_covers_the_linear_layers() {
    let large = architecture("llama-3.1-70b").unwrap();
    let fp8 = large.stored_as(NumberFormat::Fp8);
    let embeddings = 2.0 * 128_256.0 * 8192.0;
    assert_eq!(fp8.weight_bytes(), large.total_parameters() + embeddings);
    // Latent attention stays wide in four bits; what is stored so already keeps its parts.
    let latent = architecture("deepseek-v3").unwrap();
    let nvfp4 = latent.stored_as(NumberFormat::Nvfp4);
    assert_eq!(
        (nvfp4.formats.attention.format, nvfp4.formats.experts.format),
        (NumberFormat::Bf16, NumberFormat::Nvfp4)
    );
    let kimi = architecture("kimi-k2.5").unwrap();
    assert_eq!(kimi.stored_as(NumberFormat::Int4), kimi);
}

#[test]
fn accelerators_share_weights_and_cache() {
    let latent = architecture("deepseek-v3").unwrap();
    let bytes = latent.weight_bytes_by_part();
    let data = Parallelism { tensor: 1, pipeline: 1, attention_data: 8, experts: 8 };
    let wanted = bytes.sum() - bytes.experts + bytes.experts / 8.0;
    assert!((latent.weight_bytes_each(&data) / wanted - 1.0).abs() < 1e-12);
    let each = latent.read_bytes_each(&data);
    assert_eq!(each.always, bytes.sum() - bytes.experts - bytes.embeddings);
    // A token's latent cache is whole on each accelerator under tensor parallelism, layers divide it.
    let token = 61.0 * 576.0 * 2.0;
    assert_eq!(latent.kv_bytes_each(1.0, NumberFormat::Bf16, &Parallelism::tensor(8)), token);
    let stages = Parallelism { pipeline: 2, ..Parallelism::tensor(4) };
    assert_eq!(latent.kv_bytes_each(1.0, NumberFormat::Bf16, &stages), token / 2.0);
    assert_eq!(stages.accelerators(), 8);
}

#[test]
fn a_mixture_reads_more_the_more_tokens_it_computes() {
    let a = architecture("qwen3-30b-a3b").unwrap();
    let one = a.read_parameters(1.0);
    assert!((one / a.computed_parameters() - 1.0).abs() < 1e-12);
    assert!(a.read_parameters(8.0) > one);
    assert!((a.read_parameters(1e6) / (a.total_parameters() - a.parameters.embeddings) - 1.0).abs() < 1e-12);
}

#[test]
fn attention_arithmetic_follows_what_is_seen() {
    let dense = architecture("llama-3.1-8b").unwrap();
    let per_pair = 4.0 * 32.0 * 32.0 * 128.0;
    assert_eq!(dense.decode_attention_flops(1000.0), per_pair * 1000.0);
    assert_eq!(dense.prompt_attention_flops(0.0, 1000.0), per_pair * 500_000.0);
    // In pieces it is the same work.
    let pieces = dense.prompt_attention_flops(0.0, 400.0) + dense.prompt_attention_flops(400.0, 600.0);
    assert!((pieces / dense.prompt_attention_flops(0.0, 1000.0) - 1.0).abs() < 1e-12);
    let windowed = architecture("gpt-oss-120b").unwrap();
    let layer = 4.0 * 64.0 * 64.0;
    assert_eq!(windowed.decode_attention_flops(1000.0), layer * 18.0 * (1000.0 + 128.0));
    let seen = 128.0 * 128.0 / 2.0 + 872.0 * 128.0;
    assert_eq!(windowed.prompt_attention_flops(0.0, 1000.0), layer * 18.0 * (500_000.0 + seen));
}
