//! Tests of the closer look at plain packets: it has the outcome of the general look, byte for byte.

use super::{
    super::closer::Closer,
    policy::{CLIENT_COOKIE, prefixes},
    *,
};
use crate::{
    access::AccessList,
    dns::{cookie::Cookies, option::code},
    limiter::LimitConfig,
    policy::Refusal,
};
use std::net::IpAddr;

/// Second in which all packets arrive.
const NOW: Secs = 1_000;
/// Clients, of which access lists allow some; some cannot be answered across a link.
const CLIENTS: [&str; 12] = [
    "10.0.0.1",
    "10.0.0.9",
    "192.0.2.9",
    "127.0.0.1",
    "0.1.2.3",
    "224.0.0.5",
    "2001:db8::9",
    "2001:db9::9",
    "64:ff9b::1",
    "::1",
    "::",
    "ff02::1",
];

/// Queries that a client may ask at once, where it has a limit.
const BURST_LIMIT: u32 = 8;

/// UDP checksum of a packet.
#[derive(Clone, Copy, Debug)]
enum Sum {
    Right,
    Zero,
    Partial,
    Wrong,
}

/// Additional records of a message.
#[derive(Clone, Debug)]
enum Additional {
    Nothing,
    /// An OPT record with a version and options.
    Opt(u8, Vec<(u16, usize)>),
    /// Arbitrary bytes, and the number of records that the header announces.
    Bytes(Vec<u8>, u8),
}

#[derive(Clone, Debug)]
struct Case {
    client: &'static str,
    link: Link,
    sum: Sum,
    checksums: Checksums,
    flags: u16,
    counts: [u8; 3],
    labels: Vec<usize>,
    kind: [u8; 4],
    additional: Additional,
    dnssec_ok: bool,
    /// Byte of the message that is changed before its checksum is computed, and its new value.
    mutation: Option<(usize, u8)>,
    /// Length that the message is cut to.
    cut: Option<usize>,
    /// Bytes after that.
    noise: Vec<u8>,
    /// Change of a byte of the packet, whose checksums stay.
    corruption: Option<(usize, u8)>,
    padding: usize,
    allow: &'static [&'static str],
    refusal: Refusal,
    has_names: bool,
    has_cookies: bool,
    requires_cookies: bool,
    /// One in how many queries over the limit slips; whether it is a dry run.
    limit: Option<(u32, bool)>,
    level: Level,
    /// Whether the packet is glanced at first.
    is_glanced: bool,
}

fn additional() -> impl Strategy<Value = Additional> {
    let option = prop_oneof![
        (Just(code::COOKIE), prop_oneof![Just(8usize), 0..45usize]),
        (Just(code::NSID), Just(0usize)),
        (any::<u16>(), 0..30usize),
    ];
    let options = prop_oneof![Just(Vec::new()), prop::collection::vec(option, 1..4)];
    prop_oneof![
        3 => Just(Additional::Nothing),
        4 => (prop_oneof![4 => Just(0u8), 1 => any::<u8>()], options)
            .prop_map(|(version, options)| Additional::Opt(version, options)),
        1 => (prop::collection::vec(prop_oneof![Just(0u8), Just(41u8), any::<u8>()], 0..30), 0..3u8)
            .prop_map(|(bytes, count)| Additional::Bytes(bytes, count)),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let select = |flags: &[u16]| prop::sample::select(flags.to_vec());
    let sums = vec![Sum::Right, Sum::Right, Sum::Right, Sum::Zero, Sum::Partial, Sum::Wrong];
    let modes = vec![
        Checksums::Verify,
        Checksums::Verify,
        Checksums::AllowPartial,
        Checksums::Trust,
        Checksums::Unused,
    ];
    let links = vec![Link::Plain, Link::Plain, Link::Plain, Link::Vlan, Link::QinQ];
    let lists: Vec<&'static [&'static str]> = vec![
        &[],
        &["0.0.0.0/0", "::/0"],
        &["10.0.0.0/29", "2001:db8::/32", "64:ff9b::/96"],
        &["192.0.2.0/24", "2001:db9::9"],
    ];
    let packet = (
        prop::sample::select(CLIENTS.to_vec()),
        prop::sample::select(links),
        prop::sample::select(sums),
        prop::sample::select(modes),
        prop::option::weighted(0.15, (0..120usize, any::<u8>())),
        0..20usize,
    );
    let message = (
        prop_oneof![4 => select(&[0x0100, 0x0110, 0, 0x0130, 0x0010]), 1 => any::<u16>(),
            1 => select(&[0x8100, 0x2000, 0x2800, 0x1000])],
        prop_oneof![8 => Just([1u8, 0, 0]), 1 => prop::array::uniform3(0..3u8)],
        prop_oneof![4 => prop::collection::vec(1..20usize, 0..5), 1 => prop::collection::vec(1..70usize, 0..7)],
        prop_oneof![
            4 => Just([0, 1, 0, 1]),
            1 => (prop::sample::select(vec![0u8, 41, 250, 251, 252, 255, 16]), 1..5u8).prop_map(|(t, c)| [0, t, 0, c]),
        ],
        additional(),
        any::<bool>(),
        prop::option::weighted(0.25, (0..60usize, prop_oneof![any::<u8>(), 0..8u8])),
        prop::option::weighted(0.15, 0..60usize),
        prop_oneof![8 => Just(Vec::new()), 1 => prop::collection::vec(any::<u8>(), 0..60)],
    );
    let server = (
        prop::sample::select(lists),
        prop::sample::select(vec![Refusal::Answer, Refusal::Answer, Refusal::Drop]),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        prop::option::weighted(0.2, (0..3u32, any::<bool>())),
        prop::sample::select(vec![Level::best(), Level::Portable(simd::Portable)]),
        any::<bool>(),
    );
    (packet, message, server).prop_map(|(packet, message, server)| {
        let (client, link, sum, checksums, corruption, padding) = packet;
        let (flags, counts, labels, kind, additional, dnssec_ok, mutation, cut, noise) = message;
        let (allow, refusal, has_names, has_cookies, requires_cookies, limit, level, is_glanced) = server;
        Case {
            client,
            link,
            sum,
            checksums,
            flags,
            counts,
            labels,
            kind,
            additional,
            dnssec_ok,
            mutation,
            cut,
            noise,
            corruption,
            padding,
            allow,
            refusal,
            has_names,
            has_cookies,
            requires_cookies,
            limit,
            level,
            is_glanced,
        }
    })
}

