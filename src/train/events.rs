//! What a run tells whoever watches it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ParameterGroup;
use crate::metrics::{RankDetails, RankMetrics};

/// Something that happened in a training run; `E` is how the [objective](crate::Objective) evaluates.
///
/// In `events.jsonl` of a [`RunFolder`](crate::RunFolder) each is one line of JSON with its name in
/// `event`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event<E = Evaluation> {
    /// All data are tokenised; the first step comes next.
    Started(Start),
    /// The run goes on where an earlier one was stopped.
    Resumed {
        /// The last step of the checkpoint that it goes on from.
        step: u64,
        /// Checkpoints that are damaged and were passed over, with what is wrong with each.
        damaged: Vec<String>,
    },
    /// An optimiser step is done.
    Step(Step),
    /// A step was left out because the loss or the gradient is not finite, as
    /// [`TrainConfig::max_skipped_steps`](crate::TrainConfig::max_skipped_steps) allows.
    Skipped {
        /// Its number, from 1.
        step: u64,
        /// What is not finite, with its value.
        what: String,
        /// The numbers of the step's lists in the training data, from 0.
        lists: Vec<usize>,
        /// How many steps have been skipped one after another.
        in_a_row: u32,
    },
    /// A set of held-out examples has been scored.
    Evaluated {
        /// How many steps have been made; 0 before training.
        step: u64,
        /// The epoch, from 1; 0 before training.
        epoch: u32,
        /// The set's name.
        set: String,
        /// The figures.
        evaluation: E,
    },
    /// A checkpoint is complete and on disk.
    Checkpoint {
        /// How many steps have been made.
        step: u64,
        /// Its folder.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// How long it took, in seconds.
        seconds: f64,
    },
    /// Training is over before its last step, as
    /// [`TrainConfig::patience`](crate::TrainConfig::patience) asks.
    StoppedEarly {
        /// How many steps have been made.
        step: u64,
    },
    /// Training is over, and the model gets the weights of its best evaluation, as
    /// [`TrainConfig::keep_best`](crate::TrainConfig::keep_best) asks. Figures of the set that they were
    /// chosen on are too good by as much as the choice was luck.
    Kept {
        /// How many steps had been made.
        step: u64,
        /// The epoch, from 1.
        epoch: u32,
        /// The set that the evaluations were compared on.
        set: String,
        /// The evaluation of that set after the last step.
        last: E,
    },
}

/// What a run is about to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Start {
    /// The version of the records' schema: a larger one may have lost or changed a field.
    pub schema: u32,
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Evaluation {
    /// The training loss on these lists; `None` if they have no pair.
    pub loss: Option<f64>,
    /// The metrics.
    #[serde(flatten)]
    pub metrics: RankMetrics,
    /// What stands behind them; lengths are the responses' in tokens.
    #[serde(flatten)]
    pub details: RankDetails,
    /// Lists left out because a response is too long.
    pub too_long: usize,
}
