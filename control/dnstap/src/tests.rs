//! Messages of mirrored packets.

use super::*;
use ringdns_dataplane::{
    frame::WINDOW,
    log::{AnswerSource, Outcome, Protocol},
    packet::Envelope,
};

const CLIENT: &str = "192.0.2.7:4053";
const SERVER: &str = "198.51.100.53:53";

/// Returns an Ethernet frame with an IPv4 datagram.
fn frame(from: &str, to: &str, message: &[u8]) -> Vec<u8> {
    let [from, to]: [std::net::SocketAddrV4; 2] = [from, to].map(|address| address.parse().unwrap());
    let length = |before: usize| ((before + message.len()) as u16).to_be_bytes();
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend(length(28));
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(from.ip().octets().iter().chain(&to.ip().octets()));
    frame.extend(from.port().to_be_bytes().iter().chain(&to.port().to_be_bytes()));
    frame.extend(length(8));
    frame.extend([0, 0]);
    frame.extend(message);
    frame
}

fn mirrored(packet: &[u8], direction: Direction, fate: Fate) -> Mirrored<'_> {
    let (protocol, envelope) = (Protocol::Udp, Envelope::of_glance(&[0; WINDOW], false));
    Mirrored { received: 5, settled: 9, exchange: 1, fate, direction, protocol, envelope, packet }
}

#[test]
fn the_client_asks_and_the_server_responds() {
    let answered = Fate::Answered(Outcome::Hit, AnswerSource::default());
    let (query, reply) = (frame(CLIENT, SERVER, b"the query"), frame(SERVER, CLIENT, b"the reply"));
    for (packet, direction, kind, wire) in [
        (&query, Direction::Query, Kind::ClientQuery, b"the query"),
        (&reply, Direction::Reply, Kind::ClientResponse, b"the reply"),
    ] {
        let message = message_of(&mirrored(packet, direction, answered), 1000).unwrap();
        assert_eq!((message.client.to_string(), message.server.to_string()), (CLIENT.into(), SERVER.into()));
        assert_eq!((message.kind, message.wire), (kind, &wire[..]));
        assert_eq!((message.query_time, message.response_time), (1005, 1009));
    }
}

#[test]
fn what_is_no_query_has_no_message() {
    let packet = frame(CLIENT, SERVER, b"x");
    for reason in [DropReason::ShortMessage, DropReason::Response] {
        let dropped = mirrored(&packet, Direction::Query, Fate::Dropped(reason));
        assert!(message_of(&dropped, 0).is_none());
    }
    let cut = mirrored(&packet[..30], Direction::Query, Fate::Punted);
    assert!(message_of(&cut, 0).is_none());
}
