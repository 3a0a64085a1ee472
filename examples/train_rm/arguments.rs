//! What a person says on the command line, and the settings that it comes to.

use std::path::PathBuf;

use clap::Parser;
use reward_model::data;
use reward_model::model::{Precision, Sharing};
use reward_model::{Result, Schedule, Selection, TrainConfig};

use crate::support::scratch;

/// Train a reward model on ranked lists.
///
/// Without --backbone, a small BERT and its tokenizer are made from the training texts.
#[derive(Parser)]
pub struct Arguments {
    /// Ranked lists to train on; stays on disk, however large. A line or an object a list (.jsonl,
    /// .json, .tsv, .csv; .parquet with --features parquet), plain or as .gz or .zst
    /// [default: the lists that ship with the example]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Ranked lists to evaluate on; may be given several times, and the first one is by which
    /// evaluations are compared [default: every tenth list of --data, 2000 of them at most, which
    /// are then not trained on]
    #[arg(long, value_name = "FILE")]
    pub eval_data: Vec<PathBuf>,
    /// What the records of all these files look like: tsv, jsonl (TRL's too), nectar,
    /// open-assistant, help-steer3, nemo or ultra-feedback [default: what a file's first record
    /// tells]
    #[arg(long, value_name = "NAME")]
    pub format: Option<data::Format>,
    /// Settings as TOML or JSON, such as the train_config.json of an earlier run; other flags win
    /// over what it says [default: none]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Model folder to start from, or hf:org/name[@revision] to download (with --features hub)
    /// [default: a small model with random weights]
    #[arg(long, value_name = "DIR")]
    pub backbone: Option<String>,
    /// Where to write the model folder [default: target/reward-model, made anew each time]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Replace --output if it is a model folder already; without --resume, forget a run that is not
    /// finished
    #[arg(long)]
    pub overwrite: bool,
    /// Go on with a run that was stopped: from the newest checkpoint in the folder beside --output
    /// whose name ends in .run; with --overwrite, a model folder at --output is replaced at the end
    #[arg(long)]
    pub resume: bool,
    /// How often each list is seen [default: from random weights as often as makes 250 steps, but 6
    /// times at least and 16 at most; 2 from a backbone]
    #[arg(long, value_name = "N")]
    pub epochs: Option<u32>,
    /// Lists per step [default: 8]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Lists in memory at once; a step's gradient is accumulated [default: all of the step's]
    #[arg(long, value_name = "N")]
    pub micro_batch_size: Option<usize>,
    /// Tokens in memory at once, those of all texts; as many of a step's lists as fit, sorted by
    /// length [default: all of the step's]
    #[arg(long, value_name = "N")]
    pub max_tokens_per_batch: Option<usize>,
    /// Bytes that activations may take, such as 4G or 500M: what takes more goes through the model
    /// twice, and backward in chunks of texts [default: any number]
    #[arg(long, value_name = "BYTES", value_parser = crate::support::bytes)]
    pub max_memory: Option<u64>,
    /// Texts that go backward at once; the same, by hand [default: what --max-memory allows]
    #[arg(long, value_name = "N")]
    pub chunk_size: Option<usize>,
    /// Keep only what goes into each layer, and compute the rest again on the way back: little memory,
    /// a forward pass more
    #[arg(long, conflicts_with_all = ["max_memory", "chunk_size"])]
    pub gradient_checkpointing: bool,
    /// Highest learning rate [default: 5e-4 from random weights, 5e-5 from a backbone]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub learning_rate: Option<f64>,
    /// constant, linear or cosine, after the warm-up [default: linear]
    #[arg(long, value_name = "NAME", value_parser = schedule)]
    pub schedule: Option<Schedule>,
    /// The share of all steps in which the learning rate rises [default: 0.1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub warmup_ratio: Option<f64>,
    /// AdamW's decay of matrices [default: 0.01]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// What trains: all, head, last:N, layers:A-B (from 0), or match:PATTERN,... with * in names
    /// [default: all]
    #[arg(long, value_name = "WHAT")]
    pub trains: Option<Selection>,
    /// The head's own learning rate [default: --learning-rate]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub head_learning_rate: Option<f64>,
    /// What the learning rate is multiplied with from one layer to the one below it [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub layer_decay: Option<f64>,
    /// Do not drop activations out in training
    #[arg(long)]
    pub no_dropout: bool,
    /// Steps from one evaluation to the next [default: an epoch]
    #[arg(long, value_name = "N")]
    pub evaluate_every: Option<u64>,
    /// The share of orders that are taken to be wrong [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub label_smoothing: Option<f64>,
    /// Weight of the term that keeps rewards near 0 [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub centering: Option<f64>,
    /// Keep the weights that do best on the held-out lists, not the last ones
    #[arg(long)]
    pub keep_best: bool,
    /// The figure that tells the best: loss, kendall_tau, ndcg, ... [default: pairwise_accuracy]
    #[arg(long, value_name = "NAME")]
    pub best_by: Option<String>,
    /// Stop after so many evaluations in a row that are no better than the best before them
    #[arg(long, value_name = "N")]
    pub patience: Option<u32>,
    /// How many steps in a row may be left out because loss or gradient is not finite [default: 0]
    #[arg(long, value_name = "N")]
    pub max_skipped_steps: Option<u32>,
    /// Minutes from one checkpoint to the next [default: 5]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub checkpoint_minutes: Option<f64>,
    /// Steps from one checkpoint to the next [default: by minutes alone]
    #[arg(long, value_name = "N")]
    pub checkpoint_steps: Option<u64>,
    /// The most tokens in a text, prompt included [default: 256 from random weights, what its folder
    /// says from a backbone]
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
    /// Stop with an error if data would be left out or cut
    #[arg(long)]
    pub strict: bool,
    /// Seeds weights, shuffling and dropout [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// cpu, cuda or cuda:N
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub device: String,
    /// What to compute in: f32, or bf16 on cuda; parameters and loss are f32 either way
    #[arg(long, value_name = "NAME", value_parser = precision, default_value = "f32", requires = "backbone")]
    pub precision: Precision,
    /// Whether the texts of a list send the prompt through a decoder once: auto, always or never; the
    /// same but for rounding [default: where it is faster]
    #[arg(long, value_name = "WHEN", value_parser = sharing, requires = "backbone")]
    pub share_prompts: Option<Sharing>,
    /// Threads to compute with [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<u16>,
    /// Change the head so that rewards on the training data have mean 0 and standard deviation 1; what
    /// is recorded of the run, report.html too, is of rewards as they were before
    #[arg(long)]
    pub normalize: bool,
    /// Print the result alone
    #[arg(long)]
    pub quiet: bool,
}

