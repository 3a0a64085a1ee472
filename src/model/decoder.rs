//! The body of GPT-2, Llama and its relatives: every token sees those before it and itself.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::config::{DecoderConfig, DecoderType};
use super::layers::{dropout, Embedding, Form, Linear, Norm};
use super::packed::Packed;
use super::weights::{Init, Weights};
use crate::torch::upload;
use crate::Result;

/// A decoder without its head.
pub(super) struct Decoder {
    config: DecoderConfig,
    words: Embedding,
    /// A table of positions, where positions are not rotations.
    positions: Option<Embedding>,
    layers: Vec<Layer>,
    norm: Norm,
}

struct Layer {
    attention_norm: Norm,
    projections: Projections,
    /// Norms of each head's queries and keys.
    head_norms: Option<(Norm, Norm)>,
    attention_output: Linear,
    inner_norm: Norm,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    window: Option<i64>,
    /// What scores are multiplied with before the softmax.
    scale: f64,
}

/// How queries, keys and values come about.
enum Projections {
    Fused(Linear),
    Apart { query: Linear, key: Linear, value: Linear },
}

/// What attention needs beside the hidden states, the same in all layers.
struct Context<'a> {
    batch: &'a Packed,
    /// Cosines and sines, `[tokens, 1, head_dim]`.
    rotation: Option<(Tensor, Tensor)>,
    masks: BTreeMap<i64, Option<Tensor>>,
    training: bool,
}

impl Decoder {
    pub fn new(config: &DecoderConfig, w: &mut Weights) -> Result<Decoder> {
        let gpt2 = config.model_type == DecoderType::Gpt2;
        let (width, std, prefix) =
            (config.hidden_size, config.initializer_range, config.model_type.prefix());
        let name = |ours: &str| format!("{prefix}{ours}");
        let words = if gpt2 { "wte" } else { "embed_tokens" };
        let normal = Init::Normal(std);
        let words = Embedding::new(w, &name(words), config.vocab_size, width, normal)?
            .with_padding(config.padding_row());
        let positions = if gpt2 {
            let rows = config.max_position_embeddings;
            Some(Embedding::new(w, &name("wpe"), rows, width, normal)?)
        } else {
            None
        };
        let layers = (0..config.num_hidden_layers).map(|number| {
            if gpt2 {
                Layer::gpt2(config, w, &name(&format!("h.{number}")), number)
            } else {
                Layer::llama(config, w, &name(&format!("layers.{number}")), number)
            }
        });
        let layers = layers.collect::<Result<_>>()?;
        let norm = if gpt2 {
            Norm::layer(w, &name("ln_f"), width, config.norm_eps)?
        } else {
            Norm::rms(w, &name("norm"), width, config.norm_eps)?
        };
        Ok(Decoder { config: config.clone(), words, positions, layers, norm })
    }

    /// The last hidden states: `[tokens, hidden_size]`.
    pub fn forward(&self, batch: &Packed, kind: Kind, training: bool) -> Result<Tensor> {
        let mut x = self.words.forward(&batch.ids)?;
        if let Some(positions) = &self.positions {
            x = x.f_add(&positions.forward(&batch.positions)?)?;
        }
        x = dropout(x.f_to_kind(kind)?, self.config.embedding_dropout, training)?;
        let rotation = match self.positions {
            Some(_) => None,
            None => Some(self.rotation(batch)?),
        };
        let windows = self.layers.iter().filter_map(|layer| layer.window);
        let masks = windows.map(|w| Ok((w, batch.window_mask(w)?))).collect::<Result<_>>()?;
        let context = Context { batch, rotation, masks, training };
        for layer in &self.layers {
            x = self.layer(layer, x, &context)?;
        }
        self.norm.forward(&x)
    }

    fn layer(&self, layer: &Layer, x: Tensor, context: &Context) -> Result<Tensor> {
        let drop = |x: Tensor| dropout(x, self.config.residual_dropout, context.training);
        let seen = self.attention(layer, &layer.attention_norm.forward(&x)?, context)?;
        let x = x.f_add(&drop(seen)?)?;
        let inner = layer.inner_norm.forward(&x)?;
        let up = layer.up.forward(&inner)?;
        let act = self.config.hidden_act;
        let inner = match &layer.gate {
            Some(gate) => act.forward(&gate.forward(&inner)?)?.f_mul(&up)?,
            None => act.forward(&up)?,
        };
        Ok(x.f_add(&drop(layer.down.forward(&inner)?)?)?)
    }

