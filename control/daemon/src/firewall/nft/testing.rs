//! Tables and sets of nftables for tests, in a network namespace of their own.

use super::*;
use ringdns_xdp::netlink::{attributes, request};
use std::{env, process::Command};

const NEWTABLE: u16 = NFTABLES << 8;
const NEWSET: u16 = NFTABLES << 8 | 9;
const GETSETELEM: u16 = NFTABLES << 8 | 13;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP: u16 = 0x300;
const SET_TIMEOUT: u32 = 0x10;
const TABLE: &str = "fw";
/// Number of the family inet.
const INET: u8 = 1;
/// Variable that the test in the namespace finds set.
const INSIDE: &str = "RINGDNS_TEST_NAMESPACE";

/// Whether this process is in a network namespace of its own. If not, the test of this name runs there
/// and its failure is one of the caller.
pub fn in_namespace(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    if env::var_os("RINGDNS_UNPRIVILEGED").is_some() {
        return false;
    }
    let program = env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.arg("--net").arg(program).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let status = command.status().unwrap();
    assert!(status.success(), "{test}: {status}. It needs root; RINGDNS_UNPRIVILEGED=1 skips it");
    false
}

/// Client that makes sets and reads them.
pub struct Kernel(Nft);

impl Kernel {
    /// Makes the table.
    pub fn new() -> Self {
        let mut nft = Nft::open().unwrap();
        let mut table = body(INET, 0);
        attribute(&mut table, 1, &terminated(TABLE));
        nft.transact(&[(NEWTABLE, NLM_F_CREATE, &table)]).unwrap();
        Kernel(nft)
    }

    /// Makes a set for addresses of so many bytes.
    pub fn add_set(&mut self, name: &str, len: u32, is_timed: bool) {
        let mut set = body(INET, 0);
        attribute(&mut set, 1, &terminated(TABLE));
        attribute(&mut set, 2, &terminated(name));
        // Types of nft: ipv4_addr and ipv6_addr.
        let kind = if len == 4 { 7_u32 } else { 8 };
        let flags = if is_timed { SET_TIMEOUT } else { 0 };
        for (attr, value) in [(3, flags), (4, kind), (5, len), (10, 1)] {
            attribute(&mut set, attr, &value.to_be_bytes());
        }
        self.0.transact(&[(NEWSET, NLM_F_CREATE, &set)]).unwrap();
    }

    /// Removes all elements of a set.
    pub fn flush(&mut self, name: &str) {
        let mut list = body(INET, 0);
        attribute(&mut list, LIST_TABLE, &terminated(TABLE));
        attribute(&mut list, LIST_SET, &terminated(name));
        self.0.transact(&[(DELSETELEM, 0, &list)]).unwrap();
    }

    /// Returns the addresses of a set in their order, and their time-outs in seconds.
    pub fn elements(&mut self, name: &str) -> Vec<(IpAddr, u64)> {
        let mut list = body(INET, 0);
        attribute(&mut list, LIST_TABLE, &terminated(TABLE));
        attribute(&mut list, LIST_SET, &terminated(name));
        self.0.sequence += 1;
        let asked = request(GETSETELEM, NLM_F_REQUEST | NLM_F_DUMP, self.0.sequence, &list);
        rustix::net::send(&self.0.socket, &asked, SendFlags::empty()).unwrap();
        let mut found = Vec::new();
        loop {
            let (len, _) =
                rustix::net::recv(&self.0.socket, &mut self.0.buffer[..], RecvFlags::empty()).unwrap();
            for message in messages(&self.0.buffer[..len]) {
                match message.kind {
                    NLMSG_DONE => {
                        found.sort();
                        return found;
                    }
                    NLMSG_ERROR => panic!("{name}: {:?}", errno(message.body)),
                    _ => {}
                }
                let lists = attributes(&message.body[4..]).filter(|(kind, _)| *kind == LIST_ELEMENTS);
                found.extend(lists.flat_map(|(_, list)| attributes(list)).map(|(_, element)| read(element)));
            }
        }
    }
}

fn read(element: &[u8]) -> (IpAddr, u64) {
    let (mut address, mut seconds) = (None, 0);
    for (kind, value) in attributes(element) {
        match kind {
            ELEMENT_KEY => {
                let (_, bytes) = attributes(value).next().unwrap();
                address = match bytes.len() {
                    4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).unwrap())),
                    _ => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap())),
                };
            }
            ELEMENT_TIMEOUT => seconds = u64::from_be_bytes(value.try_into().unwrap()) / 1_000,
            _ => {}
        }
    }
    (address.unwrap(), seconds)
}
