#![cfg(feature = "data")]
//! Labelled texts: what is read, what is refused and in which words, what is written.

use proptest::collection::vec;
use proptest::prelude::*;
use reward_model::data::{self, Reader};
use reward_model::{Error, Label, LabelledText, Result};

fn read(file: &str) -> Vec<Result<LabelledText>> {
    Reader::labelled(file.as_bytes(), "data").collect()
}

fn labelled(text: &str, label: Label) -> LabelledText {
    LabelledText::new(text, label).unwrap()
}

#[test]
fn texts_answers_and_every_kind_of_label() {
    let file = concat!(
        "\u{feff}{\"text\": \"a\", \"label\": 0}\r\n",
        "{\"label\": 3.0, \"text\": \"a\", \"id\": {\"label\": 1}}\n",
        "{\"prompt\": \"p\", \"response\": \" a \", \"label\": [1, -0.5, 2e3]}\n",
        "{\"prompt\": \"p\", \"text\": \"a\", \"label\": -1, \"response\": null}\n",
        "{\"prompt\": \"\", \"response\": \"a\", \"label\": 1e2}\n",
        "{\"prompt\": null, \"text\": \"a\", \"label\": 18446744073709551616}\n",
        "{\"text\": \"a\", \"label\": [7]}\n\n",
    );
    let texts: Vec<LabelledText> = read(file).into_iter().map(|text| text.unwrap()).collect();
    let expected = [
        labelled("a", Label::Class(0)),
        labelled("a", Label::Value(3.0)),
        labelled(" a ", Label::Values(vec![1.0, -0.5, 2000.0])).with_prompt("p"),
        labelled("a", Label::Value(-1.0)).with_prompt("p"),
        labelled("a", Label::Value(100.0)),
        labelled("a", Label::Value(18446744073709551616.0)),
        labelled("a", Label::Values(vec![7.0])),
    ];
    assert_eq!(texts, expected);
    assert_eq!((texts[2].prompt(), texts[2].text()), (Some("p"), " a "));
}

#[test]
fn classes_serve_as_values_but_values_are_no_classes() {
    for (label, class, values) in [
        (Label::Class(2), Some(2), vec![2.0]),
        (Label::Value(2.0), None, vec![2.0]),
        (Label::Values(vec![2.0]), None, vec![2.0]),
        (Label::Values(vec![0.5, -3.0]), None, vec![0.5, -3.0]),
    ] {
        assert_eq!((label.as_class(), label.values()), (class, values), "{label:?}");
    }
}

