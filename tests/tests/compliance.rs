//! Tests of RFC 8906 section 8 over every transport: rings, kernel sockets, TCP. A recursive server
//! answers with the RD bit of the query and without AA.

use std::time::Duration;

use hickory_proto::op::Message;
use ringdns_testkit::{
    A, Client, DNS_V4, Host, Knot, Lab, Query, Reply, Ringdnsd, Say, Settings, TXT, Upstream, Zone,
    exchange_over_tcp,
};

const NOERROR: u16 = 0;
const FORMERR: u16 = 1;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;
const BADVERS: u16 = 16;

const QR: u16 = 0x8000;
const AA: u16 = 0x0400;
const TC: u16 = 0x0200;
const RD: u16 = 0x0100;
const RA: u16 = 0x0080;
const Z: u16 = 0x0040;
const AD: u16 = 0x0020;
const CD: u16 = 0x0010;
/// The assigned EDNS flag, and all unassigned ones.
const DO: u16 = 0x8000;
const UNASSIGNED: u16 = 0x7fff;

/// EDNS options: NSID, client subnet, EXPIRE, a cookie, and an unassigned one.
const NSID: &[u8] = &[0, 3, 0, 0];
const SUBNET: &[u8] = &[0, 8, 0, 7, 0, 1, 24, 0, 198, 51, 100];
const EXPIRE: &[u8] = &[0, 9, 0, 0];
const COOKIE: &[u8] = &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
const UNKNOWN: &[u8] = &[0, 100, 0, 3, 1, 2, 3];

/// A message, and the expected reply.
struct Case {
    what: &'static str,
    message: Vec<u8>,
    rcode: u16,
    /// Header flags of the reply, except QR.
    flags: u16,
    answers: usize,
    /// Flags of the reply's OPT record; `None` if it has none.
    edns: Option<u16>,
    /// Codes of the options in the OPT record.
    options: &'static [u16],
}

impl Case {
    /// Returns a query for the addresses of `www.example.`, with a normal reply.
    fn new(what: &'static str, flags: u16) -> Self {
        Self::of(what, flags, A)
    }

    fn of(what: &'static str, flags: u16, qtype: u16) -> Self {
        let query = Query { flags, ..Query::of("www.example", qtype) };
        let answers = usize::from(qtype == A);
        let flags = flags & RD | RA;
        Self { what, message: query.wire(), rcode: NOERROR, flags, answers, edns: None, options: &[] }
    }

    /// Adds an OPT record.
    fn edns(mut self, version: u8, flags: u16, options: &[&[u8]]) -> Self {
        self.message[11] = 1;
        let options = options.concat();
        self.message.extend([0, 0, 41, 0x10, 0, 0, version]);
        self.message.extend(flags.to_be_bytes());
        self.message.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
        self.message.extend(options);
        self.edns = Some(flags & DO);
        if version > 0 { Self { rcode: BADVERS, answers: 0, ..self } } else { self }
    }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("a plain query", RD),
        // Without RD, the contents of the cache are not revealed.
        Case { rcode: REFUSED, answers: 0, ..Case::new("a query without RD", 0) },
        Case::of("an unassigned type", RD, 1000),
        Case::of("a type without records", RD, TXT),
        Case { flags: RD | RA | CD, ..Case::new("CD", RD | CD) },
        Case::new("AD: the upstream is not trusted", RD | AD),
        Case::new("the reserved bit", RD | Z),
        Case::new("flags of responses", RD | AA | TC | RA),
        Case::new("EDNS", RD).edns(0, 0, &[]),
        Case::new("DO", RD).edns(0, DO, &[]),
        Case { flags: RD | RA | CD, ..Case::new("DO and CD", RD | CD).edns(0, DO, &[]) },
        Case::new("EDNS unassigned flags", RD).edns(0, UNASSIGNED, &[]),
        Case::new("all EDNS flags", RD).edns(0, DO | UNASSIGNED, &[]),
        Case::new("an unassigned option", RD).edns(0, 0, &[UNKNOWN]),
        Case::new("options without meaning here", RD).edns(0, 0, &[NSID, SUBNET, EXPIRE]),
        Case { options: &[10], ..Case::new("options", RD).edns(0, 0, &[NSID, SUBNET, EXPIRE, COOKIE]) },
        Case::new("EDNS version 1", RD).edns(1, 0, &[]),
        Case::new("EDNS version 255", RD).edns(255, 0, &[]),
        Case::new("EDNS version 1, DO", RD).edns(1, DO, &[]),
        Case::new("EDNS version 1, unassigned flags", RD).edns(1, UNASSIGNED, &[]),
        Case::new("EDNS version 1, an unassigned option", RD).edns(1, 0, &[UNKNOWN]),
        Case { options: &[10], ..Case::new("EDNS version 1, a cookie", RD).edns(1, 0, &[COOKIE]) },
    ];
    for opcode in 1..=15u16 {
        // In a message of another opcode, only the ID has a known meaning.
        let unknown =
            || Case { rcode: NOTIMP, flags: opcode << 11, answers: 0, ..Case::new("another opcode", 0) };
        let flagged =
            Query { flags: opcode << 11 | AA | TC | RD | RA | Z | AD | CD, ..Query::a("www.example") };
        let header = Query { flags: opcode << 11 | RD, ..Query::a("") }.wire()[..12].to_vec();
        cases.push(Case { message: flagged.wire(), ..unknown() });
        cases.push(Case { message: [&header[..5], &[0; 7]].concat(), ..unknown() });
    }
    let mut empty = Query::a("www.example").wire()[..12].to_vec();
    empty[5] = 0;
    cases.push(Case { message: empty, rcode: FORMERR, answers: 0, ..Case::new("no question", RD) });
    cases
}

