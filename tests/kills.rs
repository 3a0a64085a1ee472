#![cfg(all(feature = "train", unix))]
//! `train_rm` stopped at any moment: resumed, it writes the very folder of a run that was not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LISTS: &str = r#"{"responses": ["the soup was superb", "the soup was fair", "the soup was awful"]}
{"prompt": "how was the film?", "responses": ["so dull", "lovely and great", "fair"], "ranks": [3, 1, 2]}
{"prompt": "how was the film?", "chosen": "great", "rejected": "awful, really awful"}
"#;

/// An example as `cargo test` has just built it, beside this test's own folder.
fn train_rm() -> Command {
    let me = std::env::current_exe().unwrap();
    Command::new(me.parent().and_then(Path::parent).unwrap().join("examples/train_rm"))
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::write(place.at("lists.jsonl"), LISTS.repeat(5)).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Some hundred steps that do not divide an epoch, in parts, with dropout, with evaluations.
    fn start(&self, output: &str, more: &[&str]) -> Child {
        let output = self.at(output);
        let mut command = train_rm();
        command.arg("--data").arg(self.at("lists.jsonl")).arg("--output").arg(&output);
        command.args(["--epochs", "60", "--batch-size", "6", "--micro-batch-size", "4"]);
        command.args(["--threads", "1", "--evaluate-every", "25", "--keep-best"]);
        command.args(["--checkpoint-steps", "4"]).args(more);
        let mut run = output.into_os_string();
        run.push(".run");
        if Path::new(&run).join("run.json").exists() {
            command.arg("--resume");
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn finish(&self, output: &str, more: &[&str]) {
        let end = self.start(output, more).wait_with_output().unwrap();
        assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
        assert!(!self.at(&format!("{output}.run")).exists(), "a finished run is cleared away");
    }

    fn wait_for(&self, event: &str, output: &str) {
        let log = self.at(&format!("{output}.run/events.jsonl"));
        let event = format!("\"event\":\"{event}\"");
        while !fs::read_to_string(&log).is_ok_and(|log| log.contains(&event)) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn same(&self, output: &str, other: &str) {
        for name in ["model.safetensors", "metrics.json", "config.json", "tokenizer.json"] {
            let read = |folder: &str| fs::read(self.at(folder).join(name)).unwrap();
            assert!(read(output) == read(other), "{output}/{name} is not that of {other}");
        }
    }
}

#[test]
fn twenty_kills_change_nothing() {
    let place = Place::new();
    place.finish("whole", &[]);
    // From the first moments of the program to well into training.
    let mut kills = 0;
    for run in 0.. {
        let output = format!("killed-{run}");
        while kills < 20 && !place.at(&output).exists() {
            let mut child = place.start(&output, &[]);
            // Spread over a second and a half without a pattern.
            let moment = 300 + (kills * 619 + run * 211) % 1300;
            std::thread::sleep(Duration::from_millis(moment));
            kills += u64::from(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            let end = child.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&end.stderr).into_owned();
            assert!(!told.contains("panicked"), "{told}");
        }
        if !place.at(&output).exists() {
            place.finish(&output, &[]);
        }
        // The last kill may have come after the folder: whole it is all the same.
        place.same(&output, "whole");
        if kills >= 20 {
            break;
        }
    }
}

/// A kill between the model folder and the end of the run, and a run that is to replace a folder.
#[test]
fn a_folder_that_is_there_is_replaced_by_a_resumed_run_only_when_asked() {
    let place = Place::new();
    place.finish("whole", &[]);
    let mut child = place.start("killed", &[]);
    place.wait_for("checkpoint", "killed");
    child.kill().unwrap();
    child.wait().unwrap();
    fs::create_dir(place.at("killed")).unwrap();
    fs::write(place.at("killed/config.json"), "{}").unwrap();

    let end = place.start("killed", &[]).wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&end.stderr).into_owned();
    assert!(!end.status.success(), "{told}");
    assert!(told.contains("is there already") && told.contains("killed.run"), "{told}");
    assert!(told.contains("--overwrite"), "{told}");
    assert_eq!(fs::read_to_string(place.at("killed/config.json")).unwrap(), "{}");

    place.finish("killed", &["--overwrite"]);
    place.same("killed", "whole");
    // Not trained again from its beginning: the log has the first process' part too.
    let log = fs::read_to_string(place.at("killed/events.jsonl")).unwrap();
    assert!(log.contains("\"event\":\"resumed\""), "{log}");
}

#[test]
fn ctrl_c_saves_and_tells_how_to_go_on() {
    let place = Place::new();
    place.finish("whole", &[]);
    let child = place.start("stopped", &[]);
    place.wait_for("step", "stopped");
    // SAFETY: a signal to a child of our own that has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    let end = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&end.stderr).into_owned();
    assert_eq!(end.status.code(), Some(130), "{told}");
    assert!(told.starts_with("interrupted; ") && told.contains("--resume"), "{told}");
    assert!(!place.at("stopped").exists());

    let refused = {
        let mut command = train_rm();
        command.arg("--data").arg(place.at("lists.jsonl"));
        command.arg("--output").arg(place.at("stopped")).output().unwrap()
    };
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("not finished"), "{told}");

    place.finish("stopped", &[]);
    place.same("stopped", "whole");
}
