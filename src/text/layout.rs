//! [`Layout`]: how a prompt and a response become one text.

use super::{TokenizedText, Tokenizer};
use crate::{BoxError, Error, Result};

/// How a prompt and a response become one text.
///
/// Which one a model wants is the model's to say
/// ([`RewardModel::layout`](crate::RewardModel::layout)); a [`Scorer`](crate::Scorer), and with it
/// the trainer, sees to it that its tokenizer does so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// Two sequences, joined by the tokenizer's template for pairs: `[CLS] prompt [SEP] response
    /// [SEP]` for BERT. What encoders are pretrained with.
    #[default]
    Pair,
    /// One sequence, the response right after the prompt as in Python's `tokenizer(prompt +
    /// response)`, and the end-of-sequence token after it unless it is there already: the `eos_token`
    /// of the tokenizer's files, or where they name none the `sep_token`. What decoders are
    /// pretrained with, and what TRL's trainer makes of plain text.
    ///
    /// The prompt's part ends where the responses of a list begin to differ: a token that holds the
    /// prompt's last character and the response's first one belongs to the response.
    Continuation,
}

impl Tokenizer {
    /// The same tokenizer, joining prompts and responses in this way.
    ///
    /// With [`Layout::Continuation`] the pad token changes where it has to: Python's
    /// sequence-classification classes of decoders look for the last token of a text that is not the
    /// pad token, so no text may end with it. If the tokenizer has no pad token, or pads with its
    /// end-of-sequence token, another token of the vocabulary takes that part (a special one where
    /// there is one to spare) and is saved as `pad_token`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the files of the tokenizer name neither `eos_token` nor `sep_token`, or
    /// no token can be found to pad with.
    pub fn with_layout(mut self, layout: Layout) -> Result<Tokenizer> {
        self.layout = layout;
        if layout == Layout::Pair {
            return Ok(self);
        }
        let wrong = |message: &str| Error::Tokenizer {
            context: "a text for a decoder".into(),
            source: message.into(),
        };
        let eos = self.special_token("eos_token").or(self.special_token("sep_token"));
        let eos = eos.ok_or_else(|| {
            wrong("tokenizer_config.json names no eos_token, which every text ends with")
        })?;
        self.eos_id = Some(eos);
        if self.pad_id.is_none_or(|pad| pad == eos) {
            let (id, token) = self
                .spare_token(eos)
                .ok_or_else(|| wrong("the vocabulary has no token to pad with beside eos_token"))?;
            self.pad_id = Some(id);
            self.config = self.config.with_pad_token(&token);
            self.special_tokens = self.special_tokens.with_pad_token(&token);
        }
        Ok(self)
    }

    /// How prompts and responses are joined.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    fn special_token(&self, role: &str) -> Option<u32> {
        let named = [self.config.token(role), self.special_tokens.token(role)];
        named.into_iter().flatten().find_map(|token| self.token_id(token))
    }

    /// A token that no text ends with and that hardly occurs as such in one: Python takes what is
    /// named as a pad token out of texts before anything else.
    fn spare_token(&self, eos: u32) -> Option<(u32, String)> {
        let taken: Vec<u32> = ["bos_token", "unk_token", "sep_token", "cls_token", "mask_token"]
            .into_iter()
            .filter_map(|role| self.special_token(role))
            .chain([eos])
            .collect();
        let name = |id: u32| Some((id, self.inner.id_to_token(id)?));
        let special: Vec<(u32, String)> = self
            .special_ids()
            .into_iter()
            .filter(|id| !taken.contains(id))
            .filter_map(name)
            .collect();
        let called = |what: &'static str| {
            move |(_, token): &&(u32, String)| token.to_ascii_lowercase().contains(what)
        };
        let pad = special.iter().find(called("pad"));
        let reserved = || special.iter().find(called("reserved"));
        let chosen = pad.or_else(reserved).or(special.first()).cloned();
        let unknown = || self.special_token("unk_token").filter(|&id| id != eos).and_then(name);
        // A word with the mark of a space before it, which nobody writes: U+0120 or U+2581.
        let word = || {
            let vocabulary = self.inner.get_vocab(false).into_iter();
            vocabulary
                .filter(|(token, id)| {
                    *id != eos
                        && token.strip_prefix(['\u{120}', '\u{2581}']).is_some_and(|word| {
                            word.len() >= 5 && word.chars().all(|c| c.is_ascii_alphabetic())
                        })
                })
                .max_by_key(|(_, id)| *id)
                .map(|(token, id)| (id, token))
        };
        chosen.or_else(unknown).or_else(word)
    }

    /// The prompt with each of these responses as [`Layout::Continuation`] has them, and whether the
    /// prompt was cut.
    pub(super) fn continuations(
        &self,
        prompt: Option<&str>,
        responses: &[&str],
    ) -> Result<(Vec<TokenizedText>, bool)> {
        let prompt = prompt.unwrap_or_default();
        let mut leading = 0;
        let mut shared = usize::MAX;
        let mut texts: Vec<Vec<u32>> = Vec::with_capacity(responses.len());
        for (r, response) in responses.iter().enumerate() {
            let failed = |source: BoxError| Error::Tokenizer {
                context: format!("encoding responses[{r}]"),
                source,
            };
            let text = self.inner.encode(format!("{prompt}{response}"), true).map_err(failed)?;
            let special = text.get_special_tokens_mask();
            leading = special.iter().take_while(|&&special| special == 1).count();
            let of_prompt = text
                .get_offsets()
                .iter()
                .skip(leading)
                .take_while(|&&(_, end)| end <= prompt.len())
                .count();
            let mut ids = text.get_ids().to_vec();
            if ids.last().copied() != self.eos_id {
                ids.extend(self.eos_id);
            }
            shared = shared.min(if prompt.is_empty() { 0 } else { leading + of_prompt });
            if let Some(first) = texts.first() {
                shared = first.iter().zip(&ids).take(shared).take_while(|(a, b)| a == b).count();
            }
            texts.push(ids);
        }
        let shared = if texts.is_empty() { 0 } else { shared };
        let limits = self.limits();
        let of_prompt = shared.saturating_sub(leading);
        let excess = of_prompt.saturating_sub(limits.max_prompt_length);
        let room = limits.max_length.saturating_sub(shared - excess);
        let texts = texts.into_iter().enumerate().map(|(r, mut ids)| {
            let tokens = ids.len() - shared;
            if tokens > room {
                return Err(Error::TooLong { response: r, tokens, room });
            }
            ids.drain(leading..leading + excess);
            let segments = vec![0; ids.len()];
            TokenizedText::new(ids, segments, shared - excess)
        });
        Ok((texts.collect::<Result<_>>()?, excess > 0))
    }
}
