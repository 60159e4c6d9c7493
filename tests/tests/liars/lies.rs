//! The lies, by the first label of the name that is asked for.
//!
//! The question is `LIE.STEP.ROUND.liar.example.`. The name that a lie tries to take over is
//! `LIE.ROUND.victim.example.`.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use ringdns_testkit::{A, Asked, Over, Query, Say, Seen, TXT, a_record};

pub const TRUE: [u8; 4] = [192, 0, 2, 1];
/// Address in all lies. No client may get these bytes.
pub const FALSE: [u8; 4] = [203, 0, 113, 66];

const NS: u16 = 2;
const CNAME: u16 = 5;
const DNAME: u16 = 39;
const OPT: u16 = 41;
const IN: u16 = 1;
const CHAOS: u16 = 3;

const AA: u16 = 0x0400;

/// Most bytes of a datagram, and of a message over TCP.
const DATAGRAM_MAX: usize = 65_507;
const MESSAGE_MAX: usize = 65_535;

/// Final reply to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Truth,
    ServFail,
}

pub struct Lie {
    pub name: &'static str,
    says: fn(&Seen) -> Vec<Say>,
    pub end: End,
    /// Counters that record the lie, by JSON pointer, and their smallest increases.
    pub counters: &'static [(&'static str, u64)],
}

macro_rules! upstream {
    ($($name:literal: $count:literal),*) => { &[$((concat!("/upstreams/0/counters/", $name), $count)),*] };
}

const WRONG_ID: &[(&str, u64)] = upstream!("ignored_wrong_id": 1, "answers": 1);
const WRONG_QUESTION: &[(&str, u64)] = upstream!("ignored_wrong_question": 1, "answers": 1);
const NOT_RESPONSE: &[(&str, u64)] = upstream!("ignored_not_response": 1, "answers": 1);
const ANSWERED: &[(&str, u64)] = upstream!("answers": 1);
const SCRUBBED: &[(&str, u64)] = upstream!("answers": 1, "scrubbed": 1);
const MALFORMED: &[(&str, u64)] = upstream!("malformed": 1);
const FAILED: &[(&str, u64)] = upstream!("failures": 1);
const MALFORMED_STREAM: &[(&str, u64)] = upstream!("truncated": 1, "malformed": 1, "connections_closed": 1);
const SILENT_STREAM: &[(&str, u64)] = upstream!("truncated": 1, "timeouts": 1, "connections_closed": 1);

