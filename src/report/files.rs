//! Files that appear whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Writes a file beside its place, waits until it is on disk, and puts it there.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let beside = beside(path);
    let write = || {
        // What an earlier process was writing when it was killed.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|error| {
        // What is told is why it could not be written.
        let _ = fs::remove_file(&beside);
        Error::io("write", path)(error)
    })
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.part", std::process::id()))
}
