//! The parts of an iteration's time on paper: what each would take if hardware were used fully, and how
//! often each kind of overhead occurs. Which share is reached in practice is told by the constants.

use serde::Serialize;

use crate::perf::architecture::{Architecture, AttentionKind, NumberFormat, Parallelism};
use crate::perf::hardware::DataSheet;

/// Parts of an iteration's time; the constants multiply them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    /// Reading the weights that every token needs.
    Weights,
    /// Reading the routed experts that the tokens choose.
    Experts,
    /// Reading the KV cache.
    Kv,
    /// Arithmetic with all weights but the routed experts.
    Compute,
    /// Arithmetic with the routed experts.
    ExpertCompute,
    /// Arithmetic of attention, quadratic in the prompt.
    Attention,
    /// Activations summed between accelerators.
    Communication,
    /// The same once more in a mixture of experts, where tokens travel to their experts.
    ExpertCommunication,
    /// Per layer: launching kernels.
    Layer,
    /// Per layer on more than one accelerator: the fixed part of two all-reduces.
    SplitLayer,
    /// Per layer and doubling of the accelerators beyond two.
    DoublingLayer,
    /// Per layer with experts: choosing and sorting.
    ExpertLayer,
    /// Per layer with latent attention: its additional projections.
    LatentLayer,
    /// Per layer with experts that every token uses.
    SharedExpertLayer,
    /// Per iteration: scheduling on the host.
    Iteration,
    /// Per request in the batch: its bookkeeping and sampling on the host.
    Request,
    /// Per token computed on the host's side.
    Token,
}

impl Term {
    pub const COUNT: usize = 17;

    /// Terms that depend on the engine's software more than on the accelerator.
    pub const OF_ENGINE: [Self; 6] = [
        Self::Layer,
        Self::SplitLayer,
        Self::DoublingLayer,
        Self::ExpertLayer,
        Self::LatentLayer,
        Self::SharedExpertLayer,
    ];
}

/// One value per term, in their order.
pub type PerTerm = [f64; Term::COUNT];

/// Requests being served all at once, each at a random place of its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Running requests of the whole replica.
    pub batch: f64,
    pub input_tokens: f64,
    pub output_tokens: f64,
    /// Prompts are computed elsewhere.
    pub decode_only: bool,
}

impl Load {
    /// Mean context of a request that decodes, tokens.
    pub fn context(&self) -> f64 {
        self.input_tokens + self.output_tokens / 2.0
    }

    /// Prompts that the mean iteration computes: each running request ends, and another begins, once in as many
    /// iterations as it has output tokens.
    pub fn prompts(&self) -> f64 {
        if self.decode_only { 0.0 } else { self.batch / self.output_tokens.max(1.0) }
    }
}

/// Ideal times of one replica, seconds, and counts of its overheads.
#[derive(Clone, Debug)]
pub struct Ideal<'a> {
    architecture: &'a Architecture,
    parallel: Parallelism,
    kv_format: NumberFormat,
    bandwidth: f64,
    /// FLOP/s for attention, which works on 16-bit numbers.
    attention_flops: f64,
    /// Accelerators of the replica.
    accelerators: f64,
    /// Groups that each see a part of the requests.
    groups: f64,
    weights_seconds: f64,
    experts_seconds: f64,
    left_out: f64,
    compute_seconds_per_token: f64,
    expert_compute_seconds_per_token: f64,
    communication_seconds_per_token: f64,
    per_iteration: [f64; 6],
}

impl<'a> Ideal<'a> {
    pub fn new(
        sheet: &DataSheet,
        architecture: &'a Architecture,
        parallel: Parallelism,
        kv_format: NumberFormat,
    ) -> Self {
        let [tensor, pipeline, data] =
            [parallel.tensor, parallel.pipeline, parallel.attention_data].map(|n| f64::from(n.max(1)));
        let accelerators = tensor * pipeline * data;
        let bandwidth = sheet.bandwidth_bytes_per_second;
        // A token passes all stages of a pipeline, one after the other.
        let read = architecture.read_bytes_each(&parallel);
        let stage = tensor * data;
        let layers = f64::from(architecture.layers);
        let computed = architecture.computed_by_part().zip(&architecture.formats, |parameters, stored| {
            2.0 * parameters / (sheet.flops(stored.format) * accelerators)
        });
        // Two all-reduces per layer, each of which sends and receives the 16-bit activations once.
        let reduced_bytes = 2.0 * layers * f64::from(architecture.hidden_size) * 2.0 * 2.0 * (stage - 1.0) / stage;
        Self {
            architecture,
            parallel,
            kv_format,
            bandwidth,
            attention_flops: sheet.bf16_flops,
            accelerators,
            groups: data * pipeline,
            weights_seconds: read.always * pipeline / bandwidth,
            experts_seconds: read.experts * pipeline / bandwidth,
            left_out: architecture.mixture.map_or(0.0, |m| m.left_out()),
            compute_seconds_per_token: computed.sum() - computed.experts,
            expert_compute_seconds_per_token: computed.experts,
            communication_seconds_per_token: reduced_bytes / (sheet.link_bytes_per_second * data * pipeline),
            per_iteration: overheads(architecture, stage),
        }
    }

