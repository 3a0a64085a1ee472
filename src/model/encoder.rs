//! The body of BERT and its relatives: every token sees every other.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::attention::{Attention, Heads, Weighing};
use super::config::{EncoderConfig, EncoderType};
use super::frozen::Below;
use super::layers::{dropout, Embedding, Form, Linear, Norm};
use super::packed::{Costs, Packed};
use super::passes::{through, Stages};
use super::weights::{Init, Weights};
use crate::torch::rows;
use crate::{Error, Result, TokenBatch};

/// An encoder without its head.
pub(super) struct Encoder {
    config: EncoderConfig,
    words: Embedding,
    positions: Embedding,
    segments: Option<Embedding>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
}

/// What the parts of a layer are called, in the order of [`Layer`].
struct LayerNames {
    layers: &'static str,
    parts: [&'static str; 8],
}

impl LayerNames {
    fn of(kind: EncoderType) -> LayerNames {
        match kind {
            EncoderType::DistilBert => LayerNames {
                layers: "transformer.layer",
                parts: [
                    "attention.q_lin",
                    "attention.k_lin",
                    "attention.v_lin",
                    "attention.out_lin",
                    "sa_layer_norm",
                    "ffn.lin1",
                    "ffn.lin2",
                    "output_layer_norm",
                ],
            },
            _ => LayerNames {
                layers: "encoder.layer",
                parts: [
                    "attention.self.query",
                    "attention.self.key",
                    "attention.self.value",
                    "attention.output.dense",
                    "attention.output.LayerNorm",
                    "intermediate.dense",
                    "output.dense",
                    "output.LayerNorm",
                ],
            },
        }
    }
}

impl Encoder {
    pub fn new(config: &EncoderConfig, w: &mut Weights) -> Result<Encoder> {
        let EncoderConfig {
            hidden_size: width, initializer_range: std, layer_norm_eps: eps, ..
        } = *config;
        let (inner, prefix) = (config.intermediate_size, config.model_type.prefix());
        let mut embedding = |name: &str, rows, init| {
            Embedding::new(w, &format!("{prefix}embeddings.{name}"), rows, width, init)
        };
        let normal = Init::Normal(std);
        let words = embedding("word_embeddings", config.vocab_size, normal)?
            .with_padding(Some(config.pad_token_id));
        let sines = config.sinusoidal_positions;
        let positions = embedding(
            "position_embeddings",
            config.max_position_embeddings,
            if sines { Init::Sines } else { normal },
        )?
        .with_padding(config.padding_position());
        if sines {
            positions.freeze()?;
        }
        let segments = match config.model_type {
            EncoderType::DistilBert => None,
            _ => Some(embedding("token_type_embeddings", config.type_vocab_size, normal)?),
        };
        let norm = Norm::layer(w, &format!("{prefix}embeddings.LayerNorm"), width, eps)?;
        let names = LayerNames::of(config.model_type);
        let layers = (0..config.num_hidden_layers)
            .map(|number| {
                let [query, key, value, attention, attention_norm, first, second, output_norm] =
                    names.parts.map(|part| format!("{prefix}{}.{number}.{part}", names.layers));
                let mut linear = |name: String, inputs: i64, outputs: i64| {
                    Linear::new(w, &name, inputs, outputs, std, Form::Biased)
                };
                Ok(Layer {
                    query: linear(query, width, width)?,
                    key: linear(key, width, width)?,
                    value: linear(value, width, width)?,
                    attention_output: linear(attention, width, width)?,
                    attention_norm: Norm::layer(w, &attention_norm, width, eps)?,
                    intermediate: Linear::new(w, &first, width, inner, std, Form::Biased)?,
                    output: Linear::new(w, &second, inner, width, std, Form::Biased)?,
                    output_norm: Norm::layer(w, &output_norm, width, eps)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Encoder { config: config.clone(), words, positions, segments, norm, layers })
    }

    /// Whether segment ids fit.
    pub fn check(&self, batch: &TokenBatch) -> Result<()> {
        let segments = self.config.type_vocab_size;
        if self.segments.is_some() {
            if let Some(segment) = batch.segments().iter().find(|&&s| i64::from(s) >= segments) {
                return Err(Error::InvalidArgument(format!(
                    "segment id {segment}: the model has {segments} segments"
                )));
            }
        }
        Ok(())
    }

    /// The last hidden states: `[tokens, hidden_size]`, in the order of the batch.
    pub fn hidden(
        &self,
        batch: &Packed,
        tokens: &TokenBatch,
        kind: Kind,
        training: bool,
    ) -> Result<Tensor> {
        let walk = self.walk(batch, tokens, None, kind, training)?;
        batch.in_order(through(&walk, 0..self.layers.len())?)
    }

    /// What the first `layers` layers give, without dropout: `[tokens, hidden_size]`, in the order of
    /// the batch.
    pub fn below(
        &self,
        layers: usize,
        batch: &Packed,
        tokens: &TokenBatch,
        kind: Kind,
    ) -> Result<Tensor> {
        batch.in_order(through(&self.walk(batch, tokens, None, kind, false)?, 0..layers)?)
    }

    /// A batch on its way through the layers, from the first or from what is known `below`. What is
    /// read is each text's first token.
    pub fn walk<'a>(
        &'a self,
        batch: &'a Packed,
        tokens: &'a TokenBatch,
        below: Option<&'a Below<'a>>,
        kind: Kind,
        training: bool,
    ) -> Result<Walk<'a>> {
        let masks = batch.attention.masks(None, kind)?;
        Ok(Walk { encoder: self, batch, tokens, below, masks, kind, training })
    }

    fn embedded(
        &self,
        batch: &Packed,
        tokens: &TokenBatch,
        kind: Kind,
        training: bool,
    ) -> Result<Tensor> {
        let x = self.words.forward(&batch.ids)?;
        let x = match &self.segments {
            Some(segments) => {
                let of_tokens: Vec<i64> = tokens.segments().iter().map(|&s| s.into()).collect();
                x.f_add(&segments.forward(&batch.upload(&of_tokens)?)?)?
            }
            None => x,
        };
        let positions = match self.config.padding_position() {
            None => batch.positions.shallow_clone(),
            Some(pad) => batch.upload(&counted_positions(tokens, pad))?,
        };
        let x = x.f_add(&self.positions.forward(&positions)?)?;
        let x = self.norm.forward(&x)?.f_to_kind(kind)?;
        dropout(x, self.config.hidden_dropout_prob, training)
    }

    /// What the tokens of `queries` see of all tokens `x`.
    fn attention(
        &self,
        layer: &Layer,
        (queries, x): (&Tensor, &Tensor),
        (attention, masks): (&Attention, &[Option<Tensor>]),
        training: bool,
    ) -> Result<Tensor> {
        let heads = self.config.num_attention_heads;
        let heads = Heads { queries: heads, keys: heads };
        let dropout = if training { self.config.attention_probs_dropout_prob } else { 0.0 };
        let (q, k) = (layer.query.forward(queries)?, layer.key.forward(x)?);
        let v = layer.value.forward(x)?;
        attention.attend(&q, &k, &v, heads, masks, Weighing { scale: None, dropout })
    }

    /// What follows attention: its output and the inner layers, each added to what comes in.
    fn residual(&self, layer: &Layer, x: &Tensor, seen: &Tensor, training: bool) -> Result<Tensor> {
        let drop = |x: Tensor| dropout(x, self.config.hidden_dropout_prob, training);
        let seen = layer.attention_output.forward(seen)?;
        // DistilBERT drops attention weights only.
        let seen = match self.config.model_type {
            EncoderType::DistilBert => seen,
            _ => drop(seen)?,
        };
        let x = layer.attention_norm.forward(&x.f_add(&seen)?)?;
        let inner = self.config.hidden_act.forward(&layer.intermediate.forward(&x)?)?;
        let inner = drop(layer.output.forward(&inner)?)?;
        layer.output_norm.forward(&x.f_add(&inner)?)
    }

    /// Estimates for one of the layers.
    pub fn costs(&self, device: Device) -> Costs {
        let (width, inner) = (self.config.hidden_size, self.config.intermediate_size);
        Costs::new(width * (4 * width + 2 * inner), width, width, device)
    }

    /// The table of token embeddings: `[vocab_size, hidden_size]`.
    pub fn token_embeddings(&self) -> &Tensor {
        self.words.table()
    }
}

/// See [`Encoder::walk`].
pub(super) struct Walk<'a> {
    encoder: &'a Encoder,
    batch: &'a Packed,
    tokens: &'a TokenBatch,
    below: Option<&'a Below<'a>>,
    masks: Vec<Option<Tensor>>,
    kind: Kind,
    training: bool,
}

impl Stages for Walk<'_> {
    fn layers(&self) -> Range<usize> {
        self.below.map_or(0, |below| below.layers)..self.encoder.layers.len() - 1
    }

