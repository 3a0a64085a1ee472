//! What Python lets `tokenizer_config.json` overrule in `tokenizer.json`.

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use super::config::TokenizerConfig;
use crate::BoxError;

/// Applies it, or refuses a folder of which versions of Python's transformers make different tokens.
pub(super) fn apply(tokenizer: &mut Tokenizer, config: &TokenizerConfig) -> Result<(), BoxError> {
    bert(tokenizer, config)?;
    prefix_space(tokenizer, config)
}

/// The classes of the BERT kind set BERT's normaliser from the configuration, the generic class does
/// not look at it.
fn bert(tokenizer: &mut Tokenizer, config: &TokenizerConfig) -> Result<(), BoxError> {
    let Some(NormalizerWrapper::BertNormalizer(normalizer)) = tokenizer.get_normalizer() else {
        return Ok(());
    };
    if config.is_generic() {
        return Ok(());
    }
    let mut normalizer = *normalizer;
    if let Some(lowercase) = config.flag("do_lower_case") {
        normalizer.lowercase = lowercase;
    }
    if let Some(separate) = config.flag("tokenize_chinese_chars") {
        normalizer.handle_chinese_chars = separate;
    }
    if let Some(strip) = config.flag_or_null("strip_accents") {
        normalizer.strip_accents = strip;
    }
    tokenizer.with_normalizer(Some(normalizer))?;
    Ok(())
}

/// Whether a text gets a space in front, for tokenizers of GPT-2's kind: the configuration says, and
/// no if it is silent. Under the generic class that holds in transformers 4 and not in 5.
fn prefix_space(tokenizer: &mut Tokenizer, config: &TokenizerConfig) -> Result<(), BoxError> {
    let Some(PreTokenizerWrapper::ByteLevel(bytes)) = tokenizer.get_pre_tokenizer() else {
        return Ok(());
    };
    let said = config.flag("add_prefix_space");
    let (wanted, found) = (said.unwrap_or(false), bytes.add_prefix_space);
    if wanted == found {
        return Ok(());
    }
    if config.is_generic() {
        return Err(format!(
            "add_prefix_space is {found} in tokenizer.json, but {} in tokenizer_config.json, where \
             versions of transformers do not agree on which of them holds; write {found} into the \
             latter, or the other into the former",
            said.map_or("absent (which is false)".into(), |said| said.to_string()),
        )
        .into());
    }
    let bytes = ByteLevel::new(wanted, bytes.trim_offsets, bytes.use_regex);
    tokenizer.with_pre_tokenizer(Some(bytes));
    Ok(())
}

/// Refuses a configuration that asks for a BOS or EOS token around a text, or for none, where the
/// template of `tokenizer.json` does something else: which of them holds depends on the class and on
/// the version of transformers. `ends` says whether the template puts each of them there.
pub(super) fn check_ends(
    config: &TokenizerConfig,
    ends: [Option<bool>; 2],
) -> Result<(), BoxError> {
    let class = config.class().unwrap_or_default();
    // These classes add a BOS and no EOS if nothing is said; others leave the template alone.
    let kinds = ["Llama", "CodeLlama", "Gemma", "Cohere"];
    let usual = match kinds.iter().any(|kind| class.starts_with(kind)) {
        true => [Some(true), Some(false)],
        false => [None, None],
    };
    for ((flag, ends), usual) in ["add_bos_token", "add_eos_token"].into_iter().zip(ends).zip(usual)
    {
        let said = config.flag(flag);
        if let (Some(wanted), Some(found)) = (said.or(usual), ends) {
            if wanted != found {
                return Err(format!(
                    "{flag} is {} in tokenizer_config.json, but the template of tokenizer.json {} \
                     that token; versions of transformers do not agree on which of them holds: \
                     write {found} into the former or change the latter",
                    match said {
                        Some(said) => said.to_string(),
                        None => format!("absent (which is {wanted} for {class})"),
                    },
                    if found { "adds" } else { "does not add" },
                )
                .into());
            }
        }
    }
    Ok(())
}
