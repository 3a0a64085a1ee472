//! Activation functions by name.

use serde::{Deserialize, Serialize};

/// Activation functions, by their names in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Activation {
    /// x·Φ(x), exactly.
    #[serde(rename = "gelu", alias = "gelu_python")]
    Gelu,
    /// The tanh approximation of GELU.
    #[serde(
        rename = "gelu_new",
        alias = "gelu_pytorch_tanh",
        alias = "gelu_python_tanh",
        alias = "gelu_fast",
        alias = "gelu_accurate"
    )]
    GeluTanh,
    /// x·σ(1.702 x).
    #[serde(rename = "quick_gelu")]
    QuickGelu,
    /// max(0, x).
    #[serde(rename = "relu")]
    Relu,
    /// x·σ(x).
    #[serde(rename = "silu", alias = "swish")]
    Silu,
    /// tanh(x).
    #[serde(rename = "tanh")]
    Tanh,
}
