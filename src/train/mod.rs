//! Training: a model, examples, and the objective that brings them together.

mod callbacks;
mod card;
mod checkpoint;
mod config;
mod events;
mod feed;
mod kept;
mod labelled;
mod objective;
mod optimizer;
mod parts;
mod preflight;
mod ranked;
mod rewards;
mod run;
mod run_folder;
mod schedule;
mod selection;
mod step;
mod token_prediction;

use std::path::Path;
use std::time::Instant;

pub use callbacks::Callbacks;
pub use card::Provenance;
pub use config::TrainConfig;
pub use events::{Evaluation, Event, Start, Step};
pub use labelled::{Classification, LabelledEvaluation, Regression};
pub use objective::{BatchLoss, Decisions, Objective, Prepared, PreparedExample};
pub use ranked::{RankedLists, Ranks};
pub use run_folder::RunFolder;
pub use schedule::Schedule;
pub use selection::{ParameterGroup, Selection};
pub use token_prediction::{TokenEvaluation, TokenPrediction};

use crate::data::{DataReport, Dataset};
use crate::model::{self, RewardModel};
use crate::score::Scorer;
use crate::text::Tokenizer;
use crate::torch::checksum;
use crate::{Error, RankedList, Result};
use card::Record;
use checkpoint::State;
use feed::{Feed, AT_ONCE};
use kept::Kept;
use optimizer::AdamW;
use run::Run;
use run_folder::{Identity, DATA_REPORT};
use schedule::Rates;
use selection::Selected;

