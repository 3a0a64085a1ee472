//! Pairwise losses: which way to compute them, and the two ways on tensors of pairs, all of them at
//! once or block by block.

use tch::{Device, Tensor};

use super::pairs::{pairs_per_list, Block, Pairs};
use super::{analytic, fused, Lists, PairFunction, RankLoss, Reduction, Ties};
use crate::torch::{rows, upload};
use crate::{Error, Result};

/// Batches of more pairs are computed in blocks of that many, each of which takes some tens of
/// bytes a pair.
const PAIRS_PER_BLOCK: usize = 1 << 20;

impl RankLoss {
    pub(super) fn pairwise_loss(
        &self,
        function: PairFunction,
        rewards: &Tensor,
        lists: &Lists,
    ) -> Result<Tensor> {
        let plain = function == PairFunction::Logistic
            && self.label_smoothing == 0.0
            && lists.margins().is_none()
            && (self.ties == Ties::Skip || lists.is_in_order());
        if self.fused && plain {
            let RankLoss { scale, margin, centering, reduction, .. } = *self;
            let settings = fused::Settings { scale, margin, centering, reduction };
            if let Some(loss) = fused::forward(&settings, rewards, lists)? {
                return Ok(loss);
            }
        }
        let per_list: Vec<usize> = pairs_per_list(lists, self.ties).collect();
        let count: usize = per_list.iter().sum();
        if let Some(margins) = lists.margins().filter(|margins| margins.len() != count) {
            return Err(Error::InvalidArgument(format!(
                "{} margins for {count} valid pairs",
                margins.len()
            )));
        }
        if count == 0 {
            // No value, yet connected to the graph, so that `backward` works on an odd batch.
            let none = rewards.f_narrow(0, 0, 0)?;
            return Ok(if self.reduction == Reduction::None { none } else { none.f_sum(None)? });
        }
        if self.fused && count > PAIRS_PER_BLOCK && self.reduction != Reduction::None {
            return self.in_blocks(function, rewards, lists, &per_list);
        }
        let pairs = Pairs::new(lists, self.ties, Block::whole(lists), rewards.device())?;
        let values = self.values(function, rewards, &pairs, lists.margins())?;
        if self.reduction == Reduction::None {
            return Ok(values);
        }
        self.reduce(&values, &pairs, &per_list)
    }

    /// One block of pairs after the other; of each nothing is left but its share of the value and
    /// of the gradient.
    fn in_blocks(
        &self,
        function: PairFunction,
        rewards: &Tensor,
        lists: &Lists,
        per_list: &[usize],
    ) -> Result<Tensor> {
        let leaf = rewards.f_detach()?.f_set_requires_grad(rewards.requires_grad())?;
        let mut total = rewards.f_detach()?.f_narrow(0, 0, 0)?.f_sum(None)?;
        let mut done = 0;
        for block in Block::divide(lists, self.ties, PAIRS_PER_BLOCK) {
            let pairs = Pairs::new(lists, self.ties, block, rewards.device())?;
            let margins = lists.margins().map(|margins| &margins[done..done + pairs.count]);
            let values = self.values(function, &leaf, &pairs, margins)?;
            let share = self.reduce(&values, &pairs, per_list)?;
            if share.requires_grad() {
                share.f_backward()?;
            }
            total = total.f_add(&share.f_detach()?)?;
            done += pairs.count;
        }
        let gradient = leaf.f_grad()?;
        if !gradient.defined() {
            return Ok(total);
        }
        analytic::scalar(rewards, &gradient, |loss| {
            let _no_grad = tch::no_grad_guard();
            Ok(loss.f_copy_(&total)?)
        })
    }

    /// What each pair costs.
    fn values(
        &self,
        function: PairFunction,
        rewards: &Tensor,
        pairs: &Pairs,
        margins: Option<&[f64]>,
    ) -> Result<Tensor> {
        let margins = margins
            .map(|margins| -> Result<Tensor> {
                Ok(upload(margins, rewards.device())?.f_to_kind(rewards.f_kind()?)?)
            })
            .transpose()?;
        // The backward pass of `index_select` adds in no fixed order on a GPU; on a CPU it does, faster.
        let of = |places: &Tensor| -> Result<Tensor> {
            Ok(match rewards.device() {
                Device::Cpu => rewards.f_index_select(0, places)?,
                _ => rows(&rewards.f_unsqueeze(1)?, places)?.f_squeeze_dim(1)?,
            })
        };
        let (winners, losers) = (of(&pairs.winners)?, of(&pairs.losers)?);
        let difference = winners.f_sub(&losers)?;
        let cost = |d: &Tensor, margins: Option<&Tensor>| -> Result<Tensor> {
            let mut z = d.shallow_clone();
            if self.scale != 1.0 {
                z = z.f_mul_scalar(self.scale)?;
            }
            if self.margin != 0.0 {
                z = z.f_sub_scalar(self.margin)?;
            }
            if let Some(margins) = margins {
                z = z.f_sub(margins)?;
            }
            function.apply(&z)
        };
        let smoothed = |d: &Tensor, margins: Option<&Tensor>| -> Result<Tensor> {
            let right = cost(d, margins)?;
            match self.label_smoothing {
                0.0 => Ok(right),
                share => {
                    let wrong = cost(&d.f_neg()?, margins)?;
                    // Not `lerp`, which subtracts one from the other, and they may be infinite.
                    Ok(right.f_mul_scalar(1.0 - share)?.f_add(&wrong.f_mul_scalar(share)?)?)
                }
            }
        };
        let mut values = match &pairs.ties {
            None => smoothed(&difference, margins.as_ref())?,
            Some(ties) => {
                let select = |positions: &Tensor| -> Result<(Tensor, Option<Tensor>)> {
                    let margins = margins.as_ref().map(|m| m.f_index_select(0, positions));
                    Ok((difference.f_index_select(0, positions)?, margins.transpose()?))
                };
                let (strict, strict_margins) = select(&ties.strict)?;
                let (tied, tied_margins) = select(&ties.tied)?;
                let both = cost(&tied, tied_margins.as_ref())?
                    .f_add(&cost(&tied.f_neg()?, tied_margins.as_ref())?)?;
                let strict = smoothed(&strict, strict_margins.as_ref())?;
                Tensor::f_cat(&[strict, both.f_mul_scalar(0.5)?], 0)?
                    .f_index_select(0, &ties.order)?
            }
        };
        if self.centering != 0.0 {
            let term = winners.f_add(&losers)?.f_square()?;
            values = values.f_add(&term.f_mul_scalar(self.centering)?)?;
        }
        Ok(values)
    }

    /// What the values of some pairs add to the loss of a batch with `per_list` pairs in its lists.
    fn reduce(&self, values: &Tensor, pairs: &Pairs, per_list: &[usize]) -> Result<Tensor> {
        let weights = match self.reduction {
            Reduction::Sum | Reduction::None => return Ok(values.f_sum(None)?),
            Reduction::MeanPerList => pairs.mean_per_list_weights(per_list, values)?,
            Reduction::MeanPairs => None,
        };
        let all: usize = per_list.iter().sum();
        Ok(match weights {
            Some(weights) => values.f_mul(&weights)?.f_sum(None)?,
            None => values.f_sum(None)?.f_div_scalar(all as f64)?,
        })
    }
}