    fn attention(&self, layer: &Layer, x: &Tensor, context: &Context) -> Result<Tensor> {
        let (heads, groups) = (self.config.num_attention_heads, self.config.key_value_heads());
        let (q, k, v) = match &layer.projections {
            Projections::Fused(all) => {
                let parts = all.forward(x)?.f_split(self.config.hidden_size, -1)?;
                match <[Tensor; 3]>::try_from(parts) {
                    Ok([q, k, v]) => (q, k, v),
                    Err(_) => return Err(tch::TchError::Shape("three projections".into()).into()),
                }
            }
            Projections::Apart { query, key, value } => {
                (query.forward(x)?, key.forward(x)?, value.forward(x)?)
            }
        };
        let (q_norm, k_norm) = match &layer.head_norms {
            Some((q, k)) => (Some(q), Some(k)),
            None => (None, None),
        };
        let batch = context.batch;
        let q = batch.pad(&self.turned(q, q_norm, context)?, heads)?;
        let k = self.shared(batch.pad(&self.turned(k, k_norm, context)?, groups)?)?;
        let v = self.shared(batch.pad(&v, groups)?)?;
        let p = if context.training { self.config.attention_dropout } else { 0.0 };
        let mask = layer.window.and_then(|window| context.masks.get(&window)?.as_ref());
        let seen = Tensor::f_scaled_dot_product_attention(
            &q,
            &k,
            &v,
            mask,
            p,
            mask.is_none(),
            layer.scale,
            false,
        )?;
        layer.attention_output.forward(&batch.unpad(&seen)?)
    }

    /// Queries or keys, `[tokens, heads · head_dim]`, with each head normed and turned.
    fn turned(&self, x: Tensor, norm: Option<&Norm>, context: &Context) -> Result<Tensor> {
        if norm.is_none() && context.rotation.is_none() {
            return Ok(x);
        }
        let (flat, dim) = (x.size(), self.config.head_dim());
        let mut x = x.f_view([flat[0], -1, dim])?;
        if let Some(norm) = norm {
            x = norm.forward(&x)?;
        }
        if let Some((cos, sin)) = &context.rotation {
            let kind = x.f_kind()?;
            let halves = x.f_to_kind(Kind::Float)?;
            let (a, b) = (halves.f_narrow(-1, 0, dim / 2)?, halves.f_narrow(-1, dim / 2, dim / 2)?);
            let across = Tensor::f_cat(&[b.f_neg()?, a], -1)?;
            x = halves.f_mul(cos)?.f_add(&across.f_mul(sin)?)?.f_to_kind(kind)?;
        }
        Ok(x.f_reshape(flat)?)
    }

    /// Keys or values `[texts, groups, longest, d]` as every head of queries sees them.
    fn shared(&self, x: Tensor) -> Result<Tensor> {
        let heads = self.config.num_attention_heads / self.config.key_value_heads();
        if heads == 1 {
            return Ok(x);
        }
        let size = x.size();
        let each =
            x.f_unsqueeze(2)?.f_expand([size[0], size[1], heads, size[2], size[3]], false)?;
        Ok(each.f_reshape([size[0], size[1] * heads, size[2], size[3]])?)
    }

    /// Cosines and sines of each token's angles.
    fn rotation(&self, batch: &Packed) -> Result<(Tensor, Tensor)> {
        let (rope, dim) = (&self.config.rope, self.config.head_dim());
        let device = batch.ids.device();
        let frequencies =
            |length| rope.frequencies(dim, length, self.config.max_position_embeddings);
        let turns = if rope.depends_on_length() {
            let all: Vec<f32> = batch.lengths.iter().flat_map(|&n| frequencies(n)).collect();
            let by_text = upload(&all, device)?.f_view([-1, dim / 2])?;
            by_text.f_index_select(0, &batch.text_of_token()?)?
        } else {
            upload(&frequencies(0), device)?.f_view([1, dim / 2])?
        };
        let angles = batch.positions.f_to_kind(Kind::Float)?.f_unsqueeze(1)?.f_mul(&turns)?;
        let angles = Tensor::f_cat(&[&angles, &angles], 1)?.f_unsqueeze(1)?;
        let amplitude = rope.amplitude();
        Ok((angles.f_cos()?.f_mul_scalar(amplitude)?, angles.f_sin()?.f_mul_scalar(amplitude)?))
    }

