//! The rows of a Parquet file as lines of JSON: each row an object, each column a field.

use std::fs::File;
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::SerializedFileReader;
use parquet::record::reader::RowIter;

use super::spool::Spool;
use crate::{Error, Result};

/// A page of each column is in memory at a time.
pub(super) fn to_lines(path: &Path, file: File, spool: &mut Spool) -> Result<()> {
    let mut rows = guarded(path, || {
        let reader = SerializedFileReader::new(file)?;
        Ok(RowIter::from_file_into(Box::new(reader)))
    })?;
    loop {
        let (rest, line) = guarded(path, move || {
            let row = rows.next().transpose()?;
            Ok((rows, row.map(|row| format!("{}\n", row.to_json_value()))))
        })?;
        let Some(line) = line else { return Ok(()) };
        rows = rest;
        spool.write(line.as_bytes())?;
    }
}

/// The parquet crate checks some of what a damaged file may say with assertions: these are errors
/// too, unless a program is built to abort. Whatever they leave behind is dropped.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    let message = match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(read)) => return Ok(read),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => match panic.downcast_ref::<String>() {
            Some(message) => message.clone(),
            None => (*panic.downcast_ref::<&str>().unwrap_or(&"a check failed")).to_owned(),
        },
    };
    let message = format!("the Parquet data are damaged or cut off: {message}");
    Err(Error::io("read", path)(io::Error::new(io::ErrorKind::InvalidData, message)))
}
