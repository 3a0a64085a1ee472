//! Ranked lists whose prompt and responses are messages.

use super::{are, counted, RankedList, Ranking, Response};
use crate::{Error, Message, Result};

impl Response {
    /// The messages, at least one; `None` if the response is a text, which next to a
    /// [conversation](RankedList::conversation) is one message of the assistant.
    pub fn messages(&self) -> Option<&[Message]> {
        self.messages.as_deref()
    }
}

impl RankedList {
    /// A list whose responses are messages, given in any order, with the [`Ranking`] of their
    /// positions.
    ///
    /// Without a prompt, each response is a whole conversation, and the messages that all of them
    /// begin with are the prompt, as in TRL's `extract_prompt`; each response keeps at least its
    /// last message. A [`Response::text`] is the content of the last message.
    ///
    /// # Errors
    /// [`Error::RankedList`] if there is no response, or one without messages or whose last message
    /// is empty, or if the ranking is of another number of responses.
    ///
    /// # Examples
    ///
    /// ```
    /// use reward_model::{Message, RankedList};
    ///
    /// let ask = Message::new("user", "2 + 2?");
    /// let right = vec![ask.clone(), Message::new("assistant", "4")];
    /// let wrong = vec![ask.clone(), Message::new("assistant", "5")];
    /// let list = RankedList::from_conversations(None, vec![right, wrong], &"A > B".parse()?)?;
    /// assert_eq!(list.conversation(), Some(&[ask][..]));
    /// assert_eq!(list.responses()[0].text(), "4");
    /// # Ok::<(), reward_model::Error>(())
    /// ```
    pub fn from_conversations(
        prompt: Option<Vec<Message>>,
        mut responses: Vec<Vec<Message>>,
        ranking: &Ranking,
    ) -> Result<Self> {
        check(&responses)?;
        if ranking.len() != responses.len() {
            return Err(Error::RankedList {
                field: "ranking".into(),
                message: format!(
                    "ranks {}, but there {}",
                    counted(ranking.len(), "response"),
                    are(responses.len(), "response")
                ),
            });
        }
        let prompt = match prompt.filter(|prompt| !prompt.is_empty()) {
            Some(prompt) => prompt,
            None => take_common(&mut responses),
        };
        let texts = responses.iter().map(|messages| last_text(messages)).collect();
        let mut list = Self::sorted(texts, ranking);
        for response in &mut list.responses {
            response.messages = responses.get_mut(response.position).map(std::mem::take);
        }
        Ok(list.with_conversation(prompt))
    }

    /// The same list with messages for a prompt, in place of the one that it had; no messages are
    /// no prompt. Responses that are texts are then messages of the assistant.
    #[must_use]
    pub fn with_conversation(mut self, messages: Vec<Message>) -> Self {
        self.prompt = None;
        self.conversation = Some(messages).filter(|messages| !messages.is_empty());
        self
    }

    /// The messages that are the prompt; `None` if there is none or it is a
    /// [text](Self::prompt), never empty.
    pub fn conversation(&self) -> Option<&[Message]> {
        self.conversation.as_deref()
    }

    /// Whether the prompt or a response is made of messages.
    #[cfg(feature = "text")]
    pub(crate) fn is_conversation(&self) -> bool {
        self.conversation.is_some() || self.responses.iter().any(|r| r.messages.is_some())
    }
}

fn last_text(messages: &[Message]) -> String {
    messages.last().map(|message| message.content.clone()).unwrap_or_default()
}

fn check(responses: &[Vec<Message>]) -> Result<()> {
    let wrong =
        |field: String, message: &str| Err(Error::RankedList { field, message: message.into() });
    if responses.is_empty() {
        let message = "is empty; a ranked list needs at least one response";
        return wrong("responses".into(), message);
    }
    for (index, messages) in responses.iter().enumerate() {
        match messages.last() {
            None => {
                let message = "is empty; every response needs a message";
                return wrong(format!("responses[{index}]"), message);
            }
            // One that calls a tool has nothing else to say.
            Some(last) if last.content.trim().is_empty() && last.extra.is_empty() => {
                let at = messages.len() - 1;
                let message = "is empty or only white space; every response needs text";
                return wrong(format!("responses[{index}][{at}].content"), message);
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Takes off what all begin with, but for the last message of the shortest.
fn take_common(responses: &mut [Vec<Message>]) -> Vec<Message> {
    let Some((first, others)) = responses.split_first() else { return Vec::new() };
    let most = first.len().min(others.iter().map(Vec::len).min().unwrap_or(usize::MAX));
    let common = (0..most.saturating_sub(1))
        .take_while(|&at| others.iter().all(|other| other.get(at) == first.get(at)))
        .count();
    let mut prompt = Vec::new();
    for response in responses {
        let rest = response.split_off(common);
        prompt = std::mem::replace(response, rest);
    }
    prompt
}
