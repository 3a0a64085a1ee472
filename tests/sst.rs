#![cfg(feature = "train")]
//! Real text: the sentences of the Stanford Sentiment Treebank in lists of five grades. Needs the
//! folder `REWARD_MODEL_DATA` with `sst5_train.tsv` and `sst5_test.tsv` (docs/measurements.md
//! shows how to make them); says so and does nothing without it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn the_defaults_learn_real_text_from_scratch() {
    let Some(data) = std::env::var_os("REWARD_MODEL_DATA").map(PathBuf::from) else {
        // Not by `eprintln!`, which is shown for tests that fail only.
        let _ = writeln!(std::io::stderr(), "skipped: REWARD_MODEL_DATA is not set");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let me = std::env::current_exe().unwrap();
    let program = me.parent().and_then(Path::parent).unwrap().join("examples/train_rm");
    let status = Command::new(program)
        .arg("--data")
        .arg(data.join("sst5_train.tsv"))
        .arg("--eval-data")
        .arg(data.join("sst5_test.tsv"))
        .arg("--output")
        .arg(folder.path().join("sst"))
        .status()
        .unwrap();
    assert!(status.success());
    let metrics = std::fs::read(folder.path().join("sst/metrics.json")).unwrap();
    let metrics: serde_json::Value = serde_json::from_slice(&metrics).unwrap();
    assert!(metrics["pairwise_accuracy"].as_f64().unwrap() >= 0.74, "{metrics}");
}
