//! A file of ranked lists or labelled texts that stays on disk.

use std::path::Path;

use super::line_index::LineIndex;
use super::source::{not_a_file, Content, Source};
use super::{labelled, Dataset, Format, Parse, ReadOptions};
use crate::{LabelledText, RankedList, Result};

/// A file of which memory holds 8 bytes a record, where the record starts: what a file of any size
/// is trained on.
///
/// Opening goes through the file once and looks for the ends of lines; a record is read, from its
/// place, and parsed when it is asked for. Any number of threads may ask at a time. The file is not
/// memory-mapped: one that another program cuts short is an error and not the end of the process.
///
/// A compressed file, a JSON array, CSV and OpenAssistant's data are first written as lines to an
/// unnamed temporary file, which takes as much room as they do unpacked.
///
/// # Examples
///
/// ```no_run
/// use reward_model::data::{Dataset, IndexedFile};
///
/// let lists = IndexedFile::open("lists.jsonl")?;
/// println!("{} lists; the last is {:?}", lists.len(), lists.get(lists.len() - 1)?);
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Debug)]
pub struct IndexedFile<T = RankedList> {
    lines: LineIndex,
    format: Format,
    parse: Parse<T>,
}

impl IndexedFile {
    /// Indexes a file of ranked lists, in the format that [`open`](super::open) would take.
    ///
    /// # Errors
    ///
    /// Those of [`open`](super::open). Bad lines are errors of [`get`](Dataset::get) alone. A file
    /// without lists is an empty data set.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &ReadOptions::default())
    }

    /// The same, with options.
    ///
    /// # Errors
    ///
    /// Those of [`open_with`](super::open_with).
    pub fn open_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Self> {
        refuse_streams(path.as_ref())?;
        let source = Source::open(path.as_ref(), options, Content::Lists)?;
        let parse = source.parse();
        Self::over(source, parse)
    }
}

impl IndexedFile<LabelledText> {
    /// Indexes a file of labelled texts.
    ///
    /// # Errors
    ///
    /// Those of [`open_labelled`](super::open_labelled). Bad lines are errors of
    /// [`get`](Dataset::get) alone.
    pub fn open_labelled(path: impl AsRef<Path>) -> Result<Self> {
        refuse_streams(path.as_ref())?;
        let source = Source::open(path.as_ref(), &ReadOptions::default(), Content::Labelled)?;
        Self::over(source, |_, line| labelled::parse(line))
    }
}

/// A pipe gives its data once.
fn refuse_streams(path: &Path) -> Result<()> {
    match path.metadata() {
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => {
            Err(not_a_file(path, "records are read again and again"))
        }
        // What else there is to say says whoever opens it.
        _ => Ok(()),
    }
}

impl<T> IndexedFile<T> {
    fn over(source: Source, parse: Parse<T>) -> Result<Self> {
        let Source { file, name, format } = source;
        Ok(Self { lines: LineIndex::new(file, name)?, format, parse })
    }

    /// The format that was taken.
    pub fn format(&self) -> Format {
        self.format
    }
}

impl<T> Dataset<T> for IndexedFile<T> {
    fn len(&self) -> usize {
        self.lines.len()
    }

    /// Reads and parses a record.
    ///
    /// # Errors
    ///
    /// [`Error::Data`](crate::Error::Data) if the record is bad,
    /// [`Error::Io`](crate::Error::Io) if the file cannot be read or its size or time of
    /// modification is no longer what it was, [`Error::InvalidArgument`](crate::Error) if there is
    /// no record of this number.
    fn get(&self, index: usize) -> Result<T> {
        let line = self.lines.line(index)?;
        line.and_then(|line| (self.parse)(self.format, &line))
            .map_err(|problem| self.lines.error(index, problem))
    }
}
