#![cfg(feature = "train")]
//! A step in parts is the step.

use std::sync::Mutex;

use proptest::prelude::*;
use reward_model::tch::Device;
use reward_model::text::{Limits, Tokenizer};
use reward_model::{
    BatchLoss, Decisions, EncoderConfig, Evaluation, Event, Mode, Objective, Prepared, RankLoss,
    RankedList, RankedLists, Ranks, Reduction, Result, RewardModel, Scorer, Step, TokenBatch,
    TrainConfig, Trainer, Transformer,
};

/// Lists of these sizes.
fn lists(sizes: &[usize]) -> Vec<RankedList> {
    let words = ["superb", "fair", "awful", "so", "the", "film"];
    let list = |(n, &size): (usize, &usize)| {
        let text = |k: usize| format!("{} {} w{k}", words[(n + k) % 6], words[(n * k) % 5]);
        RankedList::new((0..size).map(text).collect::<Vec<_>>()).unwrap()
    };
    sizes.iter().enumerate().map(list).collect()
}

fn trainer(
    sizes: &[usize],
    reduction: Reduction,
    change: impl FnOnce(&mut TrainConfig),
) -> (Trainer, Vec<RankedList>) {
    let all = lists(sizes);
    let texts = all.iter().flat_map(|list| list.responses()).map(|response| response.text());
    let tokenizer = Tokenizer::train(texts, 200).unwrap().with_limits(Limits::new(24)).unwrap();
    let model = EncoderConfig {
        vocab_size: tokenizer.vocab_size() as i64,
        hidden_size: 16,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 32,
        max_position_embeddings: 24,
        ..EncoderConfig::default()
    };
    let model = Transformer::random(model, 1, Device::Cpu).unwrap();
    let mut config = TrainConfig {
        epochs: 1,
        batch_size: 6,
        learning_rate: 1e-3,
        // Adam's first steps are signs of gradients: an epsilon of their size keeps them continuous.
        epsilon: 1e-2,
        dropout: false,
        loss: RankLoss::new().reduction(reduction),
        threads: Some(1),
        ..TrainConfig::default()
    };
    change(&mut config);
    (Trainer::new(Box::new(model), tokenizer, config).unwrap(), all)
}

