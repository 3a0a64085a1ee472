//! [`Feed`]: examples as batches of tokens, however many there are.

use std::sync::mpsc::{sync_channel, Receiver};
use std::thread;

use super::objective::{Objective, Prepared, PreparedExample};
use crate::data::Dataset;
use crate::text::Tokenizer;
use crate::{Error, Result, TokenBatch};

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
    /// The tokens of each one's longest text, by which batches are made of similar ones.
    lengths: Vec<usize>,
    kept: Option<Prepared<O::Target>>,
    /// What was left out, without the examples.
    pub counts: Prepared<()>,
    pub fingerprint: u32,
}

/// The examples of a step, in the parts whose gradients are taken one after the other.
pub(super) struct Loaded<T> {
    pub parts: Vec<LoadedPart<T>>,
}

/// Examples of a step that go through the model together.
pub(super) struct LoadedPart<T> {
    /// The places of the examples in the step's batch.
    pub places: Vec<usize>,
    pub tokens: TokenBatch,
    pub targets: Vec<T>,
}

/// How much a part may have; one example it always has.
#[derive(Clone, Copy)]
pub(super) struct PartLimits {
    pub examples: usize,
    pub tokens: Option<usize>,
}

impl<T: Clone> Loaded<T> {
    /// In order; where the limit is one of tokens, examples of similar length together, the longest
    /// first.
    fn new(examples: &[&PreparedExample<T>], limits: PartLimits) -> Result<Loaded<T>> {
        let mut order: Vec<usize> = (0..examples.len()).collect();
        if limits.tokens.is_some() {
            order.sort_by_key(|&at| std::cmp::Reverse(examples[at].longest_text()));
        }
        let (mut parts, mut sum) = (Vec::<Vec<usize>>::new(), 0_usize);
        for at in order {
            let size = examples[at].token_count();
            sum += size;
            let fits = limits.tokens.is_none_or(|most| sum <= most);
            match parts.last_mut() {
                Some(part) if part.len() < limits.examples && fits => part.push(at),
                _ => (sum, _) = (size, parts.push(vec![at])),
            }
        }
        let part = |places: Vec<usize>| {
            let here = || places.iter().map(|&at| examples[at]);
            let tokens = TokenBatch::from_lists(here().map(|example| example.texts.as_slice()))?;
            let targets = here().map(|example| example.target.clone()).collect();
            Ok(LoadedPart { places, tokens, targets })
        };
        Ok(Loaded { parts: parts.into_iter().map(part).collect::<Result<_>>()? })
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

    /// Hands `body` the batches in order, divided into parts, made on another thread.
    pub fn batches<R>(
        &self,
        batches: &[Vec<usize>],
        limits: PartLimits,
        body: impl FnOnce(&mut dyn Iterator<Item = Result<Loaded<O::Target>>>) -> Result<R>,
    ) -> Result<R> {
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(AHEAD);
            // It ends when all is made, or when nobody wants more.
            scope.spawn(move || {
                batches.iter().all(|batch| sender.send(self.load(batch, limits)).is_ok())
            });
            let receiver: Receiver<Result<Loaded<O::Target>>> = receiver;
            body(&mut receiver.into_iter())
        })
    }

    fn load(&self, batch: &[usize], limits: PartLimits) -> Result<Loaded<O::Target>> {
        match &self.kept {
            Some(kept) => {
                let examples: Vec<_> = batch.iter().map(|&at| &kept.examples[at]).collect();
                Loaded::new(&examples, limits)
            }
            None => {
                let prepared = self.prepare(&self.numbers(batch))?;
                if prepared.examples.len() != batch.len() {
                    let message = "the training data have changed since the run began";
                    return Err(Error::InvalidArgument(message.into()));
                }
                Loaded::new(&prepared.examples.iter().collect::<Vec<_>>(), limits)
            }
        }
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
