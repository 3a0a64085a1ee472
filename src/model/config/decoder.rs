//! `config.json` of GPT-2, Llama and its relatives.

use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use super::{num_labels, only, out_of_bounds, overlay, underlay, Activation, Bounds, Fields, Rope};
use crate::Result;

/// The architectures that [`DecoderConfig`] describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DecoderType {
    /// GPT-2 (Radford et al. 2019): a table of positions, layer norms, one projection for queries,
    /// keys and values.
    Gpt2,
    /// Llama 1 to 3 (Touvron et al. 2023): rotary positions, RMS norms, a gated feed-forward layer.
    #[default]
    Llama,
    /// Mistral (Jiang et al. 2023): Llama with a sliding window.
    Mistral,
    /// Qwen2 and 2.5 (Yang et al. 2024): Llama with biases on queries, keys and values.
    Qwen2,
    /// Qwen3 (Yang et al. 2025): Llama with norms on each head's queries and keys.
    Qwen3,
}

impl DecoderType {
    pub(super) const ALL: [DecoderType; 5] = [
        DecoderType::Gpt2,
        DecoderType::Llama,
        DecoderType::Mistral,
        DecoderType::Qwen2,
        DecoderType::Qwen3,
    ];

    /// `model_type` in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            DecoderType::Gpt2 => "gpt2",
            DecoderType::Llama => "llama",
            DecoderType::Mistral => "mistral",
            DecoderType::Qwen2 => "qwen2",
            DecoderType::Qwen3 => "qwen3",
        }
    }

    /// What the names of its Python classes start with.
    pub(super) fn class(self) -> &'static str {
        match self {
            DecoderType::Gpt2 => "GPT2",
            DecoderType::Llama => "Llama",
            DecoderType::Mistral => "Mistral",
            DecoderType::Qwen2 => "Qwen2",
            DecoderType::Qwen3 => "Qwen3",
        }
    }

    /// What the names of its tensors start with in a class with a head.
    pub(in crate::model) fn prefix(self) -> &'static str {
        match self {
            DecoderType::Gpt2 => "transformer.",
            _ => "model.",
        }
    }

    fn renames(self) -> &'static [(&'static str, &'static str)] {
        match self {
            DecoderType::Gpt2 => &[
                ("n_embd", "hidden_size"),
                ("n_layer", "num_hidden_layers"),
                ("n_head", "num_attention_heads"),
                ("n_inner", "intermediate_size"),
                ("n_positions", "max_position_embeddings"),
                ("activation_function", "hidden_act"),
                ("layer_norm_epsilon", "norm_eps"),
                ("attn_pdrop", "attention_dropout"),
                ("resid_pdrop", "residual_dropout"),
                ("embd_pdrop", "embedding_dropout"),
            ],
            _ => &[("rms_norm_eps", "norm_eps")],
        }
    }

    /// Fields that it does not have.
    fn unused(self) -> &'static [&'static str] {
        match self {
            DecoderType::Gpt2 => &[
                "num_key_value_heads",
                "head_dim",
                "attention_bias",
                "mlp_bias",
                "sliding_window",
                "use_sliding_window",
                "max_window_layers",
                "layer_types",
            ],
            DecoderType::Llama => &[
                "residual_dropout",
                "embedding_dropout",
                "scale_attn_weights",
                "scale_attn_by_inverse_layer_idx",
                "sliding_window",
                "use_sliding_window",
                "max_window_layers",
                "layer_types",
            ],
            DecoderType::Mistral => &[
                "residual_dropout",
                "embedding_dropout",
                "scale_attn_weights",
                "scale_attn_by_inverse_layer_idx",
                "attention_bias",
                "mlp_bias",
                "use_sliding_window",
                "max_window_layers",
                "layer_types",
            ],
            DecoderType::Qwen2 => &[
                "residual_dropout",
                "embedding_dropout",
                "scale_attn_weights",
                "scale_attn_by_inverse_layer_idx",
                "attention_bias",
                "mlp_bias",
            ],
            DecoderType::Qwen3 => &[
                "residual_dropout",
                "embedding_dropout",
                "scale_attn_weights",
                "scale_attn_by_inverse_layer_idx",
                "mlp_bias",
            ],
        }
    }
}