impl Case {
    fn message(&self) -> Vec<u8> {
        let [flags1, flags0] = self.flags.to_be_bytes();
        let [questions, answers, authority] = self.counts;
        let mut message = vec![0x12, 0x34, flags1, flags0, 0, questions, 0, answers, 0, authority, 0, 0];
        for len in &self.labels {
            message.push(*len as u8);
            message.extend(std::iter::repeat_n(b'Q', *len));
        }
        message.push(0);
        message.extend(self.kind);
        match &self.additional {
            Additional::Nothing => {}
            Additional::Opt(version, options) => {
                message[11] = 1;
                let options = options.iter().flat_map(|(code, len)| {
                    let head = [code.to_be_bytes(), (*len as u16).to_be_bytes()].concat();
                    head.into_iter().chain(std::iter::repeat_n(CLIENT_COOKIE[0], *len))
                });
                let options: Vec<u8> = options.collect();
                message.extend([0, 0, 41, 4, 208, 0, *version, u8::from(self.dnssec_ok) << 7, 0]);
                message.extend((options.len() as u16).to_be_bytes());
                message.extend(options);
            }
            Additional::Bytes(bytes, count) => {
                message[11] = *count;
                message.extend(bytes);
            }
        }
        if let Some((at, value)) = self.mutation
            && let Some(byte) = message.get_mut(at)
        {
            *byte = value;
        }
        message.truncate(self.cut.unwrap_or(usize::MAX));
        message.extend(&self.noise);
        message
    }

    fn client(&self) -> IpAddr {
        self.client.parse().unwrap()
    }

    fn checksum_at(&self) -> usize {
        packet::tests::checksum_at(self.link, self.client().is_ipv6())
    }

    fn packet(&self) -> Vec<u8> {
        let mut packet = packet::tests::frame_from(self.client(), self.link, &self.message());
        let at = self.checksum_at();
        match self.sum {
            Sum::Right => {}
            Sum::Zero => packet[at..at + 2].fill(0),
            Sum::Partial => packet::tests::leave_partial(&mut packet, self.link, self.client().is_ipv6()),
            Sum::Wrong => packet[at] ^= 0x40,
        }
        if let Some((at, value)) = self.corruption
            && let Some(byte) = packet.get_mut(at)
        {
            *byte = value;
        }
        packet.extend(std::iter::repeat_n(0xee, self.padding));
        packet
    }

    fn fixture(&self) -> Fixture {
        let mut f = Fixture::new();
        let name = || Some((*b"the-name-of-a-server").into());
        let policy = QueryPolicy {
            access: AccessList::new(&prefixes(self.allow), &[]).unwrap(),
            refusal: self.refusal,
            cookies: self.has_cookies.then(|| Cookies::new([3; 16], None)),
            require_cookies: self.requires_cookies && self.has_cookies,
            nsid: if self.has_names { name() } else { None },
            identity: if self.has_names { name() } else { None },
            ..QueryPolicy::default()
        };
        f.processor.set_policy(Arc::new(policy));
        if let Some((slip, dry_run)) = self.limit {
            let exempt = AccessList::new(&[], &[]).unwrap();
            let limit = LimitConfig {
                per_second: 1,
                burst: BURST_LIMIT,
                slip,
                exempt,
                groups: None,
                dry_run,
                flood_times: 0,
            };
            let policy = QueryPolicy { limit: Some(limit), ..f.processor.policy().clone() };
            f.processor.set_policy(Arc::new(policy));
            f.processor.set_time(0);
        }
        f.processor.level = self.level;
        f
    }
}

