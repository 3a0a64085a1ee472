//! A [`TokenBatch`] on the device: all real tokens in one row, and what attention needs to see
//! them as texts.

use tch::{Device, Tensor};

use crate::torch::{upload, upload_indices};
use crate::{Result, TokenBatch};

/// A batch on the device. Embeddings, linear layers and norms run on `[tokens, ...]` without
/// padding; attention alone goes through [`pad`](Packed::pad) and [`unpad`](Packed::unpad).
pub(super) struct Packed {
    /// `[tokens]`, int64.
    pub ids: Tensor,
    /// `[tokens]`, int64.
    pub segments: Tensor,
    /// Place of each token in its text, from 0; `[tokens]`, int64.
    pub positions: Tensor,
    /// Where each text starts; `[texts]`, int64.
    pub first: Tensor,
    /// The last token of each text; `[texts]`, int64.
    pub last: Tensor,
    /// The number of tokens of each text.
    pub lengths: Vec<usize>,
    texts: i64,
    longest: i64,
    padding: Option<Padding>,
}

struct Padding {
    /// The token in each slot of `[texts, longest]`; int64. A slot after the end of a text repeats
    /// the text's last token, so that nothing but the text itself can reach its scores.
    slots: Tensor,
    /// The slot of each token; int64.
    tokens: Tensor,
    /// Whether a slot holds a token of the text: bool, `[texts, 1, 1, longest]`.
    mask: Tensor,
}

impl Packed {
    pub fn new(batch: &TokenBatch, device: Device) -> Result<Packed> {
        let longest = batch.lengths().max().unwrap_or(0);
        let offsets = batch.text_offsets();
        let spans = || offsets.windows(2).map(|w| w[0]..w[1]);
        let padding = if batch.lengths().all(|length| length == longest) {
            None
        } else {
            let slots = spans()
                .flat_map(|span| (0..longest).map(move |at| (span.start + at).min(span.end - 1)));
            let tokens = spans()
                .enumerate()
                .flat_map(|(text, span)| (0..span.len()).map(move |at| text * longest + at));
            let mask: Vec<bool> =
                spans().flat_map(|span| (0..longest).map(move |at| at < span.len())).collect();
            let shape = [batch.texts() as i64, 1, 1, longest as i64];
            Some(Padding {
                slots: upload_indices(slots, device)?,
                tokens: upload_indices(tokens, device)?,
                mask: upload(&mask, device)?.f_reshape(shape)?,
            })
        };
        Ok(Packed {
            ids: upload_indices(batch.ids().iter().map(|&id| id as usize), device)?,
            segments: upload_indices(batch.segments().iter().map(|&s| s.into()), device)?,
            positions: upload_indices(spans().flat_map(|span| 0..span.len()), device)?,
            first: upload_indices(spans().map(|span| span.start), device)?,
            last: upload_indices(spans().map(|span| span.end.saturating_sub(1)), device)?,
            lengths: batch.lengths().collect(),
            texts: batch.texts() as i64,
            longest: longest as i64,
            padding,
        })
    }

    /// `[tokens, heads · d]` to `[texts, heads, longest, d]`.
    pub fn pad(&self, x: &Tensor, heads: i64) -> Result<Tensor> {
        let x = match &self.padding {
            Some(padding) => x.f_index_select(0, &padding.slots)?,
            None => x.shallow_clone(),
        };
        Ok(x.f_view([self.texts, self.longest, heads, -1])?.f_transpose(1, 2)?)
    }

    /// `[texts, heads, longest, d]` to `[tokens, heads · d]`.
    pub fn unpad(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.f_transpose(1, 2)?.f_reshape([self.texts * self.longest, -1])?;
        Ok(match &self.padding {
            Some(padding) => x.f_index_select(0, &padding.tokens)?,
            None => x,
        })
    }

    /// Which keys a query may look at where it sees `window` tokens up to and including itself:
    /// bool, `[longest, longest]`; `None` if that is all up to itself. The padding comes after all
    /// real tokens, so that none of them sees it.
    pub fn window_mask(&self, window: i64) -> Result<Option<Tensor>> {
        if window >= self.longest {
            return Ok(None);
        }
        let options = (tch::Kind::Bool, self.ids.device());
        let all = Tensor::f_ones([self.longest, self.longest], options)?;
        Ok(Some(all.f_tril(0)?.f_triu(1 - window)?))
    }

    /// The text of each token; `[tokens]`, int64.
    pub fn text_of_token(&self) -> Result<Tensor> {
        let texts = self.lengths.iter().enumerate();
        let of = texts.flat_map(|(text, &length)| std::iter::repeat_n(text, length));
        upload_indices(of, self.ids.device())
    }

    /// Which keys attention may look at: bool, `[texts, 1, 1, longest]`; `None` if all.
    pub fn mask(&self) -> Option<&Tensor> {
        self.padding.as_ref().map(|padding| &padding.mask)
    }
}
