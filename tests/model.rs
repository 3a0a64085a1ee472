#![cfg(feature = "models")]
//! The model: its scores, its folder, and what it says of a folder that is wrong.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use reward_model::tch::{Device, Kind, Tensor};
use reward_model::{
    model, EncoderConfig, Error, LoadOptions, Mode, Result, RewardModel, TokenBatch, TokenizedText,
    Transformer,
};

fn config() -> EncoderConfig {
    EncoderConfig {
        vocab_size: 50,
        hidden_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        intermediate_size: 40,
        max_position_embeddings: 30,
        // Large enough for every token to matter in the scores.
        initializer_range: 0.3,
        ..EncoderConfig::default()
    }
}

fn bert() -> Transformer {
    Transformer::random(config(), 1, Device::Cpu).unwrap()
}

fn scores(model: &dyn RewardModel, texts: &[TokenizedText], mode: Mode) -> Vec<f32> {
    let batch = TokenBatch::from_texts(texts).unwrap();
    let rewards = model.forward(&batch, mode).unwrap();
    assert_eq!(rewards.size(), [texts.len() as i64, 1]);
    assert_eq!(rewards.kind(), Kind::Float);
    Vec::try_from(rewards.reshape([-1])).unwrap()
}

fn text() -> impl Strategy<Value = TokenizedText> {
    (1usize..=30).prop_flat_map(|len| {
        (prop::collection::vec(0u32..50, len), 0..=len).prop_map(|(ids, prompt)| {
            let segments = (0..ids.len()).map(|at| u8::from(at >= prompt)).collect();
            TokenizedText::new(ids, segments, prompt).unwrap()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_score_does_not_depend_on_the_batch(texts in prop::collection::vec(text(), 1..7)) {
        let model = bert();
        let together = scores(&model, &texts, Mode::Evaluation);
        for (text, score) in texts.iter().zip(together) {
            let alone = scores(&model, std::slice::from_ref(text), Mode::Evaluation)[0];
            prop_assert!((alone - score).abs() <= 2e-6 * (1.0 + alone.abs()), "{} {}", alone, score);
        }
    }

    #[test]
    fn every_part_of_a_text_counts(text in text(), at in any::<prop::sample::Index>()) {
        let model = bert();
        let score = |text: &TokenizedText| {
            scores(&model, std::slice::from_ref(text), Mode::Evaluation)[0]
        };
        let before = score(&text);
        let mut other = text.clone();
        let at = at.index(text.ids.len());
        other.ids[at] = (other.ids[at] + 1) % 50;
        prop_assert_ne!(before, score(&other), "token {}", at);
        let mut other = text.clone();
        other.segments[at] ^= 1;
        prop_assert_ne!(before, score(&other), "segment {}", at);
        if text.ids.len() > 1 && text.ids[0] != text.ids[1] {
            let mut other = text.clone();
            other.ids.swap(0, 1);
            prop_assert_ne!(before, score(&other), "the order of the first two");
        }
    }
}

/// Central differences of the sum of squared scores along each parameter's own gradient; f32 gives
/// them about three digits.
#[test]
fn gradients_agree_with_finite_differences() {
    let model = bert();
    let texts = [
        TokenizedText::from_ids([1, 2, 3, 4, 5]),
        TokenizedText::new(vec![7, 8, 9], vec![0, 1, 1], 1).unwrap(),
    ];
    let batch = TokenBatch::from_texts(&texts).unwrap();
    let value = || {
        let rewards = model.forward(&batch, Mode::Evaluation).unwrap();
        rewards.to_kind(Kind::Double).square().sum(Kind::Double)
    };
    value().backward();
    let mut all = 0.0;
    let norms: Vec<f64> = model
        .parameters()
        .iter()
        .map(|(_, parameter)| {
            let norm = parameter.grad().norm().double_value(&[]);
            all += norm * norm;
            norm
        })
        .collect();
    let all = f64::sqrt(all);
    for ((name, parameter), norm) in model.parameters().into_iter().zip(norms) {
        // A key's bias shifts all of a query's attention alike: its true gradient is zero.
        if norm < 1e-4 * all {
            assert!(name.ends_with("key.bias"), "{name} has hardly a gradient");
            continue;
        }
        let _no_grad = reward_model::tch::no_grad_guard();
        let direction = parameter.grad() / norm;
        let start = parameter.copy();
        // A step that changes the value by about a thousandth part of the largest gradient's.
        let h = 2e-3;
        let mut moved = parameter.shallow_clone();
        moved.copy_(&(&start + &direction * h));
        let above = value().double_value(&[]);
        moved.copy_(&(&start - &direction * h));
        let below = value().double_value(&[]);
        moved.copy_(&start);
        let slope = (above - below) / (2.0 * h);
        assert!((slope - norm).abs() < 2e-2 * norm + 1e-3 * all, "{name}: {slope} {norm} {all}");
    }
}

#[test]
fn dropout_is_for_training_and_follows_the_seed() {
    let model = bert();
    let texts: Vec<_> =
        (1..6).map(|n| TokenizedText::from_ids((0..n * 3).collect::<Vec<u32>>())).collect();
    let run = |mode| scores(&model, &texts, mode);
    assert_eq!(run(Mode::Evaluation), run(Mode::Evaluation));
    let first = run(Mode::Training { seed: 1 });
    assert_eq!(first, run(Mode::Training { seed: 1 }));
    assert_ne!(first, run(Mode::Training { seed: 2 }));
    assert_ne!(first, run(Mode::Evaluation));
}

#[test]
fn the_same_seed_gives_the_same_model() {
    let values = |seed| {
        let model = Transformer::random(config(), seed, Device::Cpu).unwrap();
        scores(&model, &[TokenizedText::from_ids([1, 2, 3])], Mode::Evaluation)
    };
    assert_eq!(values(5), values(5));
    assert_ne!(values(5), values(6));
}

#[test]
fn names_and_shapes_are_those_of_hugging_face() {
    let model =
        Transformer::random(EncoderConfig { num_hidden_layers: 1, ..config() }, 0, Device::Cpu);
    let found: Vec<(String, Vec<i64>)> =
        model.unwrap().parameters().into_iter().map(|(name, t)| (name, t.size())).collect();
    let layer = "bert.encoder.layer.0";
    let mut expected: Vec<(String, Vec<i64>)> = vec![
        ("bert.embeddings.word_embeddings.weight".into(), vec![50, 24]),
        ("bert.embeddings.position_embeddings.weight".into(), vec![30, 24]),
        ("bert.embeddings.token_type_embeddings.weight".into(), vec![2, 24]),
    ];
    let mut norm = |name: String| {
        expected.push((format!("{name}.weight"), vec![24]));
        expected.push((format!("{name}.bias"), vec![24]));
    };
    norm("bert.embeddings.LayerNorm".into());
    norm(format!("{layer}.attention.output.LayerNorm"));
    norm(format!("{layer}.output.LayerNorm"));
    for (name, inputs, outputs) in [
        (format!("{layer}.attention.self.query"), 24, 24),
        (format!("{layer}.attention.self.key"), 24, 24),
        (format!("{layer}.attention.self.value"), 24, 24),
        (format!("{layer}.attention.output.dense"), 24, 24),
        (format!("{layer}.intermediate.dense"), 24, 40),
        (format!("{layer}.output.dense"), 40, 24),
        ("bert.pooler.dense".into(), 24, 24),
        ("classifier".into(), 24, 1),
    ] {
        expected.push((format!("{name}.weight"), vec![outputs, inputs]));
        expected.push((format!("{name}.bias"), vec![outputs]));
    }
    let sorted = |mut list: Vec<_>| {
        list.sort();
        list
    };
    assert_eq!(sorted(found), sorted(expected));
}

#[test]
fn what_does_not_fit_the_model_is_an_error() {
    let model = bert();
    let message = |text: TokenizedText| {
        let batch = TokenBatch::from_texts(&[text]).unwrap();
        model.forward(&batch, Mode::Evaluation).unwrap_err().to_string()
    };
    assert_eq!(
        message(TokenizedText::from_ids([3, 50])),
        "token id 50 is outside the model's vocabulary of 50; is this its tokenizer?"
    );
    assert_eq!(
        message(TokenizedText::from_ids(vec![1; 31])),
        "text 0 has 31 tokens; the model takes at most 30"
    );
    assert_eq!(
        message(TokenizedText::new(vec![1, 2], vec![0, 2], 0).unwrap()),
        "segment id 2: the model has 2 segments"
    );
    let nothing = TokenBatch::from_texts(&[]).unwrap();
    assert_eq!(model.forward(&nothing, Mode::Evaluation).unwrap().size(), [0, 1]);
}

#[test]
fn a_saved_model_gives_the_same_scores_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("model");
    let model = bert();
    model::write_folder(&dir, false, |dir| model.save(dir)).unwrap();
    let loaded = model::load(&dir, Device::Cpu).unwrap();
    let texts: Vec<_> =
        (1..9).map(|n| TokenizedText::from_ids((n..n * 4).collect::<Vec<u32>>())).collect();
    assert_eq!(
        scores(&model, &texts, Mode::Evaluation),
        scores(loaded.as_ref(), &texts, Mode::Evaluation)
    );
    let names = |model: &dyn RewardModel| -> Vec<String> {
        model.parameters().into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(&model), names(loaded.as_ref()));

    // Saved again, it is the same folder: fields that the crate has no use for are kept.
    let config = dir.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replacen('{', "{\n  \"finetuning_task\": \"rank\",", 1)).unwrap();
    let again = folder.path().join("again");
    let loaded = Transformer::load(&dir, &LoadOptions::default()).unwrap();
    model::write_folder(&again, false, |dir| loaded.save(dir)).unwrap();
    let weights = |dir: &Path| fs::read(dir.join("model.safetensors")).unwrap();
    assert_eq!(weights(&dir), weights(&again));
    let written = fs::read_to_string(again.join("config.json")).unwrap();
    assert!(written.contains("\"finetuning_task\": \"rank\""), "{written}");
}

/// Names that say what the outputs are stay with the head that they are of.
#[test]
fn outputs_keep_their_names_with_their_head() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    bert().save(first.path()).unwrap();
    let file = first.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["id2label"] = serde_json::json!({"0": "helpful"});
    config["label2id"] = serde_json::json!({"helpful": 0});
    fs::write(&file, config.to_string()).unwrap();
    for (options, expected) in [
        (LoadOptions::default(), "helpful"),
        (LoadOptions::default().with_new_head(1, 0), "LABEL_0"),
    ] {
        let model = Transformer::load(first.path(), &options).unwrap();
        model.save(second.path()).unwrap();
        let saved = fs::read(second.path().join("config.json")).unwrap();
        let saved: serde_json::Value = serde_json::from_slice(&saved).unwrap();
        assert_eq!(saved["id2label"], serde_json::json!({"0": expected}));
        assert_eq!(saved["label2id"], serde_json::json!({expected: 0}));
    }
}

/// A folder with these tensors in place of the model's own.
fn folder_with(change: impl FnOnce(&mut Vec<(String, Tensor)>)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = bert();
    model.save(folder.path()).unwrap();
    let mut tensors = model.parameters();
    change(&mut tensors);
    let file = folder.path().join("model.safetensors");
    fs::remove_file(&file).unwrap();
    Tensor::write_safetensors(&tensors, file).unwrap();
    folder
}

fn load(dir: &Path) -> Result<()> {
    model::load(dir, Device::Cpu).map(|_| ())
}

#[test]
fn tensors_that_do_not_fit_are_all_named() {
    let folder = folder_with(|tensors| {
        tensors.retain(|(name, _)| name != "classifier.bias");
        tensors.push(("bert.extra.bias".into(), Tensor::from_slice(&[1.0f32])));
        let query =
            tensors.iter_mut().find(|(name, _)| name.ends_with("1.attention.self.query.bias"));
        query.unwrap().1 = Tensor::zeros([7], (Kind::Float, Device::Cpu));
        let pooler = tensors.iter_mut().find(|(name, _)| name == "bert.pooler.dense.bias");
        pooler.unwrap().1 = Tensor::zeros([24], (Kind::Int64, Device::Cpu));
    });
    let Error::Tensors { problems, .. } = load(folder.path()).unwrap_err() else {
        panic!("another error")
    };
    assert_eq!(
        problems,
        [
            "bert.encoder.layer.1.attention.self.query.bias: is [7], must be [24]",
            "bert.pooler.dense.bias: is I64, must be F64, F32, F16 or BF16",
            "classifier.bias: is missing",
            "bert.extra.bias: is not expected",
        ]
    );
}

#[test]
fn half_precision_and_old_buffers_are_read() {
    let folder = folder_with(|tensors| {
        for (_, tensor) in tensors.iter_mut() {
            *tensor = tensor.detach().to_kind(Kind::BFloat16);
        }
        let positions = Tensor::arange(30, (Kind::Int64, Device::Cpu)).view([1, 30]);
        tensors.push(("bert.embeddings.position_ids".into(), positions));
    });
    let model = model::load(folder.path(), Device::Cpu).unwrap();
    for ((name, ours), (_, original)) in model.parameters().iter().zip(bert().parameters()) {
        assert_eq!(ours.kind(), Kind::Float);
        let rounded = original.to_kind(Kind::BFloat16).to_kind(Kind::Float);
        assert!(ours.equal(&rounded), "{name}");
    }
}

#[test]
fn a_truncated_file_is_told_as_such() {
    let folder = folder_with(|_| {});
    let file = folder.path().join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    for len in [0, 5, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&file, &bytes[..len]).unwrap();
        let message = load(folder.path()).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("{}: ", file.display()))
                && message.contains(&format!("has {len} bytes")),
            "{message}"
        );
    }
    let longer = [&bytes[..], b"x"].concat();
    fs::write(&file, longer).unwrap();
    assert!(load(folder.path()).unwrap_err().to_string().contains("truncated or damaged"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_headers_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let folder = folder_with(|tensors| tensors.truncate(4));
        let file = folder.path().join("model.safetensors");
        let mut bytes = fs::read(&file).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[at.index(header)] = byte;
        fs::write(&file, bytes).unwrap();
        prop_assert!(load(folder.path()).is_err());
    }

    #[test]
    fn damaged_configurations_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let folder = tempfile::tempdir().unwrap();
        let small = EncoderConfig { vocab_size: 5, num_hidden_layers: 1, ..config() };
        Transformer::random(small, 0, Device::Cpu).unwrap().save(folder.path()).unwrap();
        let file = folder.path().join("config.json");
        let mut bytes = fs::read(&file).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fs::write(&file, bytes).unwrap();
        let _ = load(folder.path());
    }
}

