//! Prompts and responses on a line of JSONL: a string, or an array of messages.

use std::fmt::Display;

use serde_json::{Map, Value};

use super::json::wrong_type;
use super::Problem;
use crate::Message;

pub(super) enum Words {
    Text(String),
    Messages(Vec<Message>),
}

impl Words {
    pub fn text(&self) -> Option<&str> {
        match self {
            Words::Text(text) => Some(text),
            Words::Messages(_) => None,
        }
    }

    /// Whether the first of several messages says exactly this.
    pub fn begins_with(&self, text: &str) -> bool {
        match self {
            Words::Text(_) => false,
            Words::Messages(messages) => {
                messages.len() > 1 && messages.first().is_some_and(|first| first.content == text)
            }
        }
    }

    /// A text among messages is one of the assistant.
    pub fn into_messages(self) -> Vec<Message> {
        match self {
            Words::Text(text) => vec![Message::new("assistant", text)],
            Words::Messages(messages) => messages,
        }
    }
}

pub(super) fn words(field: &dyn Display, value: Value) -> Result<Words, Problem> {
    match value {
        Value::String(text) => Ok(Words::Text(text)),
        Value::Array(values) => {
            let messages = values.into_iter().enumerate();
            let messages =
                messages.map(|(at, value)| message(&format_args!("{field}[{at}]"), value));
            Ok(Words::Messages(messages.collect::<Result<_, _>>()?))
        }
        other => Err(wrong_type(field, "a string or an array of messages", &other)),
    }
}

fn message(field: &dyn Display, value: Value) -> Result<Message, Problem> {
    let mut fields = match value {
        Value::Object(fields) => fields,
        other => return Err(wrong_type(field, "a message", &other)),
    };
    let role = text(field, "role", &mut fields)?;
    let content = text(field, "content", &mut fields)?;
    let mut message = Message::new(role, content);
    fields.retain(|_, value| !value.is_null());
    message.extra = fields;
    Ok(message)
}

fn text(
    field: &dyn Display,
    key: &str,
    fields: &mut Map<String, Value>,
) -> Result<String, Problem> {
    let field = format_args!("{field}.{key}");
    match fields.shift_remove(key) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong_type(&field, "a string", &other)),
        None => Err(Problem::of_field(
            field.to_string(),
            "is missing; a message has a \"role\" and a \"content\"",
        )),
    }
}