/// Looks at a packet in general.
fn look(f: &mut Fixture, packet: &[u8], checksums: Checksums) -> Vec<u8> {
    let mut frame = f.frames.alloc().unwrap();
    f.frames.buffer(&mut frame)[..packet.len()].copy_from_slice(packet);
    frame.set_len(packet.len());
    let (mut burst, mut tally) = ([frame], TurnTally::default());
    let Fixture { processor, frames, stats, .. } = f;
    let unix = processor.unix(NOW);
    let job = &mut Job { now: NOW, checksums, frames, burst: &mut burst, stats, tally: &mut tally };
    let Processor { cache, hash, rules, largest, policy, limiter, slots, .. } = processor;
    let (hash, largest, limiter) = (*hash, *largest, limiter.as_deref_mut());
    let mut closer = Closer { cache, hash, rules, largest, policy, limiter, unix, payer: None, job };
    let slot = &mut slots[0];
    slot.verdict = closer.finish(slot, 0);
    if closer.payer.is_some() {
        closer.charge(slot, 0);
    }
    let [frame] = burst;
    let packet = f.frames.packet(&frame).to_vec();
    f.frames.release(frame);
    packet
}

/// Returns what is used of a slot after its closer look.
fn used(slot: &Slot) -> String {
    let Slot { query, verdict, envelope, group, outcome, list, rcode } = slot;
    let len = query.question_len();
    let key = if len == 0 { String::new() } else { format!("{:?}", query.key.asked()) };
    let query = format!("{key} {len} {:?} {:#x}", query.edns, query.flags);
    let (envelope, kind) = ((envelope.message(), envelope.is_v6()), without_sums(*verdict));
    match verdict {
        Verdict::Reply if *outcome == Outcome::Rejected => format!("{query} {envelope:?} {rcode}"),
        Verdict::Reply | Verdict::ReplyAndRefresh(_) | Verdict::Punt(_) | Verdict::Notify(_) => {
            format!("{query} {kind:?} {envelope:?} {outcome:?} {rcode} {group:?} {list:?}")
        }
        Verdict::Drop(DropReason::Limited) => format!("{verdict:?} {envelope:?}"),
        Verdict::Drop(_) => format!("{verdict:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8_000))]

    #[test]
    fn plain_packets_get_what_others_get(case in case()) {
        let packet = case.packet();
        let (mut plain, mut general) = (case.fixture(), case.fixture());
        // With a limit, some are within it, and some are not.
        let times = if case.limit.is_some() { BURST_LIMIT + 8 } else { 1 };
        for _ in 0..times {
            let mut reply = match case.is_glanced {
                true => plain.send(NOW, &packet, case.checksums).1,
                false => plain.send_to_closer(NOW, &packet, case.checksums),
            };
            let expected = look(&mut general, &packet, case.checksums);
            let (slot, other) = (&plain.processor.slots[0], &general.processor.slots[0]);
            if let Verdict::Drop(DropReason::ShortMessage | DropReason::Response | DropReason::Denied) =
                slot.verdict
            {
                prop_assert_eq!(slot.envelope.message(), case.checksum_at() + 2);
                // Its checksum does not matter, nor where a response comes from.
                prop_assert!(matches!(other.verdict, Verdict::Drop(_)), "{:?}", other.verdict);
                let [plain, general] = [&plain, &general].map(|f| f.stats.snapshot().dropped_total());
                prop_assert_eq!(plain, general);
                return Ok(());
            }
            prop_assert_eq!(used(slot), used(other));
            if !slot.verdict.is_reply() || case.checksums == Checksums::Unused {
                // It may have been completed, or the kernel computes it.
                let at = case.checksum_at();
                reply[at..at + 2].copy_from_slice(&expected[at..at + 2]);
            }
            prop_assert_eq!(reply, expected);
        }
        prop_assert_eq!(plain.stats.snapshot(), general.stats.snapshot());
    }
}

/// A label that holds the zero which ends a shorter name: with an OPT record, the message has bytes enough
/// for the longer name.
#[test]
fn a_label_may_reach_into_the_opt_record() {
    for (len, allow) in (2..16u8).flat_map(|len| [(len, &[][..]), (len, &["0.0.0.0/0"][..])]) {
        let mut message = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x03www\x01a\0\0\x01\0\x01".to_vec();
        message.extend(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
        message[16] = len;
        let packet = packet::tests::frame(packet::tests::Link::Plain, false, &message);
        for is_glanced in [true, false] {
            let [mut plain, mut general] = [Fixture::new(), Fixture::new()];
            for f in [&mut plain, &mut general] {
                let access = AccessList::new(&prefixes(allow), &[]).unwrap();
                f.processor.set_policy(Arc::new(QueryPolicy { access, ..QueryPolicy::default() }));
            }
            let reply = match is_glanced {
                true => plain.send(NOW, &packet, Checksums::Verify).1,
                false => plain.send_to_closer(NOW, &packet, Checksums::Verify),
            };
            assert_eq!(reply, look(&mut general, &packet, Checksums::Verify), "{len} {allow:?} {is_glanced}");
        }
    }
}
