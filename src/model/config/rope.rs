//! Rotary position embeddings: what `config.json` says of them, and the frequencies that follow.

use std::f64::consts::PI;
use std::fmt::Display;

use serde_json::{json, Value};

use super::Fields;

/// Rotary position embeddings (Su et al. 2021): the i-th of d/2 pairs of a head's values is turned
/// by position · θ^(−2i/d), as far as [`scaling`](Rope::scaling) leaves it so.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// θ.
    pub theta: f64,
    /// How frequencies are changed for texts longer than those of pretraining.
    pub scaling: RopeScaling,
}

/// Changes to the frequencies, by `rope_type`; formulas as in transformers' `modeling_rope_utils`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// `default`: none.
    Default,
    /// `linear`: all divided by the factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// `dynamic` (NTK-aware): θ grows with a text of more than `max_position_embeddings` tokens.
    /// Computed for each text from its own length, so that a score does not depend on other texts.
    Dynamic {
        /// The factor.
        factor: f64,
    },
    /// `llama3`: low frequencies divided by the factor, high ones kept, those between blended.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings` / this are long.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings` / this are short.
        high_freq_factor: f64,
        /// Length of the texts of pretraining.
        original_max_position_embeddings: f64,
    },
    /// `yarn` (Peng et al. 2023).
    Yarn {
        /// The factor.
        factor: f64,
        /// What sines and cosines are multiplied with.
        attention_factor: f64,
        /// Rotations over the original length above which a frequency is kept.
        beta_fast: f64,
        /// Rotations over the original length below which a frequency is divided.
        beta_slow: f64,
        /// Length of the texts of pretraining.
        original_max_position_embeddings: f64,
        /// Whether the borders of the ramp are rounded outwards.
        truncate: bool,
    },
}

impl Default for Rope {
    fn default() -> Self {
        Rope { theta: 10_000.0, scaling: RopeScaling::Default }
    }
}

