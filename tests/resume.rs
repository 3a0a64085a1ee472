#![cfg(feature = "train")]
//! Runs that are stopped and go on: they end where they would have ended.

use std::fs;
use std::path::{Path, PathBuf};

use reward_model::data::DataReport;
use reward_model::tch::Device;
use reward_model::text::{Limits, Tokenizer};
use reward_model::{
    Callbacks, EncoderConfig, Error, EvaluationSet, Event, RankedList, Result, RewardModel,
    RunFolder, Schedule, Selection, TrainConfig, Trainer, Transformer,
};

/// 19 lists: steps of 4 leave a last one of 3.
fn lists() -> Vec<RankedList> {
    let words = ["superb", "fair", "awful", "so", "the", "film", "soup", "was"];
    (0..19)
        .map(|n| {
            let text = |k: usize| {
                let long = vec![words[3 + (n + k) % 5]; 1 + (n * 7 + k * 3) % 6];
                format!("{} {}", long.join(" "), words[k])
            };
            let responses: Vec<String> = (0..2 + n % 2).map(text).collect();
            RankedList::new(responses).unwrap()
        })
        .collect()
}

fn tokenizer() -> Tokenizer {
    let all = lists();
    let texts = all.iter().flat_map(|list| list.responses()).map(|response| response.text());
    Tokenizer::train(texts, 200).unwrap().with_limits(Limits::new(24)).unwrap()
}

fn model(seed: i64) -> Box<dyn RewardModel> {
    let config = EncoderConfig {
        vocab_size: tokenizer().vocab_size() as i64,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 32,
        max_position_embeddings: 24,
        hidden_dropout_prob: 0.2,
        ..EncoderConfig::default()
    };
    Box::new(Transformer::random(config, seed, Device::Cpu).unwrap())
}

fn config() -> TrainConfig {
    TrainConfig {
        epochs: 3,
        batch_size: 4,
        micro_batch_size: Some(3),
        learning_rate: 5e-3,
        schedule: Schedule::Cosine,
        keep_best: true,
        evaluate_every: Some(4),
        checkpoint_steps: Some(2),
        threads: Some(1),
        ..TrainConfig::default()
    }
}

type Weights = Vec<Vec<u32>>;

fn weights(trainer: &Trainer) -> Weights {
    let parameters = trainer.scorer().model().parameters();
    let bits = |p: Vec<f32>| p.into_iter().map(f32::to_bits).collect();
    parameters.iter().map(|(_, p)| bits(Vec::try_from(p.detach().reshape([-1])).unwrap())).collect()
}

/// Runs until `stop` says so of an event's number, from 0.
fn train(
    config: TrainConfig,
    folder: Option<RunFolder>,
    stop: impl Fn(usize, &Event) -> bool,
) -> (Trainer, Result<f64>, Vec<Event>) {
    let mut trainer = Trainer::new(model(1), tokenizer(), config).unwrap();
    if let Some(folder) = folder {
        trainer = trainer.with_run_folder(folder);
    }
    let mut events = Vec::new();
    let all = lists();
    let result = trainer.train(&all[..15], &all[15..], &mut |event| {
        events.push(event.clone());
        if stop(events.len() - 1, event) {
            return Err(Error::Interrupted);
        }
        Ok(())
    });
    (trainer, result.map(|evaluation| evaluation.loss.unwrap()), events)
}

/// What an uninterrupted run ends with.
fn whole(config: TrainConfig) -> (Weights, f64, Vec<Event>) {
    let (trainer, result, events) = train(config, None, |_, _| false);
    (weights(&trainer), result.unwrap(), events)
}

fn steps(events: &[Event]) -> Vec<u64> {
    let step = |event: &Event| match event {
        Event::Step(step) => Some(step.step),
        _ => None,
    };
    events.iter().filter_map(step).collect()
}

