//! The layers that transformers are made of, with Hugging Face's names and initial values.
//!
//! Parameters are f32. What comes in in another dtype is multiplied in that dtype and goes out in
//! it; norms are computed in f32 all the same.

use tch::Tensor;

use super::config::Activation;
use super::weights::{Init, Weights};
use crate::torch::compute_kind;
use crate::Result;

/// y = x Wᵀ + b.
pub(super) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    /// Whether the weight is `[inputs, outputs]`, as GPT-2 has it.
    transposed: bool,
}

/// What a [`Linear`] looks like on disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `[outputs, inputs]` and a bias.
    Biased,
    /// `[outputs, inputs]`.
    Plain,
    /// `[inputs, outputs]` and a bias.
    Conv1d,
}

impl Form {
    pub fn with_bias(bias: bool) -> Form {
        if bias {
            Form::Biased
        } else {
            Form::Plain
        }
    }
}

impl Linear {
    pub fn new(
        w: &mut Weights,
        name: &str,
        inputs: i64,
        outputs: i64,
        std: f64,
        form: Form,
    ) -> Result<Linear> {
        let transposed = form == Form::Conv1d;
        let shape = if transposed { [inputs, outputs] } else { [outputs, inputs] };
        let weight = w.parameter(format!("{name}.weight"), &shape, Init::Normal(std))?;
        let bias = match form {
            Form::Plain => None,
            _ => Some(w.parameter(format!("{name}.bias"), &[outputs], Init::Zeros)?),
        };
        Ok(Linear { weight, bias, transposed })
    }

    /// Makes it y = (x Wᵀ + b − `shift`) / `scale` from now on; without a bias, all of that but the
    /// shift, which is then given back as what is left to subtract.
    pub fn rescale(&self, shift: f64, scale: f64) -> Result<f64> {
        let _no_grad = tch::no_grad_guard();
        let _ = self.weight.shallow_clone().f_div_scalar_(scale)?;
        match &self.bias {
            Some(bias) => {
                let _ = bias.shallow_clone().f_sub_scalar_(shift)?.f_div_scalar_(scale)?;
                Ok(0.0)
            }
            None => Ok(shift / scale),
        }
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let weight = cast(&self.weight, x)?;
        let weight = if self.transposed { weight.f_transpose(0, 1)? } else { weight };
        let bias = self.bias.as_ref().map(|bias| cast(bias, x)).transpose()?;
        Ok(x.f_linear(&weight, bias.as_ref())?)
    }

    /// The outputs of one of `parts` equal parts.
    pub fn forward_part(&self, x: &Tensor, part: i64, parts: i64) -> Result<Tensor> {
        let dim = i64::from(self.transposed);
        let outputs = self.weight.size()[dim as usize] / parts;
        let weight = cast(&self.weight.f_narrow(dim, part * outputs, outputs)?, x)?;
        let weight = if self.transposed { weight.f_transpose(0, 1)? } else { weight };
        let bias = match &self.bias {
            Some(bias) => Some(cast(&bias.f_narrow(0, part * outputs, outputs)?, x)?),
            None => None,
        };
        Ok(x.f_linear(&weight, bias.as_ref())?)
    }
}

/// `parameter` in the dtype of `x`.
fn cast(parameter: &Tensor, x: &Tensor) -> Result<Tensor> {
    let kind = x.f_kind()?;
    Ok(if parameter.f_kind()? == kind {
        parameter.shallow_clone()
    } else {
        parameter.f_to_kind(kind)?
    })
}

/// Normalisation over the last dimension: by mean and variance with a bias (Ba et al. 2016), or by
/// the root mean square without (Zhang & Sennrich 2019).
pub(super) struct Norm {
    weight: Tensor,
    bias: Option<Tensor>,
    width: i64,
    eps: f64,
}

impl Norm {
    pub fn layer(w: &mut Weights, name: &str, width: i64, eps: f64) -> Result<Norm> {
        let weight = w.parameter(format!("{name}.weight"), &[width], Init::Ones)?;
        let bias = w.parameter(format!("{name}.bias"), &[width], Init::Zeros)?;
        Ok(Norm { weight, bias: Some(bias), width, eps })
    }

    pub fn rms(w: &mut Weights, name: &str, width: i64, eps: f64) -> Result<Norm> {
        let weight = w.parameter(format!("{name}.weight"), &[width], Init::Ones)?;
        Ok(Norm { weight, bias: None, width, eps })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let kind = x.f_kind()?;
        let x = x.f_to_kind(compute_kind(x)?)?;
        let normed = match &self.bias {
            Some(bias) => {
                let (weight, bias) = (Some(&self.weight), Some(bias));
                x.f_layer_norm([self.width], weight, bias, self.eps, false)?
            }
            None => x.f_rms_norm([self.width], Some(&self.weight), self.eps)?,
        };
        Ok(normed.f_to_kind(kind)?)
    }
}

/// A row of a table for each id.
pub(super) struct Embedding {
    weight: Tensor,
    /// A row that is not trained; -1 is none.
    padding: i64,
}

impl Embedding {
    pub fn new(
        w: &mut Weights,
        name: &str,
        rows: i64,
        width: i64,
        init: Init,
    ) -> Result<Embedding> {
        let weight = w.parameter(format!("{name}.weight"), &[rows, width], init)?;
        Ok(Embedding { weight, padding: -1 })
    }

    /// The same, with a row that is looked up like any other and gets no gradient, as Python has it
    /// for the pad token's.
    pub fn with_padding(self, row: Option<i64>) -> Embedding {
        Embedding { padding: row.unwrap_or(-1), ..self }
    }

    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(Tensor::f_embedding(&self.weight, ids, self.padding, false, false)?)
    }

    /// Leaves the table as it is in training.
    pub fn freeze(&self) -> Result<()> {
        let _ = self.weight.f_set_requires_grad(false)?;
        Ok(())
    }

    /// The table: `[rows, width]`.
    pub fn table(&self) -> &Tensor {
        &self.weight
    }
}

impl Activation {
    pub(super) fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::Gelu => x.f_gelu("none")?,
            Activation::GeluTanh => x.f_gelu("tanh")?,
            Activation::QuickGelu => x.f_mul(&x.f_mul_scalar(1.702)?.f_sigmoid()?)?,
            Activation::Relu => x.f_relu()?,
            Activation::Silu => x.f_silu()?,
            Activation::Tanh => x.f_tanh()?,
        })
    }
}

/// Zeroes a share `p` of the values and scales the rest up, in training only.
pub(super) fn dropout(x: Tensor, p: f64, training: bool) -> Result<Tensor> {
    Ok(if training && p > 0.0 { x.f_dropout(p, true)? } else { x })
}
