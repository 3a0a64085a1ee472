//! Checkpoints: all that is needed to go on with a run, on disk whole or not at all.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Tensor;

use super::optimizer::AdamW;
use super::run_folder::{self, RunFolder};
use crate::model;
use crate::{Error, Result};

const TENSORS: &str = "tensors.safetensors";
const STATE: &str = "state.json";
/// A line a file: its CRC-32 in hexadecimal, two spaces, its name.
const CHECKSUMS: &str = "CHECKSUMS";

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Steps made.
    pub step: u64,
    /// The epoch of the next step, from 1.
    pub epoch: u32,
    /// How many of the epoch's batches are done.
    pub batch: usize,
    /// The optimiser's own count, which skipped steps are not in.
    pub updates: i32,
    pub skipped_in_a_row: u32,
    /// After which step the last evaluation was.
    pub evaluated_at: Option<u64>,
    /// What it said of the first set.
    pub evaluation: Value,
    pub best: Option<BestSoFar>,
    /// Evaluations in a row that were no better than the best before them.
    pub unimproved: u32,
    pub stopped_early: bool,
    /// Seconds of training.
    pub seconds: f64,
    /// How many bytes of records there are.
    pub record_bytes: u64,
}

/// The best evaluation so far. Its weights are in the checkpoint of its step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct BestSoFar {
    pub step: u64,
    pub epoch: u32,
    pub merit: f64,
    pub evaluation: Value,
}

/// A checkpoint that has been written.
pub(super) struct Written {
    pub path: PathBuf,
    pub bytes: u64,
    pub seconds: f64,
}

/// Writes a checkpoint, then removes the oldest but `kept` and the best one.
pub(super) fn save(
    folder: &RunFolder,
    state: &State,
    optimizer: &AdamW,
    kept: usize,
) -> Result<Written> {
    let started = Instant::now();
    let parent = folder.checkpoints();
    let staging = tempfile::Builder::new()
        .prefix(".step-")
        .tempdir_in(&parent)
        .map_err(Error::io("make a folder in it", &parent))?;
    let state = State { record_bytes: folder.sync_records()?, ..state.clone() };

    // A temporary folder is closed to others, one that is made in it is not.
    let new = staging.path().join("new");
    fs::create_dir(&new).map_err(Error::io("create", &new))?;
    let (tensors, json) = (new.join(TENSORS), new.join(STATE));
    model::write_tensors(&tensors, &optimizer.state())?;
    File::open(&tensors).and_then(|file| file.sync_all()).map_err(Error::io("write", &tensors))?;
    run_folder::write_synced(&json, &run_folder::to_json(&json, &state)?)?;
    let sums = format!("{:08x}  {TENSORS}\n{:08x}  {STATE}\n", crc(&tensors)?, crc(&json)?);
    run_folder::write_synced(&new.join(CHECKSUMS), &sums)?;
    run_folder::sync_folder(&new)?;

    let bytes = [TENSORS, STATE, CHECKSUMS]
        .iter()
        .filter_map(|name| fs::metadata(new.join(name)).ok())
        .map(|metadata| metadata.len())
        .sum();
    let path = parent.join(name_of(state.step));
    if path.exists() {
        fs::rename(&path, staging.path().join("old")).map_err(Error::io("replace", &path))?;
    }
    fs::rename(&new, &path).map_err(Error::io("create", &path))?;
    run_folder::sync_folder(&parent)?;

    let best = state.best.as_ref().map(|best| best.step);
    for step in steps(&parent)?.into_iter().rev().skip(kept).filter(|step| Some(*step) != best) {
        let old = parent.join(name_of(step));
        fs::remove_dir_all(&old).map_err(Error::io("remove", &old))?;
    }
    Ok(Written { path, bytes, seconds: started.elapsed().as_secs_f64() })
}

/// What a run goes on from.
pub(super) struct Restored {
    pub state: State,
    /// The weights of the best evaluation, in the optimiser's order.
    pub best: Option<Vec<Tensor>>,
    /// Checkpoints passed over, and why.
    pub damaged: Vec<String>,
}

