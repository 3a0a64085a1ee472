#![cfg(feature = "text")]
//! From text to tokens: what a model reads, and what happens to the files it comes from.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use reward_model::text::{length_grouped_batches, sorted_batches, Limits, Tokenizer};
use reward_model::{Error, RankedList, TokenBatch, TokenizedText};

const TEXTS: [&str; 8] = [
    "The soup was superb, the bread was warm.",
    "the soup was cold; the bread, stale!",
    "Would you recommend it? I would recommend it.",
    "这家店的面很好吃，老板也很热情。",
    "这家店的面不好吃，老板不热情。",
    "Größe und Café",
    "it's 100% fine",
    "warm warmer warmest warmly",
];

fn tokenizer() -> Tokenizer {
    Tokenizer::train(TEXTS, 400).unwrap()
}

/// The tokens of a text by their names.
fn names(tokenizer: &Tokenizer, text: &TokenizedText) -> Vec<String> {
    let json = saved(tokenizer);
    let vocab = json["model"]["vocab"].as_object().unwrap();
    let name = |id: u32| vocab.iter().find(|(_, v)| v.as_u64() == Some(id.into())).unwrap().0;
    text.ids.iter().map(|&id| name(id).clone()).collect()
}

fn saved(tokenizer: &Tokenizer) -> serde_json::Value {
    let folder = tempfile::tempdir().unwrap();
    tokenizer.save(folder.path()).unwrap();
    let json = fs::read_to_string(folder.path().join("tokenizer.json")).unwrap();
    serde_json::from_str(&json).unwrap()
}

fn encode(tokenizer: &Tokenizer, prompt: Option<&str>, response: &str) -> TokenizedText {
    tokenizer.encode(prompt, response).unwrap()
}

mod training {
    use super::*;

    #[test]
    fn gives_the_same_file_for_the_same_texts_in_any_order() {
        let json = |texts: &[&str]| saved(&Tokenizer::train(texts.iter().copied(), 150).unwrap());
        let first = json(&TEXTS);
        for _ in 0..3 {
            assert_eq!(first, json(&TEXTS));
        }
        let mut other = TEXTS;
        other.reverse();
        assert_eq!(first, json(&other));
        assert_ne!(first, json(&TEXTS[1..]));
    }

    #[test]
    fn knows_its_special_tokens_and_keeps_to_its_size() {
        let tokenizer = tokenizer();
        for (id, token) in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].iter().enumerate() {
            assert_eq!(tokenizer.token_id(token), Some(id as u32));
        }
        assert_eq!(tokenizer.pad_id(), Some(0));
        for size in [7, 30, 100] {
            let tokenizer = Tokenizer::train(TEXTS, size).unwrap();
            assert!(tokenizer.vocab_size() <= size, "{} of {size}", tokenizer.vocab_size());
            let ids = encode(&tokenizer, Some(TEXTS[0]), TEXTS[3]).ids;
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        }
        assert!(matches!(Tokenizer::train(TEXTS, 6), Err(Error::Config { .. })));
        for nothing in [vec![], vec![""], vec![" \n\t"]] {
            assert!(matches!(Tokenizer::train(nothing, 100), Err(Error::Tokenizer { .. })));
        }
    }

    #[test]
    fn serves_english_and_chinese_alike() {
        let tokenizer = tokenizer();
        assert_eq!(
            names(&tokenizer, &encode(&tokenizer, None, "The bread WAS warm")),
            ["[CLS]", "the", "bread", "was", "warm", "[SEP]"]
        );
        assert_eq!(
            names(&tokenizer, &encode(&tokenizer, None, "老板热情,好吃")),
            ["[CLS]", "老", "板", "热", "情", ",", "好", "吃", "[SEP]"]
        );
        // Accents and case go, an unknown character makes its word unknown and no other.
        assert_eq!(
            names(&tokenizer, &encode(&tokenizer, None, "CAFÉ 猫 warm")),
            names(&tokenizer, &encode(&tokenizer, None, "cafe 狗 warm"))
        );
        let unknown = encode(&tokenizer, None, "good 猫 bread");
        assert_eq!(unknown.ids.iter().filter(|&&id| id == 1).count(), 1);
    }
}

