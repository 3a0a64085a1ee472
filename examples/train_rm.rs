//! Trains a reward model on ranked lists and writes a model folder.
//!
//! ```text
//! cargo run --release --example train_rm
//! cargo run --release --example train_rm -- --data lists.jsonl --backbone all-MiniLM-L6-v2
//! ```

mod support;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use reward_model::data::{self, Dataset, IndexedFile, ReadOptions, Subset};
use reward_model::model::Precision;
use reward_model::text::{Limits, Tokenizer};
use reward_model::{
    model, parse_device, report, tch, EncoderConfig, Error, Evaluation, EvaluationSet, LoadOptions,
    Provenance, RankedList, RankedLists, Result, RewardModel, RunFolder, Schedule, Selection,
    TrainConfig, Trainer, Transformer,
};

/// How many held-out lists are written out with their rewards.
const LISTS_WRITTEN: usize = 1000;

/// How many training lists the rewards' mean and standard deviation are of, at most, and how many
/// a tokenizer is made from.
const LISTS_SAMPLED: usize = 10_000;

/// How many lists of --data are held out, at most.
const LISTS_HELD_OUT: usize = 2000;

/// Train a reward model on ranked lists.
///
/// Without --backbone, a small BERT and its tokenizer are made from the training texts.
#[derive(Parser)]
struct Arguments {
    /// Ranked lists to train on; stays on disk, however large. A line or an object a list (.jsonl,
    /// .json, .tsv, .csv; .parquet with --features parquet), plain or as .gz or .zst
    /// [default: the lists that ship with the example]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Ranked lists to evaluate on; may be given several times, and the first one is by which
    /// evaluations are compared [default: every tenth list of --data, 2000 of them at most, which
    /// are then not trained on]
    #[arg(long, value_name = "FILE")]
    eval_data: Vec<PathBuf>,
    /// What the records of all these files look like: tsv, jsonl (TRL's too), nectar,
    /// open-assistant, help-steer3, nemo or ultra-feedback [default: what a file's first record
    /// tells]
    #[arg(long, value_name = "NAME")]
    format: Option<data::Format>,
    /// Settings as TOML or JSON, such as the train_config.json of an earlier run; other flags win
    /// over what it says [default: none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Model folder to start from, or hf:org/name[@revision] to download (with --features hub)
    /// [default: a small model with random weights]
    #[arg(long, value_name = "DIR")]
    backbone: Option<String>,
    /// Where to write the model folder [default: target/reward-model, made anew each time]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace --output if it is a model folder already, and forget a run that is not finished
    #[arg(long)]
    overwrite: bool,
    /// Go on with a run that was stopped: from the newest checkpoint in the folder beside --output
    /// whose name ends in .run
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// How often each list is seen [default: from random weights as often as makes 250 steps, but at
    /// least 4 times; 2 from a backbone]
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Lists per step [default: 8]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Lists in memory at once; a step's gradient is accumulated [default: all of the step's]
    #[arg(long, value_name = "N")]
    micro_batch_size: Option<usize>,
    /// Tokens in memory at once, those of all texts; as many of a step's lists as fit, sorted by
    /// length [default: all of the step's]
    #[arg(long, value_name = "N")]
    max_tokens_per_batch: Option<usize>,
    /// Bytes that activations may take, such as 4G or 500M: what takes more goes through the model
    /// twice, and backward in chunks of texts [default: any number]
    #[arg(long, value_name = "BYTES", value_parser = support::bytes)]
    max_memory: Option<u64>,
    /// Highest learning rate [default: 5e-4 from random weights, 5e-5 from a backbone]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// constant, linear or cosine, after the warm-up [default: linear]
    #[arg(long, value_name = "NAME", value_parser = schedule)]
    schedule: Option<Schedule>,
    /// The share of all steps in which the learning rate rises [default: 0.1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    warmup_ratio: Option<f64>,
    /// AdamW's decay of matrices [default: 0.01]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// What trains: all, head, last:N, layers:A-B (from 0), or match:PATTERN,... with * in names
    /// [default: all]
    #[arg(long, value_name = "WHAT")]
    trains: Option<Selection>,
    /// The head's own learning rate [default: --learning-rate]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    head_learning_rate: Option<f64>,
    /// What the learning rate is multiplied with from one layer to the one below it [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    layer_decay: Option<f64>,
    /// Do not drop activations out in training
    #[arg(long)]
    no_dropout: bool,
    /// Steps from one evaluation to the next [default: an epoch]
    #[arg(long, value_name = "N")]
    evaluate_every: Option<u64>,
    /// The share of orders that are taken to be wrong [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    label_smoothing: Option<f64>,
    /// Weight of the term that keeps rewards near 0 [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    centering: Option<f64>,
    /// Keep the weights that do best on the held-out lists, not the last ones
    #[arg(long)]
    keep_best: bool,
    /// The figure that tells the best: loss, kendall_tau, ndcg, ... [default: pairwise_accuracy]
    #[arg(long, value_name = "NAME")]
    best_by: Option<String>,
    /// Stop after so many evaluations in a row that are no better than the best before them
    #[arg(long, value_name = "N")]
    patience: Option<u32>,
    /// How many steps in a row may be left out because loss or gradient is not finite [default: 0]
    #[arg(long, value_name = "N")]
    max_skipped_steps: Option<u32>,
    /// Minutes from one checkpoint to the next [default: 5]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    checkpoint_minutes: Option<f64>,
    /// Steps from one checkpoint to the next [default: by minutes alone]
    #[arg(long, value_name = "N")]
    checkpoint_steps: Option<u64>,
    /// The most tokens in a text, prompt included [default: 256 from random weights, what its folder
    /// says from a backbone]
    #[arg(long, value_name = "N")]
    max_length: Option<usize>,
    /// Stop with an error if training data would be left out or cut
    #[arg(long)]
    strict: bool,
    /// Seeds weights, shuffling and dropout [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// cpu, cuda or cuda:N
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    device: String,
    /// What to compute in: f32, or bf16 on cuda; parameters and loss are f32 either way
    #[arg(long, value_name = "NAME", value_parser = precision, default_value = "f32", requires = "backbone")]
    precision: Precision,
    /// Threads to compute with [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
    /// Change the head so that rewards on the training data have mean 0 and standard deviation 1
    #[arg(long)]
    normalize: bool,
    /// Print the result alone
    #[arg(long)]
    quiet: bool,
}

