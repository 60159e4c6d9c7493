//! Tests of answers: in the form that the client asked for, with aged TTLs, and only with what the
//! upstream really said.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use ringdns_testkit::{
    A, Asked, Client, DNS_V4, Edns, Gate, Knot, Lab, Over, Query, Ringdnsd, Say, Settings, TXT, Upstream,
    Zone, a_record, ask_over_tcp, until,
};

const FORMERR: u16 = 1;
const NXDOMAIN: u16 = 3;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;
const BADVERS: u16 = 16;

const TRUE: [u8; 4] = [192, 0, 2, 1];
const LIE: [u8; 4] = [192, 0, 2, 66];

/// ringdnsd on AF_XDP in front of Knot with [`Zone::example`], and a client.
struct Scene {
    client: Client,
    ringdnsd: Ringdnsd,
    _knot: Knot,
    lab: Lab,
}

impl Scene {
    fn set() -> Option<Self> {
        let lab = Lab::up()?;
        let knot = Knot::upstream(lab.server(), &[Zone::example()]);
        let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(knot.address()));
        Some(Self { client: Client::of(lab.client(), DNS_V4), ringdnsd, _knot: knot, lab })
    }
}

#[test]
fn ttls_age_by_the_second() {
    let Some(scene) = Scene::set() else { return };
    let query = Query::a("www.example");
    let mut ttl = scene.client.ask(&query).ttl();
    assert!(ttl == 300 || ttl == 299, "{ttl}");
    for _ in 0..2 {
        let aged = until("the TTL ages", || Some(scene.client.ask(&query).ttl()).filter(|aged| *aged != ttl));
        assert_eq!(aged, ttl - 1, "it never rises, and no second is left out");
        ttl = aged;
    }
    // The host tier ages TTLs in the same way.
    let over_tcp = ask_over_tcp(scene.lab.client(), DNS_V4, &[query])[0].ttl();
    assert!(over_tcp == ttl || over_tcp == ttl - 1, "{over_tcp} over TCP, {ttl} over UDP");
    assert_eq!(scene.ringdnsd.stat("/upstreams/0/counters/queries_udp"), 1);
}

#[test]
fn an_expired_answer_is_renewed() {
    let Some(scene) = Scene::set() else { return };
    let query = Query::a("short.example");
    assert!(scene.client.ask(&query).ttl() <= 2);
    until("the upstream is asked again", || {
        let ttl = scene.client.ask(&query).ttl();
        assert!(ttl <= 2 || ttl == 30, "TTL {ttl} is neither the record's nor that of stale answers");
        (scene.ringdnsd.stat("/upstreams/0/counters/queries_udp") == 2).then_some(())
    });
    until("the new answer is given", || (1..=2).contains(&scene.client.ask(&query).ttl()).then_some(()));
}

#[test]
fn letter_case_and_id_come_back_as_they_were_sent() {
    let Some(scene) = Scene::set() else { return };
    for (id, name) in [(0, "www.example"), (0xffff, "WWW.EXAMPLE"), (0x8001, "wWw.eXaMpLe")] {
        let query = Query::a(name).id(id);
        let mut replies = ask_over_tcp(scene.lab.client(), DNS_V4, std::slice::from_ref(&query));
        replies.push(scene.client.ask(&query));
        for reply in replies {
            assert!(reply.id() == id && reply.repeats(&query), "{query:?}: {reply:?}");
            assert_eq!(reply.addresses(), [Ipv4Addr::from(TRUE)]);
        }
    }
    assert_eq!(scene.ringdnsd.stat("/upstreams/0/counters/queries_udp"), 1, "case makes no other question");
}

