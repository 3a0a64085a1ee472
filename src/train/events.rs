//! What a run tells whoever watches it.

use serde::Serialize;

use super::ParameterGroup;
use crate::metrics::RankMetrics;

/// Something that happened in a training run; `E` is how the [objective](crate::Objective) evaluates.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event<E = Evaluation> {
    /// All data are tokenised; the first step comes next.
    Started(Start),
    /// An optimiser step is done.
    Step(Step),
    /// The held-out examples have been scored.
    Evaluated {
        /// The epoch that has just ended, from 1; 0 before training.
        epoch: u32,
        /// The figures.
        evaluation: E,
    },
    /// Training is over, and the weights of this epoch are kept, as
    /// [`TrainConfig::keep_best`](crate::TrainConfig::keep_best) asks.
    Kept {
        /// The epoch, from 1.
        epoch: u32,
    },
}

/// What a run is about to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Start {
    /// Lists, or other examples, to train on.
    pub lists: usize,
    /// Lists, or other examples, to evaluate on.
    pub evaluation_lists: usize,
    /// Lists of the training data that are left out because a response is too long.
    pub too_long: usize,
    /// Lists of the training data that are left out because no response is ranked above another.
    pub without_pairs: usize,
    /// Lists of the training data whose prompt is cut from its left.
    pub prompts_cut: usize,
    /// How many numbers are trained.
    pub trainable_parameters: u64,
    /// The same part by part, from the input to the output.
    pub groups: Vec<ParameterGroup>,
    /// Optimiser steps in one epoch.
    pub steps_per_epoch: u64,
    /// Optimiser steps in all.
    pub steps: u64,
}

/// One optimiser step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// Its number, from 1.
    pub step: u64,
    /// Its epoch, from 1.
    pub epoch: u32,
    /// The batch's loss, before the step.
    pub loss: f64,
    /// The batch's accuracy (of pairs, classes or tokens), before the step.
    pub accuracy: Option<f64>,
    /// The batch's mean reward margin r_w − r_l, before the step.
    pub margin: Option<f64>,
    /// The learning rate.
    pub learning_rate: f64,
    /// The norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Lists, or other examples, in the batch.
    pub lists: usize,
    /// Tokens in the batch.
    pub tokens: usize,
    /// Seconds since training began.
    pub seconds: f64,
}

/// How a model ranks lists that it does not learn from.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Evaluation {
    /// The training loss on these lists; `None` if they have no pair.
    pub loss: Option<f64>,
    /// The metrics.
    #[serde(flatten)]
    pub metrics: RankMetrics,
    /// Lists left out because a response is too long.
    pub too_long: usize,
}