fn schedule(name: &str) -> std::result::Result<Schedule, String> {
    match name {
        "constant" => Ok(Schedule::Constant),
        "linear" => Ok(Schedule::Linear),
        "cosine" => Ok(Schedule::Cosine),
        _ => Err("must be constant, linear or cosine".into()),
    }
}

fn precision(name: &str) -> std::result::Result<Precision, String> {
    match name {
        "f32" => Ok(Precision::F32),
        "bf16" => Ok(Precision::Bf16),
        _ => Err("must be f32 or bf16".into()),
    }
}

fn main() -> ExitCode {
    support::report(|| run(&Arguments::parse()).map(|()| ExitCode::SUCCESS))
}

fn run(arguments: &Arguments) -> Result<()> {
    let output = arguments.output.clone().unwrap_or_else(|| support::DEFAULT_MODEL.into());
    let overwrite = arguments.overwrite || arguments.output.is_none();
    model::check_target(&output, overwrite)?;
    let folder = run_folder(&output, arguments)?;
    let device = parse_device(&arguments.device)?;
    let mut progress = support::Progress::new(arguments.quiet);
    let Data { train, sets, opened } = read_data(arguments)?;
    let config = settings(arguments, train.len())?;
    progress = progress.telling(config.evaluate_every.is_some(), sets.len() > 1);

    let seed = config.seed as i64;
    let (model, tokenizer) = match &arguments.backbone {
        Some(name) => backbone(&support::resolve(name)?, arguments, seed, device, &mut progress)?,
        None => small_model(&sample(&*train)?, arguments, seed, device)?,
    };

    let mut trainer = Trainer::new(model, tokenizer, config)?
        .with_provenance(provenance(arguments))
        .with_run_folder(folder);
    let data_report =
        trainer.data_report(&progress.reading("looked at", &*train), &named(&sets))?;
    progress.line(format!("{opened}\n{data_report}"));
    let mut evaluation = fit(&mut trainer, &*train, &sets, &mut progress)?;
    trainer.set_reward_scale(&sample(&*train)?, arguments.normalize)?;
    if arguments.normalize {
        evaluation = trainer.evaluate(&sets[0].1)?;
    }
    model::write_folder(&output, overwrite, |dir| {
        trainer.write_into(dir)?;
        write_json(&dir.join("metrics.json"), &evaluation)?;
        let (name, lists) = &sets[0];
        let lists = &lists[..lists.len().min(LISTS_WRITTEN)];
        trainer.write_rewards(dir.join("evaluation.jsonl"), name, lists)?;
        let title = output.file_name().unwrap_or_default().to_string_lossy();
        report::write_titled(dir, &title).map(|_| ())
    })?;
    trainer.remove_run_folder()?;

    if !arguments.quiet {
        support::say(
            "\nHeld-out lists, best to worst as ranked, with the reward of each response:\n",
        );
        for list in sets[0].1.iter().take(4) {
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
    progress.line(format!("a page about the run: {}", output.join("report.html").display()));
    support::say(format!("{result}; model folder: {}", output.display()));
    Ok(())
}

/// Where checkpoints and records are kept until the model folder is written.
fn run_folder(output: &Path, arguments: &Arguments) -> Result<RunFolder> {
    let mut path = output.as_os_str().to_owned();
    path.push(".run");
    let path = PathBuf::from(path);
    match (arguments.resume, arguments.overwrite) {
        (true, _) => RunFolder::resume(path),
        (false, true) => RunFolder::replace(path),
        (false, false) => RunFolder::create(path),
    }
}

/// The settings: those of --config, then what flags say.
fn settings(arguments: &Arguments, lists: usize) -> Result<TrainConfig> {
    let mut config = match &arguments.config {
        Some(path) => TrainConfig::read(path)?,
        None => {
            let mut config = TrainConfig { epochs: 2, learning_rate: 5e-5, ..Default::default() };
            if arguments.backbone.is_none() {
                let batch_size = arguments.batch_size.unwrap_or(config.batch_size).max(1);
                let steps_per_epoch = lists.div_ceil(batch_size).max(1);
                config.epochs = 250_usize.div_ceil(steps_per_epoch).max(4) as u32;
                config.learning_rate = 5e-4;
            }
            config
        }
    };
    macro_rules! take {
        ($($field:ident),*) => {
            $(if let Some(value) = arguments.$field.clone() { config.$field = value; })*
        };
    }
    macro_rules! take_optional {
        ($($field:ident),*) => {
            $(if arguments.$field.is_some() { config.$field = arguments.$field.clone(); })*
        };
    }
    take!(epochs, batch_size, learning_rate, schedule, warmup_ratio, weight_decay, trains);
    take!(layer_decay, max_skipped_steps, checkpoint_minutes, seed);
    take_optional!(micro_batch_size, head_learning_rate, evaluate_every, best_by, patience);
    take_optional!(checkpoint_steps, threads, max_tokens_per_batch, max_memory);
    if let Some(share) = arguments.label_smoothing {
        config.loss = config.loss.label_smoothing(share);
    }
    if let Some(weight) = arguments.centering {
        config.loss = config.loss.centering(weight);
    }
    config.keep_best |= arguments.keep_best;
    config.strict |= arguments.strict;
    config.dropout &= !arguments.no_dropout;
    config.check()?;
    Ok(config)
}

type Set = (String, Vec<RankedList>);

fn named(sets: &[Set]) -> Vec<EvaluationSet<'_, RankedList>> {
    sets.iter().map(|(name, examples)| EvaluationSet { name, examples }).collect()
}

/// Trains until the end or until a person has had enough.
fn fit(
    trainer: &mut Trainer,
    train: &Lists,
    sets: &[Set],
    progress: &mut support::Progress,
) -> Result<Evaluation> {
    let interrupts = support::Interrupts::watched()?;
    let objective = RankedLists { loss: trainer.config().loss };
    let train = progress.reading("tokenised", train);
    let result = trainer.fit_and_evaluate(&objective, &train, &named(sets), &mut |event| {
        progress.show(event);
        interrupts.check()
    });
    if let Err(Error::Interrupted) = &result {
        progress.stop();
        let step = progress.checkpoint.unwrap_or(0);
        eprintln!("interrupted; the run is saved as it was after step {step}, go on with --resume");
    }
    result
}

type Lists = dyn Dataset<RankedList>;

/// The lists to train on, the sets to evaluate on with their names, and what the files are.
struct Data {
    train: Box<Lists>,
    sets: Vec<Set>,
    opened: String,
}

fn read_data(arguments: &Arguments) -> Result<Data> {
    let opened = RefCell::new(String::new());
    let mut options = ReadOptions::default();
    if let Some(format) = arguments.format {
        options = options.with_format(format);
    }
    let open = |path: &Path| -> Result<IndexedFile> {
        let lists = IndexedFile::open_with(path, &options)?;
        if lists.is_empty() {
            let message = format!("{}: the file holds no ranked list", path.display());
            return Err(Error::InvalidArgument(message));
        }
        let (count, format) = (lists.len(), lists.format());
        *opened.borrow_mut() += &format!("{}: {count} lists, {format}\n", path.display());
        Ok(lists)
    };
    let set = |path: &Path| -> Result<Set> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let lists = open(path)?;
        Ok((name, (0..lists.len()).map(|at| lists.get(at)).collect::<Result<_>>()?))
    };
    let mut sets = Vec::new();
    for path in &arguments.eval_data {
        sets.push(set(path)?);
    }
    let Some(path) = &arguments.data else {
        if sets.is_empty() {
            sets.push(set(&support::shipped("eval.jsonl"))?);
        }
        let train = Box::new(open(&support::shipped("train.jsonl"))?);
        return Ok(Data { train, sets, opened: opened.into_inner() });
    };
    let lists = open(path)?;
    if !sets.is_empty() {
        return Ok(Data { train: Box::new(lists), sets, opened: opened.into_inner() });
    }
    let every = lists.len().div_ceil(LISTS_HELD_OUT).max(10);
    let (held_out, kept): (Vec<_>, Vec<_>) =
        (0..lists.len()).partition(|number| number % every == every - 1);
    let held_out = held_out.into_iter().map(|number| lists.get(number)).collect::<Result<_>>()?;
    let (train, sets) = (Box::new(Subset::new(lists, kept)?), vec![("held-out".into(), held_out)]);
    Ok(Data { train, sets, opened: opened.into_inner() })
}

