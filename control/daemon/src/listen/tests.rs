use super::*;
use ringdns_common::names;
use ringdns_config::Config;
use ringdns_dataplane::{
    access::AccessList,
    clock::Clock,
    dns::{answer::Answer, header, query::Query, rcode},
};
use ringdns_resolver::{FlightLimits as Flights, host::HostTier};
use ringdns_testkit::{Say, Upstream};
use std::{
    collections::HashMap,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const RULES: AnswerConfig = AnswerConfig { udp_limit: 1232, stale_ttl: 30, stale_at_once: true };
const BOUNDS: TcpConfig =
    TcpConfig { connections: 3, connections_per_client: 2, in_flight: 4, idle: Duration::from_secs(10) };

fn listener(upstream: SocketAddr) -> Arc<Listener> {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[[upstream]]\naddress = \"{upstream}\"\ntimeout = \"5s\""
    );
    let config = Config::parse(&text, std::path::Path::new("")).unwrap();
    let host = Arc::new(HostTier::new(1 << 20, Arc::default()));
    let resolver = Resolver::new(host, &config, Clock::start(), Flights::default(), None);
    Listener::new(resolver, Arc::default(), RULES, BOUNDS, None)
}

/// Returns a connection to `listener`: the client's end, and the result of the server's task.
fn connect(listener: &Arc<Listener>) -> (DuplexStream, JoinHandle<io::Result<()>>) {
    let (client, server) = duplex(1 << 17);
    let listener = listener.clone();
    (
        client,
        tokio::spawn(async move {
            let (seat, _) = listener.seats.take(CLIENT).unwrap();
            let (client, local) = ((CLIENT, 1053).into(), (CLIENT, 53).into());
            let ends = Ends { client, server: local };
            listener.converse(server, ends, seat, usize::MAX).await
        }),
    )
}

/// Returns a query with its length in front.
fn query(id: u16, name: &str) -> Vec<u8> {
    let message =
        names::query_message(&names::name(name).unwrap(), [1, 1], id, header::RD, Some((1232, false)));
    [&(message.len() as u16).to_be_bytes(), &message[..]].concat()
}

async fn reply(client: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let len = client.read_u16().await.unwrap();
    let mut message = vec![0; usize::from(len)];
    client.read_exact(&mut message).await.unwrap();
    message
}

fn id(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[0], message[1]])
}

