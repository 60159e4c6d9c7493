//! Tests of all ordinary shapes of packets: replies, and packets that get no reply, are those of the closer
//! look, byte for byte.

use super::*;
use crate::dns::{
    answer::Answer,
    cookie::{Cookie, Cookies},
    option::code,
    query::OPTIONS_MAX,
    rcode,
};
use crate::{cache::Scope, group::GroupSet, labels::Labels};
use std::net::IpAddr;

const SECRET: [u8; 16] = [3; 16];
const OTHER_SECRET: [u8; 16] = [4; 16];
const CLIENT_COOKIE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
/// Second in which all packets arrive.
const NOW: Secs = 100_000;

/// EDNS option of a query.
#[derive(Clone, Debug)]
enum Sent {
    Learning,
    /// A server cookie made with our secret, this many seconds ago.
    Server(u32),
    /// A server cookie made with the secret that is no longer used.
    OfOther,
    /// A cookie of some length.
    Cookie(usize),
    Nsid,
    /// Option with a code and a length.
    Other(u16, usize),
    /// This many bytes, too few for an option.
    Remains(usize),
}

/// UDP checksum of a packet.
#[derive(Clone, Copy, Debug)]
enum Sum {
    Right,
    Zero,
    Partial,
    Wrong,
}

/// Kind of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Records of an upstream.
    Usual,
    /// Records of an upstream, with an authority and an additional record.
    Referring,
    /// Failure of resolution, with an extended error or without.
    Failure(Option<u16>),
    /// Answer of the list with this number, for all clients or not for this one.
    Listed(u8, bool),
}

#[derive(Clone, Debug)]
struct Case {
    name: usize,
    link: usize,
    sum: Sum,
    checksums: Checksums,
    options: Option<Vec<Sent>>,
    udp_size: u16,
    dnssec_ok: bool,
    flags: u16,
    is_known: bool,
    /// Lengths of the answer's records.
    records: Vec<usize>,
    is_authentic: bool,
    kind: Kind,
    /// Whether the question was asked shortly before.
    is_asked_again: bool,
    secrets: Option<bool>,
    requires_cookies: bool,
    has_nsid: bool,
    age: Secs,
    /// Byte of the packet that is changed, and its new value.
    mutation: Option<(usize, u8)>,
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        Just(Sent::Learning),
        prop_oneof![0..3_700u32, 0..10u32].prop_map(Sent::Server),
        Just(Sent::OfOther),
        (0..45usize).prop_map(Sent::Cookie),
        Just(Sent::Nsid),
        (0..20u16, 0..70usize).prop_map(|(code, len)| Sent::Other(code, len)),
        (any::<u16>(), 0..3usize).prop_map(|(code, len)| Sent::Other(code, len)),
        (1..4usize).prop_map(Sent::Remains),
    ]
}

/// Returns a few options, or about as many as a query may have.
fn options() -> impl Strategy<Value = Vec<Sent>> {
    prop_oneof![
        9 => prop::collection::vec(sent(), 0..4),
        1 => (OPTIONS_MAX - 1..OPTIONS_MAX + 3).prop_map(|count| vec![Sent::Other(65_001, 0); count]),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Usual),
        1 => Just(Kind::Referring),
        1 => prop::option::of(prop::sample::select(vec![0u16, 13, 15, 22])).prop_map(Kind::Failure),
        1 => (0..3u8, prop::bool::weighted(0.8)).prop_map(|(list, is_ours)| Kind::Listed(list, is_ours)),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let sums = vec![Sum::Right, Sum::Right, Sum::Zero, Sum::Partial, Sum::Wrong];
    let modes = vec![Checksums::Verify, Checksums::AllowPartial, Checksums::Trust, Checksums::Unused];
    let packet = (
        prop_oneof![1..66usize, 1..250usize],
        0..6usize,
        prop::sample::select(sums),
        prop::sample::select(modes),
        prop::option::weighted(0.8, options()),
        prop_oneof![Just(1232u16), any::<u16>()],
        any::<bool>(),
        prop::sample::select(vec![0x0100u16, 0x0100, 0x0110, 0x0120, 0x0130, 0x0000, 0x8100]),
    );
    let server = (
        prop::bool::weighted(0.8),
        prop_oneof![
            Just(vec![4usize]),
            prop::collection::vec(0..60usize, 0..4),
            prop::collection::vec(60..100usize, 4..16)
        ],
        any::<bool>(),
        (kind(), any::<bool>()),
        prop::option::of(any::<bool>()),
        prop::bool::weighted(0.3),
        any::<bool>(),
        prop_oneof![0..300u32, 0..2_000u32],
        prop::option::weighted(0.2, (0..300usize, any::<u8>())),
    );
    (packet, server).prop_map(|(packet, server)| {
        let (name, link, sum, checksums, options, udp_size, dnssec_ok, flags) = packet;
        let (is_known, records, is_authentic, kinds, secrets, requires_cookies, has_nsid, age, mutation) =
            server;
        let (kind, is_asked_again) = kinds;
        Case {
            name,
            link,
            sum,
            checksums,
            options,
            udp_size,
            dnssec_ok,
            flags,
            is_known,
            records,
            is_authentic,
            kind,
            is_asked_again,
            secrets,
            requires_cookies,
            has_nsid,
            age,
            mutation,
        }
    })
}

