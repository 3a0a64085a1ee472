//! [`RankedLists`]: the objective of reward models.

use serde::Serialize;
use tch::Tensor;

use super::objective::{as_many, BatchLoss, Decisions, Objective, Prepared};
use super::Evaluation;
use crate::metrics::{DetailMeter, RankMeter, Scored};
use crate::model::{Mode, RewardModel};
use crate::score::{self, Scorer};
use crate::text::Tokenizer;
use crate::{Error, Lists, RankLoss, RankedList, Reduction, Result, Ties, TokenBatch};

/// Scores that order the responses of each list as people have: the objective of
/// [`Trainer::train`](crate::Trainer::train).
#[derive(Clone, Debug, PartialEq)]
pub struct RankedLists {
    /// What an order costs.
    pub loss: RankLoss,
}

/// What people say of a list's responses, which stand best first.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Ranks {
    /// The rank of each, from 1, never falling.
    pub ranks: Vec<usize>,
    /// The list's [margin](RankedList::margin).
    pub margin: Option<f64>,
}

impl Ranks {
    /// These ranks, with a margin or none.
    pub fn new(ranks: Vec<usize>, margin: Option<f64>) -> Ranks {
        Ranks { ranks, margin }
    }

    fn of(list: &RankedList) -> Ranks {
        Ranks::new(list.ranks().collect(), list.margin())
    }

    /// How many pairs of responses there are, and how many of them are tied.
    fn pairs(&self) -> (usize, usize) {
        let pairs = |n: usize| n * n.saturating_sub(1) / 2;
        let mut ranks = self.ranks.clone();
        ranks.sort_unstable();
        let runs = ranks.chunk_by(|a, b| a == b);
        (pairs(self.ranks.len()), runs.map(|run| pairs(run.len())).sum())
    }

    /// Whether each two are tied, in order of the first, then of the second.
    fn ties(&self) -> impl Iterator<Item = bool> + '_ {
        let ranks = &self.ranks;
        (0..ranks.len()).flat_map(move |i| ranks[i + 1..].iter().map(move |rank| *rank == ranks[i]))
    }
}

impl RankedLists {
    /// The lists as the loss takes them; those without a margin have one of 0 beside others that have
    /// one, and so have ties.
    fn lists(&self, targets: &[&Ranks]) -> Result<Lists> {
        let lengths: Vec<usize> = targets.iter().map(|list| list.ranks.len()).collect();
        let ranks: Vec<f64> =
            targets.iter().flat_map(|list| &list.ranks).map(|&rank| rank as f64).collect();
        let lists = Lists::from_lengths(&lengths).with_ranks(&ranks)?;
        if targets.iter().all(|list| list.margin.is_none()) {
            return Ok(lists);
        }
        let with_ties = self.loss.get_ties() == Ties::Half;
        let margins = targets.iter().flat_map(|list| {
            let margin = list.margin.unwrap_or(0.0);
            list.ties()
                .filter(move |tie| with_ties || !tie)
                .map(move |tie| if tie { 0.0 } else { margin })
        });
        lists.with_margins(&margins.collect::<Vec<_>>())
    }
}

impl Objective for RankedLists {
    type Example = RankedList;
    type Target = Ranks;
    type Evaluation = Evaluation;

    fn prepare(&self, tokenizer: &Tokenizer, lists: &[RankedList]) -> Result<Prepared<Ranks>> {
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
            prepared.push(number, tokenized.texts, Ranks::of(&lists[number]));
        }
        Ok(prepared)
    }

    fn loss(
        &self,
        model: &dyn RewardModel,
        batch: &TokenBatch,
        targets: &[&Ranks],
        mode: Mode,
    ) -> Result<BatchLoss> {
        let rewards = score::forward(model, batch, mode, 1)?.f_view([-1])?;
        let loss = self.loss.forward_lists(&rewards, &self.lists(targets)?)?;

        let pairs = targets.iter().map(|list| match (list.pairs(), self.loss.get_ties()) {
            ((all, _), Ties::Half) => all,
            ((all, tied), Ties::Skip) => all - tied,
        });
        let cost = match self.loss.get_reduction() {
            Reduction::MeanPerList => BatchLoss::mean_of(targets.len(), loss),
            Reduction::MeanPairs => BatchLoss::mean_of(pairs.sum(), loss),
            Reduction::Sum | Reduction::None => BatchLoss::sum(loss),
        };
        Ok(cost.with_outputs(&rewards))
    }

    fn decisions(&self, rewards: &[f32], targets: &[&Ranks]) -> Result<Decisions> {
        let (mut meter, mut rest) = (RankMeter::default(), rewards);
        as_many(rewards, targets.iter().map(|list| list.ranks.len()).sum())?;
        for Ranks { ranks, .. } in targets {
            let (list, after) = rest.split_at(ranks.len());
            meter.add(&Scored::new(list, ranks)?);
            rest = after;
        }
        let metrics = meter.metrics();
        Ok(Decisions {
            count: metrics.pairs,
            accuracy: metrics.pairwise_accuracy,
            margin: metrics.mean_margin,
        })
    }

    fn needs_outputs_alone(&self) -> bool {
        true
    }

    fn evaluate(&self, scorer: &Scorer, lists: &[RankedList]) -> Result<Evaluation> {
        let tokenized = scorer.tokenizer().encode_lists(lists);
        let known: Vec<_> = tokenized.iter().flatten().collect();
        let rewards = scorer.score_tokenized_lists(&known)?;
        let mut targets = Vec::new();
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
            let target = Ranks::of(list);
            let tokens = tokenized.texts.iter().map(|text| text.ids.len() - text.prompt_len);
            meter.add(&Scored::new(scores, &target.ranks)?);
            details.add(scores, &target.ranks, &tokens.collect::<Vec<_>>())?;
            targets.push(target);
        }
        let metrics = meter.metrics();
        let loss = if metrics.pairs == 0 {
            None
        } else {
            let lists = self.lists(&targets.iter().collect::<Vec<_>>())?;
            let loss = self.loss.forward_lists(&Tensor::f_from_slice(&rewards)?, &lists)?;
            Some(loss.f_double_value(&[])?)
        };
        Ok(Evaluation { loss, metrics, details: details.details(), too_long })
    }

    fn merit(&self, evaluation: &Evaluation) -> Option<f64> {
        evaluation.metrics.pairwise_accuracy
    }
}
