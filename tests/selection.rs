#![cfg(feature = "train")]
//! What trains and what stays: selections, their learning rates, and the best epoch's weights.

use std::collections::BTreeMap;

use reward_model::tch::{Device, Tensor};
use reward_model::text::Tokenizer;
use reward_model::{
    DecoderConfig, EncoderConfig, Event, ModelConfig, RankedList, Result, Selection, Start,
    TrainConfig, Trainer, Transformer,
};

fn lists() -> Vec<RankedList> {
    let things = ["the soup", "a film", "this lamp", "my train", "the sea", "that song"];
    let list = |thing| RankedList::new(["superb", "fair", "awful"].map(|w| format!("{thing} {w}")));
    things.into_iter().map(|thing| list(thing).unwrap()).collect()
}

fn tokenizer() -> Tokenizer {
    let all = lists();
    let texts = all.iter().flat_map(|list| list.responses()).map(|response| response.text());
    Tokenizer::train(texts, 200).unwrap()
}

fn encoder() -> ModelConfig {
    let config = EncoderConfig {
        vocab_size: tokenizer().vocab_size() as i64,
        hidden_size: 16,
        num_hidden_layers: 4,
        num_attention_heads: 2,
        intermediate_size: 24,
        ..EncoderConfig::default()
    };
    config.into()
}

fn decoder() -> ModelConfig {
    let config = DecoderConfig {
        vocab_size: tokenizer().vocab_size() as i64,
        hidden_size: 16,
        num_hidden_layers: 4,
        num_attention_heads: 2,
        intermediate_size: Some(24),
        ..DecoderConfig::default()
    };
    config.into()
}

fn settings(trains: &str) -> TrainConfig {
    TrainConfig {
        trains: trains.parse().unwrap(),
        epochs: 2,
        batch_size: 4,
        learning_rate: 1e-2,
        threads: Some(1),
        ..TrainConfig::default()
    }
}

type Weights = BTreeMap<String, Tensor>;

fn weights(trainer: &Trainer) -> Weights {
    let parameters = trainer.scorer().model().parameters();
    parameters.into_iter().map(|(name, tensor)| (name, tensor.detach_copy())).collect()
}

/// The weights before and after a run, the gradients after it, and what it said at its start.
fn train(model: ModelConfig, settings: TrainConfig) -> Result<(Weights, Weights, Start)> {
    let model = Transformer::random(model, 1, Device::Cpu)?;
    let mut trainer = Trainer::new(Box::new(model), tokenizer(), settings)?;
    let before = weights(&trainer);
    let mut start = None;
    trainer.train(&lists(), &[], &mut |event| {
        if let Event::Started(started) = event {
            start = Some(started.clone());
        }
        Ok(())
    })?;
    for (name, parameter) in trainer.scorer().model().parameters() {
        assert!(parameter.requires_grad(), "{name} is given back as it was");
        let moved = !parameter.equal(&before[&name]);
        assert!(moved || !parameter.grad().defined(), "{name} has a gradient and did not move");
    }
    let after = weights(&trainer);
    Ok((before, after, start.unwrap()))
}

/// A key's bias shifts all of a query's attention alike: its true gradient is zero, and rounding
/// may or may not move it.
fn hardly_moves(name: &str) -> bool {
    name.ends_with("key.bias")
}

#[test]
fn what_is_frozen_stays_bit_for_bit_and_the_rest_moves() {
    let layer = |name: &str| -> Option<usize> {
        name.split_once("layer")?.1.split('.').find_map(|piece| piece.parse().ok())
    };
    let head =
        |name: &str| ["classifier", "bert.pooler", "score"].iter().any(|h| name.starts_with(h));
    let norm = |name: &str| name == "model.norm.weight";
    type Trains<'a> = Box<dyn Fn(&str) -> bool + 'a>;
    let cases: Vec<(&str, Trains)> = vec![
        ("all", Box::new(|_| true)),
        ("head", Box::new(head)),
        ("last:1", Box::new(move |n| head(n) || norm(n) || layer(n) == Some(3))),
        ("last:3", Box::new(move |n| head(n) || norm(n) || layer(n) >= Some(1))),
        ("layers:1-2", Box::new(move |n| head(n) || matches!(layer(n), Some(1 | 2)))),
        ("match:*.0.*,*embed*", Box::new(move |n| layer(n) == Some(0) || n.contains("embed"))),
    ];
    for model in [encoder(), decoder()] {
        for (selection, trains) in &cases {
            let (before, after, start) = train(model.clone(), settings(selection)).unwrap();
            let mut numbers = 0;
            for (name, tensor) in &before {
                let moved = !tensor.equal(&after[name]);
                if trains(name) {
                    assert!(moved || hardly_moves(name), "{selection}: {name} did not move");
                    numbers += tensor.numel() as u64;
                } else {
                    assert!(!moved, "{selection}: {name} moved");
                }
            }
            assert_eq!(start.trainable_parameters, numbers, "{selection}");
        }
    }
}