/// Puts the newest valid checkpoint's tensors into the optimiser; `None` if there is no checkpoint.
///
/// # Errors
/// If there are checkpoints and none of them is valid.
pub(super) fn restore(folder: &RunFolder, optimizer: &mut AdamW) -> Result<Option<Restored>> {
    let parent = folder.checkpoints();
    let mut damaged = Vec::new();
    for step in steps(&parent)?.into_iter().rev() {
        let path = parent.join(name_of(step));
        match read(&path, &parent, optimizer) {
            Ok((state, best)) => return Ok(Some(Restored { state, best, damaged })),
            Err(error) => damaged.push(error.to_string()),
        }
    }
    match damaged.is_empty() {
        true => Ok(None),
        false => Err(Error::Run {
            path: parent,
            message: format!(
                "no checkpoint is valid, so the run cannot be resumed: {}; start anew \
                 (--overwrite)",
                damaged.join("; ")
            ),
        }),
    }
}

/// Checks a checkpoint and the one with the best weights before anything is taken from them.
fn read(path: &Path, parent: &Path, optimizer: &mut AdamW) -> Result<(State, Option<Vec<Tensor>>)> {
    let state = check(path)?;
    let best = match &state.best {
        None => None,
        Some(best) => {
            let other = parent.join(name_of(best.step));
            if other != path {
                check(&other)?;
            }
            let copies = copies(&optimizer.state())?;
            model::read_tensors(&other.join(TENSORS), &copies)?;
            let weights = copies.into_iter().filter(|(name, _)| name.starts_with("weight/"));
            Some(weights.map(|(_, tensor)| tensor).collect())
        }
    };
    model::read_tensors(&path.join(TENSORS), &optimizer.state())?;
    optimizer.set_steps(state.updates);
    Ok((state, best))
}

fn copies(tensors: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>> {
    let _no_grad = tch::no_grad_guard();
    tensors.iter().map(|(name, t)| Ok((name.clone(), t.f_detach()?.f_zeros_like()?))).collect()
}

/// The state of a checkpoint whose files are what their checksums say.
fn check(path: &Path) -> Result<State> {
    let broken = |path: &Path, message: &str| Error::Run {
        path: path.to_path_buf(),
        message: message.to_owned(),
    };
    let sums = path.join(CHECKSUMS);
    let text = fs::read_to_string(&sums).map_err(Error::io("read", &sums))?;
    let mut names = Vec::new();
    for line in text.lines() {
        let sum = line.split_once("  ").and_then(|(sum, name)| {
            Some((
                u32::from_str_radix(sum, 16).ok()?,
                [TENSORS, STATE].into_iter().find(|n| *n == name)?,
            ))
        });
        let Some((sum, name)) = sum else {
            return Err(broken(&sums, "is damaged"));
        };
        let file = path.join(name);
        if crc(&file)? != sum {
            return Err(broken(&file, "is damaged: its checksum is another"));
        }
        names.push(name);
    }
    if names != [TENSORS, STATE] {
        return Err(broken(&sums, "is damaged"));
    }
    let json = path.join(STATE);
    let text = fs::read_to_string(&json).map_err(Error::io("read", &json))?;
    serde_json::from_str(&text).map_err(|error| broken(&json, &error.to_string()))
}

/// CRC-32 (IEEE) of a file.
fn crc(path: &Path) -> Result<u32> {
    let read = || {
        let mut file = File::open(path)?;
        let (mut hasher, mut buffer) = (crc32fast::Hasher::new(), vec![0; 1 << 18]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finalize()),
                count => hasher.update(&buffer[..count]),
            }
        }
    };
    read().map_err(Error::io("read", path))
}

fn name_of(step: u64) -> String {
    format!("step-{step:09}")
}

/// The steps of all checkpoints, in order.
fn steps(parent: &Path) -> Result<Vec<u64>> {
    let number = |name: String| name.strip_prefix("step-")?.parse().ok();
    let mut steps: Vec<u64> = run_folder::entries(parent)?.filter_map(number).collect();
    steps.sort_unstable();
    Ok(steps)
}
