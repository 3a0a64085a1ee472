#![cfg(feature = "models")]
//! Texts for decoders: the response after the prompt, the end of the sequence, and the pad token.

use std::fs;
use std::path::Path;

use reward_model::tch::Device;
use reward_model::text::{Layout, Limits, Tokenizer};
use reward_model::{
    DecoderConfig, Error, Mode, RankedList, RewardModel, Scorer, TokenBatch, TokenizedText,
    Transformer,
};
use serde_json::{json, Value};

const WORDS: [&str; 12] =
    ["<s>", "</s>", "<unk>", "a", "b", "c", "ab", "abc", "?", "x", "\u{120}whatever", "\u{120}hm"];

/// Writes a tokenizer of words, as a decoder's: it puts `<s>` in front, and nothing behind.
fn write_tokenizer(dir: &Path, special: &[&str], config: &Value) {
    let words = WORDS.iter().chain(special.iter().filter(|token| !WORDS.contains(token)));
    let vocab: serde_json::Map<String, Value> =
        words.enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    let added: Vec<Value> = special
        .iter()
        .map(|token| {
            json!({"id": vocab[*token], "content": token, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let bos = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, sequence("A")],
            "pair": [bos, sequence("A"), bos, sequence("B")],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
        },
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    });
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(dir.join("tokenizer_config.json"), config.to_string()).unwrap();
}

fn load(special: &[&str], config: &Value) -> (tempfile::TempDir, Tokenizer) {
    let folder = tempfile::tempdir().unwrap();
    write_tokenizer(folder.path(), special, config);
    let tokenizer = Tokenizer::load(folder.path()).unwrap();
    (folder, tokenizer)
}

fn usual() -> Tokenizer {
    let config = json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"});
    let (_, tokenizer) = load(&["<s>", "</s>", "<unk>"], &config);
    tokenizer.with_layout(Layout::Continuation).unwrap()
}

fn words(tokenizer: &Tokenizer, text: &TokenizedText) -> Vec<&'static str> {
    let word = |&id: &u32| WORDS.into_iter().find(|word| tokenizer.token_id(word) == Some(id));
    text.ids.iter().map(|id| word(id).unwrap()).collect()
}

fn decoder(vocab_size: i64) -> Transformer {
    let config = DecoderConfig {
        vocab_size,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: Some(24),
        initializer_range: 0.3,
        ..DecoderConfig::default()
    };
    Transformer::random(config, 1, Device::Cpu).unwrap()
}

#[test]
fn a_response_follows_its_prompt_and_the_sequence_ends_once() {
    let tokenizer = usual();
    for (prompt, response, expected, of_prompt) in [
        (Some("a b ?"), "x", &["<s>", "a", "b", "?", "x", "</s>"][..], 4),
        (None, "x c", &["<s>", "x", "c", "</s>"], 0),
        (Some("a ?"), "x</s>", &["<s>", "a", "?", "x", "</s>"], 3),
        (Some("a </s> b"), " x", &["<s>", "a", "</s>", "b", "x", "</s>"], 4),
        // One word across the border: the response's.
        (Some("x ab"), "c", &["<s>", "x", "abc", "</s>"], 2),
    ] {
        let text = tokenizer.encode(prompt, response).unwrap();
        assert_eq!(words(&tokenizer, &text), expected, "{prompt:?} {response:?}");
        assert_eq!(text.prompt_len, of_prompt, "{prompt:?} {response:?}");
        assert!(text.segments.iter().all(|&segment| segment == 0));
    }
}

#[test]
fn all_responses_of_a_list_have_the_same_prompt() {
    let tokenizer = usual();
    let list = RankedList::new([" x", "c", " c"]).unwrap().with_prompt("? ab");
    let tokens = tokenizer.encode_list(&list).unwrap();
    let found: Vec<_> = tokens.texts.iter().map(|text| words(&tokenizer, text)).collect();
    assert_eq!(found[0], ["<s>", "?", "ab", "x", "</s>"]);
    assert_eq!(found[1], ["<s>", "?", "abc", "</s>"]);
    // The second response has swallowed the prompt's last word.
    assert!(tokens.texts.iter().all(|text| text.prompt_len == 2));
    assert!(!tokens.prompt_cut);
}

#[test]
fn a_prompt_loses_its_start_but_not_the_start_of_the_sequence() {
    let limits = Limits::new(7).with_max_prompt_length(2);
    let tokenizer = usual().with_limits(limits).unwrap();
    let list = RankedList::new([" x", " c x c"]).unwrap().with_prompt("a b c ?");
    let tokens = tokenizer.encode_list(&list).unwrap();
    assert!(tokens.prompt_cut);
    let found: Vec<_> = tokens.texts.iter().map(|text| words(&tokenizer, text)).collect();
    assert_eq!(found[0], ["<s>", "c", "?", "x", "</s>"]);
    assert_eq!(found[1], ["<s>", "c", "?", "c", "x", "c", "</s>"]);
    assert!(tokens.texts.iter().all(|text| text.prompt_len == 3));

    let list = RankedList::new([" x", " c x c x"]).unwrap().with_prompt("a b c ?");
    let error = tokenizer.encode_list(&list).unwrap_err();
    assert!(matches!(error, Error::TooLong { response: 1, tokens: 5, room: 4 }), "{error:?}");
}

