//! What it is worth to keep what frozen layers give: training with frozen embeddings and bottom 4 of 6
//! layers, from the second epoch on, against all layers in every step.
//!
//! `cargo bench --bench frozen` trains both ways in turn, on one thread, and prints the medians of a
//! step's processor time (`-- all`: every step's), the share of it that is saved, and the share that the
//! operations of its matrices would save:
//!
//! ```text
//! below = 4 layers forward        above = layer 5 (three times forward, less the gradient of its
//!                                 input) + layer 6 (three times the keys and values, for all
//!                                 tokens but those that are scored)
//! saved = below / (below + above)
//! ```

use std::path::Path;

use reward_model::model::Part;
use reward_model::tch::{Device, Tensor};
use reward_model::text::{Layout, Limits, Tokenizer};
use reward_model::{
    DecoderConfig, EncoderConfig, Event, Mode, ModelConfig, RankedList, Result, RewardModel,
    TokenBatch, TrainConfig, Trainer, Transformer,
};

const WIDTH: i64 = 256;
const INNER: i64 = 688;
const LAYERS: i64 = 6;
const FROZEN: i64 = 4;
const PROMPT: usize = 128;
const RESPONSE: usize = 64;
const RESPONSES: usize = 4;
const LISTS: usize = 24;
const EPOCHS: u32 = 3;

/// A model that does not tell that layers are frozen.
struct Plain(Transformer);

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

/// Lists of a prompt and responses of so many words, each of which is a token.
fn lists() -> Vec<RankedList> {
    let mut state = 1_u64;
    let mut text = |words: usize| -> String {
        let mut word = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let letter = |shift: u32| char::from(b'a' + ((state >> shift) % 16) as u8);
            letter(33).to_string() + &letter(41).to_string()
        };
        (0..words).map(|_| word()).collect::<Vec<_>>().join(" ")
    };
    let mut list = |_| {
        let prompt = text(PROMPT);
        let responses: Vec<String> = (0..RESPONSES).map(|_| text(RESPONSE)).collect();
        RankedList::new(responses).expect("a list").with_prompt(prompt)
    };
    (0..LISTS).map(&mut list).collect()
}

fn config(decoder: bool, vocab_size: i64) -> ModelConfig {
    if decoder {
        return DecoderConfig {
            vocab_size,
            hidden_size: WIDTH,
            intermediate_size: Some(INNER),
            num_hidden_layers: LAYERS,
            num_attention_heads: 4,
            ..DecoderConfig::default()
        }
        .into();
    }
    EncoderConfig {
        vocab_size,
        hidden_size: WIDTH,
        intermediate_size: INNER,
        num_hidden_layers: LAYERS,
        num_attention_heads: 4,
        ..EncoderConfig::default()
    }
    .into()
}

/// The share of a step's operations that is saved.
fn formula(decoder: bool) -> f64 {
    let (d, m) = (WIDTH as f64, INNER as f64);
    let (p, r, k) = (PROMPT as f64, RESPONSE as f64, RESPONSES as f64);
    // Of a list: tokens, and pairs of a query and a key.
    let (tokens, pairs, matrices) = match decoder {
        true => (p + k * r, p * p / 2.0 + k * (r * p + r * r / 2.0), 3.0),
        false => (k * (p + r), k * (p + r) * (p + r), 2.0),
    };
    let layer = tokens * 2.0 * (4.0 * d * d + matrices * d * m) + pairs * 4.0 * d;
    let below = FROZEN as f64 * layer;
    let fifth = 3.0 * layer - tokens * 2.0 * 3.0 * d * d;
    let last = 3.0 * (tokens * 2.0 * 2.0 * d * d + k * (p + r) * 4.0 * d);
    below / (below + fifth + last)
}

/// The seconds of each step from the second epoch on.
fn run(decoder: bool, plain: bool, lists: &[RankedList]) -> Result<Vec<f64>> {
    let texts = lists.iter().flat_map(|list| list.responses()).map(|response| response.text());
    let tokenizer = Tokenizer::train(texts, 1000)?.with_limits(Limits::new(512))?;
    let model = config(decoder, tokenizer.vocab_size() as i64);
    let model = Transformer::random(model, 7, Device::Cpu)?;
    let model: Box<dyn RewardModel> = if plain { Box::new(Plain(model)) } else { Box::new(model) };
    let settings = TrainConfig {
        trains: format!("last:{}", LAYERS - FROZEN).parse()?,
        epochs: EPOCHS,
        batch_size: 4,
        dropout: false,
        threads: Some(1),
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(model, tokenizer, settings)?;
    let (mut seconds, mut before) = (Vec::new(), computed());
    trainer.train(lists, &[], &mut |event| {
        if let Event::Step(step) = event {
            if step.epoch > 1 {
                seconds.push(computed() - before);
            }
        }
        before = computed();
        Ok(())
    })?;
    Ok(seconds)
}

/// Seconds that this process has computed, which other programs on the machine do not lengthen.
fn computed() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call, which only writes to it.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> Result<()> {
    let all = std::env::args().any(|word| word == "all");
    let quick = std::env::args().any(|word| word == "quick");
    let lists = lists();
    for (name, decoder) in [("encoder", false), ("decoder", true)] {
        let (mut plain, mut kept) = (Vec::new(), Vec::new());
        for _ in 0..if quick { 1 } else { 5 } {
            plain.extend(run(decoder, true, &lists)?);
            kept.extend(run(decoder, false, &lists)?);
        }
        if all {
            println!("plain {plain:.3?}\nkept {kept:.3?}");
        }
        let (plain, kept) = (median(plain), median(kept));
        let (saved, formula) = (1.0 - kept / plain, formula(decoder));
        println!(
            "{name}, 4 lists a step, K={RESPONSES} P={PROMPT} R={RESPONSE}: {:.1} ms, kept {:.1} ms: \
             {:.0} % of the time saved, {:.0} % by the formula: {:.0} % of it",
            plain * 1e3,
            kept * 1e3,
            100.0 * saved,
            100.0 * formula,
            100.0 * saved / formula
        );
    }
    Ok(())
}