impl Rope {
    /// From `rope_theta` and `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5).
    pub(super) fn parse(fields: &Fields, max_positions: i64) -> Result<Rope, String> {
        let present = |key: &str| fields.get(key).filter(|value| !value.is_null());
        let (name, value) = match (present("rope_scaling"), present("rope_parameters")) {
            (Some(scaling), _) => ("rope_scaling", scaling.clone()),
            // Absent is not the same: that is how transformers 5 writes it.
            (None, Some(parameters))
                if fields.contains_key("rope_scaling") && !is_plain(parameters) =>
            {
                return Err(differs("rope_scaling", "null", parameters, "rope_parameters"))
            }
            (None, Some(parameters)) => ("rope_parameters", parameters.clone()),
            (None, None) => ("rope_parameters", json!({})),
        };
        let Value::Object(map) = value else {
            return Err(format!("{name} = {value}: must be an object"));
        };
        let number = |key: &str| match map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() => Ok(Some(number)),
                _ => Err(format!("{name}.{key} = {value}: must be a number")),
            },
        };
        let positive = |key: &str, number: f64| {
            if number > 0.0 {
                Ok(number)
            } else {
                Err(format!("{name}.{key} = {number}: must be positive"))
            }
        };
        let needed = |key: &str| {
            let number = number(key)?.ok_or_else(|| format!("{name}: has no {key}"))?;
            positive(key, number)
        };
        let top = match present("rope_theta") {
            None => None,
            Some(theta) => Some(
                theta.as_f64().ok_or_else(|| format!("rope_theta = {theta}: must be a number"))?,
            ),
        };
        let theta = match (number("rope_theta")?, top) {
            (Some(here), Some(top)) if here != top => {
                return Err(differs("rope_theta", top, here, name))
            }
            (here, top) => here.or(top).unwrap_or(Rope::default().theta),
        };
        if !(theta > 1.0 && theta.is_finite()) {
            return Err(format!("rope_theta = {theta}: must be above 1"));
        }
        let kind = match map.get("rope_type").or_else(|| map.get("type")) {
            None | Some(Value::Null) => "default",
            Some(Value::String(kind)) => kind.as_str(),
            Some(other) => return Err(format!("{name}.rope_type = {other}: must be a string")),
        };
        let known: &[&str] = match kind {
            "default" => &[],
            "linear" | "dynamic" => &["factor"],
            "llama3" => &[
                "factor",
                "low_freq_factor",
                "high_freq_factor",
                "original_max_position_embeddings",
            ],
            "yarn" => &[
                "factor",
                "attention_factor",
                "beta_fast",
                "beta_slow",
                "mscale",
                "mscale_all_dim",
                "original_max_position_embeddings",
                "truncate",
            ],
            other => {
                return Err(format!(
                    "{name}.rope_type = {other:?}: not supported; must be default, linear, \
                     dynamic, llama3 or yarn"
                ))
            }
        };
        let whole = json!(1.0);
        for (key, value) in
            map.iter().chain(fields.get_key_value("partial_rotary_factor")).filter(|(k, v)| {
                !v.is_null()
                    && !["rope_type", "type", "rope_theta"].contains(&k.as_str())
                    && !known.contains(&k.as_str())
            })
        {
            // Files carry these along where the type does not look at them.
            let harmless = (key == "partial_rotary_factor" && value.as_f64() == whole.as_f64())
                || key == "original_max_position_embeddings"
                || (kind == "default" && key == "factor");
            if !harmless {
                return Err(format!("{name}.{key} = {value}: not supported with {kind}"));
            }
        }
        let original = || -> Result<f64, String> {
            let key = "original_max_position_embeddings";
            let here = number(key)?;
            let top = present(key).and_then(Value::as_f64);
            match (here, top) {
                (Some(here), Some(top)) if here != top => Err(differs(key, top, here, name)),
                (Some(length), _) | (None, Some(length)) => positive(key, length),
                (None, None) => Ok(max_positions as f64),
            }
        };
        let scaling = match kind {
            "linear" => RopeScaling::Linear { factor: needed("factor")? },
            "dynamic" => RopeScaling::Dynamic { factor: needed("factor")? },
            "llama3" => RopeScaling::Llama3 {
                factor: needed("factor")?,
                low_freq_factor: needed("low_freq_factor")?,
                high_freq_factor: needed("high_freq_factor")?,
                original_max_position_embeddings: original()?,
            },
            "yarn" => {
                let original = original()?;
                let factor = match number("factor")? {
                    Some(factor) => positive("factor", factor)?,
                    None => max_positions as f64 / original,
                };
                let grown = |mscale: f64| {
                    if factor <= 1.0 {
                        1.0
                    } else {
                        0.1 * mscale * factor.ln() + 1.0
                    }
                };
                let nonzero = |key: &str| number(key).map(|n| n.filter(|&n| n != 0.0));
                let beta = |key: &str, usual| nonzero(key)?.map_or(Ok(usual), |n| positive(key, n));
                let attention_factor = match number("attention_factor")? {
                    Some(given) => given,
                    None => match (nonzero("mscale")?, nonzero("mscale_all_dim")?) {
                        (Some(mscale), Some(all)) => grown(mscale) / grown(all),
                        _ => grown(1.0),
                    },
                };
                RopeScaling::Yarn {
                    factor,
                    attention_factor,
                    beta_fast: beta("beta_fast", 32.0)?,
                    beta_slow: beta("beta_slow", 1.0)?,
                    original_max_position_embeddings: original,
                    truncate: match map.get("truncate") {
                        None => true,
                        Some(Value::Null) => false,
                        Some(Value::Bool(truncate)) => *truncate,
                        Some(other) => {
                            return Err(format!("{name}.truncate = {other}: must be true or false"))
                        }
                    },
                }
            }
            _ => RopeScaling::Default,
        };
        Ok(Rope { theta, scaling })
    }

    /// The fields of `config.json`, in the forms of transformers 4 and 5.
    pub(super) fn write(&self, fields: &mut Fields) {
        let scaling = match self.scaling {
            RopeScaling::Default => None,
            RopeScaling::Linear { factor } => {
                Some(json!({"rope_type": "linear", "factor": factor}))
            }
            RopeScaling::Dynamic { factor } => {
                Some(json!({"rope_type": "dynamic", "factor": factor}))
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: original,
            } => Some(json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original as i64,
            })),
            RopeScaling::Yarn {
                factor,
                attention_factor,
                beta_fast,
                beta_slow,
                original_max_position_embeddings: original,
                truncate,
            } => Some(json!({
                "rope_type": "yarn",
                "factor": factor,
                "attention_factor": attention_factor,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "original_max_position_embeddings": original as i64,
                "truncate": truncate,
            })),
        };
        let mut parameters = scaling.clone().unwrap_or_else(|| json!({"rope_type": "default"}));
        parameters["rope_theta"] = self.theta.into();
        fields.insert("rope_theta".into(), self.theta.into());
        fields.insert("rope_scaling".into(), scaling.unwrap_or(Value::Null));
        fields.insert("rope_parameters".into(), parameters);
    }

    /// What sines and cosines are multiplied with.
    pub(in crate::model) fn amplitude(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
        }
    }

    /// Whether frequencies differ from text to text.
    pub(in crate::model) fn depends_on_length(&self) -> bool {
        matches!(self.scaling, RopeScaling::Dynamic { .. })
    }

    /// The angle by which each pair of a head's `dim` values turns from one position to the next,
    /// in a text of `length` tokens; `dim` / 2 values.
    pub(in crate::model) fn frequencies(
        &self,
        dim: i64,
        length: usize,
        max_positions: i64,
    ) -> Vec<f32> {
        let d = dim as f64;
        let base = match self.scaling {
            RopeScaling::Dynamic { factor } => {
                let most = max_positions as f64;
                let grown = factor * (length as f64).max(most) / most - (factor - 1.0);
                self.theta * grown.powf(d / (d - 2.0))
            }
            _ => self.theta,
        };
        let pairs = dim / 2;
        let plain = (0..pairs).map(|i| base.powf(-2.0 * i as f64 / d));
        let changed: Vec<f64> = match self.scaling {
            RopeScaling::Default | RopeScaling::Dynamic { .. } => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|f| f / factor).collect(),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original,
            } => plain
                .map(|f| {
                    let wavelength = 2.0 * PI / f;
                    if wavelength < original / high {
                        f
                    } else if wavelength > original / low {
                        f / factor
                    } else {
                        let smooth = (original / wavelength - low) / (high - low);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                })
                .collect(),
            RopeScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original_max_position_embeddings: original,
                truncate,
                ..
            } => {
                let pair_of = |rotations: f64| {
                    d * (original / (rotations * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
                };
                let (mut low, mut high) = (pair_of(beta_fast), pair_of(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(d - 1.0));
                if low == high {
                    high += 0.001;
                }
                plain
                    .enumerate()
                    .map(|(i, f)| {
                        let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                        f / factor * ramp + f * (1.0 - ramp)
                    })
                    .collect()
            }
        };
        changed.into_iter().map(|f| f as f32).collect()
    }
}

/// Whether the parameters of transformers 5 ask for no scaling.
fn is_plain(parameters: &Value) -> bool {
    matches!(parameters["rope_type"].as_str(), None | Some("default"))
}

fn differs(key: &str, top: impl Display, here: impl Display, name: &str) -> String {
    format!(
        "{key} is {top}, but {here} in {name}: versions of transformers differ in which they take"
    )
}
