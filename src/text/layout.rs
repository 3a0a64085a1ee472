//! [`Layout`], and the pad token that goes with it.

use std::collections::HashSet;

use super::Tokenizer;
use crate::{Error, Message, Result};

/// How a model wants prompt and response joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// As a pair, by the tokenizer's own template: `[CLS] prompt [SEP] response [SEP]`. For
    /// encoders.
    #[default]
    Pair,
    /// The response as what follows the prompt, for decoders.
    ///
    /// Of texts, the tokens are those that Python's `tokenizer(prompt + response)` gives, and the
    /// EOS token unless they end with it: the `eos_token` that the tokenizer's files name, or where
    /// they name none the `sep_token`. Of messages, those of
    /// `apply_chat_template(messages, tokenize=True)`, to which nothing is added.
    Continuation,
}

/// A token that no text of a continuation ends with.
pub(super) fn pad_token(tokenizer: &Tokenizer) -> Result<String> {
    let missing =
        |what: &str| Error::Tokenizer { context: "a decoder's layout".into(), source: what.into() };
    let inner = &tokenizer.inner;
    let id = |role| tokenizer.named(role).and_then(|token| inner.token_to_id(token));
    let eos = tokenizer
        .end_of_sequence()
        .ok_or_else(|| missing("tokenizer_config.json must name an eos_token of the vocabulary"))?;
    let mut ends = conversation_ends(tokenizer);
    ends.insert(eos);

    if let Some(own) = tokenizer.pad_id.filter(|own| !ends.contains(own)) {
        if let Some(token) = inner.id_to_token(own) {
            return Ok(token);
        }
    }
    let mut special: Vec<(u32, String)> = inner
        .get_added_tokens_decoder()
        .into_iter()
        .filter(|(id, token)| token.special && !ends.contains(id))
        .map(|(id, token)| (id, token.content))
        .collect();
    special.sort_unstable();
    let roles = [id("bos_token"), id("unk_token")];
    let reserved = |name: &str| name.contains("reserved") || name.contains("unused");
    let unknown = tokenizer.named("unk_token").filter(|_| id("unk_token") != Some(eos));
    let free = || special.iter().filter(|(id, _)| !roles.contains(&Some(*id)));
    let named = |is: &dyn Fn(&str) -> bool| {
        free().find(|(_, name)| is(&name.to_lowercase())).map(|(_, name)| name.clone())
    };
    named(&|name| name.contains("pad"))
        .or_else(|| named(&reserved))
        .or_else(|| named(&|_| true))
        .or_else(|| unknown.filter(|u| inner.token_to_id(u).is_some()).map(str::to_owned))
        .or_else(|| rare_word(tokenizer, &ends))
        .ok_or_else(|| missing("no token of the vocabulary is left to pad with"))
}

/// The last token of a rendered conversation, and its last special one: what follows that may be
/// trimmed.
fn conversation_ends(tokenizer: &Tokenizer) -> HashSet<u32> {
    let mut ends = HashSet::new();
    let Some(template) = tokenizer.chat_template() else { return ends };
    let added = tokenizer.inner.get_added_tokens_decoder();
    let conversation = [Message::new("user", "Hi"), Message::new("assistant", "Hello")];
    let Ok(text) = template.render(&conversation, false) else { return ends };
    let Ok(tokens) = tokenizer.inner.encode_fast(text, false) else { return ends };
    ends.extend(tokens.get_ids().last());
    ends.extend(tokens.get_ids().iter().rev().find(|id| added.contains_key(id)));
    ends
}

/// The last word of the vocabulary, which is also the rarest. Python looks for a pad token in the
/// text as it is written, with the mark that stands for a space here, and will not find it.
fn rare_word(tokenizer: &Tokenizer, ends: &HashSet<u32>) -> Option<String> {
    let is_word = |token: &str| {
        token.strip_prefix(['\u{120}', '\u{2581}']).is_some_and(|word| {
            word.chars().count() >= 5 && word.chars().all(|c| c.is_ascii_alphabetic())
        })
    };
    let vocab = tokenizer.inner.get_vocab(false).into_iter();
    let words = vocab.filter(|(token, id)| is_word(token) && !ends.contains(id));
    words.max_by_key(|&(_, id)| id).map(|(token, _)| token)
}