#[test]
fn configurations_that_are_not_supported_say_what_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    for (config, expected) in [
        (
            r#"{"model_type": "t5"}"#,
            "model_type \"t5\" is not supported; must be one of bert, roberta, xlm-roberta, \
             distilbert, gpt2, llama, mistral, qwen2, qwen3",
        ),
        (
            r#"{"hidden_size": 8}"#,
            "there is no model_type; must be one of bert, roberta, xlm-roberta, distilbert, gpt2, \
             llama, mistral, qwen2, qwen3",
        ),
        (
            r#"{"model_type": "bert", "position_embedding_type": "relative_key"}"#,
            r#"position_embedding_type = "relative_key": not supported; only "absolute" is"#,
        ),
        (
            r#"{"model_type": "llama", "quantization_config": {"bits": 4}}"#,
            r#"quantization_config = {"bits":4}: not supported"#,
        ),
        (
            r#"{"model_type": "llama", "is_causal": false}"#,
            "is_causal = false: not supported; only true is",
        ),
        (
            r#"{"model_type": "llama", "rope_scaling": {"rope_type": "yarn", "factor": 2, "beta_fast": -1}}"#,
            "rope_scaling.beta_fast = -1: must be positive",
        ),
        (
            r#"{"model_type": "llama", "rope_scaling": null,
                "rope_parameters": {"rope_type": "linear", "factor": 2}}"#,
            "rope_scaling is null, but {\"rope_type\":\"linear\",\"factor\":2} in \
             rope_parameters: versions of transformers differ in which they take",
        ),
        (
            r#"{"model_type": "bert", "hidden_size": "8"}"#,
            r#"hidden_size = "8": invalid type: string "8", expected i64 (such as 768)"#,
        ),
        (
            r#"{"model_type": "distilbert", "dim": 8.5}"#,
            "dim = 8.5: invalid type: floating point `8.5`, expected i64 (such as 768)",
        ),
        (
            r#"{"model_type": "qwen2", "layer_types": ["chunked_attention"], "num_hidden_layers": 1}"#,
            r#"layer_types = "chunked_attention": not supported; must be full_attention or sliding_attention"#,
        ),
        (
            r#"{"model_type": "qwen3", "num_key_value_heads": 5}"#,
            "num_key_value_heads = 5: must divide num_attention_heads",
        ),
        (
            r#"{"model_type": "llama", "rope_scaling": {"rope_type": "longrope", "factor": 2}}"#,
            "rope_scaling.rope_type = \"longrope\": not supported; must be default, linear, \
             dynamic, llama3 or yarn",
        ),
        (
            r#"{"model_type": "llama", "rope_parameters": {"rope_type": "linear"}}"#,
            "rope_parameters: has no factor",
        ),
        (
            r#"{"model_type": "llama", "rope_parameters": {"partial_rotary_factor": 0.5}}"#,
            "rope_parameters.partial_rotary_factor = 0.5: not supported with default",
        ),
        (
            r#"{"model_type": "llama", "rope_parameters": {"full_attention": {"rope_theta": 1e4}}}"#,
            r#"rope_parameters.full_attention = {"rope_theta":10000.0}: not supported with default"#,
        ),
        (
            r#"{"model_type": "bert", "hidden_size": 30, "num_attention_heads": 4}"#,
            "num_attention_heads = 4: must divide hidden_size",
        ),
        (
            r#"{"model_type": "bert", "hidden_size": 0}"#,
            "hidden_size = 0: must be from 1 to 16777216",
        ),
        (
            r#"{"model_type": "bert", "num_hidden_layers": 2000000}"#,
            "num_hidden_layers = 2000000: must be from 1 to 1024",
        ),
        (
            r#"{"model_type": "bert", "hidden_dropout_prob": 1.0}"#,
            "hidden_dropout_prob = 1: must be at least 0 and below 1",
        ),
    ] {
        fs::write(&file, config).unwrap();
        let message = load(folder.path()).unwrap_err().to_string();
        assert_eq!(message, format!("{}: {expected}", file.display()));
    }
    fs::write(&file, "{").unwrap();
    assert!(matches!(load(folder.path()).unwrap_err(), Error::ModelFile { .. }));
    let nowhere = folder.path().join("nowhere");
    let message = load(&nowhere).unwrap_err().to_string();
    assert!(message.contains("nowhere/config.json: cannot read: No such file"), "{message}");
}

