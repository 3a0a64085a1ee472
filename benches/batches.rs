//! From ranked lists to the batches of an epoch: `cargo bench --bench batches`.

use std::path::Path;

use criterion::{criterion_group, criterion_main, Criterion, Throughput};
use reward_model::text::{length_grouped_batches, TokenizedList, Tokenizer};
use reward_model::{data, TokenBatch};

fn batches(c: &mut Criterion) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/train.jsonl");
    let lists = data::read(file).expect("the shipped lists");
    let texts = || lists.iter().flat_map(|list| list.responses()).map(|response| response.text());
    let tokenizer = Tokenizer::train(texts(), 8000).expect("a tokenizer");

    let mut group = c.benchmark_group("shipped lists");
    group.throughput(Throughput::Elements(lists.len() as u64));
    group.sample_size(20);
    group.bench_function("train a tokenizer", |b| {
        b.iter(|| Tokenizer::train(texts(), 8000).expect("a tokenizer"));
    });
    group.bench_function("tokenize", |b| b.iter(|| tokenizer.encode_lists(&lists)));

    let tokens: Vec<TokenizedList> =
        tokenizer.encode_lists(&lists).into_iter().collect::<Result<_, _>>().expect("tokens");
    let longest = |list: &TokenizedList| list.texts.iter().map(|t| t.ids.len()).max().unwrap_or(0);
    let lengths: Vec<usize> = tokens.iter().map(longest).collect();
    group.bench_function("collate an epoch", |b| {
        b.iter(|| {
            length_grouped_batches(&lengths, 8, 0)
                .iter()
                .map(|batch| TokenBatch::from_lists(batch.iter().map(|&l| &tokens[l].texts[..])))
                .collect::<Result<Vec<_>, _>>()
                .expect("batches")
        });
    });
    group.finish();
}

criterion_group!(benches, batches);
criterion_main!(benches);
