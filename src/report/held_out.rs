//! What `evaluation.jsonl` says: the rewards of held-out lists.

use std::path::Path;

use serde_json::{Map, Value};

use super::lines::{number, read_objects, Unreadable};
use super::records::MOST_SETS;
use super::rewards::RewardsByRank;
use crate::Result;

/// Lists of either kind that are shown.
pub(super) const SAMPLES: usize = 6;

/// The lists of one set.
#[derive(Debug, Default)]
pub(super) struct SetLists {
    pub name: String,
    /// Lists that could be in the right order or not: those with a pair that are not too long.
    pub lists: u64,
    /// Lists that are in the right order from the first response to the last.
    pub right: u64,
    pub rewards: RewardsByRank,
    /// The first ones in the right order.
    pub right_samples: Vec<Sample>,
    /// The ones with the largest differences of reward the wrong way round, the worst first.
    pub wrong_samples: Vec<Sample>,
}

/// Longer lists are not sorted into right and wrong: their pairs are too many.
const LONGEST_LIST: usize = 1000;

/// A list with its rewards.
#[derive(Debug)]
pub(super) struct Sample {
    /// Its number in the set, from 0.
    pub list: Option<u64>,
    pub prompt: Option<String>,
    /// Best first, as people ranked them.
    pub responses: Vec<Scored>,
    /// The sum of r_l − r_w over all pairs with r_l ≥ r_w.
    inversion: f64,
}

#[derive(Debug)]
pub(super) struct Scored {
    pub text: String,
    pub rank: f64,
    pub reward: f64,
}

/// The sets, in order of appearance, and the lines that could not be read; `None` without a file.
pub(super) fn read(folder: &Path) -> Result<Option<(Vec<SetLists>, Unreadable)>> {
    let mut sets: Vec<SetLists> = Vec::new();
    let unreadable = read_objects(&folder.join("evaluation.jsonl"), |line| {
        let name = line.get("set").and_then(Value::as_str).unwrap_or("eval");
        if sets.len() == MOST_SETS && sets.iter().all(|set| set.name != name) {
            return Ok(());
        }
        let index = sets.iter().position(|set| set.name == name).unwrap_or_else(|| {
            sets.push(SetLists { name: name.to_owned(), ..SetLists::default() });
            sets.len() - 1
        });
        if let Some(sample) = sample(&line) {
            sets[index].add(sample);
        }
        Ok(())
    })?;
    Ok(unreadable.map(|unreadable| (sets, unreadable)))
}

impl SetLists {
    fn add(&mut self, sample: Sample) {
        for response in &sample.responses {
            self.rewards.add(response.rank, response.reward);
        }
        if sample.responses.len() > LONGEST_LIST {
            return;
        }
        if pairs(&sample.responses).next().is_none() {
            return;
        }
        self.lists += 1;
        if pairs(&sample.responses).all(|(winner, loser)| winner.reward > loser.reward) {
            self.right += 1;
            if self.right_samples.len() < SAMPLES {
                self.right_samples.push(sample);
            }
        } else {
            let place =
                self.wrong_samples.partition_point(|other| other.inversion >= sample.inversion);
            self.wrong_samples.insert(place, sample);
            self.wrong_samples.truncate(SAMPLES);
        }
    }
}

fn sample(line: &Map<String, Value>) -> Option<Sample> {
    let responses = line.get("responses")?.as_array()?.iter().filter_map(Value::as_object);
    let mut responses: Vec<Scored> = responses
        .map(|response| Scored {
            text: response.get("text").map(text).unwrap_or_default(),
            rank: number(response, "rank"),
            reward: number(response, "reward"),
        })
        .collect();
    responses.sort_by(|a, b| a.rank.total_cmp(&b.rank));
    let compared = &responses[..responses.len().min(LONGEST_LIST)];
    let inversion = pairs(compared).map(|(winner, loser)| loser.reward - winner.reward);
    Some(Sample {
        list: line.get("list").and_then(Value::as_u64),
        prompt: line.get("prompt").filter(|prompt| !prompt.is_null()).map(text),
        inversion: inversion.filter(|difference| *difference > 0.0).sum(),
        responses,
    })
}

/// All winners with their losers.
fn pairs(responses: &[Scored]) -> impl Iterator<Item = (&Scored, &Scored)> {
    responses.iter().enumerate().flat_map(move |(index, winner)| {
        let below = responses[index + 1..].iter();
        below.filter(|loser| loser.rank > winner.rank).map(move |loser| (winner, loser))
    })
}

/// A text as it is, messages one below the other, and anything else as JSON.
fn text(value: &Value) -> String {
    let message = |message: &Value| {
        let field = |name| message.get(name).and_then(Value::as_str);
        Some(format!("{}: {}", field("role")?, field("content")?))
    };
    let messages = |messages: &Vec<Value>| messages.iter().map(message).collect::<Option<Vec<_>>>();
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            messages(values).map_or_else(|| value.to_string(), |messages| messages.join("\n"))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(rewards: &[f64]) -> Sample {
        let responses: Vec<Value> = rewards
            .iter()
            .enumerate()
            .map(|(rank, reward)| serde_json::json!({"text": "", "rank": rank, "reward": reward}))
            .collect();
        sample(serde_json::json!({ "responses": responses }).as_object().unwrap()).unwrap()
    }

    #[test]
    fn the_worst_mistakes_are_kept_the_worst_first() {
        let mut set = SetLists::default();
        for size in 0..20 {
            set.add(list(&[0.0, f64::from(size)]));
            set.add(list(&[1.0, 0.0]));
        }
        let inversions: Vec<f64> = set.wrong_samples.iter().map(|list| list.inversion).collect();
        assert_eq!(inversions, [19.0, 18.0, 17.0, 16.0, 15.0, 14.0]);
        assert_eq!((set.lists, set.right, set.right_samples.len()), (40, 20, SAMPLES));
    }

    #[test]
    fn rewards_that_are_equal_or_missing_are_not_in_the_right_order() {
        let mut set = SetLists::default();
        set.add(list(&[1.0, 1.0]));
        set.add(list(&[f64::NAN, 1.0]));
        set.add(list(&[1.0]));
        assert_eq!((set.lists, set.right, set.wrong_samples.len()), (2, 0, 2));
    }

    #[test]
    fn messages_are_shown_one_below_the_other() {
        let messages = serde_json::json!([
            {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
        ]);
        assert_eq!(text(&messages), "user: Why?\nassistant: So.");
        assert_eq!(text(&serde_json::json!([1, "a"])), "[1,\"a\"]");
    }
}
