//! How a replica's accelerators share a model.

use serde::Serialize;

/// Degrees of parallelism of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Parallelism {
    /// Accelerators among which each attention layer is divided (`--tensor-parallel-size`).
    pub tensor: u32,
    /// Stages of layers (`--pipeline-parallel-size`).
    pub pipeline: u32,
    /// Groups of `tensor` accelerators that each attend to requests of their own (`--data-parallel-size`,
    /// attention data parallelism): everything but the routed experts is copied.
    pub attention_data: u32,
    /// Accelerators among which whole experts are distributed (`--enable-expert-parallel`); 1 = each expert
    /// is divided like a dense block. It moves no memory, only messages.
    pub experts: u32,
}

impl Parallelism {
    /// Tensor parallelism alone.
    pub fn tensor(accelerators: u32) -> Self {
        Self { tensor: accelerators, pipeline: 1, attention_data: 1, experts: 1 }
    }

    /// Accelerators of one replica.
    pub fn accelerators(&self) -> u32 {
        self.tensor.saturating_mul(self.pipeline).saturating_mul(self.attention_data)
    }
}