/// The shape of a decoder, field by field as Hugging Face's `LlamaConfig` and its relatives have it;
/// GPT-2's names are translated.
///
/// Fields of `config.json` that are not listed here are kept and written back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
    /// The architecture.
    pub model_type: DecoderType,
    /// Rows of the token embedding.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Number of layers.
    pub num_hidden_layers: i64,
    /// Number of heads of queries.
    pub num_attention_heads: i64,
    /// Number of heads of keys and values, each shared by a group of heads of queries (Ainslie et
    /// al. 2023); `None` is one for each.
    pub num_key_value_heads: Option<i64>,
    /// Values in a head; `None` is `hidden_size` / `num_attention_heads`.
    pub head_dim: Option<i64>,
    /// Width of the feed-forward layer; `None` is 4 · `hidden_size`.
    pub intermediate_size: Option<i64>,
    /// Activation of the feed-forward layer.
    pub hidden_act: Activation,
    /// Rows of GPT-2's position embedding; for others the length of texts they were made for.
    pub max_position_embeddings: i64,
    /// Epsilon of the norms.
    pub norm_eps: f64,
    /// Whether the attention's projections have biases (Llama, Qwen3).
    pub attention_bias: bool,
    /// Whether the feed-forward layer has biases (Llama).
    pub mlp_bias: bool,
    /// Dropout on attention weights.
    pub attention_dropout: f64,
    /// Dropout on the output of each block (GPT-2).
    pub residual_dropout: f64,
    /// Dropout on embeddings (GPT-2).
    pub embedding_dropout: f64,
    /// Whether attention scores are divided by the root of a head's size (GPT-2; others always).
    pub scale_attn_weights: bool,
    /// Whether attention scores are divided by the layer's number, from 1 (GPT-2).
    pub scale_attn_by_inverse_layer_idx: bool,
    /// How many tokens, itself included, a token sees in layers with a sliding window.
    pub sliding_window: Option<i64>,
    /// Whether there is a sliding window at all (Qwen).
    pub use_sliding_window: bool,
    /// The first layer with a sliding window, where `layer_types` does not say (Qwen).
    pub max_window_layers: i64,
    /// `full_attention` or `sliding_attention` for each layer (Qwen).
    pub layer_types: Option<Vec<String>>,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// Rotary positions; GPT-2 has none.
    #[serde(skip)]
    pub rope: Rope,
    /// How many outputs the head has; 1 for a reward.
    #[serde(skip)]
    pub num_labels: i64,
    /// Whatever else the file says.
    #[serde(skip)]
    pub other: Fields,
}

impl Default for DecoderConfig {
    /// Those of [`DecoderType::Llama`].
    fn default() -> Self {
        DecoderConfig::of(DecoderType::Llama)
    }
}

impl DecoderConfig {
    /// The values that transformers assumes where `config.json` is silent, and a single output.
    pub fn of(model_type: DecoderType) -> DecoderConfig {
        let llama = DecoderConfig {
            model_type,
            vocab_size: 32_000,
            hidden_size: 4096,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: None,
            head_dim: None,
            intermediate_size: Some(11_008),
            hidden_act: Activation::Silu,
            max_position_embeddings: 2048,
            norm_eps: 1e-6,
            attention_bias: false,
            mlp_bias: false,
            attention_dropout: 0.0,
            residual_dropout: 0.0,
            embedding_dropout: 0.0,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            sliding_window: None,
            use_sliding_window: false,
            max_window_layers: 28,
            layer_types: None,
            initializer_range: 0.02,
            rope: Rope::default(),
            num_labels: 1,
            other: Fields::new(),
        };
        let qwen = DecoderConfig {
            vocab_size: 151_936,
            intermediate_size: Some(22_016),
            num_key_value_heads: Some(32),
            max_position_embeddings: 32_768,
            sliding_window: Some(4096),
            ..llama.clone()
        };
        match model_type {
            DecoderType::Gpt2 => DecoderConfig {
                vocab_size: 50_257,
                hidden_size: 768,
                num_hidden_layers: 12,
                num_attention_heads: 12,
                intermediate_size: None,
                hidden_act: Activation::GeluTanh,
                max_position_embeddings: 1024,
                norm_eps: 1e-5,
                attention_dropout: 0.1,
                residual_dropout: 0.1,
                embedding_dropout: 0.1,
                ..llama
            },
            DecoderType::Llama => llama,
            DecoderType::Mistral => DecoderConfig {
                intermediate_size: Some(14_336),
                num_key_value_heads: Some(8),
                max_position_embeddings: 131_072,
                sliding_window: Some(4096),
                ..llama
            },
            DecoderType::Qwen2 => qwen,
            DecoderType::Qwen3 => DecoderConfig { head_dim: Some(128), ..qwen },
        }
    }

    pub(super) fn parse(
        model_type: DecoderType,
        mut fields: Fields,
    ) -> Result<DecoderConfig, String> {
        only(&fields, &[("add_cross_attention", json!(false)), ("is_causal", json!(true))])?;
        if model_type == DecoderType::Qwen3 && fields.get("head_dim").is_some_and(Value::is_null) {
            fields.remove("head_dim");
        }
        let defaults = DecoderConfig::of(model_type);
        let mut config = overlay(&defaults, model_type.renames(), &fields)?;
        // Fields of other types may stand in a file, and mean nothing there.
        for unused in model_type.unused() {
            match *unused {
                "num_key_value_heads" => config.num_key_value_heads = None,
                "head_dim" => config.head_dim = None,
                "attention_bias" => config.attention_bias = false,
                "mlp_bias" => config.mlp_bias = false,
                "sliding_window" => config.sliding_window = None,
                "scale_attn_weights" => config.scale_attn_weights = true,
                "scale_attn_by_inverse_layer_idx" => config.scale_attn_by_inverse_layer_idx = false,
                "residual_dropout" => config.residual_dropout = 0.0,
                "embedding_dropout" => config.embedding_dropout = 0.0,
                "layer_types" => config.layer_types = None,
                _ => {}
            }
        }
        if model_type != DecoderType::Gpt2 {
            config.rope = Rope::parse(&fields, config.max_position_embeddings)?;
        }
        config.num_labels = num_labels(&fields)?;
        config.other = fields;
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    pub(super) fn to_fields(&self) -> Result<Fields> {
        let kind = self.model_type;
        let mut fields = underlay(self, kind.renames(), kind.unused(), &self.other)?;
        if kind != DecoderType::Gpt2 {
            self.rope.write(&mut fields);
            // Not all of Python's classes work these out where the file has null.
            for (field, value) in [
                ("head_dim", self.head_dim()),
                ("num_key_value_heads", self.key_value_heads()),
                ("intermediate_size", self.inner_size()),
            ] {
                fields.insert(field.into(), value.into());
            }
        }
        Ok(fields)
    }

    pub(in crate::model) fn head_dim(&self) -> i64 {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads)
    }

