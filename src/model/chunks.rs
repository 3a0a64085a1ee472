//! The gradient of many texts in the memory of a few.

use tch::Tensor;

use super::decoder::KeysValues;
use super::frozen::Below;
use super::packed::{Packed, Prefixes};
use super::passes::through;
use super::transformer::{Body, Transformer};
use super::Mode;
use crate::torch::seeded;
use crate::{Error, Result, TokenBatch};

/// A batch in chunks: what the lists share goes through the model once, and is held; the rest a few
/// texts at a time.
pub(super) struct Chunks<'a> {
    model: &'a Transformer,
    batch: &'a TokenBatch,
    mode: Mode,
    /// Each text with its list.
    chunks: Vec<Vec<(usize, usize)>>,
    keys: Prefixes,
    below: Option<Below<'a>>,
    /// Of what is shared, part of the graph.
    pub shared: Vec<KeysValues>,
}

impl<'a> Chunks<'a> {
    pub fn new(
        model: &'a Transformer,
        batch: &'a TokenBatch,
        below: Option<Below<'a>>,
        mode: Mode,
        chunk: usize,
    ) -> Result<Chunks<'a>> {
        let texts = (0..batch.lists()).flat_map(|list| batch.list(list).map(move |t| (list, t)));
        let texts: Vec<(usize, usize)> = texts.collect();
        let chunks = texts.chunks(chunk.max(1)).map(<[_]>::to_vec).collect();
        let (mut keys, mut shared) = (Prefixes::default(), Vec::new());
        let prefixes = model.prefixes(batch);
        if let (Body::Decoder(decoder), true) = (&model.body, prefixes.iter().any(|&n| n > 0)) {
            let (kind, costs) = (model.body_kind()?, decoder.costs(model.device));
            let (packed, at) = Packed::beginnings(batch, &prefixes, &costs, model.device)?;
            let training = matches!(mode, Mode::Training { .. });
            keys = at;
            shared =
                drawn(mode, 0, || decoder.keys_values(&packed, below.as_ref(), kind, training))?;
        }
        Ok(Chunks { model, batch, mode, chunks, keys, below, shared })
    }

    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// The scores of a chunk's texts, the same ones each time: `[texts, outputs]`.
    pub fn scores(&self, chunk: usize, shared: &[KeysValues]) -> Result<Tensor> {
        let Chunks { model, batch, keys, .. } = self;
        let (causal, costs) = match &model.body {
            Body::Encoder(encoder) => (false, encoder.costs(model.device)),
            Body::Decoder(decoder) => (true, decoder.costs(model.device)),
        };
        let texts = &self.chunks[chunk];
        let packed = Packed::remainders(batch, texts, keys, causal, &costs, model.device)?;
        let training = matches!(self.mode, Mode::Training { .. });
        let stages = model.stages(&packed, batch, shared, self.below.as_ref(), training)?;
        drawn(self.mode, chunk as u64 + 1, || {
            let read = stages.scored(&through(&*stages, stages.layers())?)?;
            model.head.forward(read, training)
        })
    }

    /// Adds to the parameters' gradients what the scores' gradient comes to, and returns the scores.
    pub fn backward(self, gradient: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        // Leaves, in which the chunks' gradients with respect to them gather.
        let leaves: Vec<KeysValues> =
            self.shared.iter().map(|(k, v)| Ok((leaf(k)?, leaf(v)?))).collect::<Result<_>>()?;
        let scores = {
            let _no_grad = tch::no_grad_guard();
            let each = (0..self.len()).map(|chunk| self.scores(chunk, &leaves));
            Tensor::f_cat(&each.collect::<Result<Vec<_>>>()?, 0)?
        };
        let gradient = checked(gradient(&scores)?, &scores)?;
        let mut start = 0;
        for chunk in 0..self.len() {
            let texts = self.chunks[chunk].len() as i64;
            backward(&self.scores(chunk, &leaves)?, &gradient.f_narrow(0, start, texts)?)?;
            start += texts;
        }
        let mut products = Vec::new();
        let pairs = self.shared.iter().zip(&leaves);
        for (x, leaf) in pairs.flat_map(|((k, v), (k_leaf, v_leaf))| [(k, k_leaf), (v, v_leaf)]) {
            let gathered = leaf.f_grad()?;
            if gathered.defined() {
                products.push(x.f_mul(&gathered)?.f_sum(None)?);
            }
        }
        if !products.is_empty() {
            Tensor::f_stack(&products, 0)?.f_sum(None)?.f_backward()?;
        }
        Ok(scores)
    }
}

/// The same values, of which the gradient is wanted if it is that of a parameter.
fn leaf(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_detach()?.f_set_requires_grad(x.requires_grad())?)
}

/// Adds to the leaves' gradients what `gradient` with respect to `scores` comes to.
pub(super) fn backward(scores: &Tensor, gradient: &Tensor) -> Result<()> {
    if scores.requires_grad() {
        scores.f_mul(gradient)?.f_sum(None)?.f_backward()?;
    }
    Ok(())
}

/// A gradient with respect to scores, if it is one.
pub(super) fn checked(gradient: Tensor, scores: &Tensor) -> Result<Tensor> {
    let (found, expected) = (gradient.size(), scores.size());
    if found != expected {
        return Err(Error::InvalidArgument(format!(
            "a gradient of shape {found:?} for scores of shape {expected:?}; it must have theirs"
        )));
    }
    Ok(gradient.f_detach()?)
}

/// Runs `body` with the random numbers of this part of a batch.
pub(super) fn drawn<T>(mode: Mode, part: u64, body: impl FnOnce() -> T) -> T {
    match mode {
        Mode::Training { seed } => seeded(mixed(seed, part), body),
        Mode::Evaluation | Mode::WithoutDropout { .. } => body(),
    }
}

/// A seed of its own for each part of each step: the finaliser of SplitMix64 (Steele et al. 2014).
fn mixed(seed: i64, part: u64) -> i64 {
    let mut z = (seed as u64)
        .wrapping_mul(0xD1B5_4A32_D192_ED03)
        .wrapping_add(part.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) as i64
}
