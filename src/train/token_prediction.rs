//! [`TokenPrediction`]: pretraining on text that nobody has labelled.

use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

use super::objective::{BatchLoss, Decisions, Objective, Prepared};
use crate::model::{Backbone, Mode, RewardModel};
use crate::score::Scorer;
use crate::text::{sorted_batches, Random, Tokenizer};
use crate::torch::upload_indices;
use crate::{Error, Result, TokenBatch};

/// Tokens of a batch whose logits are in memory at the same time in an evaluation.
const EVALUATED_AT_ONCE: usize = 4096;

/// Predicts tokens of a text from others, by cross-entropy over the vocabulary: how a source model
/// is pretrained. The last layer is the table of token embeddings (Press & Wolf 2017), so that the
/// model gets no part that fine-tuning would have no use for; its head is not trained.
///
/// ```
/// use reward_model::{text::Tokenizer, TokenPrediction};
///
/// let tokenizer = Tokenizer::train(["some text", "some more of the text"], 100)?;
/// let masked = TokenPrediction::masked(&tokenizer)?;
/// assert!(matches!(masked, TokenPrediction::Masked { .. }));
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TokenPrediction {
    /// Encoders: of each text `share` of the tokens, at least one, are to be predicted, special
    /// tokens excepted. Of these 80 % are replaced by the mask token, 10 % by another one, and 10 %
    /// stay (Devlin et al. 2019); others in every epoch (Liu et al. 2019).
    Masked {
        /// The token that stands for a hidden one.
        mask_token: u32,
        /// The share of tokens to predict; 0.15 in BERT.
        share: f64,
    },
    /// Decoders: each token from those before it.
    Next,
}

/// How well tokens are predicted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TokenEvaluation {
    /// The mean cross-entropy of the tokens to predict, in nats; `None` if there are none.
    pub loss: Option<f64>,
    /// e to the loss.
    pub perplexity: Option<f64>,
    /// The share of tokens that are the most likely one.
    pub accuracy: Option<f64>,
    /// The number of tokens to predict.
    pub tokens: usize,
    /// Texts left out because they are too long.
    pub too_long: usize,
}

/// A batch with what is to be predicted in it.
struct Question {
    batch: TokenBatch,
    /// The token whose hidden state predicts.
    at: Vec<usize>,
    answers: Vec<u32>,
}

impl TokenPrediction {
    /// Masked-token prediction with this tokenizer's mask token and BERT's share of 0.15.
    ///
    /// # Errors
    /// If the tokenizer has no mask token.
    pub fn masked(tokenizer: &Tokenizer) -> Result<TokenPrediction> {
        let mask_token = tokenizer.mask_id().ok_or_else(|| {
            Error::InvalidArgument(
                "the tokenizer has no mask token, which masked-token prediction needs".into(),
            )
        })?;
        Ok(TokenPrediction::Masked { mask_token, share: 0.15 })
    }

    /// What this model can be pretrained with: [`Next`](Self::Next) for decoders,
    /// [`masked`](Self::masked) for encoders.
    ///
    /// # Errors
    /// If the model does not give its hidden states, or its tokenizer lacks a mask token.
    pub fn of(model: &dyn RewardModel, tokenizer: &Tokenizer) -> Result<TokenPrediction> {
        if backbone_of(model)?.is_causal() {
            Ok(TokenPrediction::Next)
        } else {
            TokenPrediction::masked(tokenizer)
        }
    }

    /// What is to be predicted in a batch, of whose texts these positions may be masked.
    fn question(
        &self,
        batch: &TokenBatch,
        maskable: &[&Vec<usize>],
        vocabulary: usize,
        seed: u64,
    ) -> Result<Question> {
        let (mut at, mut answers) = (Vec::new(), Vec::new());
        let offsets = batch.text_offsets();
        let (mask_token, share) = match self {
            TokenPrediction::Masked { mask_token, share } => (*mask_token, *share),
            TokenPrediction::Next => {
                for text in offsets.windows(2) {
                    for token in text[0]..text[1].saturating_sub(1) {
                        at.push(token);
                        answers.push(batch.ids()[token + 1]);
                    }
                }
                return Ok(Question { batch: batch.clone(), at, answers });
            }
        };
        let mut random = Random::new(seed);
        let mut ids = batch.ids().to_vec();
        for (start, maskable) in offsets.iter().zip(maskable) {
            let mut chosen = maskable.to_vec();
            random.shuffle(&mut chosen);
            let count = (share * chosen.len() as f64).round().max(1.0) as usize;
            for position in chosen.into_iter().take(count) {
                let token = start + position;
                at.push(token);
                answers.push(ids[token]);
                match random.below(10) {
                    0 => ids[token] = random.below(vocabulary) as u32,
                    1 => {}
                    _ => ids[token] = mask_token,
                }
            }
        }
        Ok(Question { batch: batch.with_ids(ids)?, at, answers })
    }

    fn check(&self, backbone: &dyn Backbone) -> Result<()> {
        match (self, backbone.is_causal()) {
            (TokenPrediction::Next, false) => Err(Error::InvalidArgument(
                "the next token can only be predicted by a decoder: this model sees it".into(),
            )),
            (TokenPrediction::Masked { .. }, true) => Err(Error::InvalidArgument(
                "masked tokens can only be predicted by an encoder; use the next token".into(),
            )),
            _ => Ok(()),
        }
    }
}

