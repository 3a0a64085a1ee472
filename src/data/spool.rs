//! Unnamed temporary files that cannot grow beyond a bound.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use super::ReadOptions;
use crate::{Error, Result};

/// What data may take on disk however small they are in a file.
const ALWAYS_ALLOWED: u64 = 64 << 20;

/// A file without a name, which is gone when it is closed, with everything that a writer of it may
/// run into.
pub(super) struct Spool {
    file: BufWriter<File>,
    /// The temporary file's folder, for errors.
    folder: PathBuf,
    /// The file whose data these are, for errors.
    source: PathBuf,
    written: u64,
    limit: u64,
    /// What is done to the data, and what is wrong with them if they become too many.
    doing: (&'static str, &'static str),
}

impl Spool {
    /// One that holds what a compressed file unpacks to, 200 times as much if nothing else is said.
    pub fn of_unpacked(source: &Path, options: &ReadOptions, bytes: u64) -> Result<Self> {
        let doing = (
            "unpack",
            "once it is unpacked, which is no use of compression; if that is right, unpack it yourself",
        );
        Self::new(source, options, bytes.saturating_mul(200), doing)
    }

    /// One that holds what may become of `bytes` by writing them in another way, 64 times as much if
    /// nothing else is said: the names of fields on each line, an escape for a byte, a prompt with
    /// each of its lists, a text that the file holds once and its rows name many times.
    pub fn of_converted(source: &Path, options: &ReadOptions, bytes: u64) -> Result<Self> {
        let doing = ("convert", "as lines; if that is right, write it as JSONL");
        Self::new(source, options, bytes.saturating_mul(64), doing)
    }

    fn new(
        source: &Path,
        options: &ReadOptions,
        usual: u64,
        doing: (&'static str, &'static str),
    ) -> Result<Self> {
        let limit = options.unpacked_limit.unwrap_or(usual.max(ALWAYS_ALLOWED));
        let folder = options.temporary_folder.clone().unwrap_or_else(std::env::temp_dir);
        let file = tempfile::tempfile_in(&folder)
            .map_err(Error::io("create a temporary file in", &folder))?;
        let file = BufWriter::with_capacity(1 << 16, file);
        Ok(Self { file, folder, source: source.to_owned(), written: 0, limit, doing })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written = self.written.saturating_add(bytes.len() as u64);
        if self.written > self.limit {
            let (action, problem) = self.doing;
            let message = format!(
                "it holds more than {} bytes {problem}, or raise the limit \
                 (ReadOptions::with_unpacked_limit)",
                self.limit
            );
            let source = io::Error::new(io::ErrorKind::InvalidData, message);
            return Err(Error::io(action, &self.source)(source));
        }
        self.file.write_all(bytes).map_err(Error::io("write a temporary file in", &self.folder))
    }

    /// The file, from its start.
    pub fn finish(self) -> Result<File> {
        let folder = self.folder;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|mut file| file.rewind().map(|()| file))
            .map_err(Error::io("write a temporary file in", folder))
    }
}
