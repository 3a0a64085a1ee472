//! [`Tokenizer`]: where it comes from, where it goes, what it knows.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::config::TokenizerConfig;
use super::template::Template;
use super::{growth, layout, overrule, wordpiece, ChatTemplate, Layout, Limits};
use crate::{BoxError, Error, Result};

const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// The special tokens that a chat template sees.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Everything between a prompt and a response, and the tokens that a model reads.
///
/// It holds a Hugging Face tokenizer, whose post-processor is the template that joins prompt and
/// response, and the [`Limits`] on their length, and is saved with both: a model that is loaded
/// again reads the same tokens as in training. [`encode`](Tokenizer::encode) says what they are.
///
/// ```
/// use reward_model::text::Tokenizer;
///
/// let tokenizer = Tokenizer::train(["很好 good", "不好 not good"], 100)?;
/// let text = tokenizer.encode(Some("好"), "good")?;
/// let id = |token| tokenizer.token_id(token).unwrap();
/// assert_eq!(text.ids, ["[CLS]", "好", "[SEP]", "good", "[SEP]"].map(id));
/// assert_eq!(text.segments, [0, 0, 0, 1, 1]);
/// assert_eq!(text.prompt_len, 3);
/// # Ok::<(), reward_model::Error>(())
/// ```
#[derive(Clone)]
pub struct Tokenizer {
    pub(super) inner: tokenizers::Tokenizer,
    pub(super) template: Template,
    limits: Limits,
    pub(super) pad_id: Option<u32>,
    pub(super) layout: Layout,
    /// A template that cannot be used is an error where one is needed, and not before: an encoder
    /// never needs it.
    pub(super) chat_template: Option<Result<ChatTemplate, String>>,
    /// What the folder had in a file of its own.
    chat_template_file: Option<String>,
    /// What `save` writes: the files as they were loaded.
    json: String,
    config: TokenizerConfig,
    special_tokens: TokenizerConfig,
}

