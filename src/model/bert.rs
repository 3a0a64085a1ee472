//! The BERT encoder with a pooler and a linear head.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::layers::{dropout, Embedding, LayerNorm, Linear};
use super::packed::Packed;
use super::weights::{self, Weights};
use super::{BertConfig, Mode, RewardModel};
use crate::torch::seeded;
use crate::{Error, Result, TokenBatch};

/// A BERT encoder (Devlin et al. 2019) that scores texts: the first token's last hidden state goes
/// through the pooler (linear, tanh) and a linear head, as in Hugging Face's
/// `BertForSequenceClassification`, whose parameter names it has.
///
/// ```
/// use reward_model::{Bert, BertConfig, Mode, RewardModel, TokenBatch, TokenizedText, tch::Device};
///
/// let config = BertConfig {
///     vocab_size: 100,
///     hidden_size: 32,
///     num_hidden_layers: 2,
///     num_attention_heads: 2,
///     intermediate_size: 64,
///     ..BertConfig::default()
/// };
/// let model = Bert::random(&config, 7, Device::Cpu)?;
/// let batch = TokenBatch::from_texts(&[
///     TokenizedText::from_ids([2, 31, 41, 3]),
///     TokenizedText::from_ids([2, 59, 3]),
/// ])?;
/// let rewards = model.forward(&batch, Mode::Evaluation)?;
/// assert_eq!(rewards.size(), [2, 1]);
/// # Ok::<(), reward_model::Error>(())
/// ```
pub struct Bert {
    config: BertConfig,
    device: Device,
    parameters: Vec<(String, Tensor)>,
    words: Embedding,
    positions: Embedding,
    segments: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
    pooler: Linear,
    head: Linear,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
}

impl Bert {
    /// A model with random weights; the same seed gives the same model, on every device.
    ///
    /// # Errors
    /// If the configuration is out of its bounds, or the device has no room.
    pub fn random(config: &BertConfig, seed: i64, device: Device) -> Result<Bert> {
        config.check()?;
        seeded(seed, || Bert::new(config.clone(), Weights::random(device), device))
    }

    /// Reads `config.json` and `model.safetensors` of a folder.
    ///
    /// # Errors
    /// If a file is missing or broken, or tensors are missing, unexpected or of the wrong shape (all
    /// are named).
    pub fn load(dir: impl AsRef<Path>, device: Device) -> Result<Bert> {
        let dir = dir.as_ref();
        let config = BertConfig::read(dir.join("config.json"))?;
        let weights = Weights::open(&dir.join("model.safetensors"), device)?;
        Bert::new(config, weights, device)
    }