#[test]
fn what_does_not_fit_is_cut_and_whole_over_tcp() {
    let Some(scene) = Scene::set() else { return };
    let many = Query::a("many.example");
    let big = Query::of("big.example", TXT);
    // 40 records: too large without EDNS or for the offered size, but not for 1232 bytes. Asked
    // twice: a miss, then a hit.
    for _ in 0..2 {
        for (query, records) in [
            (many.clone(), 0),
            (many.clone().edns(600), 0),
            (many.clone().edns(1232), 40),
            // UDP carries at most 1232 bytes, whatever the client offers.
            (big.clone().edns(4096), 0),
        ] {
            let reply = scene.client.ask(&query);
            let limit = query.edns.map_or(512, |edns| edns.udp_size.into());
            assert_eq!((reply.rcode(), reply.has_edns()), (0, query.edns.is_some()), "{query:?}");
            assert_eq!((reply.answers(), reply.is_truncated()), (records, records == 0), "{query:?}");
            assert!(reply.0.len() <= limit, "{query:?}: {} bytes", reply.0.len());
        }
    }
    let whole = ask_over_tcp(scene.lab.client(), DNS_V4, &[many.id(1), big.id(2)]);
    for reply in whole {
        assert_eq!((reply.answers(), reply.is_truncated()), ([40, 12][usize::from(reply.id()) - 1], false));
    }
    // Knot truncated the large answer, too, and was asked again over TCP; once each.
    let stats = scene.ringdnsd.settled();
    let upstream = &stats["upstreams"][0]["counters"];
    assert_eq!((&upstream["queries_udp"], &upstream["queries_tcp"]), (&2.into(), &1.into()), "{upstream:#}");
    assert!(stats["total"]["truncated"].as_u64().unwrap() >= 6, "{stats:#}");
}

#[test]
fn what_is_no_query_to_look_up_is_told_so() {
    let Some(scene) = Scene::set() else { return };
    let www = || Query::a("www.example").id(4711);
    let status_opcode = Query { flags: 2 << 11, ..www() };
    let version_1 = Query { edns: Some(Edns { udp_size: 1232, version: 1, dnssec_ok: false }), ..www() };
    let transfer = Query { qtype: 252, ..www() };
    let chaos = Query { qclass: 3, ..www() };
    for (query, rcode) in
        [(version_1, BADVERS), (status_opcode, NOTIMP), (transfer, REFUSED), (chaos, REFUSED)]
    {
        assert_eq!(scene.client.ask(&query).rcode(), rcode, "{query:?}");
        assert_eq!(ask_over_tcp(scene.lab.client(), DNS_V4, &[query])[0].rcode(), rcode);
    }
    let mut two_questions = www().wire();
    two_questions[5] = 2;
    let mut cut = www().wire();
    cut.truncate(20);
    let mut trailing = www().wire();
    trailing.push(0);
    for message in [two_questions, cut, trailing] {
        scene.client.send(&message);
        let reply = scene.client.receive(Duration::from_secs(10)).expect("FORMERR");
        assert_eq!((reply.id(), reply.rcode()), (4711, FORMERR), "{message:02x?}");
    }
    // A response is not a query, and answering one could cause a loop. Half a header is not a query
    // either.
    scene.client.send(&Asked(www().wire()).address(TRUE));
    scene.client.send(&www().wire()[..11]);
    assert_eq!(scene.client.ask(&www().id(1)).rcode(), 0);
    let total = scene.ringdnsd.settled()["total"].clone();
    for (outcome, count) in [("badvers", 1), ("notimp", 1), ("refused", 2), ("formerr", 3), ("punted", 1)] {
        assert_eq!(total[outcome], count, "{outcome}: {total:#}");
    }
    assert_eq!((&total["dropped"]["response"], &total["dropped"]["short_message"]), (&1.into(), &1.into()));
    assert_eq!(scene.ringdnsd.stat("/upstreams/0/counters/queries_udp"), 1);
}

