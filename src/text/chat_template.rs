//! [`ChatTemplate`]: how a conversation becomes one text.

mod bounds;
mod engine;
mod json;
mod methods;
mod source;
mod tokens;

use std::fmt;
use std::sync::Arc;

use minijinja::{Environment, Value};
use serde_json::Value as Json;

use crate::{Error, Message, Result};

/// The longest template; the longest in use have some 20 thousand bytes.
const MAX_SOURCE_BYTES: usize = 128 << 10;

/// A chat template in Jinja, as `tokenizer_config.json` and `chat_template.jinja` hold it.
///
/// A conversation is rendered to the text that `apply_chat_template(messages, tokenize=False)` of
/// Hugging Face's transformers gives: `trim_blocks` and `lstrip_blocks`, loop controls, the
/// methods of Python's strings and dictionaries that templates use, `raise_exception`,
/// `strftime_now`, `tojson`, and `{% generation %}`, which marks what it encloses and changes
/// nothing. The template sees `messages`, `add_generation_prompt`, `tools` and `documents` (both
/// `none`) and the special tokens by name (`bos_token`, ...).
///
/// A number from 1e16 on, or below 1e-4, is printed with all its digits where Python has an exponent
/// (not by `tojson`), and a loop over `none` is an empty one.
///
/// Not there: `%` with a string to its left, a product of two things of which neither is a literal
/// string or a number up to 64, `{% with %}` with several variables, and the statements `include`, `import`, `extends`,
/// `block` and `autoescape`.
///
/// # Bounds
///
/// A template comes with a model and is not trusted. Rendering ends in an error, and does no harm,
/// when
///
/// - it runs out of fuel: 500,000 for a conversation and one more for each of its bytes. A step
///   takes one, and so do 64 bytes of strings, lists or output, whether kept or not. This bounds
///   memory: 32 MB and 64 times the conversation's size, several times that where a list's items
///   are smaller than what holds them;
/// - a list or dictionary that it makes has more than 131,072 parts, parts of parts included, or is
///   nested more than 64 deep;
/// - a second has passed, looked at after every tag of a loop, branch or macro; this ends what
///   is cheap in steps and slow, such as comparing long strings;
/// - macros or loops are nested too deeply.
///
/// The source has at most 128 KiB, and at most 500 operators in one tag.
///
/// ```
/// use reward_model::{text::ChatTemplate, Message};
///
/// let template = ChatTemplate::new(
///     "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</s>{% endfor %}",
/// )?;
/// let messages = [Message::new("user", " 2 + 2? "), Message::new("assistant", "4")];
/// assert_eq!(template.render(&messages, false)?, "<user>2 + 2?</s><assistant>4</s>");
///
/// let endless = ChatTemplate::new("{% for i in range(99999) %}{% for j in range(99999) %}\
///     x{% endfor %}{% endfor %}")?;
/// assert!(endless.render(&messages, false).is_err());
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone)]
pub struct ChatTemplate {
    source: Arc<str>,
    environment: Arc<Environment<'static>>,
    tokens: Vec<(String, Value)>,
    date: Option<jiff::civil::Date>,
}

impl ChatTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if its syntax is wrong, it is too long, or it uses a statement that
    /// is not there.
    pub fn new(source: impl Into<String>) -> Result<ChatTemplate> {
        let source = source.into();
        if source.len() > MAX_SOURCE_BYTES {
            return Err(Error::ChatTemplate {
                message: format!(
                    "has {} bytes; at most {MAX_SOURCE_BYTES} are accepted",
                    source.len()
                ),
            });
        }
        let bounded =
            source::bounded(&source).map_err(|message| Error::ChatTemplate { message })?;
        let environment = Arc::new(engine::environment(bounded).map_err(engine::error)?);
        Ok(ChatTemplate { source: source.into(), environment, tokens: Vec::new(), date: None })
    }

    /// The same template, which sees a special token, such as `"bos_token"`, under its name.
    #[must_use]
    pub fn with_token(mut self, name: &str, token: &str) -> ChatTemplate {
        self.tokens.retain(|(known, _)| known != name);
        self.tokens.push((name.to_owned(), Value::from(token)));
        self
    }

    /// The same template, for which it is always midnight of this date (`"2024-07-26"`): some print
    /// the day on which they are rendered, and a reward would depend on it. The default is the
    /// local time.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if this is not a date.
    pub fn with_date(mut self, date: &str) -> Result<ChatTemplate> {
        let parsed = date.parse().map_err(|error| Error::ChatTemplate {
            message: format!("the date {date:?} is not one such as 2024-07-26: {error}"),
        })?;
        self.date = Some(parsed);
        Ok(self)
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation, with what asks for the assistant's next message at its end if
    /// `add_generation_prompt`.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if the template fails, raises an exception, or reaches one of its
    /// bounds.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let size: usize = messages.iter().map(size).sum();
        let mut context: Vec<(&str, Value)> = vec![
            ("messages", messages.iter().map(value).collect()),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ];
        context.extend(self.tokens.iter().map(|(name, token)| (&**name, token.clone())));
        engine::render(&self.environment, Value::from_pairs(context), size, self.date)
            .map_err(engine::error)
    }
}

impl PartialEq for ChatTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.tokens == other.tokens && self.date == other.date
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

fn value(message: &Message) -> Value {
    let own = [("role", &message.role), ("content", &message.content)];
    let own = own.into_iter().map(|(key, text)| (key, Value::from(&**text)));
    let more = message.extra.iter().map(|(key, value)| (&**key, json(value)));
    Value::from_pairs(own.chain(more))
}

fn json(value: &Json) -> Value {
    match value {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::from(value),
            (None, Some(value)) => Value::from(value),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(&**text),
        Json::Array(values) => values.iter().map(json).collect(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(key, value)| (&**key, json(value))))
        }
    }
}

/// How much a message brings along: about its bytes as JSON.
fn size(message: &Message) -> usize {
    fn of(value: &Json) -> usize {
        match value {
            Json::String(text) => text.len(),
            Json::Array(values) => values.iter().map(|value| 2 + of(value)).sum(),
            Json::Object(fields) => fields.iter().map(|(k, v)| 4 + k.len() + of(v)).sum(),
            Json::Null | Json::Bool(_) | Json::Number(_) => 8,
        }
    }
    let more: usize = message.extra.iter().map(|(key, value)| 4 + key.len() + of(value)).sum();
    32 + message.role.len() + message.content.len() + more
}
