//! A part of a step: what is in memory at once, and what its gradient costs.

use std::path::Path;

use tch::{Device, Tensor};

use super::feed::LoadedPart;
use super::objective::{BatchLoss, Decisions, Objective};
use super::TrainConfig;
use crate::model::{GraphParts, Mode, RewardModel};
use crate::{Error, Result, TokenBatch};

/// A part of a step on its way through the model.
pub(super) struct Part<'a, T> {
    pub loaded: &'a LoadedPart<T>,
    pub mode: Mode,
    /// Whether the gradient is to be multiplied by what the part weighs.
    pub weighted: bool,
}

impl<T> Part<'_, T> {
    /// Adds the part's gradient to those of the parameters, which are to be forgotten if the loss
    /// turns out not to be finite. Nothing is read of what a GPU still computes.
    pub fn differentiate<O: Objective<Target = T>>(
        &self,
        objective: &O,
        model: &dyn RewardModel,
        config: &TrainConfig,
    ) -> Result<BatchLoss> {
        match self.parts(model, config)? {
            Some(parts) => self.in_parts(objective, model, parts),
            None => self.backward(objective, model),
        }
    }

    fn backward<O: Objective<Target = T>>(
        &self,
        objective: &O,
        model: &dyn RewardModel,
    ) -> Result<BatchLoss> {
        let LoadedPart { tokens, targets, .. } = self.loaded;
        let cost = objective.loss(model, tokens, &targets.iter().collect::<Vec<_>>(), self.mode)?;
        match cost.weight {
            Some(weight) if self.weighted => cost.loss.f_mul_scalar(weight)?.f_backward()?,
            _ => cost.loss.f_backward()?,
        }
        // Without their graph.
        let outputs = cost.outputs.map(|outputs| outputs.f_detach()).transpose()?;
        Ok(BatchLoss { loss: cost.loss.f_detach()?, outputs, ..cost })
    }

    /// The gradient by way of that of the scores, of which the objective makes its loss.
    fn in_parts<O: Objective<Target = T>>(
        &self,
        objective: &O,
        model: &dyn RewardModel,
        parts: GraphParts,
    ) -> Result<BatchLoss> {
        let mut cost = None;
        let _ = model.backward_in_parts(&self.loaded.tokens, self.mode, parts, &mut |scores| {
            let scores = scores.f_detach()?.f_set_requires_grad(true)?;
            cost = Some(self.backward(objective, &Known { model, scores: &scores })?);
            let gradient = scores.f_grad()?;
            Ok(if gradient.defined() { gradient } else { scores.f_zeros_like()? })
        })?;
        cost.ok_or_else(|| {
            Error::InvalidArgument("the model did not ask for the gradient of its scores".into())
        })
    }

    /// In which parts the graph is made, if not at once: as many texts as the settings allow, but
    /// always one.
    fn parts(&self, model: &dyn RewardModel, config: &TrainConfig) -> Result<Option<GraphParts>> {
        if config.gradient_checkpointing {
            return Ok(Some(GraphParts::Layers));
        }
        let texts = self.loaded.tokens.texts();
        let most = config.chunk_size.unwrap_or(texts).min(texts);
        let Some(limit) = config.max_memory else { return Ok(chunks_of(most, texts)) };
        let bytes = |chunk| {
            model.activation_bytes(&self.loaded.tokens, self.mode, GraphParts::Texts(chunk))
        };
        let fits = |chunk| match bytes(chunk) {
            Some(bytes) => Ok(bytes <= limit),
            None => Err(Error::Config {
                field: "max_memory",
                value: limit.to_string(),
                message: "this model does not estimate its memory \
                          (RewardModel::activation_bytes); use chunk_size"
                    .into(),
            }),
        };
        if fits(most)? {
            return Ok(chunks_of(most, texts));
        }
        let (mut within, mut beyond) = (1, most);
        while beyond - within > 1 {
            let middle = within + (beyond - within) / 2;
            *if fits(middle)? { &mut within } else { &mut beyond } = middle;
        }
        Ok(chunks_of(within, texts))
    }
}

/// Chunks of so many texts, if they are not all that there are.
fn chunks_of(chunk: usize, texts: usize) -> Option<GraphParts> {
    (chunk < texts).then_some(GraphParts::Texts(chunk))
}

/// A model whose scores of the batch are known.
struct Known<'a> {
    model: &'a dyn RewardModel,
    scores: &'a Tensor,
}

impl RewardModel for Known<'_> {
    fn forward(&self, _: &TokenBatch, _: Mode) -> Result<Tensor> {
        Ok(self.scores.shallow_clone())
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.model.parameters()
    }

    fn device(&self) -> Device {
        self.model.device()
    }

    fn save(&self, dir: &Path) -> Result<()> {
        self.model.save(dir)
    }
}

/// What a step's parts come to.
#[derive(Default)]
pub(super) struct PartSums {
    weighted: f64,
    weight: f64,
    sum: f64,
    pub accuracy: Mean,
    pub margin: Mean,
}

#[derive(Default)]
pub(super) struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn add(&mut self, value: Option<f64>, weight: f64) {
        if let Some(value) = value {
            self.sum += value * weight;
            self.weight += weight;
        }
    }

    pub fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

impl PartSums {
    pub fn add(&mut self, value: f64, weight: Option<f64>) {
        match weight {
            Some(weight) => {
                self.weighted += value * weight;
                self.weight += weight;
            }
            None => self.sum += value,
        }
    }

    pub fn decided(&mut self, decisions: &Decisions) {
        self.accuracy.add(decisions.accuracy, decisions.count as f64);
        self.margin.add(decisions.margin, decisions.count as f64);
    }

    pub fn loss(&self) -> f64 {
        let mean = if self.weight > 0.0 { self.weighted / self.weight } else { 0.0 };
        mean + self.sum
    }
}