impl Question {
    /// The mean cross-entropy, and of each answer whether it is the most likely token.
    fn ask(&self, backbone: &dyn Backbone, mode: Mode) -> Result<(Tensor, Tensor)> {
        let hidden = backbone.hidden_states(&self.batch, mode)?;
        let device = hidden.device();
        let at = upload_indices(self.at.iter().copied(), device)?;
        let answers = upload_indices(self.answers.iter().map(|&id| id as usize), device)?;
        let table = backbone.token_embeddings();
        let logits = hidden.f_index_select(0, &at)?.f_linear(&table, None::<&Tensor>)?;
        let right = logits.f_argmax(-1, false)?.f_eq_tensor(&answers)?;
        let loss =
            logits.f_cross_entropy_loss::<Tensor>(&answers, None, Reduction::Mean, -100, 0.0)?;
        Ok((loss, right))
    }
}

impl Objective for TokenPrediction {
    type Example = String;
    /// The positions in the text that may be masked.
    type Target = Vec<usize>;
    type Evaluation = TokenEvaluation;

    fn prepare(&self, tokenizer: &Tokenizer, texts: &[String]) -> Result<Prepared<Vec<usize>>> {
        let special = tokenizer.special_ids();
        let pairs: Vec<(Option<&str>, &str)> = texts.iter().map(|t| (None, t.as_str())).collect();
        let mut prepared = Prepared::default();
        for (number, text) in tokenizer.encode_pairs(&pairs).into_iter().enumerate() {
            let text = match text {
                Ok(text) => text,
                Err(Error::TooLong { .. }) => {
                    prepared.too_long += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let ordinary = |(_, id): &(usize, &u32)| special.binary_search(id).is_err();
            let maskable: Vec<usize> =
                text.ids.iter().enumerate().filter(ordinary).map(|(at, _)| at).collect();
            let answers = match self {
                TokenPrediction::Masked { .. } => maskable.len(),
                TokenPrediction::Next => text.ids.len().saturating_sub(1),
            };
            if answers > 0 {
                prepared.push(number, vec![text], maskable);
            } else {
                prepared.without_pairs += 1;
            }
        }
        Ok(prepared)
    }

    fn loss(
        &self,
        model: &dyn RewardModel,
        batch: &TokenBatch,
        maskable: &[&Vec<usize>],
        mode: Mode,
    ) -> Result<BatchLoss> {
        let backbone = backbone_of(model)?;
        self.check(backbone)?;
        let seed = match mode {
            Mode::Evaluation => 0,
            Mode::Training { seed } | Mode::WithoutDropout { seed } => seed as u64,
        };
        let vocabulary = rows(&backbone.token_embeddings());
        let question = self.question(batch, maskable, vocabulary, seed)?;
        let (loss, right) = question.ask(backbone, mode)?;
        Ok(BatchLoss::mean_of(question.at.len(), loss).with_outputs(&right))
    }

    fn decisions(&self, right: &[f32], _: &[&Vec<usize>]) -> Result<Decisions> {
        let (count, sum) = (right.len(), right.iter().map(|&right| f64::from(right)).sum::<f64>());
        let accuracy = (count > 0).then(|| sum / count as f64);
        Ok(Decisions { count, accuracy, margin: None })
    }

    fn evaluate(&self, scorer: &Scorer, texts: &[String]) -> Result<TokenEvaluation> {
        let _no_grad = tch::no_grad_guard();
        let backbone = backbone_of(scorer.model())?;
        self.check(backbone)?;
        let data = self.prepare(scorer.tokenizer(), texts)?;
        let vocabulary = rows(&backbone.token_embeddings());
        let (mut cost, mut right, mut tokens) = (0.0, 0, 0);
        for batch in sorted_batches(&data.lengths(), usize::MAX, EVALUATED_AT_ONCE) {
            let maskable = data.targets(&batch);
            // The same tokens are hidden in every evaluation.
            let question = self.question(&data.tokens(&batch)?, &maskable, vocabulary, 0)?;
            if question.at.is_empty() {
                continue;
            }
            let (loss, hits) = question.ask(backbone, Mode::Evaluation)?;
            cost += loss.f_double_value(&[])? * question.at.len() as f64;
            right += hits.f_sum(Kind::Int64)?.f_int64_value(&[])?;
            tokens += question.at.len();
        }
        let mean = |sum: f64| (tokens > 0).then(|| sum / tokens as f64);
        Ok(TokenEvaluation {
            loss: mean(cost),
            perplexity: mean(cost).map(f64::exp),
            accuracy: mean(right as f64),
            tokens,
            too_long: data.too_long,
        })
    }

    fn merit(&self, evaluation: &TokenEvaluation) -> Option<f64> {
        evaluation.loss.map(|loss| -loss)
    }
}

fn backbone_of(model: &dyn RewardModel) -> Result<&dyn Backbone> {
    model.backbone().ok_or_else(|| {
        Error::InvalidArgument(
            "the model does not give its hidden states (RewardModel::backbone), which the \
             prediction of tokens needs"
                .into(),
        )
    })
}

fn rows(table: &Tensor) -> usize {
    table.size().first().map_or(0, |&rows| rows.max(1) as usize)
}
