//! Training: a model, examples, and the objective that brings them together.

mod card;
mod config;
mod events;
mod labelled;
mod objective;
mod optimizer;
mod ranked;
mod schedule;
mod selection;
mod token_prediction;

use std::path::Path;
use std::time::Instant;

use tch::Tensor;

pub use card::Provenance;
pub use config::TrainConfig;
pub use events::{Evaluation, Event, Start, Step};
pub use labelled::{Classification, LabelledEvaluation, Regression};
pub use objective::{BatchLoss, Objective, Prepared, PreparedExample};
pub use ranked::RankedLists;
pub use selection::{ParameterGroup, Selection};
pub use token_prediction::{TokenEvaluation, TokenPrediction};

use crate::model::{self, Mode, RewardModel};
use crate::score::Scorer;
use crate::text::{length_grouped_batches, Tokenizer};
use crate::{Error, RankedList, Result};
use card::Record;
use optimizer::AdamW;
use schedule::Schedule;
use selection::Selected;

/// Fine-tunes a model on ranked lists, or on what another [`Objective`] learns from.
///
/// Each step takes a batch of examples of similar length, scores every text once, and moves the
/// parameters [that train](TrainConfig::trains) by AdamW down the gradient of the loss. The others
/// get no gradient, no optimiser state and no update.
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
    provenance: Provenance,
    /// The last run.
    record: Option<Record>,
}

impl Trainer {
    /// A trainer of this model, whose texts this tokenizer makes into tokens.
    ///
    /// # Errors
    /// If a setting is out of its bounds, or as [`Scorer::new`].
    pub fn new(
        model: Box<dyn RewardModel>,
        tokenizer: Tokenizer,
        config: TrainConfig,
    ) -> Result<Trainer> {
        config.check()?;
        let scorer = Scorer::new(model, tokenizer)?;
        Ok(Trainer { scorer, config, provenance: Provenance::new(), record: None })
    }

    /// The same trainer, whose model card tells where model and data come from.
    #[must_use]
    pub fn with_provenance(self, provenance: Provenance) -> Trainer {
        Trainer { provenance, ..self }
    }

    /// Trains on `lists` and, before the first and after each epoch, evaluates on `held_out` (which
    /// may be empty). Gives the evaluation of the weights that the model then has.
    ///
    /// `watch` is told of every [`Event`]; an error that it returns stops the run.
    ///
    /// # Errors
    /// If there is no list to train on, the selection of what trains does not fit the model, the
    /// loss or a gradient is no longer finite ([`Error::Diverged`]), the model fails, or `watch`
    /// says so.
    pub fn train(
        &mut self,
        lists: &[RankedList],
        held_out: &[RankedList],
        watch: &mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<Evaluation> {
        self.fit(&RankedLists { loss: self.config.loss }, lists, held_out, watch)
    }

    /// [`train`](Self::train) for any objective.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn fit<O: Objective>(
        &mut self,
        objective: &O,
        examples: &[O::Example],
        held_out: &[O::Example],
        watch: &mut dyn FnMut(&Event<O::Evaluation>) -> Result<()>,
    ) -> Result<O::Evaluation> {
        if let Some(threads) = self.config.threads {
            tch::set_num_threads(threads.into());
        }
        let data = objective.prepare(self.scorer.tokenizer(), examples)?;
        data.check(examples.len())?;
        let (selected, _frozen) = Selected::new(self.scorer.model(), &self.config)?;
        let steps_per_epoch = data.examples.len().div_ceil(self.config.batch_size) as u64;
        let steps = steps_per_epoch * u64::from(self.config.epochs);
        let start = Start {
            lists: data.examples.len(),
            evaluation_lists: held_out.len(),
            too_long: data.too_long,
            without_pairs: data.without_pairs,
            prompts_cut: data.prompts_cut,
            trainable_parameters: selected.groups.iter().map(|group| group.trainable).sum(),
            groups: selected.groups,
            steps_per_epoch,
            steps,
        };
        watch(&Event::Started(start.clone()))?;
        let mut optimizer = AdamW::new(selected.trained, &self.config)?;
        let schedule = Schedule::new(self.config.learning_rate, self.config.warmup_ratio, steps);
        let mut evaluation = objective.evaluate(&self.scorer, held_out)?;
        watch(&Event::Evaluated { epoch: 0, evaluation: evaluation.clone() })?;

        let lengths = data.lengths();
        let (mut best, mut last) = (None, 0);
        let (mut step, started) = (0, Instant::now());
        for epoch in 1..=self.config.epochs {
            let shuffle = self.config.seed.wrapping_add(u64::from(epoch) << 32);
            for batch in length_grouped_batches(&lengths, self.config.batch_size, shuffle) {
                step += 1;
                let rate = schedule.rate(step);
                let mut done = self.step(objective, &mut optimizer, &data, &batch, step, rate)?;
                done.epoch = epoch;
                done.seconds = started.elapsed().as_secs_f64();
                watch(&Event::Step(done))?;
            }
            (evaluation, last) = (objective.evaluate(&self.scorer, held_out)?, epoch);
            watch(&Event::Evaluated { epoch, evaluation: evaluation.clone() })?;
            if let (true, Some(merit)) = (self.config.keep_best, objective.merit(&evaluation)) {
                Best::update(&mut best, epoch, merit, &evaluation, &optimizer)?;
            }
        }
        if let Some(best) = best {
            (evaluation, last) = (best.restore(&mut optimizer)?, best.epoch);
            watch(&Event::Kept { epoch: last })?;
        }
        self.record = Some(Record {
            start,
            epoch: last,
            seconds: started.elapsed().as_secs_f64(),
            evaluation: serde_json::to_value(&evaluation).unwrap_or_default(),
        });
        Ok(evaluation)
    }

