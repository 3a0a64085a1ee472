//! [`RunFolder`]: where a run keeps its records and checkpoints while it lasts.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::TrainConfig;
use crate::data::DataReport;
use crate::{Error, Result};

const RUN: &str = "run.json";
const EVENTS: &str = "events.jsonl";
const CHECKPOINTS: &str = "checkpoints";
/// Here and in the model folder.
pub(super) const DATA_REPORT: &str = "data_report.json";

/// The folder of a run, from which it can be resumed.
///
/// | file | |
/// |---|---|
/// | `run.json` | the settings, and what tells whether model and data are the same |
/// | `data_report.json` | what is in the data, if the [trainer](crate::Trainer::data_report) was asked |
/// | `events.jsonl` | every [`Event`](crate::Event), one object a line |
/// | `checkpoints/step-N/` | what is needed to go on after step N, with checksums |
///
/// ```no_run
/// use reward_model::RunFolder;
///
/// let path = "my-model.run";
/// let folder = if RunFolder::holds_run(path) {
///     RunFolder::resume(path)?
/// } else {
///     RunFolder::create(path)?
/// };
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    resumed: bool,
    log: Option<File>,
}

/// What must be the same when a run is resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub schema: u32,
    pub config: TrainConfig,
    /// The number of threads that libtorch computes with: sums depend on it.
    pub threads: i32,
    pub device: String,
    /// What the model computes in; older folders do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Of the training data as tokens, in order, with their targets.
    pub data: u32,
    /// Of the parameters that do not train, which checkpoints leave out.
    pub frozen: u32,
}

impl RunFolder {
    /// A folder for a new run, which is made when the run begins. A run that was stopped before its
    /// first checkpoint has nothing to lose and is replaced.
    ///
    /// # Errors
    /// If there is something else in it.
    pub fn create(path: impl Into<PathBuf>) -> Result<RunFolder> {
        let path = path.into();
        if RunFolder::holds_run(&path) && entries(&path.join(CHECKPOINTS))?.any(is_checkpoint) {
            return Err(Error::Run {
                path,
                message:
                    "holds a run that is not finished; resume it (--resume), or start anew in \
                          its place (--overwrite)"
                        .into(),
            });
        }
        RunFolder::replace(path)
    }

    /// A folder for a new run, which takes the place of any that is there when the run begins.
    ///
    /// # Errors
    /// If there is something other than a run in it.
    pub fn replace(path: impl Into<PathBuf>) -> Result<RunFolder> {
        let path = path.into();
        if !RunFolder::holds_run(&path) && entries(&path)?.next().is_some() {
            return Err(Error::Run {
                path,
                message: "holds something that is not a run; name another folder".into(),
            });
        }
        Ok(RunFolder { path, resumed: false, log: None })
    }

    /// The folder of a run that goes on from its newest valid checkpoint, or from its beginning if
    /// it has none yet. It ends with the weights of the run that was never stopped, on a CPU bit for
    /// bit, if model, data, settings and number of threads are the same.
    ///
    /// # Errors
    /// If there is no run in it.
    pub fn resume(path: impl Into<PathBuf>) -> Result<RunFolder> {
        let path = path.into();
        if !RunFolder::holds_run(&path) {
            return Err(Error::Run { path, message: "holds no run that could be resumed".into() });
        }
        Ok(RunFolder { path, resumed: true, log: None })
    }

