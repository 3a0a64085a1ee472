//! The ordered pairs of a batch of lists, as index tensors: the one place where pairs are formed.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::lists::OrderedList;
use super::{Lists, Ties};
use crate::torch::{upload, upload_indices};
use crate::Result;

/// Some of a batch's pairs: those of some lists with some winners, which are counted best first.
/// Of several lists all winners are meant.
#[derive(Debug, PartialEq)]
pub(super) struct Block {
    pub lists: Range<usize>,
    pub winners: Range<usize>,
}

impl Block {
    /// All pairs.
    pub fn whole(lists: &Lists) -> Block {
        Block { lists: 0..lists.len(), winners: 0..usize::MAX }
    }

    /// All pairs, in their order, in blocks of no more than `at_most` pairs or of a single winner.
    pub fn divide(lists: &Lists, ties: Ties, at_most: usize) -> Vec<Block> {
        let mut blocks = Vec::new();
        let (mut first, mut held) = (0, 0);
        for (number, pairs) in pairs_per_list(lists, ties).enumerate() {
            if held > 0 && held + pairs > at_most {
                blocks.push(Block { lists: first..number, winners: 0..usize::MAX });
                (first, held) = (number, 0);
            }
            if pairs > at_most {
                Block::divide_list(lists, number, ties, at_most, &mut blocks);
                first = number + 1;
            } else {
                held += pairs;
            }
        }
        if held > 0 {
            blocks.push(Block { lists: first..lists.len(), winners: 0..usize::MAX });
        }
        blocks
    }

    fn divide_list(
        lists: &Lists,
        number: usize,
        ties: Ties,
        at_most: usize,
        blocks: &mut Vec<Block>,
    ) {
        let list = lists.list_in_order(number);
        let len = list.items.len();
        let (mut first, mut held) = (0, 0);
        for winner in 0..len {
            let pairs = len - losers_from(&list, winner, ties);
            if held > 0 && held + pairs > at_most {
                blocks.push(Block { lists: number..number + 1, winners: first..winner });
                (first, held) = (winner, 0);
            }
            held += pairs;
        }
        blocks.push(Block { lists: number..number + 1, winners: first..len });
    }
}

/// How many pairs each list has.
pub(super) fn pairs_per_list(lists: &Lists, ties: Ties) -> impl Iterator<Item = usize> + '_ {
    lists.lengths().enumerate().map(move |(number, len)| {
        if ties == Ties::Half || lists.is_in_order() {
            return len * len.saturating_sub(1) / 2;
        }
        lists.list_in_order(number).tie_ends.iter().map(|end| len - end).sum()
    })
}

/// Where the losers to the `winner`-th of a list begin.
fn losers_from(list: &OrderedList, winner: usize, ties: Ties) -> usize {
    if ties == Ties::Half {
        winner + 1
    } else {
        list.tie_ends[winner]
    }
}

/// All valid pairs of a block, in order of list, winner, loser.
pub(super) struct Pairs {
    /// Position of each pair's winner and loser in the flat rewards; int64.
    pub winners: Tensor,
    pub losers: Tensor,
    /// Which of the pairs are ties, for [`Ties::Half`].
    pub ties: Option<TiedPairs>,
    /// How many pairs each list has here; `None` if all lists of the batch have equally many.
    per_list: Option<Vec<usize>>,
    lists: Range<usize>,
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
    pub fn new(lists: &Lists, ties: Ties, block: Block, device: Device) -> Result<Pairs> {
        match lists.uniform_in_order() {
            Some(len) => Pairs::uniform(len, block, device),
            None => Pairs::ragged(lists, ties, block, device),
        }
    }

    /// Lists of one length, in order: made on the device, nothing is uploaded.
    fn uniform(len: usize, block: Block, device: Device) -> Result<Pairs> {
        let Block { lists, winners } = block;
        let (first, end) = (winners.start.min(len), winners.end.min(len));
        let (rows, columns) = (end - first, len - first);
        let per_list = rows * columns - rows * (rows + 1) / 2;
        let count = lists.len() * per_list;
        let corner = Tensor::f_triu_indices(rows as i64, columns as i64, 1, (Kind::Int64, device))?;
        let corner = corner.f_add_scalar(first as i64)?;
        let starts =
            Tensor::f_arange_start(lists.start as i64, lists.end as i64, (Kind::Int64, device))?;
        let starts = starts.f_mul_scalar(len as i64)?.f_unsqueeze(1)?;
        let of = |row: i64| starts.f_add(&corner.f_select(0, row)?)?.f_reshape([-1]);
        Ok(Pairs { winners: of(0)?, losers: of(1)?, ties: None, per_list: None, lists, count })
    }

    fn ragged(lists: &Lists, ties: Ties, block: Block, device: Device) -> Result<Pairs> {
        let (mut winners, mut losers) = (Vec::new(), Vec::new());
        let (mut strict, mut tied) = (Vec::new(), Vec::new());
        let mut per_list = Vec::with_capacity(block.lists.len());
        for number in block.lists.clone() {
            let list = lists.list_in_order(number);
            let before = winners.len();
            let some = block.winners.len().min(list.items.len());
            for (at, &winner) in list.items.iter().enumerate().skip(block.winners.start).take(some)
            {
                let first = losers_from(&list, at, ties);
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
            lists: block.lists,
            count: winners.len(),
        })
    }

    /// Weights that make a sum over all pairs the mean over the lists that have pairs of each one's
    /// mean, with `totals` pairs in each list of the batch; `None` if a plain mean does.
    pub fn mean_per_list_weights(&self, totals: &[usize], like: &Tensor) -> Result<Option<Tensor>> {
        let Some(per_list) = &self.per_list else { return Ok(None) };
        let lists = totals.iter().filter(|&&pairs| pairs > 0).count() as f64;
        let weights: Vec<f64> = per_list
            .iter()
            .zip(&totals[self.lists.clone()])
            .flat_map(|(&here, &total)| std::iter::repeat_n(1.0 / (total as f64 * lists), here))
            .collect();
        Ok(Some(upload(&weights, like.device())?.f_to_kind(like.f_kind()?)?))
    }
}
