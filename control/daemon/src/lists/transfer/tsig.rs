//! Signatures of transfers (TSIG, RFC 8945).

use super::wire::{self, Message, be16};
use ring::hmac::{self, Context, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512, Key, Tag};
use ringdns_config::TsigAlgorithm;

/// Difference between the clocks of both sides that is tolerated, in seconds.
const FUDGE: u16 = 300;
/// Class ANY and TTL 0, which a TSIG record has.
const ANY: [u8; 6] = [0, 255, 0, 0, 0, 0];
/// Most messages without a signature before one with it (RFC 8945 section 5.3.1).
const UNSIGNED_MAX: u32 = 99;

/// Reason why a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TsigError {
    /// Not signed, or too many messages in a row are not.
    #[error("the primary does not sign its messages. Let it require the key for transfers of the zone")]
    Missing,
    /// Another key or algorithm.
    #[error("a message is signed with another key. Compare tsig_name and tsig_algorithm with the primary")]
    Key,
    /// Wrong signature.
    #[error(
        "a signature is wrong: the secret differs, or a message was changed on its way. Compare tsig_file with the primary"
    )]
    Signature,
    /// Clocks differ.
    #[error("a signature is older or newer than {FUDGE} s. Compare the clocks of both hosts")]
    Time,
}

/// Key that messages are signed with.
pub struct TsigKey {
    name: Vec<u8>,
    algorithm: Vec<u8>,
    key: Key,
}

impl TsigKey {
    /// Returns a key of this name, in wire format, with a secret.
    pub fn new(name: &[u8], algorithm: TsigAlgorithm, secret: &[u8]) -> Self {
        let (algorithm, hmac) = match algorithm {
            TsigAlgorithm::HmacSha256 => (&b"\x0bhmac-sha256\0"[..], HMAC_SHA256),
            TsigAlgorithm::HmacSha384 => (&b"\x0bhmac-sha384\0"[..], HMAC_SHA384),
            TsigAlgorithm::HmacSha512 => (&b"\x0bhmac-sha512\0"[..], HMAC_SHA512),
        };
        TsigKey { name: name.to_ascii_lowercase(), algorithm: algorithm.into(), key: Key::new(hmac, secret) }
    }

    /// Signs a request, and returns the verifier of the responses to it.
    pub fn sign(self, request: &mut Vec<u8>, now: u64) -> Verifier {
        let mac = self.append(request, Context::with_key(&self.key), now);
        let context = after(&self.key, mac.as_ref());
        Verifier { key: self, context, is_first: true, unsigned: 0 }
    }

    /// Returns the verifier of a request.
    pub fn verifier(self) -> Verifier {
        let context = Context::with_key(&self.key);
        Verifier { key: self, context, is_first: true, unsigned: 0 }
    }

    /// Appends the record that signs a message, whose signature begins with `context`.
    fn append(&self, message: &mut Vec<u8>, mut context: Context, now: u64) -> Tag {
        let time = time(now);
        context.update(message);
        let variables = [&self.name[..], &ANY, &self.algorithm, &time, &[0; 4]].concat();
        context.update(&variables);
        let mac = context.sign();
        let id = message.first_chunk::<2>().copied().unwrap_or_default();
        let mac_len = (mac.as_ref().len() as u16).to_be_bytes();
        let data = [&self.algorithm[..], &time, &mac_len, mac.as_ref(), &id, &[0; 4]].concat();
        let head = [&self.name[..], &wire::rtype::TSIG.to_be_bytes(), &ANY].concat();
        message.extend([&head[..], &(data.len() as u16).to_be_bytes(), &data].concat());
        add_record(message);
        mac
    }
}

/// Verifier of the messages of a transfer, which depend on each other.
pub struct Verifier {
    key: TsigKey,
    /// Content of the next signature, as far as it is known.
    context: Context,
    is_first: bool,
    unsigned: u32,
}

/// Data of a TSIG record.
struct Tsig<'a> {
    algorithm: Vec<u8>,
    /// Time and fudge.
    timers: &'a [u8],
    mac: &'a [u8],
    id: &'a [u8],
    /// Error, and length and text of other data.
    rest: &'a [u8],
}

