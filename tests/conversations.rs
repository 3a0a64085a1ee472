#![cfg(all(feature = "data", feature = "text"))]
//! Conversations in ranked lists, and texts for decoders: from a line of JSONL to tokens.

use std::fs;
use std::path::Path;

use reward_model::data::{Format, Reader};
use reward_model::text::{Layout, Limits, Tokenizer};
use reward_model::{Error, Message, RankedList};
use serde_json::{json, Value};

const CHAT: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}\
                    {% if add_generation_prompt %}<|assistant|>{% endif %}";

fn read(line: &str) -> Result<RankedList, String> {
    let mut lists = Reader::new(line.as_bytes(), "t", Format::Jsonl);
    lists.next().unwrap().map_err(|error| error.to_string())
}

fn messages(value: Value) -> Vec<Message> {
    serde_json::from_value(value).unwrap()
}

mod lists {
    use super::*;

    #[test]
    fn the_common_beginning_is_the_prompt() {
        let ask = json!({"role": "user", "content": "2 + 2?"});
        let say = |what: &str| json!({"role": "assistant", "content": what});
        let line = json!({"chosen": [ask, say("4")], "rejected": [ask, say("5"), ask]});
        let list = read(&line.to_string()).unwrap();
        assert_eq!(list.conversation().unwrap(), messages(json!([ask])));
        assert_eq!(list.prompt(), None);
        assert_eq!(list.responses()[0].messages().unwrap(), messages(json!([say("4")])));
        assert_eq!(list.responses()[1].messages().unwrap(), messages(json!([say("5"), ask])));
        assert_eq!((list.responses()[0].text(), list.responses()[1].text()), ("4", "2 + 2?"));

        // Even of equal conversations, a message is left for each.
        let line = json!({"chosen": [ask, say("4")], "rejected": [ask, say("4")]});
        let list = read(&line.to_string()).unwrap();
        assert_eq!(list.conversation().unwrap().len(), 1);
        let line = json!({"responses": [[ask, say("a"), ask, say("4")]]});
        let list = read(&line.to_string()).unwrap();
        assert_eq!(list.conversation().unwrap().len(), 3);
    }

    #[test]
    fn read_back_equal() {
        let ask = json!({"role": "user", "content": "?", "name": "Ann", "b": 1, "a": null});
        let say = |what: &str| json!({"role": "assistant", "content": what});
        for line in [
            json!({"prompt": [ask], "responses": ["a", "b"], "ranks": [2, 1]}),
            json!({"prompt": [ask], "responses": ["a", [say("b")]], "scores": [1.5, 2.0]}),
            json!({"prompt": [], "chosen": [ask, say("b")], "rejected": [ask, say("c")]}),
            json!({"responses": [[say("a")], [say("b"), say("c")], [say("a")]], "ranks": [2, 1, 2]}),
            json!({"prompt": "p", "responses": ["a"]}),
        ] {
            let list = read(&line.to_string()).unwrap();
            let written = serde_json::to_string(&list).unwrap();
            assert_eq!(read(&written).unwrap(), list, "{written}");
            assert!(!written.contains("null"), "{written}");
        }
        let list = read(&json!({"prompt": [ask], "responses": ["a"]}).to_string()).unwrap();
        let kept: Vec<_> = list.conversation().unwrap()[0].extra.keys().collect();
        assert_eq!(kept, ["name", "b"]);
    }

    #[test]
    fn errors_name_the_field() {
        for (line, expected) in [
            (
                r#"{"prompt": [{"role": "user", "content": 1}], "responses": ["a"]}"#,
                "t:1: prompt[0].content: expected a string, found the number 1",
            ),
            (
                r#"{"prompt": [{"content": "a"}], "responses": ["a"]}"#,
                "t:1: prompt[0].role: is missing; a message has a \"role\" and a \"content\"",
            ),
            (
                r#"{"prompt": 3, "responses": ["a"]}"#,
                "t:1: prompt: expected a string or an array of messages, found the number 3",
            ),
            (
                r#"{"responses": ["a", [{"role": "a", "content": "b"}, 7]]}"#,
                "t:1: responses[1][1]: expected a message, found the number 7",
            ),
            (
                r#"{"chosen": [], "rejected": "a"}"#,
                "t:1: chosen: is empty; every response needs a message",
            ),
            (
                r#"{"chosen": "a", "rejected": [{"role": "a", "content": " "}]}"#,
                "t:1: rejected[0].content: is empty or only white space; every response needs text",
            ),
            (
                r#"{"prompt": "p", "responses": [[{"role": "a", "content": "b"}]]}"#,
                "t:1: prompt: is a string, but there are responses of messages; give messages",
            ),
        ] {
            assert_eq!(read(line).unwrap_err(), expected);
        }
    }
}