#[test]
fn bad_lines_say_what_is_wrong_and_the_next_one_is_read() {
    let label = "a class (an integer from 0), a number, or an array of numbers";
    let object = r#"an object such as {"text": "a delight", "label": 1}"#;
    let table = [
        ("", "the line is blank; remove it, or put back what it lost".to_owned()),
        ("{\"text\": \"a\"", "cannot read JSON: EOF while parsing an object at column 12; each line must hold one whole JSON object".to_owned()),
        (r#"{"text": "a", "label": NaN}"#, "cannot read JSON: expected value at column 24; JSON has no NaN and no Infinity".to_owned()),
        (r#"{"text": "a", "label": 1e999}"#, "cannot read JSON: number out of range at column 28".to_owned()),
        (r#"["a", 1]"#, format!("expected {object}, found an array")),
        (r#"{"label": 1}"#, "has neither \"text\" nor \"response\"; give the text that the label is of".to_owned()),
        (r#"{"text": "a", "response": "a", "label": 1}"#, "has both \"text\" and \"response\"; give the text once".to_owned()),
        (r#"{"text": 5, "label": 1}"#, "text: expected a string, found the number 5".to_owned()),
        (r#"{"response": ["a"], "label": 1}"#, "response: expected a string, found an array".to_owned()),
        (r#"{"prompt": 1, "text": "a", "label": 1}"#, "prompt: expected a string, found the number 1".to_owned()),
        (r#"{"text": "", "label": 1}"#, "text: is empty; give the text that the label is of".to_owned()),
        (r#"{"response": " \t", "label": 1}"#, "response: is only white space; give the text that the label is of".to_owned()),
        (r#"{"text": "a"}"#, format!("label: is missing; expected {label}")),
        (r#"{"text": "a", "label": null}"#, format!("label: is missing; expected {label}")),
        (r#"{"text": "a", "label": "good"}"#, format!("label: expected {label}, found a string")),
        (r#"{"text": "a", "label": true}"#, format!("label: expected {label}, found true")),
        (r#"{"text": "a", "label": {}}"#, format!("label: expected {label}, found an object")),
        (r#"{"text": "a", "label": []}"#, "label: is an empty array; give at least one number".to_owned()),
        (r#"{"text": "a", "label": [1, "2"]}"#, "label[1]: expected a finite number, found a string".to_owned()),
        (r#"{"text": "a", "label": [[1]]}"#, "label[0]: expected a finite number, found an array".to_owned()),
    ];
    let good = r#"{"text": "a", "label": 1}"#;
    for (line, expected) in table {
        let items = read(&format!("{good}\n{line}\n{good}\n"));
        assert_eq!(items.len(), 3, "{line}");
        assert!(items[0].is_ok() && items[2].is_ok(), "{line}");
        let error = items[1].as_ref().unwrap_err();
        assert!(matches!(error, Error::Data { line: 2, .. }), "{line}: {error:?}");
        assert_eq!(error.to_string(), format!("data:2: {expected}"), "{line}");
    }
}

#[test]
fn nonsense_cannot_be_made() {
    let nan = f64::NAN;
    for (text, label, expected) in [
        ("", Label::Class(0), "text: is empty; give the text that the label is of"),
        ("a", Label::Value(nan), "label: NaN is not a finite number; give one"),
        (
            "a",
            Label::Values(vec![0.0, f64::INFINITY]),
            "label[1]: inf is not a finite number; give one",
        ),
        ("a", Label::Values(vec![]), "label: is an empty array; give at least one number"),
    ] {
        let error = LabelledText::new(text, label).unwrap_err();
        assert!(matches!(error, Error::LabelledText { .. }), "{error:?}");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let good =
        write("a.jsonl", "{\"text\": \"a\", \"label\": 1}\n{\"text\": \"b\", \"label\": 0.5}");
    let texts = data::read_labelled(&good).unwrap();
    assert_eq!(texts, [labelled("a", Label::Class(1)), labelled("b", Label::Value(0.5))]);
    assert_eq!(data::open_labelled(&good).unwrap().count(), 2);

    let empty = write("empty.jsonl", "\n");
    let expected = format!("{}:1: the file holds no labelled text", empty.display());
    assert_eq!(data::read_labelled(&empty).unwrap_err().to_string(), expected);

    let tsv = write("a.tsv", "a\t1\n");
    let error = data::read_labelled(&tsv).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
    assert!(error.to_string().contains("are read from JSONL, not from TSV"), "{error}");

    let missing = data::read_labelled(folder.path().join("none.jsonl")).unwrap_err();
    assert!(matches!(missing, Error::Io { action: "read", .. }), "{missing:?}");
    let lists = write("lists.jsonl", "{\"responses\": [\"a\", \"b\"]}\n");
    let expected = "1: has neither \"text\" nor \"response\"; give the text that the label is of";
    assert!(data::read_labelled(lists).unwrap_err().to_string().ends_with(expected));
}

#[test]
fn serde_refuses_what_the_reader_refuses() {
    let error = serde_json::from_str::<LabelledText>(r#"{"text": "a", "label": []}"#).unwrap_err();
    assert!(error.to_string().starts_with("label: is an empty array"), "{error}");
    assert!(serde_json::from_str::<Label>("[]").is_err());
    assert!(serde_json::from_str::<Label>("\"a\"").is_err());
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-3i8..3).prop_map(f64::from),
        Just(-0.0),
        any::<f64>().prop_filter("finite", |number| number.is_finite()),
    ]
}

fn label() -> impl Strategy<Value = Label> {
    prop_oneof![
        any::<usize>().prop_map(Label::Class),
        finite().prop_map(Label::Value),
        vec(finite(), 1..5).prop_map(Label::Values),
    ]
}

proptest! {
    #[test]
    fn round_trip(
        texts in vec((any::<String>(), "\\PC{0,8}x", label()), 0..6),
    ) {
        let texts: Vec<LabelledText> = texts
            .into_iter()
            .map(|(prompt, text, label)| LabelledText::new(text, label).unwrap().with_prompt(prompt))
            .collect();
        let file: String =
            texts.iter().map(|text| serde_json::to_string(text).unwrap() + "\n").collect();
        let again: Vec<LabelledText> = read(&file).into_iter().map(|text| text.unwrap()).collect();
        prop_assert_eq!(&again, &texts);
        for (again, text) in again.iter().zip(&texts) {
            // `==` takes 0.0 for -0.0.
            let bits = |label: &Label| label.values().into_iter().map(f64::to_bits).collect::<Vec<_>>();
            prop_assert_eq!(bits(again.label()), bits(text.label()));
            let json = serde_json::to_value(text.label()).unwrap();
            prop_assert_eq!(&serde_json::from_value::<Label>(json).unwrap(), text.label());
        }
    }
}
