//! Reading ranked lists and labelled texts: TSV and JSONL files, or any stream, as an iterator of
//! `Result<`[`RankedList`]`>` or of `Result<`[`LabelledText`]`>`.
//!
//! # Formats
//!
//! Each holds one list or one labelled text a line, in UTF-8. A line ends in LF or CRLF, the last one may do without; a
//! byte-order mark at the start is dropped; a line is at most [`MAX_LINE_BYTES`] long.
//!
//! **TSV**: the responses, best first, separated by tabs. No prompt, no ties, no header, and no
//! quoting: a response cannot contain a tab or a line break.
//!
//! ```text
//! a delight from start to end⇥fine for a rainy day⇥two hours I will never get back
//! ```
//!
//! **JSONL of ranked lists**: one JSON object, which is a list or a pair. Other fields are ignored, and `null` is
//! the same as leaving a field out.
//!
//! ```text
//! {"prompt": "2 + 2?", "responses": ["4", "5", "fish"]}
//! {"prompt": "2 + 2?", "responses": ["5", "4", "four"], "ranks": [2, 1, 1]}
//! {"prompt": "2 + 2?", "chosen": "4", "rejected": "fish"}
//! {"prompt": [{"role": "user", "content": "2 + 2?"}], "responses": ["4", "5"]}
//! ```
//!
//! A prompt, a response, `chosen` and `rejected` are each a string, which is taken as it is, or an
//! array of messages, for a chat template to render: objects with a `role`, a `content`, and
//! whatever else the template knows. Next to messages, a response that is a string is one message
//! of the assistant. If responses are messages and there is no prompt, the messages that all of
//! them begin with are the prompt.
//!
//! | field | |
//! |---|---|
//! | `prompt` | optional; an empty one is none |
//! | `responses` | best first, or in any order if there are `ranks`; at least one |
//! | `ranks` | optional, one number for each response: smaller is better, equal is a tie |
//! | `scores` | optional, one number for each response, kept with it but not used to rank it |
//! | `chosen`, `rejected` | the better and the worse one, instead of the three above |
//!
//! **JSONL of labelled texts** ([`open_labelled`]): one JSON object, a text and its label.
//!
//! ```text
//! {"text": "a delight from start to end", "label": 4}
//! {"prompt": "2 + 2?", "response": "5", "label": 0.25}
//! {"prompt": "2 + 2?", "response": "4", "label": [1, 0.5]}
//! ```
//!
//! | field | |
//! |---|---|
//! | `text` or `response` | the text; one of the two |
//! | `prompt` | optional; an empty one is none |
//! | `label` | a class (an integer from 0), another number, or an array of numbers: [`Label`] |
//!
//! # Bad input
//!
//! Each bad line is one [`Error::Data`] with its number, and the reader goes on with the next line.
//! No line is skipped: what comes out stays aligned with the lines of the file. So a blank line
//! (empty, or spaces only) is an error, except at the end of the file. An [`Error::Io`] ends the
//! reading.
//!
//! # Examples
//!
//! ```
//! use reward_model::data::{Format, Reader};
//!
//! let file = "{\"prompt\": \"2 + 2?\", \"chosen\": \"4\", \"rejected\": \"fish\"}\n\
//!             {\"prompt\": \"2 + 2?\", \"responses\": [\"4\", \"\"]}\n";
//! let mut lists = Reader::new(file.as_bytes(), "sums.jsonl", Format::Jsonl);
//!
//! assert_eq!(lists.next().unwrap()?.responses()[0].text(), "4");
//! assert_eq!(
//!     lists.next().unwrap().unwrap_err().to_string(),
//!     "sums.jsonl:2: responses[1]: is empty; every response needs text"
//! );
//! assert!(lists.next().is_none());
//! # Ok::<(), reward_model::Error>(())
//! ```

mod json;
mod jsonl;
mod labelled;
mod lines;
mod messages;
mod reader;
mod tsv;

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, StdinLock};
use std::path::Path;

pub use labelled::{Label, LabelledText};
pub use lines::MAX_LINE_BYTES;
pub use reader::Reader;

use crate::{Error, RankedList, Result};

/// How ranked lists are written; the [module](self) describes each format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Responses, best first, separated by tabs.
    Tsv,
    /// A JSON object on each line.
    Jsonl,
}

