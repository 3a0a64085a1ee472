#![cfg(feature = "data")]
//! Files that are packed, or that are not written line by line: the same lists come out, and what
//! is damaged, cut off or a bomb is an error.

use std::io::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use reward_model::data::{self, Dataset, Format, IndexedFile, ReadOptions};
use reward_model::{Error, RankedList};

const JSONL: &str = "{\"prompt\": \"p\", \"chosen\": \"a\", \"rejected\": \"b\"}\n\
                     {\"prompt\": \"q\", \"responses\": [\"c\", \"d\", \"e\"], \"ranks\": [2, 1, 1]}\n";

fn expected() -> [RankedList; 2] {
    [
        RankedList::new(["a", "b"]).unwrap().with_prompt("p"),
        RankedList::with_ranks(["c", "d", "e"], &[2.0, 1.0, 1.0]).unwrap().with_prompt("q"),
    ]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// What is said of a file after its name.
fn error(path: &Path) -> String {
    let error = data::read(path).unwrap_err().to_string();
    error.strip_prefix(&path.display().to_string()).unwrap_or(&error).to_owned()
}

#[test]
fn the_same_lists_in_every_container() {
    let folder = tempfile::tempdir().unwrap();
    let array = format!("[{}]\n", JSONL.trim_end().replace('\n', ",\n"));
    let pretty: serde_json::Value = serde_json::from_str(&array).unwrap();
    let pretty = serde_json::to_string_pretty(&pretty).unwrap();
    for (name, content) in [
        ("a.jsonl", JSONL.as_bytes().to_vec()),
        ("a.json", JSONL.into()),
        ("b.json", array.clone().into()),
        ("c.json", format!("\u{feff}{pretty}").into()),
        ("array", array.clone().into()),
        ("lines", JSONL.into()),
        ("a.jsonl.gz", gzip(JSONL.as_bytes())),
        (
            "two-members.jsonl.gz",
            JSONL.lines().flat_map(|l| gzip(format!("{l}\n").as_bytes())).collect(),
        ),
        ("gzip-without-its-name.jsonl", gzip(JSONL.as_bytes())),
        ("a.json.zst", zstd(array.as_bytes())),
        ("a.JSONL.ZSTD", zstd(JSONL.as_bytes())),
    ] {
        let path = write(folder.path(), name, content);
        assert_eq!(data::read(&path).unwrap(), expected(), "{name}");
        let indexed = IndexedFile::open(&path).unwrap();
        assert_eq!(indexed.len(), 2, "{name}");
        for (index, list) in expected().iter().enumerate().rev() {
            assert_eq!(&indexed.get(index).unwrap(), list, "{name}");
        }
        assert!(matches!(indexed.get(2), Err(Error::InvalidArgument(_))));
    }
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_takes_a_feature() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.parquet", "named-otherwise.json"] {
        let error = error(&write(folder.path(), name, b"PAR1...PAR1"));
        assert!(error.starts_with(": Parquet is read with the feature `parquet`"), "{error}");
    }
}

