#![cfg(feature = "data")]
//! The formats of other people's preference data, after their published schemas: what each says,
//! and what is said of broken ones.

use std::io::Write;
use std::path::{Path, PathBuf};

use reward_model::data::{self, Dataset, Format, IndexedFile, ReadOptions, Reader};
use reward_model::{Message, RankedList, Result};

/// Every record by its format's first line.
fn sniffed(file: &str) -> (Option<Format>, Vec<Result<RankedList>>) {
    let mut reader = Reader::sniff(file.as_bytes(), "data");
    let lists = reader.by_ref().collect();
    (reader.format(), lists)
}

fn only(file: &str, format: Format) -> RankedList {
    let (found, mut lists) = sniffed(file);
    assert_eq!((found, lists.len()), (Some(format), 1), "{file}");
    lists.remove(0).unwrap()
}

fn refused(format: Format, table: &[(&str, &str)]) {
    for (line, expected) in table {
        let mut items = Reader::new(line.as_bytes(), "data", format);
        let error = items.next().unwrap().unwrap_err().to_string();
        assert_eq!(error, format!("data:1: {expected}"), "{line}");
    }
}

fn file(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::File::create(&path).unwrap().write_all(content.as_bytes()).unwrap();
    path
}

fn user(content: &str) -> Message {
    Message::new("user", content)
}

fn assistant(content: &str) -> Message {
    Message::new("assistant", content)
}