    fn input(&self) -> Result<Tensor> {
        match self.below {
            Some(below) => Ok(below.of(self.batch)?.f_to_kind(self.kind)?),
            None => self.encoder.embedded(self.batch, self.tokens, self.kind, self.training),
        }
    }

    fn layer(&self, number: usize, x: Tensor) -> Result<Tensor> {
        let (encoder, layer) = (self.encoder, &self.encoder.layers[number]);
        let attention = (&self.batch.attention, &self.masks[..]);
        let seen = encoder.attention(layer, (&x, &x), attention, self.training)?;
        encoder.residual(layer, &x, &seen, self.training)
    }

    fn scored(&self, x: &Tensor) -> Result<Tensor> {
        let (encoder, scored) = (self.encoder, self.batch.scored()?);
        let last = &encoder.layers[encoder.layers.len() - 1];
        let queries = rows(x, &scored.queries)?;
        let masks = scored.attention.masks(None, self.kind)?;
        let attention = (&scored.attention, &masks[..]);
        let seen = encoder.attention(last, (&queries, x), attention, self.training)?;
        scored.in_order(encoder.residual(last, &queries, &seen, self.training)?)
    }
}

/// RoBERTa's positions: tokens that are the pad token, wherever they stand, have that token's id as
/// their position, and the others the numbers after it.
fn counted_positions(batch: &TokenBatch, pad: i64) -> Vec<i64> {
    let mut positions = Vec::with_capacity(batch.tokens());
    for text in 0..batch.texts() {
        let mut next = pad + 1;
        for &id in batch.text(text) {
            if i64::from(id) == pad {
                positions.push(pad);
            } else {
                positions.push(next);
                next += 1;
            }
        }
    }
    positions
}
