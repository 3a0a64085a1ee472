//! Unnamed temporary files that cannot grow beyond a bound.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// What data may take on disk however small they are in a file.
pub(super) const ALWAYS_ALLOWED: u64 = 64 << 20;

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
}

impl Spool {
    pub fn new(source: &Path, folder: Option<&Path>, limit: u64) -> Result<Self> {
        let folder = folder.map_or_else(std::env::temp_dir, Path::to_owned);
        let file = tempfile::tempfile_in(&folder)
            .map_err(Error::io("create a temporary file in", &folder))?;
        let file = BufWriter::with_capacity(1 << 16, file);
        Ok(Self { file, folder, source: source.to_owned(), written: 0, limit })
    }

    /// One that holds what may become of `bytes` by writing them in another way: the names of
    /// fields on each line, an escape for a byte, a prompt with each of its lists.
    pub fn of_converted(source: &Path, folder: Option<&Path>, bytes: u64) -> Result<Self> {
        Self::new(source, folder, bytes.saturating_mul(64).max(ALWAYS_ALLOWED))
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written = self.written.saturating_add(bytes.len() as u64);
        if self.written > self.limit {
            let message = format!(
                "it holds more than {} bytes once it is unpacked, which is no use of compression; \
                 if that is right, unpack it yourself or raise the limit",
                self.limit
            );
            let source = io::Error::new(io::ErrorKind::InvalidData, message);
            return Err(Error::io("unpack", &self.source)(source));
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
