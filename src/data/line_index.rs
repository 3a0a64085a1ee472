//! Where each line of a file starts, and reading one of them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::time::SystemTime;

use super::lines::{self, MAX_LINE_BYTES};
use super::Problem;
use crate::{Error, Result};

/// The lines of a file up to the last one that is not blank.
#[derive(Debug)]
pub(super) struct LineIndex {
    file: File,
    source_name: String,
    /// Where each line starts, and where the last one ends.
    bounds: Vec<u64>,
    length: u64,
    modified: Option<SystemTime>,
}

impl LineIndex {
    pub fn new(file: File, source_name: String) -> Result<Self> {
        let metadata = file.metadata().map_err(Error::io("read", &source_name))?;
        let (length, modified) = (metadata.len(), metadata.modified().ok());
        let mut index = Self { file, source_name, bounds: vec![0], length, modified };
        index.find().map_err(Error::io("read", &index.source_name))?;
        index.leave_out_blank_end()?;
        index.bounds.shrink_to_fit();
        Ok(index)
    }

    fn find(&mut self) -> io::Result<()> {
        self.file.rewind()?;
        let mut reader = BufReader::with_capacity(1 << 18, &self.file);
        let mut end = 0;
        loop {
            let bytes = reader.skip_until(b'\n')?;
            if bytes == 0 {
                return Ok(());
            }
            end += bytes as u64;
            self.bounds.push(end);
        }
    }

    fn leave_out_blank_end(&mut self) -> Result<()> {
        while let Some(last) = self.len().checked_sub(1) {
            let (start, end) = self.bounds_of(last)?;
            if end - start > MAX_LINE_BYTES || !lines::is_blank(&self.bytes(last)?) {
                break;
            }
            self.bounds.pop();
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// The line with this number, from 0, without its end.
    pub fn line(&self, index: usize) -> Result<Result<String, Problem>> {
        let (start, end) = self.bounds_of(index)?;
        self.check_unchanged()?;
        if end - start > MAX_LINE_BYTES {
            return Ok(Err(lines::too_long(MAX_LINE_BYTES)));
        }
        let bytes = self.bytes(index)?;
        if lines::is_blank(&bytes) {
            return Ok(Err(lines::blank()));
        }
        Ok(match String::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(error) => Err(lines::not_utf8(error.as_bytes(), error.utf8_error())),
        })
    }

    /// An error of this line, from 0.
    pub fn error(&self, index: usize, problem: Problem) -> Error {
        problem.at(&self.source_name, index as u64 + 1)
    }

    fn bounds_of(&self, index: usize) -> Result<(u64, u64)> {
        match self.bounds.get(index..).and_then(|bounds| bounds.get(..2)) {
            Some(&[start, end]) => Ok((start, end)),
            _ => Err(Error::InvalidArgument(format!(
                "{}: record {index} was asked for, but there are {}, from 0",
                self.source_name,
                self.len()
            ))),
        }
    }

    fn bytes(&self, index: usize) -> Result<Vec<u8>> {
        let (start, end) = self.bounds_of(index)?;
        let mut bytes = vec![0; (end - start) as usize];
        read_exact_at(&self.file, &mut bytes, start)
            .map_err(Error::io("read", &self.source_name))?;
        lines::strip(&mut bytes, index == 0);
        Ok(bytes)
    }

    fn check_unchanged(&self) -> Result<()> {
        let read = Error::io("read", &self.source_name);
        let metadata = match self.file.metadata() {
            Ok(metadata) => metadata,
            Err(error) => return Err(read(error)),
        };
        if metadata.len() == self.length && metadata.modified().ok() == self.modified {
            return Ok(());
        }
        let message = "the file has changed since it was opened; open it again";
        Err(read(io::Error::other(message)))
    }
}

#[cfg(unix)]
pub(super) fn read_exact_at(file: &File, bytes: &mut [u8], position: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, position)
}

#[cfg(windows)]
pub(super) fn read_exact_at(
    file: &File,
    mut bytes: &mut [u8],
    mut position: u64,
) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_read(bytes, position) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes = bytes.get_mut(count..).unwrap_or_default();
                position += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
