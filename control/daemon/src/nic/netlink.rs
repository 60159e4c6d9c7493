//! State of network interfaces, and events of interfaces and local routes, by rtnetlink.
//!
//! An event only says that it is time to look; the state comes from the answer to a request. So an
//! event that was lost because the socket's buffer was full does no harm.

use ringdns_xdp::netlink::{
    self, DATAGRAM_MAX, NLM_F_REQUEST, NLMSG_ERROR, PATIENCE, attribute, attributes, errno, messages, number,
};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, SocketFlags, sockopt},
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Multicast groups for changes of links and of routes (Linux `include/uapi/linux/rtnetlink.h`, like
/// the numbers below).
const GROUPS: u32 = 0x1 | 0x40 | 0x400;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
/// Number of the table of local routes, and its place in a message about a route.
const RT_TABLE_LOCAL: (usize, u8) = (4, 255);
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_CARRIER: u16 = 33;
const IFLA_XDP: u16 = 43;
const IFLA_ALT_IFNAME: u16 = 53;
/// Most bytes of an interface's name. Alternative names may be longer.
const NAME_MAX: usize = 15;
/// Attributes with ids of XDP programs: that of the only one, and those of each mode if there are
/// several.
const IFLA_XDP_PROG_IDS: std::ops::RangeInclusive<u16> = 4..=7;
/// Flag that leaves statistics out of the answer.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFF_UP: u32 = 1;

/// Length in bytes of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;

/// State of a network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Name, whichever of its names it was found by.
    pub name: String,
    /// Index. An interface that is created again usually gets another.
    pub index: u32,
    /// Whether it is switched on (`ip link set … up`).
    pub enabled: bool,
    /// Whether there is a carrier: somebody at the other end of the cable.
    pub carrier: bool,
    /// MTU in bytes.
    pub mtu: u32,
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
        let questions = netlink::open(SocketFlags::empty(), 0)?;
        sockopt::set_socket_timeout(&questions, sockopt::Timeout::Recv, Some(PATIENCE))?;
        let events = netlink::open(SocketFlags::NONBLOCK, GROUPS)?;
        Ok(Interfaces { questions, events, sequence: 0, buffer: vec![0; DATAGRAM_MAX].into() })
    }

    /// Returns the descriptor that is readable when an interface or a route may have changed.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Discards the events so far. Returns whether any was about an interface or a local route, or
    /// was lost. A router has many more events, of other routes.
    pub fn forget_events(&mut self) -> bool {
        let mut any = false;
        loop {
            match rustix::net::recv(&self.events, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((len, _)) => {
                    let mut events = messages(&self.buffer[..len.min(DATAGRAM_MAX)]);
                    any |= events.any(|event| is_about_this_host(event.kind, event.body));
                }
                // Events were lost. Reading the error clears it.
                Err(Errno::NOBUFS) => any = true,
                Err(_) => return any,
            }
        }
    }

    /// Looks up an interface. `None`: there is none.
    pub fn find(&mut self, key: InterfaceKey<'_>) -> io::Result<Option<Interface>> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = question(key, self.sequence);
        rustix::net::send(&self.questions, &question, SendFlags::empty())?;
        loop {
            let (len, _) = rustix::net::recv(&self.questions, &mut self.buffer[..], RecvFlags::empty())?;
            // The answer to an earlier request that timed out may come late.
            if let Some(answer) = answer(&self.buffer[..len.min(DATAGRAM_MAX)], self.sequence) {
                return answer;
            }
        }
    }
}

fn is_about_this_host(kind: u16, body: &[u8]) -> bool {
    let (place, local) = RT_TABLE_LOCAL;
    match kind {
        RTM_NEWLINK | RTM_DELLINK => true,
        RTM_NEWROUTE | RTM_DELROUTE => body.get(place) == Some(&local),
        _ => false,
    }
}

fn question(key: InterfaceKey<'_>, sequence: u32) -> Vec<u8> {
    let index = match key {
        InterfaceKey::Name(_) => 0,
        InterfaceKey::Index(index) => index,
    };
    let mut body = vec![0; LINK_HEADER];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    attribute(&mut body, IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    if let InterfaceKey::Name(name) = key {
        let kind = if name.len() > NAME_MAX { IFLA_ALT_IFNAME } else { IFLA_IFNAME };
        attribute(&mut body, kind, &[name.as_bytes(), &[0]].concat());
    }
    netlink::request(RTM_GETLINK, NLM_F_REQUEST, sequence, &body)
}

/// Parses a datagram as the answer to request number `sequence`. `None`: it is not the answer.
fn answer(datagram: &[u8], sequence: u32) -> Option<io::Result<Option<Interface>>> {
    let mut messages = messages(datagram).filter(|message| message.sequence == sequence);
    messages.find_map(|message| match message.kind {
        RTM_NEWLINK => Some(Ok(interface(message.body))),
        NLMSG_ERROR => match errno(message.body)? {
            Errno::NODEV => Some(Ok(None)),
            errno => Some(Err(errno.into())),
        },
        _ => None,
    })
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
            IFLA_IFNAME => {
                let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
                interface.name = String::from_utf8_lossy(name).into_owned();
            }
            IFLA_CARRIER => interface.carrier = value.first() == Some(&1),
            IFLA_MTU => interface.mtu = number(value).unwrap_or_default(),
            IFLA_XDP => {
                let programs = attributes(value).filter(|(kind, _)| IFLA_XDP_PROG_IDS.contains(kind));
                interface.programs.extend(programs.filter_map(|(_, value)| number(value)));
            }
            _ => {}
        }
    }
    Some(interface)
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
        assert_eq!(lo.name, "lo");
        assert_eq!(interfaces.find(InterfaceKey::Name("longer-than-a-name-may-be")).unwrap(), None);
        assert!(interfaces.find(InterfaceKey::Name(&"longer".repeat(30))).is_err());
        // None of these answers were events.
        interfaces.forget_events();
    }

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        netlink::request(kind, 0, sequence, body)
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
        attribute(&mut body, IFLA_IFNAME, b"eth7\0");
        attribute(&mut body, 999, b"of a later kernel");
        attribute(&mut body, IFLA_CARRIER, &[1]);
        attribute(&mut body, IFLA_MTU, &1280u32.to_ne_bytes());
        attribute(&mut body, IFLA_XDP | 0x8000, &xdp);
        body.extend([200, 0, 3, 0]);
        let found = answer(&message(RTM_NEWLINK, 5, &body), 5).unwrap().unwrap().unwrap();
        let expected = Interface {
            name: "eth7".into(),
            index: 7,
            enabled: true,
            carrier: true,
            mtu: 1280,
            programs: vec![42],
        };
        assert_eq!(found, expected);
        assert!(answer(&message(RTM_NEWLINK, 5, &[0; 3]), 5).unwrap().unwrap().is_none());
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

    #[test]
    fn events_of_other_tables_are_passed_over() {
        let route = |table| [2, 32, 0, 0, table, 0, 0, 2, 0, 0, 0, 0];
        assert!(
            is_about_this_host(RTM_NEWROUTE, &route(255)) && is_about_this_host(RTM_DELROUTE, &route(255))
        );
        assert!(!is_about_this_host(RTM_NEWROUTE, &route(254)) && !is_about_this_host(RTM_NEWROUTE, &[]));
        assert!(is_about_this_host(RTM_NEWLINK, &[]) && is_about_this_host(RTM_DELLINK, &[]));
        assert!(!is_about_this_host(20, &route(255)), "an address, whose route has an event of its own");
    }
}
