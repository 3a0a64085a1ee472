//! [`Objective`]: what a model is trained for.

use serde::de::DeserializeOwned;
use serde::Serialize;
use tch::Tensor;

use crate::model::{Mode, RewardModel};
use crate::score::Scorer;
use crate::text::{TokenizedText, Tokenizer};
use crate::{Error, Result, TokenBatch};

/// What a model is trained for: how examples become texts, what its outputs cost, and how well it
/// does on examples that it does not learn from.
///
/// [`RankedLists`](crate::RankedLists) is what reward models are trained for; fine-tuning for
/// another task is the same act with another objective and another output layer.
///
/// ```
/// use reward_model::tch::{Device, Kind, Tensor};
/// use reward_model::text::{Limits, Tokenizer};
/// use reward_model::{
///     BatchLoss, EncoderConfig, Evaluation, Mode, Objective, Prepared, RankedList, RankedLists,
///     Ranks, Result, RewardModel, Scorer, TokenBatch, TrainConfig, Trainer, Transformer,
/// };
///
/// /// The best response of a list is to be told from all others at once: −log softmax(r)₁. The rest
/// /// is as for ranked lists.
/// struct BestOf(RankedLists);
///
/// impl Objective for BestOf {
///     type Example = RankedList;
///     type Target = Ranks;
///     type Evaluation = Evaluation;
///
///     fn prepare(&self, tokenizer: &Tokenizer, lists: &[RankedList]) -> Result<Prepared<Ranks>> {
///         self.0.prepare(tokenizer, lists)
///     }
///     fn loss(
///         &self,
///         model: &dyn RewardModel,
///         batch: &TokenBatch,
///         _: &[&Ranks],
///         mode: Mode,
///     ) -> Result<BatchLoss> {
///         let rewards = model.forward(batch, mode)?.f_view([-1])?;
///         let of_list = |list| -> Result<Tensor> {
///             // Best first.
///             let texts = batch.list(list);
///             let rewards = rewards.f_narrow(0, texts.start as i64, texts.len() as i64)?;
///             Ok(rewards.f_log_softmax(0, Kind::Float)?.f_get(0)?.f_neg()?)
///         };
///         let losses = (0..batch.lists()).map(of_list).collect::<Result<Vec<_>>>()?;
///         let mean = Tensor::f_stack(&losses, 0)?.f_mean(Kind::Float)?;
///         Ok(BatchLoss::mean_of(losses.len(), mean))
///     }
///     fn evaluate(&self, scorer: &Scorer, lists: &[RankedList]) -> Result<Evaluation> {
///         self.0.evaluate(scorer, lists)
///     }
///     fn merit(&self, evaluation: &Evaluation) -> Option<f64> {
///         self.0.merit(evaluation)
///     }
/// }
///
/// let lists = [RankedList::new(["so good", "fair", "so bad"])?, RankedList::new(["good", "bad"])?];
/// let tokenizer = Tokenizer::train(["so good", "fair", "so bad"], 100)?.with_limits(Limits::new(16))?;
/// let config = EncoderConfig {
///     vocab_size: tokenizer.vocab_size() as i64,
///     hidden_size: 16,
///     num_hidden_layers: 1,
///     num_attention_heads: 2,
///     intermediate_size: 32,
///     ..EncoderConfig::default()
/// };
/// let model = Transformer::random(config, 7, Device::Cpu)?;
/// let config = TrainConfig { epochs: 20, learning_rate: 1e-2, ..TrainConfig::default() };
/// let mut trainer = Trainer::new(Box::new(model), tokenizer, config)?;
/// let objective = BestOf(RankedLists { loss: trainer.config().loss });
/// let evaluation = trainer.fit(&objective, &lists, &lists, &mut |_| Ok(()))?;
/// assert_eq!(evaluation.metrics.top1, Some(1.0));
/// # Ok::<(), reward_model::Error>(())
/// ```
pub trait Objective: Sync {
    /// One piece of training data.
    type Example: Clone + Send + Sync;
    /// What is known of an example beside its texts.
    type Target: Clone + Send + Sync + Serialize;
    /// How a model does on examples that it does not learn from. In JSON it is an object, whose
    /// numbers [`TrainConfig::best_by`](crate::TrainConfig::best_by) can name.
    type Evaluation: Clone + Serialize + DeserializeOwned;

