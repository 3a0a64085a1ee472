#![cfg(feature = "train")]
//! The examples as their users meet them: what they print, what they leave, how they fail.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// An example as `cargo test` has just built it, beside this test's own folder.
fn example(name: &str) -> Command {
    let me = std::env::current_exe().unwrap();
    let folder = me.parent().and_then(Path::parent).unwrap().join("examples");
    let program = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.is_file(),
        "{} is not there; run all of `cargo test`, or build the examples first",
        program.display()
    );
    Command::new(program)
}

/// Runs to the end and gives standard output and standard error.
fn run(command: &mut Command) -> (Output, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(!err.contains("panicked"), "{err}");
    (output, out, err)
}

fn succeeds(command: &mut Command) -> String {
    let (output, out, err) = run(command);
    assert!(output.status.success(), "{out}\n{err}");
    out
}

/// The one line of a program that fails.
fn fails(command: &mut Command) -> String {
    let (output, out, err) = run(command);
    assert_eq!(output.status.code(), Some(1), "{out}\n{err}");
    assert_eq!(out, "");
    assert_eq!(err.lines().count(), 1, "{err}");
    err.trim_end().strip_prefix("error: ").expect(&err).to_owned()
}

const LISTS: &str = r#"{"responses": ["the soup was superb", "the soup was fair", "the soup was awful"]}
{"prompt": "how was the film?", "responses": ["so dull", "lovely and great", "fair"], "ranks": [3, 1, 2]}
{"prompt": "how was the film?", "chosen": "great", "rejected": "awful, really awful"}
{"responses": ["这家店很好", "这家店一般", "这家店很差"]}
"#;

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { root: tempfile::tempdir().unwrap() };
        fs::write(place.at("lists.jsonl"), LISTS.repeat(3)).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A short training run that would write the folder `model`.
    fn train(&self) -> Command {
        self.train_for("1")
    }

    fn train_for(&self, epochs: &str) -> Command {
        let mut command = example("train_rm");
        command.arg("--data").arg(self.at("lists.jsonl"));
        command.arg("--eval-data").arg(self.at("lists.jsonl"));
        command.arg("--output").arg(self.at("model"));
        command.args(["--epochs", epochs, "--threads", "1"]);
        command
    }

    fn score(&self) -> Command {
        let mut command = example("score");
        command.arg("--model").arg(self.at("model"));
        command
    }

    fn names(&self) -> Vec<String> {
        names(self.root.path())
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn rewards(line: &str) -> Vec<f64> {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let rewards = value["rewards"].as_array().unwrap_or_else(|| panic!("{line}"));
    rewards.iter().map(|reward| reward.as_f64().unwrap()).collect()
}

#[test]
fn trains_saves_and_scores() {
    let place = Place::new();
    let out = succeeds(&mut place.train());
    assert!(out.contains("epoch") && out.contains("the soup was superb"), "{out}");
    assert!(out.lines().last().unwrap().starts_with("held-out pairwise accuracy "), "{out}");
    assert_eq!(
        names(&place.at("model")),
        [
            "README.md",
            "config.json",
            "data_report.json",
            "evaluation.jsonl",
            "events.jsonl",
            "metrics.json",
            "model.safetensors",
            "report",
            "report.html",
            "tokenizer.json",
            "tokenizer_config.json",
            "train_config.json"
        ]
    );
    let card = fs::read_to_string(place.at("model/README.md")).unwrap();
    for part in ["AutoModelForSequenceClassification", "`` lists.jsonl ``", "| pairs | 30 |"] {
        assert!(card.contains(part), "{part}: {card}");
    }
    let config = fs::read(place.at("model/train_config.json")).unwrap();
    serde_json::from_slice::<reward_model::TrainConfig>(&config).unwrap();
    let metrics: serde_json::Value =
        serde_json::from_slice(&fs::read(place.at("model/metrics.json")).unwrap()).unwrap();
    for name in ["pairwise_accuracy", "kendall_tau", "exact_order", "loss"] {
        assert!(metrics[name].is_number(), "{name}: {metrics}");
    }
    assert_eq!((metrics["lists"].as_u64(), metrics["pairs"].as_u64()), (Some(12), Some(30)));

    // Rewards stand in the order of the input line, whatever the ranks say.
    let out = succeeds(place.score().arg("--input").arg(place.at("lists.jsonl")));
    let all: Vec<Vec<f64>> = out.lines().map(rewards).collect();
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 2, 3].repeat(3));
    fs::write(
        place.at("other.jsonl"),
        r#"{"prompt": "how was the film?", "responses": ["fair", "so dull", "lovely and great"]}"#,
    )
    .unwrap();
    let out = succeeds(place.score().arg("--input").arg(place.at("other.jsonl")));
    for (ours, theirs) in rewards(&out).iter().zip([all[1][2], all[1][0], all[1][1]]) {
        approx::assert_abs_diff_eq!(*ours, theirs, epsilon = 1e-5);
    }

    // The same model again, as a backbone.
    let again = place.at("again");
    let mut command = place.train();
    command.arg("--backbone").arg(place.at("model")).arg("--output").arg(&again);
    let (_, _, err) = run(&mut command);
    assert!(err.contains("cannot be used multiple times"), "{err}");
    let mut command = example("train_rm");
    command.arg("--backbone").arg(place.at("model")).arg("--output").arg(&again);
    command.arg("--data").arg(place.at("lists.jsonl")).args(["--epochs", "1", "--quiet"]);
    assert_eq!(succeeds(&mut command).lines().count(), 1);
    assert!(again.join("model.safetensors").is_file());
}

