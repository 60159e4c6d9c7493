//! Sends queries to one server, and collects the replies.

use super::probe::Probe;
use crate::{question::HEADER, upstream::Over};
use anyhow::{Context, Result};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

/// Most queries in flight at once: few, so that no server has a reason to drop one.
const WINDOW: usize = 64;
/// Time within which a reply must come. Resolvers retry a failing upstream several times before
/// they answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Time within which a server must finish its reply over TCP.
const STREAM_PATIENCE: Duration = Duration::from_secs(3);

/// Query in flight: its index, and when it was sent.
type Flight = (usize, Instant);

/// Asks all probes, over UDP and then over TCP, and returns their replies.
pub fn all(server: SocketAddr, probes: &[Probe]) -> Result<Vec<Option<Vec<u8>>>> {
    let mut replies = vec![None; probes.len()];
    let of = |over| (0..probes.len()).filter(move |nth| probes[*nth].over == over);
    datagrams(server, probes, of(Over::Udp), &mut replies)?;
    // Asks again what was not answered: a lost packet looks like a query that is never answered.
    let silent: Vec<usize> = of(Over::Udp).filter(|nth| replies[*nth].is_none()).collect();
    datagrams(server, probes, silent.into_iter(), &mut replies)?;
    for nth in of(Over::Tcp) {
        replies[nth] = stream(server, &probes[nth].message).ok();
    }
    Ok(replies)
}

fn datagrams(
    server: SocketAddr,
    probes: &[Probe],
    mut queue: impl Iterator<Item = usize>,
    replies: &mut [Option<Vec<u8>>],
) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("cannot open a socket")?;
    socket.connect(server).with_context(|| format!("cannot send to {server}"))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    // A reply finds its query by ID, which is the index in the list.
    let mut flying: Vec<Flight> = Vec::new();
    let mut buffer = vec![0; 65_535];
    loop {
        while flying.len() < WINDOW
            && let Some(nth) = queue.next()
        {
            let message = with_id(&probes[nth].message, nth as u16);
            socket.send(&message).with_context(|| format!("cannot send to {server}"))?;
            // A message shorter than a header has no ID to match.
            if message.len() >= HEADER {
                flying.push((nth, Instant::now()));
            }
        }
        if flying.is_empty() {
            return Ok(());
        }
        if let Ok(length) = socket.recv(&mut buffer)
            && let Some(id) = buffer[..length].first_chunk::<2>().map(|id| u16::from_be_bytes(*id))
            && let Some(at) = flying.iter().position(|(nth, _)| *nth as u16 == id)
        {
            let (nth, _) = flying.swap_remove(at);
            replies[nth] = Some(buffer[..length].to_vec());
        }
        flying.retain(|(_, sent)| sent.elapsed() < PATIENCE);
    }
}

/// Asks on a connection of its own, so that one query cannot disturb another.
fn stream(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, STREAM_PATIENCE)?;
    stream.set_read_timeout(Some(STREAM_PATIENCE))?;
    stream.set_nodelay(true)?;
    let message = with_id(message, 4711);
    stream.write_all(&[&(message.len() as u16).to_be_bytes()[..], &message].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    let mut message = message.to_vec();
    if let Some(bytes) = message.first_chunk_mut::<2>() {
        *bytes = id.to_be_bytes();
    }
    message
}
