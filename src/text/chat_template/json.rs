//! `tojson`, as Python's `json.dumps` writes.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

use super::bounds;

const MAX_INDENT: usize = 64;
const MAX_DEPTH: usize = 100;
/// How many bytes are written for one fuel.
const BYTES_PER_FUEL: usize = 16;

pub(super) struct Style {
    ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sorted: bool,
}

impl Style {
    pub fn new(
        ascii: Option<Value>,
        indent: Option<Value>,
        separators: Option<Value>,
        sorted: Option<Value>,
    ) -> Result<Style, Error> {
        let is = |value: Option<Value>| value.is_some_and(|value| value.is_true());
        let indent = match indent.filter(|indent| !indent.is_none()) {
            None => None,
            Some(indent) => Some(match (indent.as_str(), indent.as_i64()) {
                (Some(text), _) => text.to_owned(),
                (None, Some(width)) => " ".repeat(width.clamp(0, MAX_INDENT as i64 + 1) as usize),
                (None, None) => return Err(wrong("indent must be a number or a string")),
            }),
        };
        if indent.as_ref().is_some_and(|indent| indent.len() > MAX_INDENT) {
            return Err(bounds::refused(&format!("indent by {MAX_INDENT} at most")));
        }
        let given = match separators.filter(|separators| !separators.is_none()) {
            None => None,
            Some(pair) => {
                let texts = pair.try_iter()?.checked().take(3).collect::<Result<Vec<_>, _>>()?;
                match texts.iter().map(Value::as_str).collect::<Vec<_>>()[..] {
                    [Some(item), Some(key)] => Some((item.to_owned(), key.to_owned())),
                    _ => return Err(wrong("separators must be two strings")),
                }
            }
        };
        let (item_separator, key_separator) = given.unwrap_or_else(|| {
            let item = if indent.is_some() { "," } else { ", " };
            (item.to_owned(), ": ".to_owned())
        });
        Ok(Style { ascii: is(ascii), indent, item_separator, key_separator, sorted: is(sorted) })
    }
}

pub(super) fn write(state: &State, value: &Value, style: &Style) -> Result<String, Error> {
    let mut writer = Writer { out: String::new(), paid: 0, state, style };
    writer.value(value, 0)?;
    writer.pay(0)?;
    Ok(writer.out)
}

struct Writer<'a, 'b, 'c> {
    out: String,
    /// The bytes of `out` that fuel was taken for.
    paid: usize,
    state: &'a State<'b, 'c>,
    style: &'a Style,
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(wrong("the value is nested too deeply"));
        }
        self.pay(1024)?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value)?,
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.checked();
                self.all('[', ']', depth, items, |writer, item| writer.value(&item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
                if self.style.sorted {
                    keys.sort();
                }
                let keys = keys.into_iter().map(Ok);
                self.all('{', '}', depth, keys, |writer, key| {
                    match key.kind() {
                        ValueKind::String => writer.string(key.as_str().unwrap_or_default())?,
                        _ => {
                            writer.out.push('"');
                            writer.value(&key, depth + 1)?;
                            writer.out.push('"');
                        }
                    }
                    writer.out.push_str(&writer.style.key_separator);
                    writer.value(&value.get_item(&key)?, depth + 1)
                })?;
            }
            kind => return Err(wrong(&format!("a value of type {kind} is not JSON"))),
        }
        Ok(())
    }

    fn all(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        items: impl Iterator<Item = Result<Value, Error>>,
        mut write: impl FnMut(&mut Self, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                self.out.push_str(&self.style.item_separator);
            }
            empty = false;
            self.line(depth + 1);
            write(self, item?)?;
        }
        if !empty {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.style.indent {
            self.out.push('\n');
            (0..depth).for_each(|_| self.out.push_str(indent));
        }
    }

    fn number(&mut self, value: &Value) -> Result<(), Error> {
        if value.is_integer() {
            self.out.push_str(&value.to_string());
            return Ok(());
        }
        let number = f64::try_from(value.clone())?;
        self.out.push_str(&float(number));
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || self.style.ascii && !c.is_ascii() => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
            self.pay(1024)?;
        }
        self.out.push('"');
        Ok(())
    }

    /// Pays for what was written, unless it is less than `least` bytes.
    fn pay(&mut self, least: usize) -> Result<(), Error> {
        let written = self.out.len() - self.paid;
        if written > least {
            self.paid = self.out.len();
            self.state.consume_fuel((written / BYTES_PER_FUEL) as u64)?;
        }
        Ok(())
    }
}

/// As Python prints a float: the shortest digits, in scientific form below 1e-4 and from 1e16.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{number:?}")
}

fn wrong(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {message}"))
}
