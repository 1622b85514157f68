//! What the weights leave for the KV cache.

use super::Deployment;

/// How an engine divides the memory of each accelerator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// Share that the engine takes (`--gpu-memory-utilization`).
    pub share: f64,
    /// Neither weights nor KV cache: runtime, graphs, activations, bytes.
    pub other_bytes: f64,
}

impl Default for Memory {
    /// What engines do unless told otherwise.
    fn default() -> Self {
        Self { share: 0.9, other_bytes: 3.5e9 }
    }
}

impl Memory {
    /// Bytes of each accelerator for the KV cache; negative when not even the weights fit.
    pub fn kv_bytes_each(&self, deployment: &Deployment) -> f64 {
        let weights = deployment.architecture.weight_bytes_each(&deployment.parallel);
        self.share * deployment.sheet.memory_bytes - self.other_bytes - weights
    }

    /// KV-cache capacity of one replica where requests hold `context` tokens on average; negative when not
    /// even the weights fit.
    pub fn kv_tokens(&self, deployment: &Deployment, context: f64) -> f64 {
        let Deployment { architecture, parallel, kv_format, .. } = deployment;
        let room = self.kv_bytes_each(deployment);
        // Each group of attention data parallelism holds the requests it serves.
        let groups = f64::from(parallel.attention_data.max(1));
        groups * room * context / architecture.kv_bytes_each(context, *kv_format, parallel)
    }
}