#[test]
fn nectar() {
    let line = r#"{"prompt": "\n\nHuman: 2 + 2?\n\nAssistant: ", "answers": [
        {"answer": "5", "model": "gpt-4", "rank": 2.0}, {"answer": "4", "model": "x", "rank": 1.0},
        {"answer": "22", "model": "y", "rank": 2.0}], "turns": 1, "num_responses": 3,
        "source": ["sharegpt"], "good_natured": true}"#;
    let list = only(&line.replace('\n', " "), Format::Nectar);
    let expected = RankedList::with_ranks(["5", "4", "22"], &[2.0, 1.0, 2.0]).unwrap();
    assert_eq!(list, expected.with_prompt("\n\nHuman: 2 + 2?\n\nAssistant: "));
    refused(
        Format::Nectar,
        &[
            (r#"{"prompt": "p"}"#, "answers: is missing; expected an array of answers"),
            (r#"{"answers": {}}"#, "answers: expected an array of answers, found an object"),
            (
                r#"{"answers": [3]}"#,
                "answers[0]: expected an answer with its rank, found the number 3",
            ),
            (r#"{"answers": [{"answer": "a"}]}"#, "answers[0].rank: is missing; expected a number"),
            (
                r#"{"answers": [{"answer": "a", "rank": "1"}]}"#,
                "answers[0].rank: expected a finite number, found a string",
            ),
            (
                r#"{"answers": [{"answer": "", "rank": 1}]}"#,
                "answers[0]: is empty; every response needs text",
            ),
        ],
    );
}

#[test]
fn nemo() {
    let line = r#"{"context": [{"role": "user", "content": "2 + 2?"}], "completions": [{"rank": 1, "completion": [{"role": "assistant", "content": "5"}]}, {"rank": 0, "completion": [{"role": "assistant", "content": "4"}]}]}"#;
    let expected = RankedList::from_conversations(
        Some(vec![user("2 + 2?")]),
        vec![vec![assistant("5")], vec![assistant("4")]],
        &"B > A".parse().unwrap(),
    );
    assert_eq!(only(line, Format::Nemo), expected.unwrap());

    let line = r#"{"context": "2 + 2?", "completions": [{"rank": 0, "completion": "4"}, {"rank": 1, "completion": "5"}]}"#;
    let expected = RankedList::new(["4", "5"]).unwrap().with_prompt("2 + 2?");
    assert_eq!(only(line, Format::Nemo), expected);
    refused(
        Format::Nemo,
        &[
            ("{}", "completions: is missing; expected an array of completions"),
            (
                r#"{"completions": [{"completion": "a"}]}"#,
                "completions[0].rank: is missing; expected a number",
            ),
            (
                r#"{"context": "c", "completions": [{"rank": 0, "completion": []}]}"#,
                "context: is a string, but there are responses of messages; give messages",
            ),
            (
                r#"{"context": 3, "completions": []}"#,
                "context: expected a string or an array of messages, found the number 3",
            ),
        ],
    );
}

#[test]
fn help_steer() {
    let line = |preference: &str| {
        format!(
            r#"{{"domain": "general", "language": "english", "context": [{{"role": "user", "content": "2 + 2?"}}], "response1": "4", "response2": "5", "overall_preference": {preference}, "individual_preference": []}}"#
        )
    };
    for (preference, ranking) in [("-3", "A > B"), ("0", "A = B"), ("1", "B > A")] {
        let list = only(&line(preference), Format::HelpSteer3);
        assert_eq!(list.ranking().to_string(), ranking);
        assert_eq!(list.conversation(), Some(&[user("2 + 2?")][..]));
    }
    refused(
        Format::HelpSteer3,
        &[
            (
                r#"{"response1": "a", "overall_preference": 1}"#,
                "response2: is missing; expected a string or messages",
            ),
            (
                r#"{"response1": "a", "response2": " ", "overall_preference": 1}"#,
                "response2: is only white space; every response needs text",
            ),
            (
                r#"{"response1": "a", "response2": "b"}"#,
                "overall_preference: is missing; expected a number, negative where the first \
                 response is better, 0 for a tie",
            ),
        ],
    );
}

#[test]
fn ultra_feedback() {
    let line = r#"{"source": "s", "instruction": "2 + 2?", "models": ["m"], "completions": [{"response": "5", "overall_score": 3.5, "annotations": {}}, {"response": "4", "overall_score": 9.0}, {"response": "four", "overall_score": 9}]}"#;
    let expected = RankedList::from_scores(["5", "4", "four"], &[3.5, 9.0, 9.0]).unwrap();
    assert_eq!(only(line, Format::UltraFeedback), expected.with_prompt("2 + 2?"));

    let line = |chosen: f64, rejected: f64| {
        let messages = |answer: &str| {
            format!(
                r#"[{{"content": "2 + 2?", "role": "user"}}, {{"content": "{answer}", "role": "assistant"}}]"#
            )
        };
        format!(
            r#"{{"prompt": "2 + 2?", "prompt_id": "x", "chosen": {}, "rejected": {}, "messages": [], "score_chosen": {chosen:?}, "score_rejected": {rejected:?}}}"#,
            messages("4"),
            messages("5")
        )
    };
    for (scores, ranking) in [((8.0, 2.5), "A > B"), ((7.0, 7.0), "A = B")] {
        let list = only(&line(scores.0, scores.1), Format::UltraFeedback);
        assert_eq!(list.ranking().to_string(), ranking);
        assert_eq!(list.conversation(), Some(&[user("2 + 2?")][..]));
        assert_eq!(list.responses()[0].messages(), Some(&[assistant("4")][..]));
        assert_eq!(list.responses()[0].score(), Some(scores.0));
    }
    // TRL's documentation makes a margin of the scores.
    let pair =
        r#"{"chosen": "a", "rejected": "b", "score_chosen": 8, "score_rejected": 5, "margin": 3}"#;
    assert_eq!(only(pair, Format::UltraFeedback).margin(), Some(3.0));
    refused(
        Format::UltraFeedback,
        &[
            (
                r#"{"chosen": "a", "rejected": "b", "score_chosen": 8, "score_rejected": 5, "margin": "3"}"#,
                "margin: expected a finite number, found a string",
            ),
            ("{}", "chosen: is missing; expected messages or a string"),
            (
                r#"{"completions": [{"response": "a"}]}"#,
                "completions[0].overall_score: is missing; expected a number",
            ),
            (
                r#"{"completions": [{"response": "a", "overall_score": "N/A"}]}"#,
                "completions[0].overall_score: expected a finite number, found a string",
            ),
            (
                r#"{"chosen": "a", "rejected": "b", "score_chosen": 1}"#,
                "score_rejected: is missing; expected a number",
            ),
            (
                r#"{"chosen": "a", "rejected": "", "score_chosen": 1, "score_rejected": 1}"#,
                "rejected: is empty; every response needs text",
            ),
        ],
    );
}

const MESSAGES: &str = r#"{"message_id": "1", "parent_id": null, "text": "2 + 2?", "role": "prompter", "rank": null}
{"message_id": "4", "parent_id": "2", "text": "Sure?", "role": "prompter", "rank": 0}
{"message_id": "2", "parent_id": "1", "text": "5", "role": "assistant", "rank": 1}
{"message_id": "3", "parent_id": "1", "text": "4", "role": "assistant", "rank": 0, "deleted": false}
{"message_id": "5", "parent_id": "1", "text": "?", "role": "assistant", "rank": null}
{"message_id": "6", "parent_id": "4", "text": "No.", "role": "assistant", "rank": 0}
{"message_id": "7", "parent_id": "4", "text": "Yes.", "role": "assistant", "rank": 1}
{"message_id": "8", "parent_id": "4", "text": "gone", "role": "assistant", "rank": 2, "deleted": true}
"#;

const TREE: &str = r#"{"message_tree_id": "1", "tree_state": "ready_for_export", "prompt": {"message_id": "1", "text": "2 + 2?", "role": "prompter", "replies": [{"message_id": "2", "parent_id": "1", "text": "5", "role": "assistant", "rank": 1, "replies": [{"message_id": "4", "text": "Sure?", "role": "prompter", "replies": [{"message_id": "6", "text": "No.", "role": "assistant", "rank": 0, "replies": []}, {"message_id": "7", "text": "Yes.", "role": "assistant", "rank": 1}, {"message_id": "8", "text": "gone", "role": "assistant", "rank": 2, "deleted": true}]}]}, {"message_id": "3", "text": "4", "role": "assistant", "rank": 0}, {"message_id": "5", "text": "?", "role": "assistant", "rank": null}]}}
"#;

#[test]
fn open_assistant() {
    let first = RankedList::with_ranks(["5", "4"], &[1.0, 0.0]).unwrap();
    let second = RankedList::new(["No.", "Yes."]).unwrap();
    let expected = [
        first.with_conversation(vec![user("2 + 2?")]),
        second.with_conversation(vec![user("2 + 2?"), assistant("5"), user("Sure?")]),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("flat.jsonl", MESSAGES), ("trees.jsonl", TREE)] {
        let path = file(folder.path(), name, content);
        assert_eq!(data::open(&path).unwrap().format(), Some(Format::OpenAssistant));
        assert_eq!(data::read(&path).unwrap(), expected, "{name}");
        let indexed = IndexedFile::open(&path).unwrap();
        assert_eq!((indexed.len(), indexed.get(1).unwrap()), (2, expected[1].clone()));
    }
}

#[test]
fn broken_open_assistant() {
    let folder = tempfile::tempdir().unwrap();
    let circle = r#"{"message_id": "1", "parent_id": "2", "text": "a", "role": "assistant", "rank": 0}
{"message_id": "2", "parent_id": "1", "text": "b", "role": "assistant", "rank": 0}
{"message_id": "3", "parent_id": "1", "text": "c", "role": "assistant", "rank": 1}"#;
    for (from, to, expected) in [
        (r#""message_id": "5""#, r#""message_id": "2""#, "5: message_id: is that of an earlier"),
        (r#""parent_id": "2""#, r#""parent_id": "9""#, "2: parent_id: no message of the file is"),
        (r#""text": "4""#, r#""text": """#, "1: responses[1]: is empty"),
        (r#""text": "4""#, r#""text": 4"#, "4: text: expected a string, found the number 4"),
        (r#""rank": 2"#, r#""rank": "2""#, "8: rank: expected a finite number"),
        (r#"{"message_id": "4""#, r#"{"message_id": "4"#, "2: cannot read JSON"),
        (MESSAGES, circle, "1: parent_id: is in a conversation of more than 1000 messages"),
    ] {
        let path = file(folder.path(), "broken.jsonl", &MESSAGES.replace(from, to));
        let error = data::open(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:{expected}", path.display())), "{error}");
    }
    let path = file(folder.path(), "t.jsonl", &TREE.replace(r#""text": "No.""#, r#""text": 1"#));
    let error = data::open(&path).unwrap_err().to_string();
    assert!(error.contains("t.jsonl:1: prompt.replies[0].replies[0].replies[0].text: "), "{error}");

    let stream = Reader::sniff(MESSAGES.as_bytes(), "<stdin>").next().unwrap();
    assert!(stream.unwrap_err().to_string().contains("give a file, not a stream"));
}

#[test]
fn a_format_that_is_named_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "a.jsonl", r#"{"responses": ["a"], "answers": []}"#);
    let options = ReadOptions::default().with_format(Format::Nectar);
    let error = data::open_with(&path, &options).unwrap().next().unwrap().unwrap_err();
    assert!(error.to_string().contains(":1: answers: is empty"), "{error}");

    for format in ["tsv", "jsonl", "nectar", "open-assistant", "help-steer3", "nemo"] {
        assert_eq!(format.parse::<Format>().unwrap().to_string(), format);
    }
    let error = "xml".parse::<Format>().unwrap_err().to_string();
    assert!(error.starts_with("\"xml\" is no format of ranked lists; expected one of tsv, "));
}

/// What any format says is written as ours and read back.
#[test]
fn every_format_becomes_ours() {
    let nectar =
        r#"{"prompt": "p", "answers": [{"answer": "a", "rank": 1}, {"answer": "b", "rank": 1}]}"#;
    let steer = r#"{"context": [{"role": "user", "content": "p"}], "response1": "a", "response2": "b", "overall_preference": 2}"#;
    let ultra = r#"{"instruction": "p", "completions": [{"response": "a", "overall_score": 0.1}]}"#;
    for line in [nectar, steer, ultra] {
        let list = sniffed(line).1.remove(0).unwrap();
        let written = serde_json::to_string(&list).unwrap();
        assert_eq!(only(&written, Format::Jsonl), list);
    }
}

/// A damaged record does not make those after it another format's.
#[test]
fn the_first_record_that_tells_the_format_tells_it() {
    let good = r#"{"prompt": "p", "answers": [{"answer": "a", "rank": 1}]}"#;
    let file = format!("{{\"id\": 1}}\n{}\n{good}\n", &good[..30]);
    let (format, lists) = sniffed(&file);
    assert_eq!(format, Some(Format::Nectar));
    assert!(lists[0].is_err() && lists[1].is_err() && lists[2].is_ok());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, file).unwrap();
    assert!(reward_model::data::open(path).unwrap().nth(2).unwrap().is_ok());
}
