#![cfg(feature = "data")]
//! The readers of ranked lists under any input: nothing panics, gets lost, or changes on the way.

use std::fmt::Write as _;
use std::io::BufReader;

use proptest::collection::vec;
use proptest::prelude::*;
use reward_model::data::{Format, Reader};
use reward_model::{Error, RankedList};

/// Results as plain values that can be compared.
fn shown(
    items: impl IntoIterator<Item = Result<RankedList, Error>>,
) -> Vec<Result<RankedList, String>> {
    items.into_iter().map(|item| item.map_err(|error| error.to_string())).collect()
}

fn good(format: Format, file: &str) -> Vec<RankedList> {
    Reader::new(file.as_bytes(), "data", format).map(|list| list.unwrap()).collect()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{1,3}", "\\PC{1,12}", any::<String>()]
        .prop_filter("a response needs text", |text| !text.trim().is_empty())
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-3i8..3).prop_map(f64::from),
        Just(-0.0),
        any::<f64>().prop_filter("finite", |number| number.is_finite()),
    ]
}

/// Texts with one finite number for each.
fn numbered() -> impl Strategy<Value = (Vec<String>, Vec<f64>)> {
    vec((text(), finite()), 1..9).prop_map(|items| items.into_iter().unzip())
}

fn list() -> impl Strategy<Value = RankedList> {
    let scores = proptest::option::of(vec(finite(), 9));
    (numbered(), any::<bool>(), scores, any::<String>()).prop_map(
        |((texts, ranks), strict, scores, prompt)| {
            let count = texts.len();
            let list = match strict {
                true => RankedList::new(texts).unwrap(),
                false => RankedList::with_ranks(texts, &ranks).unwrap(),
            };
            let list = match scores {
                Some(scores) => list.with_scores(&scores[..count]).unwrap(),
                None => list,
            };
            list.with_prompt(prompt)
        },
    )
}

/// Bytes in which everything that readers look at is frequent.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"\xEF\xBB\xBF".to_vec()),
        2 => prop_oneof![Just(b"\t".to_vec()), Just(b" ".to_vec()), Just(b"\r".to_vec())],
        2 => vec(any::<u8>(), 0..4),
        3 => json_line().prop_map(String::into_bytes),
        1 => (json_line(), any::<prop::sample::Index>()).prop_map(|(line, end)| {
            line.as_bytes()[..end.index(line.len())].to_vec()
        }),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// A JSON object with the fields of the format, of any type, any number of times.
fn json_line() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null"),
        Just("true"),
        Just("1"),
        Just("-2.5e3"),
        Just("\"\""),
        Just("\"a\""),
        Just("\"\\u00e9\""),
        Just("[]"),
        Just("{}"),
        Just("NaN"),
        Just("1e999"),
    ]
    .prop_map(str::to_owned);
    let value = scalar.prop_recursive(2, 8, 3, |inner| {
        vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(",")))
    });
    let key = prop_oneof![
        Just("prompt"),
        Just("responses"),
        Just("ranks"),
        Just("scores"),
        Just("chosen"),
        Just("rejected"),
        Just("id"),
    ];
    vec((key, value), 0..4).prop_map(|fields| {
        let fields: Vec<String> =
            fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    })
}

/// How many lines a file has up to the last one that is not blank.
fn count_lines(file: &[u8]) -> usize {
    let file = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file);
    let lines: Vec<&[u8]> = file.split(|&byte| byte == b'\n').collect();
    let blank = |line: &&[u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.iter().all(|&byte| byte == b' ')
    };
    lines.iter().rposition(|line| !blank(line)).map_or(0, |last| last + 1)
}

proptest! {
    #[test]
    fn any_bytes_give_one_item_a_line(file in bytes(), chunk in 1usize..9) {
        for format in [Format::Tsv, Format::Jsonl] {
            let items: Vec<_> = Reader::new(&file[..], "data", format).collect();
            prop_assert_eq!(items.len(), count_lines(&file));
            for (index, item) in items.iter().enumerate() {
                match item {
                    Ok(list) => prop_assert!(!list.is_empty()),
                    Err(Error::Data { line, .. }) => prop_assert_eq!(*line, index as u64 + 1),
                    Err(error) => prop_assert!(false, "{:?}", error),
                }
            }
            let chunked = BufReader::with_capacity(chunk, &file[..]);
            prop_assert_eq!(shown(Reader::new(chunked, "data", format)), shown(items));
        }
        Reader::sniff(&file[..], "data").for_each(drop);
    }

    #[test]
    fn jsonl_round_trip(lists in vec(list(), 0..5), crlf in any::<bool>()) {
        let mut file = String::new();
        for list in &lists {
            let line = serde_json::to_string(list).unwrap();
            write!(file, "{line}{}", if crlf { "\r\n" } else { "\n" }).unwrap();
            let value = serde_json::to_value(list).unwrap();
            prop_assert_eq!(&serde_json::from_value::<RankedList>(value).unwrap(), list);
        }
        let again = good(Format::Jsonl, &file);
        prop_assert_eq!(&again, &lists);
        // `==` takes 0.0 for -0.0.
        for (again, list) in again.iter().zip(&lists) {
            for (again, response) in again.responses().iter().zip(list.responses()) {
                let (again, score) = (again.score(), response.score());
                prop_assert_eq!(again.map(f64::to_bits), score.map(f64::to_bits));
            }
        }
    }

    #[test]
    fn tsv_round_trip(lists in vec(vec(text(), 1..6), 0..5)) {
        let special = ['\t', '\n', '\r', '\u{feff}'];
        let lists: Vec<Vec<String>> = lists
            .into_iter()
            .map(|list| list.iter().map(|text| text.replace(special, "x")).collect())
            .collect();
        let file: String = lists.iter().map(|list| list.join("\t") + "\n").collect();
        let expected: Vec<RankedList> =
            lists.into_iter().map(|list| RankedList::new(list).unwrap()).collect();
        prop_assert_eq!(good(Format::Tsv, &file), expected);
    }
}