#[test]
fn scores_standard_input_and_tells_which_lists_it_cannot() {
    let place = Place::new();
    succeeds(&mut place.train());
    let input = format!(
        "{{\"responses\": [\"fair\", \"great\"]}}\n{{\"responses\": [\"fair\"\n\
         {{\"responses\": [\"fair\", \"{}\"]}}\n{{\"responses\": [\"so dull\"]}}\n",
        "dull ".repeat(600)
    );
    let mut child = place
        .score()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert_eq!((rewards(lines[0]).len(), rewards(lines[3]).len()), (2, 1));
    for (line, expected) in [(lines[1], "<stdin>:2: "), (lines[2], "responses[1]: 600 tokens")] {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value["rewards"].is_null());
        assert!(value["error"].as_str().unwrap().starts_with(expected), "{line}");
    }
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(err.trim_end(), "2 of 4 lists could not be scored; the output says why");
}

#[test]
fn weights_that_were_chosen_are_told_of_beside_the_last_ones() {
    let place = Place::new();
    // So fast that the last epochs are not the best ones.
    let out = succeeds(place.train_for("6").args(["--learning-rate", "0.3", "--keep-best"]));
    let metrics = fs::read_to_string(place.at("model/metrics.json")).unwrap();
    let metrics: serde_json::Value = serde_json::from_str(&metrics).unwrap();
    let kept = &metrics["kept"];
    let accuracy = |value: &serde_json::Value| value["pairwise_accuracy"].as_f64().unwrap();
    let (chosen, last) = (accuracy(&metrics), accuracy(&kept["last"]));

    let events = fs::read_to_string(place.at("model/events.jsonl")).unwrap();
    let evaluated: Vec<f64> = events
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| event["event"] == "evaluated" && event["epoch"] != 0)
        .map(|event| accuracy(&event["evaluation"]))
        .collect();
    assert_eq!(evaluated.len(), 6);
    assert_eq!(Some(&last), evaluated.last());
    let best = evaluated.iter().position(|&a| a == chosen).unwrap() as u64 + 1;
    assert!(evaluated.iter().all(|&accuracy| accuracy <= chosen));
    assert!(best < 6 && last < chosen, "the test needs a run that gets worse: {evaluated:?}");
    assert_eq!(kept["epoch"].as_u64(), Some(best));
    assert_eq!(kept["chosen_on"], "lists");

    let line = out.lines().last().unwrap();
    let expected = format!(
        "after epoch {best}, which was chosen on these lists (lists); {last:.4} after the last epoch"
    );
    assert!(line.contains(&expected), "{line}");
    let card = fs::read_to_string(place.at("model/README.md")).unwrap();
    let row = format!("| pairwise_accuracy | {chosen:.4} | {last:.4} |");
    assert!(card.contains(&row) && card.contains("| | chosen | last |"), "{card}");

    // Nothing is chosen unless somebody asks for it.
    succeeds(place.train().arg("--overwrite"));
    let metrics = fs::read_to_string(place.at("model/metrics.json")).unwrap();
    assert!(!metrics.contains("\"kept\""), "{metrics}");
}

