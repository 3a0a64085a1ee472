//! The recipe of a model that starts from random weights: a small BERT with a tokenizer of its own, for
//! data of some hundred to some thousand short lists.
//!
//! Dropout and the number of epochs were chosen by five-fold cross-validation on
//! `examples/data/train.jsonl`: of the settings whose accuracy is within a standard error of the best,
//! one whose held-out loss ends well below that of no training (docs/measurements.md has the table).
//! With less dropout or more epochs the accuracy is the same, and rewards lie so far apart that the
//! loss ends above it.

use reward_model::tch::Device;
use reward_model::text::{Limits, Tokenizer};
use reward_model::{EncoderConfig, RankedList, Result, TrainConfig, Transformer};

/// The most tokens in a text, unless a person says otherwise.
pub const MAX_LENGTH: usize = 256;

/// The number of steps that a run makes, as far as the number of epochs stays within these bounds: many
/// lists are worth more steps, and few lists that are seen often are learned by heart.
const STEPS: usize = 250;
const EPOCHS: std::ops::RangeInclusive<u32> = 6..=16;

/// The settings with which it trains on so many lists.
pub fn settings(lists: usize, batch_size: usize) -> TrainConfig {
    let steps_per_epoch = lists.div_ceil(batch_size.max(1)).max(1);
    TrainConfig {
        epochs: (STEPS.div_ceil(steps_per_epoch) as u32).clamp(*EPOCHS.start(), *EPOCHS.end()),
        learning_rate: 5e-4,
        ..TrainConfig::default()
    }
}

/// A BERT with random weights, and a tokenizer trained on the texts of these lists.
pub fn model(
    lists: &[RankedList],
    max_length: usize,
    seed: i64,
    device: Device,
) -> Result<(Transformer, Tokenizer)> {
    let tokenizer = Tokenizer::train(super::texts(lists), 8000)?;
    let tokenizer = tokenizer.with_limits(Limits::new(max_length))?;
    let config = EncoderConfig {
        vocab_size: tokenizer.vocab_size() as i64,
        hidden_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 256,
        // More than BERT's own: the model sees few texts, and each of them often.
        hidden_dropout_prob: 0.55,
        attention_probs_dropout_prob: 0.55,
        max_position_embeddings: max_length as i64,
        ..EncoderConfig::default()
    };
    Ok((Transformer::random(config, seed, device)?, tokenizer))
}
