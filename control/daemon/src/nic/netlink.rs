//! Minimal rtnetlink client: reads the state of network interfaces, and waits for changes.
//!
//! An event only says that it is time to look; the state comes from the answer to a request. So an
//! event that was lost because the socket's buffer was full does no harm, nor do unknown
//! attributes.

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink,
        socket_with, sockopt,
    },
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

/// Multicast group for changes of links (Linux `include/uapi/linux/rtnetlink.h`, like the numbers
/// below).
const RTMGRP_LINK: u32 = 1;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_CARRIER: u16 = 33;
const IFLA_XDP: u16 = 43;
/// Attributes with ids of XDP programs: that of the only one, and those of each mode if there are
/// several.
const IFLA_XDP_PROG_IDS: std::ops::RangeInclusive<u16> = 4..=7;
/// Flag that leaves statistics out of the answer.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFF_UP: u32 = 1;

/// Lengths in bytes of `struct nlmsghdr` and, in messages about links, `struct ifinfomsg`.
const HEADER: usize = 16;
const LINK_HEADER: usize = 16;

/// Time limit of a request. The kernel answers within the system call, but may have to wait for a
/// driver.
const PATIENCE: Duration = Duration::from_secs(5);

/// Size in bytes of the largest message: an interface with many virtual functions and names.
const MESSAGE_MAX: usize = 64 << 10;

/// State of a network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Index. An interface that is created again usually gets another.
    pub index: u32,
    /// Whether it is switched on (`ip link set … up`).
    pub enabled: bool,
    /// Whether there is a carrier: somebody at the other end of the cable.
    pub carrier: bool,
    /// Ids of the attached XDP programs.
    pub programs: Vec<u32>,
}

impl Interface {
    /// Whether packets pass.
    pub fn is_up(&self) -> bool {
        self.enabled && self.carrier
    }
}

/// Key to look up an interface.
#[derive(Clone, Copy, Debug)]
pub enum InterfaceKey<'a> {
    /// Name of the interface.
    Name(&'a str),
    /// Index of the interface, whatever its name is by now.
    Index(u32),
}

