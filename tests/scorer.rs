#![cfg(feature = "train")]
//! The scorer and the scale of rewards: measured, normalised, told by the folder, the same alone and together.

use std::path::Path;
use std::sync::{Arc, Mutex};

use reward_model::model::Sharing;
use reward_model::tch::{Device, Tensor};
use reward_model::text::{Layout, Limits, TokenizedList, TokenizedText, Tokenizer};
use reward_model::{
    DecoderConfig, EncoderConfig, Mode, ModelConfig, RankedList, Result, RewardModel, Scorer,
    TokenBatch, TrainConfig, Trainer, Transformer,
};

fn lists() -> Vec<RankedList> {
    let words = ["superb", "fair", "awful", "so", "film", "soup"];
    let list = |n: usize| {
        let text = |k: usize| format!("{} {}", words[(n + k) % 6], words[(n * k + 1) % 6]);
        RankedList::new((0..3).map(text).collect::<Vec<_>>()).unwrap()
    };
    (0..12).map(list).collect()
}

fn tokenizer() -> Tokenizer {
    let all = lists();
    let texts = all.iter().flat_map(|list| list.responses()).map(|response| response.text());
    Tokenizer::train(texts, 100).unwrap().with_limits(Limits::new(16)).unwrap()
}

fn trainer(config: ModelConfig) -> Trainer {
    let model = Transformer::random(config, 1, Device::Cpu).unwrap();
    let tokenizer = tokenizer();
    Trainer::new(Box::new(model), tokenizer, TrainConfig::default()).unwrap()
}

fn bert() -> ModelConfig {
    let config = EncoderConfig {
        vocab_size: tokenizer().vocab_size() as i64,
        hidden_size: 16,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 32,
        max_position_embeddings: 16,
        initializer_range: 0.2,
        ..EncoderConfig::default()
    };
    config.into()
}

fn rewards(scorer: &Scorer) -> Vec<f64> {
    let scores = scorer.score(&lists()).unwrap();
    scores.into_iter().flat_map(|list| list.unwrap()).map(f64::from).collect()
}

/// More tokens than go through the model together: each batch of its texts has the prompt anew.
#[test]
fn a_long_list_is_scored_as_its_texts_are() {
    let vocab_size = tokenizer().vocab_size() as i64;
    let config = DecoderConfig {
        vocab_size,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: Some(32),
        initializer_range: 0.2,
        ..DecoderConfig::default()
    };
    let model = Transformer::random(config, 1, Device::Cpu).unwrap();
    let scorer = Scorer::new(Box::new(model), tokenizer()).unwrap();
    let id = |n: usize| (n * 7919 % vocab_size as usize) as u32;
    let prompt: Vec<u32> = (0..50).map(id).collect();
    let list = |texts: usize, length: usize| {
        let text = |t: usize| {
            let own = (0..length + t % 5).map(|n| id(n * 31 + t * 17 + 1));
            let ids: Vec<u32> = prompt.iter().copied().chain(own).collect();
            TokenizedText::new(ids.clone(), vec![0; ids.len()], prompt.len()).unwrap()
        };
        let mut list = TokenizedList::default();
        list.texts = (0..texts).map(text).collect();
        list
    };
    // Some 13 000 tokens, and a text that is too long for a batch by itself.
    let (long, short, huge) = (list(400, 30), list(3, 20), list(2, 9000));
    let together = scorer.score_tokenized_lists(&[&long, &short, &huge]).unwrap();
    let texts: Vec<&TokenizedText> =
        [&long, &short, &huge].into_iter().flat_map(|list| &list.texts).collect();
    let apart = scorer.score_tokenized(&texts).unwrap();
    assert_eq!(together.len(), 405);
    for (together, apart) in together.iter().zip(&apart) {
        assert!((together - apart).abs() < 1e-5, "{together} is not {apart}");
    }
    assert!(apart.iter().any(|reward| (reward - apart[0]).abs() > 1e-2));
}

/// A model of somebody's, which knows nothing of shared prompts.
struct Foreign(Transformer, Arc<Mutex<Vec<usize>>>);

impl RewardModel for Foreign {
    fn forward(&self, batch: &TokenBatch, mode: Mode) -> Result<Tensor> {
        self.1.lock().unwrap().push(batch.tokens());
        self.0.forward(batch, mode)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.0.parameters()
    }

    fn device(&self) -> Device {
        self.0.device()
    }

    fn layout(&self) -> Layout {
        self.0.layout()
    }

    fn save(&self, dir: &Path) -> Result<()> {
        self.0.save(dir)
    }
}

