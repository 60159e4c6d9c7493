//! Unbound as a validating forwarder. One socket is its client and its upstream.

use crate::{
    case::Verdict,
    server::Message,
    wire::TREE,
    zone::{Denial, NOW, Zone, rtype},
};
use data_encoding::HEXLOWER;
use ringdns_dnssec::{Name, ProvenAnswer, ProvenRecord, expand, rdata};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Time after which a start or an answer counts as missing.
const PATIENCE: Duration = Duration::from_secs(300);
const QUERY_ID: u16 = 0x1234;
const SERVFAIL: u8 = 2;
/// Bit of the third byte of a header that tells replies from queries.
const QR: u8 = 0x80;
/// Bit of the fourth byte of a header: the client validates itself.
const CD: u8 = 0x10;
const OPT: u16 = 41;
/// EDNS option of extended errors (RFC 8914).
const EXTENDED_ERROR: u16 = 15;
/// Root record that announces buffers of 64 KiB and sets DO.
const EDNS: [u8; 11] = [0, 0, OPT as u8, 0xff, 0xff, 0, 0, 0x80, 0, 0, 0];

/// Zone that no question of a case leads to. Of all denials that Unbound has validated, it remembers
/// the last one, whatever its cache of them may have, and no command makes it forget. So it validates
/// a denial of this zone between two cases.
static ASIDE: LazyLock<Zone> = LazyLock::new(|| Zone::new("aside", Denial::Nsec).close());

/// A running Unbound, which ends when this is dropped.
pub struct Unbound {
    process: Child,
    folder: TempDir,
    address: SocketAddr,
    /// Socket that asks Unbound, and that Unbound asks in turn: so one thread needs to wake up for
    /// a packet, whichever it is.
    socket: UdpSocket,
}

/// Whether Unbound is to validate an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checking {
    Enabled,
    /// Unbound resolves alone (CD=1).
    Disabled,
}

