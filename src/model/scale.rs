//! [`RewardScale`]: how large a model's rewards are.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// The scale of a reward model's rewards, in its `config.json` under `reward_scale`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RewardScale {
    /// The rewards' mean on training data, as they were before any normalisation.
    pub mean: f64,
    /// Their standard deviation.
    pub std: f64,
    /// Whether the head was changed so that rewards on training data have mean 0 and standard
    /// deviation 1.
    pub normalized: bool,
    /// What [`Scorer`](crate::Scorer) subtracts from the model's output, because the head has no bias
    /// that could. Python does not know of it: its rewards are larger by so much.
    #[serde(default)]
    pub offset: f64,
}

impl RewardScale {
    pub(super) const FIELD: &'static str = "reward_scale";

    /// What a folder's `config.json` says, if it says anything.
    pub(super) fn read(config: &Path) -> Result<Option<RewardScale>> {
        let wrong = |message: String| Error::ModelFile { path: config.to_path_buf(), message };
        let text = std::fs::read_to_string(config).map_err(Error::io("read", config))?;
        let fields: Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let Some(scale) = fields.get(RewardScale::FIELD).filter(|scale| !scale.is_null()) else {
            return Ok(None);
        };
        let scale: RewardScale = serde_json::from_value(scale.clone())
            .map_err(|error| wrong(format!("{}: {error}", RewardScale::FIELD)))?;
        if ![scale.mean, scale.std, scale.offset].iter().all(|number| number.is_finite()) {
            return Err(wrong(format!("{}: must hold finite numbers", RewardScale::FIELD)));
        }
        Ok(Some(scale))
    }
}
