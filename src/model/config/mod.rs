//! `config.json`: which architecture a folder holds, and its sizes.
//!
//! Read as Python reads it: a field that the file leaves out has the value that transformers
//! assumes for the model type, other names of a field are understood, and what would change the
//! numbers and is not supported is an error that names it.

mod activation;
mod decoder;
mod encoder;
mod rope;

use std::path::Path;

use serde::{de::DeserializeOwned, Serialize};
use serde_json::{Map, Value};

pub use activation::Activation;
pub use decoder::{DecoderConfig, DecoderType};
pub use encoder::{EncoderConfig, EncoderType};
pub use rope::{Rope, RopeScaling};

use super::RewardScale;
use crate::{Error, Result};

/// A JSON object.
pub(super) type Fields = Map<String, Value>;

/// The configuration of an encoder or of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelConfig {
    /// BERT and its relatives.
    Encoder(EncoderConfig),
    /// GPT-2, Llama and its relatives.
    Decoder(DecoderConfig),
}

impl From<EncoderConfig> for ModelConfig {
    fn from(config: EncoderConfig) -> Self {
        ModelConfig::Encoder(config)
    }
}

impl From<DecoderConfig> for ModelConfig {
    fn from(config: DecoderConfig) -> Self {
        ModelConfig::Decoder(config)
    }
}

