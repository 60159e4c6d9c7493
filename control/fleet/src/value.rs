//! Values in Redis: an answer as a DNS message, its lifetimes, and a checksum over everything.
//!
//! Values are untrusted. One that does not begin with the magic bytes and version is *foreign*; one
//! that does but has a wrong checksum or unknown flags is *damaged*; neither is used. The message
//! inside is validated like an upstream's response.

use ringdns_common::{message, names};
use ringdns_dataplane::{
    clock::Secs,
    dns::{
        answer::Answer,
        key::{Asked, Key},
    },
};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// Version of keys and values. Appliances of different versions do not see each other's values.
pub const VERSION: u8 = 2;
const MAGIC: [u8; 4] = *b"rdns";
/// Length in bytes of the fixed part. The checksum is at its end.
const HEAD: usize = 56;
const CHECKSUM: usize = HEAD - 8;
/// Flag: the value has an extended DNS error.
const HAS_EDE: u8 = 0x01;

/// Reason why a value is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The value was not written by this version of ringdns.
    Foreign,
    /// The value was written by this version, but has been changed.
    Damaged,
}

/// Answer as stored in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredValue {
    /// Time at which the answer was received, in Unix time by the writer's clock.
    pub received: u64,
    /// Newest purge that the writer knew of when it received the answer.
    pub generation: u64,
    /// Time that it is fresh after it was received.
    pub ttl: Secs,
    /// Time after `ttl` during which it may still be served as stale.
    pub grace: Secs,
    /// TTL that the source gave, before the limits of the configuration.
    pub source_ttl: Secs,
    /// Time at which the fleet first had an answer to the question, in Unix time.
    pub first_seen: u64,
    /// Recent demand of the fleet when the answer was stored.
    pub hits: u32,
    /// Extended DNS error to send along (RFC 8914).
    pub ede: Option<u16>,
    /// DNS message.
    pub message: Vec<u8>,
}

/// Returns the Redis key of a question's answer: prefix, version, `a`, and the member that names
/// the question.
pub fn name(prefix: &str, asked: Asked<'_>) -> String {
    name_of(prefix, &member(asked))
}

/// Returns the Redis key of the answer that belongs to a member of the index.
pub fn name_of(prefix: &str, member: &str) -> String {
    format!("{prefix}:{VERSION}:a:{member}")
}

/// Returns the question that `member` names. `None`: ringdns writes no such member.
pub fn key(member: &str) -> Option<Key> {
    let mut parts = member.splitn(4, ':');
    let [flags, qtype, _, text] = [(); 4].map(|()| parts.next());
    let (dnssec_ok, checking_disabled) = match flags? {
        "-" => (false, false),
        "d" => (true, false),
        "c" => (false, true),
        "dc" => (true, true),
        _ => return None,
    };
    let wire = names::name(text?).ok()?;
    let key = names::key(&wire, qtype?.parse().ok()?, dnssec_ok, checking_disabled)?;
    (self::member(key.asked()) == member).then_some(key)
}

/// Returns the text that names a question: DO and CD, type, class, name.
pub fn member(asked: Asked<'_>) -> String {
    let flags = match (asked.dnssec_ok(), asked.checking_disabled()) {
        (false, false) => "-",
        (true, false) => "d",
        (false, true) => "c",
        (true, true) => "dc",
    };
    let mut name = format!("{flags}:{}:{}:", asked.qtype(), asked.qclass());
    // Writing to a string cannot fail. Braces in names are escaped, so a cluster hashes the whole
    // key.
    let _ = ringdns_dataplane::dns::key::display_name(asked.name(), &mut name);
    name
}

impl StoredValue {
    /// Returns the value of an answer. `first_seen`: time at which the fleet first had an answer to
    /// the question, if it had one.
    pub fn new(
        asked: Asked<'_>,
        answer: &Answer,
        received: u64,
        first_seen: Option<u64>,
        generation: u64,
    ) -> Self {
        StoredValue {
            received,
            generation,
            ttl: answer.ttl,
            grace: answer.stale,
            source_ttl: answer.source_ttl,
            first_seen: first_seen.unwrap_or(received).min(received),
            hits: 0,
            ede: answer.ede,
            message: message::of(asked, answer),
        }
    }