#[tokio::test]
async fn a_query_is_answered_however_it_is_cut_into_pieces() {
    let fake = Upstream::with_ttl(60);
    let listener = listener(fake.address());
    let (mut client, _server) = connect(&listener);
    for byte in query(7, "www.EXAMPLE.com") {
        client.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let message = reply(&mut client).await;
    assert_eq!((id(&message), message[3] & 0x0f), (7, 0));
    assert_eq!(&message[message.len() - 11 - 4..][..4], [192, 0, 2, 1], "then an OPT of 11 bytes");
}

#[tokio::test]
async fn answers_go_out_as_they_are_found_not_as_they_were_asked_for() {
    let slow = Upstream::local(|seen| {
        if seen.query.is_for("slow.example") { Vec::new() } else { vec![Say::Send(seen.query.answer(60))] }
    });
    let listener = listener(slow.address());
    let (mut client, _server) = connect(&listener);
    client.write_all(&[query(1, "slow.example"), query(2, "fast.example")].concat()).await.unwrap();
    assert_eq!(id(&reply(&mut client).await), 2);
}

#[tokio::test]
async fn many_queries_in_one_write_are_all_answered() {
    let fake = Upstream::with_ttl(60);
    let listener = listener(fake.address());
    let (mut client, server) = connect(&listener);
    let queries: Vec<u8> = (0..50).flat_map(|i| query(i, &format!("{i}.example"))).collect();
    client.write_all(&queries).await.unwrap();
    let mut seen = HashMap::new();
    for _ in 0..50 {
        *seen.entry(id(&reply(&mut client).await)).or_insert(0) += 1;
    }
    assert!((0..50).all(|i| seen.get(&i) == Some(&1)));
    // A client that closes its side ends the connection without error.
    client.shutdown().await.unwrap();
    server.await.unwrap().unwrap();
    assert_eq!((listener.counters.queries.get(), listener.counters.answered.get()), (50, 50));
}

#[tokio::test]
async fn a_client_that_closes_its_side_still_gets_its_answers() {
    let fake = Upstream::with_ttl(60);
    let listener = listener(fake.address());
    let (mut client, server) = connect(&listener);
    client.write_all(&query(9, "www.example.com")).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(id(&reply(&mut client).await), 9);
    assert!(client.read_u8().await.is_err(), "and then the end");
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_answer_of_64_kib_goes_through_whole() {
    let listener = listener("127.0.0.1:9".parse().unwrap());
    let question = query(3, "large.example");
    let mut parsed = Query::default();
    parsed.parse(&question[2..]).unwrap();
    // Exactly as much as fits between the question and an OPT record.
    let len = MESSAGE_MAX - header::LEN - parsed.question_len() - 11;
    let large = Answer {
        counts: [1, 0, 0],
        wire: vec![0xab; len].into(),
        ..Answer::error(rcode::NOERROR, None, 0, 1000)
    };
    listener.resolver.host().insert(&parsed.key, Arc::new(large.clone()), 0);
    let (mut client, _server) = connect(&listener);
    client.write_all(&question).await.unwrap();
    let message = reply(&mut client).await;
    assert_eq!((message.len(), message[2] & 0x02), (MESSAGE_MAX, 0));

    // One byte more is truncated.
    let larger = Answer { wire: vec![0xab; len + 1].into(), ..large };
    listener.resolver.host().insert(&parsed.key, Arc::new(larger), 0);
    client.write_all(&question).await.unwrap();
    let message = reply(&mut client).await;
    assert!(message.len() < 100 && message[2] & 0x02 != 0, "TC");
}

#[tokio::test]
async fn what_is_no_query_is_refused_or_dropped() {
    let listener = listener("127.0.0.1:9".parse().unwrap());
    let (mut client, _server) = connect(&listener);
    // A response, which is not answered, then two questions in one message: FORMERR.
    let mut response = query(1, "a.example");
    response[4] |= 0x80;
    let mut two = query(2, "a.example");
    two[7] = 2;
    client.write_all(&[response, two].concat()).await.unwrap();
    let message = reply(&mut client).await;
    assert_eq!((id(&message), message[3] & 0x0f), (2, rcode::FORMERR));
    let counters = &listener.counters;
    assert_eq!([counters.rejected.get(), counters.dropped.get(), counters.answered.get()], [1, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed() {
    let listener = listener("127.0.0.1:9".parse().unwrap());
    for begun in [&[][..], &[0], &[0, 30, 1, 2, 3]] {
        let began = tokio::time::Instant::now();
        let (mut client, server) = connect(&listener);
        client.write_all(begun).await.unwrap();
        let ended = server.await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < BOUNDS.idle * 2, "after {begun:?}: {:?}", began.elapsed());
        assert!(client.read_u8().await.is_err());
    }
}

/// The upstream takes longer than the idle time: the connection waits for it.
#[tokio::test(start_paused = true)]
async fn silence_is_no_reason_to_close_while_an_answer_is_under_way() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let bounds = TcpConfig { idle: Duration::from_millis(100), ..BOUNDS };
    let full = listener(silent.local_addr().unwrap());
    let listener = Listener::new(full.resolver.clone(), Arc::default(), RULES, bounds, None);
    let (mut client, _server) = connect(&listener);
    // The second query is answered from the cached failure of the first.
    for asked in [5, 6] {
        client.write_all(&query(asked, "www.example.com")).await.unwrap();
        let message = reply(&mut client).await;
        assert_eq!((id(&message), message[3] & 0x0f), (asked, rcode::SERVFAIL));
        // RFC 8914: Cached Error.
        assert_eq!(message.ends_with(&[0, 15, 0, 2, 0, 13]), asked == 6, "{message:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_given_up() {
    let listener = listener("127.0.0.1:9".parse().unwrap());
    let question = query(3, "large.example");
    let mut parsed = Query::default();
    parsed.parse(&question[2..]).unwrap();
    let large = Answer { wire: vec![0xab; 60_000].into(), ..Answer::error(rcode::NOERROR, None, 0, 1000) };
    listener.resolver.host().insert(&parsed.key, Arc::new(large), 0);
    let (mut client, server) = connect(&listener);
    client.write_all(&question.repeat(20)).await.unwrap();
    assert_eq!(server.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    let made = listener.counters.answered.get();
    assert!(made < 10, "{made} answers of 60 KB made for a client that reads none");
}

/// Stream that counts its writes.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Relaxed);
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[tokio::test]
async fn known_answers_to_queries_that_arrive_together_are_one_write() {
    let listener = listener("127.0.0.1:9".parse().unwrap());
    let queries: Vec<Vec<u8>> = (0..30).map(|id| query(id, &format!("{id}.example"))).collect();
    for query in &queries {
        let mut parsed = Query::default();
        parsed.parse(&query[2..]).unwrap();
        let answer = Answer::error(rcode::NXDOMAIN, None, 0, 1000);
        listener.resolver.host().insert(&parsed.key, Arc::new(answer), 0);
    }
    let (mut client, stream) = duplex(1 << 17);
    let writes = Arc::new(AtomicUsize::new(0));
    let (seat, _) = listener.seats.take(CLIENT).unwrap();
    let ends = Ends { client: (CLIENT, 1053).into(), server: (CLIENT, 53).into() };
    client.write_all(&queries.concat()).await.unwrap();
    let served = {
        let (listener, stream) = (listener.clone(), Counted(stream, writes.clone()));
        tokio::spawn(async move { listener.converse(stream, ends, seat, usize::MAX).await })
    };
    for asked in 0..30 {
        let message = reply(&mut client).await;
        assert_eq!((id(&message), message[3] & 0x0f), (asked, rcode::NXDOMAIN));
    }
    assert_eq!(writes.load(Relaxed), 1);
    client.shutdown().await.unwrap();
    served.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_with_too_many_queries_in_flight_is_not_read_from() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listener = listener(silent.local_addr().unwrap());
    let (mut client, _server) = connect(&listener);
    let queries: Vec<u8> = (0..10).flat_map(|id| query(id, &format!("{id}.example"))).collect();
    client.write_all(&queries).await.unwrap();
    while listener.counters.queries.get() < BOUNDS.in_flight as u64 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(listener.counters.queries.get(), BOUNDS.in_flight as u64);
    // All fail in the end, and the others have their turn.
    for _ in 0..10 {
        assert_eq!(reply(&mut client).await[3] & 0x0f, rcode::SERVFAIL);
    }
}

#[tokio::test(start_paused = true)]
async fn an_evicted_connection_does_not_wait_for_its_client() {
    let listener = listener("127.0.0.1:9".parse().unwrap());
    let question = query(3, "large.example");
    let mut parsed = Query::default();
    parsed.parse(&question[2..]).unwrap();
    let large = Answer { wire: vec![0xab; 60_000].into(), ..Answer::error(rcode::NOERROR, None, 0, 1000) };
    listener.resolver.host().insert(&parsed.key, Arc::new(large), 0);
    // Two connections of one client that reads no answers, and one of another client.
    let mut greedy = [connect(&listener), connect(&listener)];
    for (client, _) in &mut greedy {
        client.write_all(&question.repeat(20)).await.unwrap();
    }
    let (other, _) = listener.seats.take("10.0.0.1".parse().unwrap()).unwrap();
    other.asked(1);
    while listener.counters.answered.get() < 4 {
        tokio::task::yield_now().await;
    }
    let began = tokio::time::Instant::now();
    assert_eq!(listener.seats.take("10.0.0.2".parse().unwrap()).unwrap().1, Room::OfGreediest);
    let [(_, evicted), _] = greedy;
    evicted.await.unwrap().unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// Tests against a listener over real sockets.
async fn serve(listener: &Arc<Listener>, address: &str) -> Option<(SocketAddr, JoinHandle<()>)> {
    // Not every machine has IPv6.
    let socket = TcpListener::bind((address, 0)).await.ok()?;
    Some((socket.local_addr().unwrap(), tokio::spawn(listener.clone().serve(socket))))
}

#[tokio::test]
async fn who_comes_when_all_seats_are_taken_gets_that_of_the_idlest() {
    let fake = Upstream::local(|seen| vec![Say::Send(seen.query.response(3, &[]))]);
    for local in ["127.0.0.1", "::1"] {
        let listener = listener(fake.address());
        let Some((address, serving)) = serve(&listener, local).await else { continue };
        let mut clients = Vec::new();
        for i in 0..BOUNDS.connections_per_client as u16 {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(&query(i, "www.example.com")).await.unwrap();
            assert_eq!(id(&reply(&mut client).await), i);
            clients.push(client);
        }
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(&query(3, "www.example.com")).await.unwrap();
        assert_eq!(id(&reply(&mut third).await), 3);
        assert!(clients[0].read_u8().await.is_err(), "the first has been silent for longest");
        clients[1].write_all(&query(4, "www.example.com")).await.unwrap();
        assert_eq!(id(&reply(&mut clients[1]).await), 4, "the others stay");
        let counters = &listener.counters;
        assert_eq!([counters.connections_displaced.get(), counters.connections_refused.get()], [1, 0]);
        assert_eq!(listener.seats.taken(), BOUNDS.connections_per_client);
        serving.abort();
    }
}

/// A connection with a query in flight keeps its seat, and new ones are refused.
#[tokio::test]
async fn nobody_is_displaced_who_has_a_query_under_way() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listener = listener(silent.local_addr().unwrap());
    let (address, serving) = serve(&listener, "127.0.0.1").await.unwrap();
    let mut clients = Vec::new();
    for i in 0..BOUNDS.connections_per_client as u16 {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&query(i, &format!("{i}.example"))).await.unwrap();
        clients.push(client);
    }
    while listener.counters.queries.get() < BOUNDS.connections_per_client as u64 {
        tokio::task::yield_now().await;
    }
    let mut third = TcpStream::connect(address).await.unwrap();
    assert!(third.read_u8().await.is_err());
    assert_eq!(listener.counters.connections_refused.get(), 1);
    serving.abort();
}

/// A message that comes byte by byte has no more time than one that comes at once.
#[tokio::test(start_paused = true)]
async fn dripping_bytes_buys_no_time() {
    let listener = listener("127.0.0.1:9".parse().unwrap());
    let (mut client, server) = connect(&listener);
    let began = tokio::time::Instant::now();
    let dripping = tokio::spawn(async move {
        for byte in query(7, "a-name-that-takes-its-time.example.com").into_iter().cycle() {
            if client.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(BOUNDS.idle / 4).await;
        }
    });
    let ended = timeout(BOUNDS.idle * 2, server).await.expect("it is given up in time");
    assert_eq!(ended.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(began.elapsed() <= BOUNDS.idle * 3 / 2, "{:?}", began.elapsed());
    dripping.abort();
}

/// RFC 7828: the keepalive option is sent to clients that ask for it, over TCP only.
#[tokio::test]
async fn clients_that_ask_are_told_how_long_they_may_be_silent() {
    let fake = Upstream::with_ttl(60);
    let listener = listener(fake.address());
    let (mut client, _server) = connect(&listener);
    let plain = query(1, "www.example.com");
    let mut asks = plain.clone();
    asks.extend([0, 11, 0, 0]);
    let at = asks.len() - 5;
    asks[at] = 4;
    asks[1] += 4;
    for (query, told) in [(&plain, false), (&asks, true)] {
        client.write_all(query).await.unwrap();
        assert_eq!(reply(&mut client).await.ends_with(&[0, 11, 0, 2, 0, 100]), told, "ten seconds");
    }
}

/// The longest possible query: it is padded with an unknown option.
#[tokio::test]
async fn a_query_of_64_kib_is_answered() {
    let fake = Upstream::with_ttl(60);
    let listener = listener(fake.address());
    let (mut client, _server) = connect(&listener);
    let mut padded = query(9, "www.example.com");
    let room = MESSAGE_MAX - (padded.len() - 2);
    let at = padded.len() - 2;
    padded[at..].copy_from_slice(&(room as u16).to_be_bytes());
    padded.extend([0xff, 0xfe]);
    padded.extend((room as u16 - 4).to_be_bytes());
    padded.resize(2 + MESSAGE_MAX, 0);
    padded[..2].copy_from_slice(&[0xff; 2]);
    client.write_all(&padded).await.unwrap();
    let message = reply(&mut client).await;
    assert_eq!((id(&message), message[3] & 0x0f, message[7]), (9, 0, 1));
}

#[tokio::test]
async fn who_may_not_ask_is_told_so_once_or_not_listened_to() {
    let fake = Upstream::with_ttl(60);
    for refusal in [Refusal::Answer, Refusal::Drop] {
        let open = listener(fake.address());
        let access = AccessList::new(&["10.0.0.0/8".parse().unwrap()], &[]).unwrap();
        let policy = Arc::new(QueryPolicy { access, refusal, ..QueryPolicy::default() });
        let listener = Listener::new(open.resolver.clone(), policy, RULES, BOUNDS, None);
        let (address, serving) = serve(&listener, "127.0.0.1").await.unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        // The connection may be closed before this arrives.
        let _ = client.write_all(&query(1, "www.example.com")).await;
        if refusal == Refusal::Answer {
            let message = reply(&mut client).await;
            assert_eq!((id(&message), message[3] & 0x0f), (1, rcode::REFUSED));
            assert!(message.ends_with(&[0, 15, 0, 2, 0, 18]), "RFC 8914: Prohibited");
        }
        assert!(client.read_u8().await.is_err(), "and then the end");
        let dropped = u64::from(refusal == Refusal::Drop);
        assert_eq!(listener.counters.connections_denied.get(), dropped);
        serving.abort();
    }
    assert_eq!(fake.asked(), 0);
}