impl ModelConfig {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// If the file cannot be read, is not JSON, is of a `model_type` that is not supported, asks for
    /// something that is not supported, or has a value of the wrong type or out of its bounds.
    pub fn read(path: impl AsRef<Path>) -> Result<ModelConfig> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let wrong = |message: String| Error::ModelFile { path: path.to_path_buf(), message };
        let fields: Fields = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        ModelConfig::parse(fields).map_err(wrong)
    }

    fn parse(fields: Fields) -> Result<ModelConfig, String> {
        let supported = || {
            let encoders = EncoderType::ALL.map(EncoderType::name);
            let decoders = DecoderType::ALL.map(DecoderType::name);
            [&encoders[..], &decoders[..]].concat().join(", ")
        };
        let name = match fields.get("model_type") {
            Some(Value::String(name)) => name,
            Some(other) => {
                return Err(format!("model_type = {other}; must be one of {}", supported()))
            }
            None => return Err(format!("there is no model_type; must be one of {}", supported())),
        };
        for field in ["quantization_config", "pruned_heads"] {
            let empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
            if let Some(value) = fields.get(field).filter(|v| !v.is_null() && !empty(v)) {
                return Err(format!("{field} = {value}: not supported"));
            }
        }
        if let Some(kind) = EncoderType::ALL.into_iter().find(|kind| kind.name() == name) {
            return Ok(EncoderConfig::parse(kind, fields)?.into());
        }
        if let Some(kind) = DecoderType::ALL.into_iter().find(|kind| kind.name() == name) {
            return Ok(DecoderConfig::parse(kind, fields)?.into());
        }
        Err(format!("model_type {name:?} is not supported; must be one of {}", supported()))
    }

    /// Whether every value is within its bounds.
    ///
    /// # Errors
    /// An [`Error::Config`] for the first one that is not.
    pub fn check(&self) -> Result<()> {
        match self {
            ModelConfig::Encoder(config) => config.check(),
            ModelConfig::Decoder(config) => config.check(),
        }
    }

    /// `model_type` as `config.json` has it.
    pub fn model_type(&self) -> &'static str {
        match self {
            ModelConfig::Encoder(config) => config.model_type.name(),
            ModelConfig::Decoder(config) => config.model_type.name(),
        }
    }

    /// Width of the hidden states.
    pub fn hidden_size(&self) -> i64 {
        match self {
            ModelConfig::Encoder(config) => config.hidden_size,
            ModelConfig::Decoder(config) => config.hidden_size,
        }
    }

    /// Rows of the token embedding.
    pub fn vocab_size(&self) -> i64 {
        match self {
            ModelConfig::Encoder(config) => config.vocab_size,
            ModelConfig::Decoder(config) => config.vocab_size,
        }
    }

    /// Number of layers.
    pub fn num_hidden_layers(&self) -> i64 {
        match self {
            ModelConfig::Encoder(config) => config.num_hidden_layers,
            ModelConfig::Decoder(config) => config.num_hidden_layers,
        }
    }

    /// How many outputs the head has; 1 for a reward.
    pub fn num_labels(&self) -> i64 {
        match self {
            ModelConfig::Encoder(config) => config.num_labels,
            ModelConfig::Decoder(config) => config.num_labels,
        }
    }

    /// The most tokens that a text may have, if the model has a table of positions; models that
    /// rotate take any number, and tell here what they were trained for.
    pub fn max_position_embeddings(&self) -> i64 {
        match self {
            ModelConfig::Encoder(config) => config.longest_text(),
            ModelConfig::Decoder(config) => config.max_position_embeddings,
        }
    }

    pub(super) fn set_num_labels(&mut self, outputs: i64) {
        match self {
            ModelConfig::Encoder(config) => config.num_labels = outputs,
            ModelConfig::Decoder(config) => config.num_labels = outputs,
        }
    }

    pub(super) fn initializer_range(&self) -> f64 {
        match self {
            ModelConfig::Encoder(config) => config.initializer_range,
            ModelConfig::Decoder(config) => config.initializer_range,
        }
    }

    /// The names of the classes whose weights the folder holds, as the file gives them.
    pub(super) fn architectures(&self) -> Option<Vec<&str>> {
        let other = match self {
            ModelConfig::Encoder(config) => &config.other,
            ModelConfig::Decoder(config) => &config.other,
        };
        Some(other.get("architectures")?.as_array()?.iter().filter_map(Value::as_str).collect())
    }

    /// `config.json` of a sequence-classification folder, in the forms of transformers 4 and 5. The
    /// names of the outputs are kept if so asked and if there are as many.
    pub(super) fn to_json(
        &self,
        dtype: &str,
        pad_token: Option<i64>,
        scale: Option<RewardScale>,
        keep_labels: bool,
    ) -> Result<String> {
        let (mut fields, class) = match self {
            ModelConfig::Encoder(config) => (config.to_fields()?, config.model_type.class()),
            ModelConfig::Decoder(config) => (config.to_fields()?, config.model_type.class()),
        };
        let labels = || (0..self.num_labels()).map(|i| (i, format!("LABEL_{i}")));
        let id2label: Fields = labels().map(|(i, name)| (i.to_string(), name.into())).collect();
        let label2id: Fields = labels().map(|(i, name)| (name, i.into())).collect();
        for (key, value) in [
            ("model_type", Value::from(self.model_type())),
            ("architectures", Value::from(vec![format!("{class}ForSequenceClassification")])),
            ("dtype", Value::from(dtype)),
            ("torch_dtype", Value::from(dtype)),
        ] {
            fields.insert(key.into(), value);
        }
        let named = fields.get("id2label").and_then(Value::as_object).map(Fields::len);
        if !keep_labels || named != usize::try_from(self.num_labels()).ok() {
            fields.insert("id2label".into(), id2label.into());
            fields.insert("label2id".into(), label2id.into());
        }
        fields.remove("num_labels");
        if let Some(id) = pad_token {
            fields.insert("pad_token_id".into(), id.into());
        }
        if let Some(scale) = scale {
            let scale = serde_json::to_value(scale).map_err(unwritable)?;
            fields.insert(RewardScale::FIELD.into(), scale);
        }
        let mut json = serde_json::to_string_pretty(&fields).map_err(unwritable)?;
        json.push('\n');
        Ok(json)
    }
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::InvalidArgument(format!("config.json: {error}"))
}

