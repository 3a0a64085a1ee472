//! What makes two lists, prompts or pairs the same: 128 bits of each.

use std::hash::{BuildHasher, Hash, RandomState};

use crate::{Message, RankedList, Response};

/// SipHash under two secret keys, so that nobody can make two texts look the same.
pub(super) struct Keys([RandomState; 2]);

/// The keys of one list.
pub(super) struct ListKeys {
    /// Prompt, responses and their order.
    pub list: u128,
    /// Prompt and responses.
    pub set: u128,
    pub prompt: Option<u128>,
    /// The responses, best first.
    responses: Vec<u128>,
}

impl Keys {
    pub fn new() -> Self {
        Self([RandomState::new(), RandomState::new()])
    }

    fn of(&self, value: impl Hash) -> u128 {
        let [high, low] = self.0.each_ref().map(|state| u128::from(state.hash_one(&value)));
        high << 64 | low
    }

    pub fn of_list(&self, list: &RankedList) -> ListKeys {
        let prompt = match (list.prompt(), list.conversation()) {
            (Some(text), _) => Some(self.of(text)),
            (None, Some(messages)) => Some(self.of(messages)),
            (None, None) => None,
        };
        let is_chat = list.conversation().is_some();
        let responses: Vec<u128> =
            list.responses().iter().map(|response| self.of_response(response, is_chat)).collect();
        let mut ranked: Vec<(usize, u128)> = list.ranks().zip(responses.iter().copied()).collect();
        ranked.sort_unstable();
        let mut set = responses.clone();
        set.sort_unstable();
        ListKeys { list: self.of((prompt, ranked)), set: self.of((prompt, set)), prompt, responses }
    }

    /// Next to a conversation a text is a message of the assistant.
    fn of_response(&self, response: &Response, is_chat: bool) -> u128 {
        match response.messages() {
            Some(messages) => self.of(messages),
            None if is_chat => self.of(&[Message::new("assistant", response.text())][..]),
            None => self.of(response.text()),
        }
    }

    /// A pair of a list's responses, the same in either order but for its last bit, which says
    /// which of the two is better. `None` if they are the same text.
    pub fn of_pair(&self, list: &ListKeys, winner: usize, loser: usize) -> Option<u128> {
        let (winner, loser) = (*list.responses.get(winner)?, *list.responses.get(loser)?);
        if winner == loser {
            return None;
        }
        let pair = self.of((list.prompt, winner.min(loser), winner.max(loser)));
        Some(pair & !1 | u128::from(winner < loser))
    }
}
