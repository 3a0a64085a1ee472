//! `config.json` of BERT and its relatives.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{num_labels, only, out_of_bounds, overlay, underlay, Activation, Bounds, Fields};
use crate::Result;

/// The architectures that [`EncoderConfig`] describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EncoderType {
    /// BERT (Devlin et al. 2019).
    #[default]
    Bert,
    /// RoBERTa (Liu et al. 2019): BERT with positions that start after the pad token's id, and
    /// without a pooler.
    Roberta,
    /// XLM-RoBERTa (Conneau et al. 2020): RoBERTa on many languages.
    XlmRoberta,
    /// DistilBERT (Sanh et al. 2019): BERT without segments, with half of its layers.
    #[serde(rename = "distilbert")]
    DistilBert,
}

impl EncoderType {
    pub(super) const ALL: [EncoderType; 4] =
        [EncoderType::Bert, EncoderType::Roberta, EncoderType::XlmRoberta, EncoderType::DistilBert];

    /// `model_type` in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            EncoderType::Bert => "bert",
            EncoderType::Roberta => "roberta",
            EncoderType::XlmRoberta => "xlm-roberta",
            EncoderType::DistilBert => "distilbert",
        }
    }

    /// What the names of its Python classes start with.
    pub(super) fn class(self) -> &'static str {
        match self {
            EncoderType::Bert => "Bert",
            EncoderType::Roberta => "Roberta",
            EncoderType::XlmRoberta => "XLMRoberta",
            EncoderType::DistilBert => "DistilBert",
        }
    }

    /// What the names of its tensors start with in a class with a head.
    pub(in crate::model) fn prefix(self) -> &'static str {
        match self {
            EncoderType::Bert => "bert.",
            EncoderType::Roberta | EncoderType::XlmRoberta => "roberta.",
            EncoderType::DistilBert => "distilbert.",
        }
    }

    /// Its own names of fields, each with the common one.
    fn renames(self) -> &'static [(&'static str, &'static str)] {
        match self {
            EncoderType::DistilBert => &[
                ("dim", "hidden_size"),
                ("n_layers", "num_hidden_layers"),
                ("n_heads", "num_attention_heads"),
                ("hidden_dim", "intermediate_size"),
                ("activation", "hidden_act"),
                ("dropout", "hidden_dropout_prob"),
                ("attention_dropout", "attention_probs_dropout_prob"),
                ("seq_classif_dropout", "classifier_dropout"),
                ("sinusoidal_pos_embds", "sinusoidal_positions"),
            ],
            _ => &[],
        }
    }

    /// Fields that it does not have.
    fn unused(self) -> &'static [&'static str] {
        match self {
            EncoderType::DistilBert => &["type_vocab_size", "layer_norm_eps"],
            _ => &["sinusoidal_positions"],
        }
    }
}

/// The shape of an encoder, field by field as Hugging Face's `BertConfig` has it; other model types
/// that have names of their own for some of them are translated.
///
/// Fields of `config.json` that are not listed here are kept and written back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncoderConfig {
    /// The architecture.
    pub model_type: EncoderType,
    /// Rows of the token embedding.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Number of layers.
    pub num_hidden_layers: i64,
    /// Number of attention heads; divides `hidden_size`.
    pub num_attention_heads: i64,
    /// Width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Activation of the feed-forward layer.
    pub hidden_act: Activation,
    /// Dropout on embeddings and on the output of each block.
    pub hidden_dropout_prob: f64,
    /// Dropout on attention weights.
    pub attention_probs_dropout_prob: f64,
    /// Dropout before the head; `None` is `hidden_dropout_prob`.
    pub classifier_dropout: Option<f64>,
    /// Rows of the position embedding. RoBERTa leaves the first `pad_token_id + 1` of them unused.
    pub max_position_embeddings: i64,
    /// Number of segments; DistilBERT has none, whatever this says.
    pub type_vocab_size: i64,
    /// Whether DistilBERT's position embedding is a fixed table of sines, which is not trained.
    pub sinusoidal_positions: bool,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
    /// The token that Python pads with. Its embedding is not trained, and RoBERTa's positions are
    /// counted from it.
    pub pad_token_id: i64,
    /// How many outputs the head has; 1 for a reward.
    #[serde(skip)]
    pub num_labels: i64,
    /// Whatever else the file says.
    #[serde(skip)]
    pub other: Fields,
}

impl Default for EncoderConfig {
    /// Those of [`EncoderType::Bert`].
    fn default() -> Self {
        EncoderConfig::of(EncoderType::Bert)
    }
}

impl EncoderConfig {
    /// The values that transformers assumes where `config.json` is silent (those of the smallest
    /// published model of the type), and a single output.
    pub fn of(model_type: EncoderType) -> EncoderConfig {
        let bert = EncoderConfig {
            model_type,
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            classifier_dropout: None,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            sinusoidal_positions: false,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: 0,
            num_labels: 1,
            other: Fields::new(),
        };
        match model_type {
            EncoderType::Bert => bert,
            EncoderType::Roberta => EncoderConfig { vocab_size: 50265, pad_token_id: 1, ..bert },
            EncoderType::XlmRoberta => EncoderConfig { pad_token_id: 1, ..bert },
            EncoderType::DistilBert => {
                EncoderConfig { num_hidden_layers: 6, classifier_dropout: Some(0.2), ..bert }
            }
        }
    }

    pub(super) fn parse(model_type: EncoderType, fields: Fields) -> Result<EncoderConfig, String> {
        only(
            &fields,
            &[
                ("position_embedding_type", Value::from("absolute")),
                ("is_decoder", Value::from(false)),
                ("add_cross_attention", Value::from(false)),
            ],
        )?;
        let defaults = EncoderConfig::of(model_type);
        let mut config = overlay(&defaults, model_type.renames(), &fields)?;
        if model_type == EncoderType::DistilBert {
            config.layer_norm_eps = defaults.layer_norm_eps;
        } else {
            config.sinusoidal_positions = false;
        }
        config.num_labels = num_labels(&fields)?;
        config.other = fields;
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    pub(super) fn to_fields(&self) -> Result<Fields> {
        underlay(self, self.model_type.renames(), self.model_type.unused(), &self.other)
    }

    /// The position of the pad token, after which others are counted; `None` where they are
    /// counted from 0.
    pub(in crate::model) fn padding_position(&self) -> Option<i64> {
        match self.model_type {
            EncoderType::Roberta | EncoderType::XlmRoberta => Some(self.pad_token_id),
            EncoderType::Bert | EncoderType::DistilBert => None,
        }
    }

    /// The most tokens that a text may have.
    pub(super) fn longest_text(&self) -> i64 {
        self.max_position_embeddings - self.padding_position().map_or(0, |pad| pad + 1)
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
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
            ("num_labels", self.num_labels),
        ])?;
        if self.hidden_size % self.num_attention_heads != 0 {
            return out_of_bounds(
                "num_attention_heads",
                self.num_attention_heads,
                "must divide hidden_size",
            );
        }
        if !(0..self.vocab_size).contains(&self.pad_token_id) {
            return out_of_bounds("pad_token_id", self.pad_token_id, "must be in the vocabulary");
        }
        if self.longest_text() < 1 {
            return out_of_bounds(
                "max_position_embeddings",
                self.max_position_embeddings,
                "leaves no position for a token after that of the pad token",
            );
        }
        Bounds::probabilities(&[
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
            ("classifier_dropout", self.classifier_dropout.unwrap_or(0.0)),
        ])?;
        Bounds::positive(&[
            ("layer_norm_eps", self.layer_norm_eps),
            ("initializer_range", self.initializer_range),
        ])
    }
}
