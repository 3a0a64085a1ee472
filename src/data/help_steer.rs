//! A line of HelpSteer3: a context, two responses, and which of them is preferred.

use serde_json::Value;

use super::json::{self, number};
use super::listed;
use super::messages::words;
use super::Problem;
use crate::RankedList;

#[derive(serde::Deserialize)]
struct Fields {
    context: Option<Value>,
    response1: Option<Value>,
    response2: Option<Value>,
    overall_preference: Option<Value>,
}

impl json::Fields for Fields {
    const EXPECTED: &'static str =
        "an object such as {\"context\": [...], \"response1\": \"...\", \
                                    \"response2\": \"...\", \"overall_preference\": -2}";
}

pub(super) fn parse(line: &str) -> Result<RankedList, Problem> {
    let Fields { context, response1, response2, overall_preference } = json::parse(line)?;
    let context = context.map(|value| words(&"context", value)).transpose()?;
    let response = |name: &'static str, value: Option<Value>| {
        let value = value.ok_or_else(|| json::missing(&name, "a string or messages"))?;
        words(&name, value)
    };
    let responses = vec![response("response1", response1)?, response("response2", response2)?];
    let expected = "a number, negative where the first response is better, 0 for a tie";
    let preference = number(
        &"overall_preference",
        overall_preference.ok_or_else(|| json::missing(&"overall_preference", expected))?,
    )?;
    listed::by_rank(context, responses, &[preference, 0.0]).map_err(|p| {
        p.renamed("responses[0]", "response1")
            .renamed("responses[1]", "response2")
            .renamed("prompt", "context")
    })
}