/// A tokenizer with a token for each of some words and characters, whose template is `<s> $A`.
fn folder(special: &[&str], words: &[&str], config: &Value) -> tempfile::TempDir {
    let characters: Vec<String> = (' '..='~').map(String::from).collect();
    let tokens = special.iter().copied().chain(characters.iter().map(|c| &**c));
    let tokens: Vec<&str> = tokens.chain(words.iter().copied()).collect();
    let vocab: serde_json::Map<_, _> =
        tokens.iter().zip(0..).map(|(token, id)| (token.to_string(), json!(id))).collect();
    let added: Vec<Value> = special
        .iter()
        .zip(0..)
        .map(|(token, id)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let pieces = |names: &[&str]| -> Vec<Value> {
        names.iter().map(|name| json!({"Sequence": {"id": name, "type_id": 0}})).collect()
    };
    let bos = json!({"SpecialToken": {"id": special[0], "type_id": 0}});
    let with_bos = |names: &[&str]| [vec![bos.clone()], pieces(names)].concat();
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": added, "pre_tokenizer": null, "decoder": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": with_bos(&["A"]), "pair": with_bos(&["A", "B"]),
            "special_tokens": {special[0]: {"id": special[0], "ids": [0], "tokens": [special[0]]}},
        },
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "vocab": vocab,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false,
                  "merges": [["a", "b"]]},
    });
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "tokenizer.json", &json);
    write(folder.path(), "tokenizer_config.json", config);
    folder
}

fn write(folder: &Path, name: &str, json: &Value) {
    fs::write(folder.join(name), json.to_string()).unwrap();
}

const SPECIAL: [&str; 7] =
    ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>", "<unk>", "<|reserved_0|>"];

fn config() -> Value {
    json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "unk_token": "<unk>",
           "chat_template": [{"name": "tools", "template": "no"}, {"name": "default", "template": CHAT}]})
}

fn decoder(config: &Value) -> Tokenizer {
    let folder = folder(&SPECIAL, &["ab"], config);
    Tokenizer::load(folder.path()).unwrap().with_layout(Layout::Continuation).unwrap()
}

/// The tokens of a text whose every token is a character, a special token or "ab".
fn ids(tokenizer: &Tokenizer, tokens: &[&str]) -> Vec<u32> {
    tokens.iter().map(|token| tokenizer.token_id(token).unwrap()).collect()
}

mod texts {
    use super::*;

    #[test]
    fn are_prompt_response_and_eos_as_one() {
        let tokenizer = decoder(&config());
        let text = tokenizer.encode(Some("xa"), "bc").unwrap();
        assert_eq!(text.ids, ids(&tokenizer, &["<s>", "x", "ab", "c", "</s>"]));
        // "ab" is of both, and so of the response.
        assert_eq!((text.prompt_len, &text.segments[..]), (2, &[0; 5][..]));

        let text = tokenizer.encode(Some("</s>x"), "c</s>").unwrap();
        assert_eq!(text.ids, ids(&tokenizer, &["<s>", "</s>", "x", "c", "</s>"]));
        assert_eq!(text.prompt_len, 3);

        let text = tokenizer.encode(None, "c").unwrap();
        assert_eq!(text.ids, ids(&tokenizer, &["<s>", "c", "</s>"]));
        assert_eq!(text.prompt_len, 0);
    }

    #[test]
    fn of_a_list_share_one_prompt() {
        let tokenizer = decoder(&config());
        let list = RankedList::new(["bc", "c"]).unwrap().with_prompt("xa");
        let tokens = tokenizer.encode_list(&list).unwrap();
        assert_eq!(tokens.texts[0].ids, ids(&tokenizer, &["<s>", "x", "ab", "c", "</s>"]));
        assert_eq!(tokens.texts[1].ids, ids(&tokenizer, &["<s>", "x", "a", "c", "</s>"]));
        assert_eq!(tokens.texts[0].prompt_len, 2);
        assert_eq!(tokens.texts[1].prompt_len, 2);
    }

    #[test]
    fn lose_the_beginning_of_a_long_prompt_and_keep_bos() {
        let limits = Limits::new(10).with_max_prompt_length(4);
        let tokenizer = decoder(&config()).with_limits(limits).unwrap();
        let list = RankedList::new(["x", "yz"]).unwrap().with_prompt("123456789");
        let tokens = tokenizer.encode_list(&list).unwrap();
        assert!(tokens.prompt_cut);
        let first = ["<s>", "6", "7", "8", "9", "x", "</s>"];
        assert_eq!(tokens.texts[0].ids, ids(&tokenizer, &first));
        assert_eq!((tokens.texts[0].prompt_len, tokens.texts[1].prompt_len), (5, 5));

        let list = RankedList::new(["x", "12345"]).unwrap().with_prompt("123456789");
        match tokenizer.encode_list(&list) {
            Err(Error::TooLong { response: 1, tokens: 6, room: 5 }) => {}
            other => panic!("{other:?}"),
        }
    }
}

mod conversations {
    use super::*;

