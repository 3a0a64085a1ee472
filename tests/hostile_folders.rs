#![cfg(feature = "models")]
//! Model folders that lie: each is an error that says so, in bounded time and memory.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use reward_model::model::{DecoderType, EncoderType, SaveOptions};
use reward_model::tch::{Device, Tensor};
use reward_model::{
    model, DecoderConfig, EncoderConfig, Error, ModelConfig, RewardModel, Transformer,
};
use serde_json::{json, Map, Value};
use tempfile::TempDir;

fn decoder(kind: DecoderType) -> DecoderConfig {
    DecoderConfig {
        vocab_size: 20,
        hidden_size: 8,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: None,
        head_dim: None,
        intermediate_size: Some(12),
        max_position_embeddings: 16,
        ..DecoderConfig::of(kind)
    }
}

fn encoder(kind: EncoderType) -> EncoderConfig {
    EncoderConfig {
        vocab_size: 20,
        hidden_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 12,
        max_position_embeddings: 16,
        ..EncoderConfig::of(kind)
    }
}

fn configs() -> Vec<ModelConfig> {
    use {DecoderType::*, EncoderType::*};
    let encoders = [Bert, Roberta, XlmRoberta, DistilBert].map(|kind| encoder(kind).into());
    let decoders = [Gpt2, Llama, Mistral, Qwen2, Qwen3].map(|kind| decoder(kind).into());
    encoders.into_iter().chain(decoders).collect()
}

fn folder_of(config: impl Into<ModelConfig>, options: SaveOptions) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = Transformer::random(config, 0, Device::Cpu).unwrap().with_save_options(options);
    model.save(folder.path()).unwrap();
    folder
}

fn llama() -> TempDir {
    folder_of(decoder(DecoderType::Llama), SaveOptions::default())
}

/// A Llama in several files.
fn sharded() -> TempDir {
    let mut options = SaveOptions::default();
    options.max_shard_bytes = 1500;
    folder_of(decoder(DecoderType::Llama), options)
}

fn error(dir: &Path) -> Error {
    let start = Instant::now();
    let error = model::load(dir, Device::Cpu).map(|_| ()).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5), "{error}");
    error
}

fn message(dir: &Path) -> String {
    let message = error(dir).to_string();
    assert!(message.starts_with(dir.to_str().unwrap()), "{message}");
    message
}

fn problems(dir: &Path) -> Vec<String> {
    match error(dir) {
        Error::Tensors { problems, .. } => problems,
        other => panic!("{other}"),
    }
}

/// Replaces the header of `model.safetensors`, and leaves its data.
fn with_header(dir: &Path, change: impl FnOnce(&mut Map<String, Value>)) {
    let file = dir.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Map<String, Value> = serde_json::from_slice(&bytes[8..end]).unwrap();
    change(&mut header);
    let header = serde_json::to_vec(&header).unwrap();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(&file, [&length[..], &header, &bytes[end..]].concat()).unwrap();
}

fn with_json(path: &Path, change: impl FnOnce(&mut Map<String, Value>)) {
    let mut fields = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut fields);
    fs::write(path, serde_json::to_string(&fields).unwrap()).unwrap();
}

fn with_tensors(dir: &Path, change: impl FnOnce(&mut Vec<(String, Tensor)>)) {
    let file = dir.join("model.safetensors");
    let mut tensors = Tensor::read_safetensors(&file).unwrap();
    change(&mut tensors);
    fs::remove_file(&file).unwrap();
    Tensor::write_safetensors(&tensors, file).unwrap();
}

const NORM: &str = "model.norm.weight";
const SCORE: &str = "score.weight";

