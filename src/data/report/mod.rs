//! What is in the data: counts, lengths, and what is wrong with them as a whole.

mod keys;
mod lengths;
mod show;
mod sorted;

use std::path::PathBuf;

pub use lengths::Lengths;

use serde::{Deserialize, Serialize};

use crate::metrics::Scored;
use crate::{Error, RankedList, Result};

use keys::{Keys, ListKeys};
use lengths::Sample;
use sorted::Sorter;

/// Keys of which each of the sorters holds as many in memory: 4 MiB.
const KEYS_IN_MEMORY: usize = 1 << 18;

/// Longer lists are not looked into for contradictions: a line of a million responses has pairs for
/// 8 TB.
const LONGEST_COMPARED: usize = 1000;

/// What is in training data, and in evaluation data beside them.
///
/// It is written and read by serde, and shown as a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DataReport {
    /// The training data.
    pub training: SplitReport,
    /// The evaluation data, if there are any.
    pub evaluation: Option<SplitReport>,
    /// What of the evaluation data is among the training data, if there are evaluation data.
    pub overlap: Option<Overlap>,
}

/// What is in one of the two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SplitReport {
    /// Ranked lists.
    pub lists: u64,
    /// Lists that nothing is learned from: one response, or all of them tied.
    pub lists_without_pairs: u64,
    /// Lists that were tokenised: all of them, or a sample. The next two are of these.
    #[serde(default)]
    pub lists_tokenized: u64,
    /// Lists that are left out, since a response is longer than the model takes.
    #[serde(default)]
    pub lists_too_long: u64,
    /// Lists whose prompt is cut from its left, to leave room for the responses.
    #[serde(default)]
    pub prompts_cut: u64,
    /// Responses of all lists.
    pub responses: u64,
    /// Pairs of which one response is better.
    pub pairs: u64,
    /// Pairs of equal rank.
    pub tied_pairs: u64,
    /// Lists that say the same as an earlier one: the same prompt, and the same responses in the
    /// same order (tied ones in any).
    pub duplicate_lists: u64,
    /// Pairs of two responses to one prompt, each counted once, that stand in both orders
    /// somewhere.
    pub contradictory_pairs: u64,
    /// Lists of more than a thousand responses, whose pairs are too many to look for that.
    #[serde(default)]
    pub lists_not_compared: u64,
    /// Responses a list.
    pub responses_per_list: Option<Lengths>,
    /// Prompts in bytes of UTF-8; messages by their contents.
    pub prompt_bytes: Option<Lengths>,
    /// Responses in bytes of UTF-8; messages by their contents.
    pub response_bytes: Option<Lengths>,
    /// Responses in tokens, of the lists that were tokenised and fit.
    pub response_tokens: Option<Lengths>,
    /// Spearman's correlation of quality and length in bytes, the mean over the lists that have
    /// one: above 0 if better responses are longer.
    pub length_correlation_bytes: Option<f64>,
    /// The same in tokens.
    pub length_correlation_tokens: Option<f64>,
}

/// What of the evaluation data is among the training data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Overlap {
    /// Evaluation lists whose prompt and responses, in whatever order, are a training list's.
    pub lists_in_training: u64,
    /// Evaluation lists whose prompt is a training list's. Lists without a prompt do not count.
    pub prompts_in_training: u64,
}

/// What a tokenizer made of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens<'a> {
    /// It fits: the length of each response, in the order of [`RankedList::responses`].
    Whole(&'a [usize]),
    /// It fits, with its prompt cut.
    PromptCut(&'a [usize]),
    /// It does not fit.
    TooLong,
}

/// Which data a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// It is learned from.
    Training,
    /// It is evaluated on.
    Evaluation,
}

/// Makes a [`DataReport`] from lists that come one after another.
///
/// Memory hardly grows with the data: of each list, pair and prompt 128 bits are kept, sorted in
/// unnamed temporary files (16 bytes for each pair, up to 64 for each list), and compared at the
/// end, when every 4 MiB of them take 64 KiB of memory. That two different ones have the same 128 bits is not to be expected.
///
/// # Examples
///
/// ```
/// use reward_model::data::{Reporter, Split};
/// use reward_model::RankedList;
///
/// let mut reporter = Reporter::new();
/// let list = RankedList::new(["a good answer", "bad"])?.with_prompt("p");
/// reporter.add(Split::Training, &list, None)?;
/// reporter.add(Split::Training, &RankedList::new(["bad", "a good answer"])?.with_prompt("p"), None)?;
/// reporter.add(Split::Evaluation, &list, None)?;
/// let report = reporter.finish()?;
/// assert_eq!((report.training.pairs, report.training.contradictory_pairs), (2, 1));
/// assert_eq!(report.overlap.as_ref().map(|overlap| overlap.lists_in_training), Some(1));
/// println!("{report}");
/// # Ok::<(), reward_model::Error>(())
/// ```
pub struct Reporter {
    keys: Keys,
    training: Part,
    evaluation: Part,
    /// Of both, the last bit says of which.
    sets: Sorter,
    prompts: Sorter,
}