#[test]
fn finetune_tells_what_transfer_gains_for_each_share_of_the_labels() {
    let place = Place::new();
    let lists = place.at("lists.jsonl");
    let mut command = example("finetune");
    command.arg("--data").arg(&lists).arg("--eval-data").arg(&lists).arg("--quiet");
    command.args(["--pretrain", "--pretrain-epochs", "1", "--text"]).arg(&lists);
    command.args(["--threads", "1", "--steps", "2", "--shares", "50,100"]);
    let out = succeeds(&mut command);
    let rows: Vec<&str> = out.lines().filter(|line| line.contains('%')).collect();
    assert_eq!(rows.len(), 6, "{out}");
    let trained = ["a small model, from scratch", "last 2 of 4 layers", "then all layers"];
    for (row, (share, trained)) in rows
        .iter()
        .zip(["50 %      6", "100 %     12"].iter().flat_map(|share| trained.map(|t| (share, t))))
    {
        assert!(row.trim_start().starts_with(share) && row.contains(trained), "{row}");
        let accuracy = row
            .split_whitespace()
            .find_map(|word| word.parse::<f64>().ok().filter(|_| word.contains('.')));
        assert!(accuracy.is_some_and(|accuracy| (0.0..=1.0).contains(&accuracy)), "{row}");
    }
}

#[test]
fn the_same_seed_writes_the_same_folder() {
    let place = Place::new();
    let weights = |seed: &str| {
        succeeds(place.train().args(["--seed", seed, "--overwrite"]));
        // All but the record of when what happened.
        names(&place.at("model"))
            .iter()
            .filter(|f| !["events.jsonl", "report", "report.html"].contains(&f.as_str()))
            .map(|f| fs::read(place.at("model").join(f)).unwrap())
            .collect::<Vec<_>>()
    };
    let first = weights("7");
    assert!(first == weights("7"));
    assert!(first != weights("8"));
}

#[test]
fn wrong_input_is_one_clear_line_and_leaves_nothing() {
    let place = Place::new();
    let before = place.names();
    let path = |name: &str| place.at(name).display().to_string();
    let trained_on = |name: &str, bytes: &[u8]| {
        fs::write(place.at(name), bytes).unwrap();
        let mut command = example("train_rm");
        command.arg("--data").arg(place.at(name)).arg("--output").arg(place.at("model"));
        let message = fails(&mut command);
        fs::remove_file(place.at(name)).unwrap();
        message
    };

    assert_eq!(
        fails(
            example("train_rm")
                .arg("--data")
                .arg(place.at("none.jsonl"))
                .arg("--output")
                .arg(place.at("model"))
        ),
        format!("{}: cannot read: No such file or directory (os error 2)", path("none.jsonl"))
    );
    assert!(trained_on("a.xls", b"x")
        .contains("a.xls: neither its name nor its content is of a known format"));
    assert_eq!(
        trained_on("bad.jsonl", b"{\"responses\": [\"a\", \"b\"]}\n{\"responses\": [\"a\", 3]}\n"),
        format!(
            "{}:2: responses[1]: expected a string or an array of messages, found the number 3",
            path("bad.jsonl")
        )
    );
    assert!(trained_on("bad.tsv", b"a\t\xff\n").contains("bad.tsv:1: not UTF-8"));
    // What is in the data is told before that, unless one wants quiet.
    fs::write(place.at("one.tsv"), "a\nb\n").unwrap();
    let mut command = example("train_rm");
    command.arg("--quiet").arg("--data").arg(place.at("one.tsv"));
    let message = fails(command.arg("--output").arg(place.at("model")));
    assert!(message.contains("there is nothing to train on"), "{message}");
    fs::remove_file(place.at("one.tsv")).unwrap();

    let message = fails(place.train().args(["--device", "gpu"]));
    assert_eq!(message, "device \"gpu\": no such device; use cpu, cuda or cuda:N");
    if !reward_model::tch::utils::has_cuda() {
        let message = fails(place.train().args(["--device", "cuda:1"]));
        assert!(message.contains("use cpu"), "{message}");
    }
    assert!(fails(place.train().args(["--learning-rate", "-1"])).starts_with("learning_rate = -1"));
    assert!(fails(place.train().args(["--max-length", "3"])).starts_with("max_length = 3"));
    assert!(fails(place.train().args(["--batch-size", "0"])).starts_with("batch_size = 0"));
    let message = fails(place.train().arg("--backbone").arg(place.at("nowhere")));
    assert!(message.contains("nowhere/config.json: cannot read"), "{message}");
    assert!(fails(&mut place.score()).contains("model/config.json: cannot read"));

    let (output, _, err) = run(place.train().arg("--lists"));
    assert_eq!(output.status.code(), Some(2));
    assert!(err.contains("unexpected argument '--lists'"), "{err}");
    assert_eq!(place.names(), before);
}

