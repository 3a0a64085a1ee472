//! Fine-tuning as transfer, told from end to end: what a source model that has read much text without
//! labels is worth when labels are few.
//!
//! ```text
//! make minilm
//! cargo run --release --example finetune
//! cargo run --release --example finetune -- --data lists.jsonl --eval-data held-out.jsonl
//! cargo run --release --example finetune -- --pretrain --text more.tsv
//! ```
//!
//! 1. The source model is all-MiniLM-L6-v2, which has been pretrained on more than a billion pairs of
//!    sentences. With `--pretrain` it is a small BERT instead, pretrained here on the texts of the
//!    training lists, whose order it does not see, and on those of `--text`, by predicting masked tokens.
//! 2. The target model takes everything from it but the output layer, which is drawn at random.
//! 3. Its last layers are fine-tuned, then all of them; beside it a small model is trained from random
//!    weights, as `train_rm` does without a backbone.
//! 4. All are evaluated on held-out lists, for 10, 30 and 100 % of the labelled lists.

mod support;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use reward_model::tch::Device;
use reward_model::text::{Limits, Tokenizer};
use reward_model::{
    data, parse_device, EncoderConfig, Error, Evaluation, LoadOptions, RankedList, Result,
    RewardModel, Selection, TokenPrediction, TrainConfig, Trainer, Transformer,
};
use support::scratch;

/// Where `make minilm` puts the source model.
const MINILM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.minilm");

/// Compare fine-tuning with training from scratch, for a growing number of labels.
#[derive(Parser)]
struct Arguments {
    /// Ranked lists to train on [default: the lists that ship with the example]
    #[arg(long, value_name = "FILE", requires = "eval_data")]
    data: Option<PathBuf>,
    /// Ranked lists to evaluate on
    #[arg(long, value_name = "FILE", requires = "data")]
    eval_data: Option<PathBuf>,
    /// Pretrained source model, a folder or hf:org/name@revision [default: all-MiniLM-L6-v2, which
    /// `make minilm` fetches]
    #[arg(long, value_name = "MODEL", conflicts_with = "pretrain")]
    backbone: Option<String>,
    /// Pretrain a small source model instead, on the texts of the training lists
    #[arg(long)]
    pretrain: bool,
    /// Ranked lists whose texts the source model reads too, without their order; may be given several
    /// times
    #[arg(long, value_name = "FILE", requires = "pretrain")]
    text: Vec<PathBuf>,
    /// Shares of the labelled lists, in percent
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', default_values_t = [10, 30, 100],
          value_parser = clap::value_parser!(u8).range(1..=100))]
    shares: Vec<u8>,
    /// How often each text is seen in pretraining
    #[arg(long, value_name = "N", default_value_t = 60, requires = "pretrain")]
    pretrain_epochs: u32,
    /// The least number of steps of each fine-tuning, of at least two epochs
    #[arg(long, value_name = "N", default_value_t = 100)]
    steps: u32,
    /// Highest learning rate from the source model [default: 5e-5; with --pretrain 5e-4]
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,
    /// Seeds weights, shuffling and dropout
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// cpu, cuda or cuda:N
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    device: String,
    /// Threads to compute with [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
    /// Print the table alone
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    support::report(|| run(&Arguments::parse()).map(|()| ExitCode::SUCCESS))
}

fn run(arguments: &Arguments) -> Result<()> {
    let device = parse_device(&arguments.device)?;
    let (train, held_out) = match (&arguments.data, &arguments.eval_data) {
        (Some(train), Some(held_out)) => (data::read(train)?, data::read(held_out)?),
        _ => (
            data::read(support::shipped("train.jsonl"))?,
            data::read(support::shipped("eval.jsonl"))?,
        ),
    };
    let source = match &arguments.backbone {
        Some(name) => support::resolve(name)?,
        None if arguments.pretrain => {
            let folder = PathBuf::from(support::DEFAULT_SOURCE);
            pretrain(&train, &folder, device, arguments)?;
            folder
        }
        None if Path::new(MINILM).exists() => MINILM.into(),
        None => {
            return Err(Error::InvalidArgument(format!(
                "the source model, all-MiniLM-L6-v2, is not in {MINILM}: `make minilm` fetches it \
                 (91 MB). Or name a model folder with --backbone, or train a source model with \
                 --pretrain"
            )))
        }
    };
    let story = Story { source, device, held_out: &held_out, arguments };

    support::say(TABLE_HEAD);
    for &share in &arguments.shares {
        let count = (train.len() * usize::from(share)).div_ceil(100);
        // Lists may be sorted by their source: every so many, not the first ones.
        let lists: Vec<RankedList> =
            (0..count).map(|n| train[n * train.len() / count].clone()).collect();
        story.tell(share, &lists)?;
    }
    Ok(())
}

