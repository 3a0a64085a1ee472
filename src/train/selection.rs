//! [`Selection`]: which parameters train, and how fast.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::TrainConfig;
use crate::model::{Part, RewardModel};
use crate::{Error, Result};

/// Which parameters train; the others are frozen: no gradient, no optimiser state, no update.
///
/// It is written, and [parsed](FromStr), as in the first column.
///
/// | | |
/// |---|---|
/// | `all` | every parameter |
/// | `head` | the head alone |
/// | `last:N` | the last N layers, the norm after them, and the head |
/// | `layers:A-B` | layers A to B, counted from 0 at the input, both included, and the head |
/// | `match:P,Q` | the parameters whose names match a pattern, in which `*` is any text; nothing else |
///
/// A parameter that the model itself gives out as not requiring a gradient stays frozen in any case.
///
/// ```
/// use reward_model::Selection;
///
/// assert_eq!("last:2".parse::<Selection>()?, Selection::LastLayers(2));
/// assert_eq!(Selection::Layers { first: 3, last: 5 }.to_string(), "layers:3-5");
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Selection {
    /// Everything.
    #[default]
    All,
    /// The head alone.
    Head,
    /// The last layers, at least one, with what comes after them.
    LastLayers(usize),
    /// Layers in the middle, and the head.
    Layers {
        /// The first one, from 0.
        first: usize,
        /// The last one.
        last: usize,
    },
    /// Parameters by name.
    Matching(Vec<String>),
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selection::All => f.write_str("all"),
            Selection::Head => f.write_str("head"),
            Selection::LastLayers(count) => write!(f, "last:{count}"),
            Selection::Layers { first, last } => write!(f, "layers:{first}-{last}"),
            Selection::Matching(patterns) => write!(f, "match:{}", patterns.join(",")),
        }
    }
}

impl FromStr for Selection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Selection> {
        let wrong = || Error::Config {
            field: "trains",
            value: text.into(),
            message: "expected all, head, last:N, layers:A-B or match:PATTERN,...".into(),
        };
        let number = |text: &str| text.parse::<usize>().map_err(|_| wrong());
        match text.split_once(':') {
            None if text == "all" => Ok(Selection::All),
            None if text == "head" => Ok(Selection::Head),
            Some(("last", count)) => Ok(Selection::LastLayers(number(count)?)),
            Some(("layers", range)) => {
                let (first, last) = range.split_once('-').ok_or_else(wrong)?;
                Ok(Selection::Layers { first: number(first)?, last: number(last)? })
            }
            Some(("match", patterns)) => {
                Ok(Selection::Matching(patterns.split(',').map(str::to_owned).collect()))
            }
            _ => Err(wrong()),
        }
    }
}

impl From<Selection> for String {
    fn from(selection: Selection) -> String {
        selection.to_string()
    }
}

impl TryFrom<String> for Selection {
    type Error = Error;

    fn try_from(text: String) -> Result<Selection> {
        text.parse()
    }
}

impl Selection {
    fn takes(&self, name: &str, part: Part, layers: usize) -> bool {
        match self {
            Selection::All => true,
            Selection::Head => part == Part::Head,
            Selection::LastLayers(count) => match part {
                Part::Layer(layer) => layer + count >= layers,
                part => matches!(part, Part::FinalNorm | Part::Head),
            },
            Selection::Layers { first, last } => match part {
                Part::Layer(layer) => (*first..=*last).contains(&layer),
                part => part == Part::Head,
            },
            Selection::Matching(patterns) => patterns.iter().any(|pattern| matches(pattern, name)),
        }
    }

    /// Whether this can be said of a model with these parameters.
    fn check(&self, parameters: &[(String, Part, Tensor)], layers: usize) -> Result<()> {
        let wrong = |message: String| {
            Err(Error::Config { field: "trains", value: self.to_string(), message })
        };
        let knows_its_parts = parameters.iter().any(|(_, part, _)| *part != Part::Other);
        match self {
            Selection::All => Ok(()),
            Selection::Matching(patterns) => {
                let nothing = |pattern: &&String| {
                    !parameters.iter().any(|(name, _, _)| matches(pattern, name))
                };
                match (patterns.iter().find(nothing), parameters.first()) {
                    (Some(pattern), Some((name, _, _))) => wrong(format!(
                        "no parameter's name matches {pattern:?}; they are like {name:?}"
                    )),
                    _ => Ok(()),
                }
            }
            _ if !knows_its_parts => {
                wrong("the model does not tell its parts; use all or match:PATTERN".into())
            }
            Selection::Head => Ok(()),
            Selection::LastLayers(count) if (1..=layers).contains(count) => Ok(()),
            Selection::Layers { first, last } if first <= last && *last < layers => Ok(()),
            _ => wrong(format!("the model has {layers} layers, 0 to {}", layers.saturating_sub(1))),
        }
    }
}

