#![cfg(feature = "train")]
//! Pretraining: what is hidden from a model, what its guesses cost, and that it learns.

use std::cell::RefCell;
use std::path::Path;

use reward_model::tch::{Device, Kind, Tensor};
use reward_model::text::Tokenizer;
use reward_model::{
    Backbone, DecoderConfig, EncoderConfig, Event, Mode, Objective, Result, RewardModel, Scorer,
    TokenBatch, TokenPrediction, TrainConfig, Trainer, Transformer,
};

/// Sentences in which every word follows from its neighbours.
fn texts() -> Vec<String> {
    let animals = ["cat", "dog", "cow", "hen", "fox"];
    let sounds = ["meows", "barks", "moos", "clucks", "yelps"];
    let times = ["today", "tonight", "always"];
    let sentence = |n: usize| format!("the {} {} {}", animals[n % 5], sounds[n % 5], times[n % 3]);
    (0..60).map(sentence).collect()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::train(texts().iter().map(String::as_str), 200).unwrap()
}

fn encoder() -> Transformer {
    let config = EncoderConfig {
        vocab_size: tokenizer().vocab_size() as i64,
        hidden_size: 32,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 64,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        ..EncoderConfig::default()
    };
    Transformer::random(config, 1, Device::Cpu).unwrap()
}

fn decoder() -> Transformer {
    let config = DecoderConfig {
        vocab_size: tokenizer().vocab_size() as i64,
        hidden_size: 32,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: Some(64),
        initializer_range: 0.2,
        ..DecoderConfig::default()
    };
    Transformer::random(config, 1, Device::Cpu).unwrap()
}

/// Remembers the batches that it is asked about.
struct Witness {
    seen: RefCell<Vec<TokenBatch>>,
    table: Tensor,
}

impl Witness {
    fn new() -> Witness {
        let size = [tokenizer().vocab_size() as i64, 4];
        let table = Tensor::ones(size, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        Witness { seen: RefCell::default(), table }
    }
}

impl RewardModel for Witness {
    fn forward(&self, _: &TokenBatch, _: Mode) -> Result<Tensor> {
        unreachable!("no rewards are asked for")
    }
    fn parameters(&self) -> Vec<(String, Tensor)> {
        vec![("table".into(), self.table.shallow_clone())]
    }
    fn device(&self) -> Device {
        Device::Cpu
    }
    fn backbone(&self) -> Option<&dyn Backbone> {
        Some(self)
    }
    fn save(&self, _: &Path) -> Result<()> {
        Ok(())
    }
}

impl Backbone for Witness {
    fn hidden_states(&self, batch: &TokenBatch, _: Mode) -> Result<Tensor> {
        self.seen.borrow_mut().push(batch.clone());
        Ok(Tensor::ones([batch.tokens() as i64, 4], (Kind::Float, Device::Cpu)))
    }
    fn token_embeddings(&self) -> Tensor {
        self.table.shallow_clone()
    }
    fn is_causal(&self) -> bool {
        false
    }
}

#[test]
fn of_each_text_a_share_is_hidden_and_never_a_special_token() {
    let tokenizer = tokenizer();
    let masked = TokenPrediction::Masked { mask_token: tokenizer.mask_id().unwrap(), share: 0.5 };
    let mut all = texts();
    all.push("cat".into());
    let data = masked.prepare(&tokenizer, &all).unwrap();
    let original =
        TokenBatch::from_lists(data.examples.iter().map(|example| &example.texts[..])).unwrap();
    let targets: Vec<_> = data.examples.iter().map(|example| &example.target).collect();
    let witness = Witness::new();
    let (mut hidden, mut other, mut kept) = (0, 0, 0);
    for seed in 0..50 {
        masked.loss(&witness, &original, &targets, Mode::Training { seed }).unwrap();
        let asked = witness.seen.borrow_mut().pop().unwrap();
        for text in 0..original.texts() {
            let (before, after) = (original.text(text), asked.text(text));
            let changed: Vec<usize> =
                (0..before.len()).filter(|&at| before[at] != after[at]).collect();
            // [CLS] the cat meows today [SEP]
            let most = if before.len() == 3 { 1 } else { 2 };
            assert!(changed.len() <= most && after.len() == before.len());
            assert!(changed.iter().all(|&at| at > 0 && at < before.len() - 1), "{changed:?}");
            let masks = changed.iter().filter(|&&at| Some(after[at]) == tokenizer.mask_id());
            let masks = masks.count();
            hidden += masks;
            other += changed.len() - masks;
            kept += most - changed.len();
        }
    }
    // 6050 answers: 80 % hidden, 10 % another (which may by chance be the same), 10 % kept.
    let all = (hidden + other + kept) as f64;
    assert_eq!(all, 50.0 * (60.0 * 2.0 + 1.0));
    assert!((hidden as f64 / all - 0.8).abs() < 0.02, "{hidden} of {all}");
    assert!((other as f64 / all - 0.1).abs() < 0.02, "{other} of {all}");

    let again = |seed| {
        masked.loss(&witness, &original, &targets, Mode::Training { seed }).unwrap();
        witness.seen.borrow_mut().pop().unwrap()
    };
    assert_eq!(again(3), again(3));
    assert_ne!(again(3), again(4));
}

/// −log softmax of each next token, in f64, written out.
#[test]
fn the_next_token_costs_what_one_computes_from_the_hidden_states() {
    let (model, tokenizer) = (decoder(), tokenizer());
    let table = rows(&model.token_embeddings());
    let held_out = texts()[..7].to_vec();
    let (mut cost, mut right, mut count) = (0.0, 0, 0);
    for text in &held_out {
        let text = tokenizer.encode(None, text).unwrap();
        let batch = TokenBatch::from_texts([&text]).unwrap();
        let hidden = rows(&model.hidden_states(&batch, Mode::Evaluation).unwrap());
        for (state, &answer) in hidden.iter().zip(&text.ids[1..]) {
            let logit = |row: &Vec<f64>| row.iter().zip(state).map(|(a, b)| a * b).sum::<f64>();
            let logits: Vec<f64> = table.iter().map(logit).collect();
            let sum: f64 = logits.iter().map(|l| l.exp()).sum();
            cost += sum.ln() - logits[answer as usize];
            right += usize::from(logits.iter().all(|&l| l <= logits[answer as usize]));
            count += 1;
        }
    }
    let scorer = Scorer::new(Box::new(model), tokenizer).unwrap();
    let found = TokenPrediction::Next.evaluate(&scorer, &held_out).unwrap();
    assert_eq!(found.tokens, count);
    approx::assert_relative_eq!(found.loss.unwrap(), cost / count as f64, max_relative = 1e-5);
    approx::assert_relative_eq!(found.accuracy.unwrap(), right as f64 / count as f64);
    let perplexity = found.perplexity.unwrap();
    approx::assert_relative_eq!(perplexity, found.loss.unwrap().exp(), max_relative = 1e-12);
}

fn rows(tensor: &Tensor) -> Vec<Vec<f64>> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double)).unwrap()
}

