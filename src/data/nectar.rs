//! A line of Nectar: a prompt and its answers, each with a rank.

use serde_json::Value;

use super::json::{self, array, number, wrong_type};
use super::listed;
use super::messages::{words, Words};
use super::Problem;
use crate::RankedList;

#[derive(serde::Deserialize)]
struct Fields {
    prompt: Option<Value>,
    answers: Option<Value>,
}

impl json::Fields for Fields {
    const EXPECTED: &'static str =
        "an object such as {\"prompt\": \"...\", \"answers\": [{\"answer\": \"...\", \"rank\": 1}]}";
}

pub(super) fn parse(line: &str) -> Result<RankedList, Problem> {
    let Fields { prompt, answers } = json::parse(line)?;
    let prompt = prompt.map(|value| words(&"prompt", value)).transpose()?;
    let answers = answers.ok_or_else(|| json::missing(&"answers", "an array of answers"))?;
    let answers = array("answers", "an array of answers", answers, |field, value| {
        let mut fields = json::object(field, "an answer with its rank", value)?;
        let answer = json::take(field, &mut fields, "answer", "a string")?;
        let rank = json::take(field, &mut fields, "rank", "a number")?;
        let answer = match answer {
            Value::String(text) => Words::Text(text),
            other => return Err(wrong_type(&format_args!("{field}.answer"), "a string", &other)),
        };
        Ok((answer, number(&format_args!("{field}.rank"), rank)?))
    })?;
    let (answers, ranks): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    listed::by_rank(prompt, answers, &ranks).map_err(|p| p.renamed("responses", "answers"))
}