mod template {
    use super::*;

    #[test]
    fn is_that_of_bert() {
        let tokenizer = tokenizer();
        let alone = encode(&tokenizer, None, "warm bread");
        assert_eq!(names(&tokenizer, &alone), ["[CLS]", "warm", "bread", "[SEP]"]);
        assert_eq!((&alone.segments[..], alone.prompt_len), (&[0; 4][..], 0));

        let pair = encode(&tokenizer, Some("the soup"), "warm");
        assert_eq!(names(&tokenizer, &pair), ["[CLS]", "the", "soup", "[SEP]", "warm", "[SEP]"]);
        assert_eq!(pair.segments, [0, 0, 0, 0, 1, 1]);
        assert_eq!(pair.prompt_len, 4);

        let empty = encode(&tokenizer, Some(""), "warm");
        assert_eq!(names(&tokenizer, &empty), ["[CLS]", "[SEP]", "warm", "[SEP]"]);
        assert_eq!(empty.prompt_len, 2);
    }

    /// As `BertTokenizerFast` of transformers 4.57.6 and 5.23.0 does with `tokenizer(text)`.
    #[test]
    fn special_tokens_in_a_text_are_special_tokens() {
        let tokenizer = tokenizer();
        let text = encode(&tokenizer, None, "warm [SEP] bread[MASK]");
        assert_eq!(
            names(&tokenizer, &text),
            ["[CLS]", "warm", "[SEP]", "bread", "[MASK]", "[SEP]"]
        );
        let pair = encode(&tokenizer, Some("[SEP]"), "warm");
        assert_eq!(names(&tokenizer, &pair), ["[CLS]", "[SEP]", "[SEP]", "warm", "[SEP]"]);
        assert_eq!((&pair.segments[..], pair.prompt_len), (&[0, 0, 0, 1, 1][..], 3));
    }

