//! A line of JSONL, and with it how a [`RankedList`] is written and read by serde.

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use super::json::{self, array, number, string, Object};
use super::Problem;
use crate::{RankedList, Response};

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
}

impl json::Fields for Fields {
    const EXPECTED: &'static str = "an object such as {\"responses\": [\"best\", \"worst\"]}";
}

impl Fields {
    fn into_list(self) -> Result<RankedList, Problem> {
        let Self { prompt, responses, ranks, scores, chosen, rejected } = self;
        let prompt = prompt.map(|value| string(&"prompt", value)).transpose()?;
        let list = match (responses, chosen, rejected) {
            (Some(responses), None, None) => ranked(responses, ranks, scores),
            (None, Some(chosen), Some(rejected)) => match (ranks, scores) {
                (None, None) => pair(chosen, rejected),
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
        Ok(match prompt {
            Some(prompt) => list.with_prompt(prompt),
            None => list,
        })
    }
}

fn ranked(
    responses: Value,
    ranks: Option<Value>,
    scores: Option<Value>,
) -> Result<RankedList, Problem> {
    let numbers = |field, value| array(field, "an array of numbers", value, number);
    let responses = array("responses", "an array of strings", responses, string)?;
    let list = match ranks {
        Some(ranks) => RankedList::with_ranks(responses, &numbers("ranks", ranks)?)?,
        None => RankedList::new(responses)?,
    };
    Ok(match scores {
        Some(scores) => list.with_scores(&numbers("scores", scores)?)?,
        None => list,
    })
}

fn pair(chosen: Value, rejected: Value) -> Result<RankedList, Problem> {
    let pair = [string(&"chosen", chosen)?, string(&"rejected", rejected)?];
    RankedList::new(pair).map_err(|error| {
        let mut problem = Problem::from(error);
        // On the line there is no list of responses to count in.
        problem.field = problem.field.map(|field| match field.as_str() {
            "responses[0]" => "chosen".to_owned(),
            "responses[1]" => "rejected".to_owned(),
            _ => field,
        });
        problem
    })
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
        struct Written<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            prompt: Option<&'a str>,
            responses: Vec<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            ranks: Option<Vec<usize>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            scores: Option<Vec<f64>>,
        }

        let responses = self.in_input_order();
        let best_first = responses.iter().zip(1..).all(|(response, rank)| response.rank() == rank);
        Written {
            prompt: self.prompt(),
            responses: responses.iter().map(|response| response.text()).collect(),
            ranks: (!best_first).then(|| responses.iter().map(|r| r.rank()).collect()),
            scores: responses.iter().copied().map(Response::score).collect(),
        }
        .serialize(serializer)
    }
}
