//! A part of a step: what is in memory at once, and what its gradient costs.

use std::path::Path;

use tch::{Device, Tensor};

use super::objective::{BatchLoss, Objective};
use super::TrainConfig;
use crate::model::{GraphParts, Mode, RewardModel};
use crate::{Error, Result, TokenBatch};

/// Examples of a step whose gradient is taken together: a micro-batch.
pub(super) struct Part<'a, T> {
    pub tokens: TokenBatch,
    pub targets: Vec<&'a T>,
    pub mode: Mode,
    /// Whether the gradient is to be multiplied by what the part weighs.
    pub weighted: bool,
}

/// What a part came to.
pub(super) struct Cost {
    pub value: f64,
    pub weight: Option<f64>,
    pub accuracy: Option<f64>,
    pub margin: Option<f64>,
    pub decisions: usize,
}

impl<T> Part<'_, T> {
    /// Adds the part's gradient to those of the parameters, which are to be forgotten if the loss
    /// that is given back is not finite.
    pub fn differentiate<O: Objective<Target = T>>(
        &self,
        objective: &O,
        model: &dyn RewardModel,
        config: &TrainConfig,
    ) -> Result<Cost> {
        match self.parts(model, config)? {
            Some(parts) => self.in_parts(objective, model, parts),
            None => self.backward(objective.loss(model, &self.tokens, &self.targets, self.mode)?),
        }
    }

    fn backward(&self, cost: BatchLoss) -> Result<Cost> {
        let BatchLoss { loss, accuracy, margin, decisions, weight } = cost;
        match weight {
            Some(weight) if self.weighted => loss.f_mul_scalar(weight)?.f_backward()?,
            _ => loss.f_backward()?,
        }
        // Only now, for a GPU to have all of it to do.
        let value = loss.f_double_value(&[])?;
        Ok(Cost { value, weight, accuracy, margin, decisions })
    }

    /// The gradient by way of that of the scores, of which the objective makes its loss.
    fn in_parts<O: Objective<Target = T>>(
        &self,
        objective: &O,
        model: &dyn RewardModel,
        parts: GraphParts,
    ) -> Result<Cost> {
        let mut cost = None;
        let done = model.backward_in_parts(&self.tokens, self.mode, parts, &mut |scores| {
            let scores = scores.f_detach()?.f_set_requires_grad(true)?;
            let known = Known { model, scores: &scores };
            let loss = objective.loss(&known, &self.tokens, &self.targets, self.mode)?;
            let found = cost.insert(self.backward(loss)?);
            if !found.value.is_finite() {
                // Caught below: what follows would be for nothing.
                return Err(Error::InvalidArgument(format!("the loss is {}", found.value)));
            }
            let gradient = scores.f_grad()?;
            Ok(if gradient.defined() { gradient } else { scores.f_zeros_like()? })
        });
        match (cost, done) {
            (Some(cost), _) if !cost.value.is_finite() => Ok(cost),
            (Some(cost), Ok(_)) => Ok(cost),
            (_, Err(error)) => Err(error),
            (None, Ok(_)) => Err(Error::InvalidArgument(
                "the model did not ask for the gradient of its scores".into(),
            )),
        }
    }

    /// In which parts the graph is made, if not at once: as many texts as the settings allow, but
    /// always one.
    fn parts(&self, model: &dyn RewardModel, config: &TrainConfig) -> Result<Option<GraphParts>> {
        if config.gradient_checkpointing {
            return Ok(Some(GraphParts::Layers));
        }
        let texts = self.tokens.texts();
        let most = config.chunk_size.unwrap_or(texts).min(texts);
        let Some(limit) = config.max_memory else { return Ok(chunks_of(most, texts)) };
        let bytes =
            |chunk| model.activation_bytes(&self.tokens, self.mode, GraphParts::Texts(chunk));
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
    pub weight: f64,
    sum: f64,
    pub accuracy: Mean,
    pub margin: Mean,
    pub tokens: usize,
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
    pub fn add(&mut self, cost: &Cost) {
        match cost.weight {
            Some(weight) => {
                self.weighted += cost.value * weight;
                self.weight += weight;
            }
            None => self.sum += cost.value,
        }
        self.accuracy.add(cost.accuracy, cost.decisions as f64);
        self.margin.add(cost.margin, cost.decisions as f64);
    }

    pub fn loss(&self) -> f64 {
        let mean = if self.weight > 0.0 { self.weighted / self.weight } else { 0.0 };
        mean + self.sum
    }
}
