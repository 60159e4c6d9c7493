//! ICMP errors that quote the queries of the server.

use super::{
    attack::{Attack, AttackGroup, AttackRow, Unit},
    judge::Questioning,
    site::{ATTACKED_ZONE, Judgement, Site, ZoneSuffix, share},
};
use crate::compare::server::UPSTREAM;
use anyhow::{Context, Result, bail};
use etherparse::{Icmpv4Header, Icmpv4Type, IpNumber, Ipv4Header, UdpHeader, icmpv4::DestUnreachableHeader};
use rand::seq::SliceRandom;
use ringdns_testkit::Say;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with};
use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Time after which the true answer comes.
const TRUTH_AFTER: Duration = Duration::from_millis(200);
/// Ports that Linux gives to sockets without one of their own (`net.ipv4.ip_local_port_range`).
const PORTS: std::ops::Range<u16> = 32_768..61_000;
/// Queries during the attack.
const QUESTIONS: Questioning = Questioning { zone: ATTACKED_ZONE, names: 60, rate: 20.0 };

/// Returns one error that is aimed at each name's first query, and 28,000 errors a second at
/// guessed ports.
pub fn attacks() -> Vec<Attack> {
    vec![
        Attack::new(
            AttackGroup::Icmp,
            true,
            [AttackRow::new("one ICMP error, aimed at the query's port", Unit::Answered, 100.0)],
            aimed,
        ),
        Attack::new(
            AttackGroup::Icmp,
            false,
            [AttackRow::new("28,000 ICMP errors a second, sprayed over ports", Unit::Answered, 98.0)],
            sprayed,
        ),
    ]
}

fn aimed(site: &Site<'_>) -> Result<Vec<f64>> {
    let (zone, truth) = (ZoneSuffix::new(ATTACKED_ZONE)?, site.truth.clone());
    let icmp = Icmp::open(site)?;
    let hit: Mutex<HashSet<Vec<u8>>> = Mutex::default();
    let _upstream = site.upstream(move |seen| {
        zone.covers(seen).then(|| {
            let name = seen.query.question().to_ascii_lowercase();
            if hit.lock().unwrap_or_else(PoisonError::into_inner).insert(name)
                && let SocketAddr::V4(whom) = seen.from
            {
                icmp.send(whom);
            }
            vec![Say::SendAfter(TRUTH_AFTER, truth.answer(seen))]
        })
    });
    answered(site)
}

fn sprayed(site: &Site<'_>) -> Result<Vec<f64>> {
    let (zone, truth) = (ZoneSuffix::new(ATTACKED_ZONE)?, site.truth.clone());
    let _upstream = site.upstream(move |seen| {
        zone.covers(seen).then(|| vec![Say::SendAfter(TRUTH_AFTER, truth.answer(seen))])
    });
    let icmp = Icmp::open(site)?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let spray = scope.spawn(|| {
            let mut ports: Vec<u16> = PORTS.collect();
            while !done.load(Relaxed) {
                ports.shuffle(&mut rand::rng());
                let begin = Instant::now();
                // Each port once a second, in bursts of a millisecond.
                for (nth, burst) in ports.chunks(ports.len().div_ceil(1000)).enumerate() {
                    burst.iter().for_each(|port| icmp.send(SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port)));
                    let next = Duration::from_millis(nth as u64 + 1);
                    thread::sleep(next.saturating_sub(begin.elapsed()));
                    if done.load(Relaxed) {
                        break;
                    }
                }
            }
        });
        let figures = answered(site);
        done.store(true, Relaxed);
        super::join(spray);
        figures
    })
}

/// Starts the server, and returns the share of the judge's queries that it answers.
fn answered(site: &Site<'_>) -> Result<Vec<f64>> {
    let _silent = site.silent_upstream();
    let server = site.server()?;
    let outcomes = QUESTIONS.run(site)?;
    server.server.stop()?;
    Ok(vec![share(&outcomes, Judgement::Right)])
}

/// Raw socket for errors that come from the upstream's address.
struct Icmp {
    socket: UdpSocket,
}

impl Icmp {
    fn open(site: &Site<'_>) -> Result<Self> {
        let open = || -> Result<UdpSocket> {
            let socket =
                socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::ICMP))?;
            bind(&socket, &SocketAddr::new(UPSTREAM.ip(), 0))?;
            Ok(socket.into())
        };
        let socket = site.server_host().enter(open).context("a raw socket for ICMP needs root")?;
        Ok(Icmp { socket })
    }

    /// Sends "port unreachable" about a query that `whom` sent to the upstream.
    fn send(&self, whom: SocketAddrV4) {
        if let Ok(message) = port_unreachable(whom) {
            // A full buffer drops the error, as any network may.
            let _ = self.socket.send_to(&message, SocketAddr::new((*whom.ip()).into(), 0));
        }
    }
}

/// Returns an ICMP error that quotes the headers of a datagram from `whom` to the upstream.
fn port_unreachable(whom: SocketAddrV4) -> Result<Vec<u8>> {
    /// Length of the datagram's data. No receiver can verify it.
    const LENGTH: u16 = 60;
    let SocketAddr::V4(upstream) = UPSTREAM else { bail!("the upstream has an IPv4 address") };
    let udp = UdpHeader {
        source_port: whom.port(),
        destination_port: upstream.port(),
        length: UdpHeader::LEN_U16 + LENGTH,
        checksum: 0,
    };
    let mut ip = Ipv4Header::new(udp.length, 64, IpNumber::UDP, whom.ip().octets(), upstream.ip().octets())?;
    ip.header_checksum = ip.calc_header_checksum();
    let mut quoted = Vec::new();
    ip.write(&mut quoted)?;
    udp.write(&mut quoted)?;
    let kind = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);
    let mut message = Icmpv4Header::with_checksum(kind, &quoted).to_bytes().to_vec();
    message.extend(quoted);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::checksum::Sum16BitWords;

    #[test]
    fn an_error_quotes_the_query_that_it_is_about() {
        let whom = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 40_000);
        let message = port_unreachable(whom).unwrap();
        assert_eq!(&message[..2], [3, 3], "destination unreachable, port unreachable");
        // RFC 792: the checksum covers the whole message.
        assert_eq!(Sum16BitWords::new().add_slice(&message).ones_complement(), 0);
        let (ip, rest) = Ipv4Header::from_slice(&message[8..]).unwrap();
        let (udp, _) = UdpHeader::from_slice(rest).unwrap();
        assert_eq!((ip.source, ip.destination), ([127, 0, 0, 1], [127, 0, 0, 1]));
        assert_eq!((udp.source_port, udp.destination_port), (40_000, UPSTREAM.port()));
    }
}