#[test]
fn a_folder_that_is_not_its_own_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.at("model")).unwrap();
    fs::write(place.at("model/thesis.txt"), "years of work").unwrap();
    assert!(fails(&mut place.train()).contains("is there already and not empty"));
    assert!(fails(place.train().arg("--overwrite")).contains("not a model folder"));
    assert_eq!(fs::read_to_string(place.at("model/thesis.txt")).unwrap(), "years of work");

    let mut command = example("train_rm");
    command.arg("--data").arg(place.at("lists.jsonl"));
    let message = fails(command.arg("--output").arg(place.at("lists.jsonl/model")));
    assert!(message.contains("lists.jsonl"), "{message}");
}

#[test]
fn damaged_model_folders_are_told_as_such() {
    let place = Place::new();
    succeeds(&mut place.train());
    let weights = place.at("model/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    for keep in [0, 7, 1000, whole.len() - 1] {
        fs::write(&weights, &whole[..keep]).unwrap();
        let message = fails(&mut place.score());
        assert!(message.starts_with(&weights.display().to_string()), "{message}");
        assert!(message.contains(&format!("has {keep} bytes")), "{message}");
    }
    fs::write(&weights, whole).unwrap();
    for (name, content) in
        [("config.json", "{"), ("tokenizer.json", "[1]"), ("tokenizer_config.json", "no")]
    {
        let file = place.at("model").join(name);
        let good = fs::read(&file).unwrap();
        fs::write(&file, content).unwrap();
        let message = fails(&mut place.score());
        assert!(message.contains(&format!("model/{name}")), "{message}");
        fs::write(&file, good).unwrap();
    }
    succeeds(place.score().arg("--input").arg(place.at("lists.jsonl")));
}

/// As `kill -9` in the middle of training: what is left beside it can be resumed.
#[test]
fn a_killed_run_leaves_no_folder_half_made() {
    let place = Place::new();
    let before = place.names();
    let mut command = example("train_rm");
    command.arg("--data").arg(place.at("lists.jsonl")).arg("--output").arg(place.at("model"));
    command.args(["--epochs", "100000"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The table's first row says that training has begun.
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let begun = std::io::BufRead::lines(out).any(|line| line.unwrap().contains("before"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(begun);
    assert_eq!(place.names(), [before, vec!["model.run".into()]].concat());
}

/// A reader that goes away, as `head` does, is no reason to panic.
#[test]
fn a_closed_pipe_is_no_panic() {
    let place = Place::new();
    succeeds(&mut place.train());
    let mut train = place.train();
    train.arg("--overwrite");
    let mut score = place.score();
    score.arg("--input").arg(place.at("lists.jsonl"));
    for mut command in [train, score] {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert!(output.status.success());
    }
}