fn records(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path.join("events.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn checkpoints(path: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(path.join("checkpoints")).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn a_run_stopped_at_any_event_ends_with_the_same_weights() {
    for keep_best in [true, false] {
        let config = TrainConfig { keep_best, ..config() };
        let (expected, loss, events) = whole(config.clone());
        let last = |events: &[Event]| match events.last() {
            Some(Event::Kept { last, .. }) => last.loss,
            _ => None,
        };
        assert_eq!(last(&events).is_some(), keep_best);
        assert_eq!(steps(&events), (1..=12).collect::<Vec<_>>());
        for stop_at in 0..events.len() + 8 {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("run");
            let (_, result, before) =
                train(config.clone(), Some(RunFolder::create(&path).unwrap()), |number, _| {
                    number == stop_at
                });
            if result.is_ok() {
                continue;
            }
            assert!(matches!(result, Err(Error::Interrupted)));
            // Interrupted once more, soon after.
            let (_, _, between) =
                train(config.clone(), Some(RunFolder::resume(&path).unwrap()), |number, _| {
                    number == 3
                });
            let (trainer, result, after) =
                train(config.clone(), Some(RunFolder::resume(&path).unwrap()), |_, _| false);
            assert_eq!(result.unwrap(), loss, "stopped at event {stop_at}");
            assert!(weights(&trainer) == expected, "stopped at event {stop_at}");
            assert_eq!(last(&after), last(&events), "stopped at event {stop_at}");

            // No step is made twice where a checkpoint was saved, and the records tell one run.
            let made = [steps(&before), steps(&between), steps(&after)].concat();
            assert_eq!(made, (1..=12).collect::<Vec<_>>(), "stopped at event {stop_at}");
            let told: Vec<u64> = records(&path)
                .iter()
                .filter(|record| record["event"] == "step")
                .map(|record| record["step"].as_u64().unwrap())
                .collect();
            assert_eq!(told, made, "stopped at event {stop_at}");
        }
    }
}

#[test]
fn a_run_in_chunks_goes_on_with_the_same_masks() {
    let one = config();
    // Texts of different lengths: what fits is three or four of them.
    let chunked = TrainConfig { micro_batch_size: None, max_memory: Some(60_000), ..config() };
    let (expected, loss, _) = whole(chunked.clone());
    assert_ne!(expected, whole(TrainConfig { micro_batch_size: None, ..one }).0, "no chunks");
    for stop_at in [3, 8, 14] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run");
        let folder = RunFolder::create(&path).unwrap();
        let (_, result, _) = train(chunked.clone(), Some(folder), |number, _| number == stop_at);
        assert!(matches!(result, Err(Error::Interrupted)));
        let folder = RunFolder::resume(&path).unwrap();
        let (trainer, result, _) = train(chunked.clone(), Some(folder), |_, _| false);
        assert_eq!(result.unwrap(), loss);
        assert!(weights(&trainer) == expected, "stopped at event {stop_at}");
    }
    // Other chunks drop out something else.
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    let folder = RunFolder::create(&path).unwrap();
    assert!(train(chunked.clone(), Some(folder), |number, _| number == 8).1.is_err());
    let other = TrainConfig { max_memory: Some(60_001), ..chunked };
    let error = train(other, Some(RunFolder::resume(&path).unwrap()), |_, _| false).1.unwrap_err();
    assert!(error.to_string().contains("max_memory was 60000 and is 60001"), "{error}");
}

#[test]
fn checkpoints_do_not_change_a_run() {
    let place = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(place.path().join("run")).unwrap();
    let (trainer, result, _) = train(config(), Some(folder), |_, _| false);
    let (expected, loss, _) = whole(config());
    assert_eq!(result.unwrap(), loss);
    assert!(weights(&trainer) == expected);
    assert_ne!(weights(&trainer), whole(TrainConfig { dropout: false, ..config() }).0);
}

