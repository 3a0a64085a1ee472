//! A line of JSONL, and with it how a [`RankedList`] is written and read by serde.

use std::fmt::{self, Display};

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess};
use serde::ser::{Serialize, Serializer};
use serde_json::error::Category;
use serde_json::Value;

use super::messages::{words, Words};
use super::Problem;
use crate::{Message, RankedList, Ranking, Response};

const EXPECTED: &str = "an object such as {\"responses\": [\"best\", \"worst\"]}";

pub(super) fn parse(line: &str) -> Result<RankedList, Problem> {
    let Object(fields) = serde_json::from_str(line).map_err(|error| unreadable(line, &error))?;
    fields.into_list()
}

/// The known fields, of any type: serde's own error for a wrong type does not name the field.
#[derive(serde::Deserialize)]
struct Fields {
    prompt: Option<Value>,
    responses: Option<Value>,
    ranks: Option<Value>,
    scores: Option<Value>,
    chosen: Option<Value>,
    rejected: Option<Value>,
}

impl Fields {
    fn into_list(self) -> Result<RankedList, Problem> {
        let Self { prompt, responses, ranks, scores, chosen, rejected } = self;
        let prompt = prompt.map(|value| words(&"prompt", value)).transpose()?;
        match (responses, chosen, rejected) {
            (Some(responses), None, None) => ranked(prompt, responses, ranks, scores),
            (None, Some(chosen), Some(rejected)) => match (ranks, scores) {
                (None, None) => pair(prompt, chosen, rejected),
                (Some(_), _) => Err(not_of_a_pair("ranks")),
                (None, Some(_)) => Err(not_of_a_pair("scores")),
            },
            (Some(_), Some(_), _) => Err(both("chosen")),
            (Some(_), None, Some(_)) => Err(both("rejected")),
            (None, Some(_), None) => Err(missing("rejected", "chosen")),
            (None, None, Some(_)) => Err(missing("chosen", "rejected")),
            (None, None, None) => Err(Problem::of_line(
                "has neither \"responses\" nor \"chosen\" and \"rejected\"; give a list or a pair",
            )),
        }
    }
}

fn ranked(
    prompt: Option<Words>,
    responses: Value,
    ranks: Option<Value>,
    scores: Option<Value>,
) -> Result<RankedList, Problem> {
    let numbers = |field, value| array(field, "an array of numbers", value, number);
    let responses = array("responses", "an array of responses", responses, words)?;
    let ranks = ranks.map(|ranks| numbers("ranks", ranks)).transpose()?;
    let list = list(prompt, responses, ranks)?;
    Ok(match scores {
        Some(scores) => list.with_scores(&numbers("scores", scores)?)?,
        None => list,
    })
}

fn pair(prompt: Option<Words>, chosen: Value, rejected: Value) -> Result<RankedList, Problem> {
    let pair = vec![words(&"chosen", chosen)?, words(&"rejected", rejected)?];
    list(prompt, pair, None).map_err(|mut problem| {
        // On the line there is no list of responses to count in.
        problem.field = problem.field.map(|field| {
            field.replace("responses[0]", "chosen").replace("responses[1]", "rejected")
        });
        problem
    })
}

fn list(
    prompt: Option<Words>,
    responses: Vec<Words>,
    ranks: Option<Vec<f64>>,
) -> Result<RankedList, Problem> {
    let texts: Option<Vec<&str>> = responses.iter().map(Words::text).collect();
    if let Some(texts) = texts {
        let list = match ranks {
            Some(ranks) => RankedList::with_ranks(texts, &ranks)?,
            None => RankedList::new(texts)?,
        };
        return Ok(match prompt {
            Some(Words::Text(prompt)) => list.with_prompt(prompt),
            Some(Words::Messages(messages)) => list.with_conversation(messages),
            None => list,
        });
    }
    let prompt = match prompt {
        Some(Words::Text(text)) if !text.is_empty() => {
            let message = "is a string, but there are responses of messages; give messages";
            return Err(Problem::of_field("prompt", message));
        }
        Some(Words::Messages(messages)) => Some(messages),
        _ => None,
    };
    let responses: Vec<Vec<Message>> = responses.into_iter().map(Words::into_messages).collect();
    let ranking = match ranks {
        Some(ranks) if ranks.len() == responses.len() => Ranking::from_ranks(&ranks)?,
        Some(ranks) => {
            let message = format!(
                "holds {} numbers for {} responses; give one for each",
                ranks.len(),
                responses.len()
            );
            return Err(Problem::of_field("ranks", message));
        }
        None => {
            let order: Vec<f64> = (1..=responses.len()).map(|rank| rank as f64).collect();
            Ranking::from_ranks(&order)?
        }
    };
    Ok(RankedList::from_conversations(prompt, responses, &ranking)?)
}

