//! Text of others, made fit for a terminal, a page of text or a line of a log.
//!
//! Records, names, URLs and error texts of servers may hold control characters: on a terminal they
//! move the cursor, change the title or hide text, and in a log they forge lines.

use std::fmt::{self, Display, Write};

/// Displays a value with characters that are not printable escaped: `\n`, `\u{1b}`.
pub struct Printable<T>(pub T);

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// Writer that escapes characters that are not printable.
pub struct Escaping<W>(pub W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_unprintable) {
            self.0.write_str(&rest[..at])?;
            let mut letters = rest[at..].chars();
            match letters.next() {
                Some(plain @ ('\n' | '\r' | '\t')) => write!(self.0, "{}", plain.escape_default())?,
                Some(letter) => write!(self.0, "{}", letter.escape_unicode())?,
                None => {}
            }
            rest = letters.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Whether a character is a control character (C0, DEL, C1), or one of those that format text
/// without being seen: direction of writing, line separators, zero width, tags.
fn is_unprintable(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_printable_is_escaped_and_the_rest_stays() {
        for (text, shown) in [
            ("", ""),
            ("www.example. 300 IN TXT \"a\\b\"", "www.example. 300 IN TXT \"a\\b\""),
            ("\u{fc}\u{4e2d}\u{1f600}", "\u{fc}\u{4e2d}\u{1f600}"),
            ("a\x1b[31mb\x07", "a\\u{1b}[31mb\\u{7}"),
            ("a\nb\r\t\0\x7f", "a\\nb\\r\\t\\u{0}\\u{7f}"),
            ("\u{9b}2J\u{85}", "\\u{9b}2J\\u{85}"),
            ("\u{202e}txt\u{2066}\u{200b}", "\\u{202e}txt\\u{2066}\\u{200b}"),
            ("\u{2028}\u{feff}\u{e0041}", "\\u{2028}\\u{feff}\\u{e0041}"),
        ] {
            assert_eq!(Printable(text).to_string(), shown);
        }
    }
}