/// The fields of `defaults`, overlaid with those of a file.
fn overlay<T: Serialize + DeserializeOwned>(
    defaults: &T,
    renames: &[(&str, &str)],
    file: &Fields,
) -> Result<T, String> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(defaults) else {
        return Err("the defaults are not an object".into());
    };
    let known: Vec<String> = fields.keys().cloned().collect();
    for ours in &known {
        let theirs = renames.iter().find(|(_, o)| o == ours).map_or(ours.as_str(), |(t, _)| t);
        if let Some(value) = file.get(theirs).or_else(|| file.get(ours)) {
            // Checked one by one, so that the error can tell which one is wrong.
            let before = fields.insert(ours.clone(), value.clone());
            if let Err(error) = serde_json::from_value::<T>(Value::Object(fields.clone())) {
                let before = before.unwrap_or(Value::Null);
                if value.is_null() {
                    fields.insert(ours.clone(), before);
                    continue;
                }
                return Err(format!("{theirs} = {value}: {error} (such as {before})"));
            }
        }
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
}

/// The fields of a configuration under the names that its model type has for them, over those of
/// the file it came from.
fn underlay<T: Serialize>(
    config: &T,
    renames: &[(&str, &str)],
    unused: &[&str],
    file: &Fields,
) -> Result<Fields> {
    let Value::Object(fields) = serde_json::to_value(config).map_err(unwritable)? else {
        return Ok(file.clone());
    };
    let mut all = file.clone();
    for (ours, value) in fields {
        all.remove(&ours);
        if unused.contains(&ours.as_str()) {
            continue;
        }
        let theirs = renames.iter().find(|(_, o)| *o == ours).map(|(t, _)| (*t).to_owned());
        all.insert(theirs.unwrap_or(ours), value);
    }
    Ok(all)
}

/// How many outputs the head of a folder has, in the ways files tell it.
fn num_labels(fields: &Fields) -> Result<i64, String> {
    match fields.get("id2label") {
        Some(Value::Object(labels)) => Ok(labels.len() as i64),
        None | Some(Value::Null) => match fields.get("num_labels") {
            None | Some(Value::Null) => Ok(2),
            Some(labels) => {
                labels.as_i64().ok_or_else(|| format!("num_labels = {labels}: must be a number"))
            }
        },
        Some(other) => Err(format!("id2label = {other}: must be an object")),
    }
}

/// Refuses fields that change the numbers when they have any but these values.
fn only(fields: &Fields, supported: &[(&str, Value)]) -> Result<(), String> {
    for (field, value) in supported {
        if let Some(other) = fields.get(*field).filter(|&v| v != value && !v.is_null()) {
            return Err(format!("{field} = {other}: not supported; only {value} is"));
        }
    }
    Ok(())
}

/// Bounds that sizes, probabilities and small positive numbers share.
struct Bounds;

impl Bounds {
    // Far above any model, and far below where products of two sizes overflow; a file that asks
    // for more layers than this would keep a machine busy with naming what is missing.
    const MOST: i64 = 1 << 24;
    const MOST_LAYERS: i64 = 1 << 10;

    fn sizes(sizes: &[(&'static str, i64)]) -> Result<()> {
        for &(field, size) in sizes {
            let most = if field == "num_hidden_layers" { Self::MOST_LAYERS } else { Self::MOST };
            if !(1..=most).contains(&size) {
                return out_of_bounds(field, size, &format!("must be from 1 to {most}"));
            }
        }
        Ok(())
    }

    fn probabilities(values: &[(&'static str, f64)]) -> Result<()> {
        for &(field, p) in values {
            if !(0.0..1.0).contains(&p) {
                return out_of_bounds(field, p, "must be at least 0 and below 1");
            }
        }
        Ok(())
    }

    fn positive(values: &[(&'static str, f64)]) -> Result<()> {
        for &(field, value) in values {
            if !(value.is_finite() && value > 0.0) {
                return out_of_bounds(field, value, "must be positive and finite");
            }
        }
        Ok(())
    }
}

fn out_of_bounds<T>(field: &'static str, value: impl ToString, message: &str) -> Result<T> {
    Err(Error::Config { field, value: value.to_string(), message: message.into() })
}
