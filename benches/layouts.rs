//! What a decoder's shortcuts are worth: forward and backward of a batch of ranked lists, on whole
//! texts with all hidden states, on whole texts with what is scored alone, and with shared prompts.
//!
//! `cargo bench --bench layouts` takes the layouts in turn and prints medians, ratios to whole
//! texts, and the ratio that the products of matrices alone would give. `-- memory`, `-- memory
//! four`, `-- memory layers` and `-- memory plain` print the peak memory of a gradient in chunks of one
//! text, of four, with layers computed again, and at once, with what the model estimates, each in a
//! process of its own (`encoder` and `dropout` in place of a decoder without); `-- profile` repeats one
//! step, to be looked at with a profiler.

use std::time::Instant;

use reward_model::model::{GraphParts, Sharing};
use reward_model::tch::{self, Device, Kind, Tensor};
use reward_model::{
    Backbone, DecoderConfig, EncoderConfig, Mode, ModelConfig, Result, RewardModel, TokenBatch,
    TokenizedText, Transformer,
};

const VOCABULARY: i64 = 4096;
const WIDTH: i64 = 256;
const INNER: i64 = 688;
const LAYERS: i64 = 6;
const MODE: Mode = Mode::WithoutDropout { seed: 1 };

fn model(sharing: Sharing) -> Result<Transformer> {
    let config = DecoderConfig {
        vocab_size: VOCABULARY,
        hidden_size: WIDTH,
        intermediate_size: Some(INNER),
        num_hidden_layers: LAYERS,
        num_attention_heads: 4,
        num_key_value_heads: None,
        max_position_embeddings: 1024,
        ..DecoderConfig::default()
    };
    Ok(Transformer::random(ModelConfig::from(config), 7, Device::Cpu)?.with_sharing(sharing))
}

/// Lists with a prompt of so many tokens, and responses of these lengths.
struct Shape {
    lists: usize,
    prompt: usize,
    responses: Vec<usize>,
}

impl Shape {
    fn new(lists: usize, prompt: usize, responses: &[usize]) -> Shape {
        Shape { lists, prompt, responses: responses.to_vec() }
    }

    fn batch(&self) -> Result<TokenBatch> {
        let mut state = 1_u64;
        let mut ids = move |n: usize| -> Vec<u32> {
            let mut id = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((state >> 33) % VOCABULARY as u64) as u32
            };
            (0..n).map(|_| id()).collect()
        };
        let list = |_| {
            let prompt = ids(self.prompt);
            let text = |&n: &usize| TokenizedText::from_ids([prompt.clone(), ids(n)].concat());
            self.responses.iter().map(text).collect::<Vec<_>>()
        };
        let lists: Vec<Vec<TokenizedText>> = (0..self.lists).map(list).collect();
        TokenBatch::from_lists(lists.iter().map(Vec::as_slice))
    }

    /// Operations of a forward pass: whole texts with all hidden states, whole texts with what is
    /// scored, shared prompts with what is scored.
    fn operations(&self) -> [f64; 3] {
        let (keys, rest) = (2 * WIDTH * WIDTH, 2 * WIDTH * WIDTH + 3 * WIDTH * INNER);
        let token = 2.0 * (keys + rest) as f64;
        let pair = (4 * WIDTH) as f64;
        let lower = (LAYERS - 1) as f64;
        // The last layer of texts of which `tokens` go through it: keys and values of all, the
        // rest of the scored ones.
        let last = |tokens: f64| {
            let whole: f64 = self.responses.iter().map(|&r| (self.prompt + r) as f64).sum();
            let scored = self.responses.len() as f64 * 2.0 * rest as f64;
            tokens * 2.0 * keys as f64 + scored + whole * pair
        };
        let p = self.prompt as f64;
        let apart = |r: f64| (p + r) * token + (p + r) * (p + r) / 2.0 * pair;
        let own = |r: f64| r * token + (r * p + r * r / 2.0) * pair;
        let responses = || self.responses.iter().map(|&r| r as f64);
        let whole: f64 = responses().map(apart).sum();
        let shared = p * token + p * p / 2.0 * pair + responses().map(own).sum::<f64>();
        let tokens: f64 = responses().map(|r| p + r).sum();
        let distinct = p + responses().sum::<f64>();
        let lists = self.lists as f64;
        [
            lists * (lower + 1.0) * whole,
            lists * (lower * whole + last(tokens)),
            lists * (lower * shared + last(distinct)),
        ]
    }
}

/// The sum of all scores, by way of the hidden states of all tokens.
fn whole(model: &Transformer, batch: &TokenBatch) -> Result<Tensor> {
    let hidden = model.hidden_states(batch, MODE)?;
    let last: Vec<i64> = batch.text_offsets()[1..].iter().map(|&end| end as i64 - 1).collect();
    let (_, head) = model.parameters().pop().expect("a head");
    Ok(hidden.f_index_select(0, &Tensor::from_slice(&last))?.f_linear(&head, None::<&Tensor>)?)
}

