//! Which tensors of a folder are the model's, and what they are called here.
//!
//! Here they have the names of the `...ForSequenceClassification` class. Folders of a bare model
//! lack the prefix, old ones have other names for norms, and those of a language model or another
//! task hold heads that no reward model has.

use super::checkpoint::Checkpoint;
use super::config::{DecoderType, EncoderType};
use super::{Loaded, ModelConfig, Part};
use crate::Result;

/// Whether a folder's own head is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadSource {
    /// The head of a sequence-classification folder; a new one where there is none.
    #[default]
    Folder,
    /// A new one, drawn at random.
    Fresh,
}

/// The names of an architecture.
struct Names {
    /// What the body's names start with.
    prefix: &'static str,
    /// What the head's names start with.
    head: &'static [&'static str],
    /// Parts of the body that count as head where a folder lacks them.
    optional: &'static [&'static str],
    /// What the names start with (after the body's prefix, or without it) of parts that no reward
    /// model has: other heads.
    foreign: &'static [&'static str],
    /// What the names of constants end with that some versions of Python write.
    constants: &'static [&'static str],
}

impl Names {
    fn of(config: &ModelConfig) -> Names {
        const OTHER_HEADS: &[&str] = &["cls.", "lm_head.", "qa_outputs.", "classifier."];
        match config {
            ModelConfig::Encoder(config) => {
                let kind = config.model_type;
                Names {
                    prefix: kind.prefix(),
                    head: match kind {
                        EncoderType::DistilBert => &["pre_classifier.", "classifier."],
                        _ => &["classifier."],
                    },
                    optional: match kind {
                        EncoderType::Bert => &["bert.pooler."],
                        _ => &[],
                    },
                    foreign: match kind {
                        EncoderType::Bert => OTHER_HEADS,
                        EncoderType::DistilBert => &[
                            "vocab_transform.",
                            "vocab_layer_norm.",
                            "vocab_projector.",
                            "qa_outputs.",
                            "pre_classifier.",
                            "classifier.",
                        ],
                        _ => &["pooler.", "cls.", "lm_head.", "qa_outputs.", "classifier."],
                    },
                    constants: &["embeddings.position_ids", "embeddings.token_type_ids"],
                }
            }
            ModelConfig::Decoder(config) => Names {
                prefix: config.model_type.prefix(),
                head: &["score."],
                optional: &[],
                foreign: &[
                    "lm_head.",
                    "qa_outputs.",
                    "classifier.",
                    "score.",
                    "multiple_choice_head.",
                ],
                constants: match config.model_type {
                    DecoderType::Gpt2 => &[".attn.bias", ".attn.masked_bias"],
                    _ => &["rotary_emb.inv_freq"],
                },
            },
        }
    }
}

/// Gives a folder's tensors the names they have here and leaves out what belongs to no reward
/// model. Tells what was left out, and what the names of those start with that may be missing.
pub(super) fn adopt(
    tensors: &mut Checkpoint,
    config: &ModelConfig,
    head: HeadSource,
) -> Result<(Loaded, Vec<String>)> {
    let names = Names::of(config);
    let starts = |name: &str, with: &[&str]| with.iter().any(|prefix| name.starts_with(prefix));
    let bare = !tensors.names().any(|name| name.starts_with(names.prefix));
    // Other tasks' heads can have the same names.
    let ranks = match config.architectures() {
        Some(classes) if !classes.is_empty() => {
            classes.iter().any(|class| class.ends_with("ForSequenceClassification"))
        }
        _ => tensors.names().any(|name| starts(name, names.head)),
    };
    let keeps_head = ranks && head == HeadSource::Folder;

    let mut dropped = Vec::new();
    let belongs = |name: &str| {
        if names.constants.iter().any(|end| name.ends_with(end)) {
            return false;
        }
        if starts(name, names.head) {
            return keeps_head;
        }
        !starts(name.strip_prefix(names.prefix).unwrap_or(name), names.foreign)
    };
    for name in tensors.names().filter(|name| !belongs(name)) {
        dropped.push(name.to_owned());
    }
    tensors.rename(|name| {
        if !belongs(name) {
            return None;
        }
        let mut name = name.to_owned();
        for (old, new) in
            [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")]
        {
            if let Some(stem) = name.strip_suffix(old) {
                name = format!("{stem}{new}");
            }
        }
        if bare && !starts(&name, names.head) {
            name = format!("{}{name}", names.prefix);
        }
        Some(name)
    })?;
    let fresh = if keeps_head { &[][..] } else { names.head };
    // A pooler that another task has trained is as good a start as the rest of the body.
    let optional = if keeps_head { &[][..] } else { names.optional };
    let fresh = fresh.iter().chain(optional).map(|name| (*name).to_owned()).collect();
    let loaded = Loaded {
        left_out: dropped,
        drawn: Vec::new(),
        dtypes: tensors.dtypes().into_iter().map(|(d, n)| (format!("{d:?}"), n)).collect(),
    };
    Ok((loaded, fresh))
}

/// The part of the model that a parameter belongs to.
pub(super) fn part(name: &str, config: &ModelConfig) -> Part {
    let names = Names::of(config);
    if names.head.iter().chain(names.optional).any(|head| name.starts_with(head)) {
        return Part::Head;
    }
    let body = name.strip_prefix(names.prefix).unwrap_or(name);
    let mut pieces = body.split('.');
    let number = match config {
        ModelConfig::Encoder(_) => pieces.nth(2),
        ModelConfig::Decoder(_) => pieces.nth(1),
    };
    match number.and_then(|number| number.parse().ok()) {
        Some(layer) => Part::Layer(layer),
        None if is_final_norm(body) => Part::FinalNorm,
        None => Part::Embeddings,
    }
}

fn is_final_norm(body: &str) -> bool {
    ["norm.", "ln_f."].iter().any(|name| body.starts_with(name))
}