    /// The examples as tokens; those from which nothing can be learned are left out and counted.
    ///
    /// # Errors
    /// If the tokenizer fails or an example does not fit the objective.
    fn prepare(
        &self,
        tokenizer: &Tokenizer,
        examples: &[Self::Example],
    ) -> Result<Prepared<Self::Target>>;

    /// What the model's outputs for a batch cost: a list of the batch is an example.
    ///
    /// # Errors
    /// If the model fails, or does not fit the objective.
    fn loss(
        &self,
        model: &dyn RewardModel,
        batch: &TokenBatch,
        targets: &[&Self::Target],
        mode: Mode,
    ) -> Result<BatchLoss>;

    /// What the model decided in a batch of a step, for the step's record: of the outputs that
    /// [`loss`](Self::loss) gave, row by row, which are read only when the gradient is there, so that a
    /// GPU need not wait. By default nothing.
    ///
    /// # Errors
    /// If the outputs are not as many as the targets ask for.
    fn decisions(&self, outputs: &[f32], targets: &[&Self::Target]) -> Result<Decisions> {
        let _ = (outputs, targets);
        Ok(Decisions::default())
    }

    /// Whether [`loss`](Self::loss) asks nothing of the model but the outputs of this batch, by one
    /// [`RewardModel::forward`] in this mode. Then its gradient can be had in parts
    /// ([`TrainConfig::max_memory`](crate::TrainConfig::max_memory)), and from what frozen layers gave
    /// before ([`TrainConfig::cache_frozen`](crate::TrainConfig::cache_frozen)). By default that is not
    /// certain.
    fn needs_outputs_alone(&self) -> bool {
        false
    }

    /// How the model does on these examples.
    ///
    /// # Errors
    /// If the model fails, or does not fit the objective.
    fn evaluate(&self, scorer: &Scorer, examples: &[Self::Example]) -> Result<Self::Evaluation>;

    /// The figure of an evaluation by which epochs are compared: higher is better. `None` if there
    /// was nothing to evaluate on.
    fn merit(&self, evaluation: &Self::Evaluation) -> Option<f64>;
}

/// An error if the outputs are not as many as expected.
pub(super) fn as_many(outputs: &[f32], expected: usize) -> Result<()> {
    if outputs.len() == expected {
        return Ok(());
    }
    let message = format!("{} outputs where the targets ask for {expected}", outputs.len());
    Err(Error::InvalidArgument(message))
}

/// What a batch costs.
#[derive(Debug)]
#[non_exhaustive]
pub struct BatchLoss {
    /// A scalar to differentiate.
    pub loss: Tensor,
    /// Of how many things the loss is a mean (lists, pairs, texts, tokens): how much this batch
    /// weighs against others whose gradients are accumulated. `None` if the loss is a sum.
    pub weight: Option<f64>,
    /// What [`Objective::decisions`] is to be told.
    pub outputs: Option<Tensor>,
}

/// What a model decided in a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Decisions {
    /// How many pairs, classes or tokens there were to decide about: what the means of batches weigh
    /// when they are put together.
    pub count: usize,
    /// The share of them that is right.
    pub accuracy: Option<f64>,
    /// The mean reward margin r_w − r_l of pairs.
    pub margin: Option<f64>,
}

impl BatchLoss {
    /// A loss that is a mean over so many things.
    pub fn mean_of(count: usize, loss: Tensor) -> BatchLoss {
        BatchLoss { weight: Some(count as f64), ..BatchLoss::sum(loss) }
    }

    /// A loss that is a sum.
    pub fn sum(loss: Tensor) -> BatchLoss {
        BatchLoss { loss, weight: None, outputs: None }
    }

