//! [`Lists`]: how a flat tensor of rewards divides into ranked lists.

use crate::{Error, Result};

/// How a tensor of rewards, list after list, divides into ranked lists.
///
/// Without ranks every list is in order, best first. With ranks (one per reward, smaller is better,
/// equal is a tie) the rewards of a list may stand in any order.
///
/// ```
/// use reward_model::Lists;
///
/// // Three lists, of 3, 1 and 2 responses; in the last one the second response is the better.
/// let lists = Lists::from_lengths(&[3, 1, 2]).with_ranks(&[1., 2., 2., 1., 2., 1.])?;
/// assert_eq!((lists.len(), lists.items()), (3, 6));
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Lists {
    offsets: Vec<usize>,
    ranks: Option<Vec<f64>>,
    margins: Option<Vec<f64>>,
    uniform: Option<usize>,
}

impl Lists {
    /// Lists of these lengths. A length of 0 or 1 is allowed and contributes nothing.
    pub fn from_lengths(lengths: &[usize]) -> Lists {
        let mut end = 0;
        let mut offsets = Vec::with_capacity(lengths.len() + 1);
        offsets.push(0);
        offsets.extend(lengths.iter().map(|length| {
            end += length;
            end
        }));
        let uniform = lengths.first().copied().filter(|k| lengths.iter().all(|l| l == k));
        Lists { offsets, ranks: None, margins: None, uniform }
    }

    /// `lists` lists of `len` responses each.
    pub fn uniform(lists: usize, len: usize) -> Lists {
        let offsets = (0..=lists).map(|l| l * len).collect();
        Lists { offsets, ranks: None, margins: None, uniform: Some(len) }
    }

    /// Lists by the position of each one's first reward, and the number of rewards: lists + 1
    /// values, from 0, never falling.
    ///
    /// # Errors
    /// If the offsets are anything else.
    pub fn from_offsets(offsets: &[usize]) -> Result<Lists> {
        if offsets.first() != Some(&0) || offsets.windows(2).any(|w| w[0] > w[1]) {
            return Err(Error::InvalidArgument(
                "list offsets must start with 0 and never fall".into(),
            ));
        }
        let lengths: Vec<usize> = offsets.windows(2).map(|w| w[1] - w[0]).collect();
        Ok(Lists::from_lengths(&lengths))
    }

    /// The rank of each reward within its list: smaller is better, equal is a tie.
    ///
    /// # Errors
    /// If there is not one rank per reward, or one is NaN.
    pub fn with_ranks(mut self, ranks: &[f64]) -> Result<Lists> {
        if ranks.len() != self.items() {
            return Err(Error::InvalidArgument(format!(
                "{} ranks for {} rewards",
                ranks.len(),
                self.items()
            )));
        }
        if let Some(at) = ranks.iter().position(|rank| rank.is_nan()) {
            return Err(Error::InvalidArgument(format!("the rank of reward {at} is NaN")));
        }
        let list = |list: &[usize]| ranks[list[0]..list[1]].windows(2).all(|w| w[0] < w[1]);
        // In order as they stand is what lists without ranks are.
        let in_order = self.offsets.windows(2).all(list);
        self.ranks = (!in_order).then(|| ranks.to_vec());
        Ok(self)
    }

    /// A margin for each valid pair, in order of list, winner, loser (with
    /// [`Ties::Half`](crate::Ties::Half), tied pairs included), added to the loss's own margin.
    ///
    /// Winners and losers count in order of rank; those of equal rank in the order given. How many
    /// there must be depends on the loss, so the number is checked there.
    ///
    /// # Errors
    /// If a margin is NaN or infinite.
    pub fn with_margins(mut self, margins: &[f64]) -> Result<Lists> {
        if let Some(at) = margins.iter().position(|margin| !margin.is_finite()) {
            return Err(Error::InvalidArgument(format!(
                "the margin of pair {at} is {}",
                margins[at]
            )));
        }
        self.margins = Some(margins.to_vec());
        Ok(self)
    }

    /// How many lists there are.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are no lists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many rewards there are in all lists.
    pub fn items(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// The number of rewards of each list.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.offsets.windows(2).map(|w| w[1] - w[0])
    }

    /// The margins, if any.
    pub(crate) fn margins(&self) -> Option<&[f64]> {
        self.margins.as_deref()
    }

    /// The common length of all lists if they are in order, best first, and of one length.
    pub(crate) fn uniform_in_order(&self) -> Option<usize> {
        self.uniform.filter(|_| self.ranks.is_none())
    }

    /// Whether every list is in order, best first.
    pub(crate) fn is_in_order(&self) -> bool {
        self.ranks.is_none()
    }

    /// Where each list begins, and the end of the last.
    pub(crate) fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// For each list, its items best first.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = OrderedList> + '_ {
        (0..self.len()).map(|list| self.list_in_order(list))
    }

    /// The items of one list, best first.
    pub(crate) fn list_in_order(&self, list: usize) -> OrderedList {
        let mut items: Vec<usize> = (self.offsets[list]..self.offsets[list + 1]).collect();
        let Some(ranks) = &self.ranks else {
            let tie_ends = (1..=items.len()).collect();
            return OrderedList { items, tie_ends };
        };
        items.sort_by(|&a, &b| ranks[a].total_cmp(&ranks[b]));
        let mut tie_ends = vec![0; items.len()];
        let mut end = items.len();
        for at in (0..items.len()).rev() {
            if at + 1 < items.len() && ranks[items[at]] != ranks[items[at + 1]] {
                end = at + 1;
            }
            tie_ends[at] = end;
        }
        OrderedList { items, tie_ends }
    }

    /// All lists end to end, each one's items best first and its runs of equal rank by their end
    /// within the list; `None` if all are in order as they are.
    pub(crate) fn end_to_end(&self) -> Option<OrderedList> {
        self.ranks.as_ref()?;
        let mut all = OrderedList { items: Vec::new(), tie_ends: Vec::new() };
        for list in self.in_order() {
            all.items.extend(list.items);
            all.tie_ends.extend(list.tie_ends);
        }
        Some(all)
    }
}

/// The items of one list, best first.
pub(crate) struct OrderedList {
    /// Positions in the flat tensor of rewards.
    pub items: Vec<usize>,
    /// For each item, where in `items` the run of items tied with it ends.
    pub tie_ends: Vec<usize>,
}

impl OrderedList {
    /// Whether two items share a rank.
    pub fn has_ties(&self) -> bool {
        self.tie_ends.iter().enumerate().any(|(at, &end)| end != at + 1)
    }
}
