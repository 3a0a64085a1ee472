//! The rows of a Parquet file as lines of JSON: each row an object, each column a field.

use std::fs::File;
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

use super::spool::Spool;
use crate::{Error, Result};

/// A page of each column is in memory at a time. Columns without a value are left out.
pub(super) fn to_lines(path: &Path, file: File, spool: &mut Spool) -> Result<()> {
    let mut rows = guarded(path, || {
        let reader = SerializedFileReader::new(file)?;
        Ok(RowIter::from_file_into(Box::new(reader)))
    })?;
    let mut number = 0;
    loop {
        let (rest, row) = guarded(path, move || {
            let row = rows.next().transpose()?;
            Ok((rows, row.map(|row| object(&row))))
        })?;
        let Some(row) = row else { return Ok(()) };
        (rows, number) = (rest, number + 1);
        let object = row.map_err(|field| Error::Data {
            source_name: format!("{}, record", path.display()),
            line: number,
            field: Some(field),
            message: "holds bytes that are not UTF-8; texts must be".into(),
        })?;
        spool.write(format!("{}\n", Value::Object(object)).as_bytes())?;
    }
}

/// A row's fields, or the name of one that holds bytes that are no text. Of those, only fields that
/// no format knows may be: images, embeddings.
fn object(row: &Row) -> Result<Map<String, Value>, String> {
    let mut object = Map::new();
    for (name, field) in row.get_column_iter() {
        match value(field) {
            Some(Value::Null) => {}
            Some(value) => drop(object.insert(name.clone(), value)),
            None if super::csv::is_known(name) => return Err(name.clone()),
            None => {}
        }
    }
    Ok(object)
}

/// Byte arrays, which need not be marked as strings, are texts here; `None` if they are not.
fn value(field: &Field) -> Option<Value> {
    let values = |fields: &[Field]| fields.iter().map(value).collect::<Option<Vec<_>>>();
    match field {
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).ok().map(Value::from),
        Field::Group(row) => {
            let fields = row.get_column_iter();
            let fields = fields.map(|(name, field)| Some((name.clone(), value(field)?)));
            fields.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        Field::ListInternal(list) => values(list.elements()).map(Value::Array),
        other => Some(other.to_json_value()),
    }
}

/// The parquet crate checks some of what a damaged file may say with assertions: these are errors
/// too, unless a program is built to abort. Whatever they leave behind is dropped. Memory that a
/// damaged file asks for, and cannot be had, ends the process all the same.
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
