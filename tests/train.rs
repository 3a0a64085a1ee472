#![cfg(feature = "train")]
//! The trainer: what it learns, what it tells, and what it refuses.

use std::path::Path;

use reward_model::metrics::{RankMeter, Scored};
use reward_model::tch::{Device, Kind, Tensor};
use reward_model::text::{Limits, Tokenizer};
use reward_model::{
    EncoderConfig, Error, Evaluation, Event, Lists, Mode, RankLoss, RankedList, Reduction, Result,
    RewardModel, Step, Ties, TokenBatch, TrainConfig, Trainer, Transformer,
};

const GOOD: [&str; 4] = ["superb", "lovely", "great", "delightful"];
const FAIR: [&str; 4] = ["fair", "decent", "okay", "usual"];
const BAD: [&str; 4] = ["awful", "broken", "dull", "rotten"];
const THINGS: [&str; 5] = ["the soup was", "a film so", "this lamp is", "my train ride was", "so"];

/// Lists whose order a bag of words can learn.
fn lists(from: usize, count: usize) -> Vec<RankedList> {
    (from..from + count)
        .map(|n| {
            let text = |words: [&str; 4], shift: usize| {
                format!("{} {}", THINGS[(n + shift) % 5], words[(n / 5 + shift) % 4])
            };
            let list = RankedList::new([text(GOOD, 0), text(FAIR, 1), text(BAD, 2)]).unwrap();
            if n % 3 == 0 {
                list.with_prompt("how was it?")
            } else {
                list
            }
        })
        .collect()
}

fn tokenizer() -> Tokenizer {
    let all = lists(0, 40);
    let texts = all.iter().flat_map(|list| list.responses()).map(|response| response.text());
    let tokenizer = Tokenizer::train(texts.chain(["how was it?"]), 200).unwrap();
    tokenizer.with_limits(Limits::new(24)).unwrap()
}

fn bert(seed: i64) -> Box<dyn RewardModel> {
    let config = EncoderConfig {
        vocab_size: tokenizer().vocab_size() as i64,
        hidden_size: 16,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 32,
        max_position_embeddings: 24,
        ..EncoderConfig::default()
    };
    Box::new(Transformer::random(config, seed, Device::Cpu).unwrap())
}

fn config() -> TrainConfig {
    TrainConfig {
        epochs: 4,
        batch_size: 4,
        learning_rate: 5e-3,
        threads: Some(1),
        ..TrainConfig::default()
    }
}