    #[test]
    fn split_special_tokens_takes_that_power_away() {
        let folder = tempfile::tempdir().unwrap();
        tokenizer().save(folder.path()).unwrap();
        let file = folder.path().join("tokenizer_config.json");
        let config = fs::read_to_string(&file).unwrap();
        fs::write(&file, config.replacen('{', r#"{"split_special_tokens": true,"#, 1)).unwrap();
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        let text = encode(&tokenizer, None, "[SEP]");
        assert_eq!(text.ids.iter().filter(|&&id| id == 3).count(), 1);
    }
}

mod limits {
    use super::*;

    fn short() -> Tokenizer {
        let limits = Limits::new(12).with_max_prompt_length(4);
        tokenizer().with_limits(limits).unwrap()
    }

    #[test]
    fn a_prompt_loses_its_start_whatever_the_responses_are() {
        let tokenizer = short();
        let list = |responses: &[&str]| {
            RankedList::new(responses.to_vec())
                .unwrap()
                .with_prompt("superb cold stale the soup was warm")
        };
        for responses in [&["warm", "the bread was warm"][..], &["bread"]] {
            let tokens = tokenizer.encode_list(&list(responses)).unwrap();
            assert!(tokens.prompt_cut);
            for text in &tokens.texts {
                assert_eq!(
                    names(&tokenizer, text)[..6],
                    ["[CLS]", "the", "soup", "was", "warm", "[SEP]"]
                );
                assert_eq!(text.prompt_len, 6);
            }
        }
        let fits = RankedList::new(["warm"]).unwrap().with_prompt("the soup was warm");
        assert!(!tokenizer.encode_list(&fits).unwrap().prompt_cut);
    }

    #[test]
    fn a_response_is_whole_or_an_error() {
        let tokenizer = short();
        // 12 tokens, of which [CLS] and [SEP] are two.
        assert_eq!(encode(&tokenizer, None, &"warm ".repeat(10)).ids.len(), 12);
        let error = |prompt, response: &str| match tokenizer.encode(prompt, response) {
            Err(Error::TooLong { response, tokens, room }) => (response, tokens, room),
            other => panic!("{other:?}"),
        };
        assert_eq!(error(None, &"warm ".repeat(11)), (0, 11, 10));
        // With a prompt of two tokens there are three special ones; of a cut one, four are left.
        assert_eq!(error(Some("the soup"), &"warm ".repeat(8)), (0, 8, 7));
        assert_eq!(error(Some(&"soup ".repeat(50)), &"warm ".repeat(6)), (0, 6, 5));

        let list = RankedList::new(["warm".into(), "soup ".repeat(20)]).unwrap();
        let error = tokenizer.encode_list(&list).unwrap_err();
        assert!(matches!(error, Error::TooLong { response: 1, tokens: 20, room: 10 }), "{error}");
    }

    #[test]
    fn are_saved_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        short().save(folder.path()).unwrap();
        assert_eq!(Tokenizer::load(folder.path()).unwrap().limits(), short().limits());

        for (limits, field) in [
            (Limits::new(4), "max_length"),
            (Limits::new(12).with_max_prompt_length(0), "max_prompt_length"),
            (Limits::new(12).with_max_prompt_length(9), "max_prompt_length"),
        ] {
            let Err(Error::Config { field: found, .. }) = tokenizer().with_limits(limits) else {
                panic!("{limits:?} is accepted");
            };
            assert_eq!(found, field);
        }
        assert!(tokenizer().with_limits(Limits::new(5).with_max_prompt_length(1)).is_ok());
    }
}

proptest! {
    #[test]
    fn every_way_to_encode_gives_the_same_tokens(
        lists in prop::collection::vec(
            (prop::option::of(".{0,20}"), prop::collection::vec("[a-z好吃 ]{0,20}x", 1..4)), 0..5),
    ) {
        let tokenizer = tokenizer().with_limits(Limits::new(40)).unwrap();
        let lists: Vec<RankedList> = lists
            .into_iter()
            .map(|(prompt, responses)| {
                RankedList::new(responses).unwrap().with_prompt(prompt.unwrap_or_default())
            })
            .collect();
        let together = tokenizer.encode_lists(&lists);
        prop_assert_eq!(together.len(), lists.len());
        for (list, tokens) in lists.iter().zip(together) {
            let one_by_one: Vec<_> = list
                .responses()
                .iter()
                .map(|response| tokenizer.encode(list.prompt(), response.text()))
                .collect();
            let pairs: Vec<_> =
                list.responses().iter().map(|r| (list.prompt(), r.text())).collect();
            let pairs = tokenizer.encode_pairs(&pairs);
            match tokens {
                Ok(tokens) => {
                    for ((text, one), pair) in tokens.texts.iter().zip(&one_by_one).zip(&pairs) {
                        prop_assert_eq!(text, one.as_ref().unwrap());
                        prop_assert_eq!(text, pair.as_ref().unwrap());
                        prop_assert!(text.ids.len() <= 40 && text.ids.len() == text.segments.len());
                        let last = text.segments[text.ids.len() - 1];
                        prop_assert_eq!(last, u8::from(list.prompt().is_some()));
                    }
                }
                Err(Error::TooLong { .. }) => prop_assert!(one_by_one.iter().any(Result::is_err)),
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }

    #[test]
    fn no_text_is_too_strange(text in any::<String>(), prompt in any::<String>()) {
        let tokens = encode(&tokenizer(), Some(&prompt), &text);
        prop_assert_eq!(tokens.ids[0], 2);
        prop_assert_eq!(tokens.ids.last(), Some(&3));
    }

    #[test]
    fn damaged_files_never_panic(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), config in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        Tokenizer::train(["a b", "c"], 30).unwrap().save(folder.path()).unwrap();
        let name = if config { "tokenizer_config.json" } else { "tokenizer.json" };
        let file = folder.path().join(name);
        let mut bytes = fs::read(&file).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fs::write(&file, bytes).unwrap();
        match Tokenizer::load(folder.path()) {
            Ok(tokenizer) => drop(tokenizer.encode(Some("a"), "b c")),
            Err(error) => prop_assert!(error.to_string().contains("tokenizer"), "{}", error),
        }
    }
}

mod files {
    use super::*;

    fn load_error(path: &Path) -> String {
        Tokenizer::load(path).unwrap_err().to_string()
    }

    #[test]
    fn survive_a_round_trip_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        tokenizer().save(&first).unwrap();
        // Blank space and fields that mean nothing here.
        let config = first.join("tokenizer_config.json");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replacen('{', "{\n\n \"chat_template\": \"x\",", 1)).unwrap();
        fs::write(first.join("special_tokens_map.json"), r#"{"pad_token":  "[PAD]"}"#).unwrap();
        Tokenizer::load(&first).unwrap().save(&second).unwrap();
        for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
            assert_eq!(
                fs::read_to_string(first.join(name)).unwrap(),
                fs::read_to_string(second.join(name)).unwrap()
            );
        }
        // The file alone will do, with limits and pad token as is usual.
        let alone = folder.path().join("alone.json");
        fs::copy(first.join("tokenizer.json"), &alone).unwrap();
        let loaded = Tokenizer::load(&alone).unwrap();
        assert_eq!((loaded.limits(), loaded.pad_id()), (Limits::default(), Some(0)));
        assert_eq!(
            encode(&loaded, Some("the soup"), "好吃 warm"),
            encode(&tokenizer(), Some("the soup"), "好吃 warm")
        );
    }

