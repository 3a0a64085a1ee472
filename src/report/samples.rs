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
        (&set.wrong_samples, "Lists with the gravest mistakes", "Rewards the wrong way round, by the largest differences of reward, the gravest first. Where the model gives a response another place than people did, it is told below the reward."),
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
        let place = misplaced(response, &sample.responses);
        let share = if high > low { (response.reward - low) / (high - low) } else { 0.5 };
        let share = if share.is_finite() { 100.0 * share } else { 0.0 };
        html += &format!(
            "<tr{}><td class=\"number\">{}</td><td><span class=\"reward\">{}</span><span class=\"track\">\
             <span style=\"width:{share:.1}%\"></span></span>{}</td><td class=\"text\" dir=\"auto\">{}</td></tr>",
            if place.is_some() { " class=\"wrong\"" } else { "" },
            figure(response.rank),
            reward(response.reward),
            place.map(|place| format!("<small>place {place}</small>")).unwrap_or_default(),
            text(&response.text, LONGEST_RESPONSE),
        );
    }
    if sample.responses.len() > MOST_RESPONSES {
        let more = sample.responses.len() - MOST_RESPONSES;
        html +=
            &format!("<tr><td colspan=\"3\" class=\"quiet\">and {more} more responses</td></tr>");
    }
    html += "</tbody></table></article>";
    html
}

/// The place at which the model puts a response, if it is not one that people would give it.
fn misplaced(response: &Scored, all: &[Scored]) -> Option<usize> {
    let count = |is: &dyn Fn(&Scored) -> bool| all.iter().filter(|other| is(other)).count();
    let above = count(&|other| other.rank < response.rank);
    let tied = count(&|other| other.rank == response.rank);
    let higher = count(&|other| other.reward > response.reward);
    let equal = count(&|other| other.reward == response.reward);
    let fits = equal > 0 && higher >= above && higher + equal <= above + tied;
    (!fits).then_some(higher + 1)
}

fn reward(reward: f64) -> String {
    if reward.is_finite() {
        format!("{reward:.2}").replace('-', "−")
    } else {
        "no number".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_told_are_those_that_people_would_not_give() {
        let places = |list: &[(f64, f64)]| -> Vec<Option<usize>> {
            let scored =
                |&(rank, reward): &(f64, f64)| Scored { text: String::new(), rank, reward };
            let list: Vec<Scored> = list.iter().map(scored).collect();
            list.iter().map(|response| misplaced(response, &list)).collect()
        };
        assert_eq!(places(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]), [None; 3]);
        assert_eq!(places(&[(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]), [Some(3), None, Some(1)]);
        // Responses of one rank may have any order among themselves.
        assert_eq!(places(&[(1.0, 3.0), (2.0, 1.0), (2.0, 2.0)]), [None; 3]);
        // Equal rewards tell no order.
        assert_eq!(places(&[(1.0, 1.0), (2.0, 1.0)]), [Some(1), Some(1)]);
    }
}
