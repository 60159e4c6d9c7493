//! Questions from a file or made up, packed, because there may be millions.

use crate::{
    mix::Types,
    question::{record_type, wire_question},
};
use anyhow::{Context, Result, bail, ensure};
use std::{fs, path::Path};

/// Suffix of made-up names. With it and seven characters of their own, an answer with one A record
/// has 52 bytes: the size that this project's figures are for. Not under `test`: resolvers answer
/// those names by themselves (RFC 6761 section 6.2), so that the run would not measure their cache.
pub const SUFFIX: &str = "rb.example";

/// Questions in wire form, each name, type and class.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Questions {
    /// Reads a file in dnsperf's format: `NAME TYPE` a line. The type may be missing (then `qtype`), as in lists of
    /// popular names; empty lines and `#` comments are skipped. Takes at most `limit` questions.
    pub fn read(path: &Path, qtype: u16, limit: Option<usize>) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the names file {}", path.display()))?;
        let mut questions = Questions::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            if limit.is_some_and(|limit| questions.len() >= limit) {
                break;
            }
            let question = parse(line, qtype);
            let question = question.with_context(|| format!("{}:{}", path.display(), number + 1))?;
            questions.push(&question)?;
        }
        if questions.is_empty() {
            bail!("{} holds no question: write lines like \"example.com A\"", path.display());
        }
        if let Some(limit) = limit.filter(|limit| questions.len() < *limit) {
            bail!("{} holds {} questions, fewer than --count {limit}", path.display(), questions.len());
        }
        Ok(questions)
    }

    /// Makes up `count` names under `suffix`: seven characters each, so that all answers have one size.
    pub fn made_up(count: usize, suffix: &str, qtype: u16) -> Result<Self> {
        let tail = wire_question(suffix, qtype)?;
        let mut questions = Questions::default();
        for number in 0..count {
            let mut question = vec![7];
            question.extend_from_slice(&label(number as u64));
            question.extend_from_slice(&tail);
            questions.push(&question)?;
        }
        Ok(questions)
    }

    /// Returns each question once for each of the types, consecutively, whatever its own type.
    pub fn for_types(&self, types: &Types) -> Result<Self> {
        let mut all = Questions::default();
        for index in 0..self.len() as u32 {
            let mut question = self.get(index).to_vec();
            let at = question.len() - 4;
            for qtype in types.types() {
                question[at..at + 2].copy_from_slice(&qtype.to_be_bytes());
                all.push(&question)?;
            }
        }
        Ok(all)
    }

    /// Adds a question in wire form.
    pub fn push(&mut self, question: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(question);
        let end = u32::try_from(self.bytes.len());
        self.ends.push(end.context("the names take more than 4 GiB: use fewer (--count)")?);
        Ok(())
    }

    /// Returns name, type and class of one question.
    #[inline]
    pub fn get(&self, index: u32) -> &[u8] {
        let index = index as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.bytes[start..self.ends[index] as usize]
    }

    /// Returns the number of questions.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no questions.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

fn parse(line: &str, qtype: u16) -> Result<Vec<u8>> {
    let mut words = line.split_ascii_whitespace();
    let name = words.next().unwrap_or_default();
    let qtype = words.next().map_or(Ok(qtype), record_type)?;
    ensure!(words.next().is_none(), "\"{line}\" has more than a name and a type");
    wire_question(name, qtype)
}

/// Returns `number` as seven characters, the first of which may begin a host name.
fn label(mut number: u64) -> [u8; 7] {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut label = *b"n000000";
    for digit in label[1..].iter_mut().rev() {
        *digit = DIGITS[(number % 36) as usize];
        number /= 36;
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn made_up_names_differ_and_make_answers_of_52_bytes() {
        let questions = Questions::made_up(2000, SUFFIX, 1).unwrap();
        let distinct: std::collections::HashSet<_> = (0..2000).map(|i| questions.get(i).to_vec()).collect();
        assert_eq!(distinct.len(), 2000);
        assert!((0..2000).all(|i| 12 + questions.get(i).len() + 16 == 52));
        assert_eq!(questions.get(37), b"\x07n000011\x02rb\x07example\0\0\x01\0\x01");
    }

    #[test]
    fn files_may_leave_the_type_out() {
        let file = file("# names\nexample.com\nwww.example.com AAAA\n\n");
        let questions = Questions::read(file.path(), 1, None).unwrap();
        assert_eq!(questions.len(), 2);
        assert!(questions.get(0).ends_with(&[0, 1, 0, 1]));
        assert!(questions.get(1).ends_with(&[0, 28, 0, 1]));
    }

    #[test]
    fn a_broken_line_is_named() {
        let file = file("example.com A\nexample.org NOPE\n");
        let error = format!("{:#}", Questions::read(file.path(), 1, None).unwrap_err());
        assert!(error.contains(":2") && error.contains("NOPE"), "{error}");
        let error = Questions::read(file.path(), 1, Some(1)).map(|q| q.len());
        assert_eq!(error.unwrap(), 1, "lines past the limit are not read");
    }
}
