//! One question to one upstream: over UDP, and over TCP where that does not do.
//!
//! Each query over UDP has a fresh socket, whose port the kernel draws at random, and a random ID; the socket is
//! connected, so that the kernel drops what comes from elsewhere (RFC 5452 section 9). What is not the answer is
//! counted and waited past, or else a forger's first wrong guess would end the wait for the right one.

use super::upstream::{AskError, Upstream, is_answer};
use crate::{config::Transport, names};
use hickory_proto::op::Message;
use parking_lot::Mutex;
use ringdns_dataplane::{
    clock::Clock,
    dns::{
        answer::{Answer, ResponseError, TtlRules},
        header::{self, Header},
        key::Key,
    },
};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpStream, UdpSocket},
};
use zerocopy::FromBytes;

/// What we say that we take over UDP (RFC 9715).
const UDP_SIZE: u16 = 1232;
/// What we do take: some upstreams do not listen.
const DATAGRAM_MAX: usize = 4096;
/// Connections kept for the next query, and how long (RFC 7766 section 6.2.3: seconds).
const IDLE_MAX: usize = 16;
const IDLE_TIME: Duration = Duration::from_secs(5);

/// Asks `upstream`, and waits for the right response as long as the caller does.
pub async fn ask(upstream: &Upstream, key: &Key, rules: &TtlRules, clock: Clock) -> Result<Answer, AskError> {
    let name: Vec<u8> = key.name().collect();
    let question = Question { upstream, key, name, rules, clock };
    if upstream.transport == Transport::Udp
        && let Some(answer) = question.over_udp().await?
    {
        return Ok(answer);
    }
    question.over_tcp().await
}

struct Question<'a> {
    upstream: &'a Upstream,
    key: &'a Key,
    name: Vec<u8>,
    rules: &'a TtlRules,
    clock: Clock,
}

