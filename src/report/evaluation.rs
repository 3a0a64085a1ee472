//! The figures of evaluations: the ones to see first, and all of them in tables.

use serde_json::{Map, Value};

use super::escape::escape;
use super::records::Records;
use super::reliability::{bins, Bin};
use super::tables::{figure, text, words};

/// A figure that is explained.
struct Known {
    name: &'static str,
    label: &'static str,
    meaning: &'static str,
    /// Whether it stands at the top of the page.
    first: bool,
}

const KNOWN: [Known; 18] = [
    known(
        "pairwise_accuracy",
        "Pairwise accuracy",
        "of all pairs, the share whose better response has the higher reward; by chance 0.5",
        true,
    ),
    known(
        "kendall_tau",
        "Kendall’s τ-b",
        "how well the two orders of a list agree: 1 the same, 0 unrelated, −1 reversed",
        true,
    ),
    known("ndcg", "NDCG", "quality of the order, the top places counting most; 1 is best", true),
    known(
        "top1",
        "Best response first",
        "the share of lists whose best response has the highest reward",
        true,
    ),
    known(
        "exact_order",
        "Whole order right",
        "the share of lists that are in the right order from first to last",
        true,
    ),
    known("accuracy", "Accuracy", "the share of labels, or tokens, that the model has right", true),
    known(
        "calibration_error",
        "Calibration error",
        "how far confidence and accuracy of a pair are apart, on average; 0 is best",
        true,
    ),
    known(
        "mean_margin",
        "Mean margin",
        "the reward of the better response less that of the other, on average",
        true,
    ),
    known("loss", "Loss", "what training makes small, here on held-out data", true),
    known(
        "spearman",
        "Spearman’s ρ",
        "rank correlation of the two orders of a list: 1 the same, −1 reversed",
        false,
    ),
    known(
        "reward_mean",
        "Mean reward",
        "its level means nothing by itself: only differences are trained",
        false,
    ),
    known("reward_std", "Standard deviation of rewards", "how far rewards spread", false),
    known(
        "reward_length_correlation",
        "Correlation of reward and length",
        "near 1 the model may reward length for its own sake",
        false,
    ),
    known("lists", "Lists", "lists, or other examples, that were evaluated", false),
    known("pairs", "Pairs", "pairs of responses of which one is ranked above the other", false),
    known(
        "lists_without_pairs",
        "Lists without pairs",
        "lists in which no response is ranked above another",
        false,
    ),
    known(
        "lists_with_constant_rewards",
        "Lists with constant rewards",
        "lists whose responses all have the same reward; τ and ρ leave them out",
        false,
    ),
    known("too_long", "Too long", "lists left out because a response is too long", false),
];

const fn known(
    name: &'static str,
    label: &'static str,
    meaning: &'static str,
    first: bool,
) -> Known {
    Known { name, label, meaning, first }
}

const MOST_CARDS: usize = 8;

/// The figures to see first.
pub(super) fn cards(figures: &Map<String, Value>) -> String {
    let mut html = String::new();
    let shown = KNOWN.iter().filter(|known| known.first);
    let shown = shown.filter_map(|known| Some((known, figures.get(known.name)?.as_f64()?)));
    for (known, value) in shown.take(MOST_CARDS) {
        html += &format!(
            "<div class=\"card\"><h3>{}</h3><p class=\"figure\">{}</p>{}<p>{}</p></div>",
            known.label,
            figure(value),
            interval(figures, known.name)
                .map(|(low, high)| format!(
                    "<p class=\"interval\">between {} and {}</p>",
                    figure(low),
                    figure(high)
                ))
                .unwrap_or_default(),
            known.meaning,
        );
    }
    html
}

