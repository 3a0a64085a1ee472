//! Layers at the bottom that do not train.

use super::{names, Part, Transformer};

/// How many layers, counted from the input, have nothing in or below them that trains; 0 too if
/// only embeddings do not.
pub(super) fn layers(model: &Transformer) -> usize {
    let lowest = |(name, parameter): &(String, tch::Tensor)| match (
        parameter.requires_grad(),
        names::part(name, model.config()),
    ) {
        (true, Part::Layer(layer)) => layer,
        (true, Part::Embeddings | Part::Other) => 0,
        _ => usize::MAX,
    };
    let all = model.named().iter().map(lowest).min().unwrap_or(0);
    all.min(usize::try_from(model.config().num_hidden_layers()).unwrap_or(0))
}
