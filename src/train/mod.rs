//! Training: a model, ranked lists, and the loss that brings them together.

mod config;
mod events;
mod optimizer;
mod prepared;
mod schedule;

use std::path::Path;
use std::time::Instant;

use tch::Tensor;

pub use config::TrainConfig;
pub use events::{Evaluation, Event, Start, Step};

use crate::metrics::{RankMeter, Scored};
use crate::model::{Mode, RewardModel};
use crate::score::{self, Scorer};
use crate::text::{length_grouped_batches, Tokenizer};
use crate::{Error, RankedList, Result};
use optimizer::AdamW;
use prepared::Prepared;
use schedule::Schedule;

/// Fine-tunes a model on ranked lists.
///
/// Each step takes a batch of lists of similar length, scores every response once, and moves all
/// parameters that require a gradient by AdamW down the gradient of the [loss](TrainConfig::loss).
///
/// ```no_run
/// use reward_model::{data, tch::Device, text::Tokenizer, model, Event, TrainConfig, Trainer};
///
/// let train = data::read("train.jsonl")?;
/// let held_out = data::read("eval.jsonl")?;
/// let (model, tokenizer) = (model::load("backbone", Device::Cpu)?, Tokenizer::load("backbone")?);
/// let mut trainer = Trainer::new(model, tokenizer, TrainConfig::default())?;
/// let evaluation = trainer.train(&train, &held_out, &mut |event| {
///     if let Event::Step(step) = event {
///         println!("{}: loss {:.4}", step.step, step.loss);
///     }
///     Ok(())
/// })?;
/// println!("{:?}", evaluation.metrics.pairwise_accuracy);
/// trainer.save("reward-model", false)?;
/// # Ok::<(), reward_model::Error>(())
/// ```
pub struct Trainer {
    scorer: Scorer,
    config: TrainConfig,
}

impl Trainer {
    /// A trainer of this model, whose texts this tokenizer makes into tokens.
    ///
    /// # Errors
    /// If a setting is out of its bounds.
    pub fn new(
        model: Box<dyn RewardModel>,
        tokenizer: Tokenizer,
        config: TrainConfig,
    ) -> Result<Trainer> {
        config.check()?;
        Ok(Trainer { scorer: Scorer::new(model, tokenizer)?, config })
    }