#[test]
fn the_newest_checkpoints_and_the_best_are_kept() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    // The last evaluation is worse than the first: the learning rate is far too high.
    let config = TrainConfig { learning_rate: 0.5, best_by: Some("loss".into()), ..config() };
    let (_, result, events) = train(config, Some(RunFolder::create(&path).unwrap()), |_, _| false);
    result.unwrap();
    let Some(Event::Kept { step: best, .. }) = events.last() else { panic!("{events:?}") };
    let mut expected = vec![*best, 10, 12];
    expected.sort();
    expected.dedup();
    let kept: Vec<u64> = checkpoints(&path)
        .iter()
        .map(|c| c.file_name().unwrap().to_str().unwrap()[5..].parse().unwrap())
        .collect();
    assert_eq!(kept, expected);
}

/// Stops a run after step 7, so that there are checkpoints after steps 6 and 7.
fn stopped(path: &Path) {
    let config = TrainConfig { keep_best: false, ..config() };
    let (_, result, _) = train(
        config,
        Some(RunFolder::create(path).unwrap()),
        |_, event| matches!(event, Event::Step(step) if step.step == 7),
    );
    assert!(result.is_err());
    assert_eq!(checkpoints(path).len(), 2);
}

fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_is_taken() {
    let config = TrainConfig { keep_best: false, ..config() };
    let (expected, ..) = whole(config.clone());
    for file in ["tensors.safetensors", "state.json", "CHECKSUMS"] {
        for missing in [false, true] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("run");
            stopped(&path);
            let newest = checkpoints(&path)[1].join(file);
            if missing {
                fs::remove_file(&newest).unwrap();
            } else {
                damage(&newest);
            }
            let folder = RunFolder::resume(&path).unwrap();
            let (trainer, result, events) = train(config.clone(), Some(folder), |_, _| false);
            result.unwrap();
            let Event::Resumed { step: 6, damaged } = &events[1] else { panic!("{events:?}") };
            let [message] = &damaged[..] else { panic!("{damaged:?}") };
            assert!(message.starts_with(&newest.display().to_string()), "{message}");
            assert!(weights(&trainer) == expected);
        }
    }
}

#[test]
fn without_a_valid_checkpoint_nothing_is_done() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    stopped(&path);
    checkpoints(&path).iter().for_each(|c| damage(&c.join("tensors.safetensors")));
    let config = TrainConfig { keep_best: false, ..config() };
    let folder = RunFolder::resume(&path).unwrap();
    let (_, result, events) = train(config, Some(folder), |_, _| false);
    let message = result.unwrap_err().to_string();
    assert!(message.contains("no checkpoint is valid"), "{message}");
    assert!(events.is_empty());
}

#[test]
fn another_run_is_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    stopped(&path);
    let same = TrainConfig { keep_best: false, ..config() };
    let cases = [
        (TrainConfig { epochs: 4, ..same.clone() }, "epochs was 3 and is 4"),
        (TrainConfig { seed: 1, ..same.clone() }, "seed was 0 and is 1"),
        (TrainConfig { threads: Some(2), ..same.clone() }, "threads was 1 and is 2"),
        (
            TrainConfig { trains: Selection::Head, ..same.clone() },
            "the parameters that do not train are not the same",
        ),
    ];
    for (other, expected) in cases {
        let (_, result, _) = train(other, Some(RunFolder::resume(&path).unwrap()), |_, _| false);
        let message = result.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    // How often it saves does not matter.
    let other = TrainConfig { checkpoint_steps: None, ..same };
    let (_, result, _) = train(other.clone(), Some(RunFolder::resume(&path).unwrap()), |_, _| true);
    assert!(matches!(result, Err(Error::Interrupted)));

    let mut trainer = Trainer::new(model(1), tokenizer(), other)
        .unwrap()
        .with_run_folder(RunFolder::resume(&path).unwrap());
    let message = trainer.train(&lists()[..14], &[], &mut |_| Ok(())).unwrap_err().to_string();
    assert!(message.contains("the training data, as tokens, are not the same"), "{message}");
}