#[test]
fn what_does_not_exist_is_remembered() {
    let Some(scene) = Scene::set() else { return };
    for _ in 0..3 {
        let nothing = scene.client.ask(&Query::a("nothing.example"));
        assert_eq!((nothing.rcode(), nothing.answers()), (NXDOMAIN, 0));
        let no_data = scene.client.ask(&Query::of("www.example", TXT));
        assert_eq!((no_data.rcode(), no_data.answers()), (0, 0));
    }
    let stats = scene.ringdnsd.settled();
    assert_eq!(stats["upstreams"][0]["counters"]["queries_udp"], 2, "{stats:#}");
    assert_eq!(stats["total"]["negative"], 4, "{stats:#}");
}

#[test]
fn answers_for_do_and_cd_are_kept_apart() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::start(lab.server(), |seen| {
        let (dnssec_ok, checking_disabled) = seen.query.dnssec();
        let last = u8::from(dnssec_ok) * 2 + u8::from(checking_disabled);
        vec![Say::Send(seen.query.address([192, 0, 2, last]))]
    });
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    let client = Client::of(lab.client(), DNS_V4);
    for _ in 0..3 {
        for (last, (dnssec_ok, checking_disabled)) in
            [(false, false), (false, true), (true, false), (true, true)].into_iter().enumerate()
        {
            let reply = client.ask(&Query::a("www.example").dnssec(dnssec_ok, checking_disabled));
            assert_eq!(reply.addresses(), [Ipv4Addr::new(192, 0, 2, last as u8)]);
        }
    }
    assert_eq!(upstream.asked(), 4);
    assert_eq!(ringdnsd.stat("/total/hit"), 8);
}

#[test]
fn fifty_clients_with_one_question_are_one_query() {
    let Some(lab) = Lab::up() else { return };
    let gate = Gate::default();
    let at_gate = gate.clone();
    let upstream = Upstream::start(lab.server(), move |seen| {
        at_gate.pass();
        vec![Say::Send(seen.query.address(TRUE))]
    });
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    let clients: Vec<Client> = (0..50).map(|_| Client::of(lab.client(), DNS_V4)).collect();
    for (id, client) in clients.iter().enumerate() {
        client.send(&Query::a("www.example").id(id as u16).wire());
    }
    until("all wait for the one answer", || (ringdnsd.stat("/resolver/counters/joined") == 49).then_some(()));
    gate.open();
    for (id, client) in clients.iter().enumerate() {
        let reply = client.receive(Duration::from_secs(10)).expect("an answer for each");
        assert_eq!((usize::from(reply.id()), reply.addresses()), (id, vec![Ipv4Addr::from(TRUE)]));
    }
    let stats = ringdnsd.settled();
    assert_eq!((&stats["total"]["punted"], upstream.asked()), (&50.into(), 1), "{stats:#}");
}

#[test]
fn a_cut_response_is_fetched_over_tcp() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::start(lab.server(), |seen| {
        vec![Say::Send(match seen.over {
            Over::Udp => seen.query.truncated(),
            Over::Tcp => seen.query.response(0, &[a_record(300, TRUE), a_record(300, [192, 0, 2, 2])]),
        })]
    });
    let _ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    let client = Client::of(lab.client(), DNS_V4);
    for _ in 0..2 {
        assert_eq!(client.ask(&Query::a("www.example")).answers(), 2);
    }
    let over: Vec<Over> = upstream.seen().iter().map(|seen| seen.over).collect();
    assert_eq!(over, [Over::Udp, Over::Tcp]);
}

/// Returns a forged response in place of the answer.
fn forged(name: &str, query: &Asked) -> Option<Say> {
    let mut lie = query.address(LIE);
    Some(match name.split_once('.')?.0 {
        "id" => {
            lie[1] ^= 1;
            Say::Send(lie)
        }
        "question" => {
            lie[13] ^= 1;
            Say::Send(lie)
        }
        "type" => {
            let end = lie[12..].iter().position(|byte| *byte == 0)? + 14;
            lie[end] = TXT as u8;
            Say::Send(lie)
        }
        "port" => Say::SendFromElsewhere(lie),
        "query" => {
            lie[2] &= 0x7f;
            Say::Send(lie)
        }
        "junk" => Say::Send(vec![0xa5; 3]),
        "nothing" => Say::Send(Vec::new()),
        _ => return None,
    })
}

