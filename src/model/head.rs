//! The head: from one hidden state of a text to its outputs.

use tch::Tensor;

use super::config::{Activation, EncoderType};
use super::layers::{dropout, Form, Linear};
use super::weights::Weights;
use super::ModelConfig;
use crate::torch::compute_kind;
use crate::Result;

/// Linear layers as each family's sequence classification has them; never in half precision.
pub(super) struct Head {
    /// Dropout on the hidden state.
    first_dropout: f64,
    dense: Option<(Linear, Activation)>,
    /// Dropout before the last layer.
    dropout: f64,
    out: Linear,
}

impl Head {
    pub fn new(config: &ModelConfig, w: &mut Weights) -> Result<Head> {
        let (width, std) = (config.hidden_size(), config.initializer_range());
        let outputs = config.num_labels();
        let mut linear =
            |name: &str, outputs: i64, form| Linear::new(w, name, width, outputs, std, form);
        let ModelConfig::Encoder(config) = config else {
            let out = linear("score", outputs, Form::Plain)?;
            return Ok(Head { first_dropout: 0.0, dense: None, dropout: 0.0, out });
        };
        let dropout = config.classifier_dropout.unwrap_or(config.hidden_dropout_prob);
        let (dense, activation, first_dropout, out) = match config.model_type {
            EncoderType::Bert => ("bert.pooler.dense", Activation::Tanh, 0.0, "classifier"),
            EncoderType::DistilBert => ("pre_classifier", Activation::Relu, 0.0, "classifier"),
            EncoderType::Roberta | EncoderType::XlmRoberta => {
                ("classifier.dense", Activation::Tanh, dropout, "classifier.out_proj")
            }
        };
        let dense = Some((linear(dense, width, Form::Biased)?, activation));
        Ok(Head { first_dropout, dense, dropout, out: linear(out, outputs, Form::Biased)? })
    }

    /// Subtracts `shift` from the outputs and divides them by `scale` from now on; gives back what is
    /// left to subtract where there is no bias.
    pub fn rescale(&self, shift: f64, scale: f64) -> Result<f64> {
        self.out.rescale(shift, scale)
    }

    /// `[texts, hidden_size]` to `[texts, outputs]`.
    pub fn forward(&self, x: Tensor, training: bool) -> Result<Tensor> {
        let mut x = dropout(x.f_to_kind(compute_kind(&x)?)?, self.first_dropout, training)?;
        if let Some((dense, activation)) = &self.dense {
            x = activation.forward(&dense.forward(&x)?)?;
        }
        self.out.forward(&dropout(x, self.dropout, training)?)
    }
}