#[test]
fn no_text_ends_with_the_pad_token() {
    let special = ["<s>", "</s>", "<unk>"];
    let with = |more: &[&'static str]| [&special[..], more].concat();
    let config = |pad: Option<&str>| {
        json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "unk_token": "<unk>",
               "pad_token": pad})
    };
    for (special, config, expected) in [
        // Its own, where that is not the end of the sequence.
        (with(&["[PAD]"]), config(Some("[PAD]")), "[PAD]"),
        (with(&[]), config(Some("<unk>")), "<unk>"),
        (with(&["<x>", "<|r_pad|>"]), config(Some("</s>")), "<|r_pad|>"),
        (with(&["<x>", "<|reserved_1|>"]), config(None), "<|reserved_1|>"),
        (with(&["<x>"]), config(Some("</s>")), "<x>"),
        (with(&[]), config(Some("</s>")), "<unk>"),
        (vec!["</s>"], json!({"eos_token": "</s>"}), "\u{120}whatever"),
    ] {
        let (_folder, tokenizer) = load(&special, &config);
        let tokenizer = tokenizer.with_layout(Layout::Continuation).unwrap();
        assert_eq!(tokenizer.pad_id(), tokenizer.token_id(expected), "{expected}");

        // The folder says so in both places where Python looks.
        let saved = tempfile::tempdir().unwrap();
        let scorer = Scorer::new(Box::new(decoder(20)), tokenizer).unwrap();
        scorer.write_into(saved.path()).unwrap();
        let read = |name: &str| -> Value {
            serde_json::from_str(&fs::read_to_string(saved.path().join(name)).unwrap()).unwrap()
        };
        assert_eq!(read("tokenizer_config.json")["pad_token"], json!(expected));
        assert_eq!(read("config.json")["pad_token_id"], json!(scorer.tokenizer().pad_id()));
        let again = Scorer::load(saved.path(), Device::Cpu).unwrap();
        assert_eq!(again.tokenizer().pad_id(), scorer.tokenizer().pad_id());
        let list = RankedList::new(["x", "a b"]).unwrap().with_prompt("? </s> c ");
        assert_eq!(again.score_list(&list).unwrap(), scorer.score_list(&list).unwrap());
    }
}

/// With pad = eos in the folder, and the end of a sequence inside the prompt.
#[test]
fn the_reward_is_read_at_the_last_token_whatever_its_id() {
    let model = decoder(20);
    let list = RankedList::new([" x", " b c"]).unwrap().with_prompt("a </s> ?");
    let expected: Vec<f32> = [&[0, 3, 1, 8, 9, 1][..], &[0, 3, 1, 8, 4, 5, 1]]
        .iter()
        .map(|ids| {
            let text = TokenizedText::from_ids(ids.to_vec());
            let batch = TokenBatch::from_texts([&text]).unwrap();
            model.forward(&batch, Mode::Evaluation).unwrap().double_value(&[0, 0]) as f32
        })
        .collect();
    let config = json!({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"});
    let (_folder, tokenizer) = load(&["<s>", "</s>"], &config);
    let scorer = Scorer::new(Box::new(model), tokenizer).unwrap();
    for (found, expected) in scorer.score_list(&list).unwrap().into_iter().zip(expected) {
        approx::assert_abs_diff_eq!(found, expected, epsilon = 1e-5);
    }
}

#[test]
fn tokenizers_that_do_not_fit_are_refused() {
    let (_folder, tokenizer) = load(&["<s>"], &json!({"bos_token": "<s>"}));
    let message = tokenizer.with_layout(Layout::Continuation).unwrap_err().to_string();
    assert!(message.contains("must name an eos_token"), "{message}");

    let message = Scorer::new(Box::new(decoder(11)), usual()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        message,
        "the tokenizer has 12 token ids and the model knows 11; use the tokenizer of the model's own \
         folder, or give the model a vocab_size of 12"
    );
}

#[test]
fn lists_are_scored_as_their_texts_are() {
    let scorer = Scorer::new(Box::new(decoder(20)), usual()).unwrap();
    let text = |ids: &[u32]| TokenizedText::from_ids(ids);
    // More than one batch takes, with a long beginning in common.
    let common: Vec<u32> = (0..400).map(|n| n % 7 + 2).collect();
    let long =
        |n: u32| text(&[&common[..], &[n % 9, 3, n % 5, 1][..(1 + n as usize % 4)]].concat());
    let lists = [
        (0..70).map(long).collect(),
        vec![],
        vec![text(&[5])],
        vec![text(&[5, 6, 7]), text(&[5, 6, 8, 9]), text(&[5, 6, 7])],
    ];
    let slices: Vec<&[TokenizedText]> = lists.iter().map(Vec::as_slice).collect();
    let found = scorer.score_tokenized_lists(&slices).unwrap();
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [70, 0, 1, 3]);
    let alone = lists.iter().flatten().map(|text| scorer.score_tokenized(&[text]).unwrap()[0]);
    for (found, alone) in found.iter().flatten().zip(alone) {
        approx::assert_abs_diff_eq!(*found, alone, epsilon = 1e-5);
    }
}