    /// Whether a text can be longer than the model has positions for.
    pub fn has_position_table(&self) -> bool {
        self.positions.is_some()
    }

    /// The table of token embeddings: `[vocab_size, hidden_size]`.
    pub fn token_embeddings(&self) -> &Tensor {
        self.words.table()
    }
}

impl Layer {
    fn gpt2(config: &DecoderConfig, w: &mut Weights, name: &str, number: i64) -> Result<Layer> {
        let (width, inner, eps) = (config.hidden_size, config.inner_size(), config.norm_eps);
        // Outputs that are added to the residual stream start smaller, by depth.
        let std = config.initializer_range;
        let deep = std / (2.0 * config.num_hidden_layers as f64).sqrt();
        let attention_norm = Norm::layer(w, &format!("{name}.ln_1"), width, eps)?;
        let inner_norm = Norm::layer(w, &format!("{name}.ln_2"), width, eps)?;
        let mut linear = |part: &str, inputs: i64, outputs: i64, std: f64| {
            Linear::new(w, &format!("{name}.{part}"), inputs, outputs, std, Form::Conv1d)
        };
        let root = (config.head_dim() as f64).sqrt();
        let by_head = if config.scale_attn_weights { root } else { 1.0 };
        let by_layer =
            if config.scale_attn_by_inverse_layer_idx { (number + 1) as f64 } else { 1.0 };
        Ok(Layer {
            attention_norm,
            projections: Projections::Fused(linear("attn.c_attn", width, 3 * width, std)?),
            head_norms: None,
            attention_output: linear("attn.c_proj", width, width, deep)?,
            inner_norm,
            gate: None,
            up: linear("mlp.c_fc", width, inner, std)?,
            down: linear("mlp.c_proj", inner, width, deep)?,
            window: None,
            scale: 1.0 / (by_head * by_layer),
        })
    }

    fn llama(config: &DecoderConfig, w: &mut Weights, name: &str, number: i64) -> Result<Layer> {
        let (width, inner, eps) = (config.hidden_size, config.inner_size(), config.norm_eps);
        let (dim, std) = (config.head_dim(), config.initializer_range);
        let (queries, keys) = (config.num_attention_heads * dim, config.key_value_heads() * dim);
        let norm = |w: &mut Weights, part: &str, width| {
            Norm::rms(w, &format!("{name}.{part}"), width, eps)
        };
        let attention_norm = norm(w, "input_layernorm", width)?;
        let inner_norm = norm(w, "post_attention_layernorm", width)?;
        let head_norms = if config.model_type == DecoderType::Qwen3 {
            Some((norm(w, "self_attn.q_norm", dim)?, norm(w, "self_attn.k_norm", dim)?))
        } else {
            None
        };
        let mut linear = |part: &str, inputs: i64, outputs: i64, bias: bool| {
            let name = format!("{name}.{part}");
            Linear::new(w, &name, inputs, outputs, std, Form::with_bias(bias))
        };
        let bias = config.attention_bias || config.model_type == DecoderType::Qwen2;
        Ok(Layer {
            attention_norm,
            projections: Projections::Apart {
                query: linear("self_attn.q_proj", width, queries, bias)?,
                key: linear("self_attn.k_proj", width, keys, bias)?,
                value: linear("self_attn.v_proj", width, keys, bias)?,
            },
            head_norms,
            attention_output: linear("self_attn.o_proj", queries, width, config.attention_bias)?,
            inner_norm,
            gate: Some(linear("mlp.gate_proj", width, inner, config.mlp_bias)?),
            up: linear("mlp.up_proj", width, inner, config.mlp_bias)?,
            down: linear("mlp.down_proj", inner, width, config.mlp_bias)?,
            window: config.window(number),
            scale: 1.0 / (dim as f64).sqrt(),
        })
    }
}
