//! A JSON array as lines: each of its elements, a line.

use std::io::BufRead;
use std::path::Path;

use super::spool::Spool;
use super::MAX_LINE_BYTES;
use crate::{Error, Result};

/// Writes the elements as they stand, but for line breaks between their parts. Whether an element
/// is JSON is seen when its line is read; here only strings and brackets are.
pub(super) fn to_lines(path: &Path, mut reader: impl BufRead, spool: &mut Spool) -> Result<()> {
    let mut array = Array { line: 1, ..Array::default() };
    loop {
        let buffer = reader.fill_buf().map_err(Error::io("read", path))?;
        if buffer.is_empty() {
            break;
        }
        for &byte in buffer {
            let problem = array.take(byte);
            if array.complete {
                array.complete = false;
                spool.write(&array.element)?;
                array.element.clear();
            }
            if let Some(message) = problem {
                return Err(wrong(path, array.line, message));
            }
        }
        let read = buffer.len();
        reader.consume(read);
    }
    match array.place {
        Place::After => Ok(()),
        _ => Err(wrong(path, array.line, "the file ends within its JSON array; is it cut off?")),
    }
}

fn wrong(path: &Path, line: u64, message: &str) -> Error {
    let source_name = path.display().to_string();
    Error::Data { source_name, line, field: None, message: message.to_owned() }
}

#[derive(Default, PartialEq)]
enum Place {
    #[default]
    Before,
    /// After `[`, where the array may end.
    Start,
    /// After a comma, where an element must follow.
    Comma,
    Element,
    String,
    Escape,
    After,
}

#[derive(Default)]
struct Array {
    place: Place,
    depth: usize,
    element: Vec<u8>,
    /// The element is whole, with the end of its line.
    complete: bool,
    line: u64,
    seen: usize,
}

impl Array {
    /// What is wrong with the next byte.
    fn take(&mut self, byte: u8) -> Option<&'static str> {
        self.seen = self.seen.saturating_add(1);
        if byte == b'\n' {
            self.line += 1;
        }
        let space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        match self.place {
            Place::Before if byte == b'[' => self.place = Place::Start,
            // A byte-order mark.
            Place::Before if space || (self.seen <= 3 && byte >= 0xbb) => {}
            Place::Before => return Some("expected a JSON array"),
            Place::After if space => {}
            Place::After => return Some("there is more after the end of the JSON array"),
            Place::Start | Place::Comma if space => {}
            Place::Start if byte == b']' => self.place = Place::After,
            Place::Start | Place::Comma if matches!(byte, b',' | b']' | b'}') => {
                return Some("an element is missing before this in the JSON array");
            }
            Place::Start | Place::Comma => {
                self.place = Place::Element;
                return self.in_element(byte);
            }
            Place::Element => return self.in_element(byte),
            Place::Escape | Place::String if byte == b'\n' => {
                return Some("a line break within a string; in JSON it is \\n");
            }
            Place::Escape => {
                self.place = Place::String;
                return self.push(byte);
            }
            Place::String => {
                match byte {
                    b'"' => self.place = Place::Element,
                    b'\\' => self.place = Place::Escape,
                    _ => {}
                }
                return self.push(byte);
            }
        }
        None
    }

    fn in_element(&mut self, byte: u8) -> Option<&'static str> {
        match byte {
            b',' | b']' if self.depth == 0 => {
                self.place = if byte == b',' { Place::Comma } else { Place::After };
                self.complete = true;
                return self.push(b'\n');
            }
            b'"' => self.place = Place::String,
            b'[' | b'{' => self.depth += 1,
            b'}' if self.depth == 0 => return Some("a closing bracket that was never opened"),
            b']' | b'}' => self.depth -= 1,
            b'\n' | b'\r' => return self.push(b' '),
            _ => {}
        }
        self.push(byte)
    }

    fn push(&mut self, byte: u8) -> Option<&'static str> {
        self.element.push(byte);
        let long = self.element.len() as u64 > MAX_LINE_BYTES;
        long.then_some("an element of the JSON array is longer than 268435456 bytes")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::super::ReadOptions;
    use super::*;

    fn lines(json: &str) -> std::result::Result<String, String> {
        let path = Path::new("a.json");
        let mut spool = Spool::of_converted(path, &ReadOptions::default(), 0).unwrap();
        let reader = BufReader::with_capacity(3, json.as_bytes());
        to_lines(path, reader, &mut spool).map_err(|error| error.to_string())?;
        let mut text = String::new();
        spool.finish().unwrap().read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn elements_are_lines() {
        for (json, expected) in [
            ("[]", ""),
            ("\u{feff} [\n]\n", ""),
            ("[{\"a\": 1}]", "{\"a\": 1}\n"),
            ("[ {\"a\":\n [1,2]} , \"],\\\"\" ]", "{\"a\":  [1,2]} \n\"],\\\"\" \n"),
        ] {
            assert_eq!(lines(json).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn broken_arrays() {
        for (json, expected) in [
            ("[\n{\"a\": 1},\n", "a.json:3: the file ends within its JSON array; is it cut off?"),
            ("[{\"a\": \"", "a.json:1: the file ends within its JSON array; is it cut off?"),
            ("[] x", "a.json:1: there is more after the end of the JSON array"),
            ("[1,]", "a.json:1: an element is missing before this in the JSON array"),
            ("[1}", "a.json:1: a closing bracket that was never opened"),
            ("[\"\n\"]", "a.json:2: a line break within a string; in JSON it is \\n"),
            ("", "a.json:1: the file ends within its JSON array; is it cut off?"),
            ("{}", "a.json:1: expected a JSON array"),
        ] {
            assert_eq!(lines(json).unwrap_err(), expected, "{json}");
        }
    }
}
