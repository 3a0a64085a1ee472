//! A line of JSONL, and with it how a [`RankedList`] is written and read by serde.

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use super::json::{self, array, number, Object};
use super::messages::{words, Words};
use super::{listed, Problem};
use crate::{Message, RankedList, Response};

pub(super) fn parse(line: &str) -> Result<RankedList, Problem> {
    json::parse::<Fields>(line)?.into_list()
}

#[derive(serde::Deserialize)]
struct Fields {
    prompt: Option<Value>,
    responses: Option<Value>,
    ranks: Option<Value>,
    scores: Option<Value>,
    chosen: Option<Value>,
    rejected: Option<Value>,
    margin: Option<Value>,
}

impl json::Fields for Fields {
    const EXPECTED: &'static str = "an object such as {\"responses\": [\"best\", \"worst\"]}";
}

impl Fields {
    fn into_list(self) -> Result<RankedList, Problem> {
        let Self { prompt, responses, ranks, scores, chosen, rejected, margin } = self;
        let prompt = prompt.map(|value| words(&"prompt", value)).transpose()?;
        let list = match (responses, chosen, rejected) {
            (Some(responses), None, None) => ranked(prompt, responses, ranks, scores),
            (None, Some(chosen), Some(rejected)) => match (ranks, scores) {
                (None, None) => pair(prompt, chosen, rejected),
                (Some(_), _) => Err(not_of_a_pair("ranks")),
                (None, Some(_)) => Err(not_of_a_pair("scores")),
            },
            (Some(_), Some(_), _) => Err(both("chosen")),
            (Some(_), None, Some(_)) => Err(both("rejected")),
            (None, Some(_), None) => Err(missing("rejected", "chosen")),
            (None, None, Some(_)) => Err(missing("chosen", "rejected")),
            (None, None, None) => Err(Problem::of_line(
                "has neither \"responses\" nor \"chosen\" and \"rejected\"; give a list or a pair",
            )),
        }?;
        Ok(match margin {
            Some(margin) => list.with_margin(number(&"margin", margin)?)?,
            None => list,
        })
    }
}

fn ranked(
    prompt: Option<Words>,
    responses: Value,
    ranks: Option<Value>,
    scores: Option<Value>,
) -> Result<RankedList, Problem> {
    let numbers = |field, value| array(field, "an array of numbers", value, number);
    let responses = array("responses", "an array of responses", responses, words)?;
    let ranks = ranks.map(|ranks| numbers("ranks", ranks)).transpose()?;
    let list = list(prompt, responses, ranks)?;
    Ok(match scores {
        Some(scores) => list.with_scores(&numbers("scores", scores)?)?,
        None => list,
    })
}

fn pair(prompt: Option<Words>, chosen: Value, rejected: Value) -> Result<RankedList, Problem> {
    let pair = vec![words(&"chosen", chosen)?, words(&"rejected", rejected)?];
    // On the line there is no list of responses to count in.
    list(prompt, pair, None)
        .map_err(|p| p.renamed("responses[0]", "chosen").renamed("responses[1]", "rejected"))
}

fn list(
    prompt: Option<Words>,
    responses: Vec<Words>,
    ranks: Option<Vec<f64>>,
) -> Result<RankedList, Problem> {
    let best_first = || (1..=responses.len()).map(|rank| rank as f64).collect();
    let ranks = ranks.unwrap_or_else(best_first);
    listed::by_rank(prompt, responses, &ranks)
}

fn not_of_a_pair(field: &str) -> Problem {
    let message = "goes with \"responses\" only; a pair is \"chosen\" and \"rejected\"";
    Problem::of_field(field, message)
}

fn both(other: &str) -> Problem {
    Problem::of_line(format!("has both \"responses\" and \"{other}\"; give a list or a pair"))
}

fn missing(field: &str, other: &str) -> Problem {
    Problem::of_field(field, format!("is missing; \"{other}\" needs it beside it"))
}

impl<'de> Deserialize<'de> for RankedList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::<Fields>::deserialize(deserializer)?.0.into_list().map_err(de::Error::custom)
    }
}

impl Serialize for RankedList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        #[serde(untagged)]
        enum Written<'a> {
            Text(&'a str),
            Messages(&'a [Message]),
        }

        #[derive(serde::Serialize)]
        struct Line<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            prompt: Option<Written<'a>>,
            responses: Vec<Written<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            ranks: Option<Vec<usize>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            scores: Option<Vec<f64>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            margin: Option<f64>,
        }

        let responses = self.in_input_order();
        let best_first = responses.iter().zip(1..).all(|(response, rank)| response.rank() == rank);
        let of =
            |text, messages: Option<_>| messages.map_or(Written::Text(text), Written::Messages);
        let prompt = self.conversation().map(Written::Messages);
        Line {
            prompt: prompt.or(self.prompt().map(Written::Text)),
            responses: responses.iter().map(|r| of(r.text(), r.messages())).collect(),
            ranks: (!best_first).then(|| responses.iter().map(|r| r.rank()).collect()),
            scores: responses.iter().copied().map(Response::score).collect(),
            margin: self.margin(),
        }
        .serialize(serializer)
    }
}
