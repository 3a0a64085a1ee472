//! The model that comes with this crate: an encoder or decoder, and a head.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::checkpoint::Checkpoint;
use super::chunks::Chunks;
use super::decoder::Decoder;
use super::encoder::Encoder;
use super::head::Head;
use super::names;
use super::options::{LoadOptions, Loaded, Precision};
use super::save::{self, SaveOptions};
use super::sharing::Sharing;
use super::weights::Weights;
use super::{
    frozen, Backbone, FrozenLayers, GraphParts, Mode, ModelConfig, Part, RewardModel, RewardScale,
};
use crate::text::Layout;
use crate::torch::seeded;
use crate::{Error, Result, TokenBatch};

/// A transformer that scores texts, of any [`ModelConfig`].
///
/// The body is read where Hugging Face's `...ForSequenceClassification` class of the same
/// `model_type` reads it, and its parameters have that class's names: an encoder's first token goes
/// through the pooler or dense layer of its family and a linear layer; a decoder's last token, told
/// by the text's length and never looked for by id, through a linear layer without a bias.
///
/// ```
/// use reward_model::{EncoderConfig, Mode, RewardModel, TokenBatch, TokenizedText, Transformer};
/// use reward_model::tch::Device;
///
/// let config = EncoderConfig {
///     vocab_size: 100,
///     hidden_size: 32,
///     num_hidden_layers: 2,
///     num_attention_heads: 2,
///     intermediate_size: 64,
///     ..EncoderConfig::default()
/// };
/// let model = Transformer::random(config, 7, Device::Cpu)?;
/// let batch = TokenBatch::from_texts(&[
///     TokenizedText::from_ids([2, 31, 41, 3]),
///     TokenizedText::from_ids([2, 59, 3]),
/// ])?;
/// let rewards = model.forward(&batch, Mode::Evaluation)?;
/// assert_eq!(rewards.size(), [2, 1]);
/// # Ok::<(), reward_model::Error>(())
/// ```
pub struct Transformer {
    config: ModelConfig,
    pub(super) device: Device,
    pub(super) precision: Precision,
    pub(super) sharing: Sharing,
    saving: SaveOptions,
    pad_token: Option<i64>,
    loaded: Option<Loaded>,
    scale: Option<RewardScale>,
    parameters: Vec<(String, Tensor)>,
    pub(super) body: Body,
    pub(super) head: Head,
}

pub(super) enum Body {
    Encoder(Encoder),
    Decoder(Decoder),
}

impl Transformer {
    /// A model with random weights; the same seed gives the same model, on every device.
    ///
    /// # Errors
    /// If the configuration is out of its bounds, or the device has no room.
    pub fn random(
        config: impl Into<ModelConfig>,
        seed: i64,
        device: Device,
    ) -> Result<Transformer> {
        let config = config.into();
        config.check()?;
        seeded(seed, || Transformer::new(config, Weights::random(device), device))
    }

    /// Reads the model of a folder as Hugging Face writes it: `config.json`, and
    /// `model.safetensors` or the files that `model.safetensors.index.json` names.
    ///
    /// From the folder of a bare model or a language model the body is taken, and the head is new;
    /// from that of a sequence classification the head too, unless
    /// [`LoadOptions::head`] says otherwise. [`loaded`](Self::loaded) tells what was left out and
    /// what is new.
    ///
    /// # Errors
    /// If a file is missing or broken, the configuration is not supported, or tensors are missing,
    /// unexpected or of the wrong shape (all are named); if the precision is not for the device.
    pub fn load(dir: impl AsRef<Path>, options: &LoadOptions) -> Result<Transformer> {
        let dir = dir.as_ref();
        if options.precision == Precision::Bf16 && options.device == Device::Cpu {
            return Err(Error::Config {
                field: "precision",
                value: "bf16".into(),
                message: "is for CUDA; on a CPU it is many times slower than f32, use that".into(),
            });
        }
        let mut config = ModelConfig::read(dir.join("config.json"))?;
        let scale = RewardScale::read(&dir.join("config.json"))?;
        let mut tensors = Checkpoint::open(dir)?;
        let (mut loaded, fresh) = names::adopt(&mut tensors, &config, options.head)?;
        let outputs = match options.outputs {
            None if !fresh.is_empty() => Some(1),
            outputs => outputs,
        };
        if let Some(outputs) = outputs {
            config.set_num_labels(outputs);
            config.check()?;
        }
        let weights = Weights::read(tensors, fresh, options.device);
        let mut model = seeded(options.seed, || Transformer::new(config, weights, options.device))?;
        if let Some(drawn) = model.loaded.take() {
            loaded.drawn = drawn.drawn;
        }
        // A new head's rewards have another scale.
        model.scale = scale.filter(|_| loaded.drawn.is_empty());
        model.loaded = Some(loaded);
        (model.precision, model.sharing) = (options.precision, options.sharing);
        Ok(model)
    }

