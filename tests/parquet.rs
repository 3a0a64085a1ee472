//! Parquet files of preference data, whole and damaged.
#![cfg(feature = "parquet")]

use std::fs;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use reward_model::data::{self, Dataset, Format, IndexedFile};
use reward_model::RankedList;

/// A column's values, with its definition and repetition levels.
enum Column {
    Texts(&'static [&'static str], Vec<i16>, Vec<i16>),
    Numbers(&'static [f64], Vec<i16>, Vec<i16>),
    Bytes(&'static [&'static [u8]]),
}

fn levels(levels: &[i16]) -> Option<&[i16]> {
    Some(levels).filter(|levels| !levels.is_empty())
}

fn file(schema: &str, columns: Vec<Column>, compression: Compression) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in columns {
        let mut out = group.next_column().unwrap().unwrap();
        match column {
            Column::Texts(texts, defined, repeated) => {
                let texts: Vec<ByteArray> = texts.iter().map(|&text| text.into()).collect();
                out.typed::<ByteArrayType>()
                    .write_batch(&texts, levels(&defined), levels(&repeated))
                    .unwrap();
            }
            Column::Bytes(values) => {
                let values: Vec<ByteArray> =
                    values.iter().map(|&bytes| bytes.to_vec().into()).collect();
                out.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            }
            Column::Numbers(numbers, defined, repeated) => {
                out.typed::<DoubleType>()
                    .write_batch(numbers, levels(&defined), levels(&repeated))
                    .unwrap();
            }
        }
        out.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

fn pairs(compression: Compression) -> Vec<u8> {
    let schema = "message pairs { optional binary prompt (UTF8); required binary chosen (UTF8); \
                  required binary rejected (UTF8); }";
    let columns = vec![
        Column::Texts(&["p"], vec![1, 0], vec![]),
        Column::Texts(&["a", "c"], vec![], vec![]),
        Column::Texts(&["b", "d"], vec![], vec![]),
    ];
    file(schema, columns, compression)
}

fn nectar() -> Vec<u8> {
    let schema = "message nectar { required binary prompt (UTF8); required group answers (LIST) { \
                  repeated group list { required group element { required binary answer (UTF8); \
                  required double rank; } } } }";
    let columns = vec![
        Column::Texts(&["p", "q"], vec![], vec![]),
        Column::Texts(&["a", "b", "c", "d"], vec![1; 4], vec![0, 1, 1, 0]),
        Column::Numbers(&[2.0, 1.0, 2.0, 1.0], vec![1; 4], vec![0, 1, 1, 0]),
    ];
    file(schema, columns, Compression::SNAPPY)
}

#[test]
fn pairs_in_every_compression() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let expected = [
        RankedList::new(["a", "b"]).unwrap().with_prompt("p"),
        RankedList::new(["c", "d"]).unwrap(),
    ];
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
    ] {
        fs::write(&path, pairs(compression)).unwrap();
        assert_eq!(data::read(&path).unwrap(), expected);
        let indexed = IndexedFile::open(&path).unwrap();
        assert_eq!((indexed.len(), indexed.get(1).unwrap()), (2, expected[1].clone()));
    }
}

#[test]
fn nested_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    fs::write(&path, nectar()).unwrap();
    let mut reader = data::open(&path).unwrap();
    let list = reader.next().unwrap().unwrap();
    assert_eq!(reader.format(), Some(Format::Nectar));
    assert_eq!((list.prompt(), list.ranking().to_string()), (Some("p"), "B > A = C".to_owned()));
    assert_eq!(reader.next().unwrap().unwrap(), RankedList::new(["d"]).unwrap().with_prompt("q"));
    assert!(reader.next().is_none());
}

/// As Hive writes texts, and pyarrow's `binary()`: not marked as strings.
#[test]
fn byte_arrays_are_texts_or_an_error_that_names_the_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let write = |name: &str, value: &'static [&'static [u8]]| {
        let schema = format!(
            "message pairs {{ required binary chosen; required binary rejected; required binary \
             {name}; }}"
        );
        let columns =
            vec![Column::Bytes(&[b"good"]), Column::Bytes(&[b"bad"]), Column::Bytes(value)];
        fs::write(&path, file(&schema, columns, Compression::UNCOMPRESSED)).unwrap();
    };
    write("prompt", &[b"se\xc3\xb1or"]);
    let expected = RankedList::new(["good", "bad"]).unwrap();
    assert_eq!(data::read(&path).unwrap(), [expected.clone().with_prompt("señor")]);
    write("image", &[b"\x89PNG\xff"]);
    assert_eq!(data::read(&path).unwrap(), [expected]);
    write("prompt", &[b"\x89PNG\xff"]);
    let error = data::read(&path).unwrap_err().to_string();
    assert!(error.contains("record:1: prompt: holds bytes that are not UTF-8"), "{error}");
}

#[test]
fn files_that_are_no_parquet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let whole = nectar();
    for content in [&b""[..], b"PAR1", &whole[..whole.len() - 1], &whole[9..]] {
        fs::write(&path, content).unwrap();
        let error = data::read(&path).unwrap_err().to_string();
        assert!(error.contains("the Parquet data are damaged or cut off: "), "{error}");
    }
}

proptest! {
    /// Whatever is changed in a file, it is read to its end or to an error.
    #[test]
    fn any_byte_may_be_wrong(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        nested in any::<bool>(),
    ) {
        let mut bytes = if nested { nectar() } else { pairs(Compression::UNCOMPRESSED) };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        fs::write(&path, bytes).unwrap();
        if let Ok(reader) = data::open(&path) {
            reader.take(1000).for_each(drop);
        }
    }
}
