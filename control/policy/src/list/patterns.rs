//! Rules with regular expressions.

use super::special::heap_bytes;
use crate::{
    clients::Client,
    rule::{Rule, Subject},
};
use arrayvec::ArrayVec;
use regex::bytes::{RegexBuilder, RegexSet, RegexSetBuilder};

/// Most bytes of all compiled expressions of a list together. They bound the time of a look-up,
/// which in the worst case reads all of them for each byte of a name.
pub const PATTERNS_BYTES_MAX: usize = 256 << 10;

/// Most bytes of a thread's memory of expressions.
const CACHE_BYTES_MAX: usize = 1 << 20;

/// Most bytes of one compiled expression.
const PATTERN_BYTES_MAX: usize = 64 << 10;

/// Deepest nesting of an expression.
const NESTING_MAX: u32 = 50;

/// Most bytes of a name as text: each of its 253 bytes may be written as `\DDD`.
const TEXT_MAX: usize = 4 * 255;

/// Rules with regular expressions, compiled as one set that reads a name once.
#[derive(Debug)]
pub(super) struct Patterns {
    set: RegexSet,
    rules: Vec<Rule>,
}

impl Patterns {
    /// Compiles the expressions of `rules`, and returns the number of rules at their end that had no
    /// room. Each passes [`check`].
    pub fn new(mut rules: Vec<Rule>) -> (Self, usize) {
        let all = rules.len();
        if let Ok(set) = compile(&rules) {
            return (Patterns { set, rules }, 0);
        }
        // Bisection: as many as fit, in the order of the list.
        let (mut fits, mut fails) = (0, all);
        while fails - fits > 1 {
            let middle = fits.midpoint(fails);
            match compile(rules.get(..middle).unwrap_or_default()) {
                Ok(_) => fits = middle,
                Err(_) => fails = middle,
            }
        }
        rules.truncate(fits);
        let set = compile(&rules).unwrap_or_else(|_| RegexSet::empty());
        (Patterns { set, rules }, all - fits)
    }

    /// Returns all rules.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Calls `found` with each rule that applies to a question of clients.
    #[inline]
    pub fn find<'a>(&'a self, name: &[u8], (qtype, client): (u16, Client), mut found: impl FnMut(&'a Rule)) {
        if self.rules.is_empty() {
            return;
        }
        for at in &self.set.matches(&text(name)) {
            if let Some(rule) = self.rules.get(at).filter(|rule| rule.applies(name, qtype, client)) {
                found(rule);
            }
        }
    }

    /// Bytes that the rules have allocated, without the compiled expressions.
    pub fn bytes(&self) -> usize {
        self.rules.capacity() * size_of::<Rule>() + self.rules.iter().map(heap_bytes).sum::<usize>()
    }
}

/// Checks that an expression compiles. Returns the reason why not.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    let compiled = RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(PATTERN_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build();
    match compiled {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(limit)) => Err(format!("it takes more than {limit} bytes")),
        // The first lines of the text repeat the expression with a mark below.
        Err(error) => Err(error.to_string().lines().last().unwrap_or_default().replace("error: ", "")),
    }
}

fn compile(rules: &[Rule]) -> Result<RegexSet, regex::Error> {
    let patterns = rules.iter().filter_map(|rule| match &rule.subject {
        Subject::Regex(pattern) => Some(pattern),
        _ => None,
    });
    RegexSetBuilder::new(patterns)
        .unicode(false)
        .size_limit(PATTERNS_BYTES_MAX)
        .dfa_size_limit(CACHE_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build()
}

/// Returns the text form of a name, without the last dot. Bytes that no label of a host has are
/// written as `\DDD` (RFC 1035 section 5.1).
fn text(name: &[u8]) -> ArrayVec<u8, TEXT_MAX> {
    let mut text = ArrayVec::new();
    let mut rest = name;
    while let Some((len, after)) = rest.split_first() {
        let Some((label, after)) = after.split_at_checked(usize::from(*len)) else { break };
        if !text.is_empty() && !label.is_empty() {
            let _ = text.try_push(b'.');
        }
        for byte in label {
            if byte.is_ascii_graphic() && !matches!(byte, b'.' | b'\\') {
                let _ = text.try_push(*byte);
            } else {
                let digits = [b'\\', b'0' + byte / 100, b'0' + byte / 10 % 10, b'0' + byte % 10];
                let _ = text.try_extend_from_slice(&digits);
            }
        }
        rest = after;
    }
    text
}