impl Case {
    /// Returns a question whose name has a given number of letters, on the wire.
    fn question(&self) -> Vec<u8> {
        let letters: Vec<u8> = (0..self.name).map(|nth| b"aBcDe"[nth % 5]).collect();
        let mut question = Vec::new();
        for label in letters.chunks(50) {
            question.push(label.len() as u8);
            question.extend(label);
        }
        question.extend([0, 0, 16, 0, 1]);
        question
    }

    fn kind(&self) -> (Link, bool) {
        packet::tests::every_kind().nth(self.link).unwrap()
    }

    fn v6(&self) -> bool {
        self.kind().1
    }

    fn option(&self, sent: &Sent) -> (u16, Vec<u8>) {
        // The address of the frames that tests make.
        let client: IpAddr = if self.v6() { [0xfd; 16].into() } else { [10, 0, 0, 1].into() };
        let learning = Cookie { client: CLIENT_COOKIE, server: None };
        let made = |secret, then| Cookies::new(secret, None).answer(&learning, client, then).0.to_vec();
        match sent {
            Sent::Learning => (code::COOKIE, CLIENT_COOKIE.to_vec()),
            Sent::Server(age) => (code::COOKIE, made(SECRET, NOW.wrapping_sub(*age))),
            Sent::OfOther => (code::COOKIE, made(OTHER_SECRET, NOW)),
            Sent::Cookie(len) => (code::COOKIE, vec![9; *len]),
            Sent::Nsid => (code::NSID, Vec::new()),
            Sent::Other(code, len) => (*code, vec![7; *len]),
            Sent::Remains(_) => unreachable!("these bytes are no option"),
        }
    }

