//! [`Scorer`]: texts in, rewards out.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::model::{self, Mode, RewardModel};
use crate::text::{sorted_batches, Layout, TokenizedList, TokenizedText, Tokenizer};
use crate::torch::to_vec_f32;
use crate::{Error, RankedList, Result, TokenBatch};

/// A model and its tokenizer: the one path from texts to rewards, which evaluation, the examples
/// and your program share.
///
/// Texts are tokenised in parallel, scored without gradients in batches of similar length, and
/// come back in the order they went in. A text's reward does not depend on the others beyond
/// rounding.
///
/// ```no_run
/// use reward_model::{RankedList, Scorer, tch::Device};
///
/// let scorer = Scorer::load("target/reward-model", Device::Cpu)?;
/// let list = RankedList::new(["It is superb.", "It works.", "It broke."])?
///     .with_prompt("Is the kettle any good?");
/// for (response, reward) in list.responses().iter().zip(&scorer.score_list(&list)?) {
///     println!("{reward:+.3} {}", response.text());
/// }
/// # Ok::<(), reward_model::Error>(())
/// ```
pub struct Scorer {
    model: Box<dyn RewardModel>,
    tokenizer: Tokenizer,
    /// The most tokens in a batch, padding included: enough to keep the machine busy, little enough
    /// to need no thought.
    batch_tokens: usize,
}

impl Scorer {
    /// A scorer of this model, with the tokenizer that it was (or will be) trained with, which is
    /// given the model's [layout](RewardModel::layout).
    ///
    /// # Errors
    /// If the tokenizer has tokens that the model does not know, or lacks what the layout needs.
    pub fn new(mut model: Box<dyn RewardModel>, tokenizer: Tokenizer) -> Result<Scorer> {
        let layout = model.layout();
        let tokenizer = tokenizer.with_layout(layout)?;
        let tokens = tokenizer.vocab_size();
        if let Some(known) = model.vocab_size().filter(|&known| tokens > known) {
            return Err(Error::InvalidArgument(format!(
                "the tokenizer has {tokens} token ids and the model knows {known}; use the tokenizer \
                 of the model's own folder, or give the model a vocab_size of {tokens}"
            )));
        }
        if let (Layout::Continuation, Some(pad)) = (layout, tokenizer.pad_id()) {
            model.pad_with(pad);
        }
        Ok(Scorer { model, tokenizer, batch_tokens: 8192 })
    }

    /// Reads a model folder: `config.json`, `model.safetensors`, `tokenizer.json` and
    /// `tokenizer_config.json`.
    ///
    /// # Errors
    /// If a file is missing, broken, or does not fit the others.
    pub fn load(dir: impl AsRef<Path>, device: Device) -> Result<Scorer> {
        let dir = dir.as_ref();
        Scorer::new(model::load(dir, device)?, Tokenizer::load(dir)?)
    }

    /// Writes a model folder that [`load`](Self::load) and Python's
    /// `AutoModelForSequenceClassification` read: all of it or nothing.
    ///
    /// # Errors
    /// As [`model::write_folder`].
    pub fn save(&self, dir: impl AsRef<Path>, overwrite: bool) -> Result<()> {
        model::write_folder(dir, overwrite, |dir| self.write_into(dir))
    }