#[test]
fn headers_that_lie_are_told_as_such() {
    let offsets = |header: &Map<String, Value>, name: &str| header[name]["data_offsets"].clone();
    type Lie<'a> = &'a dyn Fn(&mut Map<String, Value>);
    let lies: [(&str, Lie); 9] = [
        ("overlapping", &|h| h[NORM]["data_offsets"] = offsets(h, SCORE)),
        ("beyond the end", &|h| h[NORM]["data_offsets"] = json!([1_u64 << 40, (1_u64 << 40) + 32])),
        ("backwards", &|h| h[NORM]["data_offsets"] = json!([32, 0])),
        ("negative", &|h| h[NORM]["data_offsets"] = json!([-32, 0])),
        ("product overflows", &|h| h[NORM]["shape"] = json!([1_u64 << 40, 1_u64 << 40])),
        ("larger than its bytes", &|h| h[NORM]["shape"] = json!([1 << 20])),
        ("another dtype's size", &|h| h[NORM]["dtype"] = json!("F64")),
        ("no such dtype", &|h| h[NORM]["dtype"] = json!("F31")),
        ("not an object", &|h| h[NORM] = json!(3)),
    ];
    for (what, lie) in lies {
        let folder = llama();
        with_header(folder.path(), lie);
        let message = message(folder.path());
        assert!(message.contains("is not safetensors"), "{what}: {message}");
    }
    // Of the right size in bytes, and still not what the model has.
    let folder = llama();
    with_header(folder.path(), |h| {
        h[NORM]["dtype"] = json!("I32");
        h[SCORE]["shape"] = json!([8, 1]);
    });
    assert_eq!(
        problems(folder.path()),
        [
            "model.norm.weight: is I32, must be F64, F32, F16 or BF16",
            "score.weight: is [8, 1], must be [1, 8]",
        ]
    );
}

#[test]
fn a_header_is_not_read_beyond_its_file() {
    let folder = llama();
    let file = folder.path().join("model.safetensors");
    for length in [u64::MAX, u64::MAX - 8, 1 << 40, 99_999_999, 100_000_001] {
        fs::write(&file, [&length.to_le_bytes()[..], b"{}"].concat()).unwrap();
        let message = message(folder.path());
        assert!(message.contains(&format!("claims a header of {length}")), "{message}");
    }
    fs::write(&file, [&2_u64.to_le_bytes()[..], b"[]"].concat()).unwrap();
    assert!(message(folder.path()).contains("is not safetensors"));
    fs::write(&file, [&2_u64.to_le_bytes()[..], b"{}"].concat()).unwrap();
    assert!(problems(folder.path()).iter().all(|problem| problem.ends_with(": is missing")));
}

#[test]
fn shards_and_their_index_must_agree() {
    let index_of = |dir: &Path| dir.join("model.safetensors.index.json");
    let folder = sharded();
    model::load(folder.path(), Device::Cpu).unwrap();

    let change = |change: &dyn Fn(&mut Map<String, Value>)| {
        let folder = sharded();
        with_json(&index_of(folder.path()), |index| change(index));
        folder
    };
    for file in ["../model.safetensors", "/etc/passwd", "..", ".", "", "a/b.safetensors", "a/"] {
        let folder = change(&|index| index["weight_map"][NORM] = json!(file));
        let message = message(folder.path());
        assert!(message.ends_with("must be a file's name"), "{file}: {message}");
    }
    for (value, expected) in [
        (json!(null), "has no weight_map"),
        (json!([1]), "has no weight_map"),
        (json!({ NORM: 3 }), "weight_map.model.norm.weight = 3: must be a file's name"),
    ] {
        let folder = change(&|index| index["weight_map"] = value.clone());
        assert!(message(folder.path()).contains(expected));
    }
    let folder = change(&|index| index["weight_map"][NORM] = json!("gone.safetensors"));
    assert!(message(folder.path()).contains("gone.safetensors: cannot read: No such file"));
    let folder = change(&|index| {
        index["weight_map"]["model.more"] = index["weight_map"][NORM].clone();
        index["weight_map"]["model.most"] = index["weight_map"][NORM].clone();
    });
    let found = problems(folder.path());
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with("model.more: the index says model-00"), "{found:?}");
    // A tensor that the index does not name is as good as absent.
    let folder = change(&|index| {
        index["weight_map"].as_object_mut().unwrap().remove(NORM);
    });
    assert_eq!(problems(folder.path()), ["model.norm.weight: is missing"]);

    fs::write(index_of(folder.path()), "{").unwrap();
    assert!(message(folder.path()).contains("EOF while parsing"));
    let folder = sharded();
    let shard = folder.path().join("model-00002-of-00004.safetensors");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
    assert!(message(folder.path()).contains("model-00002-of-00004.safetensors: has "));
    fs::remove_file(&shard).unwrap();
    assert!(message(folder.path()).contains("model-00002-of-00004.safetensors: cannot read"));
}