    fn message(&self) -> Vec<u8> {
        let [flags1, flags0] = self.flags.to_be_bytes();
        let additional = u8::from(self.options.is_some());
        let mut message = vec![0x12, 0x34, flags1, flags0, 0, 1, 0, 0, 0, 0, 0, additional];
        message.extend(self.question());
        let Some(options) = &self.options else { return message };
        let [size1, size0] = self.udp_size.to_be_bytes();
        message.extend([0, 0, 41, size1, size0, 0, 0, u8::from(self.dnssec_ok) << 7, 0]);
        let options: Vec<u8> = options
            .iter()
            .flat_map(|sent| {
                if let Sent::Remains(len) = sent {
                    return vec![7; *len];
                }
                let (code, data) = self.option(sent);
                [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), &data].concat()
            })
            .collect();
        message.extend((options.len() as u16).to_be_bytes());
        message.extend(options);
        message
    }

    fn packet(&self) -> Vec<u8> {
        let (link, v6) = self.kind();
        let mut packet = packet::tests::frame(link, v6, &self.message());
        let at = packet::tests::checksum_at(link, v6);
        match self.sum {
            Sum::Right => {}
            Sum::Zero => packet[at..at + 2].fill(0),
            Sum::Partial => packet::tests::leave_partial(&mut packet, link, v6),
            Sum::Wrong => packet[at] ^= 0x40,
        }
        if let Some((at, value)) = self.mutation
            && let Some(byte) = packet.get_mut(at)
        {
            *byte = value;
        }
        packet
    }

    fn fixture(&self) -> Fixture {
        let mut f = Fixture::new();
        let lists = Labels::default();
        // The third list has no name.
        for name in ["ads", "a list with a name that is rather long, as a text that goes with answers is"] {
            assert!(lists.number(name).is_some());
        }
        let policy = QueryPolicy {
            cookies: self.secrets.map(|both| Cookies::new(SECRET, both.then_some(OTHER_SECRET))),
            require_cookies: self.requires_cookies && self.secrets.is_some(),
            nsid: self.has_nsid.then(|| (*b"the-name-of-a-server").into()),
            lists: lists.into(),
            ..QueryPolicy::default()
        };
        f.processor.set_policy(Arc::new(policy));
        if self.is_known {
            let head = |cd: u8| [0x12, 0x34, 1, cd, 0, 1, 0, 0, 0, 0, 0, 1];
            for (cd, dnssec_ok) in [(0, 0), (0x10, 0), (0, 0x80), (0x10, 0x80)] {
                let message =
                    [&head(cd)[..], &self.question(), &[0, 0, 41, 4, 208, 0, 0, dnssec_ok, 0, 0, 0]].concat();
                let mut query = Query::default();
                query.parse(&message).unwrap();
                let (answer, then) = (self.answer(&query.key), NOW - self.age);
                f.processor.cache().insert_for(&self.scope(), &query.key, &answer, then);
            }
        }
        f
    }

    fn scope(&self) -> Scope {
        match self.kind {
            Kind::Listed(list, true) => Scope { list: Some(list), ..Scope::ALL },
            Kind::Listed(list, false) => {
                let group = Group::new(1).unwrap();
                Scope { group, groups: GroupSet::NONE.with(group), list: Some(list) }
            }
            _ => Scope::ALL,
        }
    }

    fn answer(&self, key: &Key) -> Answer {
        if let Kind::Failure(ede) = self.kind {
            return Answer::error(rcode::SERVFAIL, ede, NOW - self.age, 300);
        }
        let mut reply = [&[0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &self.question()].concat();
        for len in &self.records {
            reply.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 1, 44]);
            reply.extend((*len as u16 + 1).to_be_bytes());
            reply.push(*len as u8);
            reply.extend(std::iter::repeat_n(b'x', *len));
        }
        reply[2..4].copy_from_slice(&[0x81, if self.is_authentic { 0xa0 } else { 0x80 }]);
        reply[7] = self.records.len() as u8;
        if self.records.is_empty() {
            reply[3] |= 3;
            reply[9] = 1;
            reply.extend([0xc0, 12, 0, 6, 0, 1, 0, 0, 1, 44, 0, 22, 0, 0]);
            reply.extend([0, 0, 0, 1, 0, 0, 14, 16, 0, 0, 3, 132, 0, 9, 58, 128, 0, 0, 1, 44]);
        }
        if self.kind == Kind::Referring && !self.records.is_empty() {
            (reply[9], reply[11]) = (1, 1);
            reply.extend([0xc0, 12, 0, 2, 0, 1, 0, 0, 1, 44, 0, 2, 0xc0, 12]);
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1]);
        }
        let (rules, then) = (testing::RULES, NOW - self.age);
        let answer = Answer::from_response(&reply, key, &rules, then, true).unwrap();
        let ede = if let Kind::Listed(..) = self.kind { Some(15) } else { None };
        Answer { ede, ..answer }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6_000))]

    /// On every path, a packet gets the same reply or the same verdict. A packet that gets no reply is as
    /// it was received, but for a checksum that was completed.
    #[test]
    fn glances_and_closer_looks_agree(case in case()) {
        let packet = case.packet();
        let mut f = case.fixture();
        if case.is_asked_again {
            f.send_to_closer(NOW, &packet, case.checksums);
        }
        let closer = f.send_to_closer(NOW, &packet, case.checksums);
        let logged = f.logged.take();
        let expected = f.processor.slots[0].verdict;
        let before = f.stats.snapshot();
        for level in [Level::best(), Level::Portable(simd::Portable)] {
            let mut f = case.fixture();
            f.processor.level = level;
            if case.is_asked_again {
                f.send(NOW, &packet, case.checksums);
            }
            let (verdict, mut reply) = f.send(NOW, &packet, case.checksums);
            if verdict.is_reply() && case.checksums == Checksums::Unused {
                // The kernel computes it.
                let at = packet::tests::checksum_at(case.kind().0, case.v6());
                reply[at..at + 2].copy_from_slice(&closer[at..at + 2]);
            }
            prop_assert_eq!(verdict.is_reply(), expected.is_reply(), "{:?} {:?}", verdict, expected);
            if !verdict.is_reply() {
                prop_assert_eq!(without_sums(verdict), without_sums(expected));
                // A checksum may have been completed.
                let at = packet::tests::checksum_at(case.kind().0, case.v6());
                if let Some(checksum) = reply.get_mut(at..at + 2) {
                    checksum.copy_from_slice(&packet[at..at + 2]);
                }
                prop_assert_eq!(&reply, &packet);
            }
            prop_assert_eq!(&reply, &closer);
            if logged.is_some() {
                prop_assert_eq!(&f.logged, &logged);
            }
            let after = f.stats.snapshot();
            for counter in [
                Counter::PartialChecksum,
                Counter::Negative,
                Counter::Truncated,
                Counter::Cookie,
                Counter::CachedFailure,
            ] {
                prop_assert_eq!(after.get(counter), before.get(counter), "{}", counter.label());
            }
        }
    }
}