mod folder {
    use super::*;

    fn write(dir: &Path, overwrite: bool) -> Result<()> {
        model::write_folder(dir, overwrite, |dir| {
            fs::write(dir.join("config.json"), "new").unwrap();
            Ok(())
        })
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b/model");
        write(&dir, false).unwrap();
        assert_eq!(names(&dir), ["config.json"]);
        assert_eq!(names(dir.parent().unwrap()), ["model"]);

        let failed = model::write_folder(root.path().join("failed"), false, |dir| {
            fs::write(dir.join("config.json"), "half").unwrap();
            Err(Error::InvalidArgument("stop".into()))
        });
        assert_eq!(failed.unwrap_err().to_string(), "stop");
        assert_eq!(names(root.path()), ["a"]);
    }

    #[test]
    fn replaces_a_model_folder_if_allowed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("model");
        fs::create_dir(&dir).unwrap();
        write(&dir, false).unwrap();
        fs::write(dir.join("config.json"), "old").unwrap();
        fs::write(dir.join("extra"), "old").unwrap();

        let message = write(&dir, false).unwrap_err().to_string();
        assert!(message.contains("is there already and not empty"), "{message}");
        assert_eq!(fs::read_to_string(dir.join("config.json")).unwrap(), "old");
        let failed =
            model::write_folder(&dir, true, |_| Err(Error::InvalidArgument("stop".into())));
        assert!(failed.is_err());
        assert_eq!(names(&dir), ["config.json", "extra"]);
        write(&dir, true).unwrap();
        assert_eq!(fs::read_to_string(dir.join("config.json")).unwrap(), "new");
        assert_eq!(names(&dir), ["config.json"]);

        let other = root.path().join("photos");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("cat.png"), "meow").unwrap();
        let message = write(&other, true).unwrap_err().to_string();
        assert!(message.contains("not a model folder"), "{message}");
        assert_eq!(names(&other), ["cat.png"]);

        let message = write(&other.join("cat.png"), true).unwrap_err().to_string();
        assert!(message.contains("is a file"), "{message}");
        assert_eq!(names(root.path()), ["model", "photos"]);
    }

    #[test]
    fn a_target_that_cannot_be_written_is_refused_beforehand() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        assert!(model::check_target(&root.path().join("file/deeper/model"), false).is_err());
        let fine = root.path().join("not/yet/there");
        model::check_target(&fine, false).unwrap();
        assert_eq!(names(root.path()), ["file"]);
    }
}