    pub(in crate::model) fn key_value_heads(&self) -> i64 {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    pub(in crate::model) fn inner_size(&self) -> i64 {
        self.intermediate_size.unwrap_or(4 * self.hidden_size)
    }

    /// The token whose embedding Python does not train: the pad token, but in GPT-2. Counted from the
    /// end of the vocabulary if it is negative, as the first Llama has it.
    pub(in crate::model) fn padding_row(&self) -> Option<i64> {
        if self.model_type == DecoderType::Gpt2 {
            return None;
        }
        let id = self.other.get("pad_token_id")?.as_i64()?;
        let row = if id < 0 { id.checked_add(self.vocab_size)? } else { id };
        (0..self.vocab_size).contains(&row).then_some(row)
    }

    /// How many tokens, itself included, a token sees in this layer; `None` is all before it.
    pub(in crate::model) fn window(&self, layer: i64) -> Option<i64> {
        match self.model_type {
            DecoderType::Gpt2 | DecoderType::Llama => None,
            DecoderType::Mistral => self.sliding_window,
            DecoderType::Qwen2 | DecoderType::Qwen3 => {
                let window = self.sliding_window.filter(|_| self.use_sliding_window)?;
                let slides = match &self.layer_types {
                    Some(types) => {
                        types.get(layer as usize).is_some_and(|t| t == "sliding_attention")
                    }
                    None => layer >= self.max_window_layers,
                };
                slides.then_some(window)
            }
        }
    }

    /// Whether every value is within its bounds.
    ///
    /// # Errors
    /// An [`Error::Config`](crate::Error::Config) for the first one that is not.
    pub fn check(&self) -> Result<()> {
        Bounds::sizes(&[
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads.unwrap_or(1)),
            ("head_dim", self.head_dim.unwrap_or(1)),
            ("intermediate_size", self.intermediate_size.unwrap_or(1)),
            ("max_position_embeddings", self.max_position_embeddings),
            ("sliding_window", self.sliding_window.unwrap_or(1)),
            ("num_labels", self.num_labels),
        ])?;
        let heads = self.num_attention_heads;
        if self.head_dim.is_none() && self.hidden_size % heads != 0 {
            return out_of_bounds("num_attention_heads", heads, "must divide hidden_size");
        }
        if heads % self.key_value_heads() != 0 {
            let groups = self.key_value_heads();
            let message = "must divide num_attention_heads";
            return out_of_bounds("num_key_value_heads", groups, message);
        }
        if self.model_type != DecoderType::Gpt2 && self.head_dim() % 2 != 0 {
            return out_of_bounds(
                "head_dim",
                self.head_dim(),
                "must be even: values turn in pairs",
            );
        }
        let short = matches!(self.rope.scaling, super::RopeScaling::Dynamic { .. });
        if short && self.head_dim() < 4 {
            return out_of_bounds(
                "head_dim",
                self.head_dim(),
                "must be 4 or more with dynamic rope",
            );
        }
        if let Some(types) = &self.layer_types {
            let known = |t: &String| t == "full_attention" || t == "sliding_attention";
            if types.len() as i64 != self.num_hidden_layers {
                let message = format!("must have {} entries", self.num_hidden_layers);
                return out_of_bounds("layer_types", format!("{types:?}"), &message);
            }
            if let Some(other) = types.iter().find(|t| !known(t)) {
                let message = "not supported; must be full_attention or sliding_attention";
                return out_of_bounds("layer_types", format!("{other:?}"), message);
            }
            let slides = types.iter().any(|t| t == "sliding_attention");
            if slides && (!self.use_sliding_window || self.sliding_window.is_none()) {
                let message = "names sliding_attention, but there is no window: \
                               use_sliding_window and sliding_window must be set";
                return out_of_bounds("layer_types", format!("{types:?}"), message);
            }
        }
        Bounds::probabilities(&[
            ("attention_dropout", self.attention_dropout),
            ("residual_dropout", self.residual_dropout),
            ("embedding_dropout", self.embedding_dropout),
        ])?;
        Bounds::positive(&[
            ("norm_eps", self.norm_eps),
            ("initializer_range", self.initializer_range),
        ])
    }
}
