//! The lines of a text file, with everything that may be wrong about a line before its content
//! counts.

use std::io::{self, BufRead, Read};
use std::str::Utf8Error;

use super::Problem;

/// The longest line that is read, in bytes with its end: 256 MiB. A longer one is an error, and no
/// more of it than this is ever held in memory.
pub const MAX_LINE_BYTES: u64 = 256 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Lines of UTF-8 text without their ends. One buffer serves them all.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: R,
    limit: u64,
    /// The last line that was read, without its end.
    buffer: Vec<u8>,
    too_long: bool,
    /// How many lines have been read.
    read: u64,
    /// How many lines have been handed out: fewer than read while blank lines, which may turn out
    /// to be the end of the file, are followed by another line.
    given: u64,
}

/// A line's number, from 1, and its text or what is wrong with it.
pub(super) type Line<'a> = (u64, Result<&'a str, Problem>);

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self::with_limit(reader, MAX_LINE_BYTES)
    }

    fn with_limit(reader: R, limit: u64) -> Self {
        Self { reader, limit, buffer: Vec::new(), too_long: false, read: 0, given: 0 }
    }

    /// The next line; `None` at the end, and then no more calls.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        if self.given < self.read {
            return Ok(Some(self.give()));
        }
        while self.read()? {
            if self.too_long || !is_blank(&self.buffer) {
                return Ok(Some(self.give()));
            }
        }
        Ok(None)
    }

    fn give(&mut self) -> Line<'_> {
        self.given += 1;
        let line = if self.given < self.read {
            Err(blank())
        } else if self.too_long {
            Err(too_long(self.limit))
        } else {
            utf8(&self.buffer)
        };
        (self.given, line)
    }

    /// Reads a line into the buffer; `false` at the end of the file.
    fn read(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        let limit = self.limit;
        (&mut self.reader).take(limit.saturating_add(1)).read_until(b'\n', &mut self.buffer)?;
        if self.buffer.is_empty() {
            return Ok(false);
        }
        self.read += 1;
        self.too_long = self.buffer.len() as u64 > limit;
        if self.too_long {
            if !self.buffer.ends_with(b"\n") {
                self.reader.skip_until(b'\n')?;
            }
            self.buffer = Vec::new();
        }
        strip(&mut self.buffer, self.read == 1);
        Ok(true)
    }
}

/// Takes off the end of a line, and the byte-order mark of a file's first one.
pub(super) fn strip(line: &mut Vec<u8>, is_first: bool) {
    for end in [b"\n", b"\r"] {
        if line.ends_with(end) {
            line.pop();
        }
    }
    if is_first && line.starts_with(BYTE_ORDER_MARK) {
        line.drain(..BYTE_ORDER_MARK.len());
    }
}

pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|&byte| byte == b' ')
}

pub(super) fn blank() -> Problem {
    Problem::of_line("the line is blank; remove it, or put back what it lost")
}

pub(super) fn too_long(limit: u64) -> Problem {
    Problem::of_line(format!("the line is longer than {limit} bytes; is a line break lost?"))
}

fn utf8(line: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(line).map_err(|error| not_utf8(line, error))
}

pub(super) fn not_utf8(line: &[u8], error: Utf8Error) -> Problem {
    let good = error.valid_up_to();
    let byte = line.get(good).copied().unwrap_or_default();
    Problem::of_line(format!(
        "not UTF-8: byte {byte:#04x} at column {}; save the file as UTF-8",
        good + 1
    ))
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::*;

    fn lines(bytes: &[u8], limit: u64) -> Vec<(u64, Result<String, String>)> {
        let mut lines = Lines::with_limit(BufReader::with_capacity(3, Cursor::new(bytes)), limit);
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            all.push((number, line.map(str::to_owned).map_err(|problem| problem.to_string())));
        }
        all
    }

    fn good(number: u64, line: &str) -> (u64, Result<String, String>) {
        (number, Ok(line.to_owned()))
    }

    fn bad(number: u64, message: &str) -> (u64, Result<String, String>) {
        (number, Err(message.to_owned()))
    }

    const BLANK: &str = "the line is blank; remove it, or put back what it lost";

    #[test]
    fn ends_of_lines_and_of_the_file() {
        assert_eq!(lines(b"", 9), []);
        assert_eq!(lines(b"\xEF\xBB\xBF", 9), []);
        assert_eq!(lines(b"\n \r\n\n\r", 9), []);
        assert_eq!(lines(b"a", 9), [good(1, "a")]);
        assert_eq!(lines(b"a\nb\r\n", 9), [good(1, "a"), good(2, "b")]);
        assert_eq!(lines(b"a\r\r\nb\rc\r", 9), [good(1, "a\r"), good(2, "b\rc")]);
        assert_eq!(lines(b"\xEF\xBB\xBFa\n\xEF\xBB\xBFb", 9), [good(1, "a"), good(2, "\u{feff}b")]);
    }

    #[test]
    fn blank_lines_count_unless_they_end_the_file() {
        assert_eq!(
            lines(b"\n  \na\n\r\nb\n\n\n", 9),
            [bad(1, BLANK), bad(2, BLANK), good(3, "a"), bad(4, BLANK), good(5, "b")]
        );
        assert_eq!(lines(b"\t\n\n", 9), [good(1, "\t")]);
    }

    #[test]
    fn the_limit_counts_the_end_of_the_line() {
        let long = "the line is longer than 4 bytes; is a line break lost?";
        assert_eq!(
            lines(b"abc\nabcd\nab\r\nabc\r\n", 4),
            [good(1, "abc"), bad(2, long), good(3, "ab"), bad(4, long),]
        );
        assert_eq!(lines(b"abcd", 4), [good(1, "abcd")]);
        assert_eq!(lines(b"abcde", 4), [bad(1, long)]);
        assert_eq!(
            lines(b"\nabcdefghijk\n\n     \nx", 4),
            [bad(1, BLANK), bad(2, long), bad(3, BLANK), bad(4, long), good(5, "x"),]
        );
    }

    #[test]
    fn bytes_that_are_not_text() {
        let message = "not UTF-8: byte 0xff at column 3; save the file as UTF-8";
        assert_eq!(lines(b"\xC3\xA4\xFF\nb", 9), [bad(1, message), good(2, "b")]);
    }
}
