//! CSV with a header as lines of JSON: each row an object, each column a field.

use std::io::{self, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::spool::Spool;
use super::MAX_LINE_BYTES;
use crate::{Error, Result};

/// Columns whose cells are texts; messages, if a cell is a JSON array of them.
const TEXTS: [&str; 12] = [
    "prompt",
    "chosen",
    "rejected",
    "context",
    "response1",
    "response2",
    "instruction",
    "text",
    "response",
    "message_id",
    "parent_id",
    "role",
];

/// Columns whose cells are JSON: numbers and arrays.
const VALUES: [&str; 13] = [
    "responses",
    "ranks",
    "scores",
    "margin",
    "answers",
    "completions",
    "overall_preference",
    "score_chosen",
    "score_rejected",
    "label",
    "rank",
    "deleted",
    "message_tree_id",
];

/// Whether a column of this name is one of a format.
pub(super) fn is_known(name: &str) -> bool {
    TEXTS.contains(&name) || VALUES.contains(&name)
}

/// Whether a line names columns, two of which are of a format.
pub(super) fn is_header(line: &str) -> bool {
    let names = line.split(',').map(|name| name.trim_matches(['"', '\r']));
    !line.contains('\t') && names.filter(|name| is_known(name)).count() > 1
}

/// Columns of other names are left out.
pub(super) fn to_lines(path: &Path, reader: impl Read, spool: &mut Spool) -> Result<()> {
    let reader = Capped { reader, left: MAX_LINE_BYTES };
    let mut reader = csv::ReaderBuilder::new().buffer_capacity(1 << 16).from_reader(reader);
    let header = reader.headers().map_err(|error| unreadable(path, error))?.clone();
    if header.iter().all(str::is_empty) {
        return Ok(());
    }
    if !header.iter().any(is_known) {
        let found: Vec<&str> = header.iter().take(8).collect();
        let message = format!(
            "the first row must name the columns, such as prompt, chosen and rejected; found {}",
            found.join(", ")
        );
        return Err(Error::Data {
            source_name: path.display().to_string(),
            line: 1,
            field: None,
            message,
        });
    }
    if let Some(twice) = header.iter().enumerate().find_map(|(at, name)| {
        (is_known(name) && header.iter().skip(at + 1).any(|other| other == name)).then_some(name)
    }) {
        return Err(Error::Data {
            source_name: path.display().to_string(),
            line: 1,
            field: Some(twice.to_owned()),
            message: "is the name of two columns; keep one".to_owned(),
        });
    }
    let mut row = csv::StringRecord::new();
    loop {
        reader.get_mut().left = MAX_LINE_BYTES;
        if !reader.read_record(&mut row).map_err(|error| unreadable(path, error))? {
            return Ok(());
        }
        let mut object = Map::new();
        for (name, cell) in header.iter().zip(&row).filter(|(name, _)| is_known(name)) {
            let value = value(name, cell).map_err(|message| Error::Data {
                source_name: path.display().to_string(),
                line: row.position().map_or(1, csv::Position::line),
                field: Some(name.to_owned()),
                message,
            })?;
            object.insert(name.to_owned(), value);
        }
        let mut line = Value::Object(object).to_string().into_bytes();
        line.push(b'\n');
        spool.write(&line)?;
    }
}

fn value(name: &str, cell: &str) -> Result<Value, String> {
    if TEXTS.contains(&name) {
        if cell.is_empty() && name == "parent_id" {
            return Ok(Value::Null);
        }
        if ["[{'role'", "[{'content'"].iter().any(|start| cell.trim_start().starts_with(start)) {
            return Err("these are messages as Python prints them; write them as JSON \
                        (json.dumps), or the whole data as JSONL"
                .to_owned());
        }
        let messages = Some(cell).filter(|cell| cell.trim_start().starts_with('['));
        let messages = messages.and_then(|cell| serde_json::from_str::<Value>(cell).ok());
        return Ok(messages.filter(is_messages).unwrap_or_else(|| cell.into()));
    }
    if cell.trim().is_empty() {
        return Ok(Value::Null);
    }
    if name == "deleted" {
        return match cell.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "f" | "0" => Ok(Value::Bool(false)),
            _ => Err("expected true or false".to_owned()),
        };
    }
    if name == "message_tree_id" {
        return Ok(cell.into());
    }
    serde_json::from_str(cell)
        .map_err(|error| format!("expected a number or an array, as JSON: {error}"))
}

fn is_messages(value: &Value) -> bool {
    let is_message = |value: &Value| value.get("role").is_some() && value.get("content").is_some();
    value.as_array().is_some_and(|items| !items.is_empty() && items.iter().all(is_message))
}

fn unreadable(path: &Path, error: csv::Error) -> Error {
    let line = error.position().map_or(1, csv::Position::line);
    let message = match error.into_kind() {
        csv::ErrorKind::Io(error) => return Error::io("read", path)(error),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!(
            "has {len} columns, but the first row has {expected_len}; is a quotation mark missing?"
        ),
        csv::ErrorKind::Utf8 { .. } => "not UTF-8; save the file as UTF-8".to_owned(),
        other => format!("cannot read CSV: {other:?}"),
    };
    Error::Data { source_name: path.display().to_string(), line, field: None, message }
}

/// Gives so many bytes, and then an error: a quotation mark without its partner makes one row of all
/// that follows, which would be held in memory.
struct Capped<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.left = self.left.saturating_sub(read as u64);
        if self.left == 0 && read > 0 {
            let message = format!(
                "a row is longer than {MAX_LINE_BYTES} bytes; is a quotation mark missing?"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ReadOptions;
    use super::*;

    #[test]
    fn a_quotation_mark_without_its_partner_is_not_held() {
        let endless = b"chosen,rejected\na,b\nc,\"d".chain(io::repeat(b'x'));
        let path = Path::new("a.csv");
        let mut spool = Spool::of_converted(path, &ReadOptions::default(), 0).unwrap();
        let error = to_lines(path, endless, &mut spool).unwrap_err().to_string();
        let expected = "a row is longer than 268435456 bytes; is a quotation mark missing?";
        assert_eq!(error, format!("a.csv: cannot read: {expected}"));
    }
}
