//! Trains a reward model on ranked lists and writes a model folder.
//!
//! ```text
//! cargo run --release --example train_rm
//! cargo run --release --example train_rm -- --data lists.jsonl --backbone all-MiniLM-L6-v2
//! ```

mod arguments;
mod lists;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use reward_model::text::{Limits, Tokenizer};
use reward_model::{
    fused_adamw, model, parse_device, report, tch, Error, Evaluation, EvaluationSet, LoadOptions,
    Provenance, RankedList, RankedLists, Result, RewardModel, RunFolder, Trainer, Transformer,
};

use arguments::Arguments;
use lists::{sample, Data, Lists, Set};
use support::scratch;

/// How many held-out lists are written out with their rewards.
const LISTS_WRITTEN: usize = 1000;

fn main() -> ExitCode {
    support::report(|| run(&Arguments::parse()).map(|()| ExitCode::SUCCESS))
}

fn run(arguments: &Arguments) -> Result<()> {
    let output = arguments.output.clone().unwrap_or_else(|| support::DEFAULT_MODEL.into());
    let overwrite = arguments.overwrite || arguments.output.is_none();
    let folder = run_folder(&output, arguments)?;
    if arguments.resume && !overwrite && output.exists() {
        return Err(written_already(&output, folder.path()));
    }
    model::check_target(&output, overwrite)?;
    let device = parse_device(&arguments.device)?;
    let mut progress = support::Progress::new(arguments.quiet);
    let Data { train, sets, opened } = Data::read(arguments)?;
    let config = arguments.settings(train.len())?;
    progress = progress.telling(config.evaluate_every.is_some(), sets.len() > 1);

    let seed = config.seed as i64;
    let (model, tokenizer) = match &arguments.backbone {
        Some(name) => backbone(&support::resolve(name)?, arguments, seed, device, &mut progress)?,
        None => {
            let max_length = arguments.max_length.unwrap_or(scratch::MAX_LENGTH);
            let (model, tokenizer) = scratch::model(&sample(&*train)?, max_length, seed, device)?;
            (Box::new(model) as Box<dyn RewardModel>, tokenizer)
        }
    };

    let mut trainer = Trainer::new(model, tokenizer, config)?
        .with_provenance(provenance(arguments))
        .with_run_folder(folder);
    let data_report =
        trainer.data_report(&progress.reading("looked at", &*train), &named(&sets))?;
    progress.line(format!("{opened}\n{data_report}"));
    if let Err(reason) = fused_adamw(device) {
        progress.line(format!("AdamW goes parameter by parameter, which is slower: {reason}"));
    }
    let mut evaluation = fit(&mut trainer, &*train, &sets, arguments, &mut progress)?;
    trainer.set_reward_scale(&sample(&*train)?, arguments.normalize)?;
    if arguments.normalize {
        evaluation = trainer.evaluate(&sets[0].1)?;
    }
    model::write_folder(&output, overwrite, |dir| {
        trainer.write_into(dir)?;
        let metrics = Metrics { evaluation: &evaluation, kept: progress.kept.as_ref() };
        write_json(&dir.join("metrics.json"), &metrics)?;
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
    let result = result(&evaluation, progress.kept.as_ref());
    progress.line(format!("a page about the run: {}", output.join("report.html").display()));
    support::say(format!("{result}; model folder: {}", output.display()));
    Ok(())
}

/// What metrics.json has: the evaluation of the weights that were written and, if they were chosen
/// among those of several evaluations, that of the last ones.
#[derive(serde::Serialize)]
struct Metrics<'a> {
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<&'a support::Kept>,
}

/// How good the model is, in a line.
fn result(evaluation: &Evaluation, kept: Option<&support::Kept>) -> String {
    let Some(accuracy) = evaluation.metrics.pairwise_accuracy else {
        return "no held-out pairs to evaluate on".into();
    };
    let mut line =
        format!("held-out pairwise accuracy {accuracy:.4} on {} pairs", evaluation.metrics.pairs);
    if let Some(kept) = kept {
        line += &format!(
            " after epoch {}, which was chosen on these lists ({}); {} after the last epoch",
            kept.epoch,
            kept.chosen_on,
            support::figure(kept.last.metrics.pairwise_accuracy, 4),
        );
    }
    line
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

/// A run writes the model folder as its last act but one, and may have been killed right after it.
fn written_already(output: &Path, run: &Path) -> Error {
    Error::ModelFile {
        path: output.to_path_buf(),
        message: format!(
            "is there already; if it is this run that wrote it, nothing is left to do but to remove \
             {}; if not, --overwrite lets the run replace it in the end",
            run.display()
        ),
    }
}

fn named(sets: &[Set]) -> Vec<EvaluationSet<'_, RankedList>> {
    sets.iter().map(|(name, examples)| EvaluationSet { name, examples }).collect()
}

/// Trains until the end or until a person has had enough.
fn fit(
    trainer: &mut Trainer,
    train: &Lists,
    sets: &[Set],
    arguments: &Arguments,
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
        let how = if arguments.overwrite { "--resume --overwrite" } else { "--resume" };
        eprintln!("interrupted; the run is saved as it was after step {step}, go on with {how}");
    }
    result
}

/// A pretrained model and its tokenizer; its head is a new one where it has none.
fn backbone(
    folder: &Path,
    arguments: &Arguments,
    seed: i64,
    device: tch::Device,
    progress: &mut support::Progress,
) -> Result<(Box<dyn RewardModel>, Tokenizer)> {
    let options = LoadOptions::on(device)
        .with_seed(seed)
        .with_precision(arguments.precision)
        .with_sharing(arguments.share_prompts.unwrap_or_default());
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

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let io = |source| Error::Io { action: "write", path: path.to_path_buf(), source };
    let mut json = serde_json::to_string_pretty(value).map_err(|e| io(e.into()))?;
    json.push('\n');
    std::fs::write(path, json).map_err(io)
}
