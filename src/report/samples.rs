//! Held-out lists with their rewards.

use super::held_out::{Sample, Scored, SetLists};
use super::tables::{figure, text};

const LONGEST_PROMPT: usize = 600;
const LONGEST_RESPONSE: usize = 400;
/// Responses of a list that are shown; the rest is told by number.
const MOST_RESPONSES: usize = 10;

/// The sample lists of a set.
pub(super) fn samples(set: &SetLists) -> String {
    let mut html = String::new();
    let told = [
        (&set.wrong_samples, "Lists with the gravest mistakes", "Rewards the wrong way round, by the largest differences of reward, the gravest first."),
        (&set.right_samples, "Lists in the right order", "The first ones of the set in which every better response has the higher reward."),
    ];
    for (lists, title, what) in told {
        if lists.is_empty() {
            continue;
        }
        html += &format!("<h4>{title}</h4><p class=\"quiet\">{what}</p><div class=\"samples\">");
        for list in lists {
            html += &sample(list);
        }
        html += "</div>";
    }
    html
}

fn sample(sample: &Sample) -> String {
    let mut html = String::from("<article class=\"sample\">");
    if let Some(number) = sample.list {
        html += &format!("<p class=\"quiet\">list {number}</p>");
    }
    if let Some(prompt) = &sample.prompt {
        html += &format!("<p class=\"prompt\" dir=\"auto\">{}</p>", text(prompt, LONGEST_PROMPT));
    }
    let rewards = || sample.responses.iter().map(|response| response.reward);
    let (low, high) = rewards()
        .filter(|reward| reward.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), reward| {
            (low.min(reward), high.max(reward))
        });
    html += "<table class=\"responses\"><thead><tr><th scope=\"col\">Rank</th><th scope=\"col\">Reward</th><th scope=\"col\">Response</th></tr></thead><tbody>";
    for response in sample.responses.iter().take(MOST_RESPONSES) {
        let wrong = is_misplaced(response, &sample.responses);
        let share = if high > low { (response.reward - low) / (high - low) } else { 0.5 };
        let share = if share.is_finite() { 100.0 * share } else { 0.0 };
        html += &format!(
            "<tr{}><td class=\"number\">{}</td><td><span class=\"reward\">{}</span><span class=\"track\">\
             <span style=\"width:{share:.1}%\"></span></span>{}</td><td class=\"text\" dir=\"auto\">{}</td></tr>",
            if wrong { " class=\"wrong\"" } else { "" },
            figure(response.rank),
            reward(response.reward),
            if wrong { "<small>misplaced</small>" } else { "" },
            text(&response.text, LONGEST_RESPONSE),
        );
    }
    if sample.responses.len() > MOST_RESPONSES {
        let more = sample.responses.len() - MOST_RESPONSES;
        html += &format!("<tr><td colspan=\"3\" class=\"quiet\">and {more} more responses</td></tr>");
    }
    html += "</tbody></table></article>";
    html
}

/// Whether a response that is ranked lower has at least the same reward, or one that is ranked
/// higher has at most the same.
fn is_misplaced(response: &Scored, all: &[Scored]) -> bool {
    all.iter().any(|other| {
        let above = other.rank < response.rank;
        let below = other.rank > response.rank;
        above && !(other.reward > response.reward) || below && !(response.reward > other.reward)
    })
}

fn reward(reward: f64) -> String {
    if reward.is_finite() {
        format!("{reward:.2}").replace('-', "−")
    } else {
        "no number".into()
    }
}