    /// All terms of the mean iteration under `load`.
    pub fn iteration(&self, load: &Load) -> PerTerm {
        let tokens = load.batch + load.prompts() * load.input_tokens;
        let kv = self.kv_seconds_per_request(load.context()) * load.batch;
        let is_mixture = f64::from(u8::from(self.architecture.mixture.is_some()));
        let communication = self.communication_seconds_per_token * tokens;
        let [layer, split, doubling, expert, latent, shared] = self.per_iteration;
        [
            self.weights_seconds,
            self.experts_seconds * self.experts_read(load),
            kv,
            self.compute_seconds_per_token * tokens,
            self.expert_compute_seconds_per_token * tokens,
            self.prompt_attention_seconds(load.input_tokens) * load.prompts()
                + self.decode_attention_seconds(load.context()) * load.batch,
            communication,
            communication * is_mixture,
            layer,
            split,
            doubling,
            expert,
            latent,
            shared,
            1.0,
            load.batch / self.groups,
            tokens / self.groups,
        ]
    }

    /// Terms of computing one prompt of the load, without what an iteration costs anyway.
    pub fn prompt(&self, input_tokens: f64) -> PerTerm {
        let mut terms = [0.0; Term::COUNT];
        let is_mixture = f64::from(u8::from(self.architecture.mixture.is_some()));
        // One prompt is computed by one group, with all of its accelerators but none of the others'.
        let groups = f64::from(self.parallel.attention_data.max(1));
        for (term, value) in [
            (Term::Compute, self.compute_seconds_per_token * input_tokens * groups),
            (Term::ExpertCompute, self.expert_compute_seconds_per_token * input_tokens),
            (Term::Attention, self.prompt_attention_seconds(input_tokens) * groups),
            (Term::Communication, self.communication_seconds_per_token * input_tokens * groups),
            (Term::ExpertCommunication, self.communication_seconds_per_token * input_tokens * groups * is_mixture),
            (Term::Token, input_tokens),
        ] {
            terms[term as usize] = value;
        }
        terms
    }

    /// Share of the routed experts that the mean iteration reads: those that the decoded tokens choose, and
    /// those of a whole prompt in the iterations that compute one. The tokens of prompts are not spread evenly:
    /// most iterations of a small batch have none.
    fn experts_read(&self, load: &Load) -> f64 {
        if self.left_out == 0.0 {
            return 1.0;
        }
        let read = |tokens: f64| 1.0 - self.left_out.powf(tokens);
        let with_prompt = load.prompts().min(1.0);
        let decoded = read(load.batch);
        decoded + with_prompt * (read(load.input_tokens.max(load.batch)) - decoded)
    }

    /// Time to read the routed experts that no token leaves out, and the share that one token leaves out.
    pub fn experts(&self) -> (f64, f64) {
        (self.experts_seconds, self.left_out)
    }

    pub fn weights_seconds(&self) -> f64 {
        self.weights_seconds
    }

    /// Reading one request's cache of so many tokens, spread over the groups.
    pub fn kv_seconds_per_request(&self, context: f64) -> f64 {
        let data = f64::from(self.parallel.attention_data.max(1));
        self.architecture.kv_read_bytes_each(context, self.kv_format, &self.parallel) / (self.bandwidth * data)
    }

    pub fn prompt_attention_seconds(&self, input_tokens: f64) -> f64 {
        self.architecture.prompt_attention_flops(0.0, input_tokens) / (self.attention_flops * self.accelerators)
    }

    pub fn decode_attention_seconds(&self, context: f64) -> f64 {
        self.architecture.decode_attention_flops(context) / (self.attention_flops * self.accelerators)
    }
}

/// Counts of the overheads that every iteration has: [`Term::OF_ENGINE`].
fn overheads(architecture: &Architecture, stage: f64) -> [f64; 6] {
    let layers = f64::from(architecture.layers);
    let expert = architecture.mixture.map_or(0.0, |m| f64::from(m.layers));
    let is_latent = |kind: &AttentionKind| matches!(kind, AttentionKind::Latent { .. });
    let latent: u32 = architecture.attention.iter().filter(|g| is_latent(&g.kind)).map(|g| g.layers).sum();
    let shared = if architecture.parameters.shared_experts > 0.0 { expert } else { 0.0 };
    let split = if stage > 1.0 { layers } else { 0.0 };
    [layers, split, layers * (stage.log2() - 1.0).max(0.0), expert, f64::from(latent), shared]
}