impl Tokenizer {
    /// A WordPiece tokenizer for a BERT model from scratch, trained on these texts, with a
    /// vocabulary of at most `vocab_size` tokens.
    ///
    /// As in uncased BERT, text is cleaned of control characters, lower-cased and stripped of
    /// accents, and split at white space, around punctuation and around Chinese characters. The
    /// vocabulary holds `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]`, `[MASK]` (0 to 4), then the characters
    /// of the texts, up to 8000, the most frequent first if there is not room for all, then pieces
    /// of words that occur at least twice. A word with a character that is not among them, or of
    /// more than 100 characters, is `[UNK]`.
    ///
    /// The same texts, in any order, give the same tokenizer, byte for byte, whatever the number of
    /// threads.
    ///
    /// # Errors
    /// [`Error::Config`] if `vocab_size` is below 7; [`Error::Tokenizer`] if the texts have no
    /// words.
    pub fn train<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        vocab_size: usize,
    ) -> Result<Tokenizer> {
        if vocab_size < wordpiece::MIN_VOCAB_SIZE {
            return Err(Error::Config {
                field: "vocab_size",
                value: vocab_size.to_string(),
                message: format!(
                    "must be at least {}, and some thousands to be of use",
                    wordpiece::MIN_VOCAB_SIZE
                ),
            });
        }
        let failed = |source| Error::Tokenizer { context: "training".into(), source };
        let texts: Vec<&str> = texts.into_iter().collect();
        let inner = wordpiece::train(&texts, vocab_size).map_err(failed)?;
        let json = inner.to_string(true).map_err(failed)?;
        Tokenizer::new(inner, json, TokenizerConfig::bert(), TokenizerConfig::default(), None)
            .map_err(failed)
    }

    /// The tokenizer of a model folder, or of its `tokenizer.json`.
    ///
    /// `tokenizer_config.json` beside it, if there is one, tells the limits (`model_max_length`,
    /// 512 if there is none, and `max_prompt_length`, half of that if there is none), the pad
    /// token, and the settings that Python lets it overrule. Truncation and padding stored in
    /// `tokenizer.json` are not applied.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read, [`Error::Tokenizer`] if its content cannot be
    /// understood; both name it.
    pub fn load(path: impl AsRef<Path>) -> Result<Tokenizer> {
        let path = path.as_ref();
        let file = if path.is_dir() { path.join(TOKENIZER) } else { path.to_owned() };
        let json = fs::read_to_string(&file).map_err(Error::io("read", &file))?;
        let config = read_config(&file.with_file_name(CONFIG))?;
        let special_tokens = read_config(&file.with_file_name(SPECIAL_TOKENS))?;
        let chat_template = read_if_there(&file.with_file_name(CHAT_TEMPLATE))?;
        // `tokenizers` panics on some files that are not JSON at all.
        serde_json::from_str::<serde::de::IgnoredAny>(&json)
            .map_err(|error| unreadable(&file)(error.into()))?;
        let inner = json.parse().map_err(unreadable(&file))?;
        Tokenizer::new(inner, json, config, special_tokens, chat_template)
            .map_err(unreadable(&file))
    }

    fn new(
        mut inner: tokenizers::Tokenizer,
        json: String,
        config: TokenizerConfig,
        special_tokens: TokenizerConfig,
        chat_template_file: Option<String>,
    ) -> Result<Tokenizer, BoxError> {
        let padding = inner.get_padding().map(|padding| padding.pad_token.clone());
        let named = [config.token("pad_token"), special_tokens.token("pad_token")];
        let usual = [padding.as_deref(), Some("[PAD]"), Some("<pad>")];
        let pad_id = named.into_iter().chain(usual).flatten().find_map(|t| inner.token_to_id(t));

        inner.with_padding(None);
        inner.with_truncation(None)?;
        inner.set_encode_special_tokens(config.flag("split_special_tokens").unwrap_or(false));
        overrule::apply(&mut inner, &config)?;
        growth::check(&inner)?;

        let template = Template::of(&inner)?;
        let id = |role| {
            let token = config.token(role).or_else(|| special_tokens.token(role))?;
            inner.token_to_id(token)
        };
        overrule::check_ends(&config, Template::ends(&inner, [id("bos_token"), id("eos_token")])?)?;
        let limits = config.limits().check(template.pair.max(template.single))?;
        let mut tokenizer = Tokenizer {
            inner,
            template,
            limits,
            pad_id,
            layout: Layout::Pair,
            chat_template: None,
            chat_template_file,
            json,
            config,
            special_tokens,
        };
        let source =
            tokenizer.chat_template_file.as_deref().or_else(|| tokenizer.config.chat_template());
        if let Some(source) = source {
            let mut template = ChatTemplate::new(source).map_err(|error| match error {
                Error::ChatTemplate { message } => message,
                error => error.to_string(),
            });
            for role in ROLES {
                if let Some(token) = tokenizer.named(role) {
                    template = template.map(|template| template.with_token(role, token));
                }
            }
            tokenizer.chat_template = Some(template);
        }
        Ok(tokenizer)
    }

    /// The token that the folder's files give a role such as `"eos_token"`.
    pub(super) fn named(&self, role: &str) -> Option<&str> {
        self.config.token(role).or_else(|| self.special_tokens.token(role))
    }

    /// How prompt and response are joined.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// How conversations become text, if the folder says so in a way that can be read.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()?.as_ref().ok()
    }

    /// The same tokenizer for a model that wants prompt and response joined in this way, which
    /// a `Scorer` does by itself.
    ///
    /// For [`Layout::Continuation`], a token that no text ends with becomes the
    /// [pad token](Tokenizer::pad_id), and is [saved](Tokenizer::save) as such: Python's models take
    /// the last token that is not the pad token for a text's end. That is the tokenizer's own,
    /// unless it also ends texts; then a special token with "pad" in its name, another special
    /// token, or an ordinary word.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if a continuation is asked for and the folder's files name no
    /// `eos_token`, or no token is left to pad with.
    pub fn with_layout(mut self, layout: Layout) -> Result<Tokenizer> {
        self.layout = layout;
        if layout == Layout::Continuation {
            self.config = self.config.without_segments();
            let pad = layout::pad_token(&self)?;
            self.pad_id = self.inner.token_to_id(&pad);
            if self.named("pad_token") != Some(&pad) {
                self.config = self.config.with_token("pad_token", &pad);
                if self.special_tokens.token("pad_token").is_some() {
                    self.special_tokens = self.special_tokens.with_token("pad_token", &pad);
                }
                self.chat_template =
                    self.chat_template.map(|t| t.map(|t| t.with_token("pad_token", &pad)));
            }
        }
        Ok(self)
    }

    /// The same tokenizer with other limits, which are saved with it.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no room for a token of a response beside the longest prompt
    /// and the special tokens.
    pub fn with_limits(mut self, limits: Limits) -> Result<Tokenizer> {
        self.limits = limits.check(self.template.pair.max(self.template.single))?;
        self.config = self.config.with(limits);
        Ok(self)
    }

    /// How long a text, and the prompt in it, may be.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` into a folder, which is made if it is
    /// not there. Python's `AutoTokenizer` loads them, given a `config.json` beside them.
    ///
    /// A tokenizer that was loaded writes what was there, byte for byte, its
    /// `special_tokens_map.json` and `chat_template.jinja` included; other [limits](Tokenizer::with_limits) change the two
    /// fields of `tokenizer_config.json` that tell them, another [layout](Tokenizer::with_layout) may
    /// change the pad token.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder or a file cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let files = [
            (TOKENIZER, Some(&*self.json)),
            (CONFIG, self.config.text()),
            (SPECIAL_TOKENS, self.special_tokens.text()),
            (CHAT_TEMPLATE, self.chat_template_file.as_deref()),
        ];
        for (name, content) in files {
            if let Some(content) = content {
                let file = dir.join(name);
                fs::write(&file, content).map_err(Error::io("write", file))?;
            }
        }
        Ok(())
    }

    /// How many rows an embedding of these tokens needs: the largest id, added and special tokens
    /// included, and one more.
    pub fn vocab_size(&self) -> usize {
        let ids = self.inner.get_vocab(true).into_values().chain([self.template.max_id]);
        ids.max().map_or(0, |id| id as usize + 1)
    }

    /// The id of the token that fills up a batch, if there is one: the `pad_token` that the
    /// folder's files name, else `[PAD]` or `<pad>`.
    pub fn pad_id(&self) -> Option<u32> {
        self.pad_id
    }

    /// The id of a token such as `"[CLS]"`, if it is in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

fn read_config(file: &Path) -> Result<TokenizerConfig> {
    match read_if_there(file)? {
        Some(text) => TokenizerConfig::parse(text).map_err(|e| unreadable(file)(e.into())),
        None => Ok(TokenizerConfig::default()),
    }
}

fn read_if_there(file: &Path) -> Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", file)(error)),
    }
}

fn unreadable(file: &Path) -> impl FnOnce(BoxError) -> Error + '_ {
    move |source| Error::Tokenizer { context: file.display().to_string(), source }
}
