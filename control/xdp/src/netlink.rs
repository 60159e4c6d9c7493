//! Minimal rtnetlink client: dumps of the kernel's tables, and the parts of its messages.
//!
//! Unknown attributes are passed over. Numbers are from Linux `include/uapi/linux/netlink.h` and
//! `rtnetlink.h`.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use ringdns_dataplane::port::nic;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink,
        socket_with, sockopt,
    },
};

pub const NLMSG_ERROR: u16 = 2;
pub const NLM_F_REQUEST: u16 = 1;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP: u16 = 0x300;
/// Flag of an answer that is incomplete, since the table was changed meanwhile.
const NLM_F_DUMP_INTR: u16 = 0x10;

/// Length in bytes of `struct nlmsghdr`.
pub const HEADER: usize = 16;

/// Size in bytes of the largest datagram from the kernel: an interface with many virtual functions
/// and names.
pub const DATAGRAM_MAX: usize = 64 << 10;

/// Time limit of a request. The kernel answers within the system call, but may have to wait for a
/// driver.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Highest error number of the kernel.
const ERRNO_MAX: i32 = 4095;

/// Attempts to read a table that changes while it is read.
const ATTEMPTS_MAX: usize = 5;

/// Client for the tables of the network namespace in which it was opened.
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Netlink {
    /// Opens the client.
    pub fn open() -> io::Result<Self> {
        let socket = open(SocketFlags::empty(), 0)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
        // Without it, the kernel dumps all tables of routes, and `host` looks for its own in them.
        let _ = nic::dump_strictly(socket.as_fd());
        Ok(Netlink { socket, sequence: 0, buffer: vec![0; DATAGRAM_MAX].into() })
    }

    /// Dumps a table: returns what `parse` makes of the body of each message of type `answer`.
    pub fn dump<T>(
        &mut self,
        question: u16,
        answer: u16,
        body: &[u8],
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..ATTEMPTS_MAX {
            self.sequence = self.sequence.wrapping_add(1);
            let request = request(question, NLM_F_REQUEST | NLM_F_DUMP, self.sequence, body);
            rustix::net::send(&self.socket, &request, SendFlags::empty())?;
            if let Some(found) = self.receive(answer, &parse)? {
                return Ok(found);
            }
        }
        Err(io::Error::other("the table changes faster than it can be read"))
    }

    /// Receives a dump. `None`: the table was changed meanwhile.
    fn receive<T>(&mut self, answer: u16, parse: impl Fn(&[u8]) -> Option<T>) -> io::Result<Option<Vec<T>>> {
        let mut found = Vec::new();
        let mut whole = true;
        loop {
            let (len, _) = rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
            let datagram = &self.buffer[..len.min(DATAGRAM_MAX)];
            // The answer to an earlier request that timed out may come late.
            for message in messages(datagram).filter(|message| message.sequence == self.sequence) {
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        return match errno(message.body) {
                            Some(errno) => Err(errno.into()),
                            None => Ok(whole.then_some(found)),
                        };
                    }
                    kind if kind == answer => found.extend(parse(message.body)),
                    _ => {}
                }
            }
        }
    }
}

/// Opens a socket that also receives the events of multicast `groups`.
pub fn open(flags: SocketFlags, groups: u32) -> io::Result<OwnedFd> {
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags | SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// Message of the kernel, or of a test.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub body: &'a [u8],
}

/// Returns the bytes of a message.
pub fn request(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(body);
    message
}

/// Returns the messages in a datagram, up to the first that is truncated.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = number(datagram)? as usize;
        let (header, body) = datagram.get(..len)?.split_at_checked(HEADER)?;
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: number(&header[8..])?,
            body,
        })
    })
}

/// Returns the error in the body of an [`NLMSG_ERROR`], or of the end of a dump.
pub fn errno(body: &[u8]) -> Option<Errno> {
    let errno = (number(body)? as i32).wrapping_neg();
    (errno != 0).then(|| Errno::from_raw_os_error(errno.clamp(1, ERRNO_MAX)))
}

/// Appends an attribute to the body of a message.
pub fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((value.len() as u16 + 4).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Returns the attributes in `bytes`, up to the first that is truncated.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// Mask of the attribute's type. The two upper bits are flags about the encoding of the value.
    const KIND: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *bytes.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & KIND, value))
    })
}

/// Returns the first number in `bytes`.
pub fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_short_ends_it() {
        // Lengths that would not advance, or lead beyond the end.
        assert_eq!(attributes(&[0, 0, 1, 0, 8, 0, 1, 0]).count(), 0);
        assert_eq!(messages(&[0; 64]).count() + messages(&[255; 64]).count(), 0);
        let mut two = request(7, 0, 1, b"odd");
        two.resize(two.len().next_multiple_of(4), 0);
        two.extend(request(8, 0, 2, b""));
        let found: Vec<_> = messages(&two).map(|message| (message.kind, message.body.len())).collect();
        assert_eq!(found, [(7, 3), (8, 0)]);
        assert_eq!(messages(&two[..two.len() - 1]).count(), 1);
    }

    #[test]
    fn the_end_of_a_dump_is_no_error() {
        assert_eq!(errno(&0u32.to_ne_bytes()), None);
        assert_eq!(errno(&[]), None);
        assert!(errno(&u32::MAX.to_ne_bytes()).is_some() && errno(&7u32.to_ne_bytes()).is_some());
        assert_eq!(errno(&(-Errno::NODEV.raw_os_error()).to_ne_bytes()), Some(Errno::NODEV));
    }
}