    fn new(config: BertConfig, mut w: Weights, device: Device) -> Result<Bert> {
        let BertConfig { hidden_size: width, initializer_range: std, layer_norm_eps: eps, .. } =
            config;
        let inner = config.intermediate_size;
        let embeddings = "bert.embeddings";
        let mut embedding = |name: &str, rows: i64| {
            Embedding::new(&mut w, &format!("{embeddings}.{name}"), rows, width, std)
        };
        let words = embedding("word_embeddings", config.vocab_size)?;
        let positions = embedding("position_embeddings", config.max_position_embeddings)?;
        let segments = embedding("token_type_embeddings", config.type_vocab_size)?;
        let norm = LayerNorm::new(&mut w, &format!("{embeddings}.LayerNorm"), width, eps)?;
        let layers = (0..config.num_hidden_layers)
            .map(|number| {
                let mut linear = |name: &str, inputs: i64, outputs: i64| {
                    let name = format!("bert.encoder.layer.{number}.{name}");
                    Linear::new(&mut w, &name, inputs, outputs, std)
                };
                let query = linear("attention.self.query", width, width)?;
                let key = linear("attention.self.key", width, width)?;
                let value = linear("attention.self.value", width, width)?;
                let attention_output = linear("attention.output.dense", width, width)?;
                let intermediate = linear("intermediate.dense", width, inner)?;
                let output = linear("output.dense", inner, width)?;
                let mut norm = |name: &str| {
                    let name = format!("bert.encoder.layer.{number}.{name}.LayerNorm");
                    LayerNorm::new(&mut w, &name, width, eps)
                };
                Ok(Layer {
                    query,
                    key,
                    value,
                    attention_output,
                    attention_norm: norm("attention.output")?,
                    intermediate,
                    output,
                    output_norm: norm("output")?,
                })
            })
            .collect::<Result<_>>()?;
        let pooler = Linear::new(&mut w, "bert.pooler.dense", width, width, std)?;
        let head = Linear::new(&mut w, "classifier", width, config.num_labels, std)?;
        let parameters = w.finish()?;
        Ok(Bert {
            config,
            device,
            parameters,
            words,
            positions,
            segments,
            norm,
            layers,
            pooler,
            head,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    fn check(&self, batch: &TokenBatch) -> Result<()> {
        let most = self.config.max_position_embeddings as usize;
        if let Some((text, length)) = batch.lengths().enumerate().find(|&(_, n)| n > most) {
            return Err(Error::InvalidArgument(format!(
                "text {text} has {length} tokens; the model takes at most {most}"
            )));
        }
        let (words, segments) = (self.config.vocab_size, self.config.type_vocab_size);
        if let Some(id) = batch.ids().iter().find(|&&id| i64::from(id) >= words) {
            return Err(Error::InvalidArgument(format!(
                "token id {id} is outside the model's vocabulary of {words}; is this its tokenizer?"
            )));
        }
        if let Some(segment) = batch.segments().iter().find(|&&s| i64::from(s) >= segments) {
            return Err(Error::InvalidArgument(format!(
                "segment id {segment}: the model has {segments} segments"
            )));
        }
        Ok(())
    }

    fn scores(&self, batch: &Packed, training: bool) -> Result<Tensor> {
        let x = self.words.forward(&batch.ids)?;
        let x = x.f_add(&self.segments.forward(&batch.segments)?)?;
        let x = x.f_add(&self.positions.forward(&batch.positions)?)?;
        let mut x = dropout(self.norm.forward(&x)?, self.config.hidden_dropout_prob, training)?;
        for layer in &self.layers {
            x = self.layer(layer, &x, batch, training)?;
        }
        let first = x.f_index_select(0, &batch.first)?;
        let pooled = self.pooler.forward(&first)?.f_tanh()?;
        let p = self.config.classifier_dropout.unwrap_or(self.config.hidden_dropout_prob);
        self.head.forward(&dropout(pooled, p, training)?)
    }

    fn layer(&self, layer: &Layer, x: &Tensor, batch: &Packed, training: bool) -> Result<Tensor> {
        let heads = self.config.num_attention_heads;
        let drop = |x: Tensor| dropout(x, self.config.hidden_dropout_prob, training);
        let q = batch.pad(&layer.query.forward(x)?, heads)?;
        let k = batch.pad(&layer.key.forward(x)?, heads)?;
        let v = batch.pad(&layer.value.forward(x)?, heads)?;
        let p = if training { self.config.attention_probs_dropout_prob } else { 0.0 };
        let seen = Tensor::f_scaled_dot_product_attention(
            &q,
            &k,
            &v,
            batch.mask(),
            p,
            false,
            None,
            false,
        )?;
        let seen = drop(layer.attention_output.forward(&batch.unpad(&seen)?)?)?;
        let x = layer.attention_norm.forward(&x.f_add(&seen)?)?;
        let inner = self.config.hidden_act.forward(&layer.intermediate.forward(&x)?)?;
        let inner = drop(layer.output.forward(&inner)?)?;
        layer.output_norm.forward(&x.f_add(&inner)?)
    }
}

impl RewardModel for Bert {
    fn forward(&self, batch: &TokenBatch, mode: Mode) -> Result<Tensor> {
        self.check(batch)?;
        if batch.texts() == 0 {
            return Ok(Tensor::f_zeros([0, self.config.num_labels], (Kind::Float, self.device))?);
        }
        let batch = Packed::new(batch, self.device)?;
        match mode {
            Mode::Evaluation => self.scores(&batch, false),
            Mode::Training { seed } => seeded(seed, || self.scores(&batch, true)),
        }
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.parameters.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect()
    }

    fn device(&self) -> Device {
        self.device
    }

    fn save(&self, dir: &Path) -> Result<()> {
        let config = dir.join("config.json");
        std::fs::write(&config, self.config.to_json()?).map_err(Error::io("write", &config))?;
        weights::write(&dir.join("model.safetensors"), &self.parameters)
    }
}
