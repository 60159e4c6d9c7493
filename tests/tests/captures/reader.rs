//! Reader of DNS messages in captures: UDP and TCP, IPv4 and IPv6, fragments, VLANs, and streams
//! with holes.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use etherparse::defrag::IpDefragPool;
use etherparse::{NetSlice, SlicedPacket, TcpSlice, TransportSlice, UdpSlice, ip_number};
use hickory_proto::op::Message as Decoded;
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use ringdns_testkit::Over;

const DNS: u16 = 53;

/// A message of a capture.
#[derive(Clone, Debug)]
pub struct Message {
    pub over: Over,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

/// A query and the server's answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub query: Message,
    pub answer: Vec<u8>,
}

/// Queries and exchanges of a capture.
#[derive(Debug, Default)]
pub struct Capture {
    pub queries: usize,
    /// Queries that were answered.
    pub exchanges: Vec<Exchange>,
}

impl Capture {
    pub fn read(path: &Path) -> Self {
        let messages = messages(path);
        let (mut queries, mut answers): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .partition(|message| message.to.port() == DNS && !is_response(&message.bytes));
        answers.retain(|message| is_response(&message.bytes));
        queries.retain(|message| question(&message.bytes).is_some());
        let mut capture = Self { queries: queries.len(), ..Self::default() };
        for query in queries {
            let found = answers.iter().position(|answer| {
                (answer.over, answer.from, answer.to) == (query.over, query.to, query.from)
                    && answer.bytes[..2] == query.bytes[..2]
                    && question(&answer.bytes) == question(&query.bytes)
            });
            if let Some(found) = found {
                capture.exchanges.push(Exchange { query, answer: answers.remove(found).bytes });
            }
        }
        capture
    }
}

fn is_response(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & 0x80 != 0)
}

/// Returns the question section of a message, if it can be parsed.
pub fn question(message: &[u8]) -> Option<&[u8]> {
    let decoded = Decoded::from_vec(message).ok()?;
    if decoded.queries.len() != 1 {
        return None;
    }
    let mut end = 12;
    while *message.get(end)? != 0 {
        end += 1 + usize::from(message[end]);
    }
    message.get(12..end + 5)
}

fn messages(path: &Path) -> Vec<Message> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = PcapReader::new(BufReader::new(file))
        .unwrap_or_else(|error| panic!("{} is no pcap file: {error}", path.display()));
    let link = reader.header().datalink;
    let mut fragments = IpDefragPool::<(), ()>::new();
    let (mut messages, mut streams) = (Vec::new(), Streams::default());
    // A file that ends within a packet yields the packets before it.
    while let Some(Ok(packet)) = reader.next_packet() {
        let bytes = &packet.data[..];
        let sliced = match link {
            DataLink::ETHERNET => SlicedPacket::from_ethernet(bytes),
            // The link-layer header is 16 bytes, or 20 in version 2.
            DataLink::LINUX_SLL => SlicedPacket::from_ip(bytes.get(16..).unwrap_or_default()),
            DataLink::LINUX_SLL2 => SlicedPacket::from_ip(bytes.get(20..).unwrap_or_default()),
            DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => SlicedPacket::from_ip(bytes),
            other => panic!("{}: {other:?} is a link that this test does not know", path.display()),
        };
        let Ok(sliced) = sliced else { continue };
        let Some([from, to]) = addresses(&sliced) else { continue };
        if let Ok(Some(whole)) = fragments.process_sliced_packet(&sliced, (), ()) {
            if whole.ip_number == ip_number::UDP
                && let Ok(udp) = UdpSlice::from_slice(&whole.payload)
            {
                take_datagram(&udp, from, to, &mut messages);
            } else if whole.ip_number == ip_number::TCP
                && let Ok(tcp) = TcpSlice::from_slice(&whole.payload)
            {
                streams.take(&tcp, from, to);
            }
        }
        match &sliced.transport {
            Some(TransportSlice::Udp(udp)) => take_datagram(udp, from, to, &mut messages),
            Some(TransportSlice::Tcp(tcp)) => streams.take(tcp, from, to),
            _ => {}
        }
    }
    messages.extend(streams.messages());
    messages
}

