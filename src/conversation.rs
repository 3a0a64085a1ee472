//! Conversations: what a prompt or a response is made of where a chat model is concerned.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

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
    /// What else the message has (`"tool_calls"`, ...), for a chat template to use. A field that is
    /// `null` when it is read is left out.
    #[serde(flatten, deserialize_with = "without_nulls")]
    pub extra: Map<String, Value>,
}

impl Message {
    /// A message of this role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into(), extra: Map::new() }
    }
}

fn without_nulls<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Map<String, Value>, D::Error> {
    let mut fields = Map::deserialize(deserializer)?;
    fields.retain(|_, value| !value.is_null());
    Ok(fields)
}
