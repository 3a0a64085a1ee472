//! Numbers, and JSON as tables.

use serde_json::{Map, Value};

use super::escape::{escape, shorten};

const MOST_ROWS: usize = 100;
const LONGEST_TEXT: usize = 400;
const DEEPEST: usize = 5;

/// A number with as many digits as one reads.
pub(super) fn figure(value: f64) -> String {
    let size = value.abs();
    let text = if !value.is_finite() {
        return "–".into();
    } else if (value.fract() == 0.0 || size >= 1e4) && size < 1e15 {
        grouped(&format!("{value:.0}"))
    } else if !(1e-3..1e15).contains(&size) {
        let text = format!("{value:.2e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'))
    } else {
        format!(
            "{value:.*}",
            if size >= 100.0 {
                1
            } else if size >= 10.0 {
                2
            } else {
                3
            }
        )
    };
    text.replace('-', "−")
}

/// Thousands apart from each other.
fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 && digits.len() > 4 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A duration in the two largest units that it has.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// A field's name as words.
pub(super) fn words(name: &str) -> String {
    let mut words = name.replace('_', " ");
    // Names with letters of their own, as weights/bias or σ, stay as they are.
    if words.starts_with(|first: char| first.is_ascii_lowercase()) {
        words[..1].make_ascii_uppercase();
    }
    words
}

/// Any JSON as HTML: objects are tables of two columns, lists of objects are tables.
pub(super) fn value(value: &Value) -> String {
    nested(value, 0)
}

/// The fields of an object, as the rows of a table.
pub(super) fn object(object: &Map<String, Value>) -> String {
    fields(object, 0)
}

fn nested(value: &Value, depth: usize) -> String {
    match value {
        Value::Null => "<span class=\"quiet\">–</span>".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Number(number) => {
            let written = number.to_string();
            match number.as_f64() {
                // A setting is read best as it was set.
                Some(_) if number.is_f64() && written.len() <= 8 => escape(&written),
                Some(value) => figure(value),
                None => escape(&written),
            }
        }
        Value::String(text) => self::text(text, LONGEST_TEXT),
        Value::Object(object) if object.is_empty() => "<span class=\"quiet\">none</span>".into(),
        Value::Array(array) if array.is_empty() => "<span class=\"quiet\">none</span>".into(),
        Value::Object(_) | Value::Array(_) if depth >= DEEPEST => {
            self::text(&value.to_string(), LONGEST_TEXT)
        }
        Value::Object(object) => fields(object, depth + 1),
        Value::Array(array) => match columns(array) {
            Some(columns) => rows(array, &columns, depth + 1),
            None => items(array, depth + 1),
        },
    }
}

fn fields(object: &Map<String, Value>, depth: usize) -> String {
    let mut html = String::from("<table class=\"fields\"><tbody>");
    for (name, value) in object.iter().take(MOST_ROWS) {
        html += &format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
            text(&words(name), 80),
            nested(value, depth)
        );
    }
    html += &more(object.len());
    html += "</tbody></table>";
    html
}

/// The fields that all of them have, if all are objects of the same few fields.
fn columns(array: &[Value]) -> Option<Vec<String>> {
    let first = array.first()?.as_object()?;
    let same = |value: &Value| {
        value.as_object().is_some_and(|object| {
            object.len() == first.len() && first.keys().all(|name| object.contains_key(name))
        })
    };
    let few = (1..=8).contains(&first.len()) && array.iter().all(same);
    few.then(|| first.keys().cloned().collect())
}

fn rows(array: &[Value], columns: &[String], depth: usize) -> String {
    let mut html = String::from("<table class=\"rows\"><thead><tr>");
    let class = |name: &String| {
        let number = |row: &Value| row.get(name).is_some_and(|v| v.is_number() || v.is_null());
        if array.iter().all(number) {
            " class=\"number\""
        } else {
            ""
        }
    };
    let classes: Vec<&str> = columns.iter().map(class).collect();
    for (name, class) in columns.iter().zip(&classes) {
        html += &format!("<th scope=\"col\"{class}>{}</th>", text(&words(name), 80));
    }
    html += "</tr></thead><tbody>";
    for row in array.iter().take(MOST_ROWS) {
        html += "<tr>";
        for (name, class) in columns.iter().zip(&classes) {
            let cell = nested(row.get(name).unwrap_or(&Value::Null), depth);
            html += &format!("<td{class}>{cell}</td>");
        }
        html += "</tr>";
    }
    html += &more(array.len());
    html += "</tbody></table>";
    html
}

fn items(array: &[Value], depth: usize) -> String {
    let shown = array.iter().take(MOST_ROWS).map(|item| nested(item, depth));
    let plain = array.iter().all(|item| item.is_number() || item.is_boolean());
    let mut html = if plain {
        shown.collect::<Vec<_>>().join(", ")
    } else {
        shown.map(|item| format!("<div class=\"item\">{item}</div>")).collect()
    };
    if array.len() > MOST_ROWS {
        html += &format!(" <span class=\"quiet\">and {} more</span>", array.len() - MOST_ROWS);
    }
    html
}

fn more(count: usize) -> String {
    match count.checked_sub(MOST_ROWS) {
        Some(more) if more > 0 => {
            format!("<tr><td colspan=\"8\" class=\"quiet\">and {more} more</td></tr>")
        }
        _ => String::new(),
    }
}

/// A text of the data, at most so long, that keeps its own direction of writing to itself.
pub(super) fn text(text: &str, longest: usize) -> String {
    let (shown, left_out) = shorten(text, longest);
    let mut html = format!("<bdi>{}</bdi>", escape(shown));
    if left_out > 0 {
        html +=
            &format!("<span class=\"quiet\"> … {} more characters</span>", figure(left_out as f64));
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_have_the_digits_one_reads() {
        assert_eq!(figure(0.725_446), "0.725");
        assert_eq!(figure(-1234.0), "−1234");
        assert_eq!(figure(758_145.0), "758\u{202f}145");
        assert_eq!(figure(0.000_012_3), "1.23e−5");
        assert_eq!(figure(f64::NAN), "–");
        assert_eq!(duration(3725.0), "1 h 2 min");
    }

    #[test]
    fn lists_of_like_objects_are_tables_and_others_are_not() {
        let like = value(&json!([{"set": "a", "lists": 2}, {"set": "b", "lists": 1}]));
        assert!(like.contains("<th scope=\"col\"><bdi>Set</bdi></th>"), "{like}");
        // Numbers stand below each other.
        assert!(
            like.contains("<th scope=\"col\" class=\"number\"><bdi>Lists</bdi></th>"),
            "{like}"
        );
        assert!(like.contains("<td class=\"number\">2</td>"), "{like}");
        let unlike = value(&json!([{"size": 4}, "<b>"]));
        assert!(unlike.contains("&lt;b&gt;") && !unlike.contains("scope=\"col\""), "{unlike}");
    }

    #[test]
    fn nothing_is_too_deep_or_too_long() {
        let mut deep = json!("end");
        for _ in 0..100 {
            deep = json!([{ "in": deep, "x": [] }]);
        }
        assert!(value(&deep).matches("<table").count() <= DEEPEST);
        assert!(value(&json!(vec!["x"; 1000])).contains("and 900 more"));
        assert!(value(&json!("x".repeat(5000))).contains("4600 more characters"));
    }
}
