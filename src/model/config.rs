//! `config.json` of a BERT-type model.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// The shape of a BERT-type encoder, field by field as Hugging Face's `BertConfig` has it.
///
/// Fields of `config.json` that are not listed here are kept and written back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BertConfig {
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
    /// The most tokens a text may have.
    pub max_position_embeddings: i64,
    /// Number of segments.
    pub type_vocab_size: i64,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
    /// The token that Python pads with.
    pub pad_token_id: i64,
    /// How many outputs the head has; 1 for a reward.
    #[serde(skip)]
    pub num_labels: i64,
    /// Whatever else the file says.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Activation functions, by their names in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Activation {
    /// x·Φ(x), exactly.
    #[serde(rename = "gelu")]
    Gelu,
    /// The tanh approximation of GELU.
    #[serde(rename = "gelu_new", alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluTanh,
    /// max(0, x).
    #[serde(rename = "relu")]
    Relu,
    /// x·σ(x).
    #[serde(rename = "silu", alias = "swish")]
    Silu,
}

impl Default for BertConfig {
    /// The values that Hugging Face assumes where `config.json` is silent (those of BERT base), and
    /// a single output.
    fn default() -> Self {
        BertConfig {
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
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: 0,
            num_labels: 1,
            other: Map::new(),
        }
    }
}

impl BertConfig {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// If the file cannot be read, is not JSON, is not of `model_type` `bert`, asks for something
    /// that is not supported, or has a value out of its bounds.
    pub fn read(path: impl AsRef<Path>) -> Result<BertConfig> {
        let path = path.as_ref();
        let wrong = |message: String| Error::ModelFile { path: path.to_path_buf(), message };
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let mut config: BertConfig =
            serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        match config.other.get("model_type").and_then(Value::as_str) {
            Some("bert") => {}
            Some(other) => {
                return Err(wrong(format!(
                    "model_type {other:?} is not supported; it must be bert"
                )))
            }
            None => return Err(wrong("there is no model_type; it must be bert".into())),
        }
        for (field, supported) in [
            ("position_embedding_type", Value::from("absolute")),
            ("is_decoder", Value::from(false)),
            ("add_cross_attention", Value::from(false)),
        ] {
            if let Some(value) = config.other.get(field).filter(|&value| *value != supported) {
                return Err(wrong(format!("{field} = {value} is not supported; only {supported}")));
            }
        }
        config.num_labels = match config.other.get("id2label") {
            Some(Value::Object(labels)) => labels.len() as i64,
            None | Some(Value::Null) => match config.other.get("num_labels") {
                Some(labels) => labels
                    .as_i64()
                    .ok_or_else(|| wrong(format!("num_labels = {labels}: must be a number")))?,
                None => 2,
            },
            Some(other) => return Err(wrong(format!("id2label = {other}: must be an object"))),
        };
        config.check().map_err(|error| wrong(error.to_string()))?;
        Ok(config)
    }

    /// `config.json` as text.
    pub(super) fn to_json(&self) -> Result<String> {
        let mut config = self.clone();
        let id2label: Map<String, Value> =
            (0..self.num_labels).map(|i| (i.to_string(), format!("LABEL_{i}").into())).collect();
        let label2id: Map<String, Value> =
            (0..self.num_labels).map(|i| (format!("LABEL_{i}"), i.into())).collect();
        for (key, value) in [
            ("model_type", Value::from("bert")),
            ("architectures", Value::from(vec!["BertForSequenceClassification"])),
            ("dtype", Value::from("float32")),
            ("torch_dtype", Value::from("float32")),
            ("id2label", Value::from(id2label)),
            ("label2id", Value::from(label2id)),
        ] {
            config.other.insert(key.into(), value);
        }
        config.other.remove("num_labels");
        let mut json = serde_json::to_string_pretty(&config)
            .map_err(|error| Error::InvalidArgument(format!("config.json: {error}")))?;
        json.push('\n');
        Ok(json)
    }

    /// Whether every value is within its bounds.
    ///
    /// # Errors
    /// An [`Error::Config`] for the first one that is not.
    pub fn check(&self) -> Result<()> {
        // Far above any model, and far below where products of two sizes overflow; a file that asks
        // for more layers than this would keep a machine busy with naming what is missing.
        const MOST: i64 = 1 << 24;
        const MOST_LAYERS: i64 = 1 << 10;
        let sizes = [
            ("vocab_size", self.vocab_size, MOST),
            ("hidden_size", self.hidden_size, MOST),
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MOST),
            ("intermediate_size", self.intermediate_size, MOST),
            ("max_position_embeddings", self.max_position_embeddings, MOST),
            ("type_vocab_size", self.type_vocab_size, MOST),
            ("num_labels", self.num_labels, MOST),
        ];
        let config = |field, value: String, message: &str| {
            Err(Error::Config { field, value, message: message.into() })
        };
        for (field, size, most) in sizes {
            if !(1..=most).contains(&size) {
                return config(field, size.to_string(), &format!("must be from 1 to {most}"));
            }
        }
        if self.hidden_size % self.num_attention_heads != 0 {
            let heads = self.num_attention_heads.to_string();
            return config("num_attention_heads", heads, "must divide hidden_size");
        }
        let probabilities = [
            ("hidden_dropout_prob", Some(self.hidden_dropout_prob)),
            ("attention_probs_dropout_prob", Some(self.attention_probs_dropout_prob)),
            ("classifier_dropout", self.classifier_dropout),
        ];
        for (field, value) in probabilities {
            if let Some(p) = value.filter(|p| !(0.0..1.0).contains(p)) {
                return config(field, p.to_string(), "must be at least 0 and below 1");
            }
        }
        for (field, value) in
            [("layer_norm_eps", self.layer_norm_eps), ("initializer_range", self.initializer_range)]
        {
            if !(value.is_finite() && value > 0.0) {
                return config(field, value.to_string(), "must be positive and finite");
            }
        }
        Ok(())
    }
}
