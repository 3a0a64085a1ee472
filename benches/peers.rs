//! Our side of `make bench-peers`: whole training steps, as the trainer makes them, on lists of token
//! ids. scripts/bench_peers.py gives it a job, a file of JSON, and asks for one pass over the lists
//! at a time, in turn with the peers.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use reward_model::model::Precision;
use reward_model::tch::{Cuda, Device, Kind, Tensor};
use reward_model::text::{TokenizedList, TokenizedText, Tokenizer};
use reward_model::{
    parse_device, BatchLoss, BoxError, Decisions, Error, Evaluation, Event, LoadOptions, Mode,
    Objective, Prepared, RankLoss, RankedLists, Ranks, Reduction, Result, RewardModel, Schedule,
    Scorer, TokenBatch, TrainConfig, Trainer, Transformer,
};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Job {
    model: PathBuf,
    /// One list a line, best first: an array of arrays of token ids.
    lists: PathBuf,
    lists_per_step: usize,
    /// How many lists, from the first, are one batch for the steps that peers must agree in.
    check_lists: usize,
    check_steps: u32,
    learning_rate: f64,
    dropout: bool,
    threads: u16,
    /// Anything but a CPU computes in bf16.
    device: Option<String>,
    /// To train for so many epochs, along a line after a warm-up, and score these lists.
    epochs: Option<u32>,
    held_out: Option<PathBuf>,
    /// To score the lists, a pass a time, in place of training.
    #[serde(default)]
    score: bool,
    seed: u64,
}

type Ids = Vec<Vec<u32>>;

/// Ranked lists that are tokens already.
struct Tokens(RankedLists);

fn texts(list: &Ids) -> Vec<TokenizedText> {
    list.iter().map(|ids| TokenizedText::from_ids(ids.as_slice())).collect()
}

impl Objective for Tokens {
    type Example = Ids;
    type Target = Ranks;
    type Evaluation = Evaluation;

    fn prepare(&self, _: &Tokenizer, lists: &[Ids]) -> Result<Prepared<Ranks>> {
        let mut prepared = Prepared::default();
        for (number, list) in lists.iter().enumerate() {
            prepared.push(number, texts(list), Ranks::new((1..=list.len()).collect(), None));
        }
        Ok(prepared)
    }

    fn loss(
        &self,
        model: &dyn RewardModel,
        batch: &TokenBatch,
        targets: &[&Ranks],
        mode: Mode,
    ) -> Result<BatchLoss> {
        self.0.loss(model, batch, targets, mode)
    }

    fn decisions(&self, rewards: &[f32], targets: &[&Ranks]) -> Result<Decisions> {
        self.0.decisions(rewards, targets)
    }

    fn evaluate(&self, _: &Scorer, _: &[Ids]) -> Result<Evaluation> {
        Ok(Evaluation::default())
    }

    fn merit(&self, _: &Evaluation) -> Option<f64> {
        None
    }
}

