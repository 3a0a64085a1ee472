//! What a training run is to do.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Objective, Schedule, Selection};
use crate::{Error, RankLoss, Reduction, Result};

/// The settings of a training run. [`Trainer::new`](crate::Trainer::new) checks all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Which parameters train. Default: all.
    pub trains: Selection,
    /// How often each list is seen; at least 1. Default 3.
    pub epochs: u32,
    /// Ranked lists per optimiser step; at least 1. Default 8.
    pub batch_size: usize,
    /// How many lists of a step are in memory at once; at least 1. The step's gradient is accumulated
    /// over such parts and is that of the whole step, to rounding, whatever the lists' sizes.
    /// Default: all of them.
    pub micro_batch_size: Option<usize>,
    /// How many tokens of a step are in memory at once, those of all texts of its lists; at least 1.
    /// Which lists a step has is up to the shuffle alone: they are sorted by length and accumulated
    /// as with `micro_batch_size`, in parts of as many lists as fit. A list of more tokens goes
    /// alone. Default: any number.
    pub max_tokens_per_batch: Option<usize>,
    /// How many bytes activations may take, estimated by the model; at least 1. What would take more
    /// goes through the model twice, first without a graph and then backward in chunks of as many
    /// texts as fit, at least one ([`RewardModel::backward_in_parts`]). The gradient is the same, to
    /// rounding, but for what is dropped out. Default: any number.
    ///
    /// [`RewardModel::backward_in_parts`]: crate::RewardModel::backward_in_parts
    pub max_memory: Option<u64>,
    /// How many texts such a chunk has at most, whatever they take; at least 1. Default: any number.
    pub chunk_size: Option<usize>,
    /// Whether the model keeps what goes into each of its layers alone, and computes the rest again,
    /// layer by layer, on the way back (gradient checkpointing): also in little memory, whatever the
    /// number of texts. Not to be had with `max_memory` or `chunk_size`. The gradient is the same, to
    /// rounding, but for what is dropped out. Default: no.
    pub gradient_checkpointing: bool,
    /// The highest learning rate, reached after the warm-up; positive. Default 5e-5.
    pub learning_rate: f64,
    /// The head's own highest learning rate; positive. Default: that of the rest.
    pub head_learning_rate: Option<f64>,
    /// What the learning rate is multiplied by from layer to layer, from the head down to the
    /// embeddings: of L layers, layer l has `layer_decay`^(L − l) times the learning rate (Clark et
    /// al. 2020, ELECTRA). From above 0 to 1; default 1.
    pub layer_decay: f64,
    /// How the learning rate goes on after the warm-up. Default: along a line.
    pub schedule: Schedule,
    /// The share of all steps in which the learning rate rises from 0 along a line. From 0 to 1;
    /// default 0.1.
    pub warmup_ratio: f64,
    /// What the schedule falls to, as a share of the highest learning rate; from 0 to 1, default 0.
    pub learning_rate_floor: f64,
    /// AdamW's decoupled weight decay, on matrices only; not negative. Default 0.01.
    pub weight_decay: f64,
    /// AdamW's decay of the mean of gradients; from 0 to below 1. Default 0.9.
    pub beta1: f64,
    /// AdamW's decay of the mean of squared gradients; from 0 to below 1. Default 0.999.
    pub beta2: f64,
    /// AdamW's ε; positive. Default 1e-8.
    pub epsilon: f64,
    /// Gradients are scaled down to this global norm if theirs is larger; positive. Default 1.
    pub max_grad_norm: f64,
    /// The loss. Default: logistic, [`Reduction::MeanPerList`].
    pub loss: RankLoss,
    /// Whether the model drops activations out as its own configuration says. Default: yes.
    pub dropout: bool,
    /// Optimiser steps from one evaluation to the next; at least 1. Default: an epoch.
    pub evaluate_every: Option<u64>,
    /// Whether the weights of the evaluation with the best figure are kept in place of the last
    /// ones. Costs a copy of what trains. Default: no.
    pub keep_best: bool,
    /// The figure of the first evaluation set by which evaluations are compared: the name of a number
    /// in the evaluation, such as `kendall_tau`, of which more is better unless it is `loss`, `mse`,
    /// `perplexity` or `calibration_error`. Default: the objective's own, `pairwise_accuracy` for
    /// ranked lists.
    pub best_by: Option<String>,
    /// Training stops after this many evaluations in a row that are no better than the best before
    /// them; at least 1. Default: never.
    pub patience: Option<u32>,
    /// How many steps in a row may be skipped because the loss or the gradient is not finite; one
    /// more stops the run. Default 0: the first one does.
    pub max_skipped_steps: u32,
    /// Steps from one checkpoint to the next, in a run with a [`RunFolder`](crate::RunFolder); at
    /// least 1. Default: by time alone.
    pub checkpoint_steps: Option<u64>,
    /// Minutes from one checkpoint to the next, in a run with a [`RunFolder`](crate::RunFolder);
    /// positive. Default 5.
    pub checkpoint_minutes: f64,
    /// How many of the newest checkpoints are kept, the best one not counted; at least 1. Default 2.
    pub checkpoints_kept: u32,
    /// How many tokens of the training data are kept in memory, at 5 bytes each; of more, every batch
    /// is read and tokenised again when its turn comes. Default 8 million.
    pub tokens_in_memory: u64,
    /// Whether what the last frozen layer gives for a list is kept for later epochs, where embeddings
    /// and at least one layer above them do not train and nothing is dropped out in them. It is
    /// computed list by list in either case: weights are the same, bit for bit. Default: yes.
    pub cache_frozen: bool,
    /// How many bytes of it are kept in memory: 4 · `hidden_size` (in bf16 2) for each token, those that
    /// the texts of a list share counted once, or for each text if only the head trains. Default 1 GiB.
    pub cache_memory: u64,
    /// How many more bytes are kept in an unnamed temporary file, in the run's folder if there is one;
    /// what has no room there either, or on a full disk, is computed in every epoch. Default 8 GiB.
    pub cache_disk: u64,
    /// Whether data that would be left out or cut are an error: where a text is too long or, in
    /// training data, a list has no pairs. Default: no.
    pub strict: bool,
    /// Seeds shuffling and dropout. Default 0.
    pub seed: u64,
    /// How many threads libtorch computes with, for the whole process; at least 1. `None` leaves it
    /// alone. On a CPU the same seed and number of threads give the same weights, bit for bit.
    pub threads: Option<u16>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            trains: Selection::All,
            epochs: 3,
            batch_size: 8,
            micro_batch_size: None,
            max_tokens_per_batch: None,
            max_memory: None,
            chunk_size: None,
            gradient_checkpointing: false,
            learning_rate: 5e-5,
            head_learning_rate: None,
            layer_decay: 1.0,
            schedule: Schedule::Linear,
            warmup_ratio: 0.1,
            learning_rate_floor: 0.0,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            max_grad_norm: 1.0,
            loss: RankLoss::new().reduction(Reduction::MeanPerList),
            dropout: true,
            evaluate_every: None,
            keep_best: false,
            best_by: None,
            patience: None,
            max_skipped_steps: 0,
            checkpoint_steps: None,
            checkpoint_minutes: 5.0,
            checkpoints_kept: 2,
            tokens_in_memory: 8_000_000,
            cache_frozen: true,
            cache_memory: 1 << 30,
            cache_disk: 8 << 30,
            strict: false,
            seed: 0,
            threads: None,
        }
    }
}

