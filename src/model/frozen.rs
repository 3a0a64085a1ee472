//! Layers at the bottom that do not train: what they give, and how a batch goes on from there.

use tch::Tensor;

use super::chunks::{self, Chunks};
use super::packed::Packed;
use super::transformer::{Body, Transformer};
use super::{names, FrozenLayers, GraphParts, Mode, ModelConfig, Part};
use crate::torch::{rows, seeded, upload_indices};
use crate::{Result, TokenBatch};

/// The lowest part, from the input, in which anything trains.
pub(super) fn lowest(model: &Transformer) -> Option<Part> {
    let trained = model.named().iter().filter(|(_, parameter)| parameter.requires_grad());
    let part = |(name, _): &(String, Tensor)| match names::part(name, model.config()) {
        // It may be anywhere.
        Part::Other => Part::Embeddings,
        part => part,
    };
    trained.map(part).min()
}

/// How many layers, counted from the input, have nothing in or below them that trains; 0 too if
/// only embeddings do not.
pub(super) fn layers(model: &Transformer) -> usize {
    match lowest(model) {
        Some(Part::Embeddings) => 0,
        Some(Part::Layer(layer)) => layer.min(depth(model)),
        _ => depth(model),
    }
}

/// How many layers always give the same for the same text; all of them stand for the norm after
/// them too. 0 if anything below is dropped out.
pub(super) fn cut(model: &Transformer, mode: Mode) -> usize {
    let drops = match model.config() {
        ModelConfig::Encoder(c) => c.hidden_dropout_prob.max(c.attention_probs_dropout_prob),
        ModelConfig::Decoder(c) => {
            c.residual_dropout.max(c.attention_dropout).max(c.embedding_dropout)
        }
    };
    if matches!(mode, Mode::Training { .. }) && drops > 0.0 {
        return 0;
    }
    let norm_trains = model.named().iter().any(|(name, parameter)| {
        parameter.requires_grad() && names::part(name, model.config()) == Part::FinalNorm
    });
    layers(model).min(depth(model) - usize::from(norm_trains))
}

fn depth(model: &Transformer) -> usize {
    usize::try_from(model.config().num_hidden_layers()).unwrap_or(0)
}

/// What layers below have given for a batch.
pub(super) struct Below<'a> {
    /// How many layers.
    pub layers: usize,
    states: &'a Tensor,
    /// The row of each token of the batch.
    places: Vec<usize>,
}

impl<'a> Below<'a> {
    fn new(model: &Transformer, layers: usize, states: &'a Tensor, batch: &TokenBatch) -> Self {
        let (mut places, mut next) = (Vec::with_capacity(batch.tokens()), 0);
        for (list, shared) in model.prefixes(batch).into_iter().enumerate() {
            let first = next;
            for (number, text) in batch.list(list).enumerate() {
                // What the texts of a list share is there once, in the first of them.
                let known = if number == 0 { 0 } else { shared };
                let own = batch.text(text).len() - known;
                places.extend((first..first + known).chain(next..next + own));
                next += own;
            }
        }
        Below { layers, states, places }
    }

    /// `[tokens, hidden_size]`, of those that are in `packed`.
    pub fn of(&self, packed: &Packed) -> Result<Tensor> {
        let places = packed.source().iter().map(|&token| self.places[token]);
        rows(self.states, &upload_indices(places, self.states.device())?)
    }
}

impl Transformer {
    /// The layers that give the same in every epoch.
    fn kept(&self) -> usize {
        cut(self, Mode::Evaluation)
    }
}

impl FrozenLayers for Transformer {
    fn states(&self, batch: &TokenBatch) -> Result<Tensor> {
        self.check(batch)?;
        let _no_grad = tch::no_grad_guard();
        let (layers, kind) = (self.kept(), self.body_kind()?);
        if layers == depth(self) {
            return self.read(batch, None, false);
        }
        let packed = self.packed(batch)?;
        match &self.body {
            Body::Encoder(encoder) => encoder.below(layers, &packed, batch, kind),
            Body::Decoder(decoder) => decoder.below(layers, &packed, kind),
        }
    }

    fn forward_from(&self, states: &Tensor, batch: &TokenBatch, mode: Mode) -> Result<Tensor> {
        let (layers, training) = (self.kept(), matches!(mode, Mode::Training { .. }));
        let run = || {
            if layers == depth(self) {
                return self.head.forward(states.shallow_clone(), training);
            }
            let below = Below::new(self, layers, states, batch);
            self.head.forward(self.read(batch, Some(&below), training)?, training)
        };
        match mode {
            Mode::Evaluation | Mode::WithoutDropout { .. } => run(),
            Mode::Training { seed } => seeded(seed, run),
        }
    }

    fn backward_in_parts_from(
        &self,
        states: &Tensor,
        batch: &TokenBatch,
        mode: Mode,
        parts: GraphParts,
        gradient: &mut dyn FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let layers = self.kept();
        if layers == depth(self) || batch.texts() == 0 {
            let scores = self.forward_from(states, batch, mode)?;
            let values = scores.f_detach()?;
            chunks::backward(&scores, &chunks::checked(gradient(&values)?, &values)?)?;
            return Ok(values);
        }
        let below = Below::new(self, layers, states, batch);
        match parts {
            GraphParts::Texts(chunk) => {
                Chunks::new(self, batch, Some(below), mode, chunk)?.backward(gradient)
            }
            GraphParts::Layers => self.backward_by_layers(batch, Some(&below), mode, gradient),
        }
    }
}