#[test]
fn csv() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = "id,prompt,chosen,rejected\n1,p,\"two\nlines, \"\"quoted\"\"\",b\n2,,[a],b\n";
    let lists = data::read(write(folder.path(), "a.csv", pairs)).unwrap();
    let first = RankedList::new(["two\nlines, \"quoted\"", "b"]).unwrap().with_prompt("p");
    assert_eq!(lists, [first, RankedList::new(["[a]", "b"]).unwrap()]);

    let lists = "prompt,responses,ranks\nq,\"[\"\"c\"\", \"\"d\"\", \"\"e\"\"]\",\"[2, 1, 1]\"\n";
    let lists = data::read(write(folder.path(), "b.csv.gz", gzip(lists.as_bytes()))).unwrap();
    assert_eq!(lists, expected()[1..]);

    let steer = "context,response1,response2,overall_preference\n\
                 \"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"p\"\"}]\",a,b,2\n";
    let path = write(folder.path(), "c.csv", steer);
    assert_eq!(data::open(&path).unwrap().format(), Some(Format::HelpSteer3));
    let lists = data::read(&path).unwrap();
    assert_eq!(lists[0].ranking().to_string(), "B > A");
    assert_eq!(lists[0].conversation().unwrap()[0].content, "p");

    let labelled = write(folder.path(), "d.csv", "text,label\n\"a, b\",3\nc,0.5\n");
    assert_eq!(data::read_labelled(labelled).unwrap()[0].text(), "a, b");

    for (content, expected) in [
        ("", ":1: the file holds no ranked list"),
        ("chosen,rejected\n", ":1: the file holds no ranked list"),
        ("chosen,rejected\na,b\nc\n", ":3: has 1 columns, but the first row has 2; is a quotation mark missing?"),
        ("chosen,chosen\na,b\n", ":1: chosen: is the name of two columns; keep one"),
        ("chosen,rejected\na,b\n\"c\nd\",\n", ", record:2: rejected: is empty; every response needs text"),
        ("prompt,chosen,rejected\n\"[{'role': 'user', 'content': 'p'}]\",a,b\n", ":2: prompt: these are messages as Python prints them; write them as JSON (json.dumps), or the whole data as JSONL"),
        ("message_id,text,deleted\nm,t,no\n", ":2: deleted: expected true or false"),
        ("responses\n[1\n", ":2: responses: expected a number or an array, as JSON: EOF while parsing a list at line 1 column 2"),
    ] {
        assert_eq!(error(&write(folder.path(), "e.csv", content)).replace("e.csv, record:1: the file", "e.csv:1: the file"), expected, "{content:?}");
    }
    let replies =
        "message_id,parent_id,role,text,rank,deleted\n1,,prompter,p,,0\n2,1,assistant,a,1,f\n\
                   3,1,assistant,b,0,\n4,1,assistant,gone,2,True \n5,1,assistant,gone,2,1\n";
    let lists = data::read(write(folder.path(), "g.csv", replies)).unwrap();
    assert_eq!(lists[0].responses().iter().map(|r| r.text()).collect::<Vec<_>>(), ["b", "a"]);

    let path = write(folder.path(), "f.csv", b"chosen,rejected\na,\xff\n");
    assert_eq!(error(&path), ":2: not UTF-8; save the file as UTF-8");
}

#[test]
fn records_of_an_array_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path =
        write(folder.path(), "a.json", "[\n{\"chosen\": \"a\",\n \"rejected\": \"b\"},\n{}]");
    let found = error(&path);
    assert!(found.starts_with(", record:2: has neither"), "{found}");
    assert_eq!(data::open(&path).unwrap().count(), 2);
    let broken = write(folder.path(), "c.json", "[\"a\\\n{\"responses\": [\"x\", \"y\"]}\"]");
    assert_eq!(error(&broken), ":2: a line break within a string; in JSON it is \\n");
    let cut = write(folder.path(), "b.json", "[\n{\"chosen\": \"a\",\n \"rej");
    assert_eq!(error(&cut), ":3: the file ends within its JSON array; is it cut off?");
}

#[test]
fn damaged_and_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let text = JSONL.repeat(5000);
    for (name, packed) in
        [("a.jsonl.gz", gzip(text.as_bytes())), ("a.jsonl.zst", zstd(text.as_bytes()))]
    {
        let kind = if name.ends_with("gz") { "gzip" } else { "zstd" };
        let start = format!(": cannot unpack: the {kind} data are damaged or cut off: ");
        for cut in [5, 30, packed.len() / 2, packed.len() - 1] {
            let found = error(&write(folder.path(), name, &packed[..cut]));
            assert!(found.starts_with(&start), "{name} {cut}: {found}");
        }
        let mut damaged = packed.clone();
        damaged[packed.len() / 2] ^= 0x55;
        assert!(data::read(write(folder.path(), name, &damaged)).is_err());
        let found = error(&write(folder.path(), name, [&packed[..], b"more"].concat()));
        assert!(found.starts_with(&start), "{found}");
        let found = error(&write(folder.path(), name, &text));
        assert_eq!(found, format!(": cannot unpack: it is called that, but is no {kind} data"));
        assert!(error(&write(folder.path(), name, "")).contains("is no"));
    }
}

