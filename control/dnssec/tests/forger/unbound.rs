//! Unbound as a validating forwarder, with a scripted upstream behind it.

use crate::{
    server::Message,
    wire::TREE,
    zone::{NOW, name},
};
use data_encoding::HEXLOWER;
use ringdns_dnssec::{Name, ProvenAnswer, ProvenRecord, expand, rdata};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Time after which a start or an answer counts as missing.
const PATIENCE: Duration = Duration::from_secs(30);
const QUERY_ID: u16 = 0x1234;
const SERVFAIL: u8 = 2;
const OPT: u16 = 41;
/// EDNS option of extended errors (RFC 8914).
const EXTENDED_ERROR: u16 = 15;
/// Root record that announces buffers of 64 KiB and sets DO.
const EDNS: [u8; 11] = [0, 0, OPT as u8, 0xff, 0xff, 0, 0, 0x80, 0, 0, 0];

/// A running Unbound, which ends when this is dropped.
pub struct Unbound {
    process: Child,
    folder: TempDir,
    client: UdpSocket,
}

impl Unbound {
    /// Starts Unbound with the tree's anchor and clock. It forwards everything to `upstream`.
    pub fn start(upstream: SocketAddr) -> Self {
        let folder = tempfile::Builder::new().prefix("ringdns-forger-").tempdir().unwrap();
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let file = folder.path().join("unbound.conf");
        std::fs::write(&file, configuration(&folder.path().display().to_string(), port, upstream)).unwrap();
        let mut command = Command::new("unbound");
        command.arg("-d").arg("-c").arg(&file).stdin(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("unbound is installed");
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut unbound = Unbound { process, folder, client };
        let begin = Instant::now();
        while UnixStream::connect(unbound.socket()).is_err() {
            assert!(unbound.process.try_wait().unwrap().is_none(), "unbound ended");
            assert!(begin.elapsed() < PATIENCE, "unbound does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        unbound
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("control")
    }

    /// Empties the caches of messages, RRsets, keys and servers.
    pub fn forget(&self) {
        for command in ["flush_zone .", "flush_infra all"] {
            let mut stream = UnixStream::connect(self.socket()).unwrap();
            writeln!(stream, "UBCT1 {command}").unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).unwrap();
            assert!(reply.starts_with("ok"), "{command}: {reply}");
        }
    }

    /// Returns the verdict on a question. A refusal has the code of the extended error.
    pub fn judge(&self, name: &Name, qtype: u16) -> Result<ProvenAnswer, u16> {
        let mut query = QUERY_ID.to_be_bytes().to_vec();
        query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        query.extend(name.as_wire());
        query.extend(qtype.to_be_bytes());
        query.extend([0, 1]);
        query.extend(EDNS);
        self.client.send(&query).unwrap();
        let mut buffer = vec![0; 65_535];
        let len = self.client.recv(&mut buffer).expect("unbound answers");
        verdict(&buffer[..len]).expect("unbound sends well-formed messages")
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration(folder: &str, port: u16, upstream: SocketAddr) -> String {
    let ds = TREE.root().ds();
    let (tag, digest) = (u16::from_be_bytes([ds[0], ds[1]]), HEXLOWER.encode(&ds[4..]));
    let (algorithm, digest_type) = (ds[2], ds[3]);
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
  trust-anchor: \". DS {tag} {algorithm} {digest_type} {digest}\"
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

/// Reads a reply; `None` if it is malformed.
fn verdict(message: &[u8]) -> Option<Result<ProvenAnswer, u16>> {
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

/// Answers the questions that come in on a socket, for as long as the process runs.
pub fn serve(answer: impl Fn(&Name, u16) -> Message + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        while let Ok((len, client)) = socket.recv_from(&mut buffer) {
            let query = &buffer[..len];
            let mut asked = Vec::new();
            let Some(end) = expand(query, 12, &mut asked) else { continue };
            let qtype = u16::from_be_bytes([query[end], query[end + 1]]);
            asked.make_ascii_lowercase();
            let message = answer(&Name::from_wire(&asked).unwrap_or_else(|| name("")), qtype).to_wire();
            let mut reply = query[..2].to_vec();
            // QR, RD and RA.
            reply.extend([0x81, 0x80 | message[3]]);
            reply.extend([0, 1]);
            reply.extend(&message[6..10]);
            reply.extend([0, 1]);
            reply.extend(&query[12..end + 4]);
            reply.extend(&message[12..]);
            reply.extend(EDNS);
            let _ = socket.send_to(&reply, client);
        }
    });
    address
}
