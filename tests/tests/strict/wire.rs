//! Frames to and from the client's end of a lab's cable, as they are.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, bind, socket};
use ringdns_testkit::Host;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

/// Time after which no answer comes any more.
const PATIENCE: Duration = Duration::from_secs(3);

/// Packet socket on the client's end.
pub struct Wire(OwnedFd);

impl Wire {
    pub fn open(client: &Host) -> Self {
        client.enter(|| {
            let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
            let opened = socket(AddressFamily::Packet, kind, flags, SockProtocol::EthAll);
            let socket = opened.expect("a packet socket");
            let mut addresses = getifaddrs().expect("the interfaces");
            let found = addresses.find_map(|found| {
                let link = *found.address?.as_link_addr()?;
                (found.interface_name == "vc").then_some(link)
            });
            bind(socket.as_raw_fd(), &found.expect("vc")).expect("the packet socket on vc");
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE)).expect("a timeout");
            sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20).expect("a buffer");
            Wire(socket)
        })
    }

    pub fn send(&self, frame: &[u8]) {
        send(&self.0, frame, SendFlags::empty()).expect("the frame is sent");
    }

    /// Returns the ID of the next DNS answer; `None` if none comes.
    pub fn next_answer(&self) -> Option<u16> {
        let mut buffer = [0; 2048];
        loop {
            let (len, _) = recv(&self.0, &mut buffer[..], RecvFlags::empty()).ok()?;
            if let Some(id) = answer_id(&buffer[..len.min(2048)]) {
                return Some(id);
            }
        }
    }
}

/// Returns the ID of a DNS answer in a frame.
fn answer_id(frame: &[u8]) -> Option<u16> {
    let mut at = 12;
    while matches!(frame.get(at..at + 2)?, [0x81, 0x00] | [0x88, 0xa8]) {
        at += 4;
    }
    let packet = frame.get(at + 2..)?;
    let udp = match frame[at..at + 2] {
        [0x08, 0x00] if packet.get(9) == Some(&17) => packet.get(4 * usize::from(packet[0] & 15)..)?,
        [0x86, 0xdd] if packet.get(6) == Some(&17) => packet.get(40..)?,
        _ => return None,
    };
    let is_answer = udp.get(..2)? == [0, 53] && udp.get(10)? & 0x80 != 0;
    is_answer.then(|| u16::from_be_bytes([udp[8], udp[9]]))
}
