//! Prompt and response for decoders: one text, of which the response is the end.

use super::encode::failed;
use super::{ChatTemplate, TokenizedList, TokenizedText, Tokenizer};
use crate::{BoxError, Error, Message, RankedList, Response, Result};

/// A text before it is cut.
struct Joined {
    ids: Vec<u32>,
    /// How many tokens are of the prompt and of nothing else.
    prompt: usize,
    /// How many of them begin every text.
    leading: usize,
}

impl Tokenizer {
    pub(super) fn continuation(
        &self,
        prompt: Option<&str>,
        response: &str,
    ) -> Result<TokenizedText> {
        let joined = self.joined(prompt, response, 0)?;
        let (mut texts, _) = self.cut(vec![joined])?;
        texts.pop().ok_or_else(|| Error::InvalidArgument("no text".into()))
    }

    pub(super) fn continuations(&self, list: &RankedList) -> Result<TokenizedList> {
        let responses = list.responses().iter().enumerate();
        let texts = if list.is_conversation() {
            let template = self.template_of_conversations()?;
            let prompt = match (list.conversation(), list.prompt()) {
                (Some(prompt), _) => prompt,
                (None, None) => &[],
                (None, Some(_)) => {
                    return Err(Error::RankedList {
                        field: "prompt".into(),
                        message: "is a text, but there are responses of messages".into(),
                    });
                }
            };
            responses
                .map(|(r, response)| self.rendered(template, prompt, response, r))
                .collect::<Result<_>>()?
        } else {
            responses
                .map(|(r, response)| self.joined(list.prompt(), response.text(), r))
                .collect::<Result<_>>()?
        };
        let (texts, prompt_cut) = self.cut(texts)?;
        Ok(TokenizedList { texts, prompt_cut })
    }

    fn template_of_conversations(&self) -> Result<&ChatTemplate> {
        let message = match &self.chat_template {
            Some(Ok(template)) => return Ok(template),
            Some(Err(message)) => message.clone(),
            None => "the model's folder has none (in tokenizer_config.json or \
                     chat_template.jinja), and a conversation needs one"
                .into(),
        };
        Err(Error::ChatTemplate { message })
    }

    fn joined(&self, prompt: Option<&str>, response: &str, r: usize) -> Result<Joined> {
        let text = format!("{}{response}", prompt.unwrap_or_default());
        let mut joined = self.tokens(&text, prompt.map(str::len), true).map_err(of(r))?;
        if let Some(eos) = self.end_of_sequence().filter(|eos| joined.ids.last() != Some(eos)) {
            joined.ids.push(eos);
        }
        Ok(joined)
    }

    fn rendered(
        &self,
        template: &ChatTemplate,
        prompt: &[Message],
        response: &Response,
        r: usize,
    ) -> Result<Joined> {
        let mut messages = prompt.to_vec();
        match response.messages() {
            Some(own) => messages.extend_from_slice(own),
            None => messages.push(Message::new("assistant", response.text())),
        }
        let text = template.render(&messages, false)?;
        let border = (!prompt.is_empty()).then(|| border(template, prompt, &text));
        self.tokens(&text, border, false).map_err(of(r))
    }

    /// The tokens of a text, of which the first `border` bytes are the prompt.
    fn tokens(&self, text: &str, border: Option<usize>, special: bool) -> Result<Joined, BoxError> {
        let tokens = self.inner.encode(text, special)?;
        let ids = tokens.get_ids().to_vec();
        let of_template = |&(_, &mask): &(usize, &u32)| mask == 1;
        let marks = tokens.get_special_tokens_mask().iter().enumerate();
        let leading = marks.take_while(of_template).count();
        let bos = self.named("bos_token").and_then(|token| self.token_id(token));
        let leading = leading.max(usize::from(bos.is_some() && ids.first() == bos.as_ref()));
        let prompt = match border {
            None => 0,
            // The special tokens have no place in the text; those behind it are not the prompt's.
            Some(border) => {
                let mut offsets = tokens.get_offsets().iter().enumerate();
                let outside = |&(at, &(_, end)): &(usize, &(usize, usize))| {
                    end > border || end == 0 && at >= leading
                };
                offsets.find(outside).map_or(ids.len(), |(at, _)| at)
            }
        };
        Ok(Joined { ids, prompt, leading: leading.min(prompt) })
    }

    /// Cuts the prompt, which is what all texts of a list have in common of their prompts' tokens.
    fn cut(&self, texts: Vec<Joined>) -> Result<(Vec<TokenizedText>, bool)> {
        let limits = self.limits();
        let least = texts.iter().map(|text| text.prompt).min().unwrap_or(0);
        let common = texts.first().map_or(0, |first| {
            let same = |at: usize| texts.iter().all(|text| text.ids.get(at) == first.ids.get(at));
            (0..least).take_while(|&at| same(at)).count()
        });
        let leading = texts.iter().map(|text| text.leading).min().unwrap_or(0).min(common);
        let excess = (common - leading).saturating_sub(limits.max_prompt_length);
        let prompt_len = common - excess;
        let room = limits.max_length.saturating_sub(prompt_len);
        let cut = |(r, mut text): (usize, Joined)| {
            let tokens = text.ids.len() - common;
            if tokens > room {
                return Err(Error::TooLong { response: r, tokens, room });
            }
            text.ids.drain(leading..leading + excess);
            let segments = vec![0; text.ids.len()];
            TokenizedText::new(text.ids, segments, prompt_len)
        };
        let texts = texts.into_iter().enumerate().map(cut).collect::<Result<_>>()?;
        Ok((texts, excess > 0))
    }
}

/// Where the prompt ends in the text of a conversation, in bytes. What asks for the assistant's
/// answer is the prompt's, if the template writes it in a conversation as well.
fn border(template: &ChatTemplate, prompt: &[Message], text: &str) -> usize {
    let mut most = 0;
    // A template may refuse messages that are only the beginning of a conversation.
    for asking in [true, false] {
        let Ok(start) = template.render(prompt, asking) else { continue };
        if text.starts_with(&start) {
            return start.len();
        }
        if most == 0 {
            let same = start.chars().zip(text.chars()).take_while(|(a, b)| a == b);
            most = same.map(|(c, _)| c.len_utf8()).sum();
        }
    }
    most
}

fn of(r: usize) -> impl FnOnce(BoxError) -> Error {
    move |source| failed(&format!("responses[{r}]"))(source)
}
