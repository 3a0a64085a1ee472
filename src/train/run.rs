//! A run: the training loop, and what surrounds it.

use std::time::{Duration, Instant};

use serde_json::Value;
use tch::Tensor;

use super::card::Chosen;
use super::checkpoint::{self, BestSoFar, State};
use super::feed::{Feed, PartLimits};
use super::kept::Kept;
use super::objective::Objective;
use super::optimizer::AdamW;
use super::run_folder::RunFolder;
use super::schedule::Rates;
use super::{EvaluationSet, Event, Start, TrainConfig};
use crate::score::Scorer;
use crate::text::length_grouped_batches;
use crate::{Error, Result};

/// A run in progress.
pub(super) struct Run<'a, O: Objective> {
    pub objective: &'a O,
    pub scorer: &'a Scorer,
    pub config: &'a TrainConfig,
    pub data: &'a Feed<'a, O>,
    /// What frozen layers give.
    pub kept: Kept,
    pub sets: &'a [EvaluationSet<'a, O::Example>],
    pub folder: Option<&'a mut RunFolder>,
    pub watch: &'a mut dyn FnMut(&Event<O::Evaluation>) -> Result<()>,
    pub optimizer: AdamW,
    pub rates: Rates,
    pub steps: u64,
    pub state: State,
    /// The weights of the best evaluation.
    pub best: Option<Vec<Tensor>>,
    /// What the kept weights were chosen by, once they are.
    pub chosen: Option<Chosen>,
    /// When this process began to train, and how many seconds others had done so before.
    pub clock: (Instant, f64),
    /// When the last checkpoint was written, and after which step.
    pub saved: (Instant, Option<u64>),
}

