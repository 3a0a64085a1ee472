//! A line of JSONL, and with it how a [`RankedList`] is written and read by serde.

use std::fmt::{self, Display};

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess};
use serde::ser::{Serialize, Serializer};
use serde_json::error::Category;
use serde_json::Value;

use super::Problem;
use crate::{RankedList, Response};

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
        let prompt = prompt.map(|value| string(&"prompt", value)).transpose()?;
        let list = match (responses, chosen, rejected) {
            (Some(responses), None, None) => ranked(responses, ranks, scores),
            (None, Some(chosen), Some(rejected)) => match (ranks, scores) {
                (None, None) => pair(chosen, rejected),
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
        }?;
        Ok(match prompt {
            Some(prompt) => list.with_prompt(prompt),
            None => list,
        })
    }
}

fn ranked(
    responses: Value,
    ranks: Option<Value>,
    scores: Option<Value>,
) -> Result<RankedList, Problem> {
    let numbers = |field, value| array(field, "an array of numbers", value, number);
    let responses = array("responses", "an array of strings", responses, string)?;
    let list = match ranks {
        Some(ranks) => RankedList::with_ranks(responses, &numbers("ranks", ranks)?)?,
        None => RankedList::new(responses)?,
    };
    Ok(match scores {
        Some(scores) => list.with_scores(&numbers("scores", scores)?)?,
        None => list,
    })
}

fn pair(chosen: Value, rejected: Value) -> Result<RankedList, Problem> {
    let pair = [string(&"chosen", chosen)?, string(&"rejected", rejected)?];
    RankedList::new(pair).map_err(|error| {
        let mut problem = Problem::from(error);
        // On the line there is no list of responses to count in.
        problem.field = problem.field.map(|field| match field.as_str() {
            "responses[0]" => "chosen".to_owned(),
            "responses[1]" => "rejected".to_owned(),
            _ => field,
        });
        problem
    })
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

fn string(field: &dyn Display, value: Value) -> Result<String, Problem> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(field, "a string", &other)),
    }
}

fn number(field: &dyn Display, value: Value) -> Result<f64, Problem> {
    value.as_f64().ok_or_else(|| wrong_type(field, "a finite number", &value))
}

fn wrong_type(field: &dyn Display, expected: &str, found: &Value) -> Problem {
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
        struct Written<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            prompt: Option<&'a str>,
            responses: Vec<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            ranks: Option<Vec<usize>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            scores: Option<Vec<f64>>,
        }

        let responses = self.in_input_order();
        let best_first = responses.iter().zip(1..).all(|(response, rank)| response.rank() == rank);
        Written {
            prompt: self.prompt(),
            responses: responses.iter().map(|response| response.text()).collect(),
            ranks: (!best_first).then(|| responses.iter().map(|r| r.rank()).collect()),
            scores: responses.iter().copied().map(Response::score).collect(),
        }
        .serialize(serializer)
    }
}