    /// With what [`Objective::decisions`] is to be told: held until the end of the step, so no more than
    /// it needs.
    pub fn with_outputs(self, outputs: &Tensor) -> BatchLoss {
        BatchLoss { outputs: Some(outputs.shallow_clone()), ..self }
    }
}

/// Training data as tokens, and what was left out of them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Prepared<T> {
    /// The examples that something can be learned from.
    pub examples: Vec<PreparedExample<T>>,
    /// Examples left out because a text is too long.
    pub too_long: usize,
    /// Examples left out because they teach nothing: lists in which no response is ranked above
    /// another, texts without a token to predict.
    pub without_pairs: usize,
    /// Examples whose prompt is cut from its left.
    pub prompts_cut: usize,
}

/// An example as tokens.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PreparedExample<T> {
    /// Its number in the data, from 0.
    pub number: usize,
    /// Its texts.
    pub texts: Vec<TokenizedText>,
    /// What is known of it beside them.
    pub target: T,
}

impl<T> PreparedExample<T> {
    /// The tokens of its longest text.
    pub(super) fn longest_text(&self) -> usize {
        self.texts.iter().map(|text| text.ids.len()).max().unwrap_or(0)
    }

    /// The tokens of all its texts.
    pub(super) fn token_count(&self) -> usize {
        self.texts.iter().map(|text| text.ids.len()).sum()
    }
}

impl<T> Default for Prepared<T> {
    fn default() -> Self {
        Prepared { examples: Vec::new(), too_long: 0, without_pairs: 0, prompts_cut: 0 }
    }
}

impl<T> Prepared<T> {
    /// Adds an example.
    pub fn push(&mut self, number: usize, texts: Vec<TokenizedText>, target: T) {
        self.examples.push(PreparedExample { number, texts, target });
    }

    /// An error if there is no example left of those given.
    pub(super) fn check(&self, given: usize, left: usize) -> Result<()> {
        if left == 0 {
            return Err(Error::InvalidArgument(format!(
                "there is nothing to train on: of {given} examples {} have a text that is too long, \
                 and {} rank no response above another",
                self.too_long, self.without_pairs
            )));
        }
        Ok(())
    }

    /// An error if anything is left out or cut of these data.
    pub(super) fn refuse_losses(&self, what: &str) -> Result<()> {
        if self.too_long + self.without_pairs + self.prompts_cut == 0 {
            return Ok(());
        }
        Err(Error::InvalidArgument(format!(
            "{what} would be lost, which strict forbids: {} examples are too long, {} rank no \
             response above another, {} prompts would be cut",
            self.too_long, self.without_pairs, self.prompts_cut
        )))
    }

    /// The tokens of each example's longest text.
    pub(super) fn lengths(&self) -> Vec<usize> {
        self.examples.iter().map(PreparedExample::longest_text).collect()
    }

    pub(super) fn tokens(&self, batch: &[usize]) -> Result<TokenBatch> {
        TokenBatch::from_lists(batch.iter().map(|&at| self.examples[at].texts.as_slice()))
    }

    pub(super) fn targets(&self, batch: &[usize]) -> Vec<&T> {
        batch.iter().map(|&at| &self.examples[at].target).collect()
    }

    /// The tokens of all texts.
    pub(super) fn token_count(&self) -> usize {
        self.examples.iter().map(PreparedExample::token_count).sum()
    }
}

impl<T: Serialize> Prepared<T> {
    /// Adds all tokens and targets to a number that other data hardly share.
    pub(super) fn hash_into(&self, hasher: &mut crc32fast::Hasher) {
        for example in &self.examples {
            for text in &example.texts {
                hasher.update(&(text.ids.len() as u64).to_le_bytes());
                text.ids.iter().for_each(|id| hasher.update(&id.to_le_bytes()));
                hasher.update(&text.segments);
            }
            // A target that cannot be written has nothing to tell.
            hasher.update(&serde_json::to_vec(&example.target).unwrap_or_default());
        }
    }
}
