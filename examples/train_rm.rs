//! Trains a reward model on ranked lists and writes a model folder.
//!
//! ```text
//! cargo run --release --example train_rm
//! cargo run --release --example train_rm -- --data lists.jsonl --backbone all-MiniLM-L6-v2
//! ```

mod support;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use reward_model::text::{Limits, Tokenizer};
use reward_model::{
    data, model, parse_device, tch, EncoderConfig, Error, Evaluation, LoadOptions, Provenance,
    RankedList, Result, RewardModel, Selection, TrainConfig, Trainer, Transformer,
};

/// Train a reward model on ranked lists.
///
/// Without --backbone, a small BERT and its tokenizer are made from the training texts.
#[derive(Parser)]
struct Arguments {
    /// Ranked lists to train on, .jsonl or .tsv [default: the lists that ship with the example]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Ranked lists to evaluate on [default: every tenth list of --data, which is then not trained on]
    #[arg(long, value_name = "FILE")]
    eval_data: Option<PathBuf>,
    /// Model folder to start from, or hf:org/name[@revision] to download (with --features hub)
    /// [default: a small model with random weights]
    #[arg(long, value_name = "DIR")]
    backbone: Option<String>,
    /// Where to write the model folder [default: target/reward-model, made anew each time]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace --output if it is a model folder already
    #[arg(long)]
    overwrite: bool,
    /// How often each list is seen [default: from random weights as often as makes 250 steps, but at
    /// least 4 times; 2 from a backbone]
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Lists per step
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch_size: usize,
    /// Highest learning rate [default: 5e-4 from random weights, 5e-5 from a backbone]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// What trains: all, head, last:N, layers:A-B (from 0), or match:PATTERN,... with * in names
    #[arg(long, value_name = "WHAT", default_value = "all")]
    trains: Selection,
    /// The head's own learning rate [default: --learning-rate]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    head_learning_rate: Option<f64>,
    /// What the learning rate is multiplied with from one layer to the one below it
    #[arg(long, value_name = "X", allow_negative_numbers = true, default_value_t = 1.0)]
    layer_decay: f64,
    /// Keep the epoch that does best on the held-out lists, not the last one
    #[arg(long)]
    keep_best: bool,
    /// The most tokens in a text, prompt included [default: 256 from random weights, what its folder
    /// says from a backbone]
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Seeds weights, shuffling and dropout
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// cpu, cuda or cuda:N
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    device: String,
    /// Threads to compute with [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
    /// Print the result alone
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    support::report(|| run(&Arguments::parse()).map(|()| ExitCode::SUCCESS))
}

fn run(arguments: &Arguments) -> Result<()> {
    let output = arguments.output.clone().unwrap_or_else(|| support::DEFAULT_MODEL.into());
    let overwrite = arguments.overwrite || arguments.output.is_none();
    model::check_target(&output, overwrite)?;
    let device = parse_device(&arguments.device)?;
    let mut progress = support::Progress::new(arguments.quiet);
    let (train, held_out) = read_data(arguments)?;
    let scratch = arguments.backbone.is_none();
    let steps_per_epoch = train.len().div_ceil(arguments.batch_size.max(1)).max(1);
    let enough = 250_usize.div_ceil(steps_per_epoch).max(4) as u32;
    let config = TrainConfig {
        epochs: arguments.epochs.unwrap_or(if scratch { enough } else { 2 }),
        batch_size: arguments.batch_size,
        learning_rate: arguments.learning_rate.unwrap_or(if scratch { 5e-4 } else { 5e-5 }),
        trains: arguments.trains.clone(),
        head_learning_rate: arguments.head_learning_rate,
        layer_decay: arguments.layer_decay,
        keep_best: arguments.keep_best,
        seed: arguments.seed,
        threads: arguments.threads,
        ..TrainConfig::default()
    };
    config.check()?;

    let (model, tokenizer) = match &arguments.backbone {
        Some(name) => backbone(&support::resolve(name)?, arguments, device, &mut progress)?,
        None => small_model(&train, arguments, device)?,
    };

    let mut trainer =
        Trainer::new(model, tokenizer, config)?.with_provenance(provenance(arguments));
    let evaluation = trainer.train(&train, &held_out, &mut |event| {
        progress.show(event);
        Ok(())
    })?;
    model::write_folder(&output, overwrite, |dir| {
        trainer.write_into(dir)?;
        write_metrics(&dir.join("metrics.json"), &evaluation)
    })?;

    if !arguments.quiet {
        support::say(
            "\nHeld-out lists, best to worst as ranked, with the reward of each response:\n",
        );
        for list in held_out.iter().take(4) {
            if let Ok(rewards) = trainer.scorer().score_list(list) {
                support::show_list(list, &rewards);
            }
        }
    }
    let result = match evaluation.metrics.pairwise_accuracy {
        Some(accuracy) => format!(
            "held-out pairwise accuracy {accuracy:.4} on {} pairs",
            evaluation.metrics.pairs
        ),
        None => "no held-out pairs to evaluate on".into(),
    };
    support::say(format!("{result}; model folder: {}", output.display()));
    Ok(())
}

