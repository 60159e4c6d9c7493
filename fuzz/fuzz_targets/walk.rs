//! A reader of DNS messages as strict as any client's, written apart from those of the product.

/// Bytes of a header.
const HEADER: usize = 12;

/// Record that was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Walked {
    /// Owner on the wire, lowercased.
    pub owner: Vec<u8>,
    /// Type.
    pub rtype: u16,
    /// Data; if it begins with names that may be compressed, with these expanded.
    pub data: Vec<u8>,
}

/// Returns the records of a message that has one question and nothing behind its last record;
/// `None` if it is malformed.
pub fn walk(message: &[u8]) -> Option<Vec<Walked>> {
    let word = |at: usize| Some(u16::from_be_bytes(*message.get(at..)?.first_chunk::<2>()?));
    let (_, at) = name(message, HEADER)?;
    let mut at = at + 4;
    let mut records = Vec::new();
    let count = [6, 8, 10].into_iter().map(|at| word(at).map(usize::from)).sum::<Option<usize>>()?;
    for _ in 0..count {
        let (owner, fixed) = name(message, at)?;
        let (rtype, begin) = (word(fixed)?, fixed + 10);
        let end = begin + usize::from(word(fixed + 8)?);
        message.get(begin..end)?;
        records.push(Walked { owner, rtype, data: data(message, rtype, begin, end)? });
        at = end;
    }
    (at == message.len()).then_some(records)
}

/// Returns data with its names expanded (RFC 3597 section 4).
fn data(message: &[u8], rtype: u16, begin: usize, end: usize) -> Option<Vec<u8>> {
    let (skip, names) = match rtype {
        2 | 5 | 12 | 39 => (0, 1),
        6 => (0, 2),
        15 => (2, 1),
        33 => (6, 1),
        _ => (0, 0),
    };
    if begin == end {
        return Some(Vec::new());
    }
    let mut data = message.get(begin..end)?.get(..skip)?.to_vec();
    let mut at = begin + skip;
    for _ in 0..names {
        let (name, next) = name(message, at)?;
        data.extend(name);
        at = next;
    }
    data.extend(message.get(at..end)?);
    Some(data)
}

/// Returns the name at `at`, and the offset after it. Pointers lead back, and not into the header.
fn name(message: &[u8], at: usize) -> Option<(Vec<u8>, usize)> {
    let (mut name, mut at, mut end, mut before) = (Vec::new(), at, None, at);
    loop {
        match *message.get(at)? {
            len @ 0..=63 => {
                let next = at + 1 + usize::from(len);
                name.extend(message.get(at..next)?.to_ascii_lowercase());
                at = next;
                if name.len() > 255 {
                    return None;
                }
                if len == 0 {
                    return Some((name, end.unwrap_or(at)));
                }
            }
            high @ 192.. => {
                end = end.or(Some(at + 2));
                at = usize::from(high & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                if !(HEADER..before).contains(&at) {
                    return None;
                }
                before = at;
            }
            _ => return None,
        }
    }
}
