//! A line of NeMo: a context and its completions, each with a rank.

use serde_json::Value;

use super::json::{self, array, number};
use super::listed;
use super::messages::words;
use super::Problem;
use crate::RankedList;

#[derive(serde::Deserialize)]
struct Fields {
    context: Option<Value>,
    completions: Option<Value>,
}

impl json::Fields for Fields {
    const EXPECTED: &'static str = "an object such as {\"context\": [...], \"completions\": \
                                    [{\"rank\": 0, \"completion\": [...]}]}";
}

pub(super) fn parse(line: &str) -> Result<RankedList, Problem> {
    let Fields { context, completions } = json::parse(line)?;
    let context = context.map(|value| words(&"context", value)).transpose()?;
    let expected = "an array of completions";
    let completions = completions.ok_or_else(|| json::missing(&"completions", expected))?;
    let completions = array("completions", expected, completions, |field, value| {
        let mut fields = json::object(field, "a completion with its rank", value)?;
        let rank = json::take(field, &mut fields, "rank", "a number")?;
        let completion = json::take(field, &mut fields, "completion", "messages or a string")?;
        Ok((
            words(&format_args!("{field}.completion"), completion)?,
            number(&format_args!("{field}.rank"), rank)?,
        ))
    })?;
    let (completions, ranks): (Vec<_>, Vec<_>) = completions.into_iter().unzip();
    listed::by_rank(context, completions, &ranks)
        .map_err(|p| p.renamed("responses", "completions").renamed("prompt", "context"))
}