/// Of a prompt that goes through with every text, every batch has room for.
#[test]
fn prompts_that_are_not_shared_count_with_every_text() {
    let vocab_size = tokenizer().vocab_size() as i64;
    let config = DecoderConfig {
        vocab_size,
        hidden_size: 16,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: Some(32),
        ..DecoderConfig::default()
    };
    let seen = Arc::default();
    let model = Transformer::random(config, 1, Device::Cpu).unwrap();
    let scorer = Scorer::new(Box::new(Foreign(model, Arc::clone(&seen))), tokenizer()).unwrap();
    let text = |t: usize| {
        let ids: Vec<u32> = (0..500 + t).map(|n| (n % vocab_size as usize) as u32).collect();
        TokenizedText::new(ids.clone(), vec![0; ids.len()], 500).unwrap()
    };
    let mut list = TokenizedList::default();
    list.texts = (1..40).map(text).collect();
    assert_eq!(scorer.score_tokenized_lists(&[&list]).unwrap().len(), 39);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().sum::<usize>(), (501..540).sum::<usize>());
    assert!(seen.iter().all(|&tokens| tokens <= 8192), "{seen:?}");
}

fn moments(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, square.sqrt())
}

fn config_of(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap()
}

#[test]
fn is_measured_and_written_and_changes_nothing_unless_asked() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("model");
    let mut trainer = trainer(bert());
    let before = rewards(trainer.scorer());
    let (mean, std) = moments(&before);
    trainer.set_reward_scale(&lists(), false).unwrap();
    assert_eq!(rewards(trainer.scorer()), before);
    trainer.save(&folder, false).unwrap();
    let scale = &config_of(&folder)["reward_scale"];
    approx::assert_relative_eq!(scale["mean"].as_f64().unwrap(), mean, epsilon = 1e-9);
    approx::assert_relative_eq!(scale["std"].as_f64().unwrap(), std, epsilon = 1e-9);
    assert_eq!((&scale["normalized"], &scale["offset"]), (&false.into(), &0.0.into()));
}

#[test]
fn normalised_rewards_keep_their_order_and_survive_the_folder() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("model");
    let mut trainer = trainer(bert());
    let before = rewards(trainer.scorer());
    let (mean, std) = moments(&before);
    trainer.set_reward_scale(&lists(), true).unwrap();
    let after = rewards(trainer.scorer());
    for (after, before) in after.iter().zip(&before) {
        approx::assert_relative_eq!(*after, (before - mean) / std, epsilon = 1e-5);
    }
    trainer.save(&folder, false).unwrap();
    assert_eq!(config_of(&folder)["reward_scale"]["offset"], 0.0);
    assert_eq!(rewards(&Scorer::load(&folder, Device::Cpu).unwrap()), after);
}

/// A decoder's head has no bias: the scorer subtracts what the folder tells.
#[test]
fn without_a_bias_the_mean_is_told_by_the_folder() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("model");
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let config = ModelConfig::read(source.join("llama/config.json")).unwrap();
    let ModelConfig::Decoder(config) = config else { panic!("a decoder") };
    let vocab_size = tokenizer().vocab_size() as i64;
    let config = DecoderConfig { vocab_size, num_labels: 1, ..config };
    let mut trainer = trainer(config.into());
    let before = rewards(trainer.scorer());
    let (mean, std) = moments(&before);
    assert!(mean.abs() > 1e-3);
    for (scale, shift) in [(std, mean), (1.0, 0.0)] {
        // The second time there is nothing left to do.
        let before = rewards(trainer.scorer());
        trainer.set_reward_scale(&lists(), true).unwrap();
        for (after, before) in rewards(trainer.scorer()).iter().zip(&before) {
            approx::assert_relative_eq!(*after, (before - shift) / scale, epsilon = 1e-4);
        }
    }
    trainer.save(&folder, false).unwrap();
    let offset = config_of(&folder)["reward_scale"]["offset"].as_f64().unwrap();
    approx::assert_relative_eq!(offset, mean / std, epsilon = 1e-4);
    assert!(std::fs::read_to_string(folder.join("README.md")).unwrap().contains("subtract"));
    assert_eq!(rewards(&Scorer::load(&folder, Device::Cpu).unwrap()), rewards(trainer.scorer()));
}

/// Lists of one prompt, scored together, are the texts scored each by itself.
#[test]
fn a_shared_prompt_changes_no_reward() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    for folder in ["llama", "gpt2", "qwen2-window", "mistral"] {
        let config = ModelConfig::read(source.join(folder).join("config.json")).unwrap();
        let ModelConfig::Decoder(config) = config else { panic!("a decoder") };
        let vocab_size = tokenizer().vocab_size() as i64;
        let config = DecoderConfig { vocab_size, num_labels: 1, ..config };
        let model = Transformer::random(ModelConfig::from(config), 1, Device::Cpu).unwrap();
        let model = model.with_sharing(Sharing::Always);
        assert!(model.shares_prompts());
        let scorer = Scorer::new(Box::new(model), tokenizer()).unwrap();
        let prompt = "so superb film so fair soup awful";
        let all: Vec<RankedList> = lists().into_iter().map(|l| l.with_prompt(prompt)).collect();
        let together = scorer.score(&all).unwrap();
        for (list, rewards) in all.iter().zip(together) {
            for (response, reward) in list.responses().iter().zip(rewards.unwrap()) {
                let alone = RankedList::new([response.text()]).unwrap().with_prompt(prompt);
                let alone = scorer.score_list(&alone).unwrap()[0];
                approx::assert_abs_diff_eq!(alone, reward, epsilon = 1e-5);
            }
        }
    }
}
