//! Words of zone files (RFC 1035 section 5.1).

use super::error::DataError;

/// Word as written, without the quotation marks around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Text with its escapes.
    pub text: String,
    /// Whether it begins with a quotation mark.
    pub quoted: bool,
}

/// Splits a line into words, which it adds to `words`, up to a comment. `depth` is the number of
/// open parentheses, within which a line is continued by the next.
pub(super) fn split(line: &str, words: &mut Vec<Word>, depth: &mut u32) -> Result<(), DataError> {
    let mut rest = line.chars();
    let mut word: Option<Word> = None;
    let mut in_quotes = false;
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                let text = &mut word.get_or_insert_with(|| Word { text: String::new(), quoted: false }).text;
                text.push(c);
                text.extend(rest.next());
            }
            '"' => {
                in_quotes = !in_quotes;
                word.get_or_insert_with(|| Word { text: String::new(), quoted: true });
            }
            c if in_quotes => word.iter_mut().for_each(|word| word.text.push(c)),
            ';' => break,
            ' ' | '\t' | '\r' => words.extend(word.take()),
            '(' => {
                words.extend(word.take());
                *depth += 1;
            }
            ')' => {
                words.extend(word.take());
                *depth = depth.checked_sub(1).ok_or(DataError::Parenthesis)?;
            }
            c => word.get_or_insert_with(|| Word { text: String::new(), quoted: false }).text.push(c),
        }
    }
    if in_quotes {
        return Err(DataError::Quote);
    }
    words.extend(word);
    Ok(())
}

/// Returns the bytes of a text with its escapes resolved: `\DDD` is decimal, and `\X` is X.
pub(super) fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let first = rest.next()?;
        if !first.is_ascii_digit() {
            bytes.push(first);
            continue;
        }
        let digits = [first, rest.next()?, rest.next()?];
        let number = std::str::from_utf8(&digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
        bytes.push(number?.parse().ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<String>, DataError> {
        let (mut words, mut depth) = (Vec::new(), 0);
        split(line, &mut words, &mut depth)?;
        Ok(words.into_iter().map(|word| word.text).collect())
    }

    #[test]
    fn quotes_escapes_and_comments_are_understood() {
        for (line, expected) in [
            ("a  b\tc ; d", &["a", "b", "c"][..]),
            (r#""a b" "" c;d"#, &["a b", "", "c"]),
            (r#"alpn="h2,h3" k="a ; b""#, &["alpn=h2,h3", "k=a ; b"]),
            (r#""say \"no\"" a\;b a\ b"#, &[r#"say \"no\""#, r"a\;b", r"a\ b"]),
            ("( a (b) )c", &["a", "b", "c"]),
            ("; nothing", &[]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        assert_eq!(words("\"a"), Err(DataError::Quote));
        assert_eq!(words("a)"), Err(DataError::Parenthesis));
        assert_eq!(unescaped(r#"a\059\"\\\255"#).unwrap(), b"a;\"\\\xff");
        for wrong in ["\\", "\\2", "\\25", "\\256", "\\2x5"] {
            assert_eq!(unescaped(wrong), None, "{wrong}");
        }
    }
}