#[test]
fn a_lie_is_not_believed_and_the_truth_after_it_is() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::start(lab.server(), |seen| {
        let truth = Say::Send(seen.query.address(TRUE));
        forged(&seen.query.name(), &seen.query).into_iter().chain([truth]).collect()
    });
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    let client = Client::of(lab.client(), DNS_V4);
    let lies = ["id", "question", "type", "port", "query", "junk", "nothing"];
    for lie in lies {
        let query = Query::of(&format!("{lie}.example"), A);
        for _ in 0..2 {
            assert_eq!(client.ask(&query).addresses(), [Ipv4Addr::from(TRUE)], "{lie}");
        }
    }
    assert_eq!(upstream.asked(), lies.len(), "each was found at the first attempt");
    let stats = ringdnsd.settled();
    let upstream = &stats["upstreams"][0]["counters"];
    for (counter, count) in
        [("ignored_wrong_id", 1), ("ignored_wrong_question", 2), ("ignored_not_response", 3), ("answers", 7)]
    {
        assert_eq!(upstream[counter], count, "{counter}: {upstream:#}");
    }
}

#[test]
fn queries_upstream_have_random_ports_that_change_and_random_ids() {
    const ASKED: u16 = 64;
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let _ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    let client = Client::of(lab.client(), DNS_V4);
    for number in 0..ASKED {
        client.ask(&Query::a(&format!("name{number}.example")).id(number));
    }
    let seen = upstream.seen();
    let ports: HashSet<u16> = seen.iter().map(|seen| seen.from.port()).collect();
    let ids: HashSet<u16> = seen.iter().map(|seen| seen.query.id()).collect();
    // Of 64 random values out of tens of thousands, hardly two are equal. Counted values would
    // follow one another.
    assert!(ids.len() >= 60, "{} IDs", ids.len());
    let in_order = |drawn: Vec<u16>| drawn.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) <= 2).count();
    assert!(in_order(seen.iter().map(|seen| seen.query.id()).collect()) < 8);
    // Each query has a port of its own. The kernel may draw one again that was closed before.
    assert!(ports.len() >= 60, "{ports:?}");
    let mut drawn: Vec<_> = ports.iter().copied().collect();
    drawn.sort_unstable();
    assert!(in_order(drawn) < 8, "{ports:?}");
}

/// An upstream whose only address is link-local, on the clients' link: named by the interface, and
/// by its index.
#[test]
fn a_link_local_upstream_is_asked_behind_its_interface() {
    let Some(lab) = Lab::up() else { return };
    lab.client().give_address("vc", Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x53));
    lab.server().give_address("vs", Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
    let socket = lab.client().enter(|| UdpSocket::bind(("fe80::53%vc", 53))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let index = lab.server().run("cat", ["/sys/class/net/vs/ifindex"]);
    for zone in ["vs", index.trim()] {
        let address = format!("[fe80::53%{zone}]:53");
        let settings = Settings::xdp(socket.local_addr().unwrap());
        let tables = format!("[[upstream]]\naddress = {address:?}\n{}", settings.tables);
        let ringdnsd = Ringdnsd::start(lab.server(), &Settings { upstreams: Vec::new(), tables, ..settings });
        let client = Client::of(lab.client(), DNS_V4);
        client.send(&Query::a("www.example").wire());
        let mut query = [0; 1500];
        let (len, from) = socket.recv_from(&mut query).expect("a query");
        let query = Asked(query[..len].to_vec());
        socket.send_to(&query.address(TRUE), from).unwrap();
        let reply = client.receive(Duration::from_secs(10)).expect("an answer");
        assert_eq!(reply.addresses(), [Ipv4Addr::from(TRUE)], "{zone}");
        assert!(ringdnsd.told(&["status"]).contains(&format!("udp://{address}")), "{zone}");
    }
}