/// All lies that take one exchange.
pub const LIES: &[Lie] = &[
    // Forgers who do not see the query, and are faster than the truth.
    truth("id", WRONG_ID, |seen| forged(seen, |lie| lie[1] ^= 1)),
    truth("port", ANSWERED, |seen| vec![Say::SendFromElsewhere(lie(seen)), honest(seen)]),
    truth("address", ANSWERED, |seen| vec![Say::SendFromNeighbour(lie(seen)), honest(seen)]),
    truth("name", WRONG_QUESTION, |seen| forged(seen, |lie| lie[13] ^= 1)),
    truth("type", WRONG_QUESTION, |seen| forged(seen, |lie| lie[fixed(seen) + 1] = TXT as u8)),
    truth("class", WRONG_QUESTION, |seen| forged(seen, |lie| lie[fixed(seen) + 3] = CHAOS as u8)),
    truth("victims-question", WRONG_QUESTION, |seen| {
        let asked = Asked(Query::a(&victim(seen)).id(seen.query.id()).wire());
        vec![Say::Send(asked.address(FALSE)), honest(seen)]
    }),
    truth("no-question", WRONG_QUESTION, |seen| {
        let mut lie = message(&seen.query, 0, &[], &[], &[]);
        lie.truncate(12);
        lie[5] = 0;
        lie[7] = 1;
        lie.extend(address(&seen.query.name(), FALSE));
        vec![Say::Send(lie), honest(seen)]
    }),
    truth("two-questions", WRONG_QUESTION, |seen| {
        let mut lie = message(&seen.query, 0, &[], &[], &[]);
        lie[5] = 2;
        lie[7] = 1;
        lie.extend(Query::a(&victim(seen)).question());
        lie.extend(address(&victim(seen), FALSE));
        vec![Say::Send(lie), honest(seen)]
    }),
    truth("query", NOT_RESPONSE, |seen| forged(seen, |lie| lie[2] &= 0x7f)),
    truth("opcode", NOT_RESPONSE, |seen| forged(seen, |lie| lie[2] |= 5 << 3)),
    truth("short", NOT_RESPONSE, |seen| forged(seen, |lie| lie.truncate(11))),
    truth("nothing", NOT_RESPONSE, |seen| forged(seen, Vec::clear)),
    truth("junk", NOT_RESPONSE, |seen| {
        forged(seen, |lie| {
            lie.truncate(2);
            lie.resize(DATAGRAM_MAX, 0xa5);
        })
    }),
    truth("cookie", upstream!("ignored_wrong_cookie": 1, "answers": 1), |seen| {
        let option = [[0, 10, 0, 16], [6; 4], [6; 4], [7; 4], [7; 4]].concat();
        let opt = record(".", OPT, 1232, 0, &option);
        let lie = message(&seen.query, 0, &[a_record(300, FALSE)], &[], &[opt]);
        vec![Say::Send(lie), honest(seen)]
    }),
    // The upstream tells the truth, and adds lies.
    truth("answer", SCRUBBED, |seen| {
        says(seen, 0, &[address(&victim(seen), FALSE), a_record(300, TRUE)], &[], &[])
    }),
    truth("additional", SCRUBBED, |seen| {
        says(seen, 0, &[a_record(300, TRUE)], &[], &[address(&victim(seen), FALSE)])
    }),
    truth("authority", SCRUBBED, |seen| {
        let (zone, server) = ("victim.example", victim(seen));
        let ns = record(zone, NS, IN, 300, &wire_name(&server));
        let addresses = [address(&server, FALSE)];
        says(seen, AA, &[a_record(300, TRUE)], &[ns, address(&server, FALSE)], &addresses)
    }),
    truth("chaos", SCRUBBED, |seen| {
        let chaos = record(&seen.query.name(), A, CHAOS, 300, &FALSE);
        says(seen, 0, &[chaos, a_record(300, TRUE)], &[], &[])
    }),
    truth("foreign-alias", SCRUBBED, |seen| {
        let alias = alias(&victim(seen), &format!("{}.elsewhere.test", seen.query.name()));
        says(seen, 0, &[alias, a_record(300, TRUE)], &[], &[])
    }),
    truth("behind-the-end", ANSWERED, |seen| {
        let mut truth = message(&seen.query, 0, &[a_record(300, TRUE)], &[], &[]);
        truth.extend(address(&victim(seen), FALSE));
        vec![Say::Send(truth)]
    }),
    truth("twice", upstream!("answers": 1, "ignored_wrong_id": 3), |seen| {
        vec![honest(seen), honest(seen), Say::Send(lie(seen)), Say::Send(lie(seen))]
    }),
    truth("late", upstream!("timeouts": 1, "answers": 1), late),
    // The upstream contradicts itself.
    failure("count", MALFORMED, |seen| spoilt(seen, |lie| lie[6..8].fill(0xff))),
    failure("length-of-data", MALFORMED, |seen| {
        spoilt(seen, |lie| {
            let at = lie.len() - 6;
            lie[at..at + 2].fill(0xff);
        })
    }),
    failure("cut-record", MALFORMED, |seen| spoilt(seen, |lie| lie.truncate(lie.len() - 1))),
    failure("pointer-to-itself", MALFORMED, |seen| {
        spoilt(seen, |lie| {
            let at = lie.len() - 16;
            lie[at..at + 2].copy_from_slice(&(0xc000 | u16::try_from(at).unwrap()).to_be_bytes());
        })
    }),
    failure("pointer-ahead", MALFORMED, |seen| {
        spoilt(seen, |lie| {
            let at = lie.len() - 16;
            lie[at..at + 2].copy_from_slice(&(0xc000 | u16::try_from(at + 2).unwrap()).to_be_bytes());
        })
    }),
    failure("pointers-round", MALFORMED, |seen| {
        // The alias is a name of two labels that ends in a pointer to its beginning.
        let at = u16::try_from(fixed(seen) + 4 + 12).unwrap();
        let target = [&[1, b'a', 1, b'b'][..], &(0xc000 | at).to_be_bytes()].concat();
        says(seen, 0, &[record(&seen.query.name(), CNAME, IN, 300, &target)], &[], &[])
    }),
    failure("junk-behind-question", MALFORMED, |seen| {
        spoilt(seen, |lie| {
            lie[6..12].fill(0xff);
            lie.resize(DATAGRAM_MAX, 0xa5);
        })
    }),
    failure("itself", FAILED, |seen| {
        let name = seen.query.name();
        says(seen, 0, &[alias(&name, &name)], &[], &[])
    }),
    failure("circle", FAILED, |seen| {
        let (name, victim) = (seen.query.name(), victim(seen));
        says(seen, 0, &[alias(&name, &victim), alias(&victim, &name)], &[], &[])
    }),
    failure("long-chain", upstream!("truncated": 1, "failures": 1), |seen| over_tcp(seen, chain)),
    // Each answer is an alias of another name, which must be asked for.
    failure("endless", &[("/resolver/counters/followed", 1), ("/resolver/counters/failed", 1)], |seen| {
        let name = seen.query.name();
        says(seen, AA, &[alias(&name, &step(&name, |step| step + 1))], &[], &[])
    }),
    failure("to-and-fro", &[("/resolver/counters/followed", 1), ("/resolver/counters/failed", 1)], |seen| {
        let name = seen.query.name();
        says(seen, AA, &[alias(&name, &step(&name, |step| 1 - step))], &[], &[])
    }),
    failure(
        "endless-dname",
        &[("/resolver/counters/followed", 1), ("/resolver/counters/failed", 1)],
        |seen| {
            let name = seen.query.name();
            let next = step(&name, |step| step + 1);
            let below = |name: &str| name.split_once('.').unwrap().1.to_owned();
            let dname = record(&below(&name), DNAME, IN, 300, &wire_name(&below(&next)));
            says(seen, AA, &[dname, alias(&name, &next)], &[], &[])
        },
    ),
    // Over TCP, after TC=1.
    failure("cut-for-ever", MALFORMED_STREAM, |seen| vec![Say::Send(seen.query.truncated())]),
    failure("tcp-junk", MALFORMED_STREAM, |seen| {
        over_tcp(seen, |seen| {
            let mut junk = seen.query.response(0, &[]);
            junk[6..12].fill(0xff);
            junk.resize(MESSAGE_MAX, 0xa5);
            vec![Say::Send(junk)]
        })
    }),
    failure("tcp-drip", SILENT_STREAM, |seen| {
        over_tcp(seen, |seen| {
            let lie = lie(seen);
            let bytes = [&u16::try_from(lie.len()).unwrap().to_be_bytes(), &lie[..]].concat();
            let drops = bytes.into_iter();
            drops.flat_map(|byte| [Say::Bytes(vec![byte]), Say::Pause(Duration::from_secs(1))]).collect()
        })
    }),
    failure(
        "tcp-for-ever",
        upstream!("truncated": 1, "unreachable": 1, "ignored_wrong_id": 8, "connections_closed": 1),
        |seen| {
            over_tcp(seen, |seen| {
                let [id1, id0] = (!seen.query.id()).to_be_bytes();
                vec![Say::BytesForEver([&[0xff, 0xff, id1, id0][..], &[0xa5; MESSAGE_MAX - 2]].concat())]
            })
        },
    ),
    failure("tcp-never-ends", SILENT_STREAM, |seen| {
        over_tcp(seen, |_| vec![Say::Bytes(vec![0xff, 0xff]), Say::Bytes(vec![0xa5; MESSAGE_MAX - 1])])
    }),
    failure("tcp-closes", upstream!("truncated": 1, "unreachable": 1), |seen| {
        over_tcp(seen, |seen| vec![Say::Bytes(vec![0, 60, 1]), Say::Send(lie(seen)), Say::Close])
    }),
    failure("long-prefix", SILENT_STREAM, |seen| {
        // Beside other queries, their answers fill the message, and bytes behind its end mean nothing.
        over_tcp(seen, |seen| vec![Say::Bytes(vec![1, 0]), Say::Bytes(seen.query.address(TRUE))])
    }),
    failure("short-prefix", MALFORMED_STREAM, |seen| {
        over_tcp(seen, |seen| vec![Say::Bytes(vec![0, 20]), Say::Bytes(lie(seen))])
    }),
    truth("zero-prefix", upstream!("truncated": 1, "ignored_wrong_id": 1, "answers": 1), |seen| {
        over_tcp(seen, |seen| vec![Say::Bytes(vec![0, 0]), honest(seen)])
    }),
    truth("tcp-id", upstream!("truncated": 1, "ignored_wrong_id": 1, "answers": 1), |seen| {
        over_tcp(seen, |seen| forged(seen, |lie| lie[1] ^= 1))
    }),
    failure("tcp-question", MALFORMED_STREAM, |seen| over_tcp(seen, |seen| forged(seen, |lie| lie[13] ^= 1))),
];