/// Every figure of every set that is one number, before training and of the resulting model.
pub(super) fn table(records: &Records) -> String {
    let sets = records.sets();
    let mut columns: Vec<(String, &Map<String, Value>)> = Vec::new();
    for set in &sets {
        let name = text(set, 60);
        let result = records.result(set);
        if let Some(before) = records.before(set) {
            if result.is_some_and(|result| result.step > 0) {
                columns.push((format!("{name}, before training"), &before.figures));
            }
        }
        if let Some(result) = result {
            columns.push((format!("{name}, step {}", result.step), &result.figures));
        }
    }

    let mut names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
    for (_, figures) in &columns {
        let numbers = figures.iter().filter(|(_, value)| value.is_number());
        for (name, _) in numbers {
            if !names.contains(&name.as_str()) && names.len() < 100 {
                names.push(name);
            }
        }
    }
    names.retain(|name| {
        columns.iter().any(|(_, figures)| figures.get(*name).is_some_and(Value::is_number))
    });

    let mut html = String::from("<table class=\"rows\"><thead><tr><th scope=\"col\">Figure</th>");
    for (name, _) in &columns {
        html += &format!("<th scope=\"col\" class=\"number\">{name}</th>");
    }
    html += "<th scope=\"col\">What it is</th></tr></thead><tbody>";
    for name in names {
        let known = KNOWN.iter().find(|known| known.name == name);
        let label = known.map_or_else(|| text(&words(name), 80), |known| known.label.into());
        html += &format!("<tr><th scope=\"row\">{label}</th>");
        for (_, figures) in &columns {
            html += &format!("<td class=\"number\">{}", number(figures, name));
            if let Some((low, high)) = interval(figures, name) {
                html += &format!("<br><small>{} to {}</small>", figure(low), figure(high));
            }
            html += "</td>";
        }
        let meaning = known.map_or("", |known| known.meaning);
        html += &format!("<td class=\"quiet\">{}</td></tr>", escape(meaning));
    }
    html += "</tbody></table>";
    html
}

/// The accuracy of pairs by how far apart their ranks are; empty if it is not known.
pub(super) fn by_rank_distance(figures: &Map<String, Value>) -> String {
    by(figures, "accuracy_by_rank_distance", &[("distance", "Ranks apart"), ("pairs", "Pairs")])
}

/// The accuracy of pairs by the size of their list; empty if it is not known.
pub(super) fn by_list_size(figures: &Map<String, Value>) -> String {
    by(
        figures,
        "accuracy_by_list_size",
        &[("size", "Responses in the list"), ("lists", "Lists"), ("pairs", "Pairs")],
    )
}

/// The numbers behind the reliability plot; empty if they are not known.
pub(super) fn reliability(figures: &Map<String, Value>) -> String {
    let bins = bins(figures);
    if bins.is_empty() {
        return String::new();
    }
    let mut html = String::from(
        "<table class=\"rows\"><thead><tr><th scope=\"col\">Confidence</th>\
         <th scope=\"col\" class=\"number\">Pairs</th><th scope=\"col\" class=\"number\">Mean \
         confidence</th><th scope=\"col\">Accuracy</th></tr></thead><tbody>",
    );
    for Bin { from, to, pairs, confidence, accuracy } in bins {
        html += &format!(
            "<tr><th scope=\"row\">{from:.2}\u{a0}–\u{a0}{to:.2}</th><td class=\"number\">{}</td>\
             <td class=\"number\">{}</td><td>{}</td></tr>",
            figure(pairs),
            figure(confidence),
            bar(accuracy)
        );
    }
    html += "</tbody></table>";
    html
}

fn by(figures: &Map<String, Value>, name: &str, columns: &[(&str, &str)]) -> String {
    const MOST_ROWS: usize = 60;
    let rows = figures.get(name).and_then(Value::as_array);
    let rows: Vec<_> = rows.into_iter().flatten().filter_map(Value::as_object).collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut html = String::from("<table class=\"rows\"><thead><tr>");
    for (_, label) in columns {
        html += &format!("<th scope=\"col\" class=\"number\">{label}</th>");
    }
    html += "<th scope=\"col\">Accuracy</th></tr></thead><tbody>";
    for row in rows.iter().take(MOST_ROWS) {
        html += "<tr>";
        for (name, _) in columns {
            html += &format!("<td class=\"number\">{}</td>", number(row, name));
        }
        html += &format!("<td>{}</td></tr>", bar(super::lines::number(row, "accuracy")));
    }
    if rows.len() > MOST_ROWS {
        let more = rows.len() - MOST_ROWS;
        html += &format!("<tr><td colspan=\"4\" class=\"quiet\">and {more} more</td></tr>");
    }
    html += "</tbody></table>";
    html
}

/// A share as a number and a bar.
fn bar(share: f64) -> String {
    if !share.is_finite() {
        return "<span class=\"quiet\">–</span>".into();
    }
    format!(
        "<span class=\"share\"><span class=\"track\"><span style=\"width:{:.1}%\"></span></span>{}</span>",
        share.clamp(0.0, 1.0) * 100.0,
        figure(share)
    )
}

fn number(object: &Map<String, Value>, name: &str) -> String {
    figure(object.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN))
}

fn interval(figures: &Map<String, Value>, name: &str) -> Option<(f64, f64)> {
    let ends = figures.get(&format!("{name}_interval"))?.as_array()?;
    match ends.as_slice() {
        [low, high] => Some((low.as_f64()?, high.as_f64()?)),
        _ => None,
    }
}