/// The lists to train on and to evaluate on.
fn read_data(arguments: &Arguments) -> Result<(Vec<RankedList>, Vec<RankedList>)> {
    match (&arguments.data, &arguments.eval_data) {
        (None, None) => Ok((
            data::read(support::shipped("train.jsonl"))?,
            data::read(support::shipped("eval.jsonl"))?,
        )),
        (None, Some(eval)) => Ok((data::read(support::shipped("train.jsonl"))?, data::read(eval)?)),
        (Some(train), Some(eval)) => Ok((data::read(train)?, data::read(eval)?)),
        (Some(train), None) => {
            let (mut kept, mut held_out) = (Vec::new(), Vec::new());
            for (number, list) in data::read(train)?.into_iter().enumerate() {
                if number % 10 == 9 { &mut held_out } else { &mut kept }.push(list);
            }
            Ok((kept, held_out))
        }
    }
}

/// A pretrained model and its tokenizer; its head is a new one where it has none.
fn backbone(
    folder: &Path,
    arguments: &Arguments,
    device: tch::Device,
    progress: &mut support::Progress,
) -> Result<(Box<dyn RewardModel>, Tokenizer)> {
    let options = LoadOptions::on(device).with_seed(arguments.seed as i64);
    let model = Transformer::load(folder, &options)?;
    if let Some(loaded) = model.loaded() {
        progress.line(format!("{}: {}, {loaded}", folder.display(), model.config().model_type()));
    }
    let tokenizer = Tokenizer::load(folder)?;
    let limits = arguments.max_length.map_or(tokenizer.limits(), Limits::new);
    Ok((Box::new(model), tokenizer.with_limits(limits)?))
}

/// Where model and data come from, for the model card.
fn provenance(arguments: &Arguments) -> Provenance {
    let name = |file: &Option<PathBuf>, default: &str| {
        let name = file.as_deref().and_then(Path::file_name);
        name.map_or(default.to_owned(), |name| name.to_string_lossy().into_owned())
    };
    let train = name(&arguments.data, "the lists that ship with the example");
    let evaluation = match (&arguments.data, &arguments.eval_data) {
        (Some(_), None) => format!("every tenth list of {train}"),
        _ => name(&arguments.eval_data, "the lists that ship with the example"),
    };
    let provenance = Provenance::new().with_data(train, evaluation);
    match &arguments.backbone {
        Some(name) => provenance.with_base_model(support::model_name(name)),
        None => provenance,
    }
}

/// A small BERT with random weights, and a tokenizer trained on the same texts.
fn small_model(
    lists: &[RankedList],
    arguments: &Arguments,
    device: tch::Device,
) -> Result<(Box<dyn RewardModel>, Tokenizer)> {
    let max_length = arguments.max_length.unwrap_or(256);
    let tokenizer = Tokenizer::train(support::texts(lists), 8000)?;
    let tokenizer = tokenizer.with_limits(Limits::new(max_length))?;
    let config = EncoderConfig {
        vocab_size: tokenizer.vocab_size() as i64,
        hidden_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 256,
        // More than BERT's own: the model sees few texts, and each of them often.
        hidden_dropout_prob: 0.3,
        attention_probs_dropout_prob: 0.3,
        max_position_embeddings: max_length as i64,
        ..EncoderConfig::default()
    };
    let model = Transformer::random(config, arguments.seed as i64, device)?;
    Ok((Box::new(model), tokenizer))
}

fn write_metrics(path: &Path, evaluation: &Evaluation) -> Result<()> {
    let io = |source| Error::Io { action: "write", path: path.to_path_buf(), source };
    let mut json = serde_json::to_string_pretty(evaluation).map_err(|e| io(e.into()))?;
    json.push('\n');
    std::fs::write(path, json).map_err(io)
}
