#![cfg(feature = "train")]
//! What frozen layers give is kept, and nobody can tell.

use std::path::Path;

use reward_model::model::{Part, Sharing};
use reward_model::tch::{Device, Tensor};
use reward_model::text::{Layout, Limits, Tokenizer};
use reward_model::{
    DecoderConfig, EncoderConfig, Error, Event, Mode, ModelConfig, RankedList, Result, RewardModel,
    RunFolder, TokenBatch, TrainConfig, Trainer, Transformer,
};

fn lists() -> Vec<RankedList> {
    let words = ["superb", "fair", "awful", "so", "the", "film", "soup", "was"];
    let list = |n: usize| {
        let text = |k: usize| format!("{} {}", words[(n + k) % 8].repeat(1 + k % 2), words[k]);
        let responses: Vec<String> = (0..2 + n % 3).map(text).collect();
        let prompt = vec![words[n % 8]; 3 + n % 5].join(" ");
        RankedList::new(responses).unwrap().with_prompt(prompt)
    };
    (0..14).map(list).collect()
}

fn tokenizer() -> Tokenizer {
    let all = lists();
    let texts = all.iter().flat_map(|list| list.responses()).map(|response| response.text());
    Tokenizer::train(texts, 200).unwrap().with_limits(Limits::new(64)).unwrap()
}

fn encoder(dropout: f64) -> ModelConfig {
    let config = EncoderConfig {
        vocab_size: tokenizer().vocab_size() as i64,
        hidden_size: 16,
        num_hidden_layers: 3,
        num_attention_heads: 2,
        intermediate_size: 24,
        hidden_dropout_prob: dropout,
        attention_probs_dropout_prob: dropout,
        classifier_dropout: Some(0.3),
        ..EncoderConfig::default()
    };
    config.into()
}

fn decoder() -> ModelConfig {
    let config = DecoderConfig {
        vocab_size: tokenizer().vocab_size() as i64,
        hidden_size: 16,
        num_hidden_layers: 3,
        num_attention_heads: 2,
        intermediate_size: Some(24),
        ..DecoderConfig::default()
    };
    config.into()
}

fn config(trains: &str) -> TrainConfig {
    TrainConfig {
        trains: trains.parse().unwrap(),
        epochs: 3,
        batch_size: 4,
        learning_rate: 1e-2,
        // Adam's first steps are signs of gradients: an epsilon of their size keeps them continuous.
        epsilon: 1e-2,
        threads: Some(1),
        ..TrainConfig::default()
    }
}

fn train(
    model: Box<dyn RewardModel>,
    config: TrainConfig,
    folder: Option<RunFolder>,
    stop_at: usize,
) -> (Result<()>, Vec<f32>) {
    let mut trainer = Trainer::new(model, tokenizer(), config).unwrap();
    if let Some(folder) = folder {
        trainer = trainer.with_run_folder(folder);
    }
    let mut steps = 0;
    let result = trainer.train(&lists(), &[], &mut |event| {
        steps += usize::from(matches!(event, Event::Step(_)));
        if steps == stop_at {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    });
    let values = |p: &Tensor| Vec::<f32>::try_from(p.detach().reshape([-1])).unwrap();
    let parameters = trainer.scorer().model().parameters();
    (result.map(|_| ()), parameters.iter().flat_map(|(_, p)| values(p)).collect())
}

fn model(config: &ModelConfig) -> Box<dyn RewardModel> {
    // Of decoders; by themselves such small ones would not.
    let model = Transformer::random(config.clone(), 1, Device::Cpu).unwrap();
    Box::new(model.with_sharing(Sharing::Always))
}

fn weights(model: Box<dyn RewardModel>, config: TrainConfig) -> Vec<f32> {
    let (result, weights) = train(model, config, None, usize::MAX);
    result.unwrap();
    weights
}

fn bits(weights: &[f32]) -> Vec<u32> {
    weights.iter().map(|weight| weight.to_bits()).collect()
}

/// The model, of which whole texts go through all layers in every step.
struct Plain(Box<dyn RewardModel>);

impl RewardModel for Plain {
    fn forward(&self, batch: &TokenBatch, mode: Mode) -> Result<Tensor> {
        self.0.forward(batch, mode)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.0.parameters()
    }

    fn device(&self) -> Device {
        self.0.device()
    }

    fn part(&self, name: &str) -> Part {
        self.0.part(name)
    }

    fn layout(&self) -> Layout {
        self.0.layout()
    }

    fn save(&self, dir: &Path) -> Result<()> {
        self.0.save(dir)
    }
}

#[test]
fn weights_are_the_same_wherever_states_are_kept() {
    for model_config in [encoder(0.0), decoder()] {
        for trains in ["last:1", "last:2", "head", "match:*2.*"] {
            let run = |change: &dyn Fn(&mut TrainConfig)| {
                let mut config = config(trains);
                change(&mut config);
                weights(model(&model_config), config)
            };
            let kept = run(&|_| {});
            let ways: [&dyn Fn(&mut TrainConfig); 4] = [
                &|c| c.cache_frozen = false,
                &|c| c.cache_memory = 0,
                &|c| (c.cache_memory, c.cache_disk) = (3000, 3000),
                &|c| c.tokens_in_memory = 0,
            ];
            for (number, way) in ways.into_iter().enumerate() {
                assert!(bits(&run(way)) == bits(&kept), "{trains}, way {number}");
            }
            let plain = weights(Box::new(Plain(model(&model_config))), config(trains));
            for (ours, theirs) in kept.iter().zip(&plain) {
                assert!((ours - theirs).abs() < 1e-5, "{trains}: {ours} {theirs}");
            }
            let chunks = run(&|c| (c.dropout, c.chunk_size) = (false, Some(2)));
            let whole = run(&|c| c.dropout = false);
            for (ours, theirs) in chunks.iter().zip(&whole) {
                assert!((ours - theirs).abs() < 1e-5, "{trains}, in chunks: {ours} {theirs}");
            }
        }
    }
}

#[test]
fn what_is_dropped_out_is_not_kept() {
    let config = config("last:1");
    let ours = weights(model(&encoder(0.1)), config.clone());
    let plain = weights(Box::new(Plain(model(&encoder(0.1)))), config);
    assert!(bits(&ours) == bits(&plain));
}

#[test]
fn a_run_goes_on_from_the_same_states() {
    let config = TrainConfig { checkpoint_steps: Some(1), ..config("last:2") };
    let expected = weights(model(&decoder()), config.clone());
    for stop_at in [2, 6] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run");
        let folder = RunFolder::create(&path).unwrap();
        let (result, _) = train(model(&decoder()), config.clone(), Some(folder), stop_at);
        assert!(matches!(result, Err(Error::Interrupted)));
        // Where states are kept makes no other run.
        let config = TrainConfig { cache_memory: 0, ..config.clone() };
        let folder = RunFolder::resume(&path).unwrap();
        let (result, weights) = train(model(&decoder()), config, Some(folder), usize::MAX);
        result.unwrap();
        assert!(bits(&weights) == bits(&expected), "stopped at step {stop_at}");
    }
}
