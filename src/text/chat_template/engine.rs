//! The Jinja engine, set up as Hugging Face's transformers set up theirs.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::{bounds, json, methods};
use crate::Error as OurError;

const NAME: &str = "template";

/// Steps that every conversation may take, whatever its size.
const FUEL: u64 = 500_000;

/// Far from what a thread of 2 MiB has room for, and enough for macros that describe the types of
/// nested tools.
const RECURSION: usize = 200;

/// The longest format that a template may hand to `strftime_now`.
const MAX_TIME_FORMAT: usize = 256;

/// An environment of this one template.
pub(super) fn environment(source: String) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_recursion_limit(RECURSION);
    environment.set_unknown_method_callback(methods::call);
    environment.add_filter("tojson", tojson);
    // Python's strings and dictionaries are sequences to Jinja.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String)
    });
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    environment.add_function("strftime_now", strftime_now);
    bounds::add_to(&mut environment);
    environment.add_template_owned(NAME, source)?;
    Ok(environment)
}

pub(super) fn render(
    environment: &Environment<'static>,
    context: Value,
    size: usize,
    date: Option<jiff::civil::Date>,
) -> Result<String, Error> {
    let mut environment = environment.clone();
    environment.set_fuel(Some(FUEL.saturating_add(size as u64)));
    if let Some(date) = date {
        environment.add_function("strftime_now", move |format: &str| {
            formatted(format, date.to_datetime(jiff::civil::Time::midnight()))
        });
    }
    bounds::timed(|| environment.get_template(NAME)?.render(context))
}

/// Tells what a template says from what the engine says.
const RAISED: &str = "the template refuses this conversation: ";

pub(super) fn error(error: Error) -> OurError {
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => {
            "needs more steps, memory or output than a template is allowed".to_owned()
        }
        (ErrorKind::InvalidOperation, Some(detail))
            if detail.starts_with(RAISED) || detail.starts_with(bounds::BOUND) =>
        {
            detail.to_owned()
        }
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    OurError::ChatTemplate { message: format!("{what}{line}") }
}

fn tojson(state: &State, value: &Value, args: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let mut given: [Option<Value>; 4] = Default::default();
    if args.len() > given.len() {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    for (slot, value) in given.iter_mut().zip(args.iter()) {
        *slot = Some(value.clone());
    }
    for (slot, name) in given.iter_mut().zip(names) {
        if let Some(value) = named.get::<Option<Value>>(name)? {
            *slot = Some(value);
        }
    }
    named.assert_all_used()?;
    let [ascii, indent, separators, sorted] = given;
    let style = json::Style::new(ascii, indent, separators, sorted)?;
    json::write(state, value, &style).map(Value::from)
}

fn strftime_now(format: &str) -> Result<String, Error> {
    formatted(format, jiff::Zoned::now().datetime())
}

fn formatted(format: &str, time: jiff::civil::DateTime) -> Result<String, Error> {
    let failed = |message: String| Error::new(ErrorKind::InvalidOperation, message);
    if format.len() > MAX_TIME_FORMAT {
        return Err(failed("strftime_now: the format is too long".into()));
    }
    jiff::fmt::strtime::format(format, time)
        .map_err(|error| failed(format!("strftime_now({format:?}): {error}")))
}
