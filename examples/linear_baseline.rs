//! What a model without any notion of word order reaches: one weight for each word and one for each
//! pair of neighbouring characters, trained with the same loss on the same lists as `train_rm`.
//!
//! ```text
//! cargo run --release --example linear_baseline
//! cargo run --release --example linear_baseline -- --data train.tsv --eval-data test.tsv
//! ```
//!
//! It is also an implementation of [`RewardModel`] outside the crate.

mod support;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use reward_model::metrics::{RankMeter, Scored};
use reward_model::tch::nn::{self, OptimizerConfig};
use reward_model::tch::{self, Device, Kind, Tensor};
use reward_model::text::length_grouped_batches;
use reward_model::{
    data, Lists, Mode, RankLoss, RankedList, Reduction, Result, RewardModel, TokenBatch,
    TokenizedText,
};

/// Features are numbered by hash; at this many, hardly two of them share a number.
const BUCKETS: i64 = 1 << 18;

/// Train a linear bag of words and character bigrams on ranked lists.
#[derive(Parser)]
struct Arguments {
    /// Ranked lists to train on [default: the lists that ship with the examples]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Ranked lists to evaluate on [default: those that ship with the examples]
    #[arg(long, value_name = "FILE")]
    eval_data: Option<PathBuf>,
    /// How often each list is seen
    #[arg(long, value_name = "N", default_value_t = 5)]
    epochs: u32,
    /// Lists per step
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch_size: usize,
    /// Adam's learning rate
    #[arg(long, value_name = "X", default_value_t = 3e-2)]
    learning_rate: f64,
    /// Decoupled weight decay
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    weight_decay: f64,
    /// Seeds shuffling
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

fn main() -> ExitCode {
    support::report(|| run(&Arguments::parse()).map(|()| ExitCode::SUCCESS))
}

fn run(arguments: &Arguments) -> Result<()> {
    let file = |given: &Option<PathBuf>, name| given.clone().unwrap_or(support::shipped(name));
    let train = prepare(&data::read(file(&arguments.data, "train.jsonl"))?);
    let held_out = prepare(&data::read(file(&arguments.eval_data, "eval.jsonl"))?);

    let store = nn::VarStore::new(Device::Cpu);
    let model = Linear { weights: store.root().f_zeros("weights", &[BUCKETS, 1])? };
    let mut adam =
        nn::adamw(0.9, 0.999, arguments.weight_decay).build(&store, arguments.learning_rate)?;
    let loss = RankLoss::new().reduction(Reduction::MeanPerList);
    let lengths = vec![0; train.len()];
    for epoch in 0..u64::from(arguments.epochs) {
        let seed = arguments.seed << 32 | epoch;
        for batch in length_grouped_batches(&lengths, arguments.batch_size, seed) {
            let lists = batch.iter().map(|&list| &train[list]);
            let tokens = TokenBatch::from_lists(lists.clone().map(|(texts, _)| &texts[..]))?;
            let sizes: Vec<usize> = lists.clone().map(|(texts, _)| texts.len()).collect();
            let ranks: Vec<f64> =
                lists.flat_map(|(_, ranks)| ranks).map(|&rank| rank as f64).collect();
            let rewards = model.forward(&tokens, Mode::Training { seed: 0 })?.f_view([-1])?;
            let lists = Lists::from_lengths(&sizes).with_ranks(&ranks)?;
            adam.zero_grad();
            loss.forward_lists(&rewards, &lists)?.f_backward()?;
            adam.step();
        }
    }

    let mut meter = RankMeter::default();
    let _no_grad = tch::no_grad_guard();
    for (texts, ranks) in &held_out {
        let rewards = model.forward(&TokenBatch::from_texts(texts)?, Mode::Evaluation)?;
        meter.add(&Scored::new(&Vec::<f32>::try_from(rewards.f_view([-1])?)?, ranks)?);
    }
    let metrics = meter.metrics();
    println!(
        "held-out pairwise accuracy {:.4} on {} pairs (linear, words and character bigrams)",
        metrics.pairwise_accuracy.unwrap_or(f64::NAN),
        metrics.pairs
    );
    Ok(())
}

/// The sum of one weight for each feature of a text, divided by the root of their number.
struct Linear {
    weights: Tensor,
}

impl RewardModel for Linear {
    fn forward(&self, batch: &TokenBatch, _: Mode) -> Result<Tensor> {
        let ids: Vec<i64> = batch.ids().iter().map(|&id| id.into()).collect();
        let starts: Vec<i64> = batch.text_offsets().iter().map(|&start| start as i64).collect();
        let (sums, ..) = Tensor::f_embedding_bag(
            &self.weights,
            &Tensor::f_from_slice(&ids)?,
            &Tensor::f_from_slice(&starts[..batch.texts()])?,
            false,
            0,
            false,
            None::<&Tensor>,
            false,
        )?;
        let lengths: Vec<f32> = batch.lengths().map(|length| (length as f32).sqrt()).collect();
        Ok(sums.f_div(&Tensor::f_from_slice(&lengths)?.f_unsqueeze(1)?)?)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        vec![("weights".into(), self.weights.shallow_clone())]
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn save(&self, dir: &Path) -> Result<()> {
        Ok(self.weights.f_to_kind(Kind::Float)?.save(dir.join("weights.pt"))?)
    }
}

/// Each list's responses as features, and their ranks. A prompt is the same for all responses of a
/// list, so a linear model can do nothing with it.
fn prepare(lists: &[RankedList]) -> Vec<(Vec<TokenizedText>, Vec<usize>)> {
    lists
        .iter()
        .filter(|list| list.pair_count() > 0)
        .map(|list| {
            let texts = list.responses().iter().map(|response| features(response.text()));
            (texts.collect(), list.ranks().collect())
        })
        .collect()
}

/// The words of a text and its character bigrams, each once.
fn features(text: &str) -> TokenizedText {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '\'');
    let characters: Vec<char> = format!(" {text} ").chars().collect();
    let mut ids: Vec<u32> = words
        .filter(|word| !word.is_empty())
        .map(|word| bucket(&("word", word)))
        .chain(characters.windows(2).map(|bigram| bucket(&("bigram", bigram))))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    TokenizedText::from_ids(ids)
}

fn bucket(feature: &impl Hash) -> u32 {
    let mut hasher = DefaultHasher::new();
    feature.hash(&mut hasher);
    (hasher.finish() % BUCKETS as u64) as u32
}
