//! Models that score texts, and the folders they live in.
//!
//! [`RewardModel`] is what the trainer and the [`Scorer`](crate::Scorer) ask of a model; another
//! crate can implement it in a page. [`Transformer`] is the one that comes with this crate, for the
//! architectures of [`EncoderType`] and [`DecoderType`]; [`load`] reads a model folder.

mod attention;
mod checkpoint;
mod chunks;
mod config;
mod decoder;
mod encoder;
mod folder;
mod frozen;
mod head;
mod layers;
mod memory;
mod names;
mod options;
mod packed;
mod passes;
mod recomputed;
mod rotation;
mod save;
mod scale;
mod sharing;
mod transformer;
#[cfg(test)]
mod twins;
mod weights;

use std::path::Path;

use tch::{Device, Kind, Tensor};

#[cfg(feature = "train")]
pub(crate) use checkpoint::read_tensors;
#[cfg(feature = "hub")]
pub(crate) use checkpoint::{INDEX, SINGLE};
pub use config::{
    Activation, DecoderConfig, DecoderType, EncoderConfig, EncoderType, ModelConfig, Rope,
    RopeScaling,
};
pub use folder::{check_target, write_folder};
pub use names::HeadSource;
pub use options::{LoadOptions, Loaded, Precision};
#[cfg(feature = "train")]
pub(crate) use save::write_tensors;
pub use save::{SaveDtype, SaveOptions};
pub use scale::RewardScale;
pub use sharing::Sharing;
pub use transformer::Transformer;

use crate::text::Layout;
use crate::{Error, Result, TokenBatch};

/// How a forward pass is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// No dropout: the same batch gives the same scores.
    Evaluation,
    /// With dropout, whose masks follow from the seed alone (on a given device and number of
    /// threads).
    Training {
        /// Different for every step; a resumed run repeats its masks.
        seed: i64,
    },
    /// To be trained without dropout: scores as in an evaluation. The seed is for what an objective
    /// draws.
    WithoutDropout {
        /// Different for every step.
        seed: i64,
    },
}

/// What of a batch's graph is in memory at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GraphParts {
    /// That of so many texts (0 counts as 1), and of what the texts of a list share: gradient caching
    /// (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup").
    Texts(usize),
    /// That of one layer, and what goes into each: gradient checkpointing (Chen et al. 2016,
    /// "Training Deep Nets with Sublinear Memory Cost").
    Layers,
}

/// Something that gives each text of a batch a score.
///
/// ```
/// use std::path::Path;
/// use reward_model::{tch, Error, Mode, Result, RewardModel, TokenBatch};
/// use tch::{Device, Kind, Tensor};
///
/// /// Rewards a text by the words it has: the mean of one learned weight per token id.
/// struct BagOfWords {
///     weights: Tensor,
/// }
///
/// impl RewardModel for BagOfWords {
///     fn forward(&self, batch: &TokenBatch, _: Mode) -> Result<Tensor> {
///         let ids: Vec<i64> = batch.ids().iter().map(|&id| id.into()).collect();
///         let starts: Vec<i64> =
///             batch.text_offsets()[..batch.texts()].iter().map(|&start| start as i64).collect();
///         let (means, _, _, _) = Tensor::f_embedding_bag(
///             &self.weights,
///             &Tensor::from_slice(&ids),
///             &Tensor::from_slice(&starts),
///             false,
///             1,
///             false,
///             None::<Tensor>,
///             false,
///         )?;
///         Ok(means)
///     }
///     fn parameters(&self) -> Vec<(String, Tensor)> {
///         vec![("weights".into(), self.weights.shallow_clone())]
///     }
///     fn device(&self) -> Device {
///         Device::Cpu
///     }
///     fn save(&self, dir: &Path) -> Result<()> {
///         Ok(self.weights.save(dir.join("weights.pt"))?)
///     }
/// }
///
/// let model = BagOfWords { weights: Tensor::zeros([100, 1], (Kind::Float, Device::Cpu)) };
/// let text = reward_model::TokenizedText::from_ids([3, 14, 15]);
/// let rewards = model.forward(&TokenBatch::from_texts([&text])?, Mode::Evaluation)?;
/// assert_eq!(rewards.size(), [1, 1]);
/// # Ok::<(), Error>(())
/// ```
pub trait RewardModel {
    /// Scores: `[texts, outputs]`, f32, on [`device`](Self::device), differentiable with respect to
    /// the [`parameters`](Self::parameters). A text's scores must not depend on the others of the
    /// batch, beyond rounding.
    ///
    /// # Errors
    /// If a text does not fit the model (an id outside its vocabulary, too many tokens), or libtorch
    /// fails.
    fn forward(&self, batch: &TokenBatch, mode: Mode) -> Result<Tensor>;

