#![cfg(feature = "text")]
//! Tokenizers as folders hold them: what `tokenizer_config.json` overrules, what is refused, and
//! files that mean harm.

use std::fs;

use reward_model::text::Tokenizer;
use reward_model::Result;
use serde_json::{json, Value};

/// The tokenizer of a folder with these files.
fn load(tokenizer: &Value, config: Option<&Value>) -> Result<Tokenizer> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    if let Some(config) = config {
        fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    }
    Tokenizer::load(folder.path())
}

fn refusal(tokenizer: &Value, config: &Value) -> String {
    load(tokenizer, Some(config)).unwrap_err().to_string()
}

/// `a` is 3, and with a space in front 4.
fn bytes(add_prefix_space: bool) -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "decoder": null, "post_processor": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": add_prefix_space,
                          "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "unk_token": "<unk>", "merges": [["\u{120}", "a"]],
                  "vocab": {"<s>": 0, "</s>": 1, "<unk>": 2, "a": 3, "\u{120}a": 4, "\u{120}": 5}},
    })
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(None, text).unwrap().ids
}

/// As transformers 4.57.6 and 5.23.0 give them.
#[test]
fn the_configuration_says_whether_a_text_gets_a_space_in_front() {
    let gpt2 =
        |said: Value| json!({"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": said});
    for (file, config, expected) in [
        (false, Some(gpt2(true.into())), 4),
        (true, Some(gpt2(false.into())), 3),
        (true, Some(json!({"tokenizer_class": "RobertaTokenizer"})), 3),
        (true, Some(json!({})), 3),
        (true, None, 3),
        (false, None, 3),
        (true, Some(json!({"tokenizer_class": "TokenizersBackend", "add_prefix_space": true})), 4),
    ] {
        let tokenizer = load(&bytes(file), config.as_ref()).unwrap();
        assert_eq!(ids(&tokenizer, "a"), [expected], "{file} {config:?}");
        // The same once it is saved.
        let folder = tempfile::tempdir().unwrap();
        tokenizer.save(folder.path()).unwrap();
        assert_eq!(ids(&Tokenizer::load(folder.path()).unwrap(), "a"), [expected], "{config:?}");
    }
    // Version 4 goes by the one file, version 5 by the other.
    let generic = json!({"tokenizer_class": "PreTrainedTokenizerFast"});
    let message = refusal(&bytes(true), &generic);
    assert!(
        message.contains("add_prefix_space is true in tokenizer.json, but absent"),
        "{message}"
    );
    let said = json!({"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": true});
    let message = refusal(&bytes(false), &said);
    assert!(message.contains("is false in tokenizer.json, but true in"), "{message}");
}

#[test]
fn an_end_token_that_the_template_does_not_add_is_refused() {
    let names = json!({"bos_token": "<s>", "eos_token": "</s>"});
    let with = |fields: Value| {
        let mut config = names.clone();
        config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        config
    };
    let bare = bytes(false);
    let mut started = bytes(false);
    started["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    });
    let llama = json!({"tokenizer_class": "LlamaTokenizerFast"});
    for (tokenizer, config) in [
        (&bare, json!({})),
        (&bare, json!({"add_bos_token": false, "add_eos_token": false})),
        (&bare, json!({"tokenizer_class": "LlamaTokenizer", "add_bos_token": false})),
        (&started, json!({"add_bos_token": true})),
        (&started, llama.clone()),
        (&started, json!({"tokenizer_class": "PreTrainedTokenizerFast"})),
    ] {
        load(tokenizer, Some(&with(config.clone()))).unwrap_or_else(|e| panic!("{config}: {e}"));
    }
    for (tokenizer, config, expected) in [
        (&bare, json!({"add_bos_token": true}), "add_bos_token is true"),
        (&bare, llama, "add_bos_token is absent (which is true for LlamaTokenizerFast)"),
        (&bare, json!({"add_eos_token": true}), "add_eos_token is true"),
        (&started, json!({"add_bos_token": false}), "add_bos_token is false"),
    ] {
        let message = refusal(tokenizer, &with(config.clone()));
        assert!(message.contains(expected), "{config}: {message}");
        assert!(message.contains("tokenizer.json"), "{message}");
    }
    // Without the token there is nothing to add.
    load(&bare, Some(&json!({"add_bos_token": true}))).unwrap();
}

#[test]
fn files_that_make_the_tokenizer_fail_are_errors() {
    // A table whose offsets lead nowhere, as XLM-R has one.
    let mut table = bytes(false);
    table["normalizer"] =
        json!({"type": "Precompiled", "precompiled_charsmap": "BAAAAP/9/38AYQA="});
    // A regular expression that tries every way there is.
    let mut regex = bytes(false);
    regex["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "(a|aa|a+)+$"},
                                    "behavior": "Isolated", "invert": false});
    for (file, text) in [(table, "a".to_owned()), (regex, "a".repeat(60) + "!")] {
        if let Ok(tokenizer) = load(&file, None) {
            let message = tokenizer.encode(Some("b"), &text).unwrap_err().to_string();
            assert!(message.contains("tokenizer"), "{message}");
        }
    }
}

#[test]
fn a_short_file_that_makes_texts_enormous_is_refused() {
    let replace = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(64)});
    let mut bomb = bytes(false);
    bomb["normalizer"] = json!({"type": "Sequence", "normalizers": vec![replace; 6]});
    let message = load(&bomb, None).unwrap_err().to_string();
    assert!(message.contains("tokenizer.json") && message.contains("times longer"), "{message}");
}
