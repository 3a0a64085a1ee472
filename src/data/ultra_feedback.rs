//! A line of UltraFeedback, in either of its forms: an instruction and its scored completions, or
//! the binarised `chosen` and `rejected` with their scores.

use serde_json::Value;

use super::json::{self, array, number, string};
use super::listed;
use super::messages::{words, Words};
use super::Problem;
use crate::RankedList;

#[derive(serde::Deserialize)]
struct Fields {
    instruction: Option<Value>,
    completions: Option<Value>,
    prompt: Option<Value>,
    chosen: Option<Value>,
    rejected: Option<Value>,
    score_chosen: Option<Value>,
    score_rejected: Option<Value>,
    margin: Option<Value>,
}

impl json::Fields for Fields {
    const EXPECTED: &'static str = "an object such as {\"instruction\": \"...\", \"completions\": \
                                    [{\"response\": \"...\", \"overall_score\": 7.5}]}";
}

pub(super) fn parse(line: &str) -> Result<RankedList, Problem> {
    let fields: Fields = json::parse(line)?;
    match fields.completions {
        Some(completions) => scored(fields.instruction, completions),
        None => binarised(fields),
    }
}

fn scored(instruction: Option<Value>, completions: Value) -> Result<RankedList, Problem> {
    let prompt = instruction.map(|value| string(&"instruction", value)).transpose()?;
    let completions =
        array("completions", "an array of completions", completions, |field, value| {
            let mut fields = json::object(field, "a completion with its score", value)?;
            let response = json::take(field, &mut fields, "response", "a string")?;
            let score = json::take(field, &mut fields, "overall_score", "a number")?;
            Ok((
                Words::Text(string(&format_args!("{field}.response"), response)?),
                number(&format_args!("{field}.overall_score"), score)?,
            ))
        })?;
    let (responses, scores): (Vec<_>, Vec<_>) = completions.into_iter().unzip();
    listed::by_score(prompt.map(Words::Text), responses, &scores)
        .map_err(|p| p.renamed("responses", "completions"))
}

fn binarised(fields: Fields) -> Result<RankedList, Problem> {
    let Fields { prompt, chosen, rejected, score_chosen, score_rejected, margin, .. } = fields;
    let mut prompt = prompt.map(|value| words(&"prompt", value)).transpose()?;
    let side = |name: &'static str, value: Option<Value>| {
        let value = value.ok_or_else(|| json::missing(&name, "messages or a string"))?;
        words(&name, value)
    };
    let score = |name: &'static str, value: Option<Value>| {
        let value = value.ok_or_else(|| json::missing(&name, "a number"))?;
        number(&name, value)
    };
    let sides = vec![side("chosen", chosen)?, side("rejected", rejected)?];
    let scores = [score("score_chosen", score_chosen)?, score("score_rejected", score_rejected)?];
    // Both conversations begin with the prompt, which stands beside them once more as a string.
    if let Some(Words::Text(text)) = &prompt {
        if sides.iter().all(|side| side.begins_with(text)) {
            prompt = None;
        }
    }
    let ranks = if scores[0] == scores[1] { [1.0, 1.0] } else { [1.0, 2.0] };
    let list = listed::by_rank(prompt, sides, &ranks)
        .map_err(|p| p.renamed("responses[0]", "chosen").renamed("responses[1]", "rejected"))?;
    let list = list.with_scores(&scores)?;
    // TRL's documentation adds one to these data.
    Ok(match margin {
        Some(margin) => list.with_margin(number(&"margin", margin)?)?,
        None => list,
    })
}