const fn truth(
    name: &'static str,
    counters: &'static [(&'static str, u64)],
    says: fn(&Seen) -> Vec<Say>,
) -> Lie {
    Lie { name, says, end: End::Truth, counters }
}

const fn failure(
    name: &'static str,
    counters: &'static [(&'static str, u64)],
    says: fn(&Seen) -> Vec<Say>,
) -> Lie {
    Lie { name, says, end: End::ServFail, counters }
}

/// Returns the upstream's answer: lies about names that ask for them, the truth about all others.
pub fn answer(seen: &Seen) -> Vec<Say> {
    let name = seen.query.name();
    let told = name.strip_suffix(".liar.example").and_then(|name| name.split('.').next());
    match told {
        Some(told) => {
            let lie = LIES.iter().find(|lie| lie.name == told);
            lie.map_or_else(Vec::new, |lie| (lie.says)(seen))
        }
        None => vec![honest(seen)],
    }
}

/// Returns the name that asks for a lie.
pub fn question(lie: &Lie, round: u32) -> String {
    format!("{}.0.{round}.liar.example", lie.name)
}

/// Returns the name that a lie tries to take over.
pub fn victim_of(lie: &Lie, round: u32) -> String {
    format!("{}.{round}.victim.example", lie.name)
}

fn victim(seen: &Seen) -> String {
    let name = seen.query.name();
    let labels: Vec<&str> = name.split('.').collect();
    format!("{}.{}.victim.example", labels[0], labels[2])
}

