//! A training loop of one's own, from nothing but [`rank_loss`] and the [`RewardModel`] trait: for
//! trainers that have a loop already and want the loss, or a model of this crate, in it.
//!
//! ```text
//! cargo run --release --example custom_trainer
//! ```

mod support;

use std::process::ExitCode;

use reward_model::tch::{self, Device, Kind, Tensor};
use reward_model::text::{TokenizedList, Tokenizer};
use reward_model::{
    data, rank_loss, EncoderConfig, Mode, RankedList, Result, RewardModel, TokenBatch, Transformer,
};

const EPOCHS: i64 = 6;
const LISTS_PER_STEP: usize = 8;
const LEARNING_RATE: f64 = 1e-3;

fn main() -> ExitCode {
    support::report(|| run().map(|()| ExitCode::SUCCESS))
}

fn run() -> Result<()> {
    let train = strict(data::read(support::shipped("train.jsonl"))?);
    let held_out = strict(data::read(support::shipped("eval.jsonl"))?);
    let tokenizer = Tokenizer::train(support::texts(&train), 8000)?;
    let (train, held_out) = (encode(&tokenizer, &train)?, encode(&tokenizer, &held_out)?);
    let config = EncoderConfig {
        vocab_size: tokenizer.vocab_size() as i64,
        hidden_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 256,
        ..EncoderConfig::default()
    };
    let model: Box<dyn RewardModel> = Box::new(Transformer::random(config, 0, Device::Cpu)?);

    let mut optimizer = Adam::new(model.as_ref())?;
    let mut step = 0;
    for epoch in 1..=EPOCHS {
        let mut sum = 0.0;
        for lists in train.chunks(LISTS_PER_STEP) {
            step += 1;
            let rewards = forward(model.as_ref(), lists, Mode::Training { seed: step })?;
            let mut loss = Tensor::f_zeros([], (Kind::Float, model.device()))?;
            for rewards in &rewards {
                loss = loss.f_add(&rank_loss(rewards)?)?;
            }
            sum += loss.f_double_value(&[])?;
            loss.f_div_scalar(lists.len() as f64)?.f_backward()?;
            optimizer.step(LEARNING_RATE)?;
        }
        println!(
            "epoch {epoch}/{EPOCHS}  training loss {:.3} a list  held-out lists in exact order {:.3}",
            sum / train.len() as f64,
            exact_order(model.as_ref(), &held_out)?
        );
    }
    Ok(())
}

/// The rewards of each list: one forward pass for all, then a slice a list.
fn forward(model: &dyn RewardModel, lists: &[TokenizedList], mode: Mode) -> Result<Vec<Tensor>> {
    let batch = TokenBatch::from_lists(lists.iter().map(|list| &list.texts[..]))?;
    let rewards = model.forward(&batch, mode)?.f_reshape([-1])?;
    (0..batch.lists())
        .map(|l| {
            let texts = batch.list(l);
            Ok(rewards.f_narrow(0, texts.start as i64, texts.len() as i64)?)
        })
        .collect()
}

/// The share of lists whose responses come out in just the order that people gave them.
fn exact_order(model: &dyn RewardModel, lists: &[TokenizedList]) -> Result<f64> {
    let _no_grad = tch::no_grad_guard();
    let mut right = 0;
    for lists in lists.chunks(LISTS_PER_STEP) {
        for rewards in forward(model, lists, Mode::Evaluation)? {
            let rewards = Vec::<f32>::try_from(rewards)?;
            right += usize::from(rewards.windows(2).all(|pair| pair[0] > pair[1]));
        }
    }
    Ok(right as f64 / lists.len() as f64)
}

/// `rank_loss` takes rewards best first; lists with ties need `RankLoss` and are left out here.
fn strict(lists: Vec<RankedList>) -> Vec<RankedList> {
    lists.into_iter().filter(|list| !list.has_ties() && list.len() > 1).collect()
}

fn encode(tokenizer: &Tokenizer, lists: &[RankedList]) -> Result<Vec<TokenizedList>> {
    tokenizer.encode_lists(lists).into_iter().collect()
}

/// Adam, as short as it gets, on the parameters that the trait hands out.
struct Adam {
    slots: Vec<[Tensor; 3]>,
    steps: i32,
}

impl Adam {
    fn new(model: &dyn RewardModel) -> Result<Adam> {
        let slots = model
            .parameters()
            .into_iter()
            .map(|(_, parameter)| {
                let zeros = || parameter.f_detach()?.f_zeros_like();
                Ok([zeros()?, zeros()?, parameter])
            })
            .collect::<Result<_>>()?;
        Ok(Adam { slots, steps: 0 })
    }

    fn step(&mut self, learning_rate: f64) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.steps += 1;
        let [first, second] = [0.9_f64, 0.999].map(|beta| 1.0 - beta.powi(self.steps));
        for [mean, square, parameter] in &mut self.slots {
            let gradient = parameter.f_grad()?;
            let _ = mean.f_lerp_(&gradient, 0.1)?;
            let _ = square.f_lerp_(&gradient.f_square()?, 0.001)?;
            let spread = square.f_div_scalar(second)?.f_sqrt()?.f_add_scalar(1e-8)?;
            let update = mean.f_div(&spread)?.f_mul_scalar(learning_rate / first)?;
            let _ = parameter.f_sub_(&update)?;
            parameter.zero_grad();
        }
        Ok(())
    }
}
