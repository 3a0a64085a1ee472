//! The body of GPT-2, Llama and its relatives: every token sees those before it and itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::attention::{Attention, Heads, Weighing};
use super::config::{DecoderConfig, DecoderType};
use super::frozen::Below;
use super::layers::{dropout, Embedding, Form, Linear, Norm};
use super::packed::{Costs, Packed, Scored};
use super::passes::{through, Stages};
use super::rotation::Rotation;
use super::weights::{Init, Weights};
use crate::torch::rows;
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

/// Keys and values of a layer, `[tokens, heads · head_dim]`, keys normed and turned.
pub(super) type KeysValues = (Tensor, Tensor);

/// What attention needs beside the hidden states, the same in all layers.
struct Context<'a> {
    batch: &'a Packed,
    rotation: Option<Rotation>,
    masks: Masks,
    /// Keys and values of tokens before those of the batch, for each layer from the first.
    memory: &'a [KeysValues],
    /// The first layer that is computed.
    first: usize,
    training: bool,
}

/// By the window of a layer, for each group of the batch's attention.
type Masks = BTreeMap<Option<i64>, Vec<Option<Tensor>>>;

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

    /// The last hidden states: `[tokens, hidden_size]`, in the order of the batch.
    pub fn hidden(&self, batch: &Packed, kind: Kind, training: bool) -> Result<Tensor> {
        let walk = self.walk(batch, &[], None, kind, training)?;
        batch.in_order(self.norm.forward(&through(&walk, 0..self.layers.len())?)?)
    }

    /// What the first `layers` layers give, without dropout: `[tokens, hidden_size]`, in the order of
    /// the batch.
    pub fn below(&self, layers: usize, batch: &Packed, kind: Kind) -> Result<Tensor> {
        batch.in_order(through(&self.walk(batch, &[], None, kind, false)?, 0..layers)?)
    }

    /// What later tokens need to know of these, for each layer.
    pub fn keys_values(
        &self,
        batch: &Packed,
        below: Option<&Below>,
        kind: Kind,
        training: bool,
    ) -> Result<Vec<KeysValues>> {
        let walk = self.walk(batch, &[], below, kind, training)?;
        let (mut x, context) = (walk.input()?, &walk.context);
        let last = self.layers.len() - 1;
        let mut all = Vec::with_capacity(last + 1);
        for number in context.first..last {
            let seen;
            (x, seen) = self.layer(number, x, context)?;
            all.push(seen);
        }
        let layer = &self.layers[last];
        let (k, v) = layer.projections.keys_values(&layer.attention_norm.forward(&x)?)?;
        all.push((self.keys(layer, k, context)?, v));
        Ok(all)
    }

    /// A batch on its way through the layers, from the first or from what is known `below`. What is
    /// read is each text's last token. `memory` has the keys and values of the tokens that the batch
    /// leaves out, if it does.
    pub fn walk<'a>(
        &'a self,
        batch: &'a Packed,
        memory: &'a [KeysValues],
        below: Option<&'a Below<'a>>,
        kind: Kind,
        training: bool,
    ) -> Result<Walk<'a>> {
        let rotation = match self.positions {
            Some(_) => None,
            None => Some(Rotation::new(&self.config, batch)?),
        };
        let masks = self.masks(&batch.attention, kind)?;
        let first = below.map_or(0, |below| below.layers);
        let context = Context { batch, rotation, masks, memory, first, training };
        Ok(Walk { decoder: self, below, kind, context })
    }

    fn embedded(&self, batch: &Packed, kind: Kind, training: bool) -> Result<Tensor> {
        let mut x = self.words.forward(&batch.ids)?;
        if let Some(positions) = &self.positions {
            x = x.f_add(&positions.forward(&batch.positions)?)?;
        }
        dropout(x.f_to_kind(kind)?, self.config.embedding_dropout, training)
    }

    fn masks(&self, attention: &Attention, kind: Kind) -> Result<Masks> {
        let windows: BTreeSet<Option<i64>> = self.layers.iter().map(|l| l.window).collect();
        windows.into_iter().map(|window| Ok((window, attention.masks(window, kind)?))).collect()
    }

    fn layer(&self, number: usize, x: Tensor, context: &Context) -> Result<(Tensor, KeysValues)> {
        let layer = &self.layers[number];
        let (q, k, v) = layer.projections.forward(&layer.attention_norm.forward(&x)?)?;
        let q = self.queries(layer, q, context.rotation.as_ref())?;
        let own = (self.keys(layer, k, context)?, v);
        let attention = (&context.batch.attention, &context.masks);
        let seen = self.attention(number, &q, &own, attention, context)?;
        Ok((self.residual(layer, x, &seen, context.training)?, own))
    }

    /// A layer of which the hidden states of some tokens are wanted only: `[queries, hidden_size]`.
    fn scored_layer(
        &self,
        number: usize,
        x: &Tensor,
        scored: &Scored,
        context: &Context,
    ) -> Result<Tensor> {
        let layer = &self.layers[number];
        let normed = layer.attention_norm.forward(x)?;
        let (k, v) = layer.projections.keys_values(&normed)?;
        let q = layer.projections.queries(&rows(&normed, &scored.queries)?)?;
        let turn = context.rotation.as_ref().map(|all| all.of(&scored.queries)).transpose()?;
        let q = self.queries(layer, q, turn.as_ref())?;
        let own = (self.keys(layer, k, context)?, v);
        let masks = self.masks(&scored.attention, q.f_kind()?)?;
        let seen = self.attention(number, &q, &own, (&scored.attention, &masks), context)?;
        self.residual(layer, rows(x, &scored.queries)?, &seen, context.training)
    }

    fn attention(
        &self,
        number: usize,
        q: &Tensor,
        (k, v): &KeysValues,
        (attention, masks): (&Attention, &Masks),
        context: &Context,
    ) -> Result<Tensor> {
        let heads =
            Heads { queries: self.config.num_attention_heads, keys: self.config.key_value_heads() };
        let layer = &self.layers[number];
        let dropout = if context.training { self.config.attention_dropout } else { 0.0 };
        let weighing = Weighing { scale: Some(layer.scale), dropout };
        let masks = masks.get(&layer.window).map_or(&[][..], Vec::as_slice);
        match context.memory.get(number - context.first) {
            None => attention.attend(q, k, v, heads, masks, weighing),
            Some((before_k, before_v)) => {
                let (k, v) = (Tensor::f_cat(&[before_k, k], 0)?, Tensor::f_cat(&[before_v, v], 0)?);
                attention.attend(q, &k, &v, heads, masks, weighing)
            }
        }
    }

    /// What follows attention: its output and the inner layers, each added to what comes in.
    fn residual(&self, layer: &Layer, x: Tensor, seen: &Tensor, training: bool) -> Result<Tensor> {
        let drop = |x: Tensor| dropout(x, self.config.residual_dropout, training);
        let x = x.f_add(&drop(layer.attention_output.forward(seen)?)?)?;
        let inner = layer.inner_norm.forward(&x)?;
        let up = layer.up.forward(&inner)?;
        let act = self.config.hidden_act;
        let inner = match &layer.gate {
            Some(gate) => act.forward(&gate.forward(&inner)?)?.f_mul(&up)?,
            None => act.forward(&up)?,
        };
        Ok(x.f_add(&drop(layer.down.forward(&inner)?)?)?)
    }

    fn queries(&self, layer: &Layer, q: Tensor, turn: Option<&Rotation>) -> Result<Tensor> {
        self.turned(q, layer.head_norms.as_ref().map(|(q, _)| q), turn)
    }

    fn keys(&self, layer: &Layer, k: Tensor, context: &Context) -> Result<Tensor> {
        let norm = layer.head_norms.as_ref().map(|(_, k)| k);
        self.turned(k, norm, context.rotation.as_ref())
    }

    /// Queries or keys, `[tokens, heads · head_dim]`, with each head normed and turned.
    fn turned(&self, x: Tensor, norm: Option<&Norm>, turn: Option<&Rotation>) -> Result<Tensor> {
        if norm.is_none() && turn.is_none() {
            return Ok(x);
        }
        let (flat, dim) = (x.size(), self.config.head_dim());
        let mut x = x.f_view([flat[0], -1, dim])?;
        if let Some(norm) = norm {
            x = norm.forward(&x)?;
        }
        if let Some(turn) = turn {
            x = turn.forward(&x)?;
        }
        Ok(x.f_reshape(flat)?)
    }

    /// Whether texts may share the tokens that they begin with: whether what a token gives its
    /// successors is the same in texts of other lengths.
    pub fn can_share(&self) -> bool {
        self.positions.is_some() || !self.config.rope.depends_on_length()
    }

    /// Estimates for one of the layers.
    pub fn costs(&self, device: Device) -> Costs {
        let config = &self.config;
        let queries = config.num_attention_heads * config.head_dim();
        let keys = config.key_value_heads() * config.head_dim();
        let inner = if config.model_type == DecoderType::Gpt2 { 2 } else { 3 };
        let weights = config.hidden_size * (2 * queries + 2 * keys + inner * config.inner_size());
        Costs::new(weights, queries, keys, device)
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

/// See [`Decoder::walk`].
pub(super) struct Walk<'a> {
    decoder: &'a Decoder,
    below: Option<&'a Below<'a>>,
    kind: Kind,
    context: Context<'a>,
}