#[test]
fn two_tensors_that_mean_one_are_refused() {
    let folder = folder_of(encoder(EncoderType::Bert), SaveOptions::default());
    with_tensors(folder.path(), |tensors| {
        let norm = "bert.embeddings.LayerNorm";
        tensors.push((format!("{norm}.gamma"), Tensor::from_slice(&[1.0_f32; 8])));
    });
    assert_eq!(
        problems(folder.path()),
        ["bert.embeddings.LayerNorm.weight: there is another tensor that means \
          bert.embeddings.LayerNorm.weight"]
    );
}

#[test]
fn every_tensor_that_does_not_fit_is_named() {
    for config in configs() {
        let kind = config.model_type();
        let folder = folder_of(config, SaveOptions::default());
        let mut expected = Vec::new();
        with_tensors(folder.path(), |tensors| {
            for (number, (name, tensor)) in tensors.iter_mut().enumerate() {
                if number % 3 == 1 {
                    expected.push(format!("{name}: is [2, 0, 3], must be {:?}", tensor.size()));
                    *tensor = Tensor::zeros([2, 0, 3], (tensor.kind(), Device::Cpu));
                } else if number % 3 == 2 {
                    expected.push(format!("{name}: is missing"));
                    *name = format!("unheard.of.{number}");
                    expected.push(format!("{name}: is not expected"));
                }
            }
        });
        let mut found = problems(folder.path());
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{kind}");
    }
}

/// What the kernel says this process has in memory of its own, in megabytes.
#[cfg(target_os = "linux")]
fn peak_megabytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
#[cfg(target_os = "linux")]
fn absurd_sizes_take_no_memory() {
    let most = 1_i64 << 24;
    let before = peak_megabytes();
    for config in configs() {
        let kind = config.model_type();
        let folder = folder_of(config, SaveOptions::default());
        let path = folder.path().join("config.json");
        let honest = fs::read_to_string(&path).unwrap();
        let fields: Map<String, Value> = serde_json::from_str(&honest).unwrap();
        for field in [
            "vocab_size",
            "hidden_size",
            "dim",
            "n_embd",
            "intermediate_size",
            "hidden_dim",
            "n_inner",
            "max_position_embeddings",
            "n_positions",
            "head_dim",
            "type_vocab_size",
            "num_hidden_layers",
            "n_layer",
            "n_layers",
            "num_attention_heads",
        ] {
            if !fields.contains_key(field) || field == "max_position_embeddings" && kind != "bert" {
                continue;
            }
            for size in [most, 1 << 10, 0, -1, i64::MAX] {
                with_json(&path, |fields| fields[field] = size.into());
                let _ = error(folder.path());
                fs::write(&path, &honest).unwrap();
            }
        }
    }
    let folder = llama();
    with_json(&folder.path().join("config.json"), |fields| fields["vocab_size"] = most.into());
    assert_eq!(
        problems(folder.path()),
        ["model.embed_tokens.weight: is [20, 8], must be [16777216, 8]"]
    );
    // A head that is yet to be drawn has no tensor that would tell its size.
    let bare = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/models/bert-masked-lm");
    let copy = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(Path::new(bare).join(file), copy.path().join(file)).unwrap();
    }
    with_json(&copy.path().join("config.json"), |fields| fields["hidden_size"] = (1 << 14).into());
    let problems = problems(copy.path());
    assert!(problems.len() > 10 && problems[0].contains("16384"), "{problems:?}");

    let grown = peak_megabytes() - before;
    assert!(grown < 300, "{grown} MB");
}