/// Whether a name is what a pattern says, in which `*` is any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    let mut rest = rest;
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The parameters of a part of the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ParameterGroup {
    /// The part: `embeddings`, `layer 0`, ..., `final norm`, `head`; `other` if it is not known.
    pub name: String,
    /// How many numbers it has.
    pub parameters: u64,
    /// How many of them train.
    pub trainable: u64,
    /// The highest learning rate of those that train; 0 if none does.
    pub learning_rate: f64,
}

/// A parameter that trains.
pub(super) struct Trained {
    pub name: String,
    pub parameter: Tensor,
    /// Its learning rate, as a multiple of the schedule's.
    pub rate: f64,
}

/// What [`Selection`] makes of a model's parameters.
pub(super) struct Selected {
    pub trained: Vec<Trained>,
    pub groups: Vec<ParameterGroup>,
}

/// Parameters that train again when this is dropped.
#[derive(Default)]
pub(super) struct Frozen(Vec<Tensor>);

impl Frozen {
    pub fn parameters(&self) -> &[Tensor] {
        &self.0
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for parameter in &self.0 {
            // Of a leaf this cannot fail.
            let _ = parameter.f_set_requires_grad(true);
        }
    }
}

impl Selected {
    /// Freezes what is not to train, for as long as the second value lives.
    pub fn new(model: &dyn RewardModel, config: &TrainConfig) -> Result<(Selected, Frozen)> {
        let parameters: Vec<(String, Part, Tensor)> = model
            .parameters()
            .into_iter()
            .map(|(name, parameter)| {
                let part = model.part(&name);
                (name, part, parameter)
            })
            .collect();
        let layer = |part: &Part| match part {
            Part::Layer(layer) => Some(layer + 1),
            _ => None,
        };
        let layers = parameters.iter().filter_map(|(_, part, _)| layer(part)).max().unwrap_or(0);
        config.trains.check(&parameters, layers)?;

        let mut frozen = Frozen::default();
        let (mut trained, mut groups) = (Vec::new(), Vec::<(Part, ParameterGroup)>::new());
        for (name, part, parameter) in parameters {
            let numbers = parameter.numel() as u64;
            let trains = parameter.requires_grad() && config.trains.takes(&name, part, layers);
            let rate = config.rate_of(part, layers);
            let at = groups.iter().position(|(known, _)| *known == part).unwrap_or(groups.len());
            if at == groups.len() {
                let (name, learning_rate) = (name_of(part), 0.0);
                let group = ParameterGroup { name, parameters: 0, trainable: 0, learning_rate };
                groups.push((part, group));
            }
            let group = &mut groups[at].1;
            group.parameters += numbers;
            if trains {
                group.trainable += numbers;
                group.learning_rate = rate * config.learning_rate;
                trained.push(Trained { name, parameter, rate });
            } else if parameter.requires_grad() {
                let _ = parameter.f_set_requires_grad(false)?;
                frozen.0.push(parameter);
            }
        }
        if trained.is_empty() {
            return Err(Error::InvalidArgument(
                "the model has no parameter that requires a gradient; there is nothing to train"
                    .into(),
            ));
        }
        groups.sort_by_key(|(part, _)| *part);
        let groups = groups.into_iter().map(|(_, group)| group).collect();
        Ok((Selected { trained, groups }, frozen))
    }
}

impl TrainConfig {
    /// The learning rate of a part, as a multiple of the schedule's: one `layer_decay` less for
    /// every layer that stands between it and the head.
    fn rate_of(&self, part: Part, layers: usize) -> f64 {
        let below = match part {
            Part::Head => {
                return self.head_learning_rate.map_or(1.0, |rate| rate / self.learning_rate)
            }
            Part::FinalNorm | Part::Other => 0,
            Part::Layer(layer) => layers.saturating_sub(layer),
            Part::Embeddings => layers + 1,
        };
        self.layer_decay.powi(i32::try_from(below).unwrap_or(i32::MAX))
    }
}

fn name_of(part: Part) -> String {
    match part {
        Part::Other => "other".into(),
        Part::Embeddings => "embeddings".into(),
        Part::Layer(layer) => format!("layer {layer}"),
        Part::FinalNorm => "final norm".into(),
        Part::Head => "head".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_is_any_text() {
        for (pattern, name, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a*", "a.b.c", true),
            ("*c", "a.b.c", true),
            ("*b*", "a.b.c", true),
            ("a*b*c", "a.b.c", true),
            ("a*c*b", "a.b.c", false),
            ("ab*ba", "aba", false),
            ("*", "", true),
            ("**", "x", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
