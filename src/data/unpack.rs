//! Compressed files, written out to a temporary file of bounded size.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::spool::Spool;
use super::ReadOptions;
use crate::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    /// What the first bytes of a file tell.
    pub fn of_content(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What an extension tells.
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "gz" | "gzip" => Some(Self::Gzip),
            "zst" | "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Frames and members after the first are unpacked too.
pub(super) fn unpack(
    path: &Path,
    file: File,
    compression: Compression,
    options: &ReadOptions,
) -> Result<File> {
    let compressed = file.metadata().map_err(Error::io("read", path))?.len();
    let mut spool = Spool::of_unpacked(path, options, compressed)?;
    let broken = |error: io::Error| {
        let message = format!("the {} data are damaged or cut off: {error}", compression.name());
        Error::io("unpack", path)(io::Error::new(error.kind(), message))
    };
    let file = BufReader::with_capacity(1 << 16, file);
    let mut reader: Box<dyn Read> = match compression {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Compression::Zstd => {
            Box::new(zstd::stream::read::Decoder::with_buffer(file).map_err(broken)?)
        }
    };
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return spool.finish(),
            Ok(count) => spool.write(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(error)),
        }
    }
}
