//! Methods of Python's strings, lists and dictionaries.

use minijinja::value::from_args;
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::bounds;

pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        match method {
            "removeprefix" | "removesuffix" | "partition" | "rpartition" | "index" => {
                let (part,) = from_args(args)?;
                return by_part(text, method, part);
            }
            // Looks at every character for each of the argument's.
            "strip" | "lstrip" | "rstrip" => {
                let set = args.first().and_then(Value::as_str).map_or(0, str::len);
                state.consume_fuel((text.len() / 64).saturating_mul(set) as u64)?;
            }
            // A width is memory that nothing else pays for.
            "format" if has_long_number(text) => {
                return Err(bounds::refused("format to a width of three digits at most"));
            }
            // A short string takes a slot of a list, however short it is.
            "split" | "rsplit" | "splitlines" => state.consume_fuel(text.len() as u64 / 4)?,
            _ => {}
        }
        if method == "rsplit" {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            if let (Some(separator), Some(most @ 0..)) = (separator, most) {
                return rsplit(text, separator, most as usize);
            }
            return unknown_method_callback(state, value, "split", args);
        }
    }
    unknown_method_callback(state, value, method, args)
}

fn by_part(text: &str, method: &str, part: &str) -> Result<Value, Error> {
    let three = |parts: Option<(&str, &str)>, missing: [&str; 3]| {
        let parts = parts.map_or(missing, |(before, after)| [before, part, after]);
        parts.into_iter().map(Value::from).collect::<Value>()
    };
    Ok(match method {
        "removeprefix" => text.strip_prefix(part).unwrap_or(text).into(),
        "removesuffix" => text.strip_suffix(part).unwrap_or(text).into(),
        "partition" => three(text.split_once(part), [text, "", ""]),
        "rpartition" => three(text.rsplit_once(part), ["", "", text]),
        _ => match text.find(part) {
            Some(at) => Value::from(text[..at].chars().count()),
            None => return Err(Error::new(ErrorKind::InvalidOperation, "substring not found")),
        },
    })
}

fn rsplit(text: &str, separator: &str, most: usize) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    let mut parts: Vec<Value> =
        text.rsplitn(most.saturating_add(1), separator).map(Value::from).collect();
    parts.reverse();
    Ok(Value::from(parts))
}

fn has_long_number(text: &str) -> bool {
    text.as_bytes().windows(4).any(|window| window.iter().all(u8::is_ascii_digit))
}