/// Some of the lists, evenly spread.
fn sample(lists: &Lists) -> Result<Vec<RankedList>> {
    let every = lists.len().div_ceil(LISTS_SAMPLED).max(1);
    (0..lists.len()).step_by(every).map(|number| lists.get(number)).collect()
}

/// A pretrained model and its tokenizer; its head is a new one where it has none.
fn backbone(
    folder: &Path,
    arguments: &Arguments,
    seed: i64,
    device: tch::Device,
    progress: &mut support::Progress,
) -> Result<(Box<dyn RewardModel>, Tokenizer)> {
    let options = LoadOptions::on(device).with_seed(seed).with_precision(arguments.precision);
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
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let shipped = || "the lists that ship with the example".to_owned();
    let train = arguments.data.as_deref().map_or_else(shipped, name);
    let evaluation = match (arguments.eval_data.first(), &arguments.data) {
        (Some(file), _) => name(file),
        (None, Some(_)) => format!("lists of {train} that were not trained on"),
        (None, None) => shipped(),
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
    seed: i64,
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
    let model = Transformer::random(config, seed, device)?;
    Ok((Box::new(model), tokenizer))
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let io = |source| Error::Io { action: "write", path: path.to_path_buf(), source };
    let mut json = serde_json::to_string_pretty(value).map_err(|e| io(e.into()))?;
    json.push('\n');
    std::fs::write(path, json).map_err(io)
}
