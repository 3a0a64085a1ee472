//! Puts the checks of [`bounds`](super::bounds) into a template's source, and takes the tags out
//! that the engine does not know.

use super::bounds::{PART, PREFIX, STEP, VALUE};
use super::tokens::{factor, token, Factor, Token, MAX_FACTOR};

/// The engine compiles a chain of operators by recursion.
const MAX_OPERATORS: usize = 500;
/// Branches of one `if` become one inside the other.
const MAX_BRANCHES: usize = 100;

/// The same template, with every literal list, dictionary and tuple, every value of a `set`, and
/// what every macro is called with put through a check of its size, and a look at the clock in
/// every loop, branch and macro.
pub(super) fn bounded(source: &str) -> Result<String, String> {
    if source.contains(PREFIX) {
        return Err(format!("a name must not begin with {PREFIX}"));
    }
    let mut out = String::with_capacity(source.len() * 2);
    let mut rest = source;
    // Branches so far of each `if` (or loop) that is open.
    let mut branches: Vec<usize> = Vec::new();
    while let Some(at) = find_tag(rest) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let used = match &rest[..2] {
            "{#" => match rest.find("#}") {
                Some(end) => {
                    out.push_str(&rest[..end + 2]);
                    end + 2
                }
                None => return Err("a comment has no end".into()),
            },
            "{{" => {
                let tag = Tag::scan(rest, "}}")?;
                out.push_str("{{");
                tag.write(&rest[2..tag.end], Targets::None, &mut out)?;
                out.push_str("}}");
                tag.end + 2
            }
            _ => statement(rest, &mut out, &mut branches)?,
        };
        rest = &rest[used..];
    }
    out.push_str(rest);
    Ok(out)
}

fn find_tag(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|two| matches!(two, b"{{" | b"{%" | b"{#"))
}

/// Writes the statement at the start of `rest` and tells its length.
fn statement(rest: &str, out: &mut String, branches: &mut Vec<usize>) -> Result<usize, String> {
    let tag = Tag::scan(rest, "%}")?;
    let inner = &rest[2..tag.end];
    let start = inner.trim_start_matches(['-', '+']).trim_start();
    let name_end = start.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let name = &start[..name_end.unwrap_or(start.len())];
    // "-" or "+" before the end, for the tag that is put behind this one.
    let tail = inner.chars().last().filter(|&c| c == '-' || c == '+');
    let step = |values: &str| {
        let tail = tail.map(String::from).unwrap_or_default();
        format!("{{% do {STEP}({values}) {tail}%}}")
    };
    let head = inner.len() - start.len();
    let plain = |word: &str| format!("{{%{}{word}{}%}}", &inner[..head], &start[name.len()..]);
    match name {
        "raw" => {
            let end = end_of_raw(&rest[tag.end..]).ok_or("{% raw %} has no end")?;
            out.push_str(&rest[..tag.end + end]);
            return Ok(tag.end + end);
        }
        "generation" => out.push_str(&plain("with")),
        "endgeneration" => out.push_str(&plain("endwith")),
        "set" | "for" | "if" | "elif" | "else" | "macro" | "call" | "with" | "filter" => {
            let targets = match name {
                "set" => Targets::BeforeAssignment,
                "for" => Targets::BeforeIn,
                "macro" | "call" => Targets::Parameters,
                _ => Targets::None,
            };
            out.push_str("{%");
            out.push_str(&inner[..head + name.len()]);
            let body = &start[name.len()..];
            let names = tag.write_after(name, body, targets, out)?;
            out.push_str("%}");
            match name {
                "macro" | "call" => out.push_str(&step(&names.join(", "))),
                "with" if names.len() > 1 => {
                    return Err("{% with %} can set one variable at a time".into());
                }
                "with" => out.push_str(&step(&names.join(", "))),
                "for" | "if" | "elif" | "else" => out.push_str(&step("")),
                _ => {}
            }
            match name {
                "for" | "if" => branches.push(0),
                "elif" => {
                    let count = branches.last_mut().ok_or("{% elif %} without {% if %}")?;
                    *count += 1;
                    if *count > MAX_BRANCHES {
                        return Err(format!("more than {MAX_BRANCHES} {{% elif %}} in a row"));
                    }
                }
                _ => {}
            }
        }
        "endfor" | "endif" => {
            branches.pop();
            out.push_str(&rest[..tag.end + 2]);
        }
        "endset" | "endmacro" | "endcall" | "endwith" | "endfilter" | "break" | "continue" => {
            out.push_str(&rest[..tag.end + 2]);
        }
        other => return Err(format!("the statement {{% {other} %}} is not supported")),
    }
    Ok(tag.end + 2)
}