    /// Adds the gradient of a loss to those of the parameters, in the memory of a part of the batch's
    /// graph where the model can: the scores come first, without a graph; `gradient` is given all of
    /// them, `[texts, outputs]`, and returns the loss's gradient with respect to them, of their
    /// shape; then each [part](GraphParts) is computed again, and goes backward. Returns the scores,
    /// without a graph.
    ///
    /// The gradient is that of [`forward`](Self::forward) but for rounding, where nothing is dropped
    /// out; in training, dropout follows from the seed and the parts. By default the graph is one
    /// part: faster, and with the memory of all.
    ///
    /// ```
    /// use reward_model::{EncoderConfig, Mode, RewardModel, TokenBatch, TokenizedText, Transformer};
    /// use reward_model::model::GraphParts;
    /// use reward_model::tch::{Device, Kind};
    ///
    /// # let config = EncoderConfig { vocab_size: 100, hidden_size: 32, num_hidden_layers: 1,
    /// #     num_attention_heads: 2, intermediate_size: 64, ..EncoderConfig::default() };
    /// let model = Transformer::random(config, 7, Device::Cpu)?;
    /// let texts = [[2, 31, 3], [2, 41, 3], [2, 59, 3]].map(TokenizedText::from_ids);
    /// let batch = TokenBatch::from_lists([&texts[..]])?;
    /// // The loss is half the sum of squares, and its gradient the scores themselves.
    /// let (mode, parts) = (Mode::Training { seed: 1 }, GraphParts::Texts(1));
    /// let scores = model.backward_in_parts(&batch, mode, parts, &mut |scores| {
    ///     Ok(scores.shallow_clone())
    /// })?;
    /// assert_eq!(scores.size(), [3, 1]);
    /// let (_, weight) = &model.parameters()[0];
    /// assert!(weight.grad().norm().double_value(&[]) > 0.0);
    /// # Ok::<(), reward_model::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and those of `gradient`; if what it returns has another
    /// shape. Some of the gradient may have been added by then.
    fn backward_in_parts(
        &self,
        batch: &TokenBatch,
        mode: Mode,
        parts: GraphParts,
        gradient: &mut dyn FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let _ = parts;
        let scores = self.forward(batch, mode)?;
        let values = scores.f_detach()?;
        chunks::backward(&scores, &chunks::checked(gradient(&values)?, &values)?)?;
        Ok(values)
    }

    /// About how many bytes the graph of a batch takes beside parameters and gradients, in
    /// [`backward_in_parts`](Self::backward_in_parts), or with as many texts as the batch has in
    /// [`forward`](Self::forward). By default it is not known.
    fn activation_bytes(
        &self,
        _batch: &TokenBatch,
        _mode: Mode,
        _parts: GraphParts,
    ) -> Option<u64> {
        None
    }

    /// The parameters by name: leaf tensors that share storage with the model's own, in an order and
    /// under names that never change. Those that do not require a gradient are not trained.
    fn parameters(&self) -> Vec<(String, Tensor)>;

    /// Where the parameters are, and where scores will be.
    fn device(&self) -> Device;

    /// The part of the model that a parameter belongs to, for training some parts only or with
    /// other learning rates. By default [`Part::Other`].
    fn part(&self, _name: &str) -> Part {
        Part::Other
    }

    /// How the model wants prompt and response joined. By default [`Layout::Pair`].
    fn layout(&self) -> Layout {
        Layout::Pair
    }

    /// Whether what the texts of a list begin with goes through it once; a model around another one
    /// passes this on. By default not.
    fn shares_prompts(&self) -> bool {
        false
    }

    /// The dtype that it computes in, on which the end of a run depends; a model around another one
    /// passes this on. By default f32's.
    fn compute_kind(&self) -> Kind {
        Kind::Float
    }