    /// Encodes the value, to be stored under `name`.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.message.len());
        bytes.extend(MAGIC);
        bytes.extend([VERSION, if self.ede.is_some() { HAS_EDE } else { 0 }]);
        bytes.extend(self.ede.unwrap_or(0).to_be_bytes());
        bytes.extend(self.received.to_be_bytes());
        bytes.extend(self.generation.to_be_bytes());
        bytes.extend(self.ttl.to_be_bytes());
        bytes.extend(self.grace.to_be_bytes());
        bytes.extend(self.source_ttl.to_be_bytes());
        bytes.extend(self.hits.to_be_bytes());
        bytes.extend(self.first_seen.to_be_bytes());
        let sum = checksum(name, &bytes, &self.message);
        bytes.extend(sum.to_be_bytes());
        bytes.extend_from_slice(&self.message);
        bytes
    }

    /// Decodes a value found under `name`.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Unfit> {
        let Some((head, message)) = bytes.split_first_chunk::<HEAD>() else { return Err(Unfit::Foreign) };
        let [m3, m2, m1, m0, version, flags, e1, e0, rest @ ..] = *head;
        if [m3, m2, m1, m0] != MAGIC || version != VERSION {
            return Err(Unfit::Foreign);
        }
        let word = |at: usize| rest[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let half = |at: usize| rest[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        // Unknown flags may change the meaning of the other fields.
        if word(40) != checksum(name, &head[..CHECKSUM], message) || flags & !HAS_EDE != 0 {
            return Err(Unfit::Damaged);
        }
        Ok(StoredValue {
            received: word(0),
            generation: word(8),
            ttl: half(16),
            grace: half(20),
            source_ttl: half(24),
            hits: half(28),
            first_seen: word(32),
            ede: (flags & HAS_EDE != 0).then_some(u16::from_be_bytes([e1, e0])),
            message: message.to_vec(),
        })
    }

    /// Limits the lifetime to `secs` seconds after the answer was received.
    pub fn bounded(self, secs: u64) -> Self {
        let secs = Secs::try_from(secs).unwrap_or(Secs::MAX);
        let ttl = self.ttl.min(secs);
        StoredValue { ttl, grace: self.grace.min(secs - ttl), ..self }
    }

    /// Returns the seconds that it stays in Redis after it was received.
    pub fn lifetime(&self) -> u64 {
        u64::from(self.ttl) + u64::from(self.grace)
    }

    /// Returns the age at the Unix time `now`, while Redis keeps the value for another `left`
    /// milliseconds. It is measured twice: by this host's clock against the writer's, and by
    /// Redis's own clock. The greater age counts: a wrong clock may make an answer useless, but
    /// never younger.
    pub fn age(&self, now: u64, left: u64) -> Ages {
        let secs = |age: u64| Secs::try_from(age).unwrap_or(Secs::MAX);
        Ages {
            by_hosts: secs(now.saturating_sub(self.received)),
            by_redis: secs((self.lifetime() * 1000).saturating_sub(left) / 1000),
        }
    }
}

/// Age of a value in seconds, by each measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// Age by the clocks of this host and of the writer.
    pub by_hosts: Secs,
    /// Age by the clock of Redis.
    pub by_redis: Secs,
}

impl Ages {
    /// Returns the greater age.
    pub fn most(self) -> Secs {
        self.by_hosts.max(self.by_redis)
    }

    /// Whether the ages differ by more than 10 s, so that a clock must be wrong.
    pub fn differ(self) -> bool {
        self.by_hosts.abs_diff(self.by_redis) > 10
    }
}