/// Where the `{% endraw %}` begins.
fn end_of_raw(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find("{%")?;
        let inner = text[at + 2..].trim_start_matches(['-', '+']).trim_start();
        if inner.starts_with("endraw") {
            let end = at + text[at..].find("%}")? + 2;
            return Some(end);
        }
        from = at + 2;
    }
}

/// Which part of a statement names variables instead of using them.
#[derive(Clone, Copy, PartialEq)]
enum Targets {
    None,
    BeforeAssignment,
    BeforeIn,
    Parameters,
}

/// A tag from its opening to where its end begins.
struct Tag {
    end: usize,
}

impl Tag {
    /// Finds the end of the tag that `text` begins with.
    fn scan(text: &str, end: &str) -> Result<Tag, String> {
        let (mut at, mut depth, mut operators) = (2, 0_usize, 0);
        loop {
            let rest = &text[at..];
            if depth == 0 && rest.starts_with(end) {
                return Ok(Tag { end: at });
            }
            let (token, length) = token(rest)?;
            match token {
                Token::Open(_) => depth += 1,
                Token::Close(_) => depth = depth.checked_sub(1).ok_or("a bracket too many")?,
                _ => {}
            }
            let operator = match token {
                Token::Other(c) => c != ',' && c != ':' || depth == 0,
                Token::Name(name) => matches!(name, "and" | "or" | "not" | "in" | "is" | "if"),
                Token::Open(_) => !text[..at].trim_end().ends_with(['(', '[', '{', ',', ':']),
                _ => false,
            };
            operators += usize::from(operator);
            if operators > MAX_OPERATORS {
                return Err(format!("more than {MAX_OPERATORS} operators in one tag"));
            }
            at += length;
        }
    }

    fn write(&self, body: &str, targets: Targets, out: &mut String) -> Result<(), String> {
        self.write_after("", body, targets, out).map(|_| ())
    }

