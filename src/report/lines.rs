//! Files of one JSON object a line, as far as they can be read.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// A longer line is none that a run writes.
const LONGEST_LINE: u64 = 16 << 20;

/// Lines that are left out.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Unreadable {
    pub count: u64,
    /// The number of the first, from 1.
    pub first: u64,
}

/// Gives every object of a file to `take`; `None` if there is no such file.
///
/// A line that is no JSON object is left out and counted, unless it is the last and has no end: that
/// is one which is still being written.
pub(super) fn read_objects(
    path: &Path,
    mut take: impl FnMut(Map<String, Value>) -> Result<()>,
) -> Result<Option<Unreadable>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.map_err(Error::io("read", path))?,
    };
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut unreadable = Unreadable::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        reader
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .map_err(Error::io("read", path))?;
        if line.is_empty() {
            break;
        }
        let too_long = line.len() as u64 == LONGEST_LINE && !line.ends_with(b"\n");
        if too_long {
            skip_line(&mut reader).map_err(Error::io("read", path))?;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(Value::Object(object)) if !too_long => take(object)?,
            _ if !too_long && !line.ends_with(b"\n") => {}
            _ => {
                if unreadable.count == 0 {
                    unreadable.first = number;
                }
                unreadable.count += 1;
            }
        }
    }
    Ok(Some(unreadable))
}

/// The object in a file; `None` if there is no such file, an error in words if it holds no object.
pub(super) fn read_object(path: &Path) -> Result<Option<Result<Map<String, Value>, String>>> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.map_err(Error::io("read", path))?,
    };
    Ok(Some(serde_json::from_slice(&bytes).map_err(|error| error.to_string())))
}

/// A number that can be drawn; NaN if there is none.
pub(super) fn number(object: &Map<String, Value>, name: &str) -> f64 {
    // Sums and differences of what is larger would leave the numbers there are.
    const LARGEST: f64 = 1e30;
    let number = object.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    if number.abs() <= LARGEST {
        number
    } else {
        f64::NAN
    }
}

fn skip_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let used = end.map_or(buffer.len(), |end| end + 1);
        let done = end.is_some() || buffer.is_empty();
        reader.consume(used);
        if done {
            return Ok(());
        }
    }
}
