//! Datagrams and errors that anyone can forge who has found a port, or not even that: none ends the
//! wait for the answer.

use super::{
    sockets::{Heard, Stage, ask},
    *,
};
use crate::upstream::udp::NEAR_MISSES_MAX;

/// Returns a response of a header alone.
fn bare(query: &Asked, flags: u16) -> Vec<u8> {
    [&query.id().to_be_bytes()[..], &(header::QR | flags).to_be_bytes(), &[0; 8]].concat()
}

/// Returns the answer, changed.
fn changed(query: &Asked, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = query.answer(1);
    change(&mut message);
    message
}

/// Returns the answer with another ID than any query in flight has.
fn guess(heard: &Heard, number: u16) -> Vec<u8> {
    changed(&heard.query, |lie| {
        let id = heard.query.id().wrapping_add(1 + number);
        lie[..2].copy_from_slice(&id.to_be_bytes());
    })
}

type Lie = fn(&Asked) -> Vec<u8>;

const LIES: [(&str, Lie); 19] = [
    ("of zero length", |_| Vec::new()),
    ("cut within the header", |query| query[..7].to_vec()),
    ("a header alone", |query| bare(query, 0)),
    ("no response", |query| changed(query, |lie| lie[2] &= 0x7f)),
    ("another opcode", |query| changed(query, |lie| lie[2] |= 0x10)),
    ("QDCOUNT 0", |query| changed(query, |lie| lie[5] = 0)),
    ("QDCOUNT 2", |query| changed(query, |lie| lie[5] = 2)),
    ("a name that is cut", |query| query.answer(1)[..15].to_vec()),
    ("another question", |query| changed(query, |lie| lie[13] ^= 1)),
    ("a record that is cut", |query| changed(query, |lie| lie.truncate(lie.len() - 1))),
    ("a record too many", |query| changed(query, |lie| lie[7] = 9)),
    ("garbage for records", |query| {
        changed(query, |lie| {
            let at = lie.len() - 16;
            lie[at..].fill(0xff);
        })
    }),
    ("an address of three bytes", |query| query.response(0, &[record(1, 1, &[192, 0, 2])])),
    ("TC=1 and garbage", |query| query.response(header::TC, &[vec![0xff; 31]])),
    ("TC=1 without a question", |query| bare(query, header::TC)),
    ("FORMERR without a question", |query| bare(query, 1)),
    ("SERVFAIL without a question", |query| bare(query, 2)),
    ("REFUSED without a question", |query| bare(query, 5)),
    ("another client's cookie", |query| {
        with_opt(query.answer(1), 0, &[&[0, 10, 0, 16][..], &[9; 16]].concat())
    }),
];

/// The upstream does not answer over TCP, and no second query over UDP: the truth comes to the
/// first query, after the lie.
#[tokio::test]
async fn the_answer_after_a_forged_datagram_is_taken() {
    for (what, lie) in LIES {
        let stage = Stage::open().await;
        let resolver = resolver(&[stage.upstream(LONG)]);
        let waiting = ask(&resolver, 1, "a").pop().unwrap();
        let heard = stage.hear().await;
        stage.say(heard.from, &lie(&heard.query)).await;
        stage.say(heard.from, &heard.query.answer(60)).await;
        let answer = tokio::time::timeout(Duration::from_secs(2), waiting).await;
        assert_eq!(answer.expect(what).unwrap().answer.ttl, 60, "{what}");
        assert!(!resolver.upstreams().get(0).is_put_back(resolver.clock().nanos()), "{what}");
    }
}

/// An upstream that has sent cookies once, and letters that are not those of the query.
#[tokio::test]
async fn the_answer_after_a_datagram_without_the_cookie_or_the_letters_is_taken() {
    let stage = Stage::open().await;
    let resolver = resolver(&[stage.upstream(LONG)]);
    for (name, what) in [("first", "nothing"), ("cookie", "the cookie"), ("letters", "the letters")] {
        let waiting = ask(&resolver, 1, name).pop().unwrap();
        let heard = stage.hear().await;
        let cookie = heard.query.cookie().unwrap();
        let with_cookie =
            |message: Vec<u8>| with_opt(message, 0, &[&[0, 10, 0, 24][..], &cookie[..8], &[7; 16]].concat());
        stage
            .say(
                heard.from,
                &match name {
                    "cookie" => heard.query.answer(1),
                    "letters" => with_cookie(changed(&heard.query, |lie| lie[13] ^= 0x20)),
                    _ => with_cookie(heard.query.answer(60)),
                },
            )
            .await;
        stage.say(heard.from, &with_cookie(heard.query.answer(60))).await;
        let answer = tokio::time::timeout(Duration::from_secs(2), waiting).await;
        assert_eq!(answer.expect(what).unwrap().answer.ttl, 60, "{what}");
    }
    assert_eq!(["cookie_missing", "respelled"].map(|name| count(&resolver, name)), [1, 1]);
}

/// Whoever knows the port and not the ID gets no more than a few guesses.
#[tokio::test]
async fn queries_at_a_port_at_which_somebody_guesses_are_asked_over_tcp() {
    let fake = Upstream::local(|Seen { query, over, .. }| match over {
        Over::Udp => {
            let guesses = (1..=NEAR_MISSES_MAX as u16).map(|number| {
                changed(query, |lie| lie[..2].copy_from_slice(&query.id().wrapping_add(number).to_be_bytes()))
            });
            // The next guess is right.
            guesses.chain([query.answer(1)]).map(Say::Send).collect()
        }
        Over::Tcp => vec![Say::Send(query.answer(60))],
    });
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    for i in 0..5 {
        let name = key(&format!("{i}.example"));
        assert_eq!(resolver.resolve(&name).await.answer.ttl, 60, "poisoned");
    }
    let counters = ["exposed", "sockets_abandoned", "queries_udp", "queries_tcp"];
    assert_eq!(counters.map(|name| count(&resolver, name)), [5; 4]);
}