fn step(model: &Transformer, scores: &Tensor) -> Result<f64> {
    scores.f_square()?.f_sum(Kind::Float)?.f_backward()?;
    let norms = model.parameters().into_iter().map(|(_, mut parameter)| {
        let norm = parameter.grad().norm().double_value(&[]);
        parameter.zero_grad();
        norm * norm
    });
    Ok(norms.sum::<f64>().sqrt())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Operations a second of the products that a layer is made of.
fn rate(tokens: i64) -> f64 {
    let options = (Kind::Float, Device::Cpu);
    let (x, w) = (Tensor::randn([tokens, WIDTH], options), Tensor::randn([INNER, WIDTH], options));
    let times = (0..31).map(|_| {
        let start = Instant::now();
        let _ = x.linear(&w, None::<&Tensor>);
        start.elapsed().as_secs_f64()
    });
    (2 * tokens * WIDTH * INNER) as f64 / median(times.collect())
}

fn time(shape: &Shape, rounds: usize) -> Result<()> {
    let (apart, shared) = (model(Sharing::Never)?, model(Sharing::Always)?);
    let auto = model(Sharing::Auto)?;
    let batch = shape.batch()?;
    let mut times = [const { Vec::new() }; 4];
    for round in 0..=rounds {
        for (layout, times) in times.iter_mut().enumerate() {
            let start = Instant::now();
            let _ = match layout {
                0 => step(&apart, &whole(&apart, &batch)?)?,
                1 => step(&apart, &apart.forward(&batch, MODE)?)?,
                2 => step(&shared, &shared.forward(&batch, MODE)?)?,
                _ => step(&auto, &auto.forward(&batch, MODE)?)?,
            };
            // The first round warms up.
            if round > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
    }
    let [whole, scored, shared, auto] = times.map(median);
    let [all, of_scored, of_shared] = shape.operations();
    let products = 3.0 * of_shared / rate(512);
    println!(
        "{} lists, K={} P={} R={:?}: {:.1} ms; scored only {:.2} times as fast (operations {:.2}), \
         shared {:.2} (operations {:.2}), by itself {:.2}; shared: products {:.0} % of the time",
        shape.lists,
        shape.responses.len(),
        shape.prompt,
        shape.responses,
        whole * 1e3,
        whole / scored,
        all / of_scored,
        whole / shared,
        all / of_shared,
        whole / auto,
        100.0 * products / shared,
    );
    Ok(())
}

/// Peak resident memory in MiB.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// An encoder of the same sizes, with dropout.
fn encoder() -> Result<Transformer> {
    let config = EncoderConfig {
        vocab_size: VOCABULARY,
        hidden_size: WIDTH,
        intermediate_size: INNER,
        num_hidden_layers: LAYERS,
        num_attention_heads: 4,
        ..EncoderConfig::default()
    };
    Transformer::random(config, 7, Device::Cpu)
}

fn memory(words: &[String]) -> Result<()> {
    let has = |word: &str| words.iter().any(|given| given == word);
    let model = if has("encoder") { encoder()? } else { model(Sharing::Always)? };
    let mode = if has("dropout") { Mode::Training { seed: 1 } } else { MODE };
    let batch = Shape::new(1, 128, &[256; 16]).batch()?;
    // Gradients and libtorch's own buffers belong to the baseline.
    step(&model, &model.forward(&Shape::new(1, 8, &[4; 2]).batch()?, mode)?)?;
    let before = peak();
    let start = Instant::now();
    let parts = if has("plain") {
        GraphParts::Texts(usize::MAX)
    } else if has("layers") {
        GraphParts::Layers
    } else {
        GraphParts::Texts(if has("four") { 4 } else { 1 })
    };
    if has("plain") {
        step(&model, &model.forward(&batch, mode)?)?;
    } else {
        let _ = model
            .backward_in_parts(&batch, mode, parts, &mut |scores| Ok(scores.f_mul_scalar(2.0)?))?;
    }
    let estimate = model.activation_bytes(&batch, mode, parts).expect("an estimate");
    println!(
        "K=16 P=128 R=256 {words:?}: {:.2?}, {:.0} MiB more, {:.0} MiB estimated",
        start.elapsed(),
        peak() - before,
        estimate as f64 / f64::from(1 << 20)
    );
    Ok(())
}

fn main() -> Result<()> {
    tch::set_num_threads(1);
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    if has("memory") {
        return memory(&words);
    }
    if has("profile") {
        let (model, batch) = (model(Sharing::Always)?, Shape::new(4, 128, &[64; 4]).batch()?);
        let times = (0..12).map(|_| {
            let start = Instant::now();
            step(&model, &model.forward(&batch, MODE)?)?;
            Ok(start.elapsed().as_secs_f64())
        });
        println!("{:.1} ms a step", 1e3 * median(times.collect::<Result<_>>()?));
        return Ok(());
    }
    let rounds = if has("quick") { 3 } else { 9 };
    for shape in [
        Shape::new(4, 128, &[64; 2]),
        Shape::new(4, 128, &[64; 4]),
        Shape::new(2, 256, &[64; 8]),
        Shape::new(4, 32, &[16, 32, 96, 256]),
        Shape::new(4, 8, &[64; 2]),
    ] {
        time(&shape, rounds)?;
    }
    Ok(())
}
