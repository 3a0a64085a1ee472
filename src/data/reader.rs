//! The iterator over the ranked lists of a stream.

use std::io::BufRead;
use std::iter::FusedIterator;

use super::lines::Lines;
use super::Format;
use crate::{Error, RankedList, Result};

/// The ranked lists of a stream, one a line: an iterator of [`Result`]s.
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
pub struct Reader<R> {
    lines: Lines<R>,
    source_name: String,
    format: Option<Format>,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    /// A reader of a known format. `source_name` stands in errors where a file's path would.
    pub fn new(reader: R, source_name: impl Into<String>, format: Format) -> Self {
        let lines = Lines::new(reader);
        Self { lines, source_name: source_name.into(), format: Some(format), ended: false }
    }

    /// A reader that takes the format from the first line that holds text: [`Format::Jsonl`] if
    /// its first character other than white space is `{`, else [`Format::Tsv`].
    pub fn sniff(reader: R, source_name: impl Into<String>) -> Self {
        let lines = Lines::new(reader);
        Self { lines, source_name: source_name.into(), format: None, ended: false }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<RankedList>;

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
        let list = text.and_then(|text| {
            let format = *self.format.get_or_insert_with(|| sniff(text));
            format.parse(text)
        });
        Some(list.map_err(|problem| Error::Data {
            source_name: self.source_name.clone(),
            line,
            field: problem.field,
            message: problem.message,
        }))
    }
}

impl<R: BufRead> FusedIterator for Reader<R> {}

fn sniff(line: &str) -> Format {
    if line.trim_start().starts_with('{') {
        Format::Jsonl
    } else {
        Format::Tsv
    }
}
