#![cfg(feature = "train")]
//! A step in parts is the step.

use proptest::prelude::*;
use reward_model::tch::Device;
use reward_model::text::{Limits, Tokenizer};
use reward_model::{
    EncoderConfig, Event, RankLoss, RankedList, Reduction, Step, TrainConfig, Trainer, Transformer,
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

/// The steps of a run and the weights it ends with.
fn run(
    sizes: &[usize],
    reduction: Reduction,
    micro_batch_size: Option<usize>,
) -> (Vec<Step>, Vec<f32>) {
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
    let config = TrainConfig {
        epochs: 1,
        batch_size: 6,
        micro_batch_size,
        learning_rate: 1e-3,
        // Adam's first steps are signs of gradients: an epsilon of their size keeps them continuous.
        epsilon: 1e-2,
        dropout: false,
        loss: RankLoss::new().reduction(reduction),
        threads: Some(1),
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(Box::new(model), tokenizer, config).unwrap();
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
        reduction in prop::sample::select(vec![
            Reduction::Sum, Reduction::MeanPerList, Reduction::MeanPairs,
        ]),
    ) {
        let (whole, expected) = run(&sizes, reduction, None);
        let (parts, weights) = run(&sizes, reduction, Some(size));
        prop_assert_eq!(whole.len(), parts.len());
        for (whole, part) in whole.iter().zip(&parts) {
            prop_assert!((whole.loss - part.loss).abs() <= 1e-5 * whole.loss.abs());
            prop_assert!((whole.grad_norm - part.grad_norm).abs() <= 1e-4 * whole.grad_norm);
            prop_assert_eq!((whole.lists, whole.tokens), (part.lists, part.tokens));
        }
        for (weight, expected) in weights.iter().zip(&expected) {
            prop_assert!((weight - expected).abs() < 2e-6, "{} {}", weight, expected);
        }
    }
}