#[test]
fn a_bomb_is_an_error_in_bounded_space() {
    let folder = tempfile::tempdir().unwrap();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..80 {
        bomb.write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
    let path = write(folder.path(), "bomb.jsonl.gz", bomb.finish().unwrap());
    let found = error(&path);
    let bound = std::fs::metadata(&path).unwrap().len() * 200;
    let bound = bound.max(64 << 20);
    assert!(
        found.contains(&format!("holds more than {bound} bytes once it is unpacked")),
        "{found}"
    );

    let options = ReadOptions::default().with_unpacked_limit(JSONL.len() as u64 - 1);
    let path = write(folder.path(), "small.jsonl.zst", zstd(JSONL.as_bytes()));
    assert!(data::open_with(&path, &options).is_err());
    let options = options.with_unpacked_limit(JSONL.len() as u64);
    assert_eq!(data::open_with(&path, &options).unwrap().count(), 2);
}

#[test]
fn a_file_that_changes_is_no_longer_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.jsonl", JSONL);
    let lists = IndexedFile::open(&path).unwrap();
    lists.get(1).unwrap();
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\n").unwrap();
    let expected = "cannot read: the file has changed since it was opened; open it again";
    assert!(lists.get(0).unwrap_err().to_string().ends_with(expected));
}

#[test]
fn temporary_files_are_gone() {
    let (folder, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = write(folder.path(), "a.jsonl.gz", gzip(JSONL.as_bytes()));
    let options = ReadOptions::default().with_temporary_folder(temporary.path());
    let lists = IndexedFile::open_with(&path, &options).unwrap();
    assert_eq!(lists.get(0).unwrap(), expected()[0]);
    drop(lists);
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
    let missing = ReadOptions::default().with_temporary_folder(folder.path().join("none"));
    let error = data::open_with(&path, &missing).unwrap_err().to_string();
    assert!(error.contains("cannot create a temporary file in"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// An index gives what the reader gives, and nothing panics, whatever the file is called.
    #[test]
    fn any_bytes_under_any_name(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            "[\\[\\]{}\",:a\n 1]{0,40}".prop_map(String::into_bytes),
            "(\\{\"(message_id|parent_id|text|rank|replies|prompt|answers|completions)\": ?(1|\"a\"|null|\\[\\]|\\{\\})\\}\n?){0,4}"
                .prop_map(String::into_bytes),
        ],
        name in prop_oneof![
            Just("a.tsv"), Just("a.jsonl"), Just("a.json"), Just("a.csv"), Just("a"),
            Just("a.jsonl.gz"), Just("a.csv.zst"),
        ],
        pack in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let bytes = match name {
            "a.jsonl.gz" if pack => gzip(&bytes),
            "a.csv.zst" if pack => zstd(&bytes),
            _ => bytes,
        };
        let path = write(folder.path(), name, bytes);
        let shown = |item: reward_model::Result<RankedList>| item.map_err(|e| e.to_string());
        match (data::open(&path), IndexedFile::open(&path)) {
            (Ok(reader), Ok(indexed)) => {
                let read: Vec<_> = reader.map(shown).collect();
                let found: Vec<_> =
                    (0..indexed.len()).map(|index| shown(indexed.get(index))).collect();
                prop_assert_eq!(read, found);
            }
            (Err(one), Err(other)) => prop_assert_eq!(one.to_string(), other.to_string()),
            (one, other) => prop_assert!(false, "{:?} {:?}", one.err(), other.err()),
        }
    }
}
