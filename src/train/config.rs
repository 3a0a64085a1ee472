//! What a training run is to do.

use serde::{Deserialize, Serialize};

use super::Selection;
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
    /// The highest learning rate, reached after the warm-up; positive. Default 5e-5.
    pub learning_rate: f64,
    /// The head's own highest learning rate; positive. Default: that of the rest.
    pub head_learning_rate: Option<f64>,
    /// What the learning rate is multiplied by from layer to layer, from the head down to the
    /// embeddings: of L layers, layer l has `layer_decay`^(L − l) times the learning rate (Clark et
    /// al. 2020, ELECTRA). From above 0 to 1; default 1.
    pub layer_decay: f64,
    /// The share of all steps in which the learning rate rises from 0; it then falls to 0 along a
    /// line. From 0 to 1; default 0.1.
    pub warmup_ratio: f64,
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
    /// Whether the weights of the epoch with the best held-out figure (pairwise accuracy, for ranked
    /// lists) are kept in place of the last epoch's. Costs a copy of what trains. Default: no.
    pub keep_best: bool,
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
            learning_rate: 5e-5,
            head_learning_rate: None,
            layer_decay: 1.0,
            warmup_ratio: 0.1,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            max_grad_norm: 1.0,
            loss: RankLoss::new().reduction(Reduction::MeanPerList),
            keep_best: false,
            seed: 0,
            threads: None,
        }
    }
}

impl TrainConfig {
    /// Whether every setting is within its bounds.
    ///
    /// # Errors
    /// An [`Error::Config`] that names the first one that is not, its value and its bounds.
    pub fn check(&self) -> Result<()> {
        let head_rate = self.head_learning_rate.unwrap_or(self.learning_rate);
        let rules = [
            ("epochs", f64::from(self.epochs), self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size as f64, self.batch_size >= 1, "at least 1"),
            ("learning_rate", self.learning_rate, self.learning_rate > 0.0, "positive"),
            ("head_learning_rate", head_rate, head_rate > 0.0, "positive"),
            ("layer_decay", self.layer_decay, self.layer_decay > 0.0, "from above 0 to 1"),
            ("layer_decay", self.layer_decay, self.layer_decay <= 1.0, "from above 0 to 1"),
            ("warmup_ratio", self.warmup_ratio, self.warmup_ratio <= 1.0, "from 0 to 1"),
            ("warmup_ratio", self.warmup_ratio, self.warmup_ratio >= 0.0, "from 0 to 1"),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0.0, "not negative"),
            ("beta1", self.beta1, (0.0..1.0).contains(&self.beta1), "from 0 to below 1"),
            ("beta2", self.beta2, (0.0..1.0).contains(&self.beta2), "from 0 to below 1"),
            ("epsilon", self.epsilon, self.epsilon > 0.0, "positive"),
            ("max_grad_norm", self.max_grad_norm, self.max_grad_norm > 0.0, "positive"),
            ("threads", self.threads.unwrap_or(1).into(), self.threads != Some(0), "at least 1"),
        ];
        for (field, value, holds, bounds) in rules {
            if !(holds && value.is_finite()) {
                return Err(Error::Config {
                    field,
                    value: value.to_string(),
                    message: format!("must be finite and {bounds}"),
                });
            }
        }
        self.loss.check()?;
        if self.loss.get_reduction() == Reduction::None {
            return Err(Error::Config {
                field: "loss.reduction",
                value: "none".into(),
                message: "training needs one number; use mean_per_list, mean_pairs or sum".into(),
            });
        }
        Ok(())
    }
}
