//! [`Feed`]: examples as batches of tokens, however many there are.

use std::sync::mpsc::{sync_channel, Receiver};
use std::thread;

use super::objective::{Objective, Prepared};
use crate::data::Dataset;
use crate::text::Tokenizer;
use crate::{Result, TokenBatch};

/// Examples that are read and tokenised at a time when a run begins.
pub(super) const AT_ONCE: usize = 1024;
/// Batches that are made ahead of the step.
const AHEAD: usize = 4;

/// Training data, of which every example has been looked at once.
pub(super) struct Feed<'a, O: Objective> {
    objective: &'a O,
    tokenizer: &'a Tokenizer,
    data: &'a dyn Dataset<O::Example>,
    /// Of each example that something can be learned from, its number in the data.
    numbers: Vec<usize>,
    /// The tokens of each one's longest text: what a batch is padded to.
    lengths: Vec<usize>,
    kept: Option<Prepared<O::Target>>,
    /// What was left out, without the examples.
    pub counts: Prepared<()>,
    pub fingerprint: u32,
}

/// Examples whose tokens and targets are at hand.
pub(super) struct Loaded<T> {
    examples: Prepared<T>,
}

impl<T> Loaded<T> {
    /// The places of all examples in parts of at most so many examples and tokens, but at least one
    /// example. In order; of a number of tokens, examples of similar length together, the longest
    /// first.
    pub fn parts(&self, examples: usize, tokens: Option<usize>) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.examples.examples.len()).collect();
        if tokens.is_some() {
            let lengths = self.examples.lengths();
            order.sort_by_key(|&at| std::cmp::Reverse(lengths[at]));
        }
        let size = |at: usize| -> usize {
            self.examples.examples[at].texts.iter().map(|text| text.ids.len()).sum()
        };
        let (mut parts, mut sum) = (Vec::<Vec<usize>>::new(), 0_usize);
        for at in order {
            sum += size(at);
            match parts.last_mut() {
                Some(part) if part.len() < examples && tokens.is_none_or(|most| sum <= most) => {
                    part.push(at)
                }
                _ => (sum, _) = (size(at), parts.push(vec![at])),
            }
        }
        parts
    }

    pub fn tokens(&self, at: &[usize]) -> Result<TokenBatch> {
        self.examples.tokens(at)
    }

    pub fn targets(&self, at: &[usize]) -> Vec<&T> {
        self.examples.targets(at)
    }
}

impl<'a, O: Objective> Feed<'a, O> {
    /// Reads and tokenises every example, and keeps the tokens if there are no more than this.
    pub fn new(
        objective: &'a O,
        tokenizer: &'a Tokenizer,
        data: &'a dyn Dataset<O::Example>,
        tokens_in_memory: u64,
    ) -> Result<Feed<'a, O>> {
        let mut feed = Feed {
            objective,
            tokenizer,
            data,
            numbers: Vec::new(),
            lengths: Vec::new(),
            kept: Some(Prepared::default()),
            counts: Prepared::default(),
            fingerprint: 0,
        };
        let (mut hasher, mut tokens) = (crc32fast::Hasher::new(), 0);
        for start in (0..data.len()).step_by(AT_ONCE) {
            let numbers: Vec<usize> = (start..data.len().min(start + AT_ONCE)).collect();
            let prepared = feed.prepare(&numbers)?;
            prepared.hash_into(&mut hasher);
            feed.counts.too_long += prepared.too_long;
            feed.counts.without_pairs += prepared.without_pairs;
            feed.counts.prompts_cut += prepared.prompts_cut;
            feed.numbers.extend(prepared.examples.iter().map(|example| example.number));
            feed.lengths.extend(prepared.lengths());
            tokens += prepared.token_count();
            match &mut feed.kept {
                Some(kept) if tokens as u64 <= tokens_in_memory => {
                    kept.examples.extend(prepared.examples)
                }
                kept => *kept = None,
            }
        }
        feed.fingerprint = hasher.finalize();
        feed.counts.check(data.len(), feed.numbers.len())?;
        Ok(feed)
    }

    /// How many examples there are that something can be learned from.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The examples' numbers in the data.
    pub fn numbers(&self, batch: &[usize]) -> Vec<usize> {
        batch.iter().map(|&at| self.numbers[at]).collect()
    }

    /// Hands `body` the batches in order, made on another thread where that takes time.
    pub fn batches<R>(
        &self,
        batches: &[Vec<usize>],
        body: impl FnOnce(&mut dyn Iterator<Item = Result<Loaded<O::Target>>>) -> Result<R>,
    ) -> Result<R> {
        if self.kept.is_some() {
            return body(&mut batches.iter().map(|batch| self.load(batch)));
        }
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(AHEAD);
            // It ends when all is made, or when nobody wants more.
            scope.spawn(move || batches.iter().all(|batch| sender.send(self.load(batch)).is_ok()));
            let receiver: Receiver<Result<Loaded<O::Target>>> = receiver;
            body(&mut receiver.into_iter())
        })
    }

    fn load(&self, batch: &[usize]) -> Result<Loaded<O::Target>> {
        let examples = match &self.kept {
            Some(kept) => kept.select(batch),
            None => self.prepare(&self.numbers(batch))?,
        };
        Ok(Loaded { examples })
    }

    /// The examples of these numbers, as tokens.
    fn prepare(&self, numbers: &[usize]) -> Result<Prepared<O::Target>> {
        let examples = numbers.iter().map(|&n| self.data.get(n)).collect::<Result<Vec<_>>>()?;
        let mut prepared = self.objective.prepare(self.tokenizer, &examples)?;
        for example in &mut prepared.examples {
            example.number = numbers[example.number];
        }
        Ok(prepared)
    }
}
