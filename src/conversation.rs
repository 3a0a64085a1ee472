//! Conversations: what a prompt or a response is made of where a chat model is concerned.

use serde::{Deserialize, Serialize};

/// One message of a conversation.
///
/// ```
/// use reward_model::Message;
///
/// let message = Message::new("user", "What is 2 + 2?");
/// assert_eq!(message.role, "user");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// Who speaks: `"system"`, `"user"`, `"assistant"`, or whatever a chat template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of this role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into() }
    }
}
