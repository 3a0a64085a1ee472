//! One optimiser step: its gradient, gathered over parts, and where it leads.

use super::feed::{Loaded, LoadedPart};
use super::kept::Continued;
use super::objective::Objective;
use super::parts::{Part, PartSums};
use super::run::Run;
use super::{Event, Step};
use crate::model::Mode;
use crate::torch::to_vec_f32;
use crate::{Error, Result};

/// A step's result.
enum Outcome {
    Made(Step),
    Skipped(String),
}

impl<O: Objective> Run<'_, O> {
    /// One optimiser step on the examples at `batch`.
    pub(super) fn step(&mut self, batch: &[usize], loaded: &Loaded<O::Target>) -> Result<()> {
        let step = self.state.step + 1;
        let outcome =
            self.descend(step, batch, loaded).map_err(|error| self.explained(step, error))?;
        (self.state.step, self.state.batch) = (step, self.state.batch + 1);
        self.state.updates = self.optimizer.steps();
        self.state.seconds = self.clock.1 + self.clock.0.elapsed().as_secs_f64();
        match outcome {
            Outcome::Made(mut done) => {
                self.state.skipped_in_a_row = 0;
                done.seconds = self.state.seconds;
                self.tell(Event::Step(done))
            }
            Outcome::Skipped(what) => {
                self.state.skipped_in_a_row += 1;
                let (in_a_row, lists) = (self.state.skipped_in_a_row, self.data.numbers(batch));
                if in_a_row > self.config.max_skipped_steps {
                    let numbers: Vec<String> = lists.iter().map(usize::to_string).collect();
                    return Err(Error::Diverged { step, what, lists: numbers.join(", ") });
                }
                self.tell(Event::Skipped { step, what, lists, in_a_row })
            }
        }
    }

    /// Moves the parameters down the gradient, unless that is not finite.
    fn descend(
        &mut self,
        step: u64,
        batch: &[usize],
        loaded: &Loaded<O::Target>,
    ) -> Result<Outcome> {
        self.optimizer.zero_grad();
        let parts = &loaded.parts;
        let mut costs = Vec::with_capacity(parts.len());
        for (number, loaded) in parts.iter().enumerate() {
            let (mode, weighted) = (self.mode(step, number), parts.len() > 1);
            let part = Part { loaded, mode, weighted };
            let model = self.scorer.model();
            let frozen = model.frozen_layers(mode);
            // In a single epoch nothing comes again.
            let frozen = frozen.filter(|_| self.config.epochs > 1);
            costs.push(match frozen.filter(|_| self.objective.needs_outputs_alone()) {
                Some(layers) => {
                    let examples: Vec<usize> = loaded.places.iter().map(|&at| batch[at]).collect();
                    let states =
                        self.kept.states(layers, &examples, &loaded.tokens, model.device())?;
                    let model = Continued { model, layers, states };
                    part.differentiate(self.objective, &model, self.config)?
                }
                None => part.differentiate(self.objective, model, self.config)?,
            });
        }
        let weight: f64 = costs.iter().filter_map(|cost| cost.weight).sum();
        if parts.len() > 1 && weight > 0.0 {
            self.optimizer.scale_gradients(1.0 / weight)?;
        }
        // The first number that is read: a GPU has had the whole gradient to do by then.
        let grad_norm = self.optimizer.clip(self.config.max_grad_norm)?;
        let mut sums = PartSums::default();
        for cost in &costs {
            let value = cost.loss.f_double_value(&[])?;
            if !value.is_finite() {
                return Ok(Outcome::Skipped(format!("the loss is {value}")));
            }
            sums.add(value, cost.weight);
        }
        if !grad_norm.is_finite() {
            let names = self.optimizer.not_finite()?.join(", ");
            return Ok(Outcome::Skipped(format!("the gradient's norm is {grad_norm} ({names})")));
        }
        for (LoadedPart { targets, .. }, cost) in parts.iter().zip(&costs) {
            if let Some(outputs) = &cost.outputs {
                let targets: Vec<_> = targets.iter().collect();
                sums.decided(&self.objective.decisions(&to_vec_f32(outputs)?, &targets)?);
            }
        }
        let learning_rate = self.rates.rate(step);
        self.optimizer.step(learning_rate)?;
        Ok(Outcome::Made(Step {
            step,
            epoch: self.state.epoch,
            loss: sums.loss(),
            accuracy: sums.accuracy.mean(),
            margin: sums.margin.mean(),
            learning_rate,
            grad_norm,
            lists: batch.len(),
            tokens: parts.iter().map(|part| part.tokens.tokens()).sum(),
            seconds: 0.0,
        }))
    }

    fn mode(&self, step: u64, part: usize) -> Mode {
        let seed = self.config.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(step);
        let seed = seed.wrapping_add((part as u64).wrapping_mul(0xD1B5_4A32_D192_ED03)) as i64;
        match self.config.dropout {
            true => Mode::Training { seed },
            false => Mode::WithoutDropout { seed },
        }
    }
}
