#![cfg(feature = "train")]
//! What a GPU computes is what a CPU does. A program of its own, in which nothing has asked libtorch
//! for anything before CUDA is loaded. Without a GPU it says so and passes, unless
//! `REWARD_MODEL_CUDA=1` asks for one.

use std::io::Write;
use std::path::Path;

use reward_model::model::{GraphParts, Precision, Sharing};
use reward_model::tch::{self, Device, Kind, Tensor};
use reward_model::text::Tokenizer;
use reward_model::{
    fused_adamw, parse_device, Event, Lists, LoadOptions, Mode, PairFunction, RankLoss, RankedList,
    Reduction, RewardModel, Ties, TokenBatch, TokenizedText, TrainConfig, Trainer, Transformer,
};

/// From the folder in which cargo runs tests, and in which `make gpu-bundle` puts this program for
/// machines that do not have the one it was compiled in.
const MODELS: &str = "tests/fixtures/models";

fn cuda() -> Option<Device> {
    match parse_device("cuda") {
        Ok(device) => Some(device),
        Err(error) => {
            assert!(std::env::var_os("REWARD_MODEL_CUDA").is_none(), "{error}");
            // Not by `eprintln!`, which is shown for tests that fail only.
            let _ = writeln!(std::io::stderr(), "skipped: {error}");
            None
        }
    }
}

/// The largest difference, measured by the largest number.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    let wide = |x: &Tensor| x.detach().to_device(Device::Cpu).to_kind(Kind::Double);
    let (a, b) = (wide(a), wide(b));
    let most = |x: &Tensor| x.abs().max().double_value(&[]);
    most(&(&a - &b)) / most(&b).max(1e-30)
}

fn loss_and_gradient(loss: &RankLoss, rewards: &Tensor, lists: &Lists) -> (Tensor, Tensor) {
    let rewards = rewards.copy().set_requires_grad(true);
    let loss = loss.forward_lists(&rewards, lists).unwrap();
    loss.sum(loss.kind()).backward();
    (loss, rewards.grad())
}

fn losses_agree(gpu: Device) {
    use PairFunction::{Hinge, Logistic, Sigmoid, SquaredHinge};
    let ranks: Vec<f64> = (0..40).map(|n| f64::from(n * 7 % 5)).collect();
    let ragged = Lists::from_lengths(&[9, 0, 1, 30]).with_ranks(&ranks).unwrap();
    // Of more than a million pairs, in blocks.
    let long = Lists::from_lengths(&[1600]);
    for (lists, kind, tolerance) in [
        (&ragged, Kind::Double, 1e-12),
        (&ragged, Kind::Float, 1e-5),
        (&long, Kind::Float, 1e-5),
        (&long, Kind::Double, 1e-12),
    ] {
        let items = if lists.len() == 1 { 1600 } else { 40 };
        let rewards = Tensor::randn([items], (Kind::Double, Device::Cpu)).to_kind(kind);
        for function in [Logistic, Sigmoid, Hinge, SquaredHinge] {
            for (ties, reduction) in
                [(Ties::Skip, Reduction::MeanPerList), (Ties::Half, Reduction::Sum)]
            {
                let loss =
                    RankLoss::pairwise(function).ties(ties).reduction(reduction).centering(0.1);
                let here = loss_and_gradient(&loss, &rewards, lists);
                let there = loss_and_gradient(&loss, &rewards.to_device(gpu), lists);
                let again = loss_and_gradient(&loss, &rewards.to_device(gpu), lists);
                let what = format!("{function:?} {ties:?} {kind:?}, {items} rewards");
                assert!(apart(&there.0, &here.0) < tolerance, "{what}");
                assert!(apart(&there.1, &here.1) < tolerance, "{what}");
                assert_eq!(apart(&again.1, &there.1), 0.0, "{what}: the same again");
            }
        }
    }
}

fn batch() -> TokenBatch {
    let text = |list: usize, text: usize| {
        let id = |n: usize| ((n * 31 + 7) % 60) as u32;
        let prompt = (0..5 + list).map(|n| id(n + list));
        let own = (0..3 + text * 2).map(|n| id(n * 3 + text * 11 + list));
        TokenizedText::from_ids(prompt.chain(own).collect::<Vec<u32>>())
    };
    let lists: Vec<Vec<TokenizedText>> =
        (0..3).map(|list| (0..3).map(|t| text(list, t)).collect()).collect();
    TokenBatch::from_lists(lists.iter().map(Vec::as_slice)).unwrap()
}