#[test]
fn a_run_tells_what_trains_part_by_part() {
    let settings =
        TrainConfig { head_learning_rate: Some(0.05), layer_decay: 0.5, ..settings("layers:2-3") };
    let (before, _, start) = train(decoder(), settings).unwrap();
    let told: Vec<(&str, u64, f64)> = start
        .groups
        .iter()
        .map(|group| (group.name.as_str(), group.trainable, group.learning_rate))
        .collect();
    let layer = 4 * 16 * 16 + 3 * 16 * 24 + 2 * 16;
    assert_eq!(
        told,
        [
            ("embeddings", 0, 0.0),
            ("layer 0", 0, 0.0),
            ("layer 1", 0, 0.0),
            ("layer 2", layer, 0.01 * 0.25),
            ("layer 3", layer, 0.01 * 0.5),
            ("final norm", 0, 0.0),
            ("head", 16, 0.05),
        ]
    );
    let all: u64 = start.groups.iter().map(|group| group.parameters).sum();
    assert_eq!(all, before.values().map(|tensor| tensor.numel() as u64).sum::<u64>());
}

/// Adam's first step moves every value by its own learning rate, whatever the gradient.
#[test]
fn each_part_has_its_own_learning_rate() {
    let settings = TrainConfig {
        epochs: 1,
        batch_size: 100,
        warmup_ratio: 0.0,
        weight_decay: 0.0,
        epsilon: 1e-30,
        learning_rate: 1e-3,
        head_learning_rate: Some(4e-3),
        layer_decay: 0.5,
        ..settings("all")
    };
    let (before, after, start) = train(decoder(), settings).unwrap();
    assert_eq!(start.steps, 1);
    for (name, rate) in [
        ("score.weight", 4e-3),
        ("model.norm.weight", 1e-3),
        ("model.layers.3.mlp.up_proj.weight", 5e-4),
        ("model.layers.0.mlp.up_proj.weight", 6.25e-5),
        ("model.embed_tokens.weight", 3.125e-5),
    ] {
        let moved = (&after[name] - &before[name]).abs().max().double_value(&[]);
        // The one step is the last of the schedule, at its highest rate.
        approx::assert_relative_eq!(moved, rate, max_relative = 1e-2);
    }
}

#[test]
fn selections_are_read_as_they_are_written() {
    for text in ["all", "head", "last:2", "layers:1-3", "match:a.*,*b"] {
        let selection: Selection = text.parse().unwrap();
        assert_eq!(selection.to_string(), text);
        let json = serde_json::to_string(&selection).unwrap();
        assert_eq!(json, format!("{text:?}"));
        assert_eq!(serde_json::from_str::<Selection>(&json).unwrap(), selection);
    }
    for text in ["", "some", "last", "last:", "last:x", "layers:3", "layers:-1", "head:1"] {
        let message = text.parse::<Selection>().unwrap_err().to_string();
        let expected = "expected all, head, last:N, layers:A-B or match:PATTERN,...";
        assert_eq!(message, format!("trains = {text}: {expected}"));
    }
}

#[test]
fn a_selection_that_the_model_does_not_have_is_refused() {
    for (selection, expected) in [
        ("last:5", "trains = last:5: the model has 4 layers, 0 to 3"),
        ("last:0", "trains = last:0: the model has 4 layers, 0 to 3"),
        ("layers:2-4", "trains = layers:2-4: the model has 4 layers, 0 to 3"),
        ("layers:3-2", "trains = layers:3-2: the model has 4 layers, 0 to 3"),
        (
            "match:*,nowhere*",
            "trains = match:*,nowhere*: no parameter's name matches \"nowhere*\"; they are like \
             \"model.embed_tokens.weight\"",
        ),
    ] {
        let message = train(decoder(), settings(selection)).map(|_| ()).unwrap_err().to_string();
        assert_eq!(message, expected);
    }
}

#[test]
fn the_best_epoch_is_kept() {
    // So fast that later epochs do worse than earlier ones.
    let settings = TrainConfig {
        epochs: 8,
        learning_rate: 0.3,
        keep_best: true,
        max_grad_norm: 1e6,
        ..settings("all")
    };
    let model = Transformer::random(encoder(), 3, Device::Cpu).unwrap();
    let mut trainer = Trainer::new(Box::new(model), tokenizer(), settings).unwrap();
    let (mut accuracies, mut kept) = (Vec::new(), None);
    let evaluation = trainer
        .train(&lists(), &lists(), &mut |event| {
            match event {
                Event::Evaluated { epoch: 1.., evaluation, .. } => {
                    accuracies.push(evaluation.metrics.pairwise_accuracy.unwrap());
                }
                Event::Kept { epoch, set, last, .. } => {
                    assert_eq!(set, "held-out");
                    assert_eq!(last.metrics.pairwise_accuracy, accuracies.last().copied());
                    kept = Some(*epoch);
                }
                _ => {}
            }
            Ok(())
        })
        .unwrap();
    let best = accuracies.iter().copied().fold(0.0, f64::max);
    let first = accuracies.iter().position(|&accuracy| accuracy == best).unwrap();
    assert!(*accuracies.last().unwrap() < best, "the test needs a run that gets worse");
    assert_eq!(kept, Some(first as u32 + 1));
    assert_eq!(evaluation.metrics.pairwise_accuracy, Some(best));
    assert_eq!(trainer.evaluate(&lists()).unwrap(), evaluation);
}
