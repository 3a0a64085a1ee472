//! Texts of the data as HTML.

use std::fmt::Write;

/// A text as HTML, between tags or in a quoted attribute, where it can neither be markup nor move
/// what is around it: characters that a page would obey and a reader would not see (controls,
/// directions of writing) are shown by name.
pub(super) fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + text.len() / 8);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' | '\t' => html.push(character),
            '\r' if characters.peek() == Some(&'\n') => {}
            _ if is_hidden(character) => {
                // Writing to a string does not fail.
                let _ = write!(html, "⟦U+{:04X}⟧", u32::from(character));
            }
            _ => html.push(character),
        }
    }
    html
}

/// A name that fits into a picture: short, on one line, in the letters that its font has.
pub(super) fn label(text: &str) -> String {
    const LONGEST: usize = 24;
    let drawable = |character: char| match character {
        ' '..='~' | '\u{a1}'..='\u{24f}' | 'Α'..='ω' | 'А'..='я' => character,
        _ => '?',
    };
    let mut label: String = text.chars().take(LONGEST).map(drawable).collect();
    if text.chars().nth(LONGEST).is_some() {
        label.push('…');
    }
    label
}

/// The beginning of a text, and how many characters are left out.
pub(super) fn shorten(text: &str, longest: usize) -> (&str, usize) {
    match text.char_indices().nth(longest) {
        Some((end, _)) => (&text[..end], text[end..].chars().count()),
        None => (text, 0),
    }
}

fn is_hidden(character: char) -> bool {
    let code = u32::from(character);
    character.is_control()
        || matches!(code, 0x061C | 0x200E | 0x200F | 0x2028..=0x202E | 0x2066..=0x206F | 0xFEFF)
        || matches!(code, 0xFDD0..=0xFDEF | 0xFFF9..=0xFFFB | 0xE0000..=0xE007F)
        || code & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text() {
        assert_eq!(escape("<b a=\"1\" c='2'>&"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;");
    }

    #[test]
    fn what_is_not_seen_is_named() {
        assert_eq!(escape("a\u{202e}b\0c\u{85}"), "a⟦U+202E⟧b⟦U+0000⟧c⟦U+0085⟧");
        assert_eq!(escape("1\r\n2\t3\r"), "1\n2\t3⟦U+000D⟧");
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(shorten("好的一", 2), ("好的", 1));
        assert_eq!(shorten("ab", 2), ("ab", 0));
        assert_eq!(label("集合\n<"), "???<");
    }
}