    fn new(config: ModelConfig, mut w: Weights, device: Device) -> Result<Transformer> {
        let body = match &config {
            ModelConfig::Encoder(config) => Body::Encoder(Encoder::new(config, &mut w)?),
            ModelConfig::Decoder(config) => Body::Decoder(Decoder::new(config, &mut w)?),
        };
        let head = Head::new(&config, &mut w)?;
        let (parameters, drawn) = w.finish()?;
        Ok(Transformer {
            config,
            device,
            precision: Precision::F32,
            sharing: Sharing::default(),
            saving: SaveOptions::default(),
            pad_token: None,
            loaded: Some(Loaded { drawn, ..Loaded::default() }),
            scale: None,
            parameters,
            body,
            head,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub(super) fn named(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// What became of the tensors of the folder that this was loaded from.
    pub fn loaded(&self) -> Option<&Loaded> {
        self.loaded.as_ref()
    }

    /// The same model, to be saved in another way.
    #[must_use]
    pub fn with_save_options(self, saving: SaveOptions) -> Transformer {
        Transformer { saving, ..self }
    }

    /// The same model, which has texts of a list share their prompt's tokens as told. By default
    /// where that is faster.
    ///
    /// ```
    /// use reward_model::model::Sharing;
    /// use reward_model::{DecoderConfig, Transformer, tch::Device};
    ///
    /// # let config = DecoderConfig { vocab_size: 100, hidden_size: 32, num_hidden_layers: 2,
    /// #     num_attention_heads: 2, ..DecoderConfig::default() };
    /// let model = Transformer::random(config, 7, Device::Cpu)?.with_sharing(Sharing::Never);
    /// # Ok::<(), reward_model::Error>(())
    /// ```
    #[must_use]
    pub fn with_sharing(self, sharing: Sharing) -> Transformer {
        Transformer { sharing, ..self }
    }

    pub(super) fn check(&self, batch: &TokenBatch) -> Result<()> {
        let most = self.config.max_position_embeddings() as usize;
        if self.has_position_table() {
            if let Some((text, length)) = batch.lengths().enumerate().find(|&(_, n)| n > most) {
                return Err(Error::InvalidArgument(format!(
                    "text {text} has {length} tokens; the model takes at most {most}"
                )));
            }
        }
        let words = self.config.vocab_size();
        if let Some(id) = batch.ids().iter().find(|&&id| i64::from(id) >= words) {
            return Err(Error::InvalidArgument(format!(
                "token id {id} is outside the model's vocabulary of {words}; is this its tokenizer?"
            )));
        }
        match &self.body {
            Body::Encoder(encoder) => encoder.check(batch),
            Body::Decoder(_) => Ok(()),
        }
    }

    fn has_position_table(&self) -> bool {
        match &self.body {
            Body::Encoder(_) => true,
            Body::Decoder(decoder) => decoder.has_position_table(),
        }
    }
}

impl RewardModel for Transformer {
    fn forward(&self, batch: &TokenBatch, mode: Mode) -> Result<Tensor> {
        self.check(batch)?;
        if batch.texts() == 0 {
            let size = [0, self.config.num_labels()];
            return Ok(Tensor::f_zeros(size, (Kind::Float, self.device))?);
        }
        match mode {
            Mode::Evaluation | Mode::WithoutDropout { .. } => self.scores(batch, false),
            Mode::Training { seed } => seeded(seed, || self.scores(batch, true)),
        }
    }

    fn backward_in_parts(
        &self,
        batch: &TokenBatch,
        mode: Mode,
        parts: GraphParts,
        gradient: &mut dyn FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        self.check(batch)?;
        if batch.texts() == 0 {
            return self.forward(batch, mode);
        }
        match parts {
            GraphParts::Texts(chunk) => {
                Chunks::new(self, batch, None, mode, chunk)?.backward(gradient)
            }
            GraphParts::Layers => self.backward_by_layers(batch, None, mode, gradient),
        }
    }

    fn activation_bytes(&self, batch: &TokenBatch, mode: Mode, parts: GraphParts) -> Option<u64> {
        Some(self.estimated_bytes(batch, mode, parts))
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.parameters.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect()
    }

    fn device(&self) -> Device {
        self.device
    }

    fn shares_prompts(&self) -> bool {
        match &self.body {
            Body::Encoder(_) => false,
            Body::Decoder(decoder) => decoder.can_share() && self.sharing != Sharing::Never,
        }
    }

    fn compute_kind(&self) -> Kind {
        self.body_kind().unwrap_or(Kind::Float)
    }

    fn part(&self, name: &str) -> Part {
        names::part(name, &self.config)
    }

    fn layout(&self) -> Layout {
        match self.body {
            Body::Encoder(_) => Layout::Pair,
            Body::Decoder(_) => Layout::Continuation,
        }
    }

    fn vocab_size(&self) -> Option<usize> {
        usize::try_from(self.config.vocab_size()).ok()
    }

    fn pad_with(&mut self, token: u32) {
        self.pad_token = Some(token.into());
    }

    fn backbone(&self) -> Option<&dyn Backbone> {
        Some(self)
    }

    fn frozen_layers(&self, mode: Mode) -> Option<&dyn FrozenLayers> {
        (frozen::cut(self, mode) > 0).then_some(self)
    }

    fn reward_scale(&self) -> Option<RewardScale> {
        self.scale
    }

    fn set_reward_scale(&mut self, mean: f64, std: f64, normalize: bool) -> Result<()> {
        if !mean.is_finite() || !std.is_finite() || (normalize && std <= 0.0) {
            return Err(Error::InvalidArgument(format!(
                "rewards of mean {mean} and standard deviation {std} cannot be brought to 0 and 1"
            )));
        }
        // A reward was the head's output less this.
        let before = self.scale.map_or(0.0, |scale| scale.offset);
        let offset = match normalize {
            true => self.head.rescale(before + mean, std)?,
            false => before,
        };
        self.scale = Some(RewardScale { mean, std, normalized: normalize, offset });
        Ok(())
    }

    fn save(&self, dir: &Path) -> Result<()> {
        let config = dir.join("config.json");
        let own_head = self.loaded.as_ref().is_some_and(|loaded| loaded.drawn.is_empty());
        let dtype = self.saving.dtype.name();
        let json = self.config.to_json(dtype, self.pad_token, self.scale, own_head)?;
        std::fs::write(&config, json).map_err(Error::io("write", &config))?;
        save::write(dir, &self.parameters, self.saving)
    }
}

impl Backbone for Transformer {
    fn hidden_states(&self, batch: &TokenBatch, mode: Mode) -> Result<Tensor> {
        self.check(batch)?;
        if batch.texts() == 0 {
            let size = [0, self.config.hidden_size()];
            return Ok(Tensor::f_zeros(size, (Kind::Float, self.device))?);
        }
        let run = |training| self.hidden(batch, training);
        match mode {
            Mode::Evaluation | Mode::WithoutDropout { .. } => run(false),
            Mode::Training { seed } => seeded(seed, || run(true)),
        }
    }

    fn token_embeddings(&self) -> Tensor {
        match &self.body {
            Body::Encoder(encoder) => encoder.token_embeddings(),
            Body::Decoder(decoder) => decoder.token_embeddings(),
        }
        .shallow_clone()
    }

    fn is_causal(&self) -> bool {
        matches!(self.body, Body::Decoder(_))
    }
}