    #[test]
    fn stored_truncation_and_padding_are_not_applied() {
        let folder = tempfile::tempdir().unwrap();
        tokenizer().save(folder.path()).unwrap();
        let file = folder.path().join("tokenizer.json");
        let mut json: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        json["truncation"] = serde_json::json!({
            "max_length": 4, "stride": 0, "strategy": "LongestFirst", "direction": "Right"
        });
        json["padding"] = serde_json::json!({
            "strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"
        });
        fs::write(&file, json.to_string()).unwrap();
        let loaded = Tokenizer::load(folder.path()).unwrap();
        let text = "the soup was warm and the bread was cold";
        assert_eq!(encode(&loaded, None, text), encode(&tokenizer(), None, text));
    }

    #[test]
    fn that_are_missing_or_wrong_are_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load_error(folder.path()).contains("tokenizer.json: cannot read"));
        for content in ["", "{", "[]", "{}", r#"{"model": {"type": "WordPiece"}}"#] {
            fs::write(folder.path().join("tokenizer.json"), content).unwrap();
            let message = load_error(folder.path());
            let file = folder.path().join("tokenizer.json");
            assert!(message.contains(&file.display().to_string()), "{message}");
        }
        tokenizer().save(folder.path()).unwrap();
        fs::write(folder.path().join("tokenizer_config.json"), "[1]").unwrap();
        assert!(load_error(folder.path()).contains("tokenizer_config.json"));
    }
}

mod batches {
    use super::*;

