//! What is in the data: training and evaluation side by side.

use serde_json::{json, Map, Value};

use super::escape::escape;
use super::tables::{object, value, words};

/// The report on the data as two tables, one of counts and one of lengths, and whatever else it
/// holds; as it is written where it is not as expected.
pub(super) fn data(report: &Map<String, Value>) -> String {
    let splits: Vec<(&String, &Map<String, Value>)> =
        report.iter().filter_map(|(name, split)| Some((name, split.as_object()?))).collect();
    let Some((training, figures)) = splits.iter().find(|(name, _)| *name == "training") else {
        return object(report);
    };
    let evaluation = splits.iter().find(|(name, _)| *name == "evaluation");

    let (mut counts, mut lengths) = (Vec::new(), Vec::new());
    for (name, figure) in *figures {
        let other = evaluation.and_then(|(_, figures)| figures.get(name));
        if let Value::Object(length) = figure {
            lengths.push(row(name, training, length));
            if let (Some((split, _)), Some(Value::Object(length))) = (evaluation, other) {
                lengths.push(row(name, split, length));
            }
        } else {
            let mut row = Map::from_iter([
                ("figure".to_owned(), json!(words(name))),
                ((*training).clone(), figure.clone()),
            ]);
            if let Some((split, _)) = evaluation {
                row.insert((*split).clone(), other.cloned().unwrap_or_default());
            }
            counts.push(Value::Object(row));
        }
    }
    let rest: Map<String, Value> = report
        .iter()
        .filter(|(name, value)| {
            **name != **training
                && evaluation.is_none_or(|(split, _)| name != split)
                && !value.is_null()
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut html = value(&Value::Array(counts));
    if !lengths.is_empty() {
        html += &format!("<h3>Lengths</h3>{}", value(&Value::Array(lengths)));
    }
    for (name, part) in &rest {
        html += &format!("<h3>{}</h3>{}", escape(&words(name)), value(part));
    }
    html
}

fn row(name: &str, split: &str, length: &Map<String, Value>) -> Value {
    let mut row = Map::from_iter([
        ("figure".to_owned(), json!(words(name))),
        ("of".to_owned(), json!(words(split))),
    ]);
    row.extend(length.iter().map(|(name, value)| (name.clone(), value.clone())));
    Value::Object(row)
}