#[test]
fn a_run_folder_is_never_lost_by_accident() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    assert!(RunFolder::resume(&path).unwrap_err().to_string().contains("holds no run"));
    stopped(&path);
    let message = RunFolder::create(&path).unwrap_err().to_string();
    assert!(message.contains("holds a run that is not finished"), "{message}");
    RunFolder::replace(&path).unwrap();
    assert!(RunFolder::holds_run(&path), "it is replaced only when another run begins");

    let other = place.path().join("thesis");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.txt"), "years of work").unwrap();
    for refused in [RunFolder::create(&other), RunFolder::replace(&other)] {
        assert!(refused.unwrap_err().to_string().contains("not a run"));
    }
}

#[test]
fn training_stops_when_no_evaluation_is_better_any_more() {
    let config = TrainConfig {
        epochs: 40,
        learning_rate: 0.5,
        evaluate_every: Some(1),
        patience: Some(3),
        best_by: Some("loss".into()),
        ..config()
    };
    let (_, loss, events) = whole(config);
    let stopped = events.iter().find_map(|event| match event {
        Event::StoppedEarly { step } => Some(*step),
        _ => None,
    });
    let losses: Vec<f64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Evaluated { step: 1.., evaluation, .. } => evaluation.loss,
            _ => None,
        })
        .collect();
    let stopped = stopped.expect("it stops") as usize;
    assert_eq!(losses.len(), stopped);
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(loss, best);
    assert!(losses[stopped - 3..].iter().all(|&later| later > best));
    assert_eq!(losses[stopped - 4], best);

    let config = TrainConfig { best_by: Some("beauty".into()), ..self::config() };
    let (_, result, _) = train(config, None, |_, _| false);
    let message = result.unwrap_err().to_string();
    assert!(
        message.starts_with("best_by = beauty: ") && message.contains("kendall_tau"),
        "{message}"
    );
}

#[test]
fn callbacks_see_their_occasions_and_stop_a_run_that_can_go_on() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    let all = lists();
    let mut trainer = Trainer::new(model(1), tokenizer(), config())
        .unwrap()
        .with_run_folder(RunFolder::create(&path).unwrap());
    let sets = [EvaluationSet { name: "held-out", examples: &all[15..] }];
    let report = trainer.data_report(&&all[..15], &sets).unwrap();

    let log = std::cell::RefCell::new(Vec::new());
    let mut callbacks = Callbacks::new()
        .on_step(|step| {
            // What is in the data is on disk before anything is learned from it.
            let written = fs::read(path.join("data_report.json")).unwrap();
            assert_eq!(serde_json::from_slice::<DataReport>(&written).unwrap(), report);
            log.borrow_mut().push(format!("step {}", step.step));
            Ok(())
        })
        .on_evaluation(|step, set, evaluation| {
            assert!(evaluation.loss.is_some());
            log.borrow_mut().push(format!("{set} after {step}"));
            Ok(())
        })
        .on_checkpoint(|step, folder| {
            assert!(folder.join("state.json").exists(), "{}", folder.display());
            log.borrow_mut().push(format!("checkpoint after {step}"));
            Err(Error::Interrupted)
        })
        .on_checkpoint(|_, _| panic!("called after one that failed"));
    let result = trainer.train(&all[..15], &all[15..], &mut |event| callbacks.tell(event));
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    drop(callbacks);
    let log = log.into_inner();
    let first = log.iter().position(|line| line.starts_with("checkpoint")).unwrap();
    assert_eq!(log[..2], ["held-out after 0", "step 1"], "{log:?}");
    // It is saved once more when it stops, and nothing else happens.
    assert!(log[first..].iter().all(|line| *line == log[first]), "{log:?}");

    let (resumed, result, _) =
        train(config(), Some(RunFolder::resume(&path).unwrap()), |_, _| false);
    result.unwrap();
    assert!(weights(&resumed) == whole(config()).0);
}