/// Returns whether the case's packet is answered at a glance.
fn is_glanced(case: &Case) -> bool {
    let mut f = case.fixture();
    let packet = case.packet();
    let mut frame = f.frames.alloc().unwrap();
    f.frames.buffer(&mut frame)[..packet.len()].copy_from_slice(&packet);
    frame.set_len(packet.len());
    let mut burst = [frame];
    let (fates, tally) = f.processor.run(NOW, case.checksums, &mut f.frames, &mut burst, &f.stats);
    let is_glanced = fates.slot(0).is_none() && tally.hits == 1;
    let [frame] = burst;
    f.frames.release(frame);
    is_glanced
}

/// Returns a case that is answered at a glance.
fn usual() -> Case {
    Case {
        name: 20,
        link: 0,
        sum: Sum::Right,
        checksums: Checksums::Verify,
        options: None,
        udp_size: 1232,
        dnssec_ok: false,
        flags: 0x0100,
        is_known: true,
        records: vec![4],
        is_authentic: false,
        kind: Kind::Usual,
        is_asked_again: false,
        secrets: Some(false),
        requires_cookies: false,
        has_nsid: true,
        age: 10,
        mutation: None,
    }
}

#[test]
fn a_missing_checksum_is_wrong_over_ipv6_though_the_sum_is_zero_without_it() {
    for link in [1, 3, 5] {
        // The last two bytes are at an even offset.
        let case = Case { link, options: Some(vec![Sent::Other(12, 3)]), ..usual() };
        assert!(case.v6() && is_glanced(&case));
        let mut packet = case.packet();
        let (at, end) = (packet::tests::checksum_at(case.kind().0, true), packet.len());
        // The option takes the checksum over, so that the sum stays as it is.
        let both = [at, end - 2].map(|at| u32::from(u16::from_be_bytes([packet[at], packet[at + 1]])));
        let sum = both[0] + both[1];
        let sum = (sum & 0xffff) + (sum >> 16);
        packet[end - 2..].copy_from_slice(&(sum as u16).to_be_bytes());
        packet[at..at + 2].fill(0);
        for checksums in [Checksums::Verify, Checksums::AllowPartial] {
            let (verdict, after) = case.fixture().send(NOW, &packet, checksums);
            assert_eq!(verdict, Verdict::Drop(DropReason::BadChecksum));
            assert_eq!(after, packet);
        }
    }
}

#[test]
fn what_is_ordinary_is_answered_at_a_glance() {
    let options = [
        vec![Sent::Learning],
        vec![Sent::Server(10)],
        vec![Sent::Server(2_000)],
        vec![Sent::Nsid],
        vec![Sent::Other(8, 7), Sent::Other(12, 64)],
        vec![Sent::Server(10), Sent::Nsid, Sent::Other(11, 0)],
    ];
    for link in 0..6 {
        for name in [20, 45] {
            let case = Case { link, name, ..usual() };
            assert!(is_glanced(&case), "{case:?}");
            for options in &options {
                let case = Case { options: Some(options.clone()), ..case.clone() };
                assert!(is_glanced(&case), "{case:?}");
            }
            let case = Case { checksums: Checksums::Trust, sum: Sum::Zero, ..case.clone() };
            assert!(is_glanced(&case), "{case:?}");
            let case = Case { checksums: Checksums::AllowPartial, sum: Sum::Partial, ..case.clone() };
            assert!(is_glanced(&case), "{case:?}");
            let case = Case { checksums: Checksums::Verify, sum: Sum::Zero, ..case.clone() };
            // Over IPv6, there is always a checksum.
            assert_eq!(is_glanced(&case), !case.v6(), "{case:?}");
        }
    }
}
