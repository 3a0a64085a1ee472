//! The ordered pairs of a batch of lists, as index tensors: the one place where pairs are formed.

use tch::{Device, Kind, Tensor};

use super::{Lists, Ties};
use crate::torch::{upload, upload_indices};
use crate::{Error, Result};

/// All valid pairs of a batch, in order of list, winner, loser.
pub(super) struct Pairs {
    /// Position of each pair's winner and loser in the flat rewards; int64.
    pub winners: Tensor,
    pub losers: Tensor,
    /// Which of the pairs are ties, for [`Ties::Half`].
    pub ties: Option<TiedPairs>,
    /// How many pairs each list has; `None` if all lists have equally many.
    pub per_list: Option<Vec<usize>>,
    pub count: usize,
}

/// The positions, within the pairs, of the strict and of the tied ones; int64.
pub(super) struct TiedPairs {
    pub strict: Tensor,
    pub tied: Tensor,
    /// Undoes the grouping: strict pairs followed by tied ones, back into the order of pairs.
    pub order: Tensor,
}

impl Pairs {
    pub fn new(lists: &Lists, ties: Ties, device: Device) -> Result<Pairs> {
        match lists.uniform_in_order() {
            Some(len) => Pairs::uniform(lists.len(), len, device),
            None => Pairs::ragged(lists, ties, device),
        }
    }

    /// Lists of one length, in order: made on the device, nothing is uploaded.
    fn uniform(lists: usize, len: usize, device: Device) -> Result<Pairs> {
        let count = lists * (len * len.saturating_sub(1) / 2);
        let (lists, len) = (lists as i64, len as i64);
        let upper = Tensor::f_triu_indices(len, len, 1, (Kind::Int64, device))?;
        let starts =
            Tensor::f_arange(lists, (Kind::Int64, device))?.f_mul_scalar(len)?.f_unsqueeze(1)?;
        let of = |row: i64| starts.f_add(&upper.f_select(0, row)?)?.f_reshape([-1]);
        Ok(Pairs { winners: of(0)?, losers: of(1)?, ties: None, per_list: None, count })
    }

    fn ragged(lists: &Lists, ties: Ties, device: Device) -> Result<Pairs> {
        let (mut winners, mut losers) = (Vec::new(), Vec::new());
        let (mut strict, mut tied) = (Vec::new(), Vec::new());
        let mut per_list = Vec::with_capacity(lists.len());
        for list in lists.in_order() {
            let before = winners.len();
            for (at, &winner) in list.items.iter().enumerate() {
                let first = if ties == Ties::Half { at + 1 } else { list.tie_ends[at] };
                for (offset, &loser) in list.items[first..].iter().enumerate() {
                    let group =
                        if first + offset < list.tie_ends[at] { &mut tied } else { &mut strict };
                    group.push(winners.len());
                    winners.push(winner as i64);
                    losers.push(loser as i64);
                }
            }
            per_list.push(winners.len() - before);
        }
        let ties = if tied.is_empty() {
            None
        } else {
            let mut order = vec![0; winners.len()];
            for (from, &to) in strict.iter().chain(&tied).enumerate() {
                order[to] = from;
            }
            Some(TiedPairs {
                strict: upload_indices(strict, device)?,
                tied: upload_indices(tied, device)?,
                order: upload_indices(order, device)?,
            })
        };
        Ok(Pairs {
            winners: upload(&winners, device)?,
            losers: upload(&losers, device)?,
            ties,
            per_list: Some(per_list),
            count: winners.len(),
        })
    }

    /// Weights that make a sum over pairs the mean over the lists that have pairs of each one's
    /// mean; `None` if a plain mean does.
    pub fn mean_per_list_weights(&self, like: &Tensor) -> Result<Option<Tensor>> {
        let Some(per_list) = &self.per_list else { return Ok(None) };
        let lists = per_list.iter().filter(|&&pairs| pairs > 0).count() as f64;
        let weights: Vec<f64> = per_list
            .iter()
            .flat_map(|&pairs| std::iter::repeat_n(1.0 / (pairs as f64 * lists), pairs))
            .collect();
        Ok(Some(upload(&weights, like.device())?.f_to_kind(like.f_kind()?)?))
    }

    /// The margins of the pairs as a tensor like `like`, if the lists have any.
    pub fn margins(&self, lists: &Lists, like: &Tensor) -> Result<Option<Tensor>> {
        let Some(margins) = lists.margins() else { return Ok(None) };
        if margins.len() != self.count {
            return Err(Error::InvalidArgument(format!(
                "{} margins for {} valid pairs",
                margins.len(),
                self.count
            )));
        }
        Ok(Some(upload(margins, like.device())?.f_to_kind(like.f_kind()?)?))
    }
}
