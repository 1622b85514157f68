//! The families of models that the reader knows, one entry per `model_type`.

use super::family::{AttentionRule, Defaults, ExpertNames, Family, KvHeads, Shared};
use super::layers::{ExpertRule, Windows};

const DENSE: Family = Family {
    model_type: "llama",
    classes: &["LlamaForCausalLM"],
    attention: AttentionRule::Grouped,
    windows: Windows::None,
    experts: None,
    matrices: 3,
    defaults: Defaults {
        tied: false,
        head_size: None,
        query_heads: None,
        kv_heads: KvHeads::Required,
        vocabulary: None,
    },
};
const AS_QUERIES: Defaults = Defaults { kv_heads: KvHeads::AsQueryHeads, ..DENSE.defaults };
const TIED: Defaults = Defaults { tied: true, ..DENSE.defaults };
const HEADS_OF_128: Defaults = Defaults { head_size: Some(128), ..DENSE.defaults };
const HEADS_OF_256: Defaults = Defaults { head_size: Some(256), ..DENSE.defaults };
const GEMMA: Defaults = Defaults { tied: true, ..HEADS_OF_256 };
const GEMMA_3: Defaults =
    Defaults { query_heads: Some(8), kv_heads: KvHeads::Fixed(4), vocabulary: Some(262_208), ..GEMMA };

const MIXTRAL: ExpertNames = ExpertNames {
    count: &["num_local_experts"],
    width: "intermediate_size",
    dense_width: "intermediate_size",
    shared: Shared::None,
    layers: ExpertRule::All,
};
const QWEN_MOE: ExpertNames =
    ExpertNames { count: &["num_experts"], width: "moe_intermediate_size", layers: ExpertRule::Step, ..MIXTRAL };
const QWEN_SHARED: ExpertNames = ExpertNames { shared: Shared::Width("shared_expert_intermediate_size"), ..QWEN_MOE };
const DEEPSEEK_MOE: ExpertNames = ExpertNames {
    count: &["n_routed_experts", "num_experts"],
    width: "moe_intermediate_size",
    dense_width: "intermediate_size",
    shared: Shared::Count("n_shared_experts"),
    layers: ExpertRule::AfterFirst,
};
const LLAMA_4: ExpertNames = ExpertNames {
    dense_width: "intermediate_size_mlp",
    shared: Shared::Width("intermediate_size"),
    layers: ExpertRule::Interleaved,
    ..MIXTRAL
};
const LATENT: Family = Family { attention: AttentionRule::Latent, experts: Some(DEEPSEEK_MOE), ..DENSE };
const HYBRID: Family = Family { attention: AttentionRule::Hybrid, defaults: HEADS_OF_256, ..DENSE };

const QWEN2: Family = Family { model_type: "qwen2", classes: &["Qwen2ForCausalLM"], windows: Windows::Later, ..DENSE };
const QWEN3: Family = Family { model_type: "qwen3", classes: &["Qwen3ForCausalLM"], defaults: HEADS_OF_128, ..QWEN2 };
const QWEN3_MOE: Family = Family {
    model_type: "qwen3_moe",
    classes: &["Qwen3MoeForCausalLM"],
    experts: Some(QWEN_MOE),
    defaults: DENSE.defaults,
    ..QWEN2
};
const GEMMA3: Family = Family {
    model_type: "gemma3_text",
    classes: &["Gemma3ForCausalLM"],
    windows: Windows::Every { full: 6, window: Some(4096) },
    defaults: GEMMA_3,
    ..DENSE
};
const MISTRAL: Family =
    Family { model_type: "mistral", classes: &["MistralForCausalLM"], windows: Windows::All, ..DENSE };
const GLM_4: Family = Family { model_type: "glm4", classes: &["Glm4ForCausalLM"], defaults: HEADS_OF_128, ..DENSE };
const GLM_4_MOE: Family =
    Family { model_type: "glm4_moe", classes: &["Glm4MoeForCausalLM"], experts: Some(DEEPSEEK_MOE), ..GLM_4 };