    /// One optimiser step on the examples at `batch`.
    fn step<O: Objective>(
        &self,
        objective: &O,
        optimizer: &mut AdamW,
        data: &Prepared<O::Target>,
        batch: &[usize],
        step: u64,
        learning_rate: f64,
    ) -> Result<Step> {
        let tokens = data.tokens(batch)?;
        let seed = self.config.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(step) as i64;
        let mode = Mode::Training { seed };
        let cost = objective.loss(self.scorer.model(), &tokens, &data.targets(batch), mode)?;
        let value = cost.loss.f_double_value(&[])?;
        let diverged = |what: String| Error::Diverged { step, what, lists: data.numbers(batch) };
        if !value.is_finite() {
            return Err(diverged(format!("the loss is {value}")));
        }
        optimizer.zero_grad();
        cost.loss.f_backward()?;
        let grad_norm = optimizer.clip(self.config.max_grad_norm)?;
        if !grad_norm.is_finite() {
            let names = optimizer.not_finite()?.join(", ");
            return Err(diverged(format!("the gradient's norm is {grad_norm} ({names})")));
        }
        optimizer.step(learning_rate)?;
        Ok(Step {
            step,
            epoch: 0,
            loss: value,
            accuracy: cost.accuracy,
            margin: cost.margin,
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
        RankedLists { loss: self.config.loss }.evaluate(&self.scorer, lists)
    }

    /// The model and its tokenizer.
    pub fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// The settings.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Writes the model folder; see [`Scorer::save`]. Beside the files of the model it has a model
    /// card (`README.md`) and the settings (`train_config.json`).
    ///
    /// # Errors
    /// As [`Scorer::save`].
    pub fn save(&self, dir: impl AsRef<Path>, overwrite: bool) -> Result<()> {
        model::write_folder(dir, overwrite, |dir| self.write_into(dir))
    }

    /// Writes the files of the model folder into an existing folder; see [`Scorer::write_into`].
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_into(&self, dir: &Path) -> Result<()> {
        self.scorer.write_into(dir)?;
        let card = card::write(
            &self.provenance,
            &self.config,
            self.record.as_ref(),
            self.scorer.tokenizer().layout(),
        );
        let config = serde_json::to_string_pretty(&self.config).unwrap_or_default() + "\n";
        for (name, text) in [("README.md", card), ("train_config.json", config)] {
            let path = dir.join(name);
            std::fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        Ok(())
    }

    /// Gives the trained model up.
    pub fn into_scorer(self) -> Scorer {
        self.scorer
    }
}

/// The best epoch so far: its weights, and how they did.
struct Best<E> {
    epoch: u32,
    merit: f64,
    evaluation: E,
    weights: Vec<Tensor>,
}

impl<E: Clone> Best<E> {
    /// Takes this epoch's place if it is better; of equals the first one stays.
    fn update(
        best: &mut Option<Best<E>>,
        epoch: u32,
        merit: f64,
        evaluation: &E,
        optimizer: &AdamW,
    ) -> Result<()> {
        if best.as_ref().is_none_or(|best| merit > best.merit) {
            let (evaluation, weights) = (evaluation.clone(), optimizer.weights()?);
            *best = Some(Best { epoch, merit, evaluation, weights });
        }
        Ok(())
    }

    fn restore(&self, optimizer: &mut AdamW) -> Result<E> {
        optimizer.set_weights(&self.weights)?;
        Ok(self.evaluation.clone())
    }
}