impl Stages for Walk<'_> {
    fn layers(&self) -> Range<usize> {
        self.context.first..self.decoder.layers.len() - 1
    }

    fn input(&self) -> Result<Tensor> {
        let Context { batch, training, .. } = self.context;
        match self.below {
            Some(below) => Ok(below.of(batch)?.f_to_kind(self.kind)?),
            None => self.decoder.embedded(batch, self.kind, training),
        }
    }

    fn layer(&self, number: usize, x: Tensor) -> Result<Tensor> {
        Ok(self.decoder.layer(number, x, &self.context)?.0)
    }

    fn scored(&self, x: &Tensor) -> Result<Tensor> {
        let (decoder, scored) = (self.decoder, self.context.batch.scored()?);
        let last = decoder.layers.len() - 1;
        let x = decoder.scored_layer(last, x, &scored, &self.context)?;
        scored.in_order(decoder.norm.forward(&x)?)
    }
}

impl Projections {
    fn forward(&self, x: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        match self {
            Projections::Fused(all) => {
                let each = all.forward(x)?;
                let parts = each.f_split(each.size()[1] / 3, -1)?;
                match <[Tensor; 3]>::try_from(parts) {
                    Ok([q, k, v]) => Ok((q, k, v)),
                    Err(_) => Err(tch::TchError::Shape("three projections".into()).into()),
                }
            }
            Projections::Apart { query, key, value } => {
                Ok((query.forward(x)?, key.forward(x)?, value.forward(x)?))
            }
        }
    }

    fn queries(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Projections::Fused(all) => all.forward_part(x, 0, 3),
            Projections::Apart { query, .. } => query.forward(x),
        }
    }

    fn keys_values(&self, x: &Tensor) -> Result<KeysValues> {
        match self {
            Projections::Fused(all) => Ok((all.forward_part(x, 1, 3)?, all.forward_part(x, 2, 3)?)),
            Projections::Apart { key, value, .. } => Ok((key.forward(x)?, value.forward(x)?)),
        }
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