impl Default for Reporter {
    fn default() -> Self {
        Self::new()
    }
}

impl Reporter {
    /// One that keeps its temporary files in the system's folder for them.
    pub fn new() -> Self {
        Self::in_folder(std::env::temp_dir())
    }

    /// One that keeps its temporary files in this folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self::with_capacity(folder.into(), KEYS_IN_MEMORY)
    }

    fn with_capacity(folder: PathBuf, capacity: usize) -> Self {
        let sorter = || Sorter::new(capacity, &folder);
        let part = || Part::new(sorter(), sorter());
        Self {
            keys: Keys::new(),
            training: part(),
            evaluation: part(),
            sets: sorter(),
            prompts: sorter(),
        }
    }

    /// Counts a list, with what a tokenizer made of it if that is known.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if there are tokens, but not for each response; [`Error::Io`] if
    /// a temporary file cannot be written.
    pub fn add(
        &mut self,
        split: Split,
        list: &RankedList,
        tokens: Option<Tokens<'_>>,
    ) -> Result<()> {
        if let Some(Tokens::Whole(lengths) | Tokens::PromptCut(lengths)) = tokens {
            if lengths.len() != list.len() {
                return Err(Error::InvalidArgument(format!(
                    "there are token lengths of {} responses, but the list has {}",
                    lengths.len(),
                    list.len()
                )));
            }
        }
        let of_list = self.keys.of_list(list);
        let (part, bit) = match split {
            Split::Training => (&mut self.training, 0),
            Split::Evaluation => (&mut self.evaluation, 1),
        };
        part.add(list, tokens, &self.keys, &of_list)?;
        self.sets.push(of_list.set & !1 | bit)?;
        if let Some(prompt) = of_list.prompt {
            self.prompts.push(prompt & !1 | bit)?;
        }
        Ok(())
    }

    /// Compares what was kept.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a temporary file cannot be written or read.
    pub fn finish(self) -> Result<DataReport> {
        let training = self.training.finish()?;
        if self.evaluation.lists == 0 {
            return Ok(DataReport { training, evaluation: None, overlap: None });
        }
        let overlap = Overlap {
            lists_in_training: of_both(self.sets)?,
            prompts_in_training: of_both(self.prompts)?,
        };
        let evaluation = Some(self.evaluation.finish()?);
        Ok(DataReport { training, evaluation, overlap: Some(overlap) })
    }
}

/// One of the two data.
struct Part {
    lists: u64,
    lists_without_pairs: u64,
    lists_tokenized: u64,
    lists_too_long: u64,
    prompts_cut: u64,
    lists_not_compared: u64,
    responses: u64,
    pairs: u64,
    tied_pairs: u64,
    responses_per_list: Sample,
    prompt_bytes: Sample,
    response_bytes: Sample,
    response_tokens: Sample,
    by_bytes: Mean,
    by_tokens: Mean,
    list_keys: Sorter,
    pair_keys: Sorter,
}

impl Part {
    fn new(list_keys: Sorter, pair_keys: Sorter) -> Self {
        Self {
            lists: 0,
            lists_without_pairs: 0,
            lists_tokenized: 0,
            lists_too_long: 0,
            prompts_cut: 0,
            lists_not_compared: 0,
            responses: 0,
            pairs: 0,
            tied_pairs: 0,
            responses_per_list: Sample::new(0),
            prompt_bytes: Sample::new(1),
            response_bytes: Sample::new(2),
            response_tokens: Sample::new(3),
            by_bytes: Mean::default(),
            by_tokens: Mean::default(),
            list_keys,
            pair_keys,
        }
    }