/// The version of what a run records.
const SCHEMA: u32 = 1;

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
    folder: Option<RunFolder>,
    /// What is in the data.
    report: Option<DataReport>,
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
        let provenance = Provenance::new();
        Ok(Trainer { scorer, config, provenance, folder: None, report: None, record: None })
    }

    /// The same trainer, whose next run keeps records and checkpoints in this folder, and goes on
    /// from them if the folder is [resumed](RunFolder::resume).
    #[must_use]
    pub fn with_run_folder(self, folder: RunFolder) -> Trainer {
        Trainer { folder: Some(folder), ..self }
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
        let sets = [EvaluationSet { name: "held-out", examples: held_out }];
        self.fit_and_evaluate(objective, &examples, &sets, watch)
    }

    /// [`fit`](Self::fit) with any number of sets to evaluate on, of which the first is the one by
    /// which evaluations are compared, and whose evaluation is given back; and with any [`Dataset`]
    /// to train on, such as a file that does not fit in memory: every example is read and tokenised
    /// once when the run begins, and again, ahead of its step on another thread, where all tokens
    /// together are more than [`TrainConfig::tokens_in_memory`].
    ///
    /// # Errors
    /// As [`train`](Self::train), or if there is no set, or two have one name.
    pub fn fit_and_evaluate<O: Objective>(
        &mut self,
        objective: &O,
        examples: &dyn Dataset<O::Example>,
        sets: &[EvaluationSet<'_, O::Example>],
        watch: &mut dyn FnMut(&Event<O::Evaluation>) -> Result<()>,
    ) -> Result<O::Evaluation> {
        let Some(first) = sets.first() else {
            return Err(Error::InvalidArgument(
                "there is no set to evaluate on; give one, which may be empty".into(),
            ));
        };
        let names = || sets.iter().map(|set| set.name);
        if let Some(twice) = names().enumerate().find(|&(at, n)| names().take(at).any(|m| m == n)) {
            return Err(Error::InvalidArgument(format!(
                "two sets to evaluate on are called {:?}; give each its own name",
                twice.1
            )));
        }
        if let Some(threads) = self.config.threads {
            tch::set_num_threads(threads.into());
        }
        self.config.check_objective(objective)?;
        let data =
            Feed::new(objective, self.scorer.tokenizer(), examples, self.config.tokens_in_memory)?;
        let (selected, frozen) = Selected::new(self.scorer.model(), &self.config)?;
        if let Some(folder) = &mut self.folder {
            let identity = Identity {
                schema: SCHEMA,
                config: self.config.clone(),
                threads: tch::get_num_threads(),
                device: format!("{:?}", self.scorer.model().device()),
                precision: Some(format!("{:?}", self.scorer.model().compute_kind())),
                data: data.fingerprint,
                frozen: checksum(frozen.parameters())?,
            };
            folder.begin(&identity, self.report.as_ref())?;
        }
        // The report on the data, which tells more, is written by now.
        if self.config.strict {
            self.refuse_losses(objective, &data.counts, sets)?;
        }
        let steps_per_epoch = data.len().div_ceil(self.config.batch_size) as u64;
        let steps = steps_per_epoch * u64::from(self.config.epochs);
        let start = Start {
            schema: SCHEMA,
            lists: data.len(),
            evaluation_lists: first.examples.len(),
            too_long: data.counts.too_long,
            without_pairs: data.counts.without_pairs,
            prompts_cut: data.counts.prompts_cut,
            trainable_parameters: selected.groups.iter().map(|group| group.trainable).sum(),
            groups: selected.groups,
            steps_per_epoch,
            steps,
        };
        let kept = Kept::new(data.len(), &self.config, self.folder.as_ref().map(RunFolder::path));
        let mut run = Run {
            objective,
            scorer: &self.scorer,
            config: &self.config,
            data: &data,
            kept,
            sets,
            folder: self.folder.as_mut(),
            watch,
            optimizer: AdamW::new(selected.trained, &self.config)?,
            rates: Rates::new(&self.config, steps),
            steps,
            state: State::default(),
            best: None,
            chosen: None,
            clock: (Instant::now(), 0.0),
            saved: (Instant::now(), None),
        };
        let evaluation = run.execute(&start)?;
        let kept = run.state.best.as_ref().filter(|_| self.config.keep_best);
        self.record = Some(Record {
            start,
            epoch: kept.map_or(run.state.epoch.min(self.config.epochs), |best| best.epoch),
            seconds: run.state.seconds,
            evaluation: run.state.evaluation,
            chosen: run.chosen,
        });
        Ok(evaluation)
    }

    /// An error if anything of the data is left out or cut. What has no pairs is no loss where it is
    /// evaluated on.
    fn refuse_losses<O: Objective>(
        &self,
        objective: &O,
        training: &Prepared<()>,
        sets: &[EvaluationSet<'_, O::Example>],
    ) -> Result<()> {
        training.refuse_losses("training data")?;
        for set in sets {
            let mut counts = Prepared::<()>::default();
            for examples in set.examples.chunks(AT_ONCE) {
                let part = objective.prepare(self.scorer.tokenizer(), examples)?;
                counts.too_long += part.too_long;
                counts.prompts_cut += part.prompts_cut;
            }
            counts.refuse_losses(&format!("evaluation data ({})", set.name))?;
        }
        Ok(())
    }

    /// Scores `lists` and compares the rewards with their ranks. Lists with a response too long for
    /// the model are left out and counted.
    ///
    /// # Errors
    /// If the model fails.
    pub fn evaluate(&self, lists: &[RankedList]) -> Result<Evaluation> {
        RankedLists { loss: self.config.loss }.evaluate(&self.scorer, lists)
    }

    /// Removes the run's folder, if it has one, checkpoints and all: for when the model is saved.
    ///
    /// # Errors
    /// If something in it cannot be removed.
    pub fn remove_run_folder(&mut self) -> Result<()> {
        self.folder.take().map_or(Ok(()), RunFolder::remove)
    }

    /// The model and its tokenizer.
    pub fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// The settings.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Scores `lists`, which should be those of the training data, and has the mean and the standard
    /// deviation of the rewards written into the model's folder. With `normalize` the model's head is
    /// changed, so that they become 0 and 1; evaluations made before then speak of the old rewards.
    /// Lists that are too long are left out.
    ///
    /// # Errors
    /// If the model fails, cannot be normalised, or gives no rewards that differ.
    pub fn set_reward_scale(&mut self, lists: &[RankedList], normalize: bool) -> Result<()> {
        let scores = self.scorer.score(lists)?;
        let rewards: Vec<f64> = scores.into_iter().flatten().flatten().map(f64::from).collect();
        let count = rewards.len().max(1) as f64;
        let mean = rewards.iter().sum::<f64>() / count;
        let variance = rewards.iter().map(|reward| (reward - mean).powi(2)).sum::<f64>() / count;
        self.scorer.model_mut().set_reward_scale(mean, variance.sqrt(), normalize)
    }

    /// Writes the model folder; see [`Scorer::save`]. Beside the files of the model it has a model
    /// card (`README.md`) and the settings (`train_config.json`).
    ///
    /// # Errors
    /// As [`Scorer::save`].
    pub fn save(&self, dir: impl AsRef<Path>, overwrite: bool) -> Result<()> {
        model::write_folder(dir, overwrite, |dir| self.write_into(dir))
    }

    /// Writes the files of the model folder into an existing folder, the records of its run
    /// (`events.jsonl`) and the [report on the data](Self::data_report) among them if there are any; see [`Scorer::write_into`].
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
            self.scorer.model().reward_scale(),
        );
        let path = dir.join("train_config.json");
        let config = run_folder::to_json(&path, &self.config)?;
        std::fs::write(&path, config).map_err(Error::io("write", &path))?;
        if let Some(report) = &self.report {
            let path = dir.join(DATA_REPORT);
            let report = run_folder::to_json(&path, report)?;
            std::fs::write(&path, report).map_err(Error::io("write", &path))?;
        }
        let path = dir.join("README.md");
        std::fs::write(&path, card).map_err(Error::io("write", &path))?;
        match &self.folder {
            Some(folder) => folder.copy_records(dir),
            None => Ok(()),
        }
    }

    /// Gives the trained model up.
    pub fn into_scorer(self) -> Scorer {
        self.scorer
    }
}

/// Examples to evaluate on, and what they are called.
#[derive(Debug)]
pub struct EvaluationSet<'a, T> {
    /// Its name in the records.
    pub name: &'a str,
    /// Its examples; there may be none.
    pub examples: &'a [T],
}
