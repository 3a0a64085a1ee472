//! The page about a run: what it shows of whole and of broken folders, and that texts of the data
//! stay texts.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use reward_model::{report, Error};
use serde_json::{json, Value};
use tempfile::TempDir;

const HOSTILE: &str =
    "</bdi></svg><script>document.title='pwned'</script>\"'&\u{202e}\0<img src=x \
                       onerror=alert(1)>";

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn with(self, name: &str, content: impl AsRef<[u8]>) -> Folder {
        fs::write(self.path().join(name), content).unwrap();
        self
    }

    fn with_events(self, events: &[Value]) -> Folder {
        self.with("events.jsonl", lines(events))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn page(&self) -> String {
        let written = report::write(self.path()).unwrap();
        assert_eq!(written[0], self.path().join("report.html"));
        assert!(written.iter().all(|path| path.is_file()));
        fs::read_to_string(&written[0]).unwrap()
    }

    fn has(&self, picture: &str) -> bool {
        let exists = |extension| {
            self.path().join("report").join(picture).with_extension(extension).is_file()
        };
        assert_eq!(exists("svg"), exists("png"), "{picture}");
        exists("svg")
    }
}

fn lines(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("{object}\n")).collect()
}

fn step(step: u64) -> Value {
    json!({
        "event": "step", "step": step, "epoch": 1, "loss": 1.0 / step as f64, "accuracy": 0.75,
        "margin": 0.5, "learning_rate": 1e-4, "grad_norm": 2.0, "lists": 8, "tokens": 100,
        "seconds": step as f64
    })
}

fn evaluated(step: u64, set: &str, accuracy: f64) -> Value {
    json!({
        "event": "evaluated", "step": step, "epoch": 1, "set": set,
        "evaluation": {
            "loss": 0.5, "pairwise_accuracy": accuracy, "kendall_tau": null, "mean_margin": 0.25,
            "lists": 3, "pairs": 12, "pairwise_accuracy_interval": [accuracy - 0.0625, 0.9375],
            "reliability": [
                {"from": 0.5, "to": 0.75, "pairs": 12, "confidence": 0.6, "accuracy": 0.5625},
                {"from": 0.75, "to": 1.0, "pairs": 0, "confidence": null, "accuracy": null}
            ],
            "accuracy_by_rank_distance": [{"distance": 1, "pairs": 7, "accuracy": 0.6875}],
            "accuracy_by_list_size": [{"size": 4, "lists": 3, "pairs": 12, "accuracy": 0.8125}]
        }
    })
}

fn list(set: &str, texts: [&str; 2], rewards: [f64; 2]) -> Value {
    json!({
        "set": set, "list": 0, "prompt": texts[0],
        "responses": [
            {"text": texts[0], "rank": 1, "reward": rewards[0]},
            {"text": texts[1], "rank": 2, "reward": rewards[1]}
        ]
    })
}

