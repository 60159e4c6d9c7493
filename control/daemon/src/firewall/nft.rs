//! Elements of sets of nftables, by netlink (Linux `include/uapi/linux/netfilter/nf_tables.h` and
//! `nfnetlink.h`, from which the numbers below are).
//!
//! A transaction adds an element, deletes it and adds it again. So its time-out is a new one whether
//! the set had the element or not, on all kernels, and no packet sees the set without it.

use ringdns_config::NftFamily;
use ringdns_xdp::netlink::{HEADER, NLM_F_REQUEST, NLMSG_ERROR, attribute, errno, messages};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, netlink::SocketAddrNetlink,
        socket_with,
    },
};
use std::{io, net::IpAddr, os::fd::OwnedFd};

const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLA_F_NESTED: u16 = 0x8000;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// Number of the subsystem of nftables.
const NFTABLES: u16 = 10;
const NEWSETELEM: u16 = NFTABLES << 8 | 12;
const DELSETELEM: u16 = NFTABLES << 8 | 14;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_TIMEOUT: u16 = 4;
const DATA_VALUE: u16 = 1;
/// Size of the buffer for the kernel's answers: one for each message, with a copy of it.
const ANSWERS: usize = 64 << 10;

/// Set of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NftSet {
    /// Family of the table, as the kernel numbers it.
    pub family: u8,
    /// Name of the table.
    pub table: String,
    /// Name of the set.
    pub set: String,
}

/// Returns the kernel's number of a family.
pub fn number_of(family: NftFamily) -> u8 {
    match family {
        NftFamily::Inet => 1,
        NftFamily::Ip => 2,
        NftFamily::Netdev => 5,
        NftFamily::Bridge => 7,
        NftFamily::Ip6 => 10,
    }
}

/// Client for nftables of the network namespace in which it was opened.
pub struct Nft {
    socket: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Nft {
    /// Opens the client.
    pub fn open() -> io::Result<Self> {
        let protocol = Some(netlink::NETFILTER);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Nft { socket, sequence: 0, buffer: vec![0; ANSWERS].into() })
    }

    /// Puts an address into a set for so many seconds from now on, whether it has it or not.
    pub fn put(&mut self, set: &NftSet, address: IpAddr, seconds: u32) -> io::Result<()> {
        let forever = elements(set, address, None);
        let timed = elements(set, address, Some(seconds));
        self.transact(&[
            (NEWSETELEM, NLM_F_CREATE, &forever),
            (DELSETELEM, 0, &forever),
            (NEWSETELEM, NLM_F_CREATE, &timed),
        ])
    }

    /// Sends messages as one transaction.
    fn transact(&mut self, requests: &[(u16, u16, &[u8])]) -> io::Result<()> {
        let mut bytes = Vec::new();
        let first = self.sequence.wrapping_add(1);
        self.send(&mut bytes, (BATCH_BEGIN, 0), &body(0, NFTABLES));
        for (nth, (kind, flags, body)) in requests.iter().enumerate() {
            // The kernel acknowledges the last one after it has carried out all.
            let ack = if nth + 1 == requests.len() { NLM_F_ACK } else { 0 };
            self.send(&mut bytes, (*kind, flags | ack), body);
        }
        let last = self.sequence;
        self.send(&mut bytes, (BATCH_END, 0), &body(0, NFTABLES));
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        self.receive(first, last)
    }

    /// Appends a message.
    fn send(&mut self, bytes: &mut Vec<u8>, (kind, flags): (u16, u16), body: &[u8]) {
        self.sequence = self.sequence.wrapping_add(1);
        let len = (HEADER + body.len()) as u32;
        bytes.extend(len.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
    }

    /// Receives the answers to the messages with these numbers. The kernel has sent them within the
    /// system call.
    fn receive(&mut self, first: u32, last: u32) -> io::Result<()> {
        let (mut failed, mut is_done) = (None, false);
        loop {
            let len = match rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((len, _)) => len.min(ANSWERS),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in messages(&self.buffer[..len]).filter(|message| message.kind == NLMSG_ERROR) {
                let is_ours = message.sequence.wrapping_sub(first) <= last.wrapping_sub(first);
                match errno(message.body) {
                    Some(error) if is_ours => failed = failed.or(Some(error)),
                    _ => is_done |= message.sequence == last,
                }
            }
        }
        match failed {
            Some(error) => Err(error.into()),
            None if is_done => Ok(()),
            None => Err(io::Error::other("the kernel has not answered")),
        }
    }
}

/// Returns the header that follows that of netlink.
fn body(family: u8, resource: u16) -> Vec<u8> {
    let [high, low] = resource.to_be_bytes();
    vec![family, 0, high, low]
}

/// Returns the body of a message about an element.
fn elements(set: &NftSet, address: IpAddr, seconds: Option<u32>) -> Vec<u8> {
    let mut value = Vec::new();
    match address {
        IpAddr::V4(address) => attribute(&mut value, DATA_VALUE, &address.octets()),
        IpAddr::V6(address) => attribute(&mut value, DATA_VALUE, &address.octets()),
    }
    let mut element = Vec::new();
    attribute(&mut element, ELEMENT_KEY | NLA_F_NESTED, &value);
    if let Some(seconds) = seconds {
        attribute(&mut element, ELEMENT_TIMEOUT, &(u64::from(seconds) * 1_000).to_be_bytes());
    }
    let mut list = Vec::new();
    attribute(&mut list, LIST_ELEMENT | NLA_F_NESTED, &element);
    let mut body = body(set.family, 0);
    attribute(&mut body, LIST_TABLE, &terminated(&set.table));
    attribute(&mut body, LIST_SET, &terminated(&set.set));
    attribute(&mut body, LIST_ELEMENTS | NLA_F_NESTED, &list);
    body
}

/// Returns a string as netlink has it.
fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

#[cfg(test)]
pub mod testing;