/// The steps of a run and the weights it ends with.
fn run(
    sizes: &[usize],
    reduction: Reduction,
    change: impl FnOnce(&mut TrainConfig),
) -> (Vec<Step>, Vec<f32>) {
    let (mut trainer, all) = trainer(sizes, reduction, change);
    let mut steps = Vec::new();
    trainer
        .train(&all, &[], &mut |event| {
            if let Event::Step(step) = event {
                steps.push(step.clone());
            }
            Ok(())
        })
        .unwrap();
    let parameters = trainer.scorer().model().parameters();
    let values = |p: &reward_model::tch::Tensor| Vec::<f32>::try_from(p.detach().reshape([-1]));
    (steps, parameters.iter().flat_map(|(_, p)| values(p).unwrap()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn accumulated_gradients_are_those_of_the_whole_step(
        sizes in prop::collection::vec(2usize..7, 6..13),
        size in 1usize..6,
        way in 0..6,
        reduction in prop::sample::select(vec![
            Reduction::Sum, Reduction::MeanPerList, Reduction::MeanPairs,
        ]),
    ) {
        let (whole, expected) = run(&sizes, reduction, |_| {});
        let (parts, weights) = run(&sizes, reduction, |config| match way {
            0 => config.micro_batch_size = Some(size),
            // A text has six tokens or so.
            1 => config.max_tokens_per_batch = Some(size * 12),
            2 => config.chunk_size = Some(size),
            3 => config.max_memory = Some(size as u64 * 10_000),
            4 => config.gradient_checkpointing = true,
            _ => {
                config.max_tokens_per_batch = Some(size * 20);
                config.max_memory = Some(1);
            }
        });
        prop_assert_eq!(whole.len(), parts.len());
        for (whole, part) in whole.iter().zip(&parts) {
            prop_assert!((whole.loss - part.loss).abs() <= 1e-5 * whole.loss.abs());
            prop_assert!((whole.grad_norm - part.grad_norm).abs() <= 1e-4 * whole.grad_norm);
            prop_assert_eq!((whole.lists, whole.tokens), (part.lists, part.tokens));
            // The mean over the step's pairs, however they are divided.
            let margins = whole.margin.zip(part.margin);
            prop_assert!(margins.is_some_and(|(a, b)| (a - b).abs() < 1e-5), "{:?}", margins);
        }
        // Before rounding has led anywhere.
        let accuracies = whole[0].accuracy.zip(parts[0].accuracy);
        prop_assert!(accuracies.is_some_and(|(a, b)| (a - b).abs() < 1e-12), "{:?}", accuracies);
        for (weight, expected) in weights.iter().zip(&expected) {
            prop_assert!((weight - expected).abs() < 2e-6, "{} {}", weight, expected);
        }
    }
}

/// [`RankedLists`], which remembers the tokens of each list of each part.
struct Watched(RankedLists, Mutex<Vec<Vec<usize>>>);

impl Objective for Watched {
    type Example = RankedList;
    type Target = Ranks;
    type Evaluation = Evaluation;

    fn prepare(&self, tokenizer: &Tokenizer, lists: &[RankedList]) -> Result<Prepared<Ranks>> {
        self.0.prepare(tokenizer, lists)
    }

    fn loss(
        &self,
        model: &dyn RewardModel,
        batch: &TokenBatch,
        targets: &[&Ranks],
        mode: Mode,
    ) -> Result<BatchLoss> {
        let tokens = |list| batch.list(list).map(|text| batch.text(text).len()).sum();
        self.1.lock().unwrap().push((0..batch.lists()).map(tokens).collect());
        self.0.loss(model, batch, targets, mode)
    }

    fn decisions(&self, rewards: &[f32], targets: &[&Ranks]) -> Result<Decisions> {
        self.0.decisions(rewards, targets)
    }

    fn evaluate(&self, scorer: &Scorer, lists: &[RankedList]) -> Result<Evaluation> {
        self.0.evaluate(scorer, lists)
    }

    fn merit(&self, evaluation: &Evaluation) -> Option<f64> {
        self.0.merit(evaluation)
    }
}

fn watched(change: impl FnOnce(&mut TrainConfig)) -> Result<Vec<Vec<usize>>> {
    let (mut trainer, all) = trainer(&[2, 6, 3, 5, 2, 4, 6, 2, 3, 2], Reduction::Sum, change);
    let objective = Watched(RankedLists { loss: trainer.config().loss }, Mutex::default());
    trainer.fit(&objective, &all, &[], &mut |_| Ok(()))?;
    Ok(objective.1.into_inner().unwrap())
}

#[test]
fn a_part_has_as_many_lists_of_its_step_as_its_tokens_allow() {
    let lists_of = |steps: &[Vec<usize>]| {
        let mut lists: Vec<Vec<usize>> = steps.to_vec();
        lists.iter_mut().for_each(|lists| lists.sort());
        lists
    };
    let steps = watched(|_| {}).unwrap();
    assert_eq!(steps.len(), 2);
    let most = 25;
    let parts = watched(|config| config.max_tokens_per_batch = Some(most)).unwrap();
    let mut rest = parts.iter();
    for step in &steps {
        let mut lists = Vec::new();
        let mut before = usize::MAX;
        while lists.len() < step.len() {
            let part = rest.next().unwrap();
            let tokens: usize = part.iter().sum();
            assert!(tokens <= most || part.len() == 1, "{part:?}");
            // It would not have fitted into the part before.
            assert!(before == usize::MAX || before + part[0] > most, "{parts:?}");
            before = tokens;
            lists.extend(part);
        }
        assert_eq!(lists_of(&[lists]), lists_of(std::slice::from_ref(step)));
    }
    assert!(parts.iter().any(|part| part.len() == 1 && part[0] > most), "{parts:?}");
    assert!(parts.iter().any(|part| part.len() > 1), "{parts:?}");
}

#[test]
fn an_objective_that_looks_into_the_model_has_no_chunks() {
    let result = watched(|config| {
        config.chunk_size = Some(2);
        config.max_memory = Some(1);
    });
    let message = result.unwrap_err().to_string();
    assert!(message.contains("chunk_size = 2") && message.contains("max_memory = 1"), "{message}");
    let message = watched(|config| config.gradient_checkpointing = true).unwrap_err().to_string();
    assert!(message.contains("gradient_checkpointing = true"), "{message}");
}
