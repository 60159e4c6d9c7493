//! Tests: the encoding is read by another implementation, prost, with the messages of `dnstap.proto`
//! written down as that has them.

use super::*;
use proptest::prelude::*;
use prost::Message as _;
use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(Clone, PartialEq, prost::Message)]
struct Outer {
    #[prost(bytes, optional, tag = "1")]
    identity: Option<Vec<u8>>,
    #[prost(bytes, optional, tag = "2")]
    version: Option<Vec<u8>>,
    #[prost(bytes, optional, tag = "3")]
    extra: Option<Vec<u8>>,
    #[prost(message, optional, tag = "14")]
    message: Option<Inner>,
    #[prost(int32, required, tag = "15")]
    kind: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Inner {
    #[prost(int32, required, tag = "1")]
    kind: i32,
    #[prost(int32, optional, tag = "2")]
    socket_family: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    socket_protocol: Option<i32>,
    #[prost(bytes, optional, tag = "4")]
    query_address: Option<Vec<u8>>,
    #[prost(bytes, optional, tag = "5")]
    response_address: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "6")]
    query_port: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    response_port: Option<u32>,
    #[prost(uint64, optional, tag = "8")]
    query_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "9")]
    query_time_nsec: Option<u32>,
    #[prost(bytes, optional, tag = "10")]
    query_message: Option<Vec<u8>>,
    #[prost(bytes, optional, tag = "11")]
    query_zone: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "12")]
    response_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "13")]
    response_time_nsec: Option<u32>,
    #[prost(bytes, optional, tag = "14")]
    response_message: Option<Vec<u8>>,
}

/// Returns the messages of data frames.
fn decoded(mut frames: &[u8]) -> Vec<Outer> {
    let mut all = Vec::new();
    while let Some((len, rest)) = frames.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*len) as usize);
        all.push(Outer::decode(frame).unwrap());
        frames = rest;
    }
    assert!(frames.is_empty());
    all
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn expected(message: &Tapped<'_>, identity: &str, version: &str) -> Outer {
    let text = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
    let [client, server] = [message.client.ip(), message.server.ip()].map(|ip| ip.to_canonical());
    let is_query = matches!(message.kind, Kind::ClientQuery | Kind::ForwarderQuery);
    let response = |value: u64| (!is_query).then_some(value);
    Outer {
        identity: text(identity),
        version: text(version),
        extra: None,
        kind: 1,
        message: Some(Inner {
            kind: match message.kind {
                Kind::ClientQuery => 5,
                Kind::ClientResponse => 6,
                Kind::ForwarderQuery => 7,
                Kind::ForwarderResponse => 8,
            },
            socket_family: Some(if client.is_ipv4() { 1 } else { 2 }),
            socket_protocol: Some(match message.transport {
                Transport::Udp => 1,
                Transport::Tcp => 2,
                Transport::Tls => 3,
                Transport::Https => 4,
            }),
            query_address: Some(octets(client)),
            response_address: Some(octets(server)),
            query_port: Some(message.client.port().into()),
            response_port: Some(message.server.port().into()),
            query_time_sec: Some(message.query_time / 1_000_000_000),
            query_time_nsec: Some((message.query_time % 1_000_000_000) as u32),
            query_message: is_query.then(|| message.wire.to_vec()),
            query_zone: None,
            response_time_sec: response(message.response_time / 1_000_000_000),
            response_time_nsec: response(message.response_time % 1_000_000_000).map(|nanos| nanos as u32),
            response_message: (!is_query).then(|| message.wire.to_vec()),
        }),
    }
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).to_ipv6_mapped().into()),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![
        Kind::ClientQuery,
        Kind::ClientResponse,
        Kind::ForwarderQuery,
        Kind::ForwarderResponse,
    ])
}

fn transport() -> impl Strategy<Value = Transport> {
    prop::sample::select(vec![Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Https])
}

proptest! {
    /// Any message of any length is read as it was written, whatever stands before it.
    #[test]
    fn another_implementation_reads_what_is_written(
        all in prop::collection::vec(
            (kind(), transport(), (address(), any::<u16>()), (address(), any::<u16>()), any::<[u64; 2]>(),
             prop_oneof![prop::collection::vec(any::<u8>(), 0..300), prop::collection::vec(any::<u8>(), 65_500..65_536)]),
            1..4,
        ),
        identity in "[a-z]{0,20}",
    ) {
        let encoder = Encoder::new(&identity, "ringdns 1");
        let (mut frames, mut written) = (Vec::new(), Vec::new());
        for (kind, transport, client, server, [query_time, response_time], wire) in &all {
            let message = Tapped {
                kind: *kind,
                transport: *transport,
                client: (*client).into(),
                server: (*server).into(),
                query_time: *query_time,
                response_time: *response_time,
                wire,
            };
            encoder.append(&message, &mut frames);
            written.push(expected(&message, &identity, "ringdns 1"));
        }
        prop_assert_eq!(decoded(&frames), written);
        prop_assert_eq!(crate::frames::whole(&frames), (all.len() as u64, frames.len()));
    }
}

/// The bytes, put together by hand from `dnstap.proto` and the description of the encoding.
#[test]
fn a_message_has_these_bytes() {
    let mut frames = Vec::new();
    let message = Tapped {
        kind: Kind::ClientResponse,
        transport: Transport::Udp,
        client: "192.0.2.1:53000".parse().unwrap(),
        server: "192.0.2.2:53".parse().unwrap(),
        query_time: 1_700_000_000_000_000_001,
        response_time: 1_700_000_000_000_000_002,
        wire: b"wire",
    };
    Encoder::new("a", "b").append(&message, &mut frames);
    let seconds = [0x80, 0xe2, 0xcf, 0xaa, 0x06];
    let inner = [
        &[0x08, 6, 0x10, 1, 0x18, 1][..],
        &[0x22, 4, 192, 0, 2, 1, 0x2a, 4, 192, 0, 2, 2],
        &[0x30, 0x88, 0x9e, 0x03, 0x38, 53],
        &[0x40],
        &seconds,
        &[0x4d, 1, 0, 0, 0],
        &[0x60],
        &seconds,
        &[0x6d, 2, 0, 0, 0],
        &[0x72, 4, b'w', b'i', b'r', b'e'],
    ]
    .concat();
    // The length of the inner message has three bytes, as the encoder leaves them.
    let outer =
        [&[0x0a, 1, b'a', 0x12, 1, b'b', 0x78, 1, 0x72, inner.len() as u8 | 0x80, 0x80, 0][..], &inner];
    let outer = outer.concat();
    assert_eq!(frames, [&(outer.len() as u32).to_be_bytes()[..], &outer].concat());
}