    /// Writes the part of a tag that follows its name, and tells which variables come into scope.
    fn write_after<'a>(
        &self,
        name: &str,
        body: &'a str,
        targets: Targets,
        out: &mut String,
    ) -> Result<Vec<&'a str>, String> {
        // The mark at the end belongs to the tag, not to its expression.
        let expression = body.trim_end_matches(['-', '+']);
        let mark = &body[expression.len()..];
        let mut targets = targets;
        // How each open bracket is to be closed.
        let mut open: Vec<&str> = Vec::new();
        let mut names = Vec::new();
        let mut last = Token::Other(' ');
        let mut last_name = None;
        let (mut at, mut dotted, mut assigned) = (0, false, false);
        let mut multiplied = false;
        // Whether `last` follows a dot.
        let mut attribute = false;
        while at < expression.len() {
            let (token, length) = token(&expression[at..])?;
            let text = &expression[at..at + length];
            at += length;
            if token == Token::Other('*') && last != token {
                let power = expression[at..].starts_with('*');
                let last = if attribute { Token::Other('.') } else { last };
                let factor = factor(last, &expression[at..])?;
                if !power && (factor == Factor::Any || factor == Factor::Small && multiplied) {
                    return Err(format!(
                        "a product must have a literal string beside its *, or a number up to \
                         {MAX_FACTOR} and no other product in its tag"
                    ));
                }
                multiplied |= !power && factor == Factor::Small;
            }
            match token {
                Token::Open(c) => {
                    let wraps = targets == Targets::None && !last.is_operand();
                    let wraps = wraps && !matches!(last, Token::Other('.'));
                    let (before, after) = match (wraps, c) {
                        (true, '(') => (format!(" {VALUE}(("), "))"),
                        (true, '[') => (format!(" {VALUE}(["), "])"),
                        (true, _) => (format!(" {VALUE}({{"), "})"),
                        (false, '(') => ("(".into(), ")"),
                        (false, '[') => ("[".into(), "]"),
                        (false, _) => ("{".into(), "}"),
                    };
                    out.push_str(&before);
                    open.push(after);
                }
                Token::Close(_) => {
                    out.push_str(open.pop().ok_or("a bracket too many")?);
                    if targets == Targets::Parameters && open.is_empty() {
                        targets = Targets::None;
                    }
                }
                Token::Other('=')
                    if targets == Targets::BeforeAssignment
                        && open.is_empty()
                        && !expression[at..].starts_with('=') =>
                {
                    targets = Targets::None;
                    assigned = true;
                    let check = if dotted { PART } else { VALUE };
                    out.push_str(&format!("= {check}(("));
                }
                Token::Name("in") if targets == Targets::BeforeIn && open.is_empty() => {
                    targets = Targets::None;
                    out.push_str(text);
                }
                _ => out.push_str(text),
            }
            match token {
                Token::Other('.') if targets == Targets::BeforeAssignment => dotted = true,
                Token::Other('=') if name == "with" && open.is_empty() => names.extend(last_name),
                Token::Name(parameter)
                    if targets == Targets::Parameters
                        && open.len() == 1
                        && matches!(last, Token::Open('(') | Token::Other(',')) =>
                {
                    names.push(parameter);
                }
                _ => {}
            }
            if !matches!(token, Token::Space(_)) {
                last_name = match token {
                    Token::Name(name) => Some(name),
                    _ => None,
                };
                attribute = last == Token::Other('.');
                last = token;
            }
        }
        if assigned {
            out.push_str("))");
        }
        if !open.is_empty() {
            return Err("a bracket has no end".into());
        }
        out.push_str(mark);
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::bounded;

    fn changed(source: &str) -> String {
        bounded(source)
            .unwrap()
            .replace(" __bounded_value", "V")
            .replace("__bounded_part", "P")
            .replace("__bounded_step", "S")
    }

    #[test]
    fn checks_are_put_where_values_are_made() {
        for (source, expected) in [
            ("a {{ b[1:] }} {# {{ [ #} c", "a {{ b[1:] }} {# {{ [ #} c"),
            ("{{ f([1], x=(2, 3)) }}", "{{ f(V([1]), x=V((2, 3))) }}"),
            ("{{ x in ['}}', \"%}\\\"\"] }}", "{{ x in V(['}}', \"%}\\\"\"]) }}"),
            ("{%- set a = b + c -%}\n", "{%- set a =V(( b + c ))-%}\n"),
            ("{% set n.a = {'k': []} %}", "{% set n.a = P(( V({'k': V([])}) ))%}"),
            ("{% set a %}x{% endset %}", "{% set a %}x{% endset %}"),
            ("{% for a, (b, c) in d.items() -%}", "{% for a, (b, c) in d.items() -%}{% do S() -%}"),
            (
                "{% macro m(a, b=[a], c='x,y') %}",
                "{% macro m(a, b=[a], c='x,y') %}{% do S(a, b, c) %}",
            ),
            ("{% if (a) == 1 -%}", "{% if V((a)) == 1 -%}{% do S() -%}"),
            ("{%- generation %}{{ a }}{% endgeneration -%}", "{%- with %}{{ a }}{% endwith -%}"),
            ("{% raw %}{{ [ {% x {% endraw %}[", "{% raw %}{{ [ {% x {% endraw %}["),
        ] {
            assert_eq!(changed(source), expected);
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for source in [
            "{{ [ }}",
            "{{ a ] }}",
            "{{ 'a }}",
            "{# a",
            "{% if a",
            "{{ a * b }}",
            "{{ a * 3 * 4 }}",
            "{{ a * 'b'.split('b') }}",
            "{{ a * 'b' | list }}",
            "{{ a.0 * b }}",
            "{% import 'a' as b %}",
            "{{ __bounded_value(1) }}",
            &format!("{{{{ 1{} }}}}", "+1".repeat(501)),
        ] {
            assert!(bounded(source).is_err(), "{source}");
        }
    }
}