/// A small BERT, with a tokenizer of its own, pretrained on texts without labels.
fn pretrain(
    lists: &[RankedList],
    folder: &Path,
    device: Device,
    arguments: &Arguments,
) -> Result<()> {
    let mut texts: Vec<String> = support::texts(lists).map(str::to_owned).collect();
    for file in &arguments.text {
        texts.extend(support::texts(&data::read(file)?).map(str::to_owned));
    }
    let tokenizer = Tokenizer::train(texts.iter().map(String::as_str), 8000)?;
    let tokenizer = tokenizer.with_limits(Limits::new(scratch::MAX_LENGTH))?;
    let config = EncoderConfig {
        vocab_size: tokenizer.vocab_size() as i64,
        hidden_size: 128,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        intermediate_size: 256,
        hidden_dropout_prob: 0.2,
        attention_probs_dropout_prob: 0.2,
        max_position_embeddings: scratch::MAX_LENGTH as i64,
        ..EncoderConfig::default()
    };
    let model = Transformer::random(config, arguments.seed as i64, device)?;
    let objective = TokenPrediction::of(&model, &tokenizer)?;
    let settings = TrainConfig {
        epochs: arguments.pretrain_epochs,
        batch_size: 32,
        learning_rate: 1e-3,
        seed: arguments.seed,
        threads: arguments.threads,
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(Box::new(model), tokenizer, settings)?;
    let progress = support::StepBar::new("pretraining the source model", arguments.quiet);
    let held_out: Vec<String> = texts.iter().step_by(10).cloned().collect();
    let texts: Vec<String> =
        texts.iter().enumerate().filter(|(n, _)| n % 10 != 0).map(|(_, t)| t.clone()).collect();
    let evaluation =
        trainer.fit(&objective, &texts, &held_out, &mut |event| progress.show(event))?;
    progress.finish();
    trainer.save(folder, true)?;
    if !arguments.quiet {
        if let (Some(perplexity), Some(accuracy)) = (evaluation.perplexity, evaluation.accuracy) {
            support::say(format!(
                "source model: {} texts, {} epochs; masked tokens of held-out texts: perplexity \
                 {perplexity:.0}, {:.1} % right\n",
                texts.len(),
                arguments.pretrain_epochs,
                100.0 * accuracy
            ));
        }
    }
    Ok(())
}

const TABLE_HEAD: &str =
    "  labels  lists  trained                       accuracy   tau-b   exact  seconds";

/// A model and its tokenizer.
type Pair = (Box<dyn RewardModel>, Tokenizer);

struct Story<'a> {
    source: PathBuf,
    device: Device,
    held_out: &'a [RankedList],
    arguments: &'a Arguments,
}

impl Story<'_> {
    /// The rows of the table for this share of the labels.
    fn tell(&self, share: u8, lists: &[RankedList]) -> Result<()> {
        let row = |what: &str, evaluation: &Evaluation, seconds: f64| {
            let m = &evaluation.metrics;
            let figure = |value| support::figure(value, 4);
            support::say(format!(
                "  {share:>4} %  {:>5}  {what:<28} {:>9} {:>7} {:>7} {seconds:>8.0}",
                lists.len(),
                figure(m.pairwise_accuracy),
                figure(m.kendall_tau),
                figure(m.exact_order),
            ));
        };
        let arguments = self.arguments;
        let seed = arguments.seed as i64;

        let (small, tokenizer) = scratch::model(lists, scratch::MAX_LENGTH, seed, self.device)?;
        let settings = scratch::settings(lists.len(), TrainConfig::default().batch_size);
        let (_, evaluation, seconds) =
            self.train((Box::new(small), tokenizer), lists, settings, "from scratch")?;
        row("a small model, from scratch", &evaluation, seconds);

        let options = LoadOptions::on(self.device).with_new_head(1, seed);
        let source = Transformer::load(&self.source, &options)?;
        let tokenizer = Tokenizer::load(&self.source)?;
        let layers = source.config().num_hidden_layers();
        let half = (layers as usize).div_ceil(2);
        let default_rate = if arguments.pretrain { 5e-4 } else { 5e-5 };
        let steps_per_epoch = lists.len().div_ceil(TrainConfig::default().batch_size) as u32;
        let settings = |trains| TrainConfig {
            trains,
            learning_rate: arguments.learning_rate.unwrap_or(default_rate),
            epochs: arguments.steps.div_ceil(steps_per_epoch).max(2),
            ..TrainConfig::default()
        };
        let (tuned, evaluation, first) = self.train(
            (Box::new(source), tokenizer),
            lists,
            settings(Selection::LastLayers(half)),
            "the last layers",
        )?;
        row(&format!("last {half} of {layers} layers, transfer"), &evaluation, first);

        let (_, evaluation, second) =
            self.train(tuned, lists, settings(Selection::All), "all layers")?;
        row("then all layers, transfer", &evaluation, first + second);
        Ok(())
    }

    /// Trains a model on these lists; the model, how it does, and how long it took.
    fn train(
        &self,
        (model, tokenizer): Pair,
        lists: &[RankedList],
        settings: TrainConfig,
        what: &str,
    ) -> Result<(Pair, Evaluation, f64)> {
        let (seed, threads) = (self.arguments.seed, self.arguments.threads);
        let settings = TrainConfig { seed, threads, ..settings };
        let mut trainer = Trainer::new(model, tokenizer.clone(), settings)?;
        let progress = support::StepBar::new(what, self.arguments.quiet);
        let started = Instant::now();
        trainer.train(lists, &[], &mut |event| progress.show(event))?;
        let seconds = started.elapsed().as_secs_f64();
        progress.finish();
        let evaluation = trainer.evaluate(self.held_out)?;
        Ok(((trainer.into_scorer().into_model(), tokenizer), evaluation, seconds))
    }
}
