//! What a run tells whoever watches it.

use serde::Serialize;

use crate::metrics::RankMetrics;

/// Something that happened in a training run.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// All data are tokenised; the first step comes next.
    Started(Start),
    /// An optimiser step is done.
    Step(Step),
    /// The held-out lists have been scored.
    Evaluated {
        /// The epoch that has just ended, from 1; 0 before training.
        epoch: u32,
        /// The figures.
        evaluation: Evaluation,
    },
}

/// What a run is about to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Start {
    /// Lists to train on.
    pub lists: usize,
    /// Lists to evaluate on.
    pub evaluation_lists: usize,
    /// Lists of the training data that are left out because a response is too long.
    pub too_long: usize,
    /// Lists of the training data that are left out because no response is ranked above another.
    pub without_pairs: usize,
    /// Lists of the training data whose prompt is cut from its left.
    pub prompts_cut: usize,
    /// How many numbers are trained.
    pub trainable_parameters: u64,
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
    /// The batch's pairwise accuracy, before the step.
    pub accuracy: Option<f64>,
    /// The batch's mean reward margin r_w − r_l, before the step.
    pub margin: Option<f64>,
    /// The learning rate.
    pub learning_rate: f64,
    /// The norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Lists in the batch.
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
