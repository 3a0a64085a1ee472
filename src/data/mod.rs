//! Reading ranked lists and labelled texts from files or any stream, as an iterator of
//! `Result<`[`RankedList`]`>` or of `Result<`[`LabelledText`]`>`, or by number.
//!
//! [`open`] and [`read`] go through a file, [`IndexedFile`] leaves it on disk and reads what is
//! asked for, [`Reader`] takes any stream, and [`Reporter`] says what is in the data.
//!
//! # Formats
//!
//! [`open`] finds out by the file's name and the fields of the first record that is of a format;
//! [`ReadOptions`] name one. Each holds one list or one labelled text a line, in UTF-8. A line ends
//! in LF or CRLF, the last one may do without; a byte-order mark at the start is dropped; a line is
//! at most [`MAX_LINE_BYTES`] long.
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
//! | `margin` | optional, a number: by how much a better response's reward should be above a worse one's |
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
//! **Other people's preference data**, after their published schemas. Fields that are not named here
//! are ignored.
//!
//! | format | fields | what they become |
//! |---|---|---|
//! | TRL | `prompt` or none, `chosen`, `rejected`: strings or messages; `margin` | read as JSONL, above |
//! | Nectar | `prompt`, `answers`: `answer`, `rank` | 1 is the best rank |
//! | NeMo | `context`: a string or messages; `completions`: `rank`, `completion` | the smallest rank is the best |
//! | HelpSteer3 | `context`, `response1`, `response2`, `overall_preference` | negative prefers the first, 0 is a tie |
//! | UltraFeedback | `instruction`, `completions`: `response`, `overall_score` | higher is better, equal scores are a tie |
//! | its binarised form | `prompt`, `chosen`, `rejected`, `score_chosen`, `score_rejected` | a pair; a tie if the scores are equal |
//! | OpenAssistant | messages: `message_id`, `parent_id`, `text`, `role`, `rank`; or trees: `prompt` with its `replies` | below |
//!
//! OpenAssistant's ranked replies of the assistant to one message are a list if there are two or
//! more, and the conversation up to that message is its prompt, `prompter` renamed `user`. Replies
//! without a rank, or deleted, are left out. Messages may stand in any order; their numbers and
//! parents are held in memory (about 200 bytes a message), their texts are not. All of the file is
//! gone through when it is opened, and its first bad line is the error of that. Messages refer to
//! each other, so that a stream will not do.
//!
//! # Containers
//!
//! | extension | |
//! |---|---|
//! | `.jsonl`, `.ndjson` | an object a line |
//! | `.json` | an object a line, or one array of objects |
//! | `.tsv` | a list a line |
//! | `.csv` | the first row has the names of the fields. Texts stand as they are, arrays and numbers as JSON, and so may messages |
//! | `.parquet` | with the feature `parquet`: the columns are the fields, nested ones too |
//!
//! Each may be compressed by gzip (`.gz`) or Zstandard (`.zst`). Compressed files, arrays, CSV,
//! Parquet and OpenAssistant's data are written out to an unnamed temporary file, and read from
//! there. A compressed file may unpack to 200 times its size and the conversions may write 64 times
//! what they read, or 64 MiB if that is more, unless [`ReadOptions::with_unpacked_limit`] says
//! otherwise. What holds more than that is an error, and takes no more of the disk.
//!
//! Errors count the lines of the file. Where a record has no line of its own (an array, CSV,
//! Parquet), those of its content count records, from 1, and say so: `lists.json, record:3: ...`.
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

mod csv;
mod dataset;
mod format;
mod help_steer;
mod indexed;
mod json;
mod json_array;
mod jsonl;
mod labelled;
mod line_index;
mod lines;
mod listed;
mod messages;
mod nectar;
mod nemo;
mod open_assistant;
mod options;
#[cfg(feature = "parquet")]
mod parquet;
mod reader;
mod report;
mod source;
mod spool;
mod subset;
mod tsv;
mod ultra_feedback;
mod unpack;

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, StdinLock};
use std::path::Path;

pub use dataset::Dataset;
pub use format::Format;
pub use indexed::IndexedFile;
pub use labelled::{Label, LabelledText};
pub use lines::MAX_LINE_BYTES;
pub use options::ReadOptions;
pub use reader::Reader;
pub use report::{DataReport, Lengths, Overlap, Reporter, Split, SplitReport, Tokens};
pub use subset::Subset;

use source::{Content, Source};

use crate::{Error, RankedList, Result};

/// What reads a record, given its file's format.
type Parse<T> = fn(Format, &str) -> Result<T, Problem>;

/// Opens a file of ranked lists, in any of the [formats](self#formats) and
/// [containers](self#containers): what its name and its first record tell.
///
/// [`Reader::format`] says which format was taken.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be opened or unpacked or is a directory,
/// [`Error::InvalidArgument`] if neither its name nor its content tells a format, [`Error::Data`]
/// if a JSON array, CSV or OpenAssistant's data, which are gone through at once, are broken.
pub fn open(path: impl AsRef<Path>) -> Result<Reader<BufReader<File>>> {
    open_with(path, &ReadOptions::default())
}

/// The same as [`open`], with options.
///
/// # Errors
///
/// Those of [`open`].
pub fn open_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Reader<BufReader<File>>> {
    let source = Source::open(path.as_ref(), options, Content::Lists)?;
    let parse = source.parse();
    Ok(Reader::over(buffered(source.file), source.name, Some(source.format), parse))
}

/// Opens a file of labelled texts, in JSONL or another [container](self#containers).
///
/// # Errors
///
/// Those of [`open`]; [`Error::InvalidArgument`] for TSV.
pub fn open_labelled(path: impl AsRef<Path>) -> Result<Reader<BufReader<File>, LabelledText>> {
    let options = ReadOptions::default();
    let Source { file, name, .. } = Source::open(path.as_ref(), &options, Content::Labelled)?;
    Ok(Reader::labelled(buffered(file), name))
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

fn buffered(file: File) -> BufReader<File> {
    BufReader::with_capacity(1 << 16, file)
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

    fn at(self, source_name: &str, line: u64) -> Error {
        let Self { field, message } = self;
        Error::Data { source_name: source_name.to_owned(), line, field, message }
    }

    /// The same, where a file calls a part of the list by another name.
    fn renamed(mut self, from: &str, to: &str) -> Self {
        let rest = self.field.as_deref().and_then(|field| field.strip_prefix(from));
        if let Some(rest) = rest {
            self.field = Some(format!("{to}{rest}"));
        }
        self
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