fn lists(path: &Path) -> Result<Vec<Ids>, BoxError> {
    let file = std::fs::read_to_string(path)?;
    Ok(file.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn say(value: &serde_json::Value) {
    println!("{value}");
    let _ = std::io::stdout().flush();
}

/// Trains on `lists`, and is told how far it is after every step.
fn train(
    trainer: &mut Trainer,
    lists: &[Ids],
    watch: &mut dyn FnMut(&reward_model::Step) -> Result<()>,
) -> Result<()> {
    let objective = Tokens(RankedLists { loss: trainer.config().loss });
    let mut watch = |event: &Event| match event {
        Event::Step(step) => watch(step),
        _ => Ok(()),
    };
    match trainer.fit(&objective, lists, &[], &mut watch) {
        // That is how a pass that nobody asks for ends.
        Ok(_) | Err(Error::Interrupted) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Scores every list by itself, once to warm up and then a pass for every line that comes in.
fn score(
    model: Box<dyn RewardModel>,
    tokenizer: Tokenizer,
    lists: &[Ids],
    threads: u16,
) -> Result<(), BoxError> {
    reward_model::tch::set_num_threads(threads.into());
    let scorer = Scorer::new(model, tokenizer)?;
    let lists: Vec<TokenizedList> = lists
        .iter()
        .map(|list| {
            let mut tokens = TokenizedList::default();
            tokens.texts = texts(list);
            tokens
        })
        .collect();
    let pass = || lists.iter().map(|list| scorer.score_tokenized_lists(&[list]));
    let rewards: Vec<Vec<f32>> = pass().collect::<Result<_>>()?;
    say(&json!({"rewards": rewards}));
    for _ in std::io::stdin().lock().lines() {
        let start = Instant::now();
        pass().collect::<Result<Vec<_>>>()?;
        say(&json!({"seconds": start.elapsed().as_secs_f64()}));
    }
    Ok(())
}

/// Operations a second of square matrices' products, in the dtype of the layers: what the device can
/// do, at this moment.
fn matrix_rate(device: Device) -> Result<f64> {
    let (size, kind) =
        if device == Device::Cpu { (1024, Kind::Float) } else { (8192, Kind::BFloat16) };
    let random = || Ok::<_, Error>(Tensor::f_randn([size, size], (kind, device))?);
    let (a, b) = (random()?, random()?);
    let mut times = Vec::new();
    for _ in 0..21 {
        let start = Instant::now();
        // A number that is read is a product that is done.
        let _ = a.f_matmul(&b)?.f_get(0)?.f_double_value(&[0])?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(2.0 * (size as f64).powi(3) / times[times.len() / 2])
}

fn run(job: &Job) -> Result<(), BoxError> {
    let lists = lists(&job.lists)?;
    let config = TrainConfig {
        batch_size: job.lists_per_step,
        learning_rate: job.learning_rate,
        schedule: Schedule::Constant,
        warmup_ratio: 0.0,
        loss: RankLoss::new().reduction(Reduction::MeanPairs),
        dropout: job.dropout,
        threads: Some(job.threads),
        seed: job.seed,
        ..TrainConfig::default()
    };
    let device = parse_device(job.device.as_deref().unwrap_or("cpu"))?;
    let precision = if device == Device::Cpu { Precision::F32 } else { Precision::Bf16 };
    let options = LoadOptions::on(device).with_precision(precision);
    let model: Box<dyn RewardModel> = Box::new(Transformer::load(&job.model, &options)?);
    // Nothing is tokenised; a trainer has one all the same.
    let tokenizer = Tokenizer::train(["a"], 10)?;

    if job.score {
        return score(model, tokenizer, &lists, job.threads);
    }
    if let (Some(epochs), Some(held_out)) = (job.epochs, &job.held_out) {
        let (schedule, warmup_ratio) = (Schedule::Linear, 0.1);
        let config = TrainConfig { epochs, schedule, warmup_ratio, ..config };
        let mut trainer = Trainer::new(model, tokenizer, config)?;
        let start = Instant::now();
        train(&mut trainer, &lists, &mut |_| Ok(()))?;
        let seconds = start.elapsed().as_secs_f64();
        let held_out = self::lists(held_out)?;
        let rewards = held_out.iter().map(|list| {
            let texts = texts(list);
            trainer.scorer().score_tokenized(&texts.iter().collect::<Vec<_>>())
        });
        say(&json!({"seconds": seconds, "rewards": rewards.collect::<Result<Vec<_>>>()?}));
        return Ok(());
    }

    let batch_size = job.check_lists;
    let check =
        TrainConfig { epochs: job.check_steps, batch_size, dropout: false, ..config.clone() };
    let mut trainer = Trainer::new(model, tokenizer.clone(), check)?;
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    train(&mut trainer, &lists[..batch_size.min(lists.len())], &mut |step| {
        losses.push(step.loss);
        norms.push(step.grad_norm);
        Ok(())
    })?;

    let config = TrainConfig { epochs: 1_000_000, ..config };
    let mut trainer = Trainer::new(trainer.into_scorer().into_model(), tokenizer, config)?;
    let steps = lists.len().div_ceil(job.lists_per_step) as u64;
    let (mut start, mut requests) = (Instant::now(), std::io::stdin().lock().lines());
    train(&mut trainer, &lists, &mut |step| {
        if !step.step.is_multiple_of(steps) {
            return Ok(());
        }
        say(&match step.step / steps {
            1 => json!({"losses": losses, "norms": norms}),
            _ => {
                if let Device::Cuda(index) = device {
                    Cuda::synchronize(index as i64);
                }
                let seconds = start.elapsed().as_secs_f64();
                json!({"seconds": seconds, "matrix_rate": matrix_rate(device)?})
            }
        });
        if requests.next().is_none() {
            return Err(Error::Interrupted);
        }
        start = Instant::now();
        Ok(())
    })?;
    Ok(())
}

fn main() -> Result<(), BoxError> {
    // `cargo bench` runs every bench, with a flag of its own.
    let Some(job) = std::env::args().skip(1).find(|word| !word.starts_with("--")) else {
        println!("peers: for scripts/bench_peers.py (`make bench-peers`)");
        return Ok(());
    };
    run(&serde_json::from_str(&std::fs::read_to_string(job)?)?)
}