impl Format {
    /// The format that a file's extension tells: `.tsv`, or `.jsonl`, `.ndjson` and `.json` (which
    /// is read line by line too), in small or capital letters.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for any other extension, or none.
    pub fn of_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let extension = path.extension().map(OsStr::to_ascii_lowercase);
        match extension.as_deref().and_then(OsStr::to_str) {
            Some("tsv") => Ok(Self::Tsv),
            Some("jsonl" | "ndjson" | "json") => Ok(Self::Jsonl),
            _ => Err(Error::InvalidArgument(format!(
                "{}: {}; expected .tsv, .jsonl, .ndjson or .json",
                path.display(),
                match extension {
                    Some(extension) => {
                        format!("the extension .{} is of no known format", extension.display())
                    }
                    None => "no extension tells the format".to_owned(),
                }
            ))),
        }
    }

    fn parse(self, line: &str) -> Result<RankedList, Problem> {
        match self {
            Self::Tsv => tsv::parse(line),
            Self::Jsonl => jsonl::parse(line),
        }
    }
}

/// Opens a file of ranked lists, in the [`Format`] of its extension.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be opened or is a directory, [`Error::InvalidArgument`] if its
/// extension tells no format.
pub fn open(path: impl AsRef<Path>) -> Result<Reader<BufReader<File>>> {
    let path = path.as_ref();
    let file = open_file(path)?;
    Ok(Reader::new(file, path.display().to_string(), Format::of_path(path)?))
}

/// Opens a JSONL file of labelled texts.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be opened or is a directory, [`Error::InvalidArgument`] if its
/// extension is not that of [`Format::Jsonl`].
pub fn open_labelled(path: impl AsRef<Path>) -> Result<Reader<BufReader<File>, LabelledText>> {
    let path = path.as_ref();
    let file = open_file(path)?;
    match Format::of_path(path)? {
        Format::Jsonl => Ok(Reader::labelled(file, path.display().to_string())),
        Format::Tsv => Err(Error::InvalidArgument(format!(
            "{}: labelled texts are read from JSONL, not from TSV; write one object such as \
             {{\"text\": \"...\", \"label\": 1}} on each line of a .jsonl file",
            path.display()
        ))),
    }
}

/// Reads a whole file of ranked lists.
///
/// # Errors
///
/// Those of [`open`], the first bad line's, and [`Error::Data`] if the file holds no list at all.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<RankedList>> {
    let path = path.as_ref();
    all(path, open(path)?, "ranked list")
}

/// Reads a whole JSONL file of labelled texts.
///
/// # Errors
///
/// Those of [`open_labelled`], the first bad line's, and [`Error::Data`] if the file holds no text
/// at all.
pub fn read_labelled(path: impl AsRef<Path>) -> Result<Vec<LabelledText>> {
    let path = path.as_ref();
    all(path, open_labelled(path)?, "labelled text")
}

fn open_file(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    if file.metadata().map_err(Error::io("read", path))?.is_dir() {
        return Err(Error::io("read", path)(io::ErrorKind::IsADirectory.into()));
    }
    Ok(BufReader::with_capacity(1 << 16, file))
}

fn all<T>(path: &Path, items: impl Iterator<Item = Result<T>>, noun: &str) -> Result<Vec<T>> {
    let items = items.collect::<Result<Vec<_>>>()?;
    if items.is_empty() {
        return Err(Error::Data {
            source_name: path.display().to_string(),
            line: 1,
            field: None,
            message: format!("the file holds no {noun}"),
        });
    }
    Ok(items)
}

/// Ranked lists from standard input, called `<stdin>` in errors; the format is
/// [sniffed](Reader::sniff).
pub fn from_stdin() -> Reader<StdinLock<'static>> {
    Reader::sniff(io::stdin().lock(), "<stdin>")
}

/// What is wrong with a line, before it is known which line it is.
#[derive(Debug)]
struct Problem {
    field: Option<String>,
    message: String,
}

impl Problem {
    fn of_line(message: impl Into<String>) -> Self {
        Self { field: None, message: message.into() }
    }

    fn of_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: Some(field.into()), message: message.into() }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::RankedList { field, message } | Error::LabelledText { field, message } => {
                Self::of_field(field, message)
            }
            error => Self::of_line(error.to_string()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_tell_the_format() {
        for (path, format) in [
            ("a.tsv", Format::Tsv),
            ("a.b/c.TSV", Format::Tsv),
            ("a.tsv.jsonl", Format::Jsonl),
            ("a.ndjson", Format::Jsonl),
            ("a.Json", Format::Jsonl),
        ] {
            assert_eq!(Format::of_path(path).unwrap(), format, "{path}");
        }
        for (path, expected) in [
            ("a.csv", "a.csv: the extension .csv is of no known format"),
            ("a.jsonl.gz", "a.jsonl.gz: the extension .gz is of no known format"),
            ("tsv", "tsv: no extension tells the format"),
            (".tsv", ".tsv: no extension tells the format"),
        ] {
            assert_eq!(
                Format::of_path(path).unwrap_err().to_string(),
                format!("{expected}; expected .tsv, .jsonl, .ndjson or .json")
            );
        }
    }
}
