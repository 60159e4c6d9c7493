//! Many datagrams a system call: `recvmmsg` and `sendmmsg` over buffers that are reused.

use arrayvec::ArrayVec;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use rustix::{
    io::Errno,
    net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg},
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsFd, AsRawFd},
};

/// Most datagrams of one call.
pub const BATCH: usize = 64;

/// Longest datagram that is kept whole, in bytes: well above the size that DNS over UDP should have
/// (RFC 9715: 1400 bytes).
pub const DATAGRAM: usize = 4096;

type Buffer = [u8; DATAGRAM];

fn buffers() -> Box<[Buffer; BATCH]> {
    Box::new([[0; DATAGRAM]; BATCH])
}

/// Receives datagrams.
pub struct Receiver {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Box<[Buffer; BATCH]>,
    got: ArrayVec<(usize, Option<SockaddrStorage>), BATCH>,
}

impl Default for Receiver {
    fn default() -> Self {
        Receiver { headers: MultiHeaders::preallocate(BATCH, None), buffers: buffers(), got: ArrayVec::new() }
    }
}

impl Receiver {
    /// Receives datagrams that have arrived, without waiting, and returns their number.
    pub fn recv(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.got.clear();
        let mut slices = self.buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let socket = socket.as_fd().as_raw_fd();
        match recvmmsg(socket, &mut self.headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None) {
            Ok(results) => self.got.extend(results.map(|message| (message.bytes, message.address))),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.got.len())
    }

    /// Returns the datagrams of the last call and their senders.
    pub fn messages(&self) -> impl Iterator<Item = (&[u8], Option<SocketAddr>)> {
        let parts = self.got.iter().zip(self.buffers.iter());
        parts.map(|((len, from), buffer)| (&buffer[..*len], from.as_ref().and_then(address)))
    }
}

fn address(from: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = || from.as_sockaddr_in().map(|a| SocketAddrV4::from(*a).into());
    let v6 = || from.as_sockaddr_in6().map(|a| SocketAddrV6::from(*a).into());
    v4().or_else(v6)
}

/// Collects datagrams and sends them together.
pub struct Sender {
    buffers: Box<[Buffer; BATCH]>,
    queued: ArrayVec<(usize, Option<SocketAddrAny>), BATCH>,
}

impl Default for Sender {
    fn default() -> Self {
        Sender { buffers: buffers(), queued: ArrayVec::new() }
    }
}

impl Sender {
    /// Queues the datagram that `write` writes, and whose length it returns, for `to`, or for the
    /// peer that the socket is connected to. There must be room: see [`Sender::is_full`].
    pub fn push(&mut self, to: Option<SocketAddr>, write: impl FnOnce(&mut Buffer) -> usize) {
        let len = write(&mut self.buffers[self.queued.len()]);
        self.queued.push((len, to.map(SocketAddrAny::from)));
    }

    /// Whether there is no more room.
    pub fn is_full(&self) -> bool {
        self.queued.is_full()
    }

    /// Sends the queued datagrams, without waiting, and clears the queue. Returns the number sent:
    /// the first ones.
    pub fn flush(&mut self, socket: impl AsFd) -> io::Result<usize> {
        if self.queued.is_empty() {
            return Ok(0);
        }
        let sent = self.send(socket);
        self.queued.clear();
        match sent {
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(0),
            sent => Ok(sent?),
        }
    }

    fn send(&self, socket: impl AsFd) -> Result<usize, Errno> {
        let parts = self.queued.iter().zip(self.buffers.iter());
        let slices: ArrayVec<[IoSlice<'_>; 1], BATCH> =
            parts.map(|((len, _), buffer)| [IoSlice::new(&buffer[..*len])]).collect();
        let mut controls: [SendAncillaryBuffer<'_, '_, '_>; BATCH] =
            std::array::from_fn(|_| Default::default());
        let parts = self.queued.iter().zip(&slices).zip(&mut controls);
        let mut headers: ArrayVec<MMsgHdr<'_>, BATCH> = parts
            .map(|(((_, to), slice), control)| match to {
                Some(to) => MMsgHdr::new_with_addr(to, slice, control),
                None => MMsgHdr::new(slice, control),
            })
            .collect();
        sendmmsg(socket, &mut headers, SendFlags::DONTWAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn datagrams_arrive_whole_and_in_order() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();

        let mut sender = Sender::default();
        for length in 1..=BATCH {
            sender.push(None, |buffer| {
                buffer[..length].fill(length as u8);
                length
            });
        }
        assert!(sender.is_full());
        assert_eq!(sender.flush(&client).unwrap(), BATCH);

        let mut receiver = Receiver::default();
        assert_eq!(receiver.recv(&server).unwrap(), BATCH);
        for (i, (message, from)) in receiver.messages().enumerate() {
            assert_eq!(message, vec![i as u8 + 1; i + 1]);
            assert_eq!(from, Some(client.local_addr().unwrap()));
            sender.push(from, |buffer| {
                buffer[..message.len()].copy_from_slice(message);
                message.len()
            });
        }
        assert_eq!(sender.flush(&server).unwrap(), BATCH);
        assert_eq!(receiver.recv(&client).unwrap(), BATCH);
        assert_eq!(receiver.recv(&client).unwrap(), 0, "nothing left, and no wait");
    }
}