impl Arguments {
    /// The settings: those of --config, then what flags say.
    pub fn settings(&self, lists: usize) -> Result<TrainConfig> {
        let mut config = match &self.config {
            Some(path) => TrainConfig::read(path)?,
            None if self.backbone.is_some() => {
                TrainConfig { epochs: 2, learning_rate: 5e-5, ..Default::default() }
            }
            None => {
                let batch_size = self.batch_size.unwrap_or(TrainConfig::default().batch_size);
                scratch::settings(lists, batch_size)
            }
        };
        macro_rules! take {
            ($($field:ident),*) => {
                $(if let Some(value) = self.$field.clone() { config.$field = value; })*
            };
        }
        macro_rules! take_optional {
            ($($field:ident),*) => {
                $(if self.$field.is_some() { config.$field = self.$field.clone(); })*
            };
        }
        take!(epochs, batch_size, learning_rate, schedule, warmup_ratio, weight_decay, trains);
        take!(layer_decay, max_skipped_steps, checkpoint_minutes, seed);
        take_optional!(micro_batch_size, head_learning_rate, evaluate_every, best_by, patience);
        take_optional!(checkpoint_steps, threads, max_tokens_per_batch, max_memory);
        take_optional!(chunk_size);
        if let Some(share) = self.label_smoothing {
            config.loss = config.loss.label_smoothing(share);
        }
        if let Some(weight) = self.centering {
            config.loss = config.loss.centering(weight);
        }
        config.keep_best |= self.keep_best;
        config.strict |= self.strict;
        config.gradient_checkpointing |= self.gradient_checkpointing;
        config.dropout &= !self.no_dropout;
        config.check()?;
        Ok(config)
    }
}

fn schedule(name: &str) -> std::result::Result<Schedule, String> {
    match name {
        "constant" => Ok(Schedule::Constant),
        "linear" => Ok(Schedule::Linear),
        "cosine" => Ok(Schedule::Cosine),
        _ => Err("must be constant, linear or cosine".into()),
    }
}

fn sharing(name: &str) -> std::result::Result<Sharing, String> {
    match name {
        "auto" => Ok(Sharing::Auto),
        "always" => Ok(Sharing::Always),
        "never" => Ok(Sharing::Never),
        _ => Err("must be auto, always or never".into()),
    }
}

fn precision(name: &str) -> std::result::Result<Precision, String> {
    match name {
        "f32" => Ok(Precision::F32),
        "bf16" => Ok(Precision::Bf16),
        _ => Err("must be f32 or bf16".into()),
    }
}
