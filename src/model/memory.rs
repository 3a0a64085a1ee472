//! How much memory the graph of a batch takes, estimated.

use super::frozen;
use super::transformer::{Body, Transformer};
use super::{DecoderType, GraphParts, Mode, ModelConfig, Precision};
use crate::TokenBatch;

/// What a layer's backward pass needs of its forward pass. With tokens that go through the layer
/// themselves, of which each text has `own`, and `whole` with what it shares,
///
/// ```text
/// numbers = Σ own · token + Σ whole · key + Σ own · whole · pair
/// ```
///
/// for each layer from the lowest that trains, and once more for what the backward pass itself needs
/// at a time. Where layers are computed again, it is one of them, beside what goes into each. In bf16
/// a graph holds a layer's weights, too, in that dtype.
/// `cargo bench --bench layouts -- memory` compares that with what is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    token: usize,
    /// Of a key and its value, as every head of queries sees them.
    key: usize,
    /// Of weights that are dropped out: the softmax, the mask, their product.
    pair: usize,
    layers: usize,
    bytes: usize,
    /// Hidden states of a token, where they are kept for each layer.
    hidden: usize,
    /// Of a layer, where they are not those of the parameters.
    weights: usize,
}

impl Held {
    pub fn by(model: &Transformer, mode: Mode) -> Held {
        let training = matches!(mode, Mode::Training { .. });
        let dropped = |p: f64| usize::from(training && p > 0.0);
        // How often hidden states are held, before and after each norm; the numbers of the inner layer,
        // before and after its activation; attention's width and heads; what is dropped out.
        let (norms, inner, width, heads, drops, weights_drop) = match model.config() {
            ModelConfig::Encoder(c) => {
                let drops = [c.hidden_dropout_prob, c.attention_probs_dropout_prob].map(dropped);
                (
                    4,
                    2 * c.intermediate_size,
                    c.hidden_size,
                    c.num_attention_heads,
                    drops[0],
                    drops[1],
                )
            }
            ModelConfig::Decoder(c) => {
                // RMS norms are computed in steps, and a gate holds both factors.
                let (norms, held) = if c.model_type == DecoderType::Gpt2 { (4, 2) } else { (8, 4) };
                let drops = [c.residual_dropout, c.attention_dropout].map(dropped);
                let width = c.num_attention_heads * c.head_dim();
                (norms, held * c.inner_size(), width, c.num_attention_heads, drops[0], drops[1])
            }
        };
        let size = |n: i64| usize::try_from(n).unwrap_or(0);
        let layers = size(model.config().num_hidden_layers());
        let costs = match &model.body {
            Body::Encoder(encoder) => encoder.costs(model.device),
            Body::Decoder(decoder) => decoder.costs(model.device),
        };
        let (bytes, weights) = match model.precision {
            Precision::Bf16 => (2, costs.weights()),
            Precision::F32 => (4, 0),
        };
        Held {
            token: (norms + 2 * drops) * size(model.config().hidden_size())
                + (2 + weights_drop) * size(width)
                + size(inner),
            key: (2 + weights_drop) * size(width),
            pair: 3 * weights_drop * size(heads),
            layers: layers - frozen::layers(model) + 1,
            bytes,
            hidden: size(model.config().hidden_size()),
            weights,
        }
    }

    fn numbers(&self, own: usize, whole: usize) -> usize {
        own * self.token + whole * self.key + own * whole * self.pair
    }
}

impl Transformer {
    /// See [`RewardModel::activation_bytes`](super::RewardModel::activation_bytes).
    pub(super) fn estimated_bytes(&self, batch: &TokenBatch, mode: Mode, parts: GraphParts) -> u64 {
        let mut held = Held::by(self, mode);
        let prefixes = self.prefixes(batch);
        let chunk = match parts {
            GraphParts::Texts(chunk) => chunk,
            GraphParts::Layers => usize::MAX,
        };
        let mut inputs = 0;
        if parts == GraphParts::Layers {
            let repeated = prefixes.iter().enumerate();
            let repeated = repeated.map(|(list, n)| n * batch.list(list).len().saturating_sub(1));
            inputs = held.layers * held.hidden * (batch.tokens() - repeated.sum::<usize>());
            // A layer at a time, and what its backward pass needs.
            held.layers = 2;
        }
        let shared: usize = prefixes.iter().map(|&n| held.numbers(n, n)).sum();
        // Where the gradient of what is shared gathers.
        let leaves: usize = match (&self.body, chunk < batch.texts()) {
            (Body::Decoder(_), true) => prefixes.iter().map(|&n| 2 * n * held.key).sum(),
            _ => 0,
        };
        let lists = prefixes.iter().enumerate();
        let texts = lists.flat_map(|(list, &n)| batch.list(list).map(move |text| (text, n)));
        let texts: Vec<usize> = texts
            .map(|(text, n)| {
                let whole = batch.text(text).len();
                held.numbers(whole - n, whole)
            })
            .collect();
        let most = texts.chunks(chunk.max(1)).map(|chunk| chunk.iter().sum::<usize>()).max();
        // What is shared has a graph of its own then.
        let weights = held.weights * if leaves > 0 { 2 } else { 1 };
        let layers = (shared + leaves + most.unwrap_or(0) + weights) * held.layers;
        ((layers + inputs) * held.bytes) as u64
    }
}