#[test]
fn fields_of_the_wrong_type_are_named() {
    for config in configs() {
        let kind = config.model_type();
        let folder = folder_of(config, SaveOptions::default());
        let path = folder.path().join("config.json");
        let honest = fs::read_to_string(&path).unwrap();
        let fields: Map<String, Value> = serde_json::from_str(&honest).unwrap();
        let used = fields.iter().filter(|(field, value)| {
            (value.is_number() || value.is_boolean())
                // Read by Python alone.
                && !["use_cache"].contains(&field.as_str())
        });
        for (field, _) in used {
            for wrong in [json!("many"), json!({"a": 1}), json!([1, 2])] {
                fs::write(&path, &honest).unwrap();
                with_json(&path, |fields| fields[field] = wrong.clone());
                let Err(error) = model::load(folder.path(), Device::Cpu) else {
                    panic!("{kind}: {field} = {wrong} passed");
                };
                let message = error.to_string();
                assert!(message.contains(&format!("{field} = {wrong}")), "{kind}: {message}");
            }
        }
        for wrong in [json!(3), json!(null), json!([]), json!("LLAMA")] {
            fs::write(&path, &honest).unwrap();
            with_json(&path, |fields| fields["model_type"] = wrong);
            assert!(message(folder.path()).contains("must be one of bert, roberta"), "{kind}");
        }
    }
}

/// A file that is silent means Python's defaults, which are not these small sizes.
#[test]
fn absent_fields_are_pythons_defaults() {
    for config in configs() {
        let kind = config.model_type();
        let folder = folder_of(config, SaveOptions::default());
        let path = folder.path().join("config.json");
        fs::write(&path, json!({"model_type": kind, "num_hidden_layers": 1}).to_string()).unwrap();
        let found = problems(folder.path());
        let table = found.iter().find(|problem| problem.contains("is [20, 8], must be ["));
        assert!(table.is_some(), "{kind}: {found:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damage_to_a_decoders_configuration_never_panics(
        kind in prop::sample::select(vec![
            DecoderType::Gpt2, DecoderType::Llama, DecoderType::Mistral, DecoderType::Qwen2,
            DecoderType::Qwen3,
        ]),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let folder = folder_of(decoder(kind), SaveOptions::default());
        let path = folder.path().join("config.json");
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fs::write(&path, bytes).unwrap();
        let _ = model::load(folder.path(), Device::Cpu);
    }

    #[test]
    fn rope_of_any_numbers_never_panics(
        rope in prop::sample::select(vec!["default", "linear", "dynamic", "llama3", "yarn"]),
        numbers in prop::collection::vec(
            prop::sample::select(vec![-1.0, 0.0, 1e-300, 0.5, 1.0, 2.0, 1e9, 1e300]), 8),
    ) {
        let folder = llama();
        with_json(&folder.path().join("config.json"), |fields| {
            fields["rope_scaling"] = json!({
                "rope_type": rope, "factor": numbers[0], "low_freq_factor": numbers[1],
                "high_freq_factor": numbers[2], "original_max_position_embeddings": numbers[3],
                "beta_fast": numbers[4], "beta_slow": numbers[5], "attention_factor": numbers[6],
            });
            fields["rope_theta"] = numbers[7].into();
            let scaling = fields["rope_scaling"].as_object_mut().unwrap();
            let known: &[&str] = match rope {
                "default" => &[],
                "linear" | "dynamic" => &["factor"],
                "llama3" => &["factor", "low_freq_factor", "high_freq_factor",
                    "original_max_position_embeddings"],
                _ => &["factor", "beta_fast", "beta_slow", "attention_factor",
                    "original_max_position_embeddings"],
            };
            scaling.retain(|key, _| key == "rope_type" || known.contains(&key.as_str()));
        });
        if let Ok(model) = model::load(folder.path(), Device::Cpu) {
            let text = reward_model::TokenizedText::from_ids((0..20).collect::<Vec<u32>>());
            let batch = reward_model::TokenBatch::from_texts([&text]).unwrap();
            let _ = model.forward(&batch, reward_model::Mode::Evaluation);
        }
    }
}
