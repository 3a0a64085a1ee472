#![cfg(feature = "data")]
//! The readers of ranked lists: what is read, what is refused and in which words, what is written.

use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use reward_model::data::{self, Format, Reader, MAX_LINE_BYTES};
use reward_model::{Error, RankedList, Response, Result};

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

#[test]
fn jsonl_lists_and_pairs() {
    let file = br#"{"prompt": "p", "responses": ["a", "b", "c"]}
 {"id": 7, "responses": ["a", "b", "c"], "ranks": [3, 1, 1.5], "meta": {"ranks": [1]}}
{"scores": [0.5, -1e-3, 7], "responses": ["a", "b", "c"], "ranks": [2, 2, 1], "prompt": null}
{"prompt": "", "chosen": "good", "rejected": "bad", "responses": null}
{"chosen": "good", "rejected": "bad", "prompt": "\u00e9\ud83d\ude00", "margin": 1.5}
{"responses": ["a", "b", "c"], "margin": 0}
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
        RankedList::new(["good", "bad"]).unwrap().with_prompt("é😀").with_margin(1.5).unwrap(),
        RankedList::new(["a", "b", "c"]).unwrap().with_margin(0.0).unwrap(),
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

/// What a file would be read rightly from is not taken for lists of one response.
#[test]
fn an_array_or_csv_on_a_stream_is_an_error() {
    for (stream, what) in [
        ("[{\"responses\": [\"a\", \"b\"]}]\n", "a JSON array"),
        ("[\n  {\"responses\": [\"a\", \"b\"]}\n]\n", "a JSON array"),
        ("prompt,chosen,rejected\np,a,b\n", "CSV"),
        ("\"chosen\",\"rejected\"\r\na,b\r\n", "CSV"),
    ] {
        let error = Reader::sniff(stream.as_bytes(), "data").next().unwrap().unwrap_err();
        let expected = format!("data:1: this begins {what}, which is read from a file");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    let notes = "[1] good\t[2] bad\nchosen, or rejected\n";
    assert_eq!(Reader::sniff(notes.as_bytes(), "data").filter_map(Result::ok).count(), 2);
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

/// Reads each bad line between two good ones, and compares what is said of it after `start`.
fn refused(format: Format, start: &str, table: &[(&[u8], &str)]) {
    let good: &[u8] = match format {
        Format::Tsv => b"a\tb",
        _ => br#"{"responses": ["a", "b"]}"#,
    };
    for (line, expected) in table {
        let items = read(format, &[good, line, good].join(&b'\n'));
        let about = String::from_utf8_lossy(line);
        assert_eq!(items.len(), 3, "{about}");
        assert!(items[0].is_ok() && items[2].is_ok(), "{about}");
        let error = items[1].as_ref().unwrap_err();
        assert!(matches!(error, Error::Data { line: 2, .. }), "{about}: {error:?}");
        assert_eq!(error.to_string(), format!("data:2: {start}{expected}"), "{about}");
    }
}

const BLANK: &str = "the line is blank; remove it, or put back what it lost";

#[test]
fn bad_lines_of_tsv() {
    let table: &[(&[u8], &str)] = &[
        (b"", BLANK),
        (b"  \r", BLANK),
        (b"\t", "responses[0]: is empty; every response needs text"),
        (b"a\t", "responses[1]: is empty; every response needs text"),
        (b"a\tb\t \tc", "responses[2]: is only white space; every response needs text"),
        (b"a\t\xE4\tb", "not UTF-8: byte 0xe4 at column 3; save the file as UTF-8"),
    ];
    refused(Format::Tsv, "", table);
}

#[test]
fn lines_that_are_not_json() {
    let deep = format!(r#"{{"prompt": {}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let object = "object at column 1; each line must hold one whole JSON object";
    let list = "list at column 1; each line must hold one whole JSON object";
    let control = "control character (\\u0000-\\u001F) found while parsing a string at column 18";
    let nan = "expected value at column 32; JSON has no NaN and no Infinity";
    let infinity = "invalid number at column 34; JSON has no NaN and no Infinity";
    let table: &[(&[u8], &str)] = &[
        (b"a\tb", "expected value at column 1"),
        (b"{", &format!("EOF while parsing an {object}")),
        (b"[", &format!("EOF while parsing a {list}")),
        (br#"{'responses': ['a']}"#, "key must be a string at column 2"),
        (br#"{"responses": ["a",]}"#, "trailing comma at column 20"),
        (br#"{"responses": ["a"]} {}"#, "trailing characters at column 22"),
        (br#"{"responses": ["a"], "ranks": [NaN]}"#, nan),
        (br#"{"responses": ["a"], "scores": [-Infinity]}"#, infinity),
        (br#"{"responses": ["a"], "ranks": [1e999]}"#, "number out of range at column 36"),
        (br#"{"responses": ["\ud800"]}"#, "unexpected end of hex escape at column 23"),
        (b"{\"responses\": [\"a\x01\"]}", control),
        (deep.as_bytes(), "recursion limit exceeded at column 138"),
    ];
    refused(Format::Jsonl, "cannot read JSON: ", table);
}

#[test]
fn lines_that_are_no_object() {
    let long = format!("\"{}\"", "long ".repeat(1000));
    let table: &[(&[u8], &str)] = &[
        (b"null", "null"),
        (b"17", "the number 17"),
        (br#"["p", ["a", "b"]]"#, "an array"),
        (long.as_bytes(), "a string"),
    ];
    let start = r#"expected an object such as {"responses": ["best", "worst"]}, found "#;
    refused(Format::Jsonl, start, table);
}

#[test]
fn fields_that_do_not_make_a_list() {
    let neither = r#"has neither "responses" nor "chosen" and "rejected"; give a list or a pair"#;
    let both = r#"has both "responses" and "chosen"; give a list or a pair"#;
    let only = r#"goes with "responses" only; a pair is "chosen" and "rejected""#;
    let table: &[(&[u8], &str)] = &[
        (b" ", BLANK),
        (b"{\"prompt\": \"\xFF\"}", "not UTF-8: byte 0xff at column 13; save the file as UTF-8"),
        (b"{}", neither),
        (br#"{"prompt": "p", "responses": null}"#, neither),
        (br#"{"chosen": "a"}"#, r#"rejected: is missing; "chosen" needs it beside it"#),
        (br#"{"rejected": "a"}"#, r#"chosen: is missing; "rejected" needs it beside it"#),
        (br#"{"responses": ["a"], "chosen": "a", "rejected": "b"}"#, both),
        (br#"{"responses": ["a"], "rejected": "b"}"#, &both.replace("chosen", "rejected")),
        (br#"{"chosen": "a", "rejected": "b", "ranks": [2, 1]}"#, &format!("ranks: {only}")),
        (br#"{"chosen": "a", "rejected": "b", "scores": []}"#, &format!("scores: {only}")),
        (br#"{"prompt": "", "prompt": null}"#, "duplicate field `prompt` (column 23)"),
    ];
    refused(Format::Jsonl, "", table);
}

#[test]
fn fields_of_the_wrong_type() {
    let table: &[(&[u8], &str)] = &[
        (
            br#"{"prompt": 3, "responses": ["a"]}"#,
            "prompt: expected a string or an array of messages, found the number 3",
        ),
        (br#"{"responses": "a"}"#, "responses: expected an array of responses, found a string"),
        (
            br#"{"responses": ["a", {}]}"#,
            "responses[1]: expected a string or an array of messages, found an object",
        ),
        (
            br#"{"responses": ["a"], "ranks": 1}"#,
            "ranks: expected an array of numbers, found the number 1",
        ),
        (
            br#"{"responses": ["a", "b"], "ranks": [1, "2"]}"#,
            "ranks[1]: expected a finite number, found a string",
        ),
        (
            br#"{"responses": ["a"], "scores": [null]}"#,
            "scores[0]: expected a finite number, found null",
        ),
        (
            br#"{"chosen": "a", "rejected": "b", "margin": [1]}"#,
            "margin: expected a finite number, found an array",
        ),
        (br#"{"chosen": ["a"], "rejected": "b"}"#, "chosen[0]: expected a message, found a string"),
        (
            br#"{"chosen": "a", "rejected": false}"#,
            "rejected: expected a string or an array of messages, found false",
        ),
    ];
    refused(Format::Jsonl, "", table);
}

#[test]
fn lists_that_make_no_sense() {
    let table: &[(&[u8], &str)] = &[
        (br#"{"responses": []}"#, "responses: is empty; a ranked list needs at least one response"),
        (br#"{"responses": ["a", "b", ""]}"#, "responses[2]: is empty; every response needs text"),
        (
            br#"{"responses": ["a", "\n"], "ranks": [2, 1]}"#,
            "responses[1]: is only white space; every response needs text",
        ),
        (
            br#"{"responses": ["a"], "ranks": [1, 2]}"#,
            "ranks: there are 2 numbers for 1 response; give one for each",
        ),
        (
            br#"{"responses": ["a", "b"], "scores": [1]}"#,
            "scores: there is 1 number for 2 responses; give one for each",
        ),
        (br#"{"chosen": "", "rejected": "b"}"#, "chosen: is empty; every response needs text"),
        (
            br#"{"chosen": "a", "rejected": " "}"#,
            "rejected: is only white space; every response needs text",
        ),
    ];
    refused(Format::Jsonl, "", table);
}

#[test]
fn errors_carry_their_parts() {
    let mut reader = Reader::new(&b"a\tb\n\na\t\n"[..], "answers.tsv", Format::Tsv).skip(1);
    let blank = reader.next().unwrap().unwrap_err();
    assert!(matches!(blank, Error::Data { line: 2, field: None, .. }), "{blank:?}");
    let Error::Data { source_name, line, field, message } = reader.next().unwrap().unwrap_err()
    else {
        panic!("not an error of the data");
    };
    assert_eq!(
        (source_name.as_str(), line, field.as_deref()),
        ("answers.tsv", 3, Some("responses[1]"))
    );
    assert_eq!(message, "is empty; every response needs text");
}

#[test]
fn blank_lines_at_the_end_are_no_lists() {
    for file in ["a\tb\n\n", "a\tb\r\n\r\n  \n", "a\tb\n "] {
        assert_eq!(read(Format::Tsv, file.as_bytes()).len(), 1, "{file:?}");
    }
    assert!(read(Format::Jsonl, b"\xEF\xBB\xBF\n\n").is_empty());
}

#[test]
fn an_io_error_comes_last() {
    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }

    let stream = Cursor::new("a\tb\n\t\nc\td\nlo").chain(BufReader::new(Broken));
    let mut reader = Reader::new(stream, "a.tsv", Format::Tsv);
    let items = shown(reader.by_ref());
    assert_eq!(items.len(), 4);
    assert!(items[0].is_ok() && items[1].is_err() && items[2].is_ok());
    assert_eq!(items[3], Err("a.tsv: cannot read: the disk is gone".to_owned()));
    assert!(reader.next().is_none());
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("missing.tsv")] {
        assert!(
            matches!(data::open(&path), Err(Error::Io { action: "read", path: p, .. }) if p == path)
        );
        assert!(matches!(data::read(&path), Err(Error::Io { .. })));
    }
    let csv = write_to(folder.path(), "a.csv", b"a,b\n");
    let expected = format!(
        "{}:1: the first row must name the columns, such as prompt, chosen and rejected; found a, b",
        csv.display()
    );
    assert_eq!(data::open(&csv).unwrap_err().to_string(), expected);
    let unknown = write_to(folder.path(), "a.txt", b"a\tb\n");
    assert!(matches!(data::open(&unknown), Err(Error::InvalidArgument(_))));

    for content in ["", "\n\n", "\u{feff}"] {
        let empty = write_to(folder.path(), "empty.jsonl", content.as_bytes());
        let expected = format!("{}:1: the file holds no ranked list", empty.display());
        assert_eq!(data::read(&empty).unwrap_err().to_string(), expected);
    }
    let bad = write_to(folder.path(), "bad.tsv", b"a\tb\n\t\n\xFF\n");
    let expected =
        format!("{}:2: responses[0]: is empty; every response needs text", bad.display());
    assert_eq!(data::read(&bad).unwrap_err().to_string(), expected);
}

#[test]
fn ranks_are_written_only_where_they_say_something() {
    let abc = ["a", "b", "c"];
    for (list, expected) in [
        (RankedList::new(abc), r#"{"responses":["a","b","c"]}"#),
        (RankedList::with_ranks(abc, &[-1.0, 0.5, 8.0]), r#"{"responses":["a","b","c"]}"#),
        (
            RankedList::with_ranks(abc, &[1.0, 2.0, 2.0]),
            r#"{"responses":["a","b","c"],"ranks":[1,2,2]}"#,
        ),
        (
            RankedList::from_scores(abc, &[0.0, 1.5, -2.0]).map(|list| list.with_prompt("p")),
            r#"{"prompt":"p","responses":["a","b","c"],"ranks":[2,1,3],"scores":[0.0,1.5,-2.0]}"#,
        ),
        (
            RankedList::new(abc).unwrap().with_margin(0.5),
            r#"{"responses":["a","b","c"],"margin":0.5}"#,
        ),
    ] {
        assert_eq!(serde_json::to_string(&list.unwrap()).unwrap(), expected);
    }
}

#[test]
fn serde_refuses_what_the_readers_refuse() {
    let empty = "responses[1]: is empty; every response needs text".to_owned();
    let object = r#"an object such as {"responses": ["best", "worst"]}"#;
    for (json, expected) in [
        (r#"{"responses": ["a", ""]}"#, empty),
        (r#"[null, ["a", "b"]]"#, format!("invalid type: sequence, expected {object}")),
    ] {
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        let error = serde_json::from_value::<RankedList>(value).unwrap_err();
        assert_eq!(error.to_string(), expected);
        let error = serde_json::from_str::<RankedList>(json).unwrap_err();
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

/// The lists of the Stanford Sentiment Treebank.
#[test]
fn the_review_lists() {
    let Some(folder) = std::env::var_os("REWARD_MODEL_DATA") else {
        eprintln!("skipped: REWARD_MODEL_DATA is not set");
        return;
    };
    for (part, lists) in [("train", 1092), ("dev", 139), ("test", 279)] {
        let read = data::read(Path::new(&folder).join(format!("sst5_{part}.tsv"))).unwrap();
        assert_eq!(read.len(), lists);
        assert!(read.iter().all(|list| list.len() == 5 && list.pair_count() == 10));
    }
}
