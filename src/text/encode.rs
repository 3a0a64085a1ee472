//! From prompts and responses to tokens: the one path for training, evaluation and scoring.

use std::panic::{catch_unwind, AssertUnwindSafe};

use rayon::prelude::*;

use super::{Layout, TokenizedText, Tokenizer};
use crate::{BoxError, Error, RankedList, Result};

/// A ranked list as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenizedList {
    /// The prompt with each of the responses, in the list's order: best first.
    pub texts: Vec<TokenizedText>,
    /// Whether the prompt lost tokens, being longer than
    /// [`max_prompt_length`](super::Limits::max_prompt_length).
    pub prompt_cut: bool,
}

/// A prompt's tokens, as many as all responses get to see.
struct Prompt {
    ids: Vec<u32>,
    cut: bool,
}

impl Tokenizer {
    /// The tokens of a response, after its prompt if it has one.
    ///
    /// For BERT, `[CLS] response [SEP]` with segment 0, or `[CLS] prompt [SEP] response [SEP]` with
    /// segment 0 up to and including the first `[SEP]`, which are also the
    /// [`prompt_len`](TokenizedText::prompt_len) tokens, and 1 from there on; for other tokenizers
    /// what their own post-processor makes of a text or a pair. If nothing is cut, these are the
    /// `input_ids` and `token_type_ids` of Python's `tokenizer(response)` or
    /// `tokenizer(prompt, response)`. An empty prompt is a prompt. Of [`Layout::Continuation`], the
    /// text is prompt and response in one, and the prompt's tokens are those that reach into the
    /// response with no character.
    ///
    /// A special token spelled out in a text, such as `[SEP]`, becomes that special token, as it
    /// does in Python, unless `tokenizer_config.json` says `"split_special_tokens": true`. Clean
    /// texts beforehand if their authors must not have that power.
    ///
    /// # Errors
    /// [`Error::TooLong`], of response 0, if the response does not fit into the
    /// [`limits`](Tokenizer::limits) beside the prompt; [`Error::Tokenizer`] if the tokenizer
    /// fails.
    pub fn encode(&self, prompt: Option<&str>, response: &str) -> Result<TokenizedText> {
        if self.layout == Layout::Continuation {
            return self.continuation(prompt, response);
        }
        let prompt = self.prompt(prompt)?;
        self.text(prompt.as_ref(), 0, response)
    }

    /// The tokens of each response of a list, all after one and the same prompt, as
    /// [`encode`](Tokenizer::encode) gives them; of messages, those that the
    /// [chat template](Tokenizer::chat_template) makes of the whole conversation.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] for messages if there is no template, it fails, or the
    /// [layout](Tokenizer::layout) is that of pairs;
    /// [`Error::TooLong`] for the first response that does not fit: a list is whole or not at all;
    /// [`Error::Tokenizer`] if the tokenizer fails.
    ///
    /// ```
    /// use reward_model::{text::Tokenizer, RankedList};
    ///
    /// let tokenizer = Tokenizer::train(["good food, bad food", "the food"], 100)?;
    /// let list = RankedList::new(["good", "bad"])?.with_prompt("the food");
    /// let tokens = tokenizer.encode_list(&list)?;
    /// assert_eq!(tokens.texts[0], tokenizer.encode(Some("the food"), "good")?);
    /// assert_eq!(tokens.texts[1], tokenizer.encode(Some("the food"), "bad")?);
    /// assert!(!tokens.prompt_cut);
    /// # Ok::<(), reward_model::Error>(())
    /// ```
    pub fn encode_list(&self, list: &RankedList) -> Result<TokenizedList> {
        if self.layout == Layout::Continuation {
            return self.continuations(list);
        }
        if list.is_conversation() {
            return Err(Error::ChatTemplate {
                message:
                    "conversations are for decoders; this layout takes a prompt and responses \
                          that are texts"
                        .into(),
            });
        }
        let prompt = self.prompt(list.prompt())?;
        let responses = list.responses().iter().enumerate();
        let texts = responses.map(|(r, response)| self.text(prompt.as_ref(), r, response.text()));
        Ok(TokenizedList {
            texts: texts.collect::<Result<_>>()?,
            prompt_cut: prompt.is_some_and(|prompt| prompt.cut),
        })
    }

    /// [`encode_list`](Tokenizer::encode_list) of every list, on all threads, in the lists' order.
    pub fn encode_lists(&self, lists: &[RankedList]) -> Vec<Result<TokenizedList>> {
        lists.par_iter().map(|list| self.encode_list(list)).collect()
    }

    /// [`encode`](Tokenizer::encode) of every prompt and response, on all threads, in their order.
    pub fn encode_pairs(&self, pairs: &[(Option<&str>, &str)]) -> Vec<Result<TokenizedText>> {
        pairs.par_iter().map(|&(prompt, response)| self.encode(prompt, response)).collect()
    }

    fn prompt(&self, prompt: Option<&str>) -> Result<Option<Prompt>> {
        let Some(prompt) = prompt else { return Ok(None) };
        let mut ids = self.ids(prompt).map_err(failed("the prompt"))?;
        let excess = ids.len().saturating_sub(self.limits().max_prompt_length);
        ids.drain(..excess);
        Ok(Some(Prompt { ids, cut: excess > 0 }))
    }

    fn text(&self, prompt: Option<&Prompt>, r: usize, response: &str) -> Result<TokenizedText> {
        let name = format_args!("responses[{r}]").to_string();
        let ids = self.ids(response).map_err(failed(&name))?;
        let taken = prompt.map_or(self.template.single, |p| p.ids.len() + self.template.pair);
        let room = self.limits().max_length.saturating_sub(taken);
        if ids.len() > room {
            return Err(Error::TooLong { response: r, tokens: ids.len(), room });
        }
        let prompt = prompt.map(|prompt| &prompt.ids[..]);
        self.template.apply(&self.inner, prompt, &ids).map_err(failed(&name))
    }

    /// The tokens of a text alone, without the template's.
    fn ids(&self, text: &str) -> Result<Vec<u32>, BoxError> {
        // Files that parse may still hold a regular expression that gives up, or a damaged table.
        let encode = || self.inner.encode_fast(text, false);
        match catch_unwind(AssertUnwindSafe(encode)) {
            Ok(encoding) => Ok(encoding?.get_ids().to_vec()),
            Err(_) => Err("tokenizer.json makes the tokenizer fail on this text".into()),
        }
    }
}

pub(super) fn failed(what: &str) -> impl FnOnce(BoxError) -> Error + '_ {
    move |source| Error::Tokenizer { context: format!("encoding {what}"), source }
}