impl Question<'_> {
    /// A query with a new random ID.
    fn message(&self) -> (u16, Vec<u8>) {
        let meta = self.key.meta();
        let id = rand::random();
        let checking_disabled = if meta.checking_disabled() { header::CD } else { 0 };
        // RFC 6840 section 5.7: AD in a query asks for AD in the answer.
        let authentic = if self.upstream.trusted { header::AD } else { 0 };
        let flags = header::RD | checking_disabled | authentic;
        let question = [meta.qtype(), meta.qclass()];
        (id, names::query_message(&self.name, question, id, flags, Some((UDP_SIZE, meta.dnssec_ok()))))
    }

    /// `None`: the answer does not fit, and TCP must be used.
    async fn over_udp(&self) -> Result<Option<Answer>, AskError> {
        let (id, message) = self.message();
        let socket = connected(self.upstream.address)?;
        self.upstream.counters.queries_udp.inc();
        socket.send(&message).await?;
        loop {
            // Linux reports an unreachable port as an error alone, not as something to read.
            let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
            // One of the two: tokio 1.54 takes nothing to be ready for both.
            let interest = if ready.is_error() { Interest::ERROR } else { Interest::READABLE };
            if let Some(answer) = self.receive(&socket, interest, id)? {
                return Ok(answer);
            }
        }
    }

    /// Takes one datagram; `None` if it is not the answer. Not async, so that the buffer is no part of the flight.
    fn receive(
        &self,
        socket: &UdpSocket,
        interest: Interest,
        id: u16,
    ) -> Result<Option<Option<Answer>>, AskError> {
        let mut buffer = [0; DATAGRAM_MAX];
        let received =
            socket.try_io(interest, || Ok(rustix::net::recv(socket, &mut buffer, RecvFlags::empty())?.0));
        let message = match received {
            Ok(len) => &buffer[..len],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let counters = &self.upstream.counters;
        let ignored = match self.judge(message, id) {
            Ok(Judged::Answer(answer)) => return Ok(Some(Some(answer))),
            Ok(Judged::Truncated) => {
                counters.truncated.inc();
                return Ok(Some(None));
            }
            Ok(Judged::OtherId) => &counters.ignored_wrong_id,
            Err(ResponseError::Short | ResponseError::NotResponse) => &counters.ignored_not_response,
            Err(ResponseError::OtherQuestion) => &counters.ignored_wrong_question,
            Err(ResponseError::Malformed) => return Err(AskError::Malformed),
            Ok(Judged::Failure(rcode)) => return Err(AskError::Failure(rcode)),
        };
        ignored.inc();
        Ok(None)
    }

    async fn over_tcp(&self) -> Result<Answer, AskError> {
        let (id, message) = self.message();
        let upstream = self.upstream;
        upstream.counters.queries_tcp.inc();
        let kept = match upstream.idle.take() {
            // The upstream may have closed it meanwhile: then a new one is tried.
            Some(mut stream) => exchange(&mut stream, &message).await.ok().map(|reply| (stream, reply)),
            None => None,
        };
        let (stream, reply) = match kept {
            Some(done) => done,
            None => {
                let mut stream = TcpStream::connect(upstream.address).await?;
                upstream.counters.connections.inc();
                stream.set_nodelay(true)?;
                let reply = exchange(&mut stream, &message).await?;
                (stream, reply)
            }
        };
        // A stream that brought anything else than the answer is not used again.
        match self.judge(&reply, id) {
            Ok(Judged::Answer(answer)) => {
                upstream.idle.keep(stream);
                Ok(answer)
            }
            Ok(Judged::Failure(rcode)) => {
                upstream.idle.keep(stream);
                Err(AskError::Failure(rcode))
            }
            Ok(Judged::Truncated | Judged::OtherId) | Err(_) => Err(AskError::Malformed),
        }
    }

    fn judge(&self, message: &[u8], id: u16) -> Result<Judged, ResponseError> {
        let (header, _) = Header::ref_from_prefix(message).map_err(|_| ResponseError::Short)?;
        if header.id.get() != id {
            return Ok(Judged::OtherId);
        }
        let answer =
            Answer::from_response(message, self.key, self.rules, self.clock.secs(), self.upstream.trusted);
        // A cut response may end within a record, so this comes before the records are looked at.
        if header.flags.get() & header::TC != 0
            && !matches!(answer, Err(ref e) if *e != ResponseError::Malformed)
        {
            return Ok(Judged::Truncated);
        }
        let answer = answer?;
        // The scan knows where records are, this knows what is in them: nothing else is kept or handed on.
        let decoded = Message::from_vec(message).map_err(|_| ResponseError::Malformed)?;
        // With the upper bits from the OPT record (RFC 6891 section 6.1.3), without which BADVERS looks like success.
        let rcode = u16::from(decoded.metadata.response_code);
        Ok(match u8::try_from(rcode) {
            Ok(rcode) if is_answer(rcode) => Judged::Answer(answer),
            Ok(rcode @ 0..=15) => Judged::Failure(rcode),
            _ => Judged::Failure(ringdns_dataplane::dns::rcode::SERVFAIL),
        })
    }
}

enum Judged {
    Answer(Answer),
    Failure(u8),
    Truncated,
    OtherId,
}

/// A UDP socket of its own for one query. Connecting binds it: to a port that the kernel draws at random.
fn connected(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    UdpSocket::from_std(socket.into())
}

/// Sends a message and reads the next one, each behind its length (RFC 1035 section 4.2.2).
async fn exchange(stream: &mut TcpStream, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend_from_slice(&(message.len() as u16).to_be_bytes());
    framed.extend_from_slice(message);
    stream.write_all(&framed).await?;
    let len = stream.read_u16().await?;
    let mut reply = vec![0; usize::from(len)];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

/// Connections that wait for the next query, the one used last on top.
#[derive(Default)]
pub struct Idle(Mutex<Vec<(TcpStream, Instant)>>);

impl Idle {
    fn take(&self) -> Option<TcpStream> {
        let mut streams = self.0.lock();
        streams.retain(|(_, since)| since.elapsed() < IDLE_TIME);
        streams.pop().map(|(stream, _)| stream)
    }

    fn keep(&self, stream: TcpStream) {
        let mut streams = self.0.lock();
        if streams.len() < IDLE_MAX {
            streams.push((stream, Instant::now()));
        }
    }
}
