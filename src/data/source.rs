//! From a path to a file of lines: what container it is, and what format its lines have.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use super::line_index::LineIndex;
use super::lines::Lines;
use super::spool::Spool;
use super::unpack::{unpack, Compression};
use super::{csv, json_array, open_assistant, Format, Parse, ReadOptions};
use crate::{Error, RankedList, Result};

/// What the records of a file are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Content {
    Lists,
    Labelled,
}

/// A file with a record on each line, at its start.
pub(super) struct Source {
    pub file: File,
    /// What the file is called in errors.
    pub name: String,
    pub format: Format,
}

enum Container {
    Lines,
    Array,
    Csv,
    Parquet,
}

impl Source {
    /// What reads the file's lines: OpenAssistant's lists have become ours.
    pub fn parse(&self) -> Parse<RankedList> {
        match self.format {
            Format::OpenAssistant => |_, line| Format::Jsonl.parse(line),
            _ => Format::parse,
        }
    }

    pub fn open(path: &Path, options: &ReadOptions, content: Content) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let metadata = file.metadata().map_err(Error::io("read", path))?;
        if metadata.is_dir() {
            return Err(Error::io("read", path)(io::ErrorKind::IsADirectory.into()));
        }
        // A pipe cannot be looked into.
        if !metadata.is_file() {
            let format = options.format.map_or_else(|| Format::of_path(path), Ok)?;
            if format == Format::OpenAssistant {
                return Err(not_a_file(path, "OpenAssistant's messages refer to each other"));
            }
            return Ok(Self { file, name: path.display().to_string(), format });
        }
        let (file, inner) = match compression(path, &mut file)? {
            Some(compression) => {
                let named = Compression::of_extension(&extension(path)).is_some();
                let inner = if named { path.with_extension("") } else { path.to_owned() };
                (unpack(path, file, compression, options)?, inner)
            }
            None => (file, path.to_owned()),
        };
        Self::of_plain(path, file, &inner, options, content)
    }

    /// `inner` is the path without the extension of its compression.
    fn of_plain(
        path: &Path,
        mut file: File,
        inner: &Path,
        options: &ReadOptions,
        content: Content,
    ) -> Result<Self> {
        let extension = extension(inner);
        let head = head(&mut file).map_err(Error::io("read", path))?;
        let is_tsv = options.format.map_or(extension == "tsv", |format| format == Format::Tsv);
        if is_tsv {
            return match content {
                Content::Lists => {
                    Ok(Self { file, name: path.display().to_string(), format: Format::Tsv })
                }
                Content::Labelled => Err(Error::InvalidArgument(format!(
                    "{}: labelled texts are read from JSONL, not from TSV; write one object such as \
                     {{\"text\": \"...\", \"label\": 1}} on each line of a .jsonl file",
                    path.display()
                ))),
            };
        }
        let container = container(path, &extension, &head, options)?;
        let (mut file, name) = lines(path, file, container, options)?;
        let format = match (content, options.format) {
            (Content::Labelled, _) => Format::Jsonl,
            (Content::Lists, Some(format)) => format,
            (Content::Lists, None) => first_format(&mut file).map_err(Error::io("read", path))?,
        };
        if format != Format::OpenAssistant {
            return Ok(Self { file, name, format });
        }
        let bytes = file.metadata().map_err(Error::io("read", path))?.len();
        let mut spool = Spool::of_converted(path, options, bytes)?;
        open_assistant::to_lists(&LineIndex::new(file, name)?, &mut spool)?;
        Ok(Self { file: spool.finish()?, name: numbered(path), format })
    }
}

/// The error of a pipe where a file is needed, for this reason.
pub(super) fn not_a_file(path: &Path, reason: &str) -> Error {
    Error::InvalidArgument(format!(
        "{}: {reason}, so they are read from a file, and this is a stream; save it as a file first",
        path.display()
    ))
}

fn compression(path: &Path, file: &mut File) -> Result<Option<Compression>> {
    let mut head = Vec::new();
    file.by_ref()
        .take(4)
        .read_to_end(&mut head)
        .and_then(|_| file.rewind())
        .map_err(Error::io("read", path))?;
    let found = Compression::of_content(&head);
    match Compression::of_extension(&extension(path)) {
        Some(named) if found != Some(named) => {
            let message = format!("it is called that, but is no {} data", named.name());
            Err(Error::io("unpack", path)(io::Error::new(io::ErrorKind::InvalidData, message)))
        }
        _ => Ok(found),
    }
}

fn container(
    path: &Path,
    extension: &str,
    head: &[u8],
    options: &ReadOptions,
) -> Result<Container> {
    let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    match (extension, first) {
        ("parquet", _) => Ok(Container::Parquet),
        _ if head.starts_with(b"PAR1") => Ok(Container::Parquet),
        ("csv", _) => Ok(Container::Csv),
        (_, Some(b'[')) => Ok(Container::Array),
        ("jsonl" | "ndjson" | "json", _) | (_, Some(b'{')) => Ok(Container::Lines),
        _ if options.format.is_some() => Ok(Container::Lines),
        _ => Err(Error::InvalidArgument(format!(
            "{}: neither its name nor its content is of a known format; expected .tsv, .csv, \
             .jsonl, .ndjson, .json or .parquet, perhaps with .gz or .zst",
            path.display()
        ))),
    }
}

/// A file with a record on each line, and what it is called in errors.
fn lines(
    path: &Path,
    file: File,
    container: Container,
    options: &ReadOptions,
) -> Result<(File, String)> {
    let bytes = file.metadata().map_err(Error::io("read", path))?.len();
    let mut spool = match container {
        Container::Lines => return Ok((file, path.display().to_string())),
        _ => Spool::of_converted(path, options, bytes)?,
    };
    match container {
        Container::Array => {
            let reader = BufReader::with_capacity(1 << 16, file);
            json_array::to_lines(path, reader, &mut spool)?;
        }
        Container::Csv => csv::to_lines(path, file, &mut spool)?,
        Container::Lines => {}
        #[cfg(feature = "parquet")]
        Container::Parquet => super::parquet::to_lines(path, file, &mut spool)?,
        #[cfg(not(feature = "parquet"))]
        Container::Parquet => {
            return Err(Error::InvalidArgument(format!(
                "{}: Parquet is read with the feature `parquet` of reward-model, which this program \
                 was built without; build it with that, or write the data as JSONL, in Python with \
                 datasets.load_dataset(...).to_json(...)",
                path.display()
            )));
        }
    }
    Ok((spool.finish()?, numbered(path)))
}

/// The name of a file whose records are numbered, not its lines.
fn numbered(path: &Path) -> String {
    format!("{}, record", path.display())
}

fn head(file: &mut File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.by_ref().take(4096).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(head)
}

/// Records that may be damaged before one tells the format.
const LOOKED_AT: usize = 1000;

fn first_format(file: &mut File) -> io::Result<Format> {
    let mut lines = Lines::new(BufReader::new(&mut *file));
    let mut told = None;
    for _ in 0..LOOKED_AT {
        match lines.next()? {
            Some((_, Ok(line))) => told = Format::told_by_object(line),
            Some((_, Err(_))) => {}
            None => break,
        }
        if told.is_some() {
            break;
        }
    }
    file.rewind()?;
    Ok(told.unwrap_or(Format::Jsonl))
}

/// In small letters, without the point; empty if there is none.
fn extension(path: &Path) -> String {
    let extension = path.extension().and_then(OsStr::to_str);
    extension.unwrap_or_default().to_ascii_lowercase()
}