    fn add(
        &mut self,
        list: &RankedList,
        tokens: Option<Tokens<'_>>,
        keys: &Keys,
        of_list: &ListKeys,
    ) -> Result<()> {
        let pairs = list.pair_count() as u64;
        self.lists += 1;
        self.lists_without_pairs += u64::from(pairs == 0);
        self.responses += list.len() as u64;
        self.pairs += pairs;
        let responses = list.len() as u64;
        self.tied_pairs += responses * responses.saturating_sub(1) / 2 - pairs;
        self.responses_per_list.add(list.len() as u64);
        if let Some(bytes) = prompt_bytes(list) {
            self.prompt_bytes.add(bytes as u64);
        }
        let bytes: Vec<usize> = list
            .responses()
            .iter()
            .map(|response| match response.messages() {
                Some(messages) => messages.iter().map(|message| message.content.len()).sum(),
                None => response.text().len(),
            })
            .collect();
        bytes.iter().for_each(|&length| self.response_bytes.add(length as u64));
        self.by_bytes.add(correlation(list, &bytes)?);
        self.lists_tokenized += u64::from(tokens.is_some());
        match tokens {
            Some(Tokens::Whole(lengths) | Tokens::PromptCut(lengths)) => {
                self.prompts_cut += u64::from(matches!(tokens, Some(Tokens::PromptCut(_))));
                lengths.iter().for_each(|&length| self.response_tokens.add(length as u64));
                self.by_tokens.add(correlation(list, lengths)?);
            }
            Some(Tokens::TooLong) => self.lists_too_long += 1,
            None => {}
        }
        self.list_keys.push(of_list.list)?;
        if list.len() > LONGEST_COMPARED {
            self.lists_not_compared += 1;
            return Ok(());
        }
        list.pairs()
            .filter_map(|(winner, loser)| keys.of_pair(of_list, winner, loser))
            .try_for_each(|key| self.pair_keys.push(key))
    }

    fn finish(self) -> Result<SplitReport> {
        Ok(SplitReport {
            lists: self.lists,
            lists_without_pairs: self.lists_without_pairs,
            lists_tokenized: self.lists_tokenized,
            lists_too_long: self.lists_too_long,
            prompts_cut: self.prompts_cut,
            lists_not_compared: self.lists_not_compared,
            responses: self.responses,
            pairs: self.pairs,
            tied_pairs: self.tied_pairs,
            duplicate_lists: repeated(self.list_keys)?,
            contradictory_pairs: in_both_orders(self.pair_keys)?,
            responses_per_list: self.responses_per_list.lengths(),
            prompt_bytes: self.prompt_bytes.lengths(),
            response_bytes: self.response_bytes.lengths(),
            response_tokens: self.response_tokens.lengths(),
            length_correlation_bytes: self.by_bytes.mean(),
            length_correlation_tokens: self.by_tokens.mean(),
        })
    }
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.sum += value;
            self.count += 1;
        }
    }

    fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

fn prompt_bytes(list: &RankedList) -> Option<usize> {
    let messages = |messages: &[crate::Message]| messages.iter().map(|m| m.content.len()).sum();
    list.prompt().map(str::len).or_else(|| list.conversation().map(messages))
}

fn correlation(list: &RankedList, lengths: &[usize]) -> Result<Option<f64>> {
    let lengths: Vec<f32> = lengths.iter().map(|&length| length as f32).collect();
    let ranks: Vec<usize> = list.ranks().collect();
    Ok(Scored::new(&lengths, &ranks)?.spearman())
}

/// How many keys were there before.
fn repeated(keys: Sorter) -> Result<u64> {
    let (mut last, mut count) = (None, 0);
    for key in keys.sorted()? {
        let key = Some(key?);
        count += u64::from(key == last);
        last = key;
    }
    Ok(count)
}

/// How many keys are there with both of their last bits.
fn in_both_orders(keys: Sorter) -> Result<u64> {
    let (mut last, mut count) = (None, 0);
    for key in keys.sorted()? {
        let key = key?;
        count += u64::from(key & 1 == 1 && last == Some(key & !1));
        last = Some(key);
    }
    Ok(count)
}

/// How many keys with last bit 1 have one with last bit 0.
fn of_both(keys: Sorter) -> Result<u64> {
    let (mut training, mut count) = (None, 0);
    for key in keys.sorted()? {
        let key = key?;
        match key & 1 {
            0 => training = Some(key),
            _ => count += u64::from(training == Some(key & !1)),
        }
    }
    Ok(count)
}