/// Returns a SipHash-1-3 with a key of zeros: it detects accidents, not attacks. It covers the name
/// too, so that a value is invalid under another key.
fn checksum(name: &str, head: &[u8], message: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    [name.as_bytes(), head, message].into_iter().for_each(|part| hasher.write(part));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_dataplane::dns::answer::TtlRules;

    const RULES: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 3600, stale: 3600, ahead: 10 };

    fn asked() -> Key {
        names::key(&names::name("www.example").unwrap(), 1, true, false).unwrap()
    }

    fn answer() -> Answer {
        let key = asked();
        let mut message = names::query_message(key.asked().name(), [1, 1], 0, 0x8180, None);
        message[7] = 1;
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1]);
        let answer = Answer::from_response(&message, &key, &RULES, 7, false).unwrap();
        Answer { ede: Some(3), ..answer }
    }

    fn value() -> StoredValue {
        StoredValue { hits: 9, ..StoredValue::new(asked().asked(), &answer(), 1_000_000, Some(900_000), 77) }
    }

    fn stored() -> (String, Vec<u8>) {
        let name = name("ringdns", asked().asked());
        let bytes = value().bytes(&name);
        (name, bytes)
    }

    #[test]
    fn keys_name_all_that_an_answer_depends_on() {
        let of = |text: &str, qtype, dnssec_ok, checking_disabled| {
            let key = names::key(&names::name(text).unwrap(), qtype, dnssec_ok, checking_disabled).unwrap();
            assert_eq!(super::key(&member(key.asked())), Some(key.clone()));
            name("x", key.asked())
        };
        assert_eq!(of("www.Example", 28, false, false), "x:2:a:-:28:1:www.example.");
        assert_eq!(of(".", 2, true, false), "x:2:a:d:2:1:.");
        assert_eq!(of("a{b}.c", 1, false, true), "x:2:a:c:1:1:a\\123b\\125.c.");
        assert_eq!(of("a", 1, true, true), "x:2:a:dc:1:1:a.");
        for none in [
            "",
            "-",
            "-:1",
            "-:1:1",
            "-:1:1:",
            "x:1:1:a.",
            "-:1:3:a.",
            "-:1:1:a",
            "-:1:1:A.",
            "-:01:1:a.",
            "-:1:1:a..",
            "-:99999:1:a.",
        ] {
            assert_eq!(super::key(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_stored_is_read_again_and_gives_the_same_answer() {
        let (name, bytes) = stored();
        let mut read = StoredValue::parse(&name, &bytes).unwrap();
        assert_eq!(read, value());
        message::grow_older(&mut read.message, asked().asked(), 100).unwrap();
        let again = Answer::from_response(&read.message, &asked(), &RULES, 7, false).unwrap();
        assert_eq!((again.ttl, &again.wire[..6], again.counts), (200, &answer().wire[..6], [1, 0, 0]));
        message::grow_older(&mut read.message, asked().asked(), Secs::MAX).unwrap();
        let dead = Answer::from_response(&read.message, &asked(), &RULES, 7, false).unwrap();
        assert_eq!(dead.ttl, 0, "it never comes round to a large one");
    }

    #[test]
    fn no_byte_can_be_changed_and_none_be_lost() {
        let (name, bytes) = stored();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            let expected = if at < 5 { Unfit::Foreign } else { Unfit::Damaged };
            assert_eq!(StoredValue::parse(&name, &changed), Err(expected), "byte {at}");
            let expected = if at < HEAD { Unfit::Foreign } else { Unfit::Damaged };
            assert_eq!(StoredValue::parse(&name, &bytes[..at]), Err(expected), "cut at {at}");
        }
        let other = name.replace(":d:", ":-:");
        assert_eq!(StoredValue::parse(&other, &bytes), Err(Unfit::Damaged), "under another key");
        for foreign in [&b""[..], b"PONG", &[0; 100], &[0xff; 1000]] {
            assert_eq!(StoredValue::parse(&name, foreign), Err(Unfit::Foreign));
        }
    }

    #[test]
    fn flags_of_another_version_are_not_ignored() {
        let (name, mut bytes) = stored();
        bytes[5] |= 0x80;
        let sum = checksum(&name, &bytes[..CHECKSUM], &bytes[HEAD..]);
        bytes[CHECKSUM..HEAD].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(StoredValue::parse(&name, &bytes), Err(Unfit::Damaged));
    }

    #[test]
    fn what_the_index_does_not_know_lasts_for_less_time() {
        let lasting = |secs| {
            let value = value().bounded(secs);
            (value.ttl, value.grace)
        };
        assert_eq!(
            [100, 400, 10_000, u64::MAX].map(lasting),
            [(100, 0), (300, 100), (300, 3600), (300, 3600)]
        );
    }

    /// The value was received at 1,000,000, is fresh for 300 s, and then stale for an hour.
    #[test]
    fn the_clock_that_says_more_is_believed() {
        let value = value();
        let all = value.lifetime() * 1000;
        assert_eq!(all, 3_900_000);
        let age = |now, left| value.age(now, left).most();
        assert_eq!(age(1_000_000, all), 0);
        assert_eq!(age(1_000_060, all - 60_000), 60);
        assert_eq!(age(999_000, all - 60_000), 60, "our clock is behind");
        assert_eq!(age(1_005_000, all - 60_000), 5000, "or ahead, or theirs was behind");
        assert_eq!(age(1_000_060, all + 9_000_000), 60, "Redis's has gone back");
        assert_eq!(age(u64::MAX, 0), Secs::MAX);
        assert!(value.age(999_000, all - 60_000).differ() && !value.age(1_000_065, all - 60_000).differ());
    }

    #[test]
    fn messages_whose_records_do_not_fit_do_not_grow_older() {
        let asked = asked();
        for change in [
            |message: &mut Vec<u8>| message.truncate(message.len() - 1),
            |message: &mut Vec<u8>| message.push(0),
            |message: &mut Vec<u8>| message[7] = 2,
            |message: &mut Vec<u8>| message.truncate(5),
            |message: &mut Vec<u8>| message.clear(),
            // An OPT.
            |message: &mut Vec<u8>| {
                message[11] = 1;
                message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
            },
        ] {
            let mut value = value();
            change(&mut value.message);
            assert_eq!(
                message::grow_older(&mut value.message, asked.asked(), 1),
                None,
                "{:?}",
                value.message
            );
        }
    }
}
