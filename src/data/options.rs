//! How a file is opened.

use std::path::PathBuf;

use super::Format;

/// How a file of data is opened: [`open_with`](super::open_with) and
/// [`IndexedFile::open_with`](super::IndexedFile::open_with) take it.
///
/// ```no_run
/// use reward_model::data::{self, Format, ReadOptions};
///
/// let options = ReadOptions::default().with_format(Format::Nectar).with_unpacked_limit(4 << 30);
/// for list in data::open_with("nectar.json.gz", &options)? {
///     println!("{}", list?.len());
/// }
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    pub(super) format: Option<Format>,
    pub(super) unpacked_limit: Option<u64>,
    pub(super) temporary_folder: Option<PathBuf>,
}

impl ReadOptions {
    /// Reads the records in this format, whatever their fields look like.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// The most bytes that a compressed file may unpack to, on disk, and that another than a file of
    /// lines may become. Without it: 200 times the size and 64 times, or 64 MiB if that is more.
    #[must_use]
    pub fn with_unpacked_limit(mut self, bytes: u64) -> Self {
        self.unpacked_limit = Some(bytes);
        self
    }

    /// The folder for unnamed temporary files, which need as much room as the unpacked data; the
    /// system's own without it.
    #[must_use]
    pub fn with_temporary_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.temporary_folder = Some(folder.into());
        self
    }
}