fn addresses(packet: &SlicedPacket) -> Option<[IpAddr; 2]> {
    match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => Some([ip.header().source_addr().into(), ip.header().destination_addr().into()]),
        NetSlice::Ipv6(ip) => Some([ip.header().source_addr().into(), ip.header().destination_addr().into()]),
        NetSlice::Arp(_) => None,
    }
}

fn take_datagram(udp: &UdpSlice, from: IpAddr, to: IpAddr, messages: &mut Vec<Message>) {
    if udp.source_port() == DNS || udp.destination_port() == DNS {
        messages.push(Message {
            over: Over::Udp,
            from: (from, udp.source_port()).into(),
            to: (to, udp.destination_port()).into(),
            bytes: udp.payload().to_vec(),
        });
    }
}

//----------- Streams ---------------------------------------------------------

/// Directions of connections, in the order in which they began.
#[derive(Default)]
struct Streams {
    order: Vec<Stream>,
    /// Index of the newest direction between two endpoints.
    newest: HashMap<(SocketAddr, SocketAddr), usize>,
}

struct Stream {
    from: SocketAddr,
    to: SocketAddr,
    base: u32,
    /// Offsets from the first segment seen, and data.
    segments: Vec<(i32, Vec<u8>)>,
}

impl Streams {
    fn take(&mut self, tcp: &TcpSlice, from: IpAddr, to: IpAddr) {
        if tcp.source_port() != DNS && tcp.destination_port() != DNS {
            return;
        }
        let ends = ((from, tcp.source_port()).into(), (to, tcp.destination_port()).into());
        let begins =
            tcp.syn() && self.newest.get(&ends).is_none_or(|at| !self.order[*at].segments.is_empty());
        let at = match self.newest.get(&ends) {
            Some(at) if !begins => *at,
            _ => {
                let base = tcp.sequence_number();
                self.order.push(Stream { from: ends.0, to: ends.1, base, segments: Vec::new() });
                self.newest.insert(ends, self.order.len() - 1);
                self.order.len() - 1
            }
        };
        let stream = &mut self.order[at];
        if !tcp.payload().is_empty() {
            let offset = tcp.sequence_number().wrapping_sub(stream.base).cast_signed();
            stream.segments.push((offset, tcp.payload().to_vec()));
        }
    }

    fn messages(self) -> Vec<Message> {
        self.order.into_iter().flat_map(Stream::messages).collect()
    }
}

impl Stream {
    fn messages(mut self) -> Vec<Message> {
        self.segments.sort_by_key(|(offset, _)| *offset);
        let mut found = Vec::new();
        let mut run = Run::default();
        let mut end = 0;
        for (offset, data) in &self.segments {
            if *offset > end || run.bytes.is_empty() {
                std::mem::take(&mut run).split(&mut found);
                end = *offset;
            }
            let known = usize::try_from(end - offset).unwrap_or(0).min(data.len());
            run.starts.push(run.bytes.len());
            run.bytes.extend(&data[known..]);
            end += i32::try_from(data.len() - known).expect("segments are short");
        }
        run.split(&mut found);
        let (from, to) = (self.from, self.to);
        found.into_iter().map(|bytes| Message { over: Over::Tcp, from, to, bytes }).collect()
    }
}

/// Bytes of a stream without a hole.
#[derive(Default)]
struct Run {
    bytes: Vec<u8>,
    /// Offsets at which segments begin.
    starts: Vec<usize>,
}

impl Run {
    /// Finds the messages. After a hole, a message begins with a segment; its length may be in the
    /// hole.
    fn split(self, found: &mut Vec<Vec<u8>>) {
        let mut at = 0;
        while at < self.bytes.len() {
            let rest = &self.bytes[at..];
            let next = self.starts.iter().copied().find(|start| *start > at).unwrap_or(self.bytes.len());
            let behind_length = rest.split_first_chunk().and_then(|(length, rest)| {
                rest.get(..usize::from(u16::from_be_bytes(*length)))
                    .filter(|message| question(message).is_some())
            });
            if let Some(message) = behind_length {
                found.push(message.to_vec());
                at += 2 + message.len();
                continue;
            }
            let segment = &self.bytes[at..next];
            if question(segment).is_some() {
                found.push(segment.to_vec());
            }
            at = next;
        }
    }
}