impl Verifier {
    /// Verifies a message. What unsigned messages say is certain only once a later one is signed.
    pub fn verify(&mut self, bytes: &[u8], message: &Message<'_>, now: u64) -> Result<(), TsigError> {
        let Some(record) = &message.tsig else {
            self.unsigned += 1;
            if self.is_first || self.unsigned > UNSIGNED_MAX {
                return Err(TsigError::Missing);
            }
            self.context.update(bytes);
            return Ok(());
        };
        let tsig = Tsig::read(bytes, record.data.start, record.data.end).ok_or(TsigError::Signature)?;
        if record.owner != self.key.name || tsig.algorithm != self.key.algorithm {
            return Err(TsigError::Key);
        }
        let mut unsigned = bytes.get(..record.start).unwrap_or_default().to_vec();
        remove_record(&mut unsigned);
        unsigned.splice(..2, tsig.id.iter().copied());
        self.context.update(&unsigned);
        if self.is_first {
            self.context.update(&[&self.key.name[..], &ANY, &self.key.algorithm].concat());
        }
        self.context.update(tsig.timers);
        if self.is_first {
            self.context.update(tsig.rest);
        }
        let expected = std::mem::replace(&mut self.context, after(&self.key.key, tsig.mac)).sign();
        if !is_same(&self.key.key, &expected, tsig.mac) {
            return Err(TsigError::Signature);
        }
        (self.is_first, self.unsigned) = (false, 0);
        let signed = tsig.timers.iter().take(6).fold(0, |time, byte| time << 8 | u64::from(*byte));
        match now.abs_diff(signed) > u64::from(FUDGE) {
            true => Err(TsigError::Time),
            false => Ok(()),
        }
    }

    /// Signs the reply to a request that was verified.
    pub fn sign_reply(self, reply: &mut Vec<u8>, now: u64) {
        self.key.append(reply, self.context, now);
    }

    /// Whether the last message was signed, as the last one of a transfer must be.
    pub fn is_done(&self) -> bool {
        !self.is_first && self.unsigned == 0
    }
}

impl<'a> Tsig<'a> {
    fn read(message: &'a [u8], from: usize, to: usize) -> Option<Self> {
        let mut at = from;
        let algorithm = wire::name(message, &mut at)?;
        let timers = message.get(at..at + 8)?;
        let end = at + 10 + usize::from(be16(message, at + 8)?);
        let mac = message.get(at + 10..end)?;
        let (id, rest) = (message.get(end..end + 2)?, message.get(end + 2..to)?);
        Some(Tsig { algorithm, timers, mac, id, rest })
    }
}

/// Returns the text of the error in the TSIG record of a refusal, if there is one.
pub fn error_in(bytes: &[u8], message: &Message<'_>) -> Option<&'static str> {
    let data = &message.tsig.as_ref()?.data;
    Some(match be16(Tsig::read(bytes, data.start, data.end)?.rest, 0)? {
        16 => "BADSIG: the secret differs. Compare tsig_file with the primary",
        17 => "BADKEY: it does not know the key. Compare tsig_name and tsig_algorithm with the primary",
        18 => "BADTIME: compare the clocks of both hosts",
        _ => return None,
    })
}

/// Returns the beginning of what follows a signature.
fn after(key: &Key, mac: &[u8]) -> Context {
    let mut context = Context::with_key(key);
    context.update(&(mac.len() as u16).to_be_bytes());
    context.update(mac);
    context
}

/// Compares signatures in constant time: both are signed once more, which `ring` can compare so.
fn is_same(key: &Key, expected: &Tag, mac: &[u8]) -> bool {
    let again = hmac::sign(key, expected.as_ref());
    hmac::verify(key, mac, again.as_ref()).is_ok()
}

/// Returns time and fudge as they are signed.
fn time(now: u64) -> Vec<u8> {
    let [_, _, time @ ..] = now.to_be_bytes();
    [&time[..], &FUDGE.to_be_bytes()].concat()
}

fn add_record(message: &mut [u8]) {
    set_additional(message, |count| count.saturating_add(1));
}

fn remove_record(message: &mut [u8]) {
    set_additional(message, |count| count.saturating_sub(1));
}

fn set_additional(message: &mut [u8], change: impl Fn(u16) -> u16) {
    if let (Some(count), Some(place)) = (be16(message, 10), message.get_mut(10..12)) {
        place.copy_from_slice(&change(count).to_be_bytes());
    }
}