impl Unbound {
    /// Starts Unbound with the tree's anchor and clock.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("ringdns-forger-").tempdir().unwrap();
        let address = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let file = folder.path().join("unbound.conf");
        let text = configuration(&folder.path().display().to_string(), address, socket.local_addr().unwrap());
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("unbound");
        command.arg("-d").arg("-c").arg(&file).stdin(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("unbound is installed");
        let mut unbound = Unbound { process, folder, address, socket };
        let begin = Instant::now();
        while UnixStream::connect(unbound.control()).is_err() {
            assert!(unbound.process.try_wait().unwrap().is_none(), "unbound ended");
            assert!(begin.elapsed() < PATIENCE, "unbound does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        unbound
    }

    fn control(&self) -> std::path::PathBuf {
        self.folder.path().join("control")
    }

    /// Empties the caches of messages, RRsets, keys and servers.
    fn forget(&self) {
        for command in ["flush_zone .", "flush_infra all"] {
            let mut stream = UnixStream::connect(self.control()).unwrap();
            writeln!(stream, "UBCT1 {command}").unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).unwrap();
            assert!(reply.starts_with("ok"), "{command}: {reply}");
        }
    }

    /// Returns the verdict on a question with empty caches. A refusal has the code of the extended
    /// error. The questions behind it are answered by `upstream`.
    pub fn judge(
        &self,
        name: &Name,
        qtype: u16,
        checking: Checking,
        upstream: impl FnMut(&Name, u16) -> Message,
    ) -> Verdict {
        self.forget();
        let verdict = self.ask(name, qtype, checking, upstream);
        if verdict.as_ref().is_ok_and(|verdict| verdict.secure) {
            let denied = self.ask(&ASIDE.origin, rtype::TXT, Checking::Enabled, |_, rtype| aside(rtype));
            assert!(denied.is_ok_and(|denied| denied.secure), "Unbound validates an honest denial");
        }
        verdict
    }

    fn ask(
        &self,
        name: &Name,
        qtype: u16,
        checking: Checking,
        mut upstream: impl FnMut(&Name, u16) -> Message,
    ) -> Verdict {
        let mut query = QUERY_ID.to_be_bytes().to_vec();
        query.extend([1, if checking == Checking::Disabled { CD } else { 0 }, 0, 1, 0, 0, 0, 0, 0, 1]);
        query.extend(name.as_wire());
        query.extend(qtype.to_be_bytes());
        query.extend([0, 1]);
        query.extend(EDNS);
        self.socket.send_to(&query, self.address).unwrap();
        let mut buffer = vec![0; 65_535];
        loop {
            let (len, from) = self.socket.recv_from(&mut buffer).expect("unbound answers");
            let packet = &buffer[..len];
            if packet[2] & QR != 0 {
                return verdict(packet).expect("unbound sends well-formed messages");
            }
            if let Some(reply) = reply(packet, &mut upstream) {
                let _ = self.socket.send_to(&reply, from);
            }
        }
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration(folder: &str, address: SocketAddr, upstream: SocketAddr) -> String {
    let port = address.port();
    let anchor = |zone: &Zone| {
        let ds = zone.ds();
        let (tag, digest) = (u16::from_be_bytes([ds[0], ds[1]]), HEXLOWER.encode(&ds[4..]));
        format!("{:?} DS {tag} {} {} {digest}", zone.origin, ds[2], ds[3])
    };
    let (root, aside) = (anchor(TREE.root()), anchor(&ASIDE));
    format!(
        "server:
  num-threads: 1
  interface: 127.0.0.1@{port}
  do-ip6: no
  chroot: \"\"
  directory: \"{folder}\"
  username: \"\"
  pidfile: \"\"
  use-syslog: no
  logfile: \"{folder}/log\"
  verbosity: 0
  ede: yes
  module-config: \"validator iterator\"
  trust-anchor: \"{root}\"
  trust-anchor: \"{aside}\"
  val-max-restart: 0
  infra-cache-min-rtt: 60000
  neg-cache-size: 0
  trust-anchor-signaling: no
  val-override-date: \"{NOW}\"
  do-not-query-localhost: no
  qname-minimisation: no
  aggressive-nsec: no
  prefetch: no
  max-udp-size: 65535
  msg-cache-size: 64k
  rrset-cache-size: 64k
  key-cache-size: 64k
  msg-cache-slabs: 1
  rrset-cache-slabs: 1
  key-cache-slabs: 1
  infra-cache-slabs: 1
remote-control:
  control-enable: yes
  control-interface: \"{folder}/control\"
  control-use-cert: no
forward-zone:
  name: \".\"
  forward-addr: {}@{}
",
        upstream.ip(),
        upstream.port()
    )
}

/// Returns the answers about the apex of the zone aside: it has no TXT records.
fn aside(rtype: u16) -> Message {
    let apex = &ASIDE.origin;
    let answers = ASIDE.set(apex, apex, rtype);
    let denial = [ASIDE.set(apex, apex, rtype::SOA), ASIDE.covering(apex)].concat();
    let authorities = if answers.is_empty() { denial } else { Vec::new() };
    Message { answers, authorities, ..Message::default() }
}

/// Reads a reply; `None` if it is malformed.
fn verdict(message: &[u8]) -> Option<Verdict> {
    let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    assert_eq!(word(0)?, QUERY_ID);
    let mut at = expand(message, 12, &mut Vec::new())? + 4;
    let rcode = message[3] & 0xf;
    let secure = message[3] & 0x20 != 0;
    let mut verdict = ProvenAnswer { rcode, secure, ..ProvenAnswer::default() };
    let mut why = 0;
    let counts = [word(6)?, word(8)?, word(10)?];
    for (section, count) in counts.into_iter().enumerate() {
        for _ in 0..count {
            let (mut owner, mut rdata) = (Vec::new(), Vec::new());
            let fixed = expand(message, at, &mut owner)?;
            let rtype = word(fixed)?;
            let ttl = u32::from(word(fixed + 4)?) << 16 | u32::from(word(fixed + 6)?);
            at = fixed + 10 + usize::from(word(fixed + 8)?);
            rdata::copy(rtype, message, fixed + 10, at, &mut rdata)?;
            match section {
                0 => verdict.answers.push(ProvenRecord { owner, rtype, ttl, rdata }),
                1 => verdict.authorities.push(ProvenRecord { owner, rtype, ttl, rdata }),
                _ if rtype == OPT && rdata.starts_with(&EXTENDED_ERROR.to_be_bytes()) => {
                    why = u16::from_be_bytes([*rdata.get(4)?, *rdata.get(5)?]);
                }
                _ => {}
            }
        }
    }
    Some(if rcode == SERVFAIL { Err(why) } else { Ok(verdict) })
}

/// Returns the upstream's reply to a query.
fn reply(query: &[u8], upstream: &mut impl FnMut(&Name, u16) -> Message) -> Option<Vec<u8>> {
    let mut asked = Vec::new();
    let end = expand(query, 12, &mut asked)?;
    let qtype = u16::from_be_bytes([query[end], query[end + 1]]);
    asked.make_ascii_lowercase();
    let message = upstream(&Name::from_wire(&asked)?, qtype).to_wire();
    let mut reply = query[..2].to_vec();
    // QR, RD and RA.
    reply.extend([0x81, 0x80 | message[3]]);
    reply.extend([0, 1]);
    reply.extend(&message[6..10]);
    reply.extend([0, 1]);
    reply.extend(&query[12..end + 4]);
    reply.extend(&message[12..]);
    reply.extend(EDNS);
    Some(reply)
}