    /// Trains on `lists` and, before the first and after each epoch, evaluates on `held_out` (which
    /// may be empty). Gives the last evaluation.
    ///
    /// `watch` is told of every [`Event`]; an error that it returns stops the run.
    ///
    /// # Errors
    /// If there is no list to train on, the loss or a gradient is no longer finite
    /// ([`Error::Diverged`]), the model fails, or `watch` says so.
    pub fn train(
        &mut self,
        lists: &[RankedList],
        held_out: &[RankedList],
        watch: &mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<Evaluation> {
        if let Some(threads) = self.config.threads {
            tch::set_num_threads(threads.into());
        }
        let data = Prepared::new(self.scorer.tokenizer(), lists)?;
        let mut optimizer = AdamW::new(self.scorer.model().parameters(), &self.config)?;
        let steps_per_epoch = data.len().div_ceil(self.config.batch_size) as u64;
        let steps = steps_per_epoch * u64::from(self.config.epochs);
        let schedule = Schedule::new(self.config.learning_rate, self.config.warmup_ratio, steps);
        watch(&Event::Started(Start {
            lists: data.len(),
            evaluation_lists: held_out.len(),
            too_long: data.too_long,
            without_pairs: data.without_pairs,
            prompts_cut: data.prompts_cut,
            trainable_parameters: optimizer.trainable(),
            steps_per_epoch,
            steps,
        }))?;
        let mut evaluation = self.evaluate(held_out)?;
        watch(&Event::Evaluated { epoch: 0, evaluation: evaluation.clone() })?;

        let (mut step, started) = (0, Instant::now());
        for epoch in 1..=self.config.epochs {
            let shuffle = self.config.seed.wrapping_add(u64::from(epoch) << 32);
            for batch in length_grouped_batches(data.lengths(), self.config.batch_size, shuffle) {
                step += 1;
                let rate = schedule.rate(step);
                let mut done = self.step(&mut optimizer, &data, &batch, step, rate)?;
                done.epoch = epoch;
                done.seconds = started.elapsed().as_secs_f64();
                watch(&Event::Step(done))?;
            }
            evaluation = self.evaluate(held_out)?;
            watch(&Event::Evaluated { epoch, evaluation: evaluation.clone() })?;
        }
        Ok(evaluation)
    }

    /// One optimiser step on the lists at `batch`.
    fn step(
        &self,
        optimizer: &mut AdamW,
        data: &Prepared,
        batch: &[usize],
        step: u64,
        learning_rate: f64,
    ) -> Result<Step> {
        let tokens = data.tokens(batch)?;
        let seed = self.config.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(step) as i64;
        let rewards = score::forward(self.scorer.model(), &tokens, Mode::Training { seed })?;
        let loss = self.config.loss.forward_lists(&rewards, &data.ranks(batch)?)?;
        let value = loss.f_double_value(&[])?;
        let diverged = |what: String| Error::Diverged {
            step,
            what,
            lists: data.numbers(batch).map(|n| n.to_string()).collect::<Vec<_>>().join(", "),
        };
        if !value.is_finite() {
            return Err(diverged(format!("the loss is {value}")));
        }
        optimizer.zero_grad();
        loss.f_backward()?;
        let grad_norm = optimizer.clip(self.config.max_grad_norm)?;
        if !grad_norm.is_finite() {
            let names = optimizer.not_finite()?.join(", ");
            return Err(diverged(format!("the gradient's norm is {grad_norm} ({names})")));
        }
        optimizer.step(learning_rate)?;
        let metrics = data.meter(batch, &crate::torch::to_vec_f32(&rewards)?)?.metrics();
        Ok(Step {
            step,
            epoch: 0,
            loss: value,
            accuracy: metrics.pairwise_accuracy,
            margin: metrics.mean_margin,
            learning_rate,
            grad_norm,
            lists: batch.len(),
            tokens: tokens.tokens(),
            seconds: 0.0,
        })
    }

    /// Scores `lists` and compares the rewards with their ranks. Lists with a response too long for
    /// the model are left out and counted.
    ///
    /// # Errors
    /// If the model fails.
    pub fn evaluate(&self, lists: &[RankedList]) -> Result<Evaluation> {
        let (mut rewards, mut ranks, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        let mut meter = RankMeter::default();
        let mut too_long = 0;
        for (list, scores) in lists.iter().zip(self.scorer.score(lists)?) {
            let scores = match scores {
                Ok(scores) => scores,
                Err(Error::TooLong { .. }) => {
                    too_long += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let list_ranks: Vec<usize> = list.ranks().collect();
            meter.add(&Scored::new(&scores, &list_ranks)?);
            lengths.push(scores.len());
            ranks.extend(list_ranks.iter().map(|&rank| rank as f64));
            rewards.extend(scores);
        }
        let metrics = meter.metrics();
        let loss = if metrics.pairs == 0 {
            None
        } else {
            let lists = crate::Lists::from_lengths(&lengths).with_ranks(&ranks)?;
            let loss = self.config.loss.forward_lists(&Tensor::f_from_slice(&rewards)?, &lists)?;
            Some(loss.f_double_value(&[])?)
        };
        Ok(Evaluation { loss, metrics, too_long })
    }

    /// The model and its tokenizer.
    pub fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// The settings.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Writes the model folder; see [`Scorer::save`].
    ///
    /// # Errors
    /// As [`Scorer::save`].
    pub fn save(&self, dir: impl AsRef<Path>, overwrite: bool) -> Result<()> {
        self.scorer.save(dir, overwrite)
    }

    /// Gives the trained model up.
    pub fn into_scorer(self) -> Scorer {
        self.scorer
    }
}
