//! The reader of `config.json`: real files against published figures, against the catalogue, and what it
//! refuses with which line.

use std::fs;
use std::path::Path;

use poolwright::perf::{Architecture, AttentionKind, NumberFormat, Parallelism, architecture};
use proptest::prelude::*;
use serde_json::{Value, json};

fn fixture(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/model_configs").join(name)).unwrap()
}

fn published(name: &str) -> Architecture {
    let text = fixture(&format!("{name}.json"));
    Architecture::from_config(&text, None).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn of(value: &Value) -> Result<Architecture, String> {
    Architecture::from_config(&value.to_string(), None).map_err(|e| e.to_string())
}

/// The same figures, whatever the name.
fn same(a: &Architecture, b: &Architecture) {
    let a = Architecture { name: b.name.clone(), ..a.clone() };
    assert_eq!(a, *b);
}

fn near(found: f64, wanted: f64, share: f64, what: &str) {
    assert!((found / wanted - 1.0).abs() <= share, "{what}: {found} instead of {wanted}");
}

#[test]
fn real_files_have_the_published_sizes() {
    // Parameters in billions, all and used per token; KV-cache bytes of a token in 16 bits; weights in GB.
    for (file, total, active, kv, gigabytes) in [
        ("meta-llama--Meta-Llama-3.1-8B", 8.03, 8.03, 131_072.0, 16.06),
        ("meta-llama--Meta-Llama-3.1-70B", 70.55, 70.55, 327_680.0, 141.1),
        ("meta-llama--Meta-Llama-3.1-405B", 405.85, 405.85, 516_096.0, 811.7),
        ("mistralai--Mixtral-8x7B-v0.1", 46.7, 12.9, 131_072.0, 93.4),
        ("Qwen--Qwen3-0.6B", 0.596, 0.596, 114_688.0, 1.192),
        ("Qwen--Qwen3-8B", 8.19, 8.19, 147_456.0, 16.38),
        ("Qwen--Qwen3-32B", 32.76, 32.76, 262_144.0, 65.5),
        ("Qwen--Qwen3-30B-A3B", 30.53, 3.35, 98_304.0, 61.1),
        ("Qwen--Qwen3-235B-A22B-FP8", 235.1, 22.2, 192_512.0, 236.3),
        ("Qwen--Qwen3.5-397B-A17B", 397.0, 17.3, 30_720.0, 792.7),
        ("deepseek-ai--DeepSeek-V3", 671.0, 37.5, 70_272.0, 672.9),
        ("deepseek-ai--DeepSeek-R1", 671.0, 37.5, 70_272.0, 672.9),
        ("nvidia--DeepSeek-V3.1-NVFP4", 671.0, 37.5, 70_272.0, 1342.0),
        ("moonshotai--Kimi-K2.5", 1027.0, 32.9, 70_272.0, 594.0),
        ("zai-org--GLM-5", 744.0, 41.8, 100_152.0, 1488.0),
        ("nvidia--GLM-5-NVFP4", 744.0, 41.8, 100_152.0, 1488.0),
        ("MiniMaxAI--MiniMax-M2.5", 228.7, 11.0, 253_952.0, 230.0),
        ("openai--gpt-oss-120b", 116.8, 5.7, 73_728.0, 65.2),
    ] {
        let a = published(file);
        assert!(a.is_usable(), "{file}");
        near(a.total_parameters() / 1e9, total, 0.003, file);
        near(a.active_parameters() / 1e9, active, 0.01, file);
        assert_eq!(a.kv_bytes_per_token(NumberFormat::Bf16), kv, "{file}");
        near(a.weight_bytes() / 1e9, gigabytes, 0.005, file);
    }
}

#[test]
fn the_catalogue_has_the_figures_of_the_files() {
    for (file, served) in [
        ("meta-llama--Meta-Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ("meta-llama--Meta-Llama-3.1-70B", "meta-llama/Llama-3.1-70B"),
        ("meta-llama--Meta-Llama-3.1-405B", "meta-llama/Llama-3.1-405B"),
        ("mistralai--Mixtral-8x7B-v0.1", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        ("Qwen--Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("Qwen--Qwen3-8B", "Qwen/Qwen3-8B"),
        ("Qwen--Qwen3-32B", "Qwen/Qwen3-32B"),
        ("Qwen--Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B-Instruct-2507"),
        ("Qwen--Qwen3-235B-A22B-FP8", "Qwen/Qwen3-235B-A22B-FP8"),
        ("Qwen--Qwen3.5-397B-A17B", "Qwen/Qwen3.5-397B-A17B"),
        ("deepseek-ai--DeepSeek-V3", "deepseek-ai/DeepSeek-V3"),
        ("deepseek-ai--DeepSeek-R1", "deepseek-ai/DeepSeek-R1-0528"),
        ("moonshotai--Kimi-K2.5", "moonshotai/Kimi-K2.5"),
        ("zai-org--GLM-5", "zhipuai/GLM-5"),
        ("MiniMaxAI--MiniMax-M2.5", "MiniMaxAI/MiniMax-M2.5"),
        ("openai--gpt-oss-120b", "openai/gpt-oss-120b"),
    ] {
        let known = architecture(served).unwrap_or_else(|| panic!("{served} must be known"));
        same(&published(file), &known);
    }
}

#[test]
fn quantisation_files_decide_part_by_part() {
    let read = |name: &str| {
        let file = fixture(&format!("{name}.hf_quant_config.json"));
        Architecture::from_config(&fixture(&format!("{name}.json")), Some(&file)).unwrap()
    };
    let deepseek = read("nvidia--DeepSeek-V3.1-NVFP4");
    assert_eq!(deepseek.kv_format, NumberFormat::Fp8);
    assert_eq!(deepseek.formats.experts.format, NumberFormat::Nvfp4);
    assert_eq!(deepseek.formats.dense.format, NumberFormat::Nvfp4);
    assert_eq!(deepseek.formats.shared_experts.format, NumberFormat::Nvfp4);
    assert_eq!(deepseek.formats.output.format, NumberFormat::Bf16);
    // Of the attention only the output projection, 117 of 187 million parameters, is in four bits.
    let output = 128.0 * 128.0 * 7168.0;
    let all = deepseek.parameters.attention / 61.0;
    near(deepseek.formats.attention.bytes, (output * 0.5625 + (all - output) * 2.0) / all, 1e-9, "attention");
    let glm = read("nvidia--GLM-5-NVFP4");
    assert_eq!(glm.formats.attention, NumberFormat::Bf16.into());
    assert_eq!(glm.formats.experts, NumberFormat::Nvfp4.into());
    let kimi = published("moonshotai--Kimi-K2.5");
    assert_eq!((kimi.formats.experts.format, kimi.formats.experts.bytes), (NumberFormat::Int4, 0.5625));
    for part in [kimi.formats.attention, kimi.formats.dense, kimi.formats.shared_experts, kimi.formats.output] {
        assert_eq!(part, NumberFormat::Bf16.into());
    }
    let oss = published("openai--gpt-oss-120b");
    assert_eq!((oss.formats.experts.format, oss.formats.attention.format), (NumberFormat::Mxfp4, NumberFormat::Bf16));
    for fp8 in ["deepseek-ai--DeepSeek-V3", "Qwen--Qwen3-235B-A22B-FP8", "MiniMaxAI--MiniMax-M2.5"] {
        let formats = published(fp8).formats;
        assert_eq!((formats.attention, formats.experts), (NumberFormat::Fp8.into(), NumberFormat::Fp8.into()), "{fp8}");
        assert_eq!((formats.output, formats.router), (NumberFormat::Bf16.into(), NumberFormat::Bf16.into()), "{fp8}");
    }
}

#[test]
fn attention_remembers_what_it_can_see() {
    let oss = published("openai--gpt-oss-120b");
    let layer = 2.0 * 8.0 * 64.0 * 2.0;
    assert_eq!(oss.kv_bytes(100.0, NumberFormat::Bf16), 36.0 * 100.0 * layer);
    assert_eq!(oss.kv_bytes(5000.0, NumberFormat::Bf16), 18.0 * (5000.0 + 128.0) * layer);
    let hybrid = published("Qwen--Qwen3.5-397B-A17B");
    let states: Vec<u32> =
        hybrid.attention.iter().filter(|g| matches!(g.kind, AttentionKind::Linear { .. })).map(|g| g.layers).collect();
    assert_eq!(states, [45]);
    // 64 heads of 128 x 128 32-bit numbers; three 16-bit inputs of the convolution per channel.
    assert_eq!(hybrid.state_bytes(), 45.0 * (64.0 * 128.0 * 128.0 * 4.0 + 12_288.0 * 3.0 * 2.0));
    assert_eq!(hybrid.kv_bytes(1000.0, NumberFormat::Fp8), hybrid.state_bytes() + 1000.0 * 15.0 * 2.0 * 2.0 * 256.0);
    // Latent attention is copied under tensor parallelism; the index key keeps 128 bytes and a scale.
    let glm = published("zai-org--GLM-5");
    let each = glm.kv_bytes_each(10.0, NumberFormat::Fp8, &Parallelism::tensor(8));
    assert_eq!(each, 78.0 * 10.0 * (576.0 + 132.0));
}

/// Hand-written after the published files, shortened to the fields that matter.
#[test]
fn families_without_a_file_agree_with_the_catalogue() {
    for (served, config) in [
        (
            "google/gemma-3-27b-it",
            json!({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "image_token_index": 262144,
                   "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
                   "text_config": {"model_type": "gemma3_text", "head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504,
                                   "num_attention_heads": 32, "num_hidden_layers": 62, "num_key_value_heads": 16,
                                   "query_pre_attn_scalar": 168, "sliding_window": 1024,
                                   "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}}),
        ),
        (
            "google/gemma-3-4b-it",
            json!({"model_type": "gemma3",
                   "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
                                   "num_hidden_layers": 34, "sliding_window": 1024}}),
        ),
        (
            "google/gemma-2-9b-it",
            json!({"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "attn_logit_softcapping": 50.0,
                   "final_logit_softcapping": 30.0, "cache_implementation": "hybrid", "head_dim": 256, "hidden_size": 3584,
                   "intermediate_size": 14336, "num_attention_heads": 16, "num_hidden_layers": 42, "num_key_value_heads": 8,
                   "sliding_window": 4096, "sliding_window_size": 4096, "vocab_size": 256000, "max_position_embeddings": 8192}),
        ),
        (
            "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
            json!({"model_type": "llama4", "architectures": ["Llama4ForConditionalGeneration"],
                   "vision_config": {"hidden_size": 1408},
                   "text_config": {"model_type": "llama4_text", "attention_chunk_size": 8192, "attn_temperature_tuning": true,
                                   "head_dim": 128, "hidden_size": 5120, "interleave_moe_layer_step": 2, "intermediate_size": 8192,
                                   "intermediate_size_mlp": 16384, "no_rope_layers": [], "num_attention_heads": 40,
                                   "num_experts_per_tok": 1, "num_hidden_layers": 48, "num_key_value_heads": 8,
                                   "num_local_experts": 128, "vocab_size": 202048, "max_position_embeddings": 1048576}}),
        ),
        (
            "Qwen/Qwen3-Next-80B-A3B-Instruct",
            json!({"model_type": "qwen3_next", "architectures": ["Qwen3NextForCausalLM"], "decoder_sparse_step": 1,
                   "full_attention_interval": 4, "head_dim": 256, "hidden_size": 2048, "intermediate_size": 5120,
                   "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16,
                   "linear_num_value_heads": 32, "linear_value_head_dim": 128, "mlp_only_layers": [],
                   "moe_intermediate_size": 512, "num_attention_heads": 16, "num_experts": 512, "num_experts_per_tok": 10,
                   "num_hidden_layers": 48, "num_key_value_heads": 2, "shared_expert_intermediate_size": 512,
                   "tie_word_embeddings": false, "vocab_size": 151936}),
        ),
        (
            "deepseek-ai/DeepSeek-V2-Lite-Chat",
            json!({"model_type": "deepseek_v2", "architectures": ["DeepseekV2ForCausalLM"], "first_k_dense_replace": 1,
                   "hidden_size": 2048, "intermediate_size": 10944, "kv_lora_rank": 512, "moe_intermediate_size": 1408,
                   "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2, "num_attention_heads": 16,
                   "num_experts_per_tok": 6, "num_hidden_layers": 27, "num_key_value_heads": 16, "q_lora_rank": null,
                   "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 102400}),
        ),
        (
            "zai-org/GLM-4.5-Air",
            json!({"model_type": "glm4_moe", "architectures": ["Glm4MoeForCausalLM"], "attention_bias": true,
                   "first_k_dense_replace": 1, "head_dim": 128, "hidden_size": 4096, "intermediate_size": 10944,
                   "moe_intermediate_size": 1408, "n_group": 1, "n_routed_experts": 128, "n_shared_experts": 1,
                   "num_attention_heads": 96, "num_experts_per_tok": 8, "num_hidden_layers": 46, "num_key_value_heads": 8,
                   "num_nextn_predict_layers": 1, "partial_rotary_factor": 0.5, "vocab_size": 151552}),
        ),
        (
            "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
            json!({"model_type": "mistral3", "vision_config": {"model_type": "pixtral"}, "spatial_merge_size": 2,
                   "text_config": {"model_type": "mistral", "head_dim": 128, "hidden_size": 5120, "intermediate_size": 32768,
                                   "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 8,
                                   "sliding_window": null, "vocab_size": 131072}}),
        ),
        (
            "microsoft/Phi-4-mini-instruct",
            json!({"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "full_attn_mod": 1, "hidden_size": 3072,
                   "intermediate_size": 8192, "max_position_embeddings": 131072, "num_attention_heads": 24,
                   "num_hidden_layers": 32, "num_key_value_heads": 8, "sliding_window": 262144,
                   "tie_word_embeddings": true, "vocab_size": 200064}),
        ),
    ] {
        let read = of(&config).unwrap_or_else(|e| panic!("{served}: {e}"));
        same(&read, &architecture(served).unwrap_or_else(|| panic!("{served} must be known")));
    }
}

#[test]
fn windows_follow_switches_and_lists() {
    let qwen: Value = serde_json::from_str(&fixture("Qwen--Qwen3-8B.json")).unwrap();
    let mut half = qwen.clone();
    half["use_sliding_window"] = json!(true);
    half["sliding_window"] = json!(1024);
    half["max_window_layers"] = json!(18);
    let layer = 2.0 * 8.0 * 128.0 * 2.0;
    assert_eq!(of(&half).unwrap().kv_bytes(4096.0, NumberFormat::Bf16), 18.0 * (4096.0 + 1024.0) * layer);
    let mut listed = qwen.clone();
    listed["layer_types"] = json!(vec!["full_attention"; 36]);
    same(&of(&listed).unwrap(), &of(&qwen).unwrap());
    // An old Mistral sees a window in all layers.
    let mistral = json!({"architectures": ["MistralForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 8, "sliding_window": 4096, "vocab_size": 32000});
    assert_eq!(of(&mistral).unwrap().kv_bytes(1e6, NumberFormat::Bf16), 32.0 * 4096.0 * layer);
    // One KV head for all queries, two matrices per block.
    let falcon = json!({"architectures": ["FalconForCausalLM"], "model_type": "falcon", "hidden_size": 4544,
        "multi_query": true, "new_decoder_architecture": false, "num_attention_heads": 71, "num_kv_heads": 71,
        "num_hidden_layers": 32, "parallel_attn": true, "vocab_size": 65024, "alibi": false, "bias": false});
    let falcon = of(&falcon).unwrap();
    near(falcon.total_parameters() / 1e9, 6.92, 0.003, "falcon");
    assert_eq!(falcon.kv_bytes_per_token(NumberFormat::Bf16), 32.0 * 2.0 * 64.0 * 2.0);
}

/// (change, the line it gets).
#[test]
fn what_is_not_understood_gets_one_clear_line() {
    let dense: Value = serde_json::from_str(&fixture("Qwen--Qwen3-8B.json")).unwrap();
    let latent: Value = serde_json::from_str(&fixture("deepseek-ai--DeepSeek-V3.json")).unwrap();
    let mixture: Value = serde_json::from_str(&fixture("Qwen--Qwen3-30B-A3B.json")).unwrap();
    for (base, field, value, line) in [
        (&dense, "model_type", json!("jamba"), "`model_type` is `\"jamba\"`: is not known; give the figures"),
        (&dense, "model_type", json!(7), "`model_type` is `7`: must be a text"),
        (&dense, "architectures", json!(["Qwen3ForEagle"]), "`architectures` is `\"Qwen3ForEagle\"`: is not how"),
        (&dense, "num_hidden_layers", json!(-3), "`num_hidden_layers` is `-3`: must be a whole number from 1 to 2000"),
        (&dense, "num_hidden_layers", json!(1e300), "`num_hidden_layers` is `1e+300`: must be a whole number"),
        (&dense, "hidden_size", json!(null), "`hidden_size` is missing: must be a whole number greater than zero"),
        (&dense, "hidden_size", json!("4096"), "`hidden_size` is `\"4096\"`: must be a whole number"),
        (&dense, "num_key_value_heads", json!(5), "`num_key_value_heads` is `5`: must divide `num_attention_heads`"),
        (&dense, "kv_lora_rank", json!(512), "`kv_lora_rank` is `512`: is not understood and could change"),
        (&dense, "cross_attention_layers", json!([3, 8]), "`cross_attention_layers` is `[3,8]`: is not understood"),
        (&dense, "mamba_d_state", json!(16), "`mamba_d_state` is `16`: is not understood"),
        (&dense, "num_kv_shared_layers", json!(15), "`num_kv_shared_layers` is `15`: is not understood"),
        (&dense, "layer_types", json!(["full_attention"]), "`layer_types` is `1`: is the number of its entries"),
        (&dense, "layer_types", json!(vec!["mamba"; 36]), "`layer_types` is `\"mamba\"`: must be full_attention"),
        (&dense, "layer_types", json!(vec!["sliding_attention"; 36]), "`sliding_window` is missing: 36 layers"),
        (&dense, "tie_word_embeddings", json!("yes"), "`tie_word_embeddings` is `\"yes\"`: must be true or false"),
        (&dense, "torch_dtype", json!("float4"), "`torch_dtype` is `\"float4\"`: must be bfloat16, float16 or float32"),
        (
            &dense,
            "quantization_config",
            json!({"quant_method": "hqq"}),
            "`quantization_config.quant_method` is `\"hqq\"`: known are",
        ),
        (
            &dense,
            "quantization_config",
            json!({"quant_method": "gptq", "bits": 3}),
            "`quantization_config.bits` is `3`: must be 4 or 8",
        ),
        (&mixture, "num_experts_per_tok", json!(500), "`num_experts_per_tok` is `500`: a token cannot use more than"),
        (
            &mixture,
            "shared_expert_intermediate_size",
            json!(64),
            "`shared_expert_intermediate_size` is `64`: is not understood",
        ),
        (&mixture, "zero_expert_num", json!(64), "`zero_expert_num` is `64`: is not understood"),
        (&latent, "first_k_dense_replace", json!(62), "`first_k_dense_replace` is `62`: there are only 61 layers"),
        (&latent, "v_head_dim", json!(null), "`v_head_dim` is missing"),
        (&latent, "hc_mult", json!(4), "`hc_mult` is `4`: is not understood"),
        (&latent, "compress_ratios", json!([0, 4]), "`compress_ratios` is `[0,4]`: is not understood"),
    ] {
        let mut config = base.clone();
        config[field] = value;
        let error = of(&config).expect_err(line);
        assert!(error.starts_with(line), "{error}\ninstead of\n{line}");
        assert!(!error.contains('\n'), "{error}");
    }
    for (text, line) in [
        ("", "is no JSON: EOF while parsing"),
        ("[1]", "`config.json` is `[1]`: must be an object"),
        ("{}", "`model_type` is missing"),
        (r#"{"model_type": "whisper"}"#, "`model_type` is `\"whisper\"`: is not known"),
        (
            r#"{"model_type": "mllama", "text_config": {}}"#,
            "`model_type` is `\"mllama\"`: is no multimodal model that is known",
        ),
        (r#"{"model_type": "llama", "text_config": 3}"#, "`text_config` is `3`: must be the object"),
    ] {
        let error = Architecture::from_config(text, None).unwrap_err().to_string();
        assert!(error.starts_with(line), "{error}\ninstead of\n{line}");
    }
}

/// Features that are switched off, and fields of training and generation, change nothing.
#[test]
fn harmless_fields_are_passed_over() {
    let plain: Value = serde_json::from_str(&fixture("Qwen--Qwen3-8B.json")).unwrap();
    let mut config = plain.clone();
    for (field, value) in [
        ("num_experts", json!(0)),
        ("mamba_layers", json!([])),
        ("cross_attention", json!(false)),
        ("_attn_implementation", json!("flash_attention_2")),
        ("unsloth_fixed", json!(true)),
        ("pad_token_id", json!(7)),
        ("router_z_loss_coef", json!(0.1)),
        ("rope_parameters", json!({"rope_type": "default"})),
    ] {
        config[field] = value;
    }
    same(&of(&config).unwrap(), &of(&plain).unwrap());
    let mut by_class = plain.clone();
    by_class.as_object_mut().unwrap().remove("model_type");
    same(&of(&by_class).unwrap(), &of(&plain).unwrap());
}

#[test]
fn integer_quantisation_counts_its_scales() {
    let mut config: Value = serde_json::from_str(&fixture("Qwen--Qwen3-8B.json")).unwrap();
    let mut with = |quantisation: Value| {
        config["quantization_config"] = quantisation;
        of(&config).unwrap().formats.dense
    };
    let awq = with(json!({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true, "version": "gemm"}));
    assert_eq!(awq, NumberFormat::Int4.into());
    let gptq = with(json!({"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": true}));
    assert_eq!((gptq.format, gptq.bytes), (NumberFormat::Int4, 0.5625));
    let int8 = json!({"quant_method": "compressed-tensors", "ignore": ["lm_head"], "config_groups": {"group_0":
        {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "int", "strategy": "channel"}}}});
    assert_eq!(with(int8), NumberFormat::Int8.into());
    let some = json!({"quant_method": "fp8", "modules_to_not_convert": ["model.layers.0", "model.layers.1.mlp"]});
    near(with(some).bytes, (34.0 + 2.0 * 2.0) / 36.0, 1e-9, "two layers left wide");
}

fn any_number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0u32..300).prop_map(Value::from),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any_number(),
        ".{0,20}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map("[a-z_]{1,12}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const FILES: [&str; 6] = [
    "Qwen--Qwen3-8B",
    "deepseek-ai--DeepSeek-V3",
    "Qwen--Qwen3.5-397B-A17B",
    "moonshotai--Kimi-K2.5",
    "openai--gpt-oss-120b",
    "zai-org--GLM-5",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    /// Whatever is written into a real file: figures that can be used, or one line.
    #[test]
    fn changed_files_are_read_or_refused(
        file in 0..FILES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any_value()), 1..4),
        quantisation in prop::option::of(any_value()),
    ) {
        let mut config: Value = serde_json::from_str(&fixture(&format!("{}.json", FILES[file]))).unwrap();
        for (index, value) in changes {
            let inner = match config.get("text_config") { Some(_) => &mut config["text_config"], None => &mut config };
            let names: Vec<String> = inner.as_object().unwrap().keys().cloned().collect();
            inner[index.get(&names).as_str()] = value;
        }
        match Architecture::from_config(&config.to_string(), quantisation.map(|q| q.to_string()).as_deref()) {
            Ok(a) => {
                prop_assert!(a.is_usable());
                prop_assert!(a.weight_bytes().is_finite() && a.kv_bytes(1e6, a.kv_format).is_finite());
            }
            Err(error) => prop_assert!(!error.to_string().contains('\n'), "{}", error),
        }
    }

    /// No text makes the reader panic.
    #[test]
    fn any_text_is_refused_in_one_line(text in ".{0,200}") {
        let error = Architecture::from_config(&text, Some(&text)).unwrap_err().to_string();
        prop_assert!(!error.contains('\n'), "{}", error);
    }
}