pub const FAMILIES: &[Family] = &[
    Family { defaults: AS_QUERIES, ..DENSE },
    MISTRAL,
    Family { model_type: "ministral", classes: &["MinistralForCausalLM"], ..MISTRAL },
    Family { model_type: "ministral3", classes: &["Ministral3ForCausalLM"], ..MISTRAL },
    QWEN2,
    Family { model_type: "qwen2_vl", classes: &["Qwen2VLForConditionalGeneration"], ..QWEN2 },
    Family { model_type: "qwen2_vl_text", classes: &[], ..QWEN2 },
    Family { model_type: "qwen2_5_vl", classes: &["Qwen2_5_VLForConditionalGeneration"], ..QWEN2 },
    Family { model_type: "qwen2_5_vl_text", classes: &[], ..QWEN2 },
    QWEN3,
    Family { model_type: "qwen3_vl_text", classes: &[], ..QWEN3 },
    Family { model_type: "gemma", classes: &["GemmaForCausalLM"], defaults: GEMMA, ..DENSE },
    Family {
        model_type: "gemma2",
        classes: &["Gemma2ForCausalLM"],
        windows: Windows::Every { full: 2, window: Some(4096) },
        defaults: GEMMA,
        ..DENSE
    },
    GEMMA3,
    Family { model_type: "phi3", classes: &["Phi3ForCausalLM"], defaults: AS_QUERIES, ..MISTRAL },
    Family { model_type: "phi", classes: &["PhiForCausalLM"], matrices: 2, defaults: AS_QUERIES, ..DENSE },
    Family { model_type: "glm", classes: &["GlmForCausalLM"], ..GLM_4 },
    GLM_4,
    Family { model_type: "glm4v_text", classes: &[], ..GLM_4 },
    Family { model_type: "internlm2", classes: &["InternLM2ForCausalLM"], defaults: AS_QUERIES, ..DENSE },
    Family { model_type: "internlm3", classes: &["InternLM3ForCausalLM"], ..DENSE },
    Family { model_type: "granite", classes: &["GraniteForCausalLM"], defaults: AS_QUERIES, ..DENSE },
    Family { model_type: "olmo2", classes: &["Olmo2ForCausalLM"], defaults: AS_QUERIES, ..DENSE },
    Family {
        model_type: "olmo3",
        classes: &["Olmo3ForCausalLM"],
        windows: Windows::Every { full: 4, window: Some(4096) },
        defaults: AS_QUERIES,
        ..DENSE
    },
    Family {
        model_type: "cohere",
        classes: &["CohereForCausalLM"],
        defaults: Defaults { tied: true, ..AS_QUERIES },
        ..DENSE
    },
    Family {
        model_type: "cohere2",
        classes: &["Cohere2ForCausalLM"],
        windows: Windows::Every { full: 4, window: Some(4096) },
        defaults: TIED,
        ..DENSE
    },
    Family {
        model_type: "starcoder2",
        classes: &["Starcoder2ForCausalLM"],
        windows: Windows::All,
        matrices: 2,
        defaults: TIED,
        ..DENSE
    },
    Family { model_type: "nemotron", classes: &["NemotronForCausalLM"], matrices: 2, ..DENSE },
    Family { model_type: "stablelm", classes: &["StableLmForCausalLM"], ..DENSE },
    Family { model_type: "seed_oss", classes: &["SeedOssForCausalLM"], defaults: HEADS_OF_128, ..DENSE },
    Family { model_type: "smollm3", classes: &["SmolLM3ForCausalLM"], defaults: TIED, ..QWEN2 },
    Family {
        model_type: "falcon",
        classes: &["FalconForCausalLM"],
        attention: AttentionRule::Falcon,
        matrices: 2,
        defaults: TIED,
        ..DENSE
    },
    Family { model_type: "mixtral", classes: &["MixtralForCausalLM"], experts: Some(MIXTRAL), ..MISTRAL },
    Family {
        model_type: "phimoe",
        classes: &["PhiMoEForCausalLM", "PhimoeForCausalLM"],
        experts: Some(MIXTRAL),
        ..MISTRAL
    },
    Family { model_type: "qwen2_moe", classes: &["Qwen2MoeForCausalLM"], experts: Some(QWEN_SHARED), ..QWEN2 },
    QWEN3_MOE,
    Family { model_type: "qwen3_vl_moe_text", classes: &[], ..QWEN3_MOE },
    Family {
        model_type: "gpt_oss",
        classes: &["GptOssForCausalLM"],
        windows: Windows::Every { full: 2, window: Some(128) },
        experts: Some(MIXTRAL),
        defaults: Defaults { head_size: Some(64), ..DENSE.defaults },
        ..DENSE
    },
    Family {
        model_type: "minimax_m2",
        classes: &["MiniMaxM2ForCausalLM"],
        experts: Some(ExpertNames { shared: Shared::Width("shared_intermediate_size"), ..MIXTRAL }),
        ..DENSE
    },
    Family { model_type: "granitemoe", classes: &["GraniteMoeForCausalLM"], experts: Some(MIXTRAL), ..DENSE },
    Family {
        model_type: "granitemoeshared",
        classes: &["GraniteMoeSharedForCausalLM"],
        experts: Some(ExpertNames { shared: Shared::Width("shared_intermediate_size"), ..MIXTRAL }),
        ..DENSE
    },
    Family {
        model_type: "olmoe",
        classes: &["OlmoeForCausalLM"],
        experts: Some(ExpertNames { count: &["num_experts"], ..MIXTRAL }),
        defaults: AS_QUERIES,
        ..DENSE
    },
    GLM_4_MOE,
    Family { model_type: "glm4v_moe_text", classes: &[], ..GLM_4_MOE },
    Family {
        model_type: "llama4_text",
        classes: &["Llama4ForCausalLM"],
        windows: Windows::Chunks,
        experts: Some(LLAMA_4),
        defaults: HEADS_OF_128,
        ..DENSE
    },
    Family { model_type: "deepseek_v2", classes: &["DeepseekV2ForCausalLM"], ..LATENT },
    Family { model_type: "deepseek_v3", classes: &["DeepseekV3ForCausalLM"], ..LATENT },
    Family { model_type: "deepseek_v32", classes: &["DeepseekV32ForCausalLM"], ..LATENT },
    Family { model_type: "kimi_k2", classes: &["DeepseekV3ForCausalLM", "KimiK2ForCausalLM"], ..LATENT },
    Family { model_type: "glm_moe_dsa", classes: &["GlmMoeDsaForCausalLM"], ..LATENT },
    Family { model_type: "glm4_moe_lite", classes: &["Glm4MoeLiteForCausalLM"], ..LATENT },
    Family { model_type: "qwen3_next", classes: &["Qwen3NextForCausalLM"], experts: Some(QWEN_SHARED), ..HYBRID },
    Family { model_type: "qwen3_5_text", classes: &["Qwen3_5ForCausalLM"], ..HYBRID },
    Family {
        model_type: "qwen3_5_moe_text",
        classes: &["Qwen3_5MoeForCausalLM"],
        experts: Some(QWEN_SHARED),
        ..HYBRID
    },
];

/// Multimodal models whose language model is one of the families, whole.
pub const WRAPPERS: &[&str] = &[
    "gemma3",
    "glm4v",
    "glm4v_moe",
    "kimi_k25",
    "llama4",
    "llava",
    "llava_next",
    "mistral3",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_vl",
    "qwen3_vl_moe",
];