    /// How many token ids it knows, if it tells. By default it does not.
    fn vocab_size(&self) -> Option<usize> {
        None
    }

    /// Told the token that fills up batches elsewhere, for the files that it
    /// [writes](Self::save); it never meets that token itself. By default nothing is done.
    fn pad_with(&mut self, _token: u32) {}

    /// The model without its head, for objectives that need one (language modelling). By default
    /// `None`.
    fn backbone(&self) -> Option<&dyn Backbone> {
        None
    }

    /// The layers at the bottom that give the same for the same text for as long as what trains does
    /// not change: whether parameters require a gradient says which, and they drop nothing out in
    /// this mode. By default `None`.
    fn frozen_layers(&self, _mode: Mode) -> Option<&dyn FrozenLayers> {
        None
    }

    /// How large its rewards are, if that was measured. What it says of an offset is subtracted from
    /// every reward by the [`Scorer`](crate::Scorer). By default `None`.
    fn reward_scale(&self) -> Option<RewardScale> {
        None
    }

    /// Told the mean and the standard deviation of its rewards on training data, for the files that it
    /// [writes](Self::save); changes its head, if `normalize` is set, so that they become 0 and 1.
    /// By default nothing is done, and normalising is an error.
    ///
    /// # Errors
    /// If the model cannot be normalised.
    fn set_reward_scale(&mut self, _mean: f64, _std: f64, normalize: bool) -> Result<()> {
        match normalize {
            false => Ok(()),
            true => Err(Error::InvalidArgument(
                "this model cannot normalise its rewards (RewardModel::set_reward_scale)".into(),
            )),
        }
    }

    /// Writes the model's files into an existing folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    fn save(&self, dir: &Path) -> Result<()>;
}

/// A model without its head: a hidden state for every token.
pub trait Backbone {
    /// The last hidden states, after the final norm where there is one: `[tokens, hidden_size]`,
    /// f32, differentiable; text after text, without padding.
    ///
    /// # Errors
    /// As [`RewardModel::forward`].
    fn hidden_states(&self, batch: &TokenBatch, mode: Mode) -> Result<Tensor>;

    /// The table of token embeddings, which language models use as their last layer too:
    /// `[vocab_size, hidden_size]`.
    fn token_embeddings(&self) -> Tensor;

    /// Whether a token sees those before it and itself only, as in a decoder.
    fn is_causal(&self) -> bool;
}

/// A model that can go on from what its frozen layers have given for a list.
pub trait FrozenLayers {
    /// What the last frozen layer gives for these lists, without a graph: `[rows, hidden_size]`,
    /// with rows for each list after those of the list before. A list's number of rows depends on the
    /// list alone: its tokens, those that its texts share once, or its texts if all layers are frozen.
    ///
    /// # Errors
    /// As [`RewardModel::forward`].
    fn states(&self, batch: &TokenBatch) -> Result<Tensor>;

    /// [`RewardModel::forward`] from the states of the batch's lists, one after another.
    ///
    /// # Errors
    /// As [`RewardModel::forward`].
    fn forward_from(&self, states: &Tensor, batch: &TokenBatch, mode: Mode) -> Result<Tensor>;

    /// [`RewardModel::backward_in_parts`] from the states of the batch's lists.
    ///
    /// # Errors
    /// As [`RewardModel::backward_in_parts`].
    fn backward_in_parts_from(
        &self,
        states: &Tensor,
        batch: &TokenBatch,
        mode: Mode,
        parts: GraphParts,
        gradient: &mut dyn FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor>;
}

/// A part of a model, from its input to its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Part {
    /// Not known.
    Other,
    /// Embeddings of tokens, positions and segments, with their norm.
    Embeddings,
    /// A layer, from 0 at the input.
    Layer(usize),
    /// The norm after the last layer.
    FinalNorm,
    /// What stands between the last hidden states and the outputs; new where a pretrained model is
    /// given another task.
    Head,
}

/// Reads the model of a folder; [`Transformer::load`] with the defaults.
///
/// # Errors
/// As [`Transformer::load`].
pub fn load(dir: impl AsRef<Path>, device: Device) -> Result<Box<dyn RewardModel>> {
    Ok(Box::new(Transformer::load(dir, &LoadOptions::on(device))?))
}