#[track_caller]
fn check(case: &Case, reply: &Reply, way: &str) {
    let Case { what, message, .. } = case;
    let what = format!("{what}, {way}: {message:02x?}: {reply:02x?}");
    let flags = u16::from_be_bytes([reply.0[2], reply.0[3]]);
    assert_eq!(flags & !0x000f, QR | case.flags, "flags, {what}");
    assert_eq!((reply.rcode(), reply.answers()), (case.rcode, case.answers), "{what}");
    let decoded = Message::from_vec(&reply.0).unwrap();
    let edns = decoded.edns.map(|edns| {
        assert_eq!((edns.version(), edns.max_payload()), (0, 1232), "{what}");
        let codes: Vec<u16> = edns.options().as_ref().iter().map(|(code, _)| (*code).into()).collect();
        assert_eq!(codes, case.options, "options, {what}");
        u16::from(edns.flags().dnssec_ok) << 15 | edns.flags().z
    });
    assert_eq!(edns, case.edns, "EDNS and its flags, {what}");
}

fn ask(client: &Client, message: &[u8]) -> Option<Reply> {
    client.send(message);
    client.receive(Duration::from_secs(10))
}

/// Sends each case three times: first answered by the upstream, then from the worker cache, then
/// over TCP from the host cache.
fn complies(lab: &Lab, ringdnsd: &Ringdnsd) {
    let (client, cases) = (Client::of(lab.client(), DNS_V4), cases());
    for case in &cases {
        for way in ["over UDP at first", "over UDP again"] {
            let reply = ask(&client, &case.message);
            check(case, &reply.unwrap_or_else(|| panic!("no reply to {}, {way}", case.what)), way);
        }
        check(case, &over_tcp(lab.client(), &case.message), "over TCP");
    }
    let total = ringdnsd.settled()["total"].clone();
    let badvers = 2 * cases.iter().filter(|case| case.rcode == BADVERS).count();
    assert_eq!((&total["notimp"], &total["badvers"]), (&(2 * 30).into(), &badvers.into()), "{total:#}");
}

fn over_tcp(host: &Host, message: &[u8]) -> Reply {
    exchange_over_tcp(host, DNS_V4, &[message.to_vec()]).remove(0)
}

#[test]
fn rings_and_tcp_answer_everything_as_rfc_8906_has_it() {
    let Some(lab) = Lab::up() else { return };
    let knot = Knot::upstream(lab.server(), &[Zone::example()]);
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(knot.address()));
    complies(&lab, &ringdnsd);
    let stats = ringdnsd.settled();
    let behind = stats["workers"].as_array().and_then(|workers| workers.last()).unwrap();
    assert_eq!(behind["received"], 0, "a query went through the kernel: {stats:#}");
}

#[test]
fn kernel_sockets_and_tcp_answer_everything_as_rfc_8906_has_it() {
    let Some(lab) = Lab::up() else { return };
    let knot = Knot::upstream(lab.server(), &[Zone::example()]);
    complies(&lab, &Ringdnsd::start(lab.server(), &Settings::sockets(knot.address())));
}

/// Checks RFC 6891 section 6.2.6 and RFC 7871 section 7.1.2: options are hop by hop, and upstreams
/// do not learn the client's subnet.
#[test]
fn what_a_client_says_in_options_stays_here() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::start(lab.server(), |seen| vec![Say::Send(seen.query.address([192, 0, 2, 1]))]);
    let _ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    let client = Client::of(lab.client(), DNS_V4);
    let here = Case { options: &[10], ..Case::new("here", RD).edns(0, 0, &[SUBNET, UNKNOWN, COOKIE]) };
    let elsewhere = [0, 8, 0, 7, 0, 1, 24, 0, 203, 0, 113];
    let there = Case::new("elsewhere", RD).edns(0, 0, &[&elsewhere]);
    for case in [&here, &there, &here] {
        check(case, &ask(&client, &case.message).expect("a reply"), "over UDP");
        check(case, &over_tcp(lab.client(), &case.message), "over TCP");
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), 1, "an answer is the same for all");
    let decoded = Message::from_vec(&seen[0].query.0).unwrap();
    let options = decoded.edns.as_ref().unwrap().options().as_ref();
    let cookie = options.iter().map(|(code, _)| u16::from(*code)).collect::<Vec<_>>();
    assert!(cookie == [10], "{options:?}");
    let ours = seen[0].query.0.windows(8).all(|bytes| bytes != &COOKIE[4..]);
    assert!(ours, "a client's cookie must not reach the upstream");
}
