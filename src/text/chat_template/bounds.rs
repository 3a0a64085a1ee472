//! What the engine's fuel does not bound: the size of nested values, and time.
//!
//! [`source`](super::source) puts calls of these functions into a template wherever a list or
//! dictionary is made, a variable is set, and a loop, branch or macro is entered.

use std::cell::Cell;
use std::time::{Duration, Instant};

use minijinja::value::{Rest, Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

/// What all names of these functions begin with. A template must not have it, or it could put its
/// own in their place.
pub(super) const PREFIX: &str = "__bounded";
/// Checks a new value and returns it.
pub(super) const VALUE: &str = "__bounded_value";
/// The same for what becomes a part of a namespace.
pub(super) const PART: &str = "__bounded_part";
/// Checks what has come into scope, and the time.
pub(super) const STEP: &str = "__bounded_step";

/// How messages about bounds begin.
pub(super) const BOUND: &str = "a template may ";

const MAX_PARTS: usize = 1 << 17;
const MAX_DEPTH: usize = 64;
const MAX_TIME: Duration = Duration::from_secs(1);

/// How many parts are looked at for one fuel.
const PARTS_PER_FUEL: usize = 16;

thread_local! {
    /// When the rendering on this thread has to be done.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs a rendering, which has to end in time.
pub(super) fn timed<T>(render: impl FnOnce() -> T) -> T {
    DEADLINE.set(Instant::now().checked_add(MAX_TIME));
    let result = render();
    DEADLINE.set(None);
    result
}

pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_function(VALUE, |state: &State, value: Value| bounded(state, value));
    environment.add_function(PART, |state: &State, value: Value| {
        let value = bounded(state, value)?;
        // A namespace in a namespace could contain itself.
        if holds_namespace(&value) {
            return Err(refused("not put a namespace into a namespace"));
        }
        Ok(value)
    });
    environment.add_function(STEP, |state: &State, values: Rest<Value>| {
        values.iter().try_for_each(|value| measure(state, value))?;
        in_time()
    });
}

pub(super) fn refused(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{BOUND}{what}"))
}

fn in_time() -> Result<(), Error> {
    match DEADLINE.get() {
        Some(deadline) if Instant::now() > deadline => {
            Err(refused(&format!("take {} second at most", MAX_TIME.as_secs())))
        }
        _ => Ok(()),
    }
}

/// Sums of lists and results of filters are views into others, which could be chained without end:
/// they become lists of their own.
fn bounded(state: &State, value: Value) -> Result<Value, Error> {
    in_time()?;
    let Some(object) = value.as_object() else { return Ok(value) };
    let plain = value.downcast_object_ref::<Vec<Value>>().is_some()
        || value.downcast_object_ref::<Tuple>().is_some();
    let value = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable if !plain => {
            if object.enumerator_len().is_some_and(|length| length > MAX_PARTS) {
                return Err(too_many());
            }
            let items = value.try_iter()?.checked().take(MAX_PARTS + 1);
            Value::from(items.collect::<Result<Vec<Value>, Error>>()?)
        }
        _ => value,
    };
    measure(state, &value)?;
    Ok(value)
}

fn measure(state: &State, value: &Value) -> Result<(), Error> {
    if value.as_object().is_none() {
        return Ok(());
    }
    let mut parts = 0;
    let result = count(value, &mut parts, 0);
    state.consume_fuel((parts / PARTS_PER_FUEL) as u64)?;
    result
}

fn count(value: &Value, parts: &mut usize, depth: usize) -> Result<(), Error> {
    *parts += 1;
    if *parts > MAX_PARTS {
        return Err(too_many());
    }
    if depth > MAX_DEPTH {
        return Err(refused(&format!("nest lists and dictionaries {MAX_DEPTH} deep at most")));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter()?.checked().try_for_each(|item| count(&item?, parts, depth + 1))
        }
        ValueKind::Map => value.try_iter()?.checked().try_for_each(|key| {
            let key = key?;
            count(&key, parts, depth + 1)?;
            count(&value.get_item(&key)?, parts, depth + 1)
        }),
        _ => Ok(()),
    }
}

fn too_many() -> Error {
    refused(&format!("make lists and dictionaries of {MAX_PARTS} parts at most"))
}

/// `value` has been measured.
fn holds_namespace(value: &Value) -> bool {
    let Some(object) = value.as_object() else { return false };
    let values = |of: &dyn Fn(Value) -> Value| {
        let items = value.try_iter().into_iter().flat_map(|items| items.checked());
        items.flatten().any(|item| holds_namespace(&of(item)))
    };
    match value.kind() {
        ValueKind::Map => {
            object.type_name().ends_with("::Namespace")
                || values(&|key| value.get_item(&key).unwrap_or(Value::UNDEFINED))
        }
        ValueKind::Seq | ValueKind::Iterable => values(&|item| item),
        _ => false,
    }
}
