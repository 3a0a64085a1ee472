//! Ranked lists of prompts and responses that are each a string or messages: what all formats end
//! in.

use super::messages::Words;
use super::Problem;
use crate::{Message, RankedList, Ranking};

/// Responses in any order with their ranks: the smaller, the better. Problems are of `prompt`,
/// `responses` and `ranks`.
pub(super) fn by_rank(
    prompt: Option<Words>,
    responses: Vec<Words>,
    ranks: &[f64],
) -> Result<RankedList, Problem> {
    let texts: Option<Vec<&str>> = responses.iter().map(Words::text).collect();
    if let Some(texts) = texts {
        let list = RankedList::with_ranks(texts, ranks)?;
        return Ok(match prompt {
            Some(Words::Text(prompt)) => list.with_prompt(prompt),
            Some(Words::Messages(messages)) => list.with_conversation(messages),
            None => list,
        });
    }
    let prompt = match prompt {
        Some(Words::Text(text)) if !text.is_empty() => {
            let message = "is a string, but there are responses of messages; give messages";
            return Err(Problem::of_field("prompt", message));
        }
        Some(Words::Messages(messages)) => Some(messages),
        _ => None,
    };
    let responses: Vec<Vec<Message>> = responses.into_iter().map(Words::into_messages).collect();
    if ranks.len() != responses.len() {
        let message = format!(
            "holds {} numbers for {} responses; give one for each",
            ranks.len(),
            responses.len()
        );
        return Err(Problem::of_field("ranks", message));
    }
    Ok(RankedList::from_conversations(prompt, responses, &Ranking::from_ranks(ranks)?)?)
}

/// Responses in any order with their scores, which are kept: the higher, the better.
pub(super) fn by_score(
    prompt: Option<Words>,
    responses: Vec<Words>,
    scores: &[f64],
) -> Result<RankedList, Problem> {
    let ranks: Vec<f64> = scores.iter().map(|score| -score).collect();
    Ok(by_rank(prompt, responses, &ranks)?.with_scores(scores)?)
}
