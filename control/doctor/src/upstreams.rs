//! Questions to upstreams, before ringdnsd runs.

use crate::wanted::WantedUpstream;
use ringdns_config::UpstreamAddress;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    thread,
    time::Duration,
};

/// Time that an upstream has for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Number of queries over UDP, of which one may be lost.
const ATTEMPTS: usize = 2;

/// Query for the NS records of the root, with recursion desired; the first two bytes are the ID.
const QUERY: [u8; 17] = [0x5a, 0x3c, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

/// Asks all upstreams at once. Returns the reason of each that does not answer.
pub fn ask(upstreams: &[WantedUpstream]) -> Vec<(String, Result<(), String>)> {
    thread::scope(|scope| {
        let asked: Vec<_> =
            upstreams.iter().map(|upstream| (upstream, scope.spawn(|| ask_one(upstream)))).collect();
        let result = |(upstream, asked): (&WantedUpstream, thread::ScopedJoinHandle<'_, io::Result<()>>)| {
            let result = asked.join().unwrap_or_else(|_| Err(io::Error::other("the question has failed")));
            (upstream.label.clone(), result.map_err(|error| reason(&error)))
        };
        asked.into_iter().map(result).collect()
    })
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no answer within {} s", PATIENCE.as_secs())
        }
        _ => error.to_string(),
    }
}

/// Asks the addresses of an upstream, until one answers.
fn ask_one(upstream: &WantedUpstream) -> io::Result<()> {
    let mut last = Err(io::Error::other("it has no address"));
    for address in &upstream.addresses {
        last = socket_address(address).and_then(|address| match upstream.over_udp {
            true => over_udp(address),
            false => TcpStream::connect_timeout(&address, PATIENCE).map(drop),
        });
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Returns an address with the number of its zone.
pub fn socket_address(address: &UpstreamAddress) -> io::Result<SocketAddr> {
    match &address.zone {
        None => Ok(SocketAddr::new(address.ip, address.port)),
        Some(zone) => (format!("{}%{zone}", address.ip), address.port)
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| io::Error::other(format!("there is no interface {zone}"))),
    }
}

fn over_udp(address: SocketAddr) -> io::Result<()> {
    let socket = connected(address)?;
    socket.set_read_timeout(Some(PATIENCE / ATTEMPTS as u32))?;
    let mut last = Err(io::ErrorKind::TimedOut.into());
    for _ in 0..ATTEMPTS {
        socket.send(&QUERY)?;
        let mut response = [0; 512];
        last = socket.recv(&mut response);
        // Its ID, and the flag of a response.
        if let Ok(len) = last
            && len >= 12
            && response[..2] == QUERY[..2]
            && response[2] & 0x80 != 0
        {
            return Ok(());
        }
    }
    last.and(Err(io::Error::other("its answer is no response to the query")))
}

/// Returns a socket whose datagrams go to an address: the kernel looks for the route.
pub fn connected(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = match address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(address: SocketAddr, over_udp: bool) -> WantedUpstream {
        let addresses = vec![UpstreamAddress { ip: address.ip(), port: address.port(), zone: None }];
        WantedUpstream { label: format!("udp://{address}"), addresses, over_udp }
    }

    #[test]
    fn an_answer_is_one_with_the_id_of_the_query() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let answering = thread::spawn(move || {
            let mut query = [0; 512];
            let (len, client) = server.recv_from(&mut query).unwrap();
            query[2] |= 0x80;
            server.send_to(&query[..len], client).unwrap();
        });
        assert_eq!(ask(&[upstream(address, true)])[0].1, Ok(()));
        answering.join().unwrap();
        let refused = ask(&[upstream(address, true), upstream(address, false)]);
        assert!(refused.iter().all(|(_, result)| result.is_err()), "{refused:?}");
    }
}