fn run(
    model: Box<dyn RewardModel>,
    config: TrainConfig,
) -> (Trainer, Vec<Step>, Vec<(u32, Evaluation)>) {
    let mut trainer = Trainer::new(model, tokenizer(), config).unwrap();
    let (mut steps, mut evaluations) = (Vec::new(), Vec::new());
    let last = trainer
        .train(&lists(0, 30), &lists(30, 10), &mut |event| {
            match event {
                Event::Step(step) => steps.push(step.clone()),
                Event::Evaluated { epoch, evaluation, .. } => {
                    evaluations.push((*epoch, evaluation.clone()));
                }
                _ => {}
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(Some(&last), evaluations.last().map(|(_, evaluation)| evaluation));
    (trainer, steps, evaluations)
}

fn weights(trainer: &Trainer) -> Vec<Vec<f32>> {
    let parameters = trainer.scorer().model().parameters();
    parameters.iter().map(|(_, p)| Vec::try_from(p.detach().reshape([-1])).unwrap()).collect()
}

#[test]
fn learns_an_order_and_ranks_lists_it_has_not_seen() {
    let config = TrainConfig { epochs: 16, learning_rate: 1e-2, ..config() };
    let (trainer, steps, evaluations) = run(bert(1), config);
    let (before, after) = (&evaluations[0].1, &evaluations[16].1);
    assert!(before.metrics.pairwise_accuracy.unwrap() < 0.8, "{before:?}");
    assert!(after.metrics.pairwise_accuracy.unwrap() > 0.99, "{after:?}");
    assert!(after.loss.unwrap() < 0.2 * before.loss.unwrap());
    assert!(steps.last().unwrap().loss < 0.2 * steps[0].loss);
    let rewards = trainer.scorer().score_list(&lists(33, 1)[0]).unwrap();
    assert!(rewards[0] > rewards[1] && rewards[1] > rewards[2], "{rewards:?}");
}

#[test]
fn tells_every_step_and_epoch() {
    let (_, steps, evaluations) = run(bert(1), TrainConfig { warmup_ratio: 0.25, ..config() });
    // 30 lists by 4 are 8 steps, of which the last has 2; 4 epochs of them.
    assert_eq!(steps.len(), 32);
    assert_eq!(evaluations.iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    for (at, step) in steps.iter().enumerate() {
        assert_eq!(step.step, at as u64 + 1);
        assert_eq!(step.epoch, at as u32 / 8 + 1);
        assert_eq!(step.lists, if step.step % 8 == 0 { 2 } else { 4 });
        assert!(step.grad_norm > 0.0 && step.loss > 0.0 && step.tokens > 3 * step.lists);
        let rate = if step.step <= 8 {
            5e-3 * step.step as f64 / 8.0
        } else {
            5e-3 * (33 - step.step) as f64 / 24.0
        };
        approx::assert_relative_eq!(step.learning_rate, rate, max_relative = 1e-12);
    }
    assert!(steps.windows(2).all(|pair| pair[0].seconds <= pair[1].seconds));
}

#[test]
fn the_same_seed_gives_the_same_weights_bit_for_bit() {
    let train = |seed, model| weights(&run(bert(model), TrainConfig { seed, ..config() }).0);
    let first = train(3, 1);
    assert_eq!(first, train(3, 1));
    assert_ne!(first, train(4, 1));
    assert_ne!(first, train(3, 2));
}

#[test]
fn an_evaluation_is_what_one_computes_from_the_scores() {
    let (trainer, ..) = run(bert(1), TrainConfig { epochs: 1, ..config() });
    let mut held_out = lists(31, 5);
    held_out
        .push(RankedList::with_ranks(["so dull", "so fair", "so lovely"], &[2., 2., 1.]).unwrap());
    held_out.push(RankedList::new(["superb"]).unwrap());
    held_out.push(RankedList::new(["so ".repeat(30), "dull".into()]).unwrap());
    let evaluation = trainer.evaluate(&held_out).unwrap();
    assert_eq!(evaluation.too_long, 1);
    assert_eq!((evaluation.metrics.lists, evaluation.metrics.pairs), (7, 17));

    let mut meter = RankMeter::default();
    for list in &held_out[..7] {
        let rewards = trainer.scorer().score_list(list).unwrap();
        meter.add(&Scored::new(&rewards, &list.ranks().collect::<Vec<_>>()).unwrap());
    }
    let metrics = meter.metrics();
    assert_eq!(evaluation.metrics.pairwise_accuracy, metrics.pairwise_accuracy);
    assert_eq!(evaluation.metrics.exact_order, metrics.exact_order);
    assert_losses(&trainer, &held_out[..7], evaluation.loss);

    // Lists with a margin of their own, ties and others without one among them.
    let with_margins: Vec<RankedList> = held_out[..7]
        .iter()
        .enumerate()
        .map(|(n, list)| match n % 2 {
            0 => list.clone().with_margin(n as f64 - 1.5).unwrap(),
            _ => list.clone(),
        })
        .collect();
    let other = trainer.evaluate(&with_margins).unwrap();
    assert!((other.loss.unwrap() - evaluation.loss.unwrap()).abs() > 0.1);
    assert_losses(&trainer, &with_margins, other.loss);

    let nothing = trainer.evaluate(&[]).unwrap();
    assert_eq!((nothing.loss, nothing.metrics.pairwise_accuracy), (None, None));
}

/// The mean over lists of the mean of −log σ(r_w − r_l − margin) over their pairs.
fn assert_losses(trainer: &Trainer, lists: &[RankedList], found: Option<f64>) {
    let mut losses = Vec::new();
    for list in lists {
        let margin = list.margin().unwrap_or(0.0);
        let rewards = trainer.scorer().score_list(list).unwrap();
        let cost = |(w, l): (usize, usize)| {
            (f64::from(rewards[l]) - f64::from(rewards[w]) + margin).exp().ln_1p()
        };
        let costs: Vec<f64> = list.pairs().map(cost).collect();
        if !costs.is_empty() {
            losses.push(costs.iter().sum::<f64>() / costs.len() as f64);
        }
    }
    let expected = losses.iter().sum::<f64>() / losses.len() as f64;
    approx::assert_relative_eq!(found.unwrap(), expected, max_relative = 1e-5);
}

#[test]
fn the_scorer_keeps_the_order_and_reports_what_is_too_long() {
    let (trainer, ..) = run(bert(1), TrainConfig { epochs: 1, ..config() });
    let scorer = trainer.into_scorer();
    let mut all = lists(0, 12);
    all.insert(5, RankedList::new(["so ".repeat(30), "dull".into()]).unwrap());
    let together = scorer.score(&all).unwrap();
    assert_eq!(together.len(), 13);
    for (list, rewards) in all.iter().zip(&together) {
        match rewards {
            Ok(rewards) => {
                for (alone, reward) in scorer.score_list(list).unwrap().iter().zip(rewards) {
                    approx::assert_abs_diff_eq!(alone, reward, epsilon = 1e-5);
                }
            }
            Err(error) => assert!(matches!(error, Error::TooLong { response: 0, .. }), "{error}"),
        }
    }
    assert_eq!(together.iter().position(Result::is_err), Some(5));
}

#[test]
fn lists_that_teach_nothing_are_counted() {
    let mut train = lists(0, 6);
    train.push(RankedList::new(["alone"]).unwrap());
    train.push(RankedList::with_ranks(["so fair", "so great"], &[1.0, 1.0]).unwrap());
    train.push(RankedList::new(["so ".repeat(30), "dull".into()]).unwrap());
    train.push(RankedList::new(["great", "dull"]).unwrap().with_prompt("how was it? ".repeat(9)));
    let mut trainer =
        Trainer::new(bert(1), tokenizer(), TrainConfig { epochs: 1, ..config() }).unwrap();
    let mut seen = None;
    let mut watch = |event: &Event| {
        if let Event::Started(start) = event {
            seen = Some(start.clone());
        }
        Ok(())
    };
    trainer.train(&train, &[], &mut watch).unwrap();
    let start = seen.unwrap();
    assert_eq!((start.lists, start.without_pairs, start.too_long, start.prompts_cut), (7, 2, 1, 1));
    assert_eq!((start.steps, start.evaluation_lists), (2, 0));

    let error = trainer.train(&train[6..9], &[], &mut |_| Ok(())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is nothing to train on: of 3 examples 1 have a text that is too long, and 2 rank \
         no response above another"
    );
}

#[test]
fn settings_out_of_bounds_are_named() {
    let refused = |config: TrainConfig| match Trainer::new(bert(1), tokenizer(), config) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    };
    let default = config;
    for (config, expected) in [
        (TrainConfig { epochs: 0, ..default() }, "epochs = 0: must be finite and at least 1"),
        (
            TrainConfig { learning_rate: f64::NAN, ..default() },
            "learning_rate = NaN: must be finite and positive",
        ),
        (
            TrainConfig { warmup_ratio: 1.5, ..default() },
            "warmup_ratio = 1.5: must be finite and from 0 to 1",
        ),
        (TrainConfig { max_memory: Some(0), ..default() }, "max_memory = 0: must be finite and at least 1"),
        (TrainConfig { chunk_size: Some(0), ..default() }, "chunk_size = 0: must be finite and at least 1"),
        (
            TrainConfig { gradient_checkpointing: true, chunk_size: Some(2), ..default() },
            "chunk_size = 2: chunks of texts and gradient_checkpointing exclude each other",
        ),
        (
            TrainConfig { max_tokens_per_batch: Some(0), ..default() },
            "max_tokens_per_batch = 0: must be finite and at least 1",
        ),
        (TrainConfig { threads: Some(0), ..default() }, "threads = 0: must be finite and at least 1"),
        (
            TrainConfig { loss: RankLoss::new().reduction(Reduction::None), ..default() },
            "loss.reduction = none: training needs one number; use mean_per_list, mean_pairs or sum",
        ),
    ] {
        assert_eq!(refused(config), expected);
    }
    let json = r#"{"epochs": 2, "learning_rat": 1e-3}"#;
    assert!(serde_json::from_str::<TrainConfig>(json).is_err());
}

#[test]
fn an_error_of_the_watcher_stops_the_run() {
    let mut trainer = Trainer::new(bert(1), tokenizer(), config()).unwrap();
    let mut steps = 0;
    let error = trainer.train(&lists(0, 30), &[], &mut |event| {
        steps += u64::from(matches!(event, Event::Step(_)));
        if steps == 3 {
            return Err(Error::InvalidArgument("enough".into()));
        }
        Ok(())
    });
    assert_eq!((error.unwrap_err().to_string().as_str(), steps), ("enough", 3));
}

/// A model of one number a token, and what may go wrong with it.
struct Custom {
    weights: Tensor,
    frozen: Tensor,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    NanScore,
    InfiniteGradient,
    TwoOutputs,
    Frozen,
}

fn custom(fault: Fault) -> Box<dyn RewardModel> {
    let size = [tokenizer().vocab_size() as i64, 1];
    let zeros = || Tensor::zeros(size, (Kind::Float, Device::Cpu));
    let weights = zeros().set_requires_grad(fault != Fault::Frozen);
    Box::new(Custom { weights, frozen: zeros() + 0.01, fault })
}

impl RewardModel for Custom {
    fn forward(&self, batch: &TokenBatch, _: Mode) -> Result<Tensor> {
        let scores: Vec<Tensor> = (0..batch.texts())
            .map(|t| {
                let ids: Vec<i64> = batch.text(t).iter().map(|&id| id.into()).collect();
                let ids = Tensor::from_slice(&ids);
                (self.weights.index_select(0, &ids) + self.frozen.index_select(0, &ids))
                    .sum(Kind::Float)
            })
            .collect();
        let scores = Tensor::stack(&scores, 0).unsqueeze(1);
        Ok(match self.fault {
            Fault::None | Fault::Frozen => scores,
            Fault::NanScore => scores * f64::NAN,
            // At 0 the root is 0, and its slope infinite.
            Fault::InfiniteGradient => (&scores - scores.detach()).sqrt(),
            Fault::TwoOutputs => Tensor::cat(&[&scores, &scores], 1),
        })
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        vec![
            ("weights".into(), self.weights.shallow_clone()),
            ("frozen".into(), self.frozen.shallow_clone()),
        ]
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn save(&self, _: &Path) -> Result<()> {
        Ok(())
    }
}

fn train_custom(fault: Fault) -> Result<Trainer> {
    let config = TrainConfig { epochs: 30, learning_rate: 5e-2, ..config() };
    let mut trainer = Trainer::new(custom(fault), tokenizer(), config)?;
    trainer.train(&lists(0, 8), &[], &mut |_| Ok(())).map(|_| trainer)
}

#[test]
fn a_model_of_ones_own_is_trained_and_what_is_frozen_stays() {
    let trainer = train_custom(Fault::None).unwrap();
    let [weights, frozen] = &weights(&trainer)[..] else { panic!("two parameters") };
    assert!(weights.iter().any(|&weight| weight != 0.0));
    assert!(frozen.iter().all(|&weight| weight == 0.01));
    let evaluation = trainer.evaluate(&lists(0, 8)).unwrap();
    assert_eq!(evaluation.metrics.pairwise_accuracy, Some(1.0));
}

#[test]
fn divergence_is_an_error_that_names_the_lists() {
    let told = |fault| train_custom(fault).map(|_| ()).unwrap_err();
    let Error::Diverged { step, what, lists } = told(Fault::NanScore) else { panic!("another") };
    assert_eq!((step, what.as_str()), (1, "the loss is NaN"));
    let mut numbers: Vec<usize> = lists.split(", ").map(|n| n.parse().unwrap()).collect();
    numbers.sort();
    numbers.dedup();
    assert!(numbers.len() == 4 && numbers.iter().all(|&n| n < 8), "{numbers:?}");

    let Error::Diverged { what, .. } = told(Fault::InfiniteGradient) else { panic!("another") };
    assert!(what.starts_with("the gradient's norm is") && what.ends_with("(weights)"), "{what}");
}

#[test]
fn a_model_that_breaks_its_contract_is_told_so() {
    let message = train_custom(Fault::TwoOutputs).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        message,
        "the model returned Float [12, 2] on Cpu for 12 texts; a model of 1 output returns Float \
         [12, 1] on its own device, Cpu"
    );
    let message = train_custom(Fault::Frozen).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("no parameter that requires a gradient"), "{message}");
}

#[test]
fn every_loss_trains() {
    use reward_model::PairFunction::{Hinge, Logistic, Sigmoid, SquaredHinge};
    let pairwise = [Logistic, Sigmoid, Hinge, SquaredHinge].map(RankLoss::pairwise);
    for loss in pairwise.into_iter().chain([RankLoss::plackett_luce()]) {
        for reduction in [Reduction::Sum, Reduction::MeanPerList] {
            let loss = loss.reduction(reduction).centering(0.01);
            let config = TrainConfig { loss, epochs: 30, learning_rate: 5e-2, ..config() };
            let mut trainer = Trainer::new(custom(Fault::None), tokenizer(), config).unwrap();
            trainer.train(&lists(0, 8), &[], &mut |_| Ok(())).unwrap();
            let accuracy = trainer.evaluate(&lists(0, 8)).unwrap().metrics.pairwise_accuracy;
            assert_eq!(accuracy, Some(1.0), "{loss:?}");
        }
    }
    // The lists' order reaches the loss: the reverse of it costs more.
    let rewards = Tensor::from_slice(&[2.0f32, 1.0, 0.0]);
    let cost = |ranks: [f64; 3]| {
        let lists = Lists::from_lengths(&[3]).with_ranks(&ranks).unwrap();
        RankLoss::new().forward_lists(&rewards, &lists).unwrap().double_value(&[])
    };
    assert!(cost([1., 2., 3.]) < cost([3., 2., 1.]));
}

/// Written and read as TOML and JSON, whole and in part; unknown names are refused.
#[test]
fn settings_are_files() {
    let place = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        trains: "last:2".parse().unwrap(),
        head_learning_rate: Some(1e-3),
        micro_batch_size: Some(3),
        schedule: reward_model::Schedule::Cosine,
        best_by: Some("kendall_tau".into()),
        loss: RankLoss::new().reduction(Reduction::Sum).label_smoothing(0.1),
        ..config()
    };
    let write = |name: &str, text: String| {
        let path = place.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let toml = write("a.toml", config.to_toml().unwrap());
    assert_eq!(TrainConfig::read(toml).unwrap(), config);
    let json = write("a.json", serde_json::to_string(&config).unwrap());
    assert_eq!(TrainConfig::read(json).unwrap(), config);

    let some = write("some.toml", "epochs = 7\n[loss]\nreduction = \"sum\"\n".into());
    let some = TrainConfig::read(some).unwrap();
    assert_eq!((some.epochs, some.loss), (7, RankLoss::new().reduction(Reduction::Sum)));
    assert_eq!(
        TrainConfig { epochs: 3, loss: TrainConfig::default().loss, ..some },
        TrainConfig::default()
    );

    for (name, text) in [("b.toml", "epoch = 7"), ("b.json", "{\"epochs\": -1}"), ("b.json", "{")] {
        let path = write(name, text.into());
        let message = TrainConfig::read(&path).unwrap_err().to_string();
        assert!(message.starts_with(&path.display().to_string()), "{message}");
    }

    let wrong = TrainConfig { epochs: 0, beta1: 1.0, patience: Some(0), ..TrainConfig::default() };
    assert_eq!(
        wrong.check().unwrap_err().to_string(),
        "epochs = 0: must be finite and at least 1\nbeta1 = 1: must be finite and from 0 to below 1\n\
         patience = 0: must be finite and at least 1"
    );
}

/// Accuracy and margin of the first step are those of the rewards before it, over strict pairs, and
/// its loss the mean over as many pairs as count.
#[test]
fn a_step_tells_what_the_model_decided_before_it() {
    let strict = |n: usize| RankedList::new([GOOD[n], FAIR[n], BAD[n]]).unwrap();
    let tied =
        |n: usize| RankedList::with_ranks([GOOD[n], FAIR[n], BAD[n]], &[1., 2., 2.]).unwrap();
    let all = vec![strict(0), tied(1), strict(2), tied(3)];
    for (ties, weights) in [(Ties::Skip, [3.0, 2.0]), (Ties::Half, [3.0, 3.0])] {
        for micro_batch_size in [None, Some(1)] {
            let loss = RankLoss::new().reduction(Reduction::MeanPairs).ties(ties);
            let config = TrainConfig {
                loss,
                dropout: false,
                epochs: 1,
                batch_size: 4,
                micro_batch_size,
                ..config()
            };
            let mut trainer = Trainer::new(bert(3), tokenizer(), config).unwrap();
            let (mut right, mut gap, mut pairs, mut cost) = (0.0, 0.0, 0.0, 0.0);
            for (n, list) in all.iter().enumerate() {
                let rewards = trainer.scorer().score_list(list).unwrap();
                let ranks: Vec<usize> = list.ranks().collect();
                for (w, l) in [(0, 1), (0, 2), (1, 2)] {
                    let d = f64::from(rewards[w]) - f64::from(rewards[l]);
                    let softplus = |z: f64| z.exp().ln_1p();
                    if ranks[w] < ranks[l] {
                        right += if d > 0.0 { 1.0 } else { 0.0 };
                        gap += d;
                        pairs += 1.0;
                        cost += softplus(-d);
                    } else if ties == Ties::Half {
                        cost += (softplus(-d) + softplus(d)) / 2.0;
                    }
                }
                assert_eq!(ranks[1] == ranks[2], n % 2 == 1);
            }
            let mut first = None;
            trainer
                .train(&all, &[], &mut |event| {
                    if let Event::Step(step) = event {
                        first.get_or_insert_with(|| step.clone());
                    }
                    Ok(())
                })
                .unwrap();
            let first: Step = first.unwrap();
            assert_eq!(first.accuracy, Some(right / pairs));
            assert!((first.margin.unwrap() - gap / pairs).abs() < 1e-5, "{first:?}");
            let count = 2.0 * (weights[0] + weights[1]);
            assert!((first.loss / (cost / count) - 1.0).abs() < 1e-5, "{first:?}");
        }
    }
}