    proptest! {
        #[test]
        fn hold_every_item_once(
            lengths in prop::collection::vec(0usize..500, 0..200),
            size in 1usize..20,
            tokens in 1usize..3000,
            seed in any::<u64>(),
        ) {
            let grouped = length_grouped_batches(&lengths, size, seed);
            prop_assert_eq!(grouped.len(), lengths.len().div_ceil(size));
            for (at, batch) in grouped.iter().enumerate() {
                prop_assert!(batch.len() == size || at + 1 == grouped.len());
            }
            prop_assert_eq!(&grouped, &length_grouped_batches(&lengths, size, seed));

            let sorted = sorted_batches(&lengths, size, tokens);
            for batch in &sorted {
                let longest = batch.iter().map(|&at| lengths[at]).max().unwrap();
                prop_assert!(batch.len() <= size);
                prop_assert!(batch.len() == 1 || batch.len() * longest <= tokens);
            }
            for mut all in [grouped.concat(), sorted.concat()] {
                all.sort_unstable();
                prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
            }
        }
    }

    /// A run that is resumed, perhaps on another machine, meets the same lists.
    #[test]
    fn follow_from_the_seed() {
        let lengths = [5, 1, 4, 1, 5, 9, 2, 6, 5, 3];
        assert_eq!(
            length_grouped_batches(&lengths, 3, 42),
            [vec![1, 6, 9], vec![2, 0, 4], vec![8, 7, 5], vec![3]]
        );
        assert_ne!(
            length_grouped_batches(&lengths, 3, 42),
            length_grouped_batches(&lengths, 3, 43)
        );
    }

    #[test]
    fn hold_little_padding_and_differ_between_epochs() {
        let lengths: Vec<usize> = (0..1000).map(|n| 5 + n * 7919 % 200).collect();
        let padded = |batches: &[Vec<usize>]| -> usize {
            let longest = |batch: &Vec<usize>| batch.iter().map(|&at| lengths[at]).max().unwrap();
            batches.iter().map(|batch| batch.len() * longest(batch)).sum()
        };
        let real: usize = lengths.iter().sum();
        let in_order: Vec<Vec<usize>> =
            (0..1000).collect::<Vec<_>>().chunks(8).map(<[usize]>::to_vec).collect();
        assert!(padded(&in_order) as f64 > 1.5 * real as f64);
        let mut partners = std::collections::HashSet::new();
        for seed in 0..4 {
            let batches = length_grouped_batches(&lengths, 8, seed);
            assert!((padded(&batches) as f64) < 1.1 * real as f64);
            partners.extend(batches.iter().find(|batch| batch.contains(&0)).unwrap().clone());
        }
        assert!(partners.len() > 20, "item 0 meets the same items: {partners:?}");
    }

    #[test]
    fn of_tokens_know_their_lists_and_texts() {
        let text = |ids: &[u32]| TokenizedText::from_ids(ids);
        let pair = TokenizedText::new(vec![7, 8, 9], vec![0, 1, 1], 1).unwrap();
        let lists = [vec![text(&[1, 2]), pair], vec![], vec![text(&[3])]];
        let batch = TokenBatch::from_lists(lists.iter().map(Vec::as_slice)).unwrap();
        assert_eq!((batch.lists(), batch.texts(), batch.tokens()), (3, 3, 6));
        assert_eq!(batch.ids(), [1, 2, 7, 8, 9, 3]);
        assert_eq!(batch.segments(), [0, 0, 0, 1, 1, 0]);
        assert_eq!(batch.text_offsets(), [0, 2, 5, 6]);
        assert_eq!(batch.list_offsets(), [0, 2, 2, 3]);
        assert_eq!(batch.prompt_lens(), [0, 1, 0]);
        assert_eq!(batch.lengths().collect::<Vec<_>>(), [2, 3, 1]);
        assert_eq!((batch.list(0), batch.list(1), batch.text(1)), (0..2, 2..2, &[7, 8, 9][..]));

        assert!(TokenBatch::from_texts(&[text(&[])]).is_err());
        assert!(TokenizedText::new(vec![1], vec![0, 0], 0).is_err());
        assert!(TokenizedText::new(vec![1], vec![0], 2).is_err());
        let mut odd = text(&[1, 2]);
        odd.segments.pop();
        assert!(TokenBatch::from_texts(&[odd]).is_err());
    }
}
