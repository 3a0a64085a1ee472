//! The layers that transformers are made of, with Hugging Face's names and initial values.

use tch::Tensor;

use super::config::Activation;
use super::weights::{Init, Weights};
use crate::Result;

/// y = x Wᵀ + b.
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub fn new(w: &mut Weights, name: &str, inputs: i64, outputs: i64, std: f64) -> Result<Linear> {
        let weight =
            w.parameter(format!("{name}.weight"), &[outputs, inputs], Init::Normal(std))?;
        let bias = w.parameter(format!("{name}.bias"), &[outputs], Init::Zeros)?;
        Ok(Linear { weight, bias })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, Some(&self.bias))?)
    }
}

/// Layer normalisation over the last dimension.
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    width: i64,
    eps: f64,
}

impl LayerNorm {
    pub fn new(w: &mut Weights, name: &str, width: i64, eps: f64) -> Result<LayerNorm> {
        let weight = w.parameter(format!("{name}.weight"), &[width], Init::Ones)?;
        let bias = w.parameter(format!("{name}.bias"), &[width], Init::Zeros)?;
        Ok(LayerNorm { weight, bias, width, eps })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        Ok(x.f_layer_norm([self.width], weight, bias, self.eps, false)?)
    }
}

/// A row of a table for each id.
pub(super) struct Embedding {
    weight: Tensor,
}

impl Embedding {
    pub fn new(w: &mut Weights, name: &str, rows: i64, width: i64, std: f64) -> Result<Embedding> {
        let weight = w.parameter(format!("{name}.weight"), &[rows, width], Init::Normal(std))?;
        Ok(Embedding { weight })
    }

    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(Tensor::f_embedding(&self.weight, ids, -1, false, false)?)
    }
}

impl Activation {
    pub(super) fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::Gelu => x.f_gelu("none")?,
            Activation::GeluTanh => x.f_gelu("tanh")?,
            Activation::Relu => x.f_relu()?,
            Activation::Silu => x.f_silu()?,
        })
    }
}

/// Zeroes a share `p` of the values and scales the rest up, in training only.
pub(super) fn dropout(x: Tensor, p: f64, training: bool) -> Result<Tensor> {
    Ok(if training && p > 0.0 { x.f_dropout(p, true)? } else { x })
}