/// Returns the question's name at another step.
fn step(name: &str, change: impl Fn(u32) -> u32) -> String {
    let mut labels: Vec<String> = name.split('.').map(str::to_owned).collect();
    labels[1] = change(labels[1].parse().unwrap()).to_string();
    labels.join(".")
}

pub fn honest(seen: &Seen) -> Say {
    Say::Send(seen.query.address(TRUE))
}

/// Returns a false answer in correct form.
pub fn lie(seen: &Seen) -> Vec<u8> {
    seen.query.address(FALSE)
}

/// Returns a false answer with a flaw, followed by the truth.
fn forged(seen: &Seen, change: impl Fn(&mut Vec<u8>)) -> Vec<Say> {
    let mut forged = lie(seen);
    change(&mut forged);
    vec![Say::Send(forged), honest(seen)]
}

/// Returns a false answer with a flaw, and nothing else.
fn spoilt(seen: &Seen, change: impl Fn(&mut Vec<u8>)) -> Vec<Say> {
    forged(seen, change).into_iter().take(1).collect()
}

fn over_tcp(seen: &Seen, says: impl Fn(&Seen) -> Vec<Say>) -> Vec<Say> {
    match seen.over {
        Over::Udp => vec![Say::Send(seen.query.truncated())],
        Over::Tcp => says(seen),
    }
}

fn says(
    seen: &Seen,
    flags: u16,
    answers: &[Vec<u8>],
    authority: &[Vec<u8>],
    additional: &[Vec<u8>],
) -> Vec<Say> {
    vec![Say::Send(message(&seen.query, flags, answers, authority, additional))]
}

/// Returns as many aliases as a message over TCP holds; the victim is the last.
fn chain(seen: &Seen) -> Vec<Say> {
    const ALIASES: usize = 800;
    let link = |nth: usize| format!("{nth}.chain.liar.example");
    let mut records = vec![alias(&seen.query.name(), &link(0))];
    records.extend((0..ALIASES).map(|nth| alias(&link(nth), &link(nth + 1))));
    records.push(alias(&link(ALIASES), &victim(seen)));
    records.push(address(&victim(seen), FALSE));
    vec![Say::Send(seen.query.response(0, &records))]
}

/// Sends the false answer when its query has timed out, and the truth to the next query.
fn late(seen: &Seen) -> Vec<Say> {
    static FIRST: Mutex<Vec<(String, SocketAddr, Vec<u8>)>> = Mutex::new(Vec::new());
    let mut first = FIRST.lock().unwrap();
    let name = seen.query.name();
    let Some(at) = first.iter().position(|(waited, ..)| *waited == name) else {
        first.push((name, seen.from, lie(seen)));
        return Vec::new();
    };
    let (_, from, lie) = first.swap_remove(at);
    vec![Say::SendTo(from, lie), honest(seen)]
}

//----------- Bytes -----------------------------------------------------------

/// Returns the offset of the question's type.
fn fixed(seen: &Seen) -> usize {
    12 + wire_name(&seen.query.name()).len()
}

/// Returns a response of three sections.
fn message(
    query: &Asked,
    flags: u16,
    answers: &[Vec<u8>],
    authority: &[Vec<u8>],
    additional: &[Vec<u8>],
) -> Vec<u8> {
    let mut message = query.response(flags, answers);
    for (at, section) in [(8, authority), (10, additional)] {
        message[at..at + 2].copy_from_slice(&u16::try_from(section.len()).unwrap().to_be_bytes());
        message.extend(section.concat());
    }
    message
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut question = Query::a(name).question();
    question.truncate(question.len() - 4);
    question
}

fn record(owner: &str, rtype: u16, class: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = wire_name(owner);
    record.extend([rtype.to_be_bytes(), class.to_be_bytes()].concat());
    record.extend(ttl.to_be_bytes());
    record.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    record.extend(data);
    record
}

fn address(owner: &str, address: [u8; 4]) -> Vec<u8> {
    record(owner, A, IN, 300, &address)
}

fn alias(owner: &str, target: &str) -> Vec<u8> {
    record(owner, CNAME, IN, 300, &wire_name(target))
}
