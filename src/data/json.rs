//! What the lines of every JSONL file share: one object each, its fields by name and type.

use std::fmt::{self, Display};
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess};
use serde_json::error::Category;
use serde_json::{Map, Value};

use super::Problem;

/// The known fields of a line's object, each a [`Value`]: serde's own error for a wrong type does
/// not name the field.
pub(super) trait Fields: for<'de> Deserialize<'de> {
    /// An object of this kind, in words.
    const EXPECTED: &'static str;
}

/// The fields of the object that a line holds.
pub(super) fn parse<F: Fields>(line: &str) -> Result<F, Problem> {
    let Object(fields) =
        serde_json::from_str(line).map_err(|error| unreadable(line, F::EXPECTED, &error))?;
    Ok(fields)
}

pub(super) fn array<T>(
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

pub(super) fn string(field: &dyn Display, value: Value) -> Result<String, Problem> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(field, "a string", &other)),
    }
}

pub(super) fn number(field: &dyn Display, value: Value) -> Result<f64, Problem> {
    value.as_f64().ok_or_else(|| wrong_type(field, "a finite number", &value))
}

pub(super) fn wrong_type(field: &dyn Display, expected: &str, found: &Value) -> Problem {
    Problem::of_field(field.to_string(), format!("expected {expected}, found {}", named(found)))
}

pub(super) fn missing(field: &dyn Display, expected: &str) -> Problem {
    Problem::of_field(field.to_string(), format!("is missing; expected {expected}"))
}

pub(super) fn object(
    field: &dyn Display,
    expected: &str,
    value: Value,
) -> Result<Map<String, Value>, Problem> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => Err(wrong_type(field, expected, &other)),
    }
}

/// The field `key` of the object that is called `field`, which it must have; `null` is none.
pub(super) fn take(
    field: &dyn Display,
    fields: &mut Map<String, Value>,
    key: &str,
    expected: &str,
) -> Result<Value, Problem> {
    let value = fields.get_mut(key).map(Value::take).filter(|value| !value.is_null());
    value.ok_or_else(|| missing(&format_args!("{field}.{key}"), expected))
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

/// `expected` says what an object of the line looks like.
fn unreadable(line: &str, expected: &str, error: &serde_json::Error) -> Problem {
    if error.classify() != Category::Data {
        return not_json(line, error);
    }
    // Serde would quote a string that stands in place of an object, however long.
    match serde_json::from_str(line) {
        Ok(Value::Object(_)) => {
            let (message, column) = message_and_column(error);
            Problem::of_line(format!("{message} (column {column})"))
        }
        Ok(other) => Problem::of_line(format!("expected {expected}, found {}", named(&other))),
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
pub(super) struct Object<F>(pub(super) F);

impl<'de, F: Fields> Deserialize<'de> for Object<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<F>(PhantomData<F>);

        impl<'de, F: Fields> de::Visitor<'de> for Visitor<F> {
            type Value = Object<F>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(F::EXPECTED)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<F>, A::Error> {
                F::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Visitor(PhantomData))
    }
}