/// Client for the interfaces of the network namespace in which it was opened.
pub struct Interfaces {
    questions: OwnedFd,
    events: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Interfaces {
    /// Opens the netlink sockets.
    pub fn open() -> io::Result<Self> {
        let questions = netlink(SocketFlags::empty(), 0)?;
        sockopt::set_socket_timeout(&questions, sockopt::Timeout::Recv, Some(PATIENCE))?;
        let events = netlink(SocketFlags::NONBLOCK, RTMGRP_LINK)?;
        Ok(Interfaces { questions, events, sequence: 0, buffer: vec![0; MESSAGE_MAX].into() })
    }

    /// Returns the descriptor that is readable when an interface may have changed.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Discards the events so far. Returns whether there were any.
    pub fn forget_events(&mut self) -> bool {
        let mut any = false;
        // EAGAIN ends the loop. ENOBUFS, which says that events were lost, is cleared by reading
        // it.
        while !matches!(self.receive_event(), Err(error) if error != Errno::NOBUFS) {
            any = true;
        }
        any
    }

    fn receive_event(&mut self) -> Result<(), Errno> {
        rustix::net::recv(&self.events, &mut self.buffer[..], RecvFlags::empty()).map(drop)
    }

    /// Looks up an interface. `None`: there is none.
    pub fn find(&mut self, key: InterfaceKey<'_>) -> io::Result<Option<Interface>> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = question(key, self.sequence);
        rustix::net::send(&self.questions, &question, SendFlags::empty())?;
        loop {
            let (len, _) = rustix::net::recv(&self.questions, &mut self.buffer[..], RecvFlags::empty())?;
            // The answer to an earlier request that timed out may come late.
            if let Some(answer) = answer(&self.buffer[..len.min(MESSAGE_MAX)], self.sequence) {
                return answer;
            }
        }
    }
}

fn netlink(flags: SocketFlags, groups: u32) -> io::Result<OwnedFd> {
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags | SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

fn question(key: InterfaceKey<'_>, sequence: u32) -> Vec<u8> {
    let index = match key {
        InterfaceKey::Name(_) => 0,
        InterfaceKey::Index(index) => index,
    };
    let mut message = vec![0; HEADER + LINK_HEADER];
    message[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message[8..12].copy_from_slice(&sequence.to_ne_bytes());
    message[HEADER + 4..][..4].copy_from_slice(&index.to_ne_bytes());
    attribute(&mut message, IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    if let InterfaceKey::Name(name) = key {
        attribute(&mut message, IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
    }
    let len = message.len() as u32;
    message[..4].copy_from_slice(&len.to_ne_bytes());
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend((value.len() as u16 + 4).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Parses a datagram as the answer to request number `sequence`. `None`: it is not the answer.
fn answer(mut datagram: &[u8], sequence: u32) -> Option<io::Result<Option<Interface>>> {
    while let Some(len) = number(datagram).map(|len| len as usize)
        && let Some(message) = datagram.get(..len)
        && let Some((header, body)) = message.split_at_checked(HEADER)
    {
        if number(&header[8..]) == Some(sequence) {
            let kind = u16::from_ne_bytes([header[4], header[5]]);
            match (kind, number(body)) {
                (RTM_NEWLINK, _) => return Some(Ok(interface(body))),
                (NLMSG_ERROR, Some(negative)) => {
                    let errno = Errno::from_raw_os_error((negative as i32).wrapping_neg());
                    return Some(if errno == Errno::NODEV { Ok(None) } else { Err(errno.into()) });
                }
                _ => {}
            }
        }
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

fn interface(body: &[u8]) -> Option<Interface> {
    let (header, rest) = body.split_at_checked(LINK_HEADER)?;
    let mut interface = Interface {
        index: number(&header[4..])?,
        enabled: number(&header[8..])? & IFF_UP != 0,
        ..Interface::default()
    };
    for (kind, value) in attributes(rest) {
        match kind {
            IFLA_CARRIER => interface.carrier = value.first() == Some(&1),
            IFLA_XDP => {
                let programs = attributes(value).filter(|(kind, _)| IFLA_XDP_PROG_IDS.contains(kind));
                interface.programs.extend(programs.filter_map(|(_, value)| number(value)));
            }
            _ => {}
        }
    }
    Some(interface)
}

/// Returns the attributes in `bytes`, up to the first that is truncated.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
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

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_found_by_name_and_by_number() {
        let mut interfaces = Interfaces::open().unwrap();
        let lo = interfaces.find(InterfaceKey::Name("lo")).unwrap().unwrap();
        assert_eq!(interfaces.find(InterfaceKey::Index(lo.index)).unwrap().as_ref(), Some(&lo));
        let flags = std::fs::read_to_string("/sys/class/net/lo/flags").unwrap();
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap();
        assert_eq!((lo.enabled, lo.programs.len()), (flags & IFF_UP != 0, 0));
        assert_eq!(interfaces.find(InterfaceKey::Name("no-such0")).unwrap(), None);
        assert_eq!(interfaces.find(InterfaceKey::Index(u32::MAX >> 1)).unwrap(), None);
        assert!(interfaces.find(InterfaceKey::Name("longer-than-the-kernel-takes")).is_err());
        // None of these answers were events.
        interfaces.forget_events();
    }

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut message = (HEADER as u32 + body.len() as u32).to_ne_bytes().to_vec();
        message.extend([kind.to_ne_bytes(), [0; 2]].concat());
        message.extend(sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        message
    }

    fn link(flags: u32) -> Vec<u8> {
        let mut body = vec![0; LINK_HEADER];
        body[4..8].copy_from_slice(&7u32.to_ne_bytes());
        body[8..12].copy_from_slice(&flags.to_ne_bytes());
        body
    }

    #[test]
    fn what_is_unknown_is_passed_over_and_what_is_cut_short_ends_it() {
        let mut xdp = Vec::new();
        attribute(&mut xdp, 2, &[1]);
        attribute(&mut xdp, 4, &42u32.to_ne_bytes());
        let mut body = link(IFF_UP);
        attribute(&mut body, 999, b"of a later kernel");
        attribute(&mut body, IFLA_CARRIER, &[1]);
        attribute(&mut body, IFLA_XDP | 0x8000, &xdp);
        body.extend([200, 0, 3, 0]);
        let found = answer(&message(RTM_NEWLINK, 5, &body), 5).unwrap().unwrap().unwrap();
        let expected = Interface { index: 7, enabled: true, carrier: true, programs: vec![42] };
        assert_eq!(found, expected);
        assert!(answer(&message(RTM_NEWLINK, 5, &[0; 3]), 5).unwrap().unwrap().is_none());
        // Lengths that would not advance, or lead beyond the end.
        assert_eq!(attributes(&[0, 0, 1, 0, 8, 0, 1, 0]).count(), 0);
        assert!(answer(&[0; 64], 5).is_none() && answer(&[255; 64], 5).is_none());
    }

    #[test]
    fn answers_to_other_questions_are_passed_over() {
        let late = message(RTM_NEWLINK, 4, &link(0));
        let no_such = message(NLMSG_ERROR, 5, &(-libc::ENODEV).to_ne_bytes());
        assert!(answer(&late, 5).is_none());
        assert!(answer(&[late, no_such].concat(), 5).unwrap().unwrap().is_none());
        let refused = message(NLMSG_ERROR, 5, &(-libc::EPERM).to_ne_bytes());
        assert_eq!(answer(&refused, 5).unwrap().unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