impl TrainConfig {
    /// Reads settings from a file, JSON if its name ends in `.json` and TOML otherwise; those that it
    /// leaves out have their defaults. They are not [checked](Self::check) yet.
    ///
    /// ```toml
    /// learning_rate = 2e-5
    /// schedule = "cosine"
    /// trains = "last:4"
    ///
    /// [loss]
    /// reduction = "mean_per_list"
    /// ```
    ///
    /// # Errors
    /// If the file cannot be read, or holds anything but settings.
    pub fn read(path: impl AsRef<Path>) -> Result<TrainConfig> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let parsed = if path.extension().is_some_and(|extension| extension == "json") {
            serde_json::from_str(&text).map_err(|error| error.to_string())
        } else {
            toml::from_str(&text).map_err(|error| error.to_string())
        };
        parsed.map_err(|message| Error::ModelFile { path: path.to_path_buf(), message })
    }

    /// The settings as TOML; `None` is left out.
    ///
    /// # Errors
    /// If one cannot be written in TOML, such as a number above 2^63.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| Error::InvalidArgument(error.to_string()))
    }

    /// Whether every setting is within its bounds.
    ///
    /// # Errors
    /// An [`Error::Config`] that names the field that is not, its value and its bounds; several of
    /// them together are an [`Error::Several`].
    pub fn check(&self) -> Result<()> {
        let mut problems = self.numbers_out_of_bounds();
        if let Err(error) = self.loss.check() {
            problems.push(error);
        }
        if let [(_, Some(_)), others @ ..] = self.graph_parts() {
            problems.extend(others.into_iter().filter_map(|(field, value)| {
                let message =
                    "chunks of texts and gradient_checkpointing exclude each other".into();
                Some(Error::Config { field, value: value?, message })
            }));
        }
        if self.loss.get_reduction() == Reduction::None {
            problems.push(Error::Config {
                field: "loss.reduction",
                value: "none".into(),
                message: "training needs one number; use mean_per_list, mean_pairs or sum".into(),
            });
        }
        Error::all(problems)
    }

    /// Whether every setting can be had with this objective.
    pub(super) fn check_objective<O: Objective>(&self, objective: &O) -> Result<()> {
        let set = self.graph_parts().into_iter().filter_map(|(field, value)| Some((field, value?)));
        let wrong = |(field, value): (&'static str, String)| Error::Config {
            field,
            value,
            message: "this objective looks into the model, which must then run as a whole; use \
                      micro_batch_size or max_tokens_per_batch"
                .into(),
        };
        match objective.needs_outputs_alone() {
            true => Ok(()),
            false => Error::all(set.map(wrong).collect()),
        }
    }

    /// What divides a batch's graph into parts, with its value where it is set.
    fn graph_parts(&self) -> [(&'static str, Option<String>); 3] {
        let checkpointing = self.gradient_checkpointing.then(|| "true".to_owned());
        [
            ("gradient_checkpointing", checkpointing),
            ("max_memory", self.max_memory.map(|bytes| bytes.to_string())),
            ("chunk_size", self.chunk_size.map(|size| size.to_string())),
        ]
    }

    fn numbers_out_of_bounds(&self) -> Vec<Error> {
        // A field that is not set is within its bounds.
        let count = |number: Option<u64>| number.map_or(1.0, |number| number as f64);
        let size = |number: Option<usize>| number.map(|number| number as u64);
        let head_rate = self.head_learning_rate.unwrap_or(1.0);
        let from_0_to_1 = |x: f64| (0.0..=1.0).contains(&x);
        let below_1 = |x: f64| (0.0..1.0).contains(&x);
        let positive = |x: f64| x > 0.0;
        let at_least_1 = |x: f64| x >= 1.0;
        type Rule<'a> = (&'static str, f64, &'a dyn Fn(f64) -> bool, &'static str);
        let rules: [Rule; 22] = [
            ("epochs", self.epochs.into(), &at_least_1, "at least 1"),
            ("batch_size", self.batch_size as f64, &at_least_1, "at least 1"),
            ("micro_batch_size", count(size(self.micro_batch_size)), &at_least_1, "at least 1"),
            (
                "max_tokens_per_batch",
                count(size(self.max_tokens_per_batch)),
                &at_least_1,
                "at least 1",
            ),
            ("max_memory", count(self.max_memory), &at_least_1, "at least 1"),
            ("chunk_size", count(size(self.chunk_size)), &at_least_1, "at least 1"),
            ("learning_rate", self.learning_rate, &positive, "positive"),
            ("head_learning_rate", head_rate, &positive, "positive"),
            (
                "layer_decay",
                self.layer_decay,
                &|x| positive(x) && from_0_to_1(x),
                "from above 0 to 1",
            ),
            ("warmup_ratio", self.warmup_ratio, &from_0_to_1, "from 0 to 1"),
            ("learning_rate_floor", self.learning_rate_floor, &from_0_to_1, "from 0 to 1"),
            ("weight_decay", self.weight_decay, &|x| x >= 0.0, "not negative"),
            ("beta1", self.beta1, &below_1, "from 0 to below 1"),
            ("beta2", self.beta2, &below_1, "from 0 to below 1"),
            ("epsilon", self.epsilon, &positive, "positive"),
            ("max_grad_norm", self.max_grad_norm, &positive, "positive"),
            ("evaluate_every", count(self.evaluate_every), &at_least_1, "at least 1"),
            ("patience", count(self.patience.map(u64::from)), &at_least_1, "at least 1"),
            ("checkpoint_steps", count(self.checkpoint_steps), &at_least_1, "at least 1"),
            ("checkpoint_minutes", self.checkpoint_minutes, &positive, "positive"),
            ("checkpoints_kept", self.checkpoints_kept.into(), &at_least_1, "at least 1"),
            ("threads", count(self.threads.map(u64::from)), &at_least_1, "at least 1"),
        ];
        rules
            .into_iter()
            .filter(|(_, value, holds, _)| !(value.is_finite() && holds(*value)))
            .map(|(field, value, _, bounds)| Error::Config {
                field,
                value: value.to_string(),
                message: format!("must be finite and {bounds}"),
            })
            .collect()
    }
}
