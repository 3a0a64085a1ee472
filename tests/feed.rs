#![cfg(feature = "train")]
//! Training data that are not kept in memory: the same run.

use std::fs;

use reward_model::data::{Dataset, IndexedFile};
use reward_model::tch::Device;
use reward_model::text::{Limits, Tokenizer};
use reward_model::{
    EncoderConfig, Error, EvaluationSet, Event, RankedList, RankedLists, Result, Step, TrainConfig,
    Trainer, Transformer,
};

fn lists() -> Vec<RankedList> {
    let words = ["superb", "fair", "awful", "so", "the", "film", "soup"];
    let list = |n: usize| {
        let text =
            |k: usize| format!("{} {}", words[(n + k) % 7], words[(n * k) % 5].repeat(1 + n % 3));
        RankedList::new((0..2 + n % 3).map(text).collect::<Vec<_>>()).unwrap()
    };
    let mut all: Vec<RankedList> = (0..50).map(list).collect();
    all.insert(20, RankedList::new(["alone"]).unwrap());
    all.insert(30, RankedList::new(["so ".repeat(40), "dull".into()]).unwrap());
    all
}

fn train(data: &dyn Dataset<RankedList>, config: TrainConfig) -> Result<(Vec<Step>, Vec<f32>)> {
    train_and_evaluate(data, config, &[EvaluationSet { name: "none", examples: &[] }])
}

fn train_and_evaluate(
    data: &dyn Dataset<RankedList>,
    config: TrainConfig,
    sets: &[EvaluationSet<'_, RankedList>],
) -> Result<(Vec<Step>, Vec<f32>)> {
    let mut steps = Vec::new();
    let parameters = train_watched(data, config, sets, &mut |event| {
        if let Event::Step(step) = event {
            let mut step: Step = step.clone();
            step.seconds = 0.0;
            steps.push(step);
        }
        Ok(())
    })?;
    Ok((steps, parameters))
}

fn train_watched(
    data: &dyn Dataset<RankedList>,
    config: TrainConfig,
    sets: &[EvaluationSet<'_, RankedList>],
    watch: &mut dyn FnMut(&Event) -> Result<()>,
) -> Result<Vec<f32>> {
    let texts = lists().iter().flat_map(|list| list.responses().to_vec()).collect::<Vec<_>>();
    let tokenizer = Tokenizer::train(texts.iter().map(|text| text.text()), 200)?;
    let tokenizer = tokenizer.with_limits(Limits::new(24))?;
    let model = EncoderConfig {
        vocab_size: tokenizer.vocab_size() as i64,
        hidden_size: 16,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 32,
        max_position_embeddings: 24,
        ..EncoderConfig::default()
    };
    let model = Transformer::random(model, 1, Device::Cpu)?;
    let mut trainer = Trainer::new(Box::new(model), tokenizer, config)?;
    let objective = RankedLists { loss: trainer.config().loss };
    trainer.fit_and_evaluate(&objective, data, sets, watch)?;
    let parameters = trainer.scorer().model().parameters();
    let values = |p: &reward_model::tch::Tensor| Vec::<f32>::try_from(p.detach().reshape([-1]));
    Ok(parameters.iter().flat_map(|(_, p)| values(p).unwrap()).collect())
}

fn config(tokens_in_memory: u64) -> TrainConfig {
    TrainConfig { epochs: 2, threads: Some(1), tokens_in_memory, ..TrainConfig::default() }
}

#[test]
fn tokens_made_again_are_the_same_tokens() {
    let expected = train(&lists(), config(1_000_000)).unwrap();
    assert_eq!(expected.0.len(), 14);
    assert!(train(&lists(), config(0)).unwrap() == expected);

    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("lists.jsonl");
    let lines: String =
        lists().iter().map(|list| serde_json::to_string(list).unwrap() + "\n").collect();
    fs::write(&path, &lines).unwrap();
    let file = IndexedFile::open(&path).unwrap();
    assert_eq!(Dataset::<RankedList>::len(&file), 52);
    assert!(train(&file, config(0)).unwrap() == expected);
    assert!(train(&file, config(1_000_000)).unwrap() == expected);
}

/// A database that goes away in the middle of a run.
struct Failing(Vec<RankedList>, std::sync::atomic::AtomicUsize);

impl Dataset<RankedList> for Failing {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<RankedList> {
        let before = self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if before == self.0.len() + 20 {
            return Err(Error::InvalidArgument("the line is dead".into()));
        }
        Dataset::get(&self.0, index)
    }
}

#[test]
fn what_fails_ahead_of_a_step_stops_the_run() {
    let failing = Failing(lists(), 0.into());
    let error = train(&failing, config(0)).unwrap_err();
    assert_eq!(error.to_string(), "the line is dead");
}

#[test]
fn strict_refuses_to_lose_data() {
    let strict = TrainConfig { strict: true, ..config(0) };
    let error = train(&lists(), strict.clone()).unwrap_err().to_string();
    assert!(error.contains("1 examples are too long, 1 rank no response above another"), "{error}");
    let (all, whole) = (lists(), lists()[..20].to_vec());
    assert!(train(&whole, strict.clone()).is_ok());
    let sets = [("whole", &whole), ("other", &all)]
        .map(|(name, examples)| EvaluationSet { name, examples });
    let error = train_and_evaluate(&whole, strict.clone(), &sets).unwrap_err().to_string();
    let expected =
        "evaluation data (other) would be lost, which strict forbids: 1 examples are too long";
    assert!(error.contains(expected), "{error}");
    assert!(train_and_evaluate(&whole, strict, &sets[..1]).is_ok());
}

/// Their records could not be told apart.
#[test]
fn sets_of_one_name_are_an_error() {
    let some = lists()[..5].to_vec();
    let set = || EvaluationSet { name: "test", examples: &some };
    let error = train_and_evaluate(&some, config(0), &[set(), set()]).unwrap_err().to_string();
    assert!(error.contains("two sets to evaluate on are called \"test\""), "{error}");
}

/// More batches are left than are made ahead: whoever makes them is not waited for.
#[test]
fn a_stopped_run_does_not_wait_for_batches_that_nobody_wants() {
    for tokens_in_memory in [0, 1_000_000] {
        let (mut steps, all) = (0, lists());
        let config = TrainConfig { batch_size: 2, ..config(tokens_in_memory) };
        let none = [EvaluationSet { name: "none", examples: &[] }];
        let error = train_watched(&all, config, &none, &mut |event| {
            steps += usize::from(matches!(event, Event::Step(_)));
            if steps == 2 {
                return Err(Error::Interrupted);
            }
            Ok(())
        });
        assert!(matches!(error, Err(Error::Interrupted)), "{:?}", error.map(|_| ()));
        assert_eq!(steps, 2);
    }
}

/// Data that lose a response between two looks at them.
struct Shrinking(Vec<RankedList>, std::sync::atomic::AtomicUsize);

impl Dataset<RankedList> for Shrinking {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<RankedList> {
        let before = self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if before > self.0.len() + 20 {
            return RankedList::new(["alone"]);
        }
        Dataset::get(&self.0, index)
    }
}

#[test]
fn data_that_change_in_a_run_stop_it() {
    let error = train(&Shrinking(lists(), 0.into()), config(0)).unwrap_err().to_string();
    assert_eq!(error, "the training data have changed since the run began");
}
