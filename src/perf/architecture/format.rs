//! Number formats, and how the parts of a checkpoint are stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NumberFormat {
    #[default]
    Bf16,
    Fp8,
    Int8,
    Int4,
    Nvfp4,
    Mxfp4,
}

impl NumberFormat {
    /// Every format, widest first.
    pub const ALL: [Self; 6] = [Self::Bf16, Self::Fp8, Self::Int8, Self::Nvfp4, Self::Mxfp4, Self::Int4];

    /// Bytes of one number. `int4` carries a 16-bit scale and a zero point per 128 numbers, `nvfp4` an 8-bit
    /// scale per 16, `mxfp4` one per 32; scales of 8-bit formats are below 0.1 %.
    pub fn bytes(self) -> f64 {
        match self {
            Self::Bf16 => 2.0,
            Self::Fp8 | Self::Int8 => 1.0,
            Self::Int4 => 0.5 + 2.5 / 128.0,
            Self::Nvfp4 => 0.5 + 1.0 / 16.0,
            Self::Mxfp4 => 0.5 + 1.0 / 32.0,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Nvfp4 => "nvfp4",
            Self::Mxfp4 => "mxfp4",
        }
    }

    /// Four bits per number: such checkpoints leave parts of the model wider.
    pub fn is_four_bit(self) -> bool {
        matches!(self, Self::Int4 | Self::Nvfp4 | Self::Mxfp4)
    }
}

/// How one part of a checkpoint is stored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Stored {
    /// Format of most of its numbers: it decides which arithmetic units they use.
    pub format: NumberFormat,
    /// Bytes of one number in the mean over the part, scales included.
    pub bytes: f64,
}

impl From<NumberFormat> for Stored {
    fn from(format: NumberFormat) -> Self {
        Self { format, bytes: format.bytes() }
    }
}

/// One value for each part of a model whose speed or storage differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Parts<T> {
    /// Projections of attention, of linear attention too.
    pub attention: T,
    /// Feed-forward blocks of layers without experts.
    pub dense: T,
    /// All routed experts.
    pub experts: T,
    /// Experts that every token uses.
    pub shared_experts: T,
    pub router: T,
    /// Input embedding; it is the output layer too where that is tied.
    pub embeddings: T,
    /// Output layer with weights of its own; 0 parameters when tied.
    pub output: T,
}

impl<T: Copy> Parts<T> {
    /// The values, in the order of the fields.
    pub fn values(&self) -> [T; 7] {
        [self.attention, self.dense, self.experts, self.shared_experts, self.router, self.embeddings, self.output]
    }

    /// Both values of each part make one.
    pub fn zip<U: Copy, V>(&self, other: &Parts<U>, mut f: impl FnMut(T, U) -> V) -> Parts<V> {
        Parts {
            attention: f(self.attention, other.attention),
            dense: f(self.dense, other.dense),
            experts: f(self.experts, other.experts),
            shared_experts: f(self.shared_experts, other.shared_experts),
            router: f(self.router, other.router),
            embeddings: f(self.embeddings, other.embeddings),
            output: f(self.output, other.output),
        }
    }
}

impl Parts<f64> {
    pub fn sum(&self) -> f64 {
        self.values().iter().sum()
    }
}

impl Parts<Stored> {
    /// Linear layers inside the blocks in one format; embeddings, output layer and router stay 16-bit.
    pub fn linear_layers(format: NumberFormat) -> Self {
        let (linear, wide) = (Stored::from(format), Stored::from(NumberFormat::Bf16));
        Self {
            attention: linear,
            dense: linear,
            experts: linear,
            shared_experts: linear,
            router: wide,
            embeddings: wide,
            output: wide,
        }
    }
}