#[test]
fn both_ways_learn_what_follows_from_what() {
    for model in [encoder(), decoder()] {
        let tokenizer = tokenizer();
        let objective = TokenPrediction::of(&model, &tokenizer).unwrap();
        let config = TrainConfig {
            epochs: 100,
            learning_rate: 3e-3,
            threads: Some(1),
            ..TrainConfig::default()
        };
        let mut trainer = Trainer::new(Box::new(model), tokenizer, config).unwrap();
        let mut losses = Vec::new();
        let last = trainer
            .fit(&objective, &texts(), &texts(), &mut |event| {
                if let Event::Evaluated { evaluation, .. } = event {
                    losses.push(evaluation.loss.unwrap());
                }
                Ok(())
            })
            .unwrap();
        assert!(losses[0] > 2.0, "{losses:?}");
        // A decoder cannot know the animal (of 5) and the time (of 3), two of five tokens; an
        // encoder not the time, one of four.
        let chance = match objective {
            TokenPrediction::Next => (5f64.ln() + 3f64.ln()) / 5.0,
            _ => 3f64.ln() / 4.0,
        };
        assert!(last.loss.unwrap() < chance + 0.25, "{chance} {last:?}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let texts = texts();
    let try_out = |model: Transformer, objective: TokenPrediction| {
        let mut trainer =
            Trainer::new(Box::new(model), tokenizer(), TrainConfig::default()).unwrap();
        trainer.fit(&objective, &texts, &[], &mut |_| Ok(())).unwrap_err().to_string()
    };
    let message = try_out(encoder(), TokenPrediction::Next);
    assert!(message.contains("can only be predicted by a decoder"), "{message}");
    let message = try_out(decoder(), TokenPrediction::masked(&tokenizer()).unwrap());
    assert!(message.contains("can only be predicted by an encoder"), "{message}");
}

/// The accuracy of a step is that of the model before it.
#[test]
fn a_step_tells_how_many_tokens_were_right_before_it() {
    let texts = texts();
    let config = TrainConfig { epochs: 2, batch_size: 60, ..TrainConfig::default() };
    let mut trainer = Trainer::new(Box::new(decoder()), tokenizer(), config).unwrap();
    let objective = TokenPrediction::Next;
    let before = objective.evaluate(trainer.scorer(), &texts).unwrap().accuracy;
    assert!(before.is_some_and(|accuracy| accuracy > 0.0 && accuracy < 1.0), "{before:?}");
    let mut steps = Vec::new();
    let mut watch = |event: &Event<_>| {
        steps.extend(match event {
            Event::Step(step) => Some(step.accuracy),
            _ => None,
        });
        Ok(())
    };
    trainer.fit(&objective, &texts, &[], &mut watch).unwrap();
    assert_eq!(steps[0], before);
}
