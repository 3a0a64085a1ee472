//! The tokens inside a tag of a template, as far as its checks need them.

/// The most that anything but a literal string is multiplied by: a list could be.
pub(super) const MAX_FACTOR: u32 = 64;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Token<'a> {
    Space(&'a str),
    Name(&'a str),
    /// A number or a string.
    Literal(&'a str),
    Open(char),
    Close(char),
    Other(char),
}

impl Token<'_> {
    /// Whether a bracket behind this one calls or indexes it.
    pub fn is_operand(self) -> bool {
        const WORDS: [&str; 14] = [
            "in",
            "not",
            "and",
            "or",
            "if",
            "else",
            "is",
            "elif",
            "set",
            "for",
            "do",
            "with",
            "filter",
            "recursive",
        ];
        match self {
            Token::Name(name) => !WORDS.contains(&name),
            Token::Literal(_) | Token::Close(_) => true,
            _ => false,
        }
    }
}

/// The first token of a text that is not empty.
pub(super) fn token(text: &str) -> Result<(Token<'_>, usize), String> {
    let Some(first) = text.chars().next() else { return Err("a tag has no end".into()) };
    let run = |is: fn(char) -> bool| text.find(|c| !is(c)).unwrap_or(text.len());
    let (token, length) = match first {
        c if c.is_whitespace() => {
            let length = run(char::is_whitespace);
            (Token::Space(&text[..length]), length)
        }
        '"' | '\'' => {
            let mut escaped = false;
            let end = text[1..].find(|c| {
                let ends = c == first && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            let length = end.ok_or("a string has no end")? + 2;
            (Token::Literal(&text[..length]), length)
        }
        c if c.is_ascii_digit() => {
            let length = run(|c| c.is_ascii_alphanumeric() || c == '_');
            (Token::Literal(&text[..length]), length)
        }
        c if c.is_alphanumeric() || c == '_' => {
            let length = run(|c| c.is_alphanumeric() || c == '_');
            (Token::Name(&text[..length]), length)
        }
        '(' | '[' | '{' => (Token::Open(first), 1),
        ')' | ']' | '}' => (Token::Close(first), 1),
        c => (Token::Other(c), c.len_utf8()),
    };
    Ok((token, length))
}

/// What a product is made of, as far as can be seen.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Factor {
    /// The engine takes fuel for the product of a string before it makes it.
    Text,
    Small,
    Any,
}

/// `last` stands before a `*`, `rest` behind it.
pub(super) fn factor(last: Token<'_>, rest: &str) -> Result<Factor, String> {
    let rest = rest.trim_start();
    let (mut next, length) = token(rest)?;
    // A filter, method or index would make something else of it.
    if rest[length..].trim_start().starts_with(['|', '.', '[', '(']) {
        next = Token::Other('.');
    }
    let mut found = Factor::Any;
    for token in [last, next] {
        if let Token::Literal(literal) = token {
            if literal.starts_with(['"', '\'']) {
                return Ok(Factor::Text);
            }
            if literal.parse().is_ok_and(|number: u32| number <= MAX_FACTOR) {
                found = Factor::Small;
            }
        }
    }
    Ok(found)
}
