//! [`RankedLists`]: the objective of reward models.

use tch::Tensor;

use super::objective::{BatchLoss, Objective, Prepared};
use super::Evaluation;
use crate::metrics::{DetailMeter, RankMeter, Scored};
use crate::model::{Mode, RewardModel};
use crate::score::{self, Scorer};
use crate::text::Tokenizer;
use crate::torch::to_vec_f32;
use crate::{Error, Lists, RankLoss, RankedList, Reduction, Result, Ties, TokenBatch};

/// Scores that order the responses of each list as people have: the objective of
/// [`Trainer::train`](crate::Trainer::train).
#[derive(Clone, Debug, PartialEq)]
pub struct RankedLists {
    /// What an order costs.
    pub loss: RankLoss,
}

impl Objective for RankedLists {
    type Example = RankedList;
    /// The rank of each response.
    type Target = Vec<usize>;
    type Evaluation = Evaluation;

    fn prepare(&self, tokenizer: &Tokenizer, lists: &[RankedList]) -> Result<Prepared<Vec<usize>>> {
        let mut prepared = Prepared::default();
        for (number, tokenized) in tokenizer.encode_lists(lists).into_iter().enumerate() {
            let tokenized = match tokenized {
                Ok(tokenized) => tokenized,
                Err(Error::TooLong { .. }) => {
                    prepared.too_long += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if lists[number].pair_count() == 0 {
                prepared.without_pairs += 1;
                continue;
            }
            prepared.prompts_cut += usize::from(tokenized.prompt_cut);
            prepared.push(number, tokenized.texts, lists[number].ranks().collect());
        }
        Ok(prepared)
    }

    fn loss(
        &self,
        model: &dyn RewardModel,
        batch: &TokenBatch,
        targets: &[&Vec<usize>],
        mode: Mode,
    ) -> Result<BatchLoss> {
        let rewards = score::forward(model, batch, mode, 1)?.f_view([-1])?;
        let lengths: Vec<usize> = targets.iter().map(|ranks| ranks.len()).collect();
        let ranks: Vec<f64> = targets.iter().copied().flatten().map(|&rank| rank as f64).collect();
        let lists = Lists::from_lengths(&lengths).with_ranks(&ranks)?;
        let loss = self.loss.forward_lists(&rewards, &lists)?;

        let rewards = to_vec_f32(&rewards)?;
        let (mut meter, mut rest) = (RankMeter::default(), rewards.as_slice());
        for ranks in targets {
            let (list, after) = rest.split_at(ranks.len().min(rest.len()));
            meter.add(&Scored::new(list, ranks)?);
            rest = after;
        }
        let metrics = meter.metrics();
        let weight = match self.loss.get_reduction() {
            Reduction::MeanPerList => Some(targets.len() as f64),
            Reduction::MeanPairs if self.loss.get_ties() == Ties::Half => {
                let pairs = |ranks: &&Vec<usize>| ranks.len() * ranks.len().saturating_sub(1) / 2;
                Some(targets.iter().map(pairs).sum::<usize>() as f64)
            }
            Reduction::MeanPairs => Some(metrics.pairs as f64),
            Reduction::Sum | Reduction::None => None,
        };
        let (accuracy, margin) = (metrics.pairwise_accuracy, metrics.mean_margin);
        Ok(BatchLoss { loss, accuracy, margin, weight })
    }

    fn needs_outputs_alone(&self) -> bool {
        true
    }

    fn evaluate(&self, scorer: &Scorer, lists: &[RankedList]) -> Result<Evaluation> {
        let tokenized = scorer.tokenizer().encode_lists(lists);
        let known: Vec<_> = tokenized.iter().flatten().collect();
        let rewards = scorer.score_tokenized_lists(&known)?;
        let (mut ranks, mut lengths) = (Vec::new(), Vec::new());
        let (mut meter, mut details) = (RankMeter::default(), DetailMeter::default());
        let (mut too_long, mut rest) = (0, rewards.as_slice());
        for (list, tokenized) in lists.iter().zip(tokenized) {
            let tokenized = match tokenized {
                Ok(tokenized) => tokenized,
                Err(Error::TooLong { .. }) => {
                    too_long += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (scores, after) = rest.split_at(tokenized.texts.len());
            rest = after;
            let list_ranks: Vec<usize> = list.ranks().collect();
            let tokens = tokenized.texts.iter().map(|text| text.ids.len() - text.prompt_len);
            meter.add(&Scored::new(scores, &list_ranks)?);
            details.add(scores, &list_ranks, &tokens.collect::<Vec<_>>())?;
            lengths.push(scores.len());
            ranks.extend(list_ranks.iter().map(|&rank| rank as f64));
        }
        let metrics = meter.metrics();
        let loss = if metrics.pairs == 0 {
            None
        } else {
            let lists = Lists::from_lengths(&lengths).with_ranks(&ranks)?;
            let loss = self.loss.forward_lists(&Tensor::f_from_slice(&rewards)?, &lists)?;
            Some(loss.f_double_value(&[])?)
        };
        Ok(Evaluation { loss, metrics, details: details.details(), too_long })
    }

    fn merit(&self, evaluation: &Evaluation) -> Option<f64> {
        evaluation.metrics.pairwise_accuracy
    }
}