    /// Whether there is a run in a folder.
    pub fn holds_run(path: impl AsRef<Path>) -> bool {
        path.as_ref().join(RUN).is_file()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The records of the run.
    pub fn events(&self) -> PathBuf {
        self.path.join(EVENTS)
    }

    /// Removes the folder with all that is in it: the run is finished, its model saved. Stopped in
    /// the middle, it leaves a run without checkpoints, which is [replaced](RunFolder::create).
    ///
    /// # Errors
    /// If something in it cannot be removed.
    pub fn remove(self) -> Result<()> {
        remove_run(&self.path)
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.resumed
    }

    pub(super) fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    /// Makes sure that the run is the one that the folder is for, or makes it that.
    pub(super) fn begin(&mut self, identity: &Identity, report: Option<&DataReport>) -> Result<()> {
        let path = self.path.join(RUN);
        if self.resumed {
            let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
            let before: Identity = serde_json::from_str(&text)
                .map_err(|error| Error::Run { path: path.clone(), message: error.to_string() })?;
            let differences = before.differences(identity)?;
            if !differences.is_empty() {
                return Err(Error::Run {
                    path,
                    message: format!(
                        "this is another run, so it cannot go on from there: {}",
                        differences.join("; ")
                    ),
                });
            }
        } else {
            if RunFolder::holds_run(&self.path) {
                remove_run(&self.path)?;
            }
            let checkpoints = self.checkpoints();
            fs::create_dir_all(&checkpoints).map_err(Error::io("create", &checkpoints))?;
            write_synced(&path, &to_json(&path, identity)?)?;
            if let Some(report) = report {
                let path = self.path.join(DATA_REPORT);
                write_synced(&path, &to_json(&path, report)?)?;
            }
            sync_folder(&self.path)?;
        }
        // A run folder whose run made no checkpoint yet may have no log.
        let path = self.events();
        let log = OpenOptions::new().create(true).append(true).open(&path);
        self.log = Some(log.map_err(Error::io("write", &path))?);
        // What an earlier process was writing when it was killed.
        let checkpoints = self.checkpoints();
        for name in entries(&checkpoints)?.filter(|name| name.starts_with('.')) {
            let path = checkpoints.join(name);
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }

    /// Adds a record.
    pub(super) fn record(&mut self, event: &impl Serialize) -> Result<()> {
        let path = self.path.join(EVENTS);
        let mut line = to_json_line(&path, event)?;
        line.push('\n');
        match &mut self.log {
            Some(log) => log.write_all(line.as_bytes()).map_err(Error::io("write", &path)),
            None => Ok(()),
        }
    }

    /// Puts a copy of the records into another folder.
    pub(super) fn copy_records(&self, into: &Path) -> Result<()> {
        let (from, to) = (self.events(), into.join(EVENTS));
        match fs::copy(&from, &to) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.map(|_| ()).map_err(Error::io("write", &to)),
        }
    }

    /// How long the records are, once they are on disk.
    pub(super) fn sync_records(&self) -> Result<u64> {
        let path = self.events();
        let Some(log) = &self.log else { return Ok(0) };
        log.sync_data().map_err(Error::io("write", &path))?;
        Ok(log.metadata().map_err(Error::io("read", &path))?.len())
    }

    /// Takes back the records of what is about to be done again.
    pub(super) fn truncate_records(&self, bytes: u64) -> Result<()> {
        let path = self.events();
        let Some(log) = &self.log else { return Ok(()) };
        let length = log.metadata().map_err(Error::io("read", &path))?.len();
        log.set_len(bytes.min(length)).map_err(Error::io("write", &path))
    }
}

impl Identity {
    /// What differs in a way that would lead to other weights.
    fn differences(&self, other: &Identity) -> Result<Vec<String>> {
        let fields = |identity: &Identity| -> Result<Map<String, Value>> {
            let as_object = |value: Value| value.as_object().cloned().unwrap_or_default();
            let wrong = |error: serde_json::Error| Error::InvalidArgument(error.to_string());
            let mut fields = as_object(serde_json::to_value(identity).map_err(wrong)?);
            let config = fields.remove("config").map(as_object).unwrap_or_default();
            fields.extend(config.into_iter().filter(|(name, _)| changes_weights(name)));
            Ok(fields)
        };
        let (before, now) = (fields(self)?, fields(other)?);
        let differing = before.iter().filter(|(name, value)| now.get(*name) != Some(*value));
        Ok(differing
            .map(|(name, value)| match name.as_str() {
                "data" => "the training data, as tokens, are not the same".into(),
                "frozen" => "the parameters that do not train are not the same".into(),
                _ => format!("{name} was {value} and is {}", now.get(name).unwrap_or(&Value::Null)),
            })
            .collect())
    }
}

/// Whether a setting has to do with what a run ends with.
fn changes_weights(setting: &str) -> bool {
    let prefixes = ["checkpoint", "cache_"];
    !prefixes.iter().any(|prefix| setting.starts_with(prefix)) && setting != "tokens_in_memory"
}

/// The file that makes a folder a run goes last.
fn remove_run(path: &Path) -> Result<()> {
    let remove = || -> std::io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else if entry.file_name() != RUN {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_file(path.join(RUN))?;
        fs::remove_dir(path)
    };
    remove().map_err(Error::io("remove", path))
}

fn is_checkpoint(name: String) -> bool {
    name.starts_with("step-")
}

/// The names in a folder that are UTF-8; none if it is not there.
pub(super) fn entries(folder: &Path) -> Result<impl Iterator<Item = String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<std::io::Result<Vec<_>>>(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let entries = entries.map_err(Error::io("read", folder))?;
    Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()))
}

/// Writes a file and waits until it is on disk.
pub(super) fn write_synced(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(Error::io("write", path))
}

/// Waits until a folder's list of files is on disk.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io("write", path))?;
    }
    Ok(())
}

pub(super) fn to_json(path: &Path, value: &impl Serialize) -> Result<String> {
    let json = serde_json::to_string_pretty(value).map_err(unwritable(path))?;
    Ok(json + "\n")
}

fn to_json_line(path: &Path, value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(unwritable(path))
}

fn unwritable(path: &Path) -> impl FnOnce(serde_json::Error) -> Error + '_ {
    move |error| Error::io("write", path)(std::io::Error::other(error))
}
