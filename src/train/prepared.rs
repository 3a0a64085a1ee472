//! Training data as tokens, and what was left out of them.

use crate::metrics::{RankMeter, Scored};
use crate::text::{TokenizedList, TokenizedText, Tokenizer};
use crate::{Error, Lists, RankedList, Result, TokenBatch};

/// Tokenised lists that something can be learned from.
pub(super) struct Prepared {
    items: Vec<Item>,
    lengths: Vec<usize>,
    /// Lists left out because a response is too long.
    pub too_long: usize,
    /// Lists left out because no response is ranked above another.
    pub without_pairs: usize,
    /// Lists whose prompt is cut from its left.
    pub prompts_cut: usize,
}

struct Item {
    /// The list's number in the data, from 0.
    number: usize,
    texts: Vec<TokenizedText>,
    ranks: Vec<usize>,
}

impl Prepared {
    pub fn new(tokenizer: &Tokenizer, lists: &[RankedList]) -> Result<Prepared> {
        let mut prepared = Prepared {
            items: Vec::with_capacity(lists.len()),
            lengths: Vec::with_capacity(lists.len()),
            too_long: 0,
            without_pairs: 0,
            prompts_cut: 0,
        };
        for (number, tokenized) in tokenizer.encode_lists(lists).into_iter().enumerate() {
            let TokenizedList { texts, prompt_cut, .. } = match tokenized {
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
            prepared.prompts_cut += usize::from(prompt_cut);
            let longest = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
            prepared.lengths.push(longest);
            prepared.items.push(Item { number, texts, ranks: lists[number].ranks().collect() });
        }
        if prepared.items.is_empty() {
            return Err(Error::InvalidArgument(format!(
                "there is nothing to train on: of {} lists {} have a response that is too long, and \
                 {} rank no response above another",
                lists.len(),
                prepared.too_long,
                prepared.without_pairs
            )));
        }
        Ok(prepared)
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The tokens of each list's longest text: what a batch is padded to.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    pub fn tokens(&self, batch: &[usize]) -> Result<TokenBatch> {
        TokenBatch::from_lists(batch.iter().map(|&at| self.items[at].texts.as_slice()))
    }

    pub fn ranks(&self, batch: &[usize]) -> Result<Lists> {
        let items = || batch.iter().map(|&at| &self.items[at].ranks);
        let lengths: Vec<usize> = items().map(Vec::len).collect();
        let ranks: Vec<f64> = items().flatten().map(|&rank| rank as f64).collect();
        Lists::from_lengths(&lengths).with_ranks(&ranks)
    }

    /// The lists' numbers in the data, from 0.
    pub fn numbers<'a>(&'a self, batch: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
        batch.iter().map(|&at| self.items[at].number)
    }

    /// The metrics of a batch's rewards.
    pub fn meter(&self, batch: &[usize], rewards: &[f32]) -> Result<RankMeter> {
        let mut meter = RankMeter::default();
        let mut rest = rewards;
        for &at in batch {
            let ranks = &self.items[at].ranks;
            let (list, after) = rest.split_at(ranks.len().min(rest.len()));
            meter.add(&Scored::new(list, ranks)?);
            rest = after;
        }
        Ok(meter)
    }
}