/// Scores, and all gradients of their weighted sum end to end.
fn scores_and_gradients(model: &Transformer, parts: GraphParts) -> (Tensor, Tensor) {
    let mut weigh = |scores: &Tensor| {
        let places = Tensor::arange(scores.numel() as i64, (Kind::Float, scores.device()));
        Ok((places * 1.7 + 0.3).sin().reshape(scores.size()))
    };
    let scores = model.backward_in_parts(&batch(), Mode::Evaluation, parts, &mut weigh).unwrap();
    let gradients = model.parameters().into_iter().map(|(_, mut parameter)| {
        let gradient = parameter.grad();
        let gradient = if gradient.defined() { gradient.copy() } else { parameter.zeros_like() };
        parameter.zero_grad();
        gradient.detach().reshape([-1])
    });
    (scores, Tensor::cat(&gradients.collect::<Vec<_>>(), 0))
}

fn models_agree(gpu: Device) {
    let home = Path::new(MODELS);
    for name in ["bert", "roberta", "distilbert", "gpt2", "llama", "mistral", "qwen2", "qwen3"] {
        for sharing in [Sharing::Always, Sharing::Never] {
            let load = |device, precision| {
                let options =
                    LoadOptions::on(device).with_precision(precision).with_sharing(sharing);
                Transformer::load(home.join(name), &options).unwrap()
            };
            let whole = GraphParts::Texts(usize::MAX);
            let expected = scores_and_gradients(&load(Device::Cpu, Precision::F32), whole);
            for parts in [whole, GraphParts::Texts(2), GraphParts::Layers] {
                let what = format!("{name} {sharing:?} {parts:?}");
                let exact = scores_and_gradients(&load(gpu, Precision::F32), parts);
                assert!(apart(&exact.0, &expected.0) < 1e-4, "{what}");
                assert!(apart(&exact.1, &expected.1) < 1e-3, "{what}");
                if gpu.is_cuda() {
                    let rounded = scores_and_gradients(&load(gpu, Precision::Bf16), parts);
                    assert!(apart(&rounded.0, &expected.0) < 0.1, "{what}, bf16");
                    assert!(apart(&rounded.1, &expected.1) < 0.5, "{what}, bf16");
                }
            }
        }
    }
}

/// Losses and norms of a few steps, layers frozen and kept or not.
fn steps(device: Device, trains: &str) -> Vec<(f64, f64)> {
    let home = Path::new(MODELS).join("llama");
    let model = Transformer::load(home, &LoadOptions::on(device)).unwrap();
    let words = ["so", "good", "bad", "fair", "film", "soup"];
    let list = |n: usize| {
        let text = |k: usize| format!("{} {}", words[(n + k) % 6], words[(n * k + 1) % 6]);
        RankedList::new((0..3).map(text).collect::<Vec<_>>()).unwrap().with_prompt("so so")
    };
    let lists: Vec<RankedList> = (0..8).map(list).collect();
    let tokenizer = Tokenizer::train(words, 40).unwrap();
    let config = TrainConfig {
        epochs: 2,
        batch_size: 4,
        micro_batch_size: Some(2),
        trains: trains.parse().unwrap(),
        epsilon: 1e-3,
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(Box::new(model), tokenizer, config).unwrap();
    let mut told = Vec::new();
    trainer
        .train(&lists, &[], &mut |event| {
            if let Event::Step(step) = event {
                told.push((step.loss, step.grad_norm));
            }
            Ok(())
        })
        .unwrap();
    told
}

fn training_agrees(gpu: Device) {
    assert_eq!(fused_adamw(gpu), Ok(()));
    for trains in ["all", "last:1"] {
        let (here, there) = (steps(Device::Cpu, trains), steps(gpu, trains));
        assert_eq!((here.len(), there.len()), (4, 4));
        for ((a, norm_a), (b, norm_b)) in here.iter().zip(&there) {
            assert!((a / b - 1.0).abs() < 1e-3, "{trains}: {here:?} {there:?}");
            assert!((norm_a / norm_b - 1.0).abs() < 1e-2, "{trains}: {here:?} {there:?}");
        }
    }
}

/// One test, for one order in which things are asked of libtorch.
#[test]
fn a_gpu_computes_what_a_cpu_does() {
    let Some(gpu) = cuda() else { return };
    tch::manual_seed(1);
    losses_agree(gpu);
    models_agree(gpu);
    training_agrees(gpu);
}
