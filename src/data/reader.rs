//! The iterator over the lines of a stream, each a ranked list or a labelled text.

use std::io::BufRead;
use std::iter::FusedIterator;

use super::lines::Lines;
use super::{labelled, Format, Parse};
use crate::{Error, LabelledText, RankedList, Result};

/// The ranked lists of a stream, or its labelled texts, one a line: an iterator of [`Result`]s.
///
/// A bad line is an [`Error::Data`], and the next call goes on with the next line; an
/// [`Error::Io`] is the last item. The [module](super) says what makes a line bad.
///
/// # Examples
///
/// ```
/// use reward_model::data::Reader;
///
/// let lists = Reader::sniff("good\tfair\tpoor\nyes\tno\n".as_bytes(), "<memory>")
///     .collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(lists[0].pair_count(), 3);
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Debug)]
pub struct Reader<R, T = RankedList> {
    lines: Lines<R>,
    source_name: String,
    format: Option<Format>,
    parse: Parse<T>,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    /// A reader of a known format. `source_name` stands in errors where a file's path would.
    pub fn new(reader: R, source_name: impl Into<String>, format: Format) -> Self {
        Self::over(reader, source_name.into(), Some(format), Format::parse)
    }

    /// A reader that takes the format from the first line that tells it: by the names of its fields
    /// if its first character other than white space is `{`, else [`Format::Tsv`]. Objects before it
    /// are damaged, or of no format. A line with which a JSON array or CSV begins is bad: these are
    /// read from files.
    pub fn sniff(reader: R, source_name: impl Into<String>) -> Self {
        Self::over(reader, source_name.into(), None, Format::parse)
    }
}

impl<R: BufRead> Reader<R, LabelledText> {
    /// A reader of labelled texts, in JSONL.
    ///
    /// # Examples
    ///
    /// ```
    /// use reward_model::data::Reader;
    /// use reward_model::Label;
    ///
    /// let file = "{\"text\": \"a delight\", \"label\": 4}\n{\"text\": \"a bore\"}\n";
    /// let mut texts = Reader::labelled(file.as_bytes(), "reviews.jsonl");
    /// assert_eq!(texts.next().unwrap()?.label(), &Label::Class(4));
    /// assert!(texts.next().unwrap().unwrap_err().to_string().starts_with("reviews.jsonl:2: label:"));
    /// # Ok::<(), reward_model::Error>(())
    /// ```
    pub fn labelled(reader: R, source_name: impl Into<String>) -> Self {
        Self::over(reader, source_name.into(), Some(Format::Jsonl), |_, line| labelled::parse(line))
    }
}

impl<R, T> Reader<R, T> {
    /// The format; `None` while a sniffing reader has seen no line that tells it.
    pub fn format(&self) -> Option<Format> {
        self.format
    }
}

impl<R: BufRead, T> Reader<R, T> {
    pub(super) fn over(
        reader: R,
        source_name: String,
        format: Option<Format>,
        parse: Parse<T>,
    ) -> Self {
        Self { lines: Lines::new(reader), source_name, format, parse, ended: false }
    }
}

impl<R: BufRead, T> Iterator for Reader<R, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let (line, text) = match self.lines.next() {
            Ok(Some(line)) => line,
            Ok(None) => {
                self.ended = true;
                return None;
            }
            Err(error) => {
                self.ended = true;
                return Some(Err(Error::io("read", &self.source_name)(error)));
            }
        };
        let item = text.and_then(|text| {
            if self.format.is_none() {
                self.format = Format::told_by_line(text)?;
            }
            // What tells no format is read as JSONL, whose errors say what is missing.
            (self.parse)(self.format.unwrap_or(Format::Jsonl), text)
        });
        Some(item.map_err(|problem| problem.at(&self.source_name, line)))
    }
}

impl<R: BufRead, T> FusedIterator for Reader<R, T> {}
