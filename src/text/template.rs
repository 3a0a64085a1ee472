//! [`Template`]: how a prompt and a response become one text.

use serde_json::Value;
use tokenizers::{Encoding, PostProcessorWrapper, Token, Tokenizer};

use super::TokenizedText;
use crate::BoxError;

/// How a prompt and a response become one text: the tokenizer's own post-processor puts its
/// special tokens around and between them (`[CLS] prompt [SEP] response [SEP]` for BERT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Template {
    /// Special tokens of a response without a prompt.
    pub single: usize,
    /// Special tokens of a prompt and a response.
    pub pair: usize,
    /// How many of `pair` stand before the response.
    before_response: usize,
    /// The largest id among the special tokens.
    pub max_id: u32,
}

impl Template {
    /// Finds out by trial what the post-processor of `tokenizer` does.
    pub fn of(tokenizer: &Tokenizer) -> Result<Template, BoxError> {
        if let Some(processor) = tokenizer.get_post_processor() {
            check(processor)?;
        }
        let single = tokenizer.post_process(part(&[0], 0), None, true)?;
        let pair = tokenizer.post_process(part(&[0], 0), Some(part(&[0], 1)), true)?;
        let at = |encoding: &Encoding, sequence| {
            let mut found =
                (0..).zip(encoding.get_sequence_ids()).filter(|s| s.1 == Some(sequence));
            found.next().map(|s| s.0).filter(|_| found.next().is_none())
        };
        match (at(&single, 0), at(&pair, 0), at(&pair, 1)) {
            (Some(_), Some(prompt), Some(response)) if prompt < response => Ok(Template {
                single: single.len() - 1,
                pair: pair.len() - 2,
                before_response: response - 1,
                max_id: single.get_ids().iter().chain(pair.get_ids()).copied().max().unwrap_or(0),
            }),
            _ => {
                Err("the post-processor must put the prompt before the response, each once".into())
            }
        }
    }

    /// Whether a response alone gets tokens of these ids at its start and at its end; `None` where
    /// there is no such token.
    pub fn ends(
        tokenizer: &Tokenizer,
        [start, end]: [Option<u32>; 2],
    ) -> Result<[Option<bool>; 2], BoxError> {
        let text = tokenizer.post_process(part(&[0], 0), None, true)?;
        let (ids, own) = (text.get_ids(), text.get_sequence_ids());
        let is = |at: Option<usize>, wanted: Option<u32>| {
            let (at, wanted) = (at?, wanted?);
            Some(own[at].is_none() && ids[at] == wanted)
        };
        Ok([is((!ids.is_empty()).then_some(0), start), is(ids.len().checked_sub(1), end)])
    }

    /// The text of these tokens of a prompt, if there is one, and of a response.
    pub fn apply(
        &self,
        tokenizer: &Tokenizer,
        prompt: Option<&[u32]>,
        response: &[u32],
    ) -> Result<TokenizedText, BoxError> {
        let (first, second, prompt_len) = match prompt {
            Some(prompt) => {
                (part(prompt, 0), Some(part(response, 1)), prompt.len() + self.before_response)
            }
            None => (part(response, 0), None, 0),
        };
        let text = tokenizer.post_process(first, second, true)?;
        let segments = text.get_type_ids().iter().map(|&segment| u8::try_from(segment));
        Ok(TokenizedText {
            ids: text.get_ids().to_vec(),
            segments: segments.collect::<Result<_, _>>()?,
            prompt_len,
        })
    }
}

/// Tokens as the tokenizer hands them to its post-processor, which looks at nothing but the ids.
fn part(ids: &[u32], segment: u32) -> Encoding {
    let token = |&id| Token::new(id, String::new(), (0, 0));
    Encoding::from_tokens(ids.iter().map(token).collect(), segment)
}

/// Refuses templates on which the post-processor would panic.
fn check(processor: &PostProcessorWrapper) -> Result<(), BoxError> {
    let processor = serde_json::to_value(processor)?;
    let mut templates = Vec::new();
    find_templates(&processor, &mut templates);
    if templates.len() > 1 {
        return Err("more than one template in the post-processor".into());
    }
    for template in templates {
        for (name, sequences) in [("single", &["A"][..]), ("pair", &["A", "B"])] {
            for piece in template[name].as_array().into_iter().flatten() {
                if let Some(sequence) = piece["Sequence"]["id"].as_str() {
                    if !sequences.contains(&sequence) {
                        return Err(format!("the template for a {name} uses ${sequence}").into());
                    }
                }
                if let Some(token) = piece["SpecialToken"]["id"].as_str() {
                    if template["special_tokens"][token].is_null() {
                        return Err(format!(
                            "the template uses {token}, which is not among its special_tokens"
                        )
                        .into());
                    }
                }
            }
        }
    }
    Ok(())
}

fn find_templates<'a>(processor: &'a Value, found: &mut Vec<&'a Value>) {
    if processor["type"] == "TemplateProcessing" {
        found.push(processor);
    }
    for part in processor["processors"].as_array().into_iter().flatten() {
        find_templates(part, found);
    }
}