/// Names of elements with the names of their attributes, in order. Whatever is between a `<` and a
/// `>` is taken for an element, as a browser would.
fn elements(html: &str) -> Vec<String> {
    let pieces = html.split('<').skip(1).map(|piece| piece.split('>').next().unwrap());
    pieces
        .map(|tag| {
            let outside_quotes: String = tag.split('"').step_by(2).collect();
            outside_quotes.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// The page without its pictures, and the pictures.
fn apart(html: &str) -> (String, String) {
    let (mut page, mut pictures) = (String::new(), String::new());
    let mut parts = html.split("<svg");
    page += parts.next().unwrap();
    for part in parts {
        let (picture, rest) = part.split_once("</svg>").unwrap();
        write!(pictures, "<svg{picture}").unwrap();
        page += rest;
    }
    (page, pictures)
}

/// What a reader sees of a text in the page, as the characters that it had.
fn seen(html: &str) -> String {
    let mut text = html
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&");
    while let Some((before, rest)) = text.split_once("⟦U+") {
        let (code, after) = rest.split_once('⟧').unwrap();
        let character = char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap();
        // Marked so that it is not taken for the start of another.
        text = format!("{before}{character}{after}");
    }
    text
}

/// A folder with one text wherever data can bring texts.
fn folder_with_text(text: &str) -> Folder {
    Folder::new()
        .with_events(&[evaluated(0, text, 0.5), evaluated(1, text, 0.75)])
        .with("evaluation.jsonl", lines(&[list(text, [text, text], [0.0, 1.0])]))
        .with(
            "data_report.json",
            json!({"field": text, "texts": [text], "row": [{"a": text}]}).to_string(),
        )
        .with("train_config.json", json!({"name": text}).to_string())
}

#[test]
fn a_whole_folder_is_shown_whole() {
    let folder = Folder::new()
        .with_events(&[
            json!({"event": "started", "schema": 1, "steps": 3, "lists": 270,
                   "groups": [{"name": "layer 0", "parameters": 10, "trainable": 10}]}),
            evaluated(0, "eval", 0.5),
            step(1),
            step(2),
            step(3),
            json!({"event": "of a later version", "step": 3}),
            evaluated(3, "eval", 0.8125),
        ])
        .with("evaluation.jsonl", lines(&[list("eval", ["Superb.", "好的。"], [1.5, -0.5])]))
        .with("data_report.json", r#"{"response_lengths": {"longest": 83}}"#)
        .with("train_config.json", r#"{"learning_rate": 0.0005}"#);
    let page = folder.page();
    for part in [
        "3 steps",
        "270 training lists",
        "layer 0",
        "0.812",
        "0.75",
        "between 0.750 and 0.938",
        "0.688",
        "0.562",
        "Superb.",
        "好的。",
        "Lists in the right order from first to last: 1 of 1",
        "Response lengths",
        "83",
        "Learning rate",
        "0.0005",
        "before training",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    for picture in [
        "loss",
        "accuracy",
        "margin",
        "learning-rate",
        "gradient-norm",
        "rewards-eval",
        "reliability-eval",
    ] {
        assert!(folder.has(picture), "{picture}");
    }
}

#[test]
fn pictures_are_complete_and_not_empty() {
    let folder = Folder::new().with_events(&[step(1), step(2)]);
    folder.page();
    let svg = fs::read_to_string(folder.path().join("report/loss.svg")).unwrap();
    assert!(svg.starts_with("<svg xmlns=") && svg.trim_end().ends_with("</svg>"));
    let png = fs::File::open(folder.path().join("report/loss.png")).unwrap();
    let mut reader = png::Decoder::new(std::io::BufReader::new(png)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height), (1320, 810));
    let blue = |pixel: &&[u8]| pixel[2] > 150 && pixel[0] < 80;
    assert!(pixels.chunks(3).filter(blue).count() > 100, "the curve is not there");
    let dark = |pixel: &&[u8]| pixel.iter().all(|&channel| channel < 90);
    assert!(pixels.chunks(3).filter(dark).count() > 100, "the text is not there");
}

#[test]
fn what_is_missing_is_left_out() {
    let folder = Folder::new().with_events(&[step(1)]);
    let page = folder.page();
    assert!(page.contains("No held-out data have been evaluated"));
    assert!(page.contains("There is no evaluation.jsonl"));
    assert!(!page.contains("id=\"data\"") && !page.contains("id=\"settings\""));
    assert!(folder.has("loss") && !folder.has("rewards-eval"));
}

#[test]
fn a_run_without_a_step_has_a_page() {
    for events in ["", "\n", "{\"event\":\"started\",\"schema\":1,\"steps\":10}\n"] {
        let folder = Folder::new().with("events.jsonl", events);
        let page = folder.page();
        assert!(page.contains("no step yet") && page.contains("No step has been recorded"));
        assert!(!folder.has("loss"));
    }
}

#[test]
fn no_records_are_an_error_that_says_what_to_do() {
    let folder = Folder::new();
    let error = report::write(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Run { .. }));
    assert!(error.to_string().contains("no events.jsonl"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn records_of_a_newer_version_are_an_error() {
    let folder = Folder::new().with_events(&[json!({"event": "started", "schema": 2})]);
    let error = report::write(folder.path()).unwrap_err().to_string();
    assert!(error.contains("schema 2") && error.contains("events.jsonl"), "{error}");
}

#[test]
fn broken_lines_are_left_out_and_counted_but_the_last_half_one() {
    let mut events = lines(&[step(1)]);
    events += "not json\n[1, 2]\n";
    events += &lines(&[step(2)]);
    let whole = Folder::new().with("events.jsonl", &events).page();
    assert!(whole.contains("Lines of events.jsonl that are no JSON objects and are left out: 2, the first of them line 2."), "{whole}");
    assert!(whole.contains("Steps in events.jsonl: 2; evaluations: 0."));

    let mut bytes = events.into_bytes();
    bytes.extend(b"\xff\xfe\n{\"event\":\"step\",\"st");
    let cut = Folder::new().with("events.jsonl", bytes).page();
    assert!(cut.contains("no JSON objects and are left out: 3,"));
    assert!(cut.contains("Steps in events.jsonl: 2; evaluations: 0."));
}

#[test]
fn other_files_that_are_broken_do_not_hide_the_rest() {
    let page = Folder::new()
        .with_events(&[step(1)])
        .with("data_report.json", "[1, 2")
        .with("train_config.json", "3")
        .with("evaluation.jsonl", "{}\n{\"responses\":[{}, 7]}\n<b>\n")
        .page();
    assert!(page.contains("data_report.json cannot be shown"));
    assert!(page.contains("train_config.json cannot be shown"));
    assert!(
        page.contains("Lines of evaluation.jsonl that are no JSON objects and are left out: 1,")
    );
}

#[test]
fn numbers_that_are_none_or_too_large_do_not_break_a_picture() {
    let odd = |step: u64, loss: Value| json!({"event": "step", "step": step, "loss": loss});
    let folder = Folder::new().with_events(&[
        odd(1, Value::Null),
        odd(2, json!(1e300)),
        odd(3, json!("many")),
        odd(4, json!(-1e29)),
        odd(u64::MAX, json!(1e-300)),
        json!({"event": "evaluated", "step": 1, "evaluation": {
            "loss": 0, "reliability": [7, {"from": 1, "to": 0, "pairs": -3},
                {"from": -5, "to": 9, "pairs": 1e20, "confidence": 70, "accuracy": -2}]}}),
    ]);
    assert!(folder.page().contains("Steps in events.jsonl: 5; evaluations: 1."));
    assert!(folder.has("loss") && !folder.has("margin"));
}

#[test]
fn a_step_that_was_made_twice_counts_once() {
    let events = [
        step(1),
        step(2),
        evaluated(2, "eval", 0.5),
        step(3),
        json!({"event": "resumed", "step": 1, "damaged": []}),
        step(2),
        evaluated(2, "eval", 0.75),
    ];
    let page = Folder::new().with_events(&events).page();
    assert!(page.contains("Steps in events.jsonl: 2; evaluations: 1."));
    assert!(page.contains("Times the run was resumed: 1."));
}

#[test]
fn the_result_is_that_of_the_weights_that_were_kept() {
    let events = [
        step(1),
        evaluated(1, "eval", 0.875),
        step(2),
        evaluated(2, "eval", 0.625),
        json!({"event": "kept", "step": 1, "epoch": 1}),
    ];
    let page = Folder::new().with_events(&events).page();
    assert!(page.contains("<p class=\"figure\">0.875</p>") && !page.contains("0.625</p>"));
    assert!(page.contains("weights of step 1 kept"));
    assert!(page.contains("after the last step, 2, they were: accuracy 0.625"));
}

#[test]
fn long_runs_make_small_pages_that_say_so() {
    let mut events = String::new();
    for number in 1..=100_000 {
        writeln!(events, "{}", step(number)).unwrap();
    }
    let page = Folder::new().with("events.jsonl", events).page();
    assert!(page.len() < 400_000, "{} bytes", page.len());
    assert!(
        page.contains("Of 100\u{202f}000 steps, the lowest and highest of each stretch are drawn.")
    );
    let short = Folder::new().with_events(&[step(1), step(2)]).page();
    assert!(!short.contains("of each stretch"));
}

#[test]
fn a_report_replaces_the_one_before_and_leaves_nothing_else() {
    let folder = Folder::new().with_events(&[step(1)]);
    let first = folder.page();
    let folder = folder.with_events(&[step(1), step(2)]);
    assert_ne!(folder.page(), first);
    for folder in [folder.path().to_owned(), folder.path().join("report")] {
        for entry in fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with('.') && !name.ends_with(".part"), "{name}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let folder = Folder::new().with_events(&[step(1)]).with("report", "a file");
    let error = report::write(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }));
    assert!(error.to_string().contains("report"), "{error}");
}

#[test]
fn sets_whose_names_are_alike_have_pictures_of_their_own() {
    let folder = Folder::new().with_events(&[
        evaluated(1, "../集", 0.5),
        evaluated(1, "../合", 0.5),
        evaluated(1, "Eval", 0.5),
    ]);
    folder.page();
    assert!(folder.has("reliability-____") && folder.has("reliability-____-2"));
    assert!(folder.has("reliability-eval"));
}

#[test]
fn the_page_forbids_scripts_and_requests_and_has_none() {
    let page = folder_with_text(HOSTILE).page();
    assert!(page.contains(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'; img-src data:;"
    ));
    for element in elements(&page) {
        let name = element.split_whitespace().next().unwrap_or_default();
        let forbidden = ["script", "img", "iframe", "object", "embed", "link", "form", "base"];
        assert!(!forbidden.contains(&name), "<{element}>");
        assert!(!element.contains(" on") && !element.contains(" src"), "<{element}>");
    }
    assert!(!page.contains('\u{202e}') && !page.contains('\0'));
}

#[test]
fn pictures_that_stand_alone_hold_no_markup_of_the_data_either() {
    let folder = folder_with_text(HOSTILE);
    report::write(folder.path()).unwrap();
    for entry in fs::read_dir(folder.path().join("report")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "svg") {
            only_shapes(&fs::read_to_string(path).unwrap());
        }
    }
}

fn only_shapes(svg: &str) {
    const SHAPES: &str = "svg line polyline polygon rect circle text";
    const ATTRIBUTES: &str = "xmlns viewBox width height role aria-label stroke-linejoin \
        stroke-linecap x y x1 y1 x2 y2 cx cy r points dx dy fill opacity stroke stroke-width \
        text-anchor font-family font-size";
    let known = |names: &str, name: &str| names.split_whitespace().any(|known| known == name);
    for element in elements(svg) {
        let mut parts = element.trim_matches('/').split_whitespace();
        let attributes_known = |name: &str| known(ATTRIBUTES, name.trim_end_matches(['=', '/']));
        assert!(known(SHAPES, parts.next().unwrap_or_default()), "<{element}>");
        assert!(parts.filter(|part| *part != "/").all(attributes_known), "<{element}>");
    }
}

/// Texts of pieces that could end an element, an attribute or the policy, and of anything else.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("</bdi>".to_owned()),
        Just("</svg><script>x</script>".to_owned()),
        Just("\" onload=\"x".to_owned()),
        Just("' style='x".to_owned()),
        Just("]]>--><!--".to_owned()),
        Just("&lt;&#60;&amp".to_owned()),
        Just("</style></title>".to_owned()),
        "[\u{0}-\u{9f}\u{61c}\u{200e}-\u{202e}\u{2066}-\u{2069}\u{feff}\u{fffe}]{1,4}",
        "\\PC{1,6}",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever a text holds, the page has the elements that it has with a harmless one as long, and shows
    /// every character.
    #[test]
    fn texts_stay_texts(text in texts()) {
        prop_assume!(!text.contains('⟦'));
        let (page, pictures) = apart(&folder_with_text(&text).page());
        let (plain, _) = apart(&folder_with_text(&"x".repeat(text.chars().count())).page());
        prop_assert!(elements(&page) == elements(&plain), "{text:?} adds or removes an element");
        only_shapes(&pictures);

        let start = "<p class=\"prompt\" dir=\"auto\"><bdi>";
        let shown = page.split_once(start).unwrap().1.split_once("</bdi>").unwrap().0;
        prop_assert_eq!(seen(shown), text.replace("\r\n", "\n"));
    }
}
