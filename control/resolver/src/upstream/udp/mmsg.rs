//! Sends and receives many datagrams per system call over a connected socket.

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, send, sendmmsg};
use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd},
};

/// Most datagrams taken at once.
const BATCH: usize = 32;
/// Longest datagram that is kept whole, in bytes. Queries ask for less, but some upstreams ignore
/// that.
const DATAGRAM_MAX: usize = 4096;

/// Receives datagrams into memory that is reused.
pub struct Receiver {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Box<[[u8; DATAGRAM_MAX]]>,
    lengths: Vec<usize>,
}

impl Receiver {
    /// Returns a receiver without datagrams.
    pub fn new() -> Self {
        Receiver {
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: vec![[0; DATAGRAM_MAX]; BATCH].into(),
            lengths: Vec::with_capacity(BATCH),
        }
    }

    /// Receives the datagrams that have arrived, at most `most`. [`io::ErrorKind::WouldBlock`] says
    /// that no more are left; some may have been received all the same.
    pub fn receive(&mut self, socket: impl AsFd, most: usize) -> io::Result<()> {
        self.lengths.clear();
        let most = most.clamp(1, BATCH);
        let mut slices = self.buffers[..most].iter_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        // A Vec rather than an array on the stack: preparing all buffers costs more than receiving
        // one datagram.
        let mut slices: Vec<_> = slices.by_ref().collect();
        let socket = socket.as_fd().as_raw_fd();
        let received = recvmmsg(socket, &mut self.headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
        self.lengths.extend(received.map(|datagram| datagram.bytes));
        if self.lengths.len() < most { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    /// Returns the datagrams of the last call.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.lengths.iter().zip(&self.buffers).map(|(len, buffer)| &buffer[..*len])
    }
}

/// Datagrams to be sent, one after the other in one buffer.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Outbox {
    /// Adds the datagram that `write` appends.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Whether no datagram is queued.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Sends all datagrams, and clears the outbox whether that succeeds or not.
    pub fn send(&mut self, socket: impl AsFd) -> io::Result<()> {
        let sent = self.send_all(socket.as_fd());
        self.bytes.clear();
        self.ends.clear();
        sent
    }

    fn send_all(&self, socket: impl AsFd + Copy) -> io::Result<()> {
        if let [_] = *self.ends {
            send(socket, &self.bytes, SendFlags::empty())?;
            return Ok(());
        }
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let slices: Vec<_> =
            starts.zip(&self.ends).map(|(start, end)| [IoSlice::new(&self.bytes[start..*end])]).collect();
        let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> =
            slices.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let mut headers: Vec<_> =
            slices.iter().zip(&mut controls).map(|(slice, control)| MMsgHdr::new(slice, control)).collect();
        let mut rest = &mut headers[..];
        while !rest.is_empty() {
            let sent = sendmmsg(socket, rest, SendFlags::empty())?;
            rest = &mut rest[sent.max(1)..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn datagrams_arrive_whole_and_in_order() {
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        here.connect(there.local_addr().unwrap()).unwrap();
        for count in [1, 2, BATCH] {
            let mut outbox = Outbox::default();
            for length in 1..=count {
                outbox.push(|bytes| bytes.extend(std::iter::repeat_n(length as u8, length)));
            }
            outbox.send(&here).unwrap();
            assert!(outbox.is_empty());

            let mut receiver = Receiver::new();
            receiver.receive(&there, count).unwrap();
            let whole = |(i, datagram): (usize, &[u8])| datagram == vec![i as u8 + 1; i + 1];
            assert!(receiver.datagrams().enumerate().all(whole) && receiver.datagrams().count() == count);
            let nothing = receiver.receive(&there, 2).unwrap_err();
            assert_eq!((nothing.kind(), receiver.datagrams().count()), (io::ErrorKind::WouldBlock, 0));
            here.send(b"one").unwrap();
            assert_eq!(receiver.receive(&there, 2).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert!(receiver.datagrams().eq([b"one"]), "taken although there are no two");
        }
    }
}
