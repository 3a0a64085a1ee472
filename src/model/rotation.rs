//! Positions as rotations of queries and keys (Su et al. 2021, "RoFormer").

use tch::{Kind, Tensor};

use super::config::DecoderConfig;
use super::packed::Packed;
use crate::torch::{compute_kind, upload};
use crate::Result;

/// Cosines and sines of each token's angles, `[tokens, 1, head_dim / 2]`, f32.
pub(super) struct Rotation {
    cos: Tensor,
    sin: Tensor,
    minus_sin: Tensor,
}

impl Rotation {
    pub fn new(config: &DecoderConfig, batch: &Packed) -> Result<Rotation> {
        let (rope, dim) = (&config.rope, config.head_dim());
        let device = batch.ids.device();
        let frequencies = |length| rope.frequencies(dim, length, config.max_position_embeddings);
        let turns = if rope.depends_on_length() {
            let all: Vec<f32> = batch.text_lengths().flat_map(frequencies).collect();
            upload(&all, device)?.f_view([-1, dim / 2])?
        } else {
            upload(&frequencies(0), device)?.f_view([1, dim / 2])?
        };
        let angles = batch.positions.f_to_kind(Kind::Float)?.f_unsqueeze(1)?.f_mul(&turns)?;
        let (angles, amplitude) = (angles.f_unsqueeze(1)?, rope.amplitude());
        let sin = angles.f_sin()?.f_mul_scalar(amplitude)?;
        let minus_sin = sin.f_neg()?;
        Ok(Rotation { cos: angles.f_cos()?.f_mul_scalar(amplitude)?, sin, minus_sin })
    }

    /// That of some of the tokens.
    pub fn of(&self, tokens: &Tensor) -> Result<Rotation> {
        let of = |table: &Tensor| table.f_index_select(0, tokens);
        Ok(Rotation { cos: of(&self.cos)?, sin: of(&self.sin)?, minus_sin: of(&self.minus_sin)? })
    }

    /// Turns the vector of each head, `[tokens, heads, head_dim]`: (a, b), its halves, become
    /// (a cos - b sin, b cos + a sin).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let kind = x.f_kind()?;
        let halves = x.f_to_kind(compute_kind(x)?)?.f_chunk(2, -1)?;
        let [a, b] = halves.as_slice() else {
            return Err(tch::TchError::Shape(format!("no halves: {:?}", x.size())).into());
        };
        let turned = [
            a.f_mul(&self.cos)?.f_addcmul(b, &self.minus_sin)?,
            b.f_mul(&self.cos)?.f_addcmul(a, &self.sin)?,
        ];
        Ok(Tensor::f_cat(&turned, -1)?.f_to_kind(kind)?)
    }
}