impl<O: Objective> Run<'_, O> {
    /// Trains to the end, from wherever the state says that the run stands. Gives the evaluation of
    /// the weights that the model then has.
    pub fn execute(&mut self, start: &Start) -> Result<O::Evaluation> {
        match self.train(start) {
            Err(Error::Interrupted) => {
                self.save(true)?;
                Err(Error::Interrupted)
            }
            result => result,
        }
    }

    fn train(&mut self, start: &Start) -> Result<O::Evaluation> {
        match self.restore()? {
            Some(damaged) => {
                (self.watch)(&Event::Started(start.clone()))?;
                self.tell(Event::Resumed { step: self.state.step, damaged })?;
            }
            None => self.tell(Event::Started(start.clone()))?,
        }
        if self.state.evaluated_at.is_none() {
            self.evaluate()?;
        }
        let data = self.data;
        self.state.epoch = self.state.epoch.max(1);
        while self.state.epoch <= self.config.epochs && !self.state.stopped_early {
            let shuffle = self.config.seed.wrapping_add(u64::from(self.state.epoch) << 32);
            let batches = length_grouped_batches(data.lengths(), self.config.batch_size, shuffle);
            // A run may have been stopped between a step and its evaluation.
            self.after_step(batches.len())?;
            let left = &batches[self.state.batch..];
            let limits = PartLimits {
                examples: self.config.micro_batch_size.unwrap_or(usize::MAX),
                tokens: self.config.max_tokens_per_batch,
            };
            data.batches(left, limits, |loaded| {
                for (batch, loaded) in left.iter().zip(loaded) {
                    if self.state.stopped_early {
                        break;
                    }
                    self.step(batch, &loaded?)?;
                    self.after_step(batches.len())?;
                }
                Ok(())
            })?;
            if !self.state.stopped_early {
                (self.state.epoch, self.state.batch) = (self.state.epoch + 1, 0);
            }
        }
        self.finish()
    }

    /// Evaluates and saves if it is time to.
    fn after_step(&mut self, batches: usize) -> Result<()> {
        let State { step, batch, .. } = self.state;
        if batch == 0 {
            return Ok(());
        }
        let last = step == self.steps;
        let due = match self.config.evaluate_every {
            Some(every) => step.is_multiple_of(every) || last,
            None => batch == batches,
        };
        if due && self.state.evaluated_at != Some(step) {
            self.evaluate()?;
        }
        let minutes = Duration::from_secs_f64((self.config.checkpoint_minutes * 60.0).min(1e9));
        let by_steps = self.config.checkpoint_steps.is_some_and(|every| step.is_multiple_of(every));
        let (when, at) = self.saved;
        if at != Some(step) && (by_steps || when.elapsed() >= minutes) {
            self.save(false)?;
        }
        Ok(())
    }

    /// Scores all sets, and remembers the weights if they are the best.
    fn evaluate(&mut self) -> Result<()> {
        let mut first = None;
        for set in self.sets {
            let evaluation = self.objective.evaluate(self.scorer, set.examples)?;
            first.get_or_insert_with(|| evaluation.clone());
            let (step, set) = (self.state.step, set.name.to_owned());
            let epoch = if step == 0 { 0 } else { self.state.epoch };
            self.tell(Event::Evaluated { step, epoch, set, evaluation })?;
        }
        self.state.evaluated_at = Some(self.state.step);
        let Some(evaluation) = first else { return Ok(()) };
        let json = to_value(&evaluation)?;
        let merit = self.merit(&evaluation, &json)?;
        self.state.evaluation = json;
        let choosing = self.config.keep_best || self.config.patience.is_some();
        let (true, Some(merit)) = (choosing && self.state.step > 0, merit) else {
            return Ok(());
        };
        // Of equals the first one stays.
        if self.state.best.as_ref().is_none_or(|best| merit > best.merit) {
            let (step, epoch) = (self.state.step, self.state.epoch);
            let evaluation = self.state.evaluation.clone();
            self.state.best = Some(BestSoFar { step, epoch, merit, evaluation });
            self.state.unimproved = 0;
            if self.config.keep_best {
                self.best = Some(self.optimizer.weights()?);
            }
            self.save(false)?;
        } else {
            self.state.unimproved += 1;
            if self.config.patience.is_some_and(|patience| self.state.unimproved >= patience) {
                self.state.stopped_early = true;
                self.tell(Event::StoppedEarly { step: self.state.step })?;
            }
        }
        Ok(())
    }

    /// The figure by which evaluations are compared; more is better.
    fn merit(&self, evaluation: &O::Evaluation, json: &Value) -> Result<Option<f64>> {
        let Some(name) = &self.config.best_by else {
            return Ok(self.objective.merit(evaluation).filter(|merit| !merit.is_nan()));
        };
        match json.get(name) {
            Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => {
                let less_is_better =
                    matches!(name.as_str(), "loss" | "mse" | "perplexity" | "calibration_error");
                Ok(number.as_f64().map(|value| if less_is_better { -value } else { value }))
            }
            _ => {
                let numbers = json.as_object().into_iter().flatten();
                let names = numbers.filter(|(_, v)| v.is_number() || v.is_null());
                let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
                Err(Error::Config {
                    field: "best_by",
                    value: name.clone(),
                    message: format!("an evaluation has no such number; {}", names.join(", ")),
                })
            }
        }
    }

    /// The end: the best weights, if they are to be kept.
    fn finish(&mut self) -> Result<O::Evaluation> {
        if let (Some(weights), Some(best)) = (self.best.take(), self.state.best.clone()) {
            let set = self.sets.first().map_or_else(String::new, |set| set.name.to_owned());
            let (step, epoch, last) = (best.step, best.epoch, from_value(&self.state.evaluation)?);
            // First, so that a run that is interrupted by it is saved as it was after its last step.
            self.tell(Event::Kept { step, epoch, set: set.clone(), last })?;
            self.optimizer.set_weights(&weights)?;
            let last = std::mem::replace(&mut self.state.evaluation, best.evaluation);
            self.chosen = Some(Chosen { set, last });
        }
        from_value(&self.state.evaluation)
    }

    /// Goes back to the newest valid checkpoint, if the run is resumed and there is one. Gives the
    /// damaged ones.
    fn restore(&mut self) -> Result<Option<Vec<String>>> {
        let Some(folder) = self.folder.as_deref().filter(|folder| folder.is_resumed()) else {
            return Ok(None);
        };
        let restored = checkpoint::restore(folder, &mut self.optimizer)?;
        folder.truncate_records(restored.as_ref().map_or(0, |found| found.state.record_bytes))?;
        let Some(restored) = restored else { return Ok(None) };
        self.clock.1 = restored.state.seconds;
        self.state = restored.state;
        self.best = restored.best.filter(|_| self.config.keep_best);
        Ok(Some(restored.damaged))
    }

    /// Writes a checkpoint, if the run has a folder. Whoever watches an interrupted run is told, and
    /// not asked again.
    fn save(&mut self, interrupted: bool) -> Result<()> {
        let Some(folder) = self.folder.as_deref() else { return Ok(()) };
        let kept = self.config.checkpoints_kept as usize;
        let written = checkpoint::save(folder, &self.state, &self.optimizer, kept)?;
        self.saved = (Instant::now(), Some(self.state.step));
        let checkpoint::Written { path, bytes, seconds } = written;
        let told = self.tell(Event::Checkpoint { step: self.state.step, path, bytes, seconds });
        if interrupted {
            return Ok(());
        }
        told
    }

    pub(super) fn tell(&mut self, event: Event<O::Evaluation>) -> Result<()> {
        if let Some(folder) = self.folder.as_deref_mut() {
            folder.record(&event)?;
        }
        (self.watch)(&event)
    }

    /// An error of libtorch as one that says what to do about it.
    pub(super) fn explained(&self, step: u64, error: Error) -> Error {
        match error {
            Error::Torch(source) if source.to_string().contains("out of memory") => {
                Error::OutOfMemory { step, device: self.scorer.model().device(), source }
            }
            error => error,
        }
    }
}

fn from_value<E: serde::de::DeserializeOwned>(evaluation: &Value) -> Result<E> {
    E::deserialize(evaluation).map_err(|error| {
        Error::InvalidArgument(format!("the evaluation cannot be read back: {error}"))
    })
}

fn to_value(evaluation: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(evaluation).map_err(|error| {
        Error::InvalidArgument(format!("the evaluation cannot be written as JSON: {error}"))
    })
}
