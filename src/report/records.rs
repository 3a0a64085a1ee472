//! What `events.jsonl` says of a run.

use std::path::Path;

use serde_json::{Map, Value};

use super::lines::{number, read_objects, Unreadable};
use crate::{Error, Result};

/// The newest schema of the records that is understood.
const SCHEMA: u64 = 1;

/// Sets that are shown; a run that evaluates more is none that a person looks at.
pub(super) const MOST_SETS: usize = 16;

/// The records of a run.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// What the run set out to do; empty if it does not say.
    pub start: Map<String, Value>,
    pub steps: Vec<StepRecord>,
    pub evaluations: Vec<EvaluationRecord>,
    /// Steps that were left out because something was not finite.
    pub skipped: u64,
    pub resumed: u64,
    pub stopped_early: Option<u64>,
    /// The step whose weights were kept.
    pub kept: Option<u64>,
    pub unreadable: Unreadable,
}

/// One step; a figure that is not there, or no finite number, is NaN.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepRecord {
    pub step: u64,
    pub epoch: u64,
    pub loss: f64,
    pub accuracy: f64,
    pub margin: f64,
    pub learning_rate: f64,
    pub grad_norm: f64,
    pub seconds: f64,
}

/// The evaluation of one set.
#[derive(Clone, Debug)]
pub(super) struct EvaluationRecord {
    pub step: u64,
    pub set: String,
    pub figures: Map<String, Value>,
}

impl Records {
    /// Reads the records in a folder.
    pub fn read(folder: &Path) -> Result<Records> {
        let path = folder.join("events.jsonl");
        let mut records = Records::default();
        match read_objects(&path, |event| records.add(event, &path))? {
            Some(unreadable) => records.unreadable = unreadable,
            None => {
                return Err(Error::Run {
                    path: folder.to_path_buf(),
                    message: "there is no events.jsonl, in which a run records its steps; name a \
                              folder that a run has written (train_rm --output DIR)"
                        .into(),
                })
            }
        }
        Ok(records)
    }

    /// The names of the evaluated sets, the first [`MOST_SETS`], in the order in which they are
    /// evaluated.
    pub fn sets(&self) -> Vec<&str> {
        let mut sets: Vec<&str> = Vec::new();
        for evaluation in &self.evaluations {
            if sets.len() < MOST_SETS && !sets.contains(&evaluation.set.as_str()) {
                sets.push(&evaluation.set);
            }
        }
        sets
    }

    /// The evaluation of a set that tells how good the resulting model is: that of the kept weights,
    /// or the last.
    pub fn result(&self, set: &str) -> Option<&EvaluationRecord> {
        let mut of_set = self.evaluations.iter().rev().filter(|record| record.set == set);
        let kept = |record: &&EvaluationRecord| Some(record.step) == self.kept;
        of_set.clone().find(kept).or_else(|| of_set.next())
    }

    /// The evaluation of a set after the last step, if the weights are those of an earlier one.
    pub fn last_of_chosen(&self, set: &str) -> Option<&EvaluationRecord> {
        let last = self.evaluations.iter().rev().find(|record| record.set == set)?;
        self.kept.filter(|&kept| kept != last.step).map(|_| last)
    }

    /// The evaluation of a set before training.
    pub fn before(&self, set: &str) -> Option<&EvaluationRecord> {
        self.evaluations.iter().find(|record| record.set == set && record.step == 0)
    }

    fn add(&mut self, event: Map<String, Value>, path: &Path) -> Result<()> {
        let step = event.get("step").and_then(Value::as_u64);
        match (event.get("event").and_then(Value::as_str).unwrap_or_default(), step) {
            ("started", _) => {
                let schema = event.get("schema").and_then(Value::as_u64).unwrap_or(SCHEMA);
                if schema > SCHEMA {
                    return Err(Error::Run {
                        path: path.to_path_buf(),
                        message: format!(
                            "the records are of schema {schema}, and this version of reward-model \
                             reads up to {SCHEMA}; use the version that wrote them, or a newer one"
                        ),
                    });
                }
                *self = Records { start: event, ..Records::default() };
            }
            ("resumed", Some(step)) => {
                self.go_back(step);
                self.resumed += 1;
            }
            ("step", Some(step)) => {
                // A run that was killed may have made this step before.
                if self.steps.last().is_some_and(|last| last.step >= step) {
                    self.go_back(step - step.min(1));
                }
                self.steps.push(StepRecord {
                    step,
                    epoch: event.get("epoch").and_then(Value::as_u64).unwrap_or(0),
                    loss: number(&event, "loss"),
                    accuracy: number(&event, "accuracy"),
                    margin: number(&event, "margin"),
                    learning_rate: number(&event, "learning_rate"),
                    grad_norm: number(&event, "grad_norm"),
                    seconds: number(&event, "seconds"),
                });
            }
            ("skipped", _) => self.skipped += 1,
            ("evaluated", Some(step)) => {
                let set = event.get("set").and_then(Value::as_str).unwrap_or("eval").to_owned();
                if let Some(Value::Object(figures)) = event.get("evaluation") {
                    let figures = figures.clone();
                    self.evaluations.push(EvaluationRecord { step, set, figures });
                }
            }
            ("stopped_early", step) => self.stopped_early = step,
            ("kept", step) => self.kept = step,
            _ => {}
        }
        Ok(())
    }

    /// Forgets what was recorded after a step.
    fn go_back(&mut self, step: u64) {
        while self.steps.pop_if(|record| record.step > step).is_some() {}
        while self.evaluations.pop_if(|record| record.step > step).is_some() {}
    }
}