    /// Writes the files of a model folder into an existing folder; to be used with
    /// [`model::write_folder`] where more files belong beside them.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_into(&self, dir: &Path) -> Result<()> {
        self.model.save(dir)?;
        self.tokenizer.save(dir)
    }

    /// The model.
    pub fn model(&self) -> &dyn RewardModel {
        self.model.as_ref()
    }

    /// Gives the model up.
    pub fn into_model(self) -> Box<dyn RewardModel> {
        self.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The rewards of one list's responses, in the order of [`RankedList::responses`].
    ///
    /// # Errors
    /// If a response is too long for the model, or the model fails.
    pub fn score_list(&self, list: &RankedList) -> Result<Vec<f32>> {
        let mut scores = self.score(std::slice::from_ref(list))?;
        scores.pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// The rewards of each list's responses, in the order of [`RankedList::responses`]. A list that
    /// cannot be scored, because a response is too long, is an error of its own.
    ///
    /// # Errors
    /// If the model fails.
    pub fn score(&self, lists: &[RankedList]) -> Result<Vec<Result<Vec<f32>>>> {
        let tokenized = self.tokenizer.encode_lists(lists);
        let texts: Vec<&[TokenizedText]> =
            tokenized.iter().flatten().map(|list: &TokenizedList| list.texts.as_slice()).collect();
        let mut rewards = self.score_tokenized_lists(&texts)?.into_iter();
        let rewards =
            |list: Result<TokenizedList>| list.map(|_| rewards.next().unwrap_or_default());
        Ok(tokenized.into_iter().map(rewards).collect())
    }

    /// The rewards of each list's tokenised texts, in order. The texts of a list go through the
    /// model together, so that a model can share what they begin with
    /// ([`Sharing`](crate::model::Sharing)).
    ///
    /// # Errors
    /// As [`score_tokenized`](Self::score_tokenized).
    pub fn score_tokenized_lists(&self, lists: &[&[TokenizedText]]) -> Result<Vec<Vec<f32>>> {
        let _no_grad = tch::no_grad_guard();
        let pieces = self.pieces(lists);
        let sizes: Vec<usize> = pieces.iter().map(|&(_, piece)| padded(piece)).collect();
        let mut scored = vec![Vec::new(); pieces.len()];
        for batch in sorted_batches(&sizes, usize::MAX, self.batch_tokens) {
            let tokens = TokenBatch::from_lists(batch.iter().map(|&at| pieces[at].1))?;
            let scores = to_vec_f32(&forward(self.model(), &tokens, Mode::Evaluation, 1)?)?;
            let mut rest = scores.as_slice();
            for &at in &batch {
                let (these, others) = rest.split_at(pieces[at].1.len());
                scored[at].extend_from_slice(these);
                rest = others;
            }
        }
        let mut all: Vec<Vec<f32>> = vec![Vec::new(); lists.len()];
        for ((list, _), rewards) in pieces.into_iter().zip(scored) {
            all[list].extend(rewards);
        }
        Ok(all)
    }

    /// Lists, those that are too large for one batch in several pieces.
    fn pieces<'a>(&self, lists: &[&'a [TokenizedText]]) -> Vec<(usize, &'a [TokenizedText])> {
        let pieces = lists.iter().enumerate().flat_map(|(list, texts)| {
            let longest = longest(texts).max(1);
            texts.chunks((self.batch_tokens / longest).max(1)).map(move |piece| (list, piece))
        });
        pieces.collect()
    }

    /// The reward of each tokenised text, in order.
    ///
    /// # Errors
    /// If the model fails or gives anything but one f32 per text.
    pub fn score_tokenized(&self, texts: &[&TokenizedText]) -> Result<Vec<f32>> {
        self.outputs(texts, 1)
    }

    /// The outputs of each tokenised text, `outputs` values a text, in order: what a model with
    /// several of them (classes, attributes) gives in place of a reward.
    ///
    /// # Errors
    /// If the model fails or gives anything but so many f32 per text.
    pub fn outputs(&self, texts: &[&TokenizedText], outputs: usize) -> Result<Vec<f32>> {
        let _no_grad = tch::no_grad_guard();
        let lengths: Vec<usize> = texts.iter().map(|text| text.ids.len()).collect();
        let mut all = vec![0.0; texts.len() * outputs];
        for batch in sorted_batches(&lengths, usize::MAX, self.batch_tokens) {
            let tokens = TokenBatch::from_texts(batch.iter().map(|&at| texts[at]))?;
            let scores = to_vec_f32(&forward(self.model(), &tokens, Mode::Evaluation, outputs)?)?;
            for (&at, scores) in batch.iter().zip(scores.chunks(outputs.max(1))) {
                all[at * outputs..][..outputs].copy_from_slice(scores);
            }
        }
        Ok(all)
    }
}

fn longest(texts: &[TokenizedText]) -> usize {
    texts.iter().map(|text| text.ids.len()).max().unwrap_or(0)
}

/// How many tokens there are when all texts are as long as the longest.
fn padded(texts: &[TokenizedText]) -> usize {
    texts.len() * longest(texts)
}

/// A model's outputs as `[texts, outputs]`, after a look at what it returned: the model may be
/// anyone's.
pub(crate) fn forward(
    model: &dyn RewardModel,
    batch: &TokenBatch,
    mode: Mode,
    outputs: usize,
) -> Result<Tensor> {
    let scores = model.forward(batch, mode)?;
    let (size, kind, device) = (scores.size(), scores.f_kind()?, scores.device());
    let expected = [batch.texts() as i64, outputs as i64];
    if size != expected || kind != Kind::Float || device != model.device() {
        return Err(Error::InvalidArgument(format!(
            "the model returned {kind:?} {size:?} on {device:?} for {} texts; a model of {outputs} \
             output{} returns Float {expected:?} on its own device, {:?}",
            batch.texts(),
            if outputs == 1 { "" } else { "s" },
            model.device()
        )));
    }
    Ok(scores)
}
