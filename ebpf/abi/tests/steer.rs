//! Tests of the parsing code on the host: the kernel runs the same code, here on slices.

mod fixtures;

use std::collections::HashSet;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use ringdns_abi::{Datagram, ListenKey, Verdict, classify};

/// Returns the steering program's verdict with these listeners and a socket on every queue.
fn steer(frame: &[u8], listen: &HashSet<ListenKey>) -> Verdict {
    match classify(frame) {
        Err(verdict) => verdict,
        Ok(Datagram { destination, .. })
            if listen.contains(&destination) || listen.contains(&destination.any_address()) =>
        {
            Verdict::Redirected
        }
        Ok(_) => Verdict::OtherDestination,
    }
}

#[test]
fn every_fixture_gets_its_verdict() {
    let listen = fixtures::listen().into_iter().map(ListenKey::from).collect();
    for fixture in fixtures::all() {
        assert_eq!(steer(&fixture.frame, &listen), fixture.verdict, "{}", fixture.name);
    }
}

#[test]
fn there_is_a_fixture_for_every_verdict_of_a_packet() {
    let seen: HashSet<Verdict> = fixtures::all().iter().map(|fixture| fixture.verdict).collect();
    // These verdicts depend on the queue, on the host's link addresses, and on the length of a frame
    // in all its buffers.
    let missing: Vec<_> = Verdict::ALL.into_iter().filter(|verdict| !seen.contains(verdict)).collect();
    assert_eq!(missing, [Verdict::OtherLinkAddress, Verdict::NoSocket, Verdict::Oversize]);
}

/// Every accepted datagram is one that another parser finds too, complete and at the same place:
/// checked for every fixture, with every byte of its headers changed to every value.
#[test]
fn etherparse_agrees_on_whatever_is_steered() {
    let mut agreed = 0;
    for fixture in fixtures::all() {
        for position in 0..fixture.frame.len().min(62) {
            let mut frame = fixture.frame.clone();
            for value in 0..=u8::MAX {
                frame[position] = value;
                if let Ok(datagram) = classify(&frame[..]) {
                    assert_eq!(
                        by_etherparse(&frame),
                        Some(datagram),
                        "{} with byte {position} = {value}",
                        fixture.name
                    );
                    agreed += 1;
                }
            }
        }
    }
    assert!(agreed > 100_000, "only {agreed} frames were datagrams at all");
}

/// A frame truncated anywhere before the end of UDP is never accepted as complete.
#[test]
fn no_part_of_a_query_is_steered() {
    for fixture in fixtures::all() {
        let Ok(datagram) = classify(&fixture.frame[..]) else { continue };
        for length in 0..datagram.offset + datagram.length {
            assert_eq!(
                classify(&fixture.frame[..length]),
                Err(Verdict::BadLength),
                "{} at {length}",
                fixture.name
            );
        }
    }
}

fn by_etherparse(frame: &[u8]) -> Option<Datagram> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(TransportSlice::Udp(udp)) = packet.transport else { return None };
    let port = udp.destination_port().to_be_bytes();
    let destination = match packet.net? {
        NetSlice::Ipv4(ip) if ip.header().options().is_empty() => {
            ListenKey::v4(ip.header().destination(), port)
        }
        NetSlice::Ipv6(ip) if ip.extensions().is_empty() => ListenKey::v6(ip.header().destination(), port),
        _ => return None,
    };
    let offset = udp.slice().as_ptr().addr() - frame.as_ptr().addr();
    Some(Datagram { destination, offset, length: usize::from(udp.length()) })
}