    #[test]
    fn are_rendered_whole() {
        let tokenizer = decoder(&config());
        let list = RankedList::new(["x", "y"]).unwrap();
        let list = list.with_conversation(vec![Message::new("user", "q")]);
        let tokens = tokenizer.encode_list(&list).unwrap();
        let first = ["<|user|>", "q", "<|end|>", "<|assistant|>", "x", "<|end|>"];
        assert_eq!(tokens.texts[0].ids, ids(&tokenizer, &first));
        assert_eq!(tokens.texts[0].prompt_len, 4);

        let say = |text: &str| vec![Message::new("assistant", text)];
        let list = RankedList::from_conversations(
            list.conversation().map(<[_]>::to_vec),
            vec![say("x"), say("y")],
            &"A > B".parse().unwrap(),
        )
        .unwrap();
        assert_eq!(tokenizer.encode_list(&list).unwrap(), tokens);
    }

    #[test]
    fn need_a_decoder_and_a_template() {
        let list = RankedList::new(["x"]).unwrap();
        let list = list.with_conversation(vec![Message::new("user", "q")]);
        let pair = decoder(&config()).with_layout(Layout::Pair).unwrap();
        assert!(matches!(pair.encode_list(&list), Err(Error::ChatTemplate { .. })));

        let mut config = config();
        config["chat_template"] = Value::Null;
        let error = decoder(&config).encode_list(&list).unwrap_err().to_string();
        assert!(error.contains("a conversation needs one"), "{error}");
        config["chat_template"] = json!("{% include 'x' %}");
        let error = decoder(&config).encode_list(&list).unwrap_err().to_string();
        assert!(error.contains("not supported"), "{error}");
    }

    #[test]
    fn the_file_of_a_template_wins_and_is_saved() {
        let folder = folder(&SPECIAL, &["ab"], &config());
        let file = "{{ bos_token }}{{ messages[-1].content }}{{ eos_token }}\n";
        fs::write(folder.path().join("chat_template.jinja"), file).unwrap();
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        let text = tokenizer.chat_template().unwrap().render(&[Message::new("user", "a")], false);
        assert_eq!(text.unwrap(), "<s>a</s>");
        let copy = tempfile::tempdir().unwrap();
        tokenizer.save(copy.path()).unwrap();
        for name in ["chat_template.jinja", "tokenizer_config.json"] {
            let read = |folder: &Path| fs::read(folder.join(name)).unwrap();
            assert_eq!(read(copy.path()), read(folder.path()));
        }
    }
}

mod pad_tokens {
    use super::*;

    fn pad(special: &[&str], words: &[&str], config: &Value) -> (String, Value) {
        let folder = folder(special, words, config);
        let tokenizer = Tokenizer::load(folder.path()).unwrap();
        let tokenizer = tokenizer.with_layout(Layout::Continuation).unwrap();
        let copy = tempfile::tempdir().unwrap();
        tokenizer.save(copy.path()).unwrap();
        let saved = fs::read_to_string(copy.path().join("tokenizer_config.json")).unwrap();
        let saved: Value = serde_json::from_str(&saved).unwrap();
        let name = saved["pad_token"].as_str().unwrap().to_owned();
        assert_eq!(tokenizer.token_id(&name), tokenizer.pad_id());
        let again = Tokenizer::load(copy.path()).unwrap();
        assert_eq!(again.pad_id(), tokenizer.pad_id());
        (name, saved)
    }

    #[test]
    fn end_no_text() {
        let with = |pad: &str| {
            let mut config = config();
            config["pad_token"] = json!(pad);
            config
        };
        let own =
            ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>", "<unk>", "<|r|>", "[pAd]"];
        for (special, config, expected) in [
            (&own[..], with("<|r|>"), "<|r|>"),
            (&own[..], with("</s>"), "[pAd]"),
            (&own[..], with("<|end|>"), "[pAd]"),
            (&own[..], config(), "[pAd]"),
            (&SPECIAL[..], config(), "<|reserved_0|>"),
            (&SPECIAL[..6], config(), "<|user|>"),
        ] {
            let (found, saved) = pad(special, &["ab"], &config);
            assert_eq!(found, expected, "{config}");
            assert_eq!(saved["eos_token"], config["eos_token"]);
        }

        let plain = json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"});
        assert_eq!(pad(&["<s>", "</s>", "<unk>"], &["ab"], &plain).0, "<unk>");
        // As in GPT-2, where one token is everything.
        let one = json!({"bos_token": "<s>", "eos_token": "<s>", "unk_token": "<s>"});
        let words = ["ab", "\u{120}first", "\u{120}second", "\u{120}no", "\u{120}12345", "x"];
        assert_eq!(pad(&["<s>"], &words, &one).0, "\u{120}second");
    }

    #[test]
    fn need_an_end_of_text() {
        for config in [json!({}), json!({"eos_token": "<nowhere>"})] {
            let folder = folder(&SPECIAL, &["ab"], &config);
            let tokenizer = Tokenizer::load(folder.path()).unwrap();
            let error = tokenizer.with_layout(Layout::Continuation).unwrap_err().to_string();
            assert!(error.contains("eos_token"), "{error}");
        }
    }
}
