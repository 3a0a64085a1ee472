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
    /// The most tokens that go through the model together: enough to keep the machine busy, little
    /// enough to need no thought. A single text may have more.
    batch_tokens: usize,
}

/// Texts of one list that are scored together.
struct Run<'a> {
    texts: &'a [TokenizedText],
    /// Where the first one stands among the texts of all lists.
    first: usize,
    /// The prompt's tokens, and those after it of each text.
    tokens: usize,
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

    /// The model, to be told something.
    #[cfg(feature = "train")]
    pub(crate) fn model_mut(&mut self) -> &mut dyn RewardModel {
        self.model.as_mut()
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
        let known: Vec<&TokenizedList> = tokenized.iter().flatten().collect();
        let mut rewards = self.score_tokenized_lists(&known)?.into_iter();
        Ok(tokenized
            .into_iter()
            .map(|list| list.map(|list| rewards.by_ref().take(list.texts.len()).collect()))
            .collect())
    }

    /// The reward of each text of these lists, list after list. A model that
    /// [shares prompts](RewardModel::shares_prompts) gets the texts of a list together, others by
    /// length.
    ///
    /// # Errors
    /// If the model fails or gives anything but one f32 per text.
    pub fn score_tokenized_lists(&self, lists: &[&TokenizedList]) -> Result<Vec<f32>> {
        if self.tokenizer.layout() != Layout::Continuation || !self.model.shares_prompts() {
            let texts: Vec<&TokenizedText> = lists.iter().flat_map(|list| &list.texts).collect();
            return self.score_tokenized(&texts);
        }
        let runs = self.runs(lists);
        let tokens: Vec<usize> = runs.iter().map(|run| run.tokens).collect();
        let texts = lists.iter().map(|list| list.texts.len()).sum();
        self.in_batches(&tokens, texts, 1, |batch| {
            let positions = batch.iter().flat_map(|&at| {
                let Run { texts, first, .. } = &runs[at];
                *first..*first + texts.len()
            });
            let positions = positions.collect();
            Ok((TokenBatch::from_lists(batch.iter().map(|&at| runs[at].texts))?, positions))
        })
    }

    /// The texts of each list, those of a long one in several runs, each with the prompt: as many
    /// texts as fit a batch with it, or half a batch beside a long one.
    fn runs<'a>(&self, lists: &[&'a TokenizedList]) -> Vec<Run<'a>> {
        let (mut runs, mut first) = (Vec::new(), 0);
        for list in lists {
            let mut rest = list.texts.as_slice();
            while let Some(prompt) = rest.first().map(|text| text.prompt_len) {
                let (mut tokens, mut count) = (prompt, 0);
                let room = self.batch_tokens.max(prompt + self.batch_tokens / 2);
                for text in rest {
                    let own = text.ids.len() - prompt.min(text.ids.len());
                    if count > 0 && tokens + own > room {
                        break;
                    }
                    (tokens, count) = (tokens + own, count + 1);
                }
                let (texts, after) = rest.split_at(count);
                runs.push(Run { texts, first, tokens });
                (rest, first) = (after, first + count);
            }
        }
        runs
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
        let lengths: Vec<usize> = texts.iter().map(|text| text.ids.len()).collect();
        self.in_batches(&lengths, texts.len(), outputs, |batch| {
            let tokens = TokenBatch::from_texts(batch.iter().map(|&at| texts[at]))?;
            Ok((tokens, batch.to_vec()))
        })
    }

    /// The outputs of all texts of items of these lengths; `make` gives the tokens of some items, and
    /// where their texts stand among all.
    fn in_batches(
        &self,
        lengths: &[usize],
        texts: usize,
        outputs: usize,
        make: impl Fn(&[usize]) -> Result<(TokenBatch, Vec<usize>)>,
    ) -> Result<Vec<f32>> {
        let _no_grad = tch::no_grad_guard();
        let mut all = vec![0.0; texts * outputs];
        for batch in sorted_batches(lengths, usize::MAX, self.batch_tokens) {
            let (tokens, positions) = make(&batch)?;
            let scores = to_vec_f32(&forward(self.model(), &tokens, Mode::Evaluation, outputs)?)?;
            for (&at, scores) in positions.iter().zip(scores.chunks(outputs.max(1))) {
                all[at * outputs..][..outputs].copy_from_slice(scores);
            }
        }
        let offset = self.model.reward_scale().map_or(0.0, |scale| scale.offset) as f32;
        if offset != 0.0 {
            all.iter_mut().for_each(|score| *score -= offset);
        }
        Ok(all)
    }
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
