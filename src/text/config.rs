//! [`TokenizerConfig`]: what `tokenizer_config.json` says.

use serde_json::{json, Map, Value};

use super::Limits;

/// More than any model has positions for: tokenizers without a limit of their own write 10^30.
const NO_LIMIT: u64 = 100_000_000;

/// The fields of `tokenizer_config.json`, and the file as it was, as long as nothing changed.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenizerConfig {
    text: Option<String>,
    fields: Map<String, Value>,
}

impl TokenizerConfig {
    /// What makes Python build the tokenizer that [`super::wordpiece`] trains: Python's class sets
    /// its normaliser from these fields, whatever `tokenizer.json` holds.
    pub fn bert() -> TokenizerConfig {
        let fields = [
            ("tokenizer_class", json!("BertTokenizerFast")),
            ("do_lower_case", json!(true)),
            ("tokenize_chinese_chars", json!(true)),
            ("strip_accents", Value::Null),
            ("pad_token", json!("[PAD]")),
            ("unk_token", json!("[UNK]")),
            ("cls_token", json!("[CLS]")),
            ("sep_token", json!("[SEP]")),
            ("mask_token", json!("[MASK]")),
        ];
        let fields = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        TokenizerConfig { text: None, fields }.written_with(Limits::default())
    }

    pub fn parse(text: String) -> serde_json::Result<TokenizerConfig> {
        let fields = serde_json::from_str(&text)?;
        Ok(TokenizerConfig { text: Some(text), fields })
    }

    /// The file's content; nothing if there was no file and nothing to write into one.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    pub fn limits(&self) -> Limits {
        let get = |key| {
            let value = self.fields.get(key)?.as_u64().filter(|&value| value < NO_LIMIT)?;
            usize::try_from(value).ok()
        };
        let limits = get("model_max_length").map_or_else(Limits::default, Limits::new);
        match get("max_prompt_length") {
            Some(length) => limits.with_max_prompt_length(length),
            None => limits,
        }
    }

    /// The same with these limits; untouched if they are what it says already.
    #[must_use]
    pub fn with(self, limits: Limits) -> TokenizerConfig {
        if self.limits() == limits {
            return self;
        }
        self.written_with(limits)
    }

    fn written_with(mut self, limits: Limits) -> TokenizerConfig {
        self.fields.insert("model_max_length".into(), json!(limits.max_length));
        self.fields.insert("max_prompt_length".into(), json!(limits.max_prompt_length));
        self.text = Some(format!("{:#}\n", Value::Object(self.fields.clone())));
        self
    }

    /// The content of a token such as `"pad_token"`, which is written as a string or as an object.
    pub fn token(&self, role: &str) -> Option<&str> {
        let token = self.fields.get(role)?;
        token.as_str().or_else(|| token.get("content")?.as_str())
    }

    /// The same with this content for a token such as `"pad_token"`.
    #[must_use]
    pub fn with_token(mut self, role: &str, token: &str) -> TokenizerConfig {
        self.fields.insert(role.into(), json!(token));
        self.text = Some(format!("{:#}\n", Value::Object(self.fields.clone())));
        self
    }

    /// The same, without segment ids for the model: a generic class gives them to Python's models
    /// unless told otherwise, and GPT-2 adds an embedding for each.
    #[must_use]
    pub fn without_segments(mut self) -> TokenizerConfig {
        let generic = self.class().is_none() || self.is_generic();
        if generic && !self.fields.contains_key("model_input_names") {
            self.fields.insert("model_input_names".into(), json!(["input_ids", "attention_mask"]));
            self.text = Some(format!("{:#}\n", Value::Object(self.fields.clone())));
        }
        self
    }

    /// The name of Python's class.
    pub fn class(&self) -> Option<&str> {
        self.fields.get("tokenizer_class")?.as_str()
    }

    /// Whether that is the class that takes `tokenizer.json` as it is, or nearly so.
    pub fn is_generic(&self) -> bool {
        matches!(self.class(), Some("PreTrainedTokenizerFast" | "TokenizersBackend"))
    }

    /// `true` or `false`, or `null` as `Some(None)`.
    pub fn flag_or_null(&self, key: &str) -> Option<Option<bool>> {
        self.fields.get(key).map(Value::as_bool)
    }

    /// The chat template; of several, the one that is called `default`.
    pub fn chat_template(&self) -> Option<&str> {
        let template = self.fields.get("chat_template")?;
        template.as_str().or_else(|| {
            let mut named = template.as_array()?.iter();
            named.find(|template| template["name"] == "default")?["template"].as_str()
        })
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        self.fields.get(key)?.as_bool()
    }
}