fn not_of_a_pair(field: &str) -> Problem {
    let message = "goes with \"responses\" only; a pair is \"chosen\" and \"rejected\"";
    Problem::of_field(field, message)
}

fn both(other: &str) -> Problem {
    Problem::of_line(format!("has both \"responses\" and \"{other}\"; give a list or a pair"))
}

fn missing(field: &str, other: &str) -> Problem {
    Problem::of_field(field, format!("is missing; \"{other}\" needs it beside it"))
}

fn array<T>(
    field: &str,
    expected: &str,
    value: Value,
    item: fn(&dyn Display, Value) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    match value {
        Value::Array(values) => values
            .into_iter()
            .enumerate()
            .map(|(index, value)| item(&format_args!("{field}[{index}]"), value))
            .collect(),
        other => Err(wrong_type(&field, expected, &other)),
    }
}

fn number(field: &dyn Display, value: Value) -> Result<f64, Problem> {
    value.as_f64().ok_or_else(|| wrong_type(field, "a finite number", &value))
}

pub(super) fn wrong_type(field: &dyn Display, expected: &str, found: &Value) -> Problem {
    Problem::of_field(field.to_string(), format!("expected {expected}, found {}", named(found)))
}

fn named(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(found) => found.to_string(),
        Value::Number(found) => format!("the number {found}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn unreadable(line: &str, error: &serde_json::Error) -> Problem {
    if error.classify() != Category::Data {
        return not_json(line, error);
    }
    // Serde would quote a string that stands in place of an object, however long.
    match serde_json::from_str(line) {
        Ok(Value::Object(_)) => {
            let (message, column) = message_and_column(error);
            Problem::of_line(format!("{message} (column {column})"))
        }
        Ok(other) => Problem::of_line(format!("expected {EXPECTED}, found {}", named(&other))),
        Err(error) => not_json(line, &error),
    }
}

fn not_json(line: &str, error: &serde_json::Error) -> Problem {
    let (message, column) = message_and_column(error);
    let rest = column.checked_sub(1).and_then(|start| line.get(start..)).unwrap_or_default();
    let hint = if error.classify() == Category::Eof {
        "; each line must hold one whole JSON object"
    } else if rest.starts_with("NaN") || rest.starts_with("Infinity") {
        "; JSON has no NaN and no Infinity"
    } else {
        ""
    };
    Problem::of_line(format!("cannot read JSON: {message} at column {column}{hint}"))
}

/// Without the line's number, which is always 1.
fn message_and_column(error: &serde_json::Error) -> (String, usize) {
    let (mut message, column) = (error.to_string(), error.column());
    let position = format!(" at line {} column {column}", error.line());
    message.truncate(message.strip_suffix(&position).unwrap_or(&message).len());
    (message, column)
}

/// [`Fields`] from an object alone: what serde derives takes an array of values as well.
struct Object(Fields);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

impl<'de> Deserialize<'de> for RankedList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::deserialize(deserializer)?.0.into_list().map_err(de::Error::custom)
    }
}

impl Serialize for RankedList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        #[serde(untagged)]
        enum Written<'a> {
            Text(&'a str),
            Messages(&'a [Message]),
        }

        #[derive(serde::Serialize)]
        struct Line<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            prompt: Option<Written<'a>>,
            responses: Vec<Written<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            ranks: Option<Vec<usize>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            scores: Option<Vec<f64>>,
        }

        let responses = self.in_input_order();
        let best_first = responses.iter().zip(1..).all(|(response, rank)| response.rank() == rank);
        let of =
            |text, messages: Option<_>| messages.map_or(Written::Text(text), Written::Messages);
        let prompt = self.conversation().map(Written::Messages);
        Line {
            prompt: prompt.or(self.prompt().map(Written::Text)),
            responses: responses.iter().map(|r| of(r.text(), r.messages())).collect(),
            ranks: (!best_first).then(|| responses.iter().map(|r| r.rank()).collect()),
            scores: responses.iter().copied().map(Response::score).collect(),
        }
        .serialize(serializer)
    }
}
