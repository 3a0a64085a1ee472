//! How a batch goes through a [`Transformer`]: whole texts, or what its lists share once.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::decoder::KeysValues;
use super::frozen::Below;
use super::options::Precision;
use super::packed::Packed;
use super::transformer::{Body, Transformer};
use crate::torch::compute_kind;
use crate::{Result, TokenBatch};

/// The parts of a body, one after the other.
pub(super) trait Stages {
    /// The layers between what goes in and the last layer.
    fn layers(&self) -> Range<usize>;

    /// What goes into the first layer: `[tokens, hidden_size]`.
    fn input(&self) -> Result<Tensor>;

    fn layer(&self, number: usize, x: Tensor) -> Result<Tensor>;

    /// What the last layer gives for the tokens that are read: `[texts, hidden_size]`.
    fn scored(&self, x: &Tensor) -> Result<Tensor>;
}

/// What some layers, from the first, give.
pub(super) fn through(stages: &dyn Stages, layers: Range<usize>) -> Result<Tensor> {
    layers.into_iter().try_fold(stages.input()?, |x, number| stages.layer(number, x))
}

impl Transformer {
    /// A score for each text: `[texts, outputs]`.
    pub(super) fn scores(&self, batch: &TokenBatch, training: bool) -> Result<Tensor> {
        self.head.forward(self.read(batch, None, training)?, training)
    }

    /// The hidden state of each text that its score is made of: `[texts, hidden_size]`.
    pub(super) fn read(
        &self,
        batch: &TokenBatch,
        below: Option<&Below>,
        training: bool,
    ) -> Result<Tensor> {
        let packed = self.packed(batch)?;
        let stages = self.stages(&packed, batch, &[], below, training)?;
        stages.scored(&through(&*stages, stages.layers())?)
    }

    /// The tokens that the model computes for, what lists share once.
    pub(super) fn packed(&self, batch: &TokenBatch) -> Result<Packed> {
        match &self.body {
            Body::Encoder(encoder) => {
                Packed::new(batch, false, &encoder.costs(self.device), self.device)
            }
            Body::Decoder(decoder) => {
                let (prefixes, costs) = (self.prefixes(batch), decoder.costs(self.device));
                Packed::sharing(batch, true, &prefixes, &costs, self.device)
            }
        }
    }

    /// The way of `packed`, whose tokens are of `batch`, through the body. `memory` is for a decoder:
    /// keys and values of tokens that are left out.
    pub(super) fn stages<'a>(
        &'a self,
        packed: &'a Packed,
        batch: &'a TokenBatch,
        memory: &'a [KeysValues],
        below: Option<&'a Below<'a>>,
        training: bool,
    ) -> Result<Box<dyn Stages + 'a>> {
        let kind = self.body_kind()?;
        Ok(match &self.body {
            Body::Encoder(encoder) => Box::new(encoder.walk(packed, batch, below, kind, training)?),
            Body::Decoder(decoder) => {
                Box::new(decoder.walk(packed, memory, below, kind, training)?)
            }
        })
    }

    /// A hidden state for each token: `[tokens, hidden_size]`.
    pub(super) fn hidden(&self, batch: &TokenBatch, training: bool) -> Result<Tensor> {
        let kind = self.body_kind()?;
        let hidden = match &self.body {
            Body::Encoder(encoder) => {
                let costs = encoder.costs(self.device);
                let packed = Packed::new(batch, false, &costs, self.device)?;
                encoder.hidden(&packed, batch, kind, training)?
            }
            Body::Decoder(decoder) => {
                let costs = decoder.costs(self.device);
                let packed = Packed::new(batch, true, &costs, self.device)?;
                decoder.hidden(&packed, kind, training)?
            }
        };
        Ok(hidden.f_to_kind(compute_kind(&hidden)?)?)
    }

    /// How many tokens the texts of each list share.
    pub(super) fn prefixes(&self, batch: &TokenBatch) -> Vec<usize> {
        match &self.body {
            Body::Decoder(decoder) if decoder.can_share() => {
                self.sharing.prefixes(batch, &decoder.costs(self.device))
            }
            _ => vec![0; batch.lists()],
        }
    }

    pub(super) fn body_kind(&self) -> Result<Kind> {
        Ok(match self.precision {
            Precision::Bf16 => Kind::BFloat16,
            // That of the parameters, which tests make f64.
            Precision::F32 => match &self.body {
                Body::Encoder(encoder) => encoder.token_embeddings().f_kind()?,
                Body::Decoder(decoder) => decoder.token_embeddings().f_kind()?,
            },
        })
    }
}
