//! How a batch goes through a [`Transformer`]: whole texts, or what its lists share once.

use tch::{Kind, Tensor};

use super::frozen::Below;
use super::options::Precision;
use super::packed::Packed;
use super::transformer::{Body, Transformer};
use crate::torch::compute_kind;
use crate::{Result, TokenBatch};

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
        let kind = self.body_kind()?;
        match &self.body {
            Body::Encoder(encoder) => {
                let costs = encoder.costs(self.device);
                let packed = Packed::new(batch, false, &costs, self.device)?;
                encoder.scored(&packed, batch, below, kind, training)
            }
            Body::Decoder(decoder) => {
                let (prefixes, costs) = (self.prefixes(batch), decoder.costs(self.device));
                let packed = Packed::sharing(batch, true, &prefixes, &costs, self.device)?;
                decoder.scored(&packed, &[], below, kind, training)
            }
        }
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
