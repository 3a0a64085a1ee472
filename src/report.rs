//! A page about a run: curves, figures, rewards and sample lists, as HTML, SVG and PNG.
//!
//! [`write()`] reads what a run has left in its folder and asks for no model and no device.
//!
//! | file | read for | without it |
//! |---|---|---|
//! | `events.jsonl` | curves, figures, reliability | an error |
//! | `evaluation.jsonl` | rewards by rank, sample lists | left out |
//! | `data_report.json` | the data | left out |
//! | `train_config.json` | the settings | left out |
//!
//! `evaluation.jsonl` has a held-out list a line, with the rewards of the trained model:
//!
//! ```json
//! {"set":"eval","list":3,"prompt":null,"responses":[{"text":"Superb.","rank":1,"reward":1.25},{"text":"Broken.","rank":2,"reward":-0.5}]}
//! ```
//!
//! The page is one file without scripts, and its content security policy forbids them and every
//! request: texts of the data are shown as texts whatever is in them.

mod axis;
mod canvas;
mod curves;
mod data;
mod escape;
mod evaluation;
mod figures;
mod files;
mod held_out;
mod lines;
mod page;
mod records;
mod reliability;
mod rewards;
mod samples;
mod series;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use self::files::write_whole;
use self::page::{Page, Set};
use self::records::{Records, MOST_SETS};
use crate::{Error, Result};

/// Writes `report.html` into the folder of a run or of the model that it has made, and the page's
/// pictures into `report/` in it. Returns what was written, the page first.
///
/// | picture (`.svg` and `.png`) | shows |
/// |---|---|
/// | `loss`, `accuracy`, `margin` | each step's batch, their moving mean, and the evaluations |
/// | `learning-rate`, `gradient-norm` | each step |
/// | `rewards-SET` | a histogram of the rewards of each rank |
/// | `reliability-SET` | accuracy against confidence σ(r_w − r_l) |
///
/// What has not been recorded has no picture. A curve of more points than a picture has columns is
/// thinned to the lowest and the highest of each stretch, and its caption says so. Lines that are no
/// JSON objects are left out and counted on the page, but for a last line without an end, which is
/// one that a run is still writing. Of a run that was resumed, each step counts once.
///
/// Every file appears whole or not at all; an earlier report is replaced.
///
/// # Errors
/// If there is no `events.jsonl`, if a newer version of this crate has written it, or if a file
/// cannot be read or written.
///
/// # Example
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("report-doctest-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let step = r#"{"event":"step","step":1,"epoch":1,"loss":0.69,"learning_rate":1e-4}"#;
/// std::fs::write(folder.join("events.jsonl"), format!("{step}\n"))?;
///
/// let written = reward_model::report::write(&folder)?;
/// assert!(written[0].ends_with("report.html"));
/// assert!(written.contains(&folder.join("report/loss.png")));
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let folder = folder.as_ref();
    let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    write_titled(folder, &absolute.file_name().unwrap_or_default().to_string_lossy())
}

/// The same as [`write()`], with another title than the folder's name: for a folder that will be
/// renamed.
///
/// # Errors
/// Those of [`write()`].
pub fn write_titled(folder: impl AsRef<Path>, title: &str) -> Result<Vec<PathBuf>> {
    let folder = folder.as_ref();
    let records = Records::read(folder)?;
    let (held_out, unreadable_lists) = held_out::read(folder)?.unwrap_or_default();
    let pictures = folder.join("report");
    let undrawn = |error| Error::io("draw", &pictures)(error);

    let training = figures::training(&records).map_err(undrawn)?;
    let mut names = records.sets();
    for lists in &held_out {
        if !names.contains(&lists.name.as_str()) && names.len() < MOST_SETS {
            names.push(&lists.name);
        }
    }
    let mut sets = Vec::new();
    for name in names {
        let lists = held_out.iter().find(|lists| lists.name == name);
        let (rewards, reliability) = figures::of_set(name, &records, lists).map_err(undrawn)?;
        sets.push(Set { name, lists, rewards, reliability });
    }
    let page = Page {
        name: title,
        records: &records,
        training: &training,
        sets,
        data_report: lines::read_object(&folder.join("data_report.json"))?,
        settings: lines::read_object(&folder.join("train_config.json"))?,
        unreadable_lists,
    };

    let path = folder.join("report.html");
    write_whole(&path, page.html().as_bytes())?;
    let mut written = vec![path];
    fs::create_dir_all(&pictures).map_err(Error::io("create", &pictures))?;
    let of_sets = page.sets.iter().flat_map(|set| [&set.rewards, &set.reliability]).flatten();
    for figure in training.iter().chain(of_sets) {
        for (extension, content) in [("svg", figure.svg.as_bytes()), ("png", &figure.png)] {
            let mut path = pictures.join(format!("{}.{extension}", figure.name));
            // Sets whose names differ in more than a file's name can hold.
            for number in 2.. {
                if !written.contains(&path) {
                    break;
                }
                path = pictures.join(format!("{}-{number}.{extension}", figure.name));
            }
            write_whole(&path, content)?;
            written.push(path);
        }
    }
    Ok(written)
}