/// TCP is refused: the question is asked anew over UDP, from another port, and the upstream is not
/// put in back-off.
#[tokio::test]
async fn a_query_that_was_exposed_is_asked_from_another_port_if_tcp_fails() {
    let stage = Stage::open().await;
    let resolver = resolver(&[stage.upstream(LONG)]);
    for i in 0..4 {
        let waiting = ask(&resolver, 1, &format!("name{i}-")).pop().unwrap();
        let first = stage.hear().await;
        for number in 0..NEAR_MISSES_MAX as u16 {
            stage.say(first.from, &guess(&first, number)).await;
        }
        let second = stage.hear().await;
        assert_ne!(first.from, second.from);
        stage.say(second.from, &second.query.answer(60)).await;
        assert_eq!(waiting.await.unwrap().answer.ttl, 60);
    }
    assert!(!resolver.upstreams().get(0).is_put_back(resolver.clock().nanos()));
}

/// Late and second answers have IDs of queries that were there. They are no guesses.
#[tokio::test]
async fn second_answers_are_no_guesses() {
    let stage = Stage::open().await;
    let resolver = resolver(&[stage.upstream(LONG)]);
    let mut waiting = ask(&resolver, 2, "a");
    let (first, second) = (stage.hear().await, stage.hear().await);
    stage.say(first.from, &first.query.answer(60)).await;
    assert_eq!(waiting.remove(0).await.unwrap().answer.ttl, 60);
    for _ in 0..9 {
        stage.say(first.from, &first.query.answer(60)).await;
    }
    stage.say(second.from, &second.query.answer(60)).await;
    assert_eq!(waiting.remove(0).await.unwrap().answer.ttl, 60);
    assert_eq!(["exposed", "queries_tcp"].map(|name| count(&resolver, name)), [0; 2]);
}

/// Sender of ICMP errors about packets from one address of loopback to another.
struct Icmp(rustix::fd::OwnedFd);

impl Icmp {
    fn open() -> Self {
        use rustix::net::{AddressFamily, SocketType, ipproto, socket};
        Icmp(socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).expect("tests run as root"))
    }

    /// Says that the port `to` is closed, to which the port `from` has sent a datagram.
    fn say(&self, from: SocketAddr, to: SocketAddr) {
        let ip = [0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1];
        let udp = [from.port().to_be_bytes(), to.port().to_be_bytes(), [0, 40], [0, 0]].concat();
        let mut message = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &ip, &udp].concat();
        let words = message.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum: u32 = words.sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let to = SocketAddr::from(([127, 0, 0, 1], 0));
        rustix::net::sendto(&self.0, &message, rustix::net::SendFlags::empty(), &to).unwrap();
    }
}

/// Forged ICMP errors come by the hundred, and then the answer to the first query. It is taken, the
/// question has been asked once more, and the upstream is not in back-off.
#[tokio::test]
async fn an_icmp_error_ends_no_wait_and_a_flood_of_them_multiplies_no_queries() {
    if !ringdns_testkit::privilege::granted() {
        return;
    }
    let (stage, icmp) = (Stage::open().await, Icmp::open());
    let config = stage.upstream(LONG);
    let address = address_of(&config);
    let resolver = resolver(&[config]);
    for i in 0..5 {
        let waiting = ask(&resolver, 1, &format!("name{i}-")).pop().unwrap();
        let first = stage.hear().await;
        icmp.say(first.from, address);
        let second = stage.hear().await;
        for _ in 0..200 {
            icmp.say(first.from, address);
            icmp.say(second.from, address);
            tokio::task::yield_now().await;
        }
        stage.say(first.from, &first.query.answer(60)).await;
        let answer = tokio::time::timeout(Duration::from_secs(1), waiting).await.expect("no answer");
        assert_eq!(answer.unwrap().answer.ttl, 60);
    }
    assert_eq!(["queries_udp", "answers"].map(|name| count(&resolver, name)), [10, 5]);
    assert!(!resolver.upstreams().get(0).is_put_back(resolver.clock().nanos()));
}

/// With other upstreams, a question is asked of each of them once, however many errors come.
#[tokio::test]
async fn an_icmp_error_lets_the_next_upstream_be_asked() {
    if !ringdns_testkit::privilege::granted() {
        return;
    }
    let (first, second, icmp) = (Stage::open().await, Stage::open().await, Icmp::open());
    let configs = [first.upstream(LONG), second.upstream(LONG)];
    let addresses = configs.each_ref().map(address_of);
    let resolver = resolver(&configs);
    let waiting = ask(&resolver, 1, "a").pop().unwrap();
    let at_first = first.hear().await;
    icmp.say(at_first.from, addresses[0]);
    let at_second = second.hear().await;
    for _ in 0..200 {
        icmp.say(at_first.from, addresses[0]);
        icmp.say(at_second.from, addresses[1]);
        tokio::task::yield_now().await;
    }
    first.say(at_first.from, &at_first.query.answer(60)).await;
    assert_eq!(waiting.await.unwrap().answer.ttl, 60);
    assert_eq!([0, 1].map(|number| count_of(&resolver, number, "queries_udp")), [1, 1]);
}

/// Returns the address of an upstream.
fn address_of(config: &UpstreamConfig) -> SocketAddr {
    let address = &config.addresses[0];
    SocketAddr::new(address.ip, address.port)
}
