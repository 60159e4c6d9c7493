//! Facts about a network interface, from ioctls, which see the network namespace of the calling
//! thread, and from sysfs, which shows the namespace of the process that mounted it.

use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, SocketType, netdevice::name_to_index, socket},
};
use std::{
    ffi::c_char,
    fmt, fs, io,
    os::fd::{AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
};

/// Properties of a network interface, as far as known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nic {
    /// Name of the driver.
    pub driver: Option<String>,
    /// Number of receive queues in use; they are counted from 0.
    pub queues: Option<u32>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Whether the NIC strips VLAN tags from received packets (`rxvlan on`).
    pub strips_vlan_tags: bool,
}

impl Nic {
    /// Asks the kernel about `interface`. Properties that it does not tell stay unknown.
    pub fn look(interface: &str) -> Self {
        // Any kind of socket can be used for the ioctls.
        let Ok(socket) = socket(AddressFamily::UNIX, SocketType::DGRAM, None) else { return Self::default() };
        let Ok(asked) = InterfaceQuery::new(socket, interface) else { return Self::default() };
        Nic {
            driver: asked.driver(),
            queues: asked.channels().or_else(|| asked.queues_of_sysfs()),
            mtu: asked.mtu(),
            strips_vlan_tags: asked.flags().is_some_and(|flags| flags & RX_VLAN != 0),
        }
    }
}

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.driver {
            Some(driver) => write!(f, "driver {driver}")?,
            None => f.write_str("unknown driver")?,
        }
        match self.queues {
            Some(1) => f.write_str(", 1 receive queue")?,
            Some(queues) => write!(f, ", {queues} receive queues")?,
            None => {}
        }
        self.mtu.map_or(Ok(()), |mtu| write!(f, ", MTU {mtu}"))
    }
}

/// Makes the kernel keep to the filters of requests for dumps (`NETLINK_GET_STRICT_CHK`, Linux 4.20).
pub fn dump_strictly(netlink: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    let (level, option) = (libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK);
    // SAFETY: the kernel reads `len` bytes from `on`, which outlives the call.
    let told = unsafe { libc::setsockopt(netlink.as_raw_fd(), level, option, (&raw const on).cast(), len) };
    if told == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bit of `ETH_FLAG_RXVLAN` in the flags that `ETHTOOL_GFLAGS` returns.
const RX_VLAN: u32 = 1 << 8;

/// Interface that the kernel is asked about.
struct InterfaceQuery<'a> {
    socket: OwnedFd,
    interface: &'a str,
    name: [c_char; libc::IFNAMSIZ],
}

impl<'a> InterfaceQuery<'a> {
    fn new(socket: OwnedFd, interface: &'a str) -> io::Result<Self> {
        let mut name = [0; libc::IFNAMSIZ];
        // The last byte stays zero, and ends the name.
        if interface.len() >= name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        name.iter_mut().zip(interface.bytes()).for_each(|(to, byte)| *to = byte as c_char);
        Ok(InterfaceQuery { socket, interface, name })
    }

    fn driver(&self) -> Option<String> {
        let mut info = DriverInfo { command: DriverInfo::COMMAND, driver: [0; 32], rest: [0; 160] };
        self.ethtool(&mut info).ok()?;
        let name = info.driver.split(|byte| *byte == 0).next()?;
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    }

    /// Returns the number of channels that receive, if the driver has channels.
    fn channels(&self) -> Option<u32> {
        let mut channels = Channels { command: Channels::COMMAND, ..Channels::default() };
        self.ethtool(&mut channels).ok()?;
        Some(channels.rx.saturating_add(channels.combined)).filter(|count| *count > 0)
    }

    fn flags(&self) -> Option<u32> {
        let mut flags = EthtoolFlags { command: EthtoolFlags::COMMAND, flags: 0 };
        self.ethtool(&mut flags).ok()?;
        Some(flags.flags)
    }

    fn mtu(&self) -> Option<u32> {
        let mut request = self.request(libc::__c_anonymous_ifr_ifru { ifru_mtu: 0 });
        // SAFETY: the kernel reads the name from the request and writes the MTU into it; both are within it.
        let told = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
        // SAFETY: all members of the union are plain old data, and this one was initialised above.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        u32::try_from(mtu).ok().filter(|_| told == 0)
    }

    fn hardware_address(&self) -> Option<[u8; 6]> {
        // SAFETY: an all-zero socket address is one of no family.
        let none: libc::sockaddr = unsafe { std::mem::zeroed() };
        let mut request = self.request(libc::__c_anonymous_ifr_ifru { ifru_hwaddr: none });
        // SAFETY: the kernel reads the name from the request and writes the address into it; both are within it.
        let told = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request) };
        // SAFETY: all members of the union are plain old data, and this one was initialised above.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        (told == 0).then(|| std::array::from_fn(|at| address.sa_data[at] as u8))
    }

    /// Returns the number of receive queues in sysfs, if sysfs shows this very interface: another
    /// network namespace may have one of the same name.
    fn queues_of_sysfs(&self) -> Option<u32> {
        let folder = Path::new("/sys/class/net").join(self.interface);
        let read = |file: &str| -> Option<String> {
            Some(fs::read_to_string(folder.join(file)).ok()?.trim_end().to_owned())
        };
        let index = name_to_index(&self.socket, self.interface).ok()?;
        let address = self.hardware_address()?.map(|byte| format!("{byte:02x}")).join(":");
        if read("ifindex")? != index.to_string() || read("address")? != address {
            return None;
        }
        count_receive_queues(folder.join("queues"))
    }

    fn ethtool<C: Command>(&self, command: &mut C) -> io::Result<()> {
        let data: *mut C = command;
        let mut request = self.request(libc::__c_anonymous_ifr_ifru { ifru_data: data.cast() });
        // SAFETY: `data` is the structure of the command that it begins with (`Command`), is borrowed until the call
        // returns, and the kernel reads and writes no more than that structure.
        let told = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
        if told == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn request(&self, about: libc::__c_anonymous_ifr_ifru) -> libc::ifreq {
        libc::ifreq { ifr_name: self.name, ifr_ifru: about }
    }
}

fn count_receive_queues(folder: PathBuf) -> Option<u32> {
    let names = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name());
    let count = names.filter(|name| name.as_encoded_bytes().starts_with(b"rx-")).count();
    u32::try_from(count).ok().filter(|count| *count > 0)
}

/// Structure of an ethtool command (Linux `include/uapi/linux/ethtool.h`).
///
/// # Safety
///
/// The type is `repr(C)`, begins with its own command's number, and is as long as the kernel's
/// structure; any bytes are a value of it.
unsafe trait Command {
    /// Number of the command.
    const COMMAND: u32;
}

/// `ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    /// Version, firmware version, bus, expansion ROM, and five numbers.
    rest: [u8; 160],
}

/// `ethtool_channels`.
#[derive(Default)]
#[repr(C)]
struct Channels {
    command: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `ethtool_value` of `ETHTOOL_GFLAGS`.
#[repr(C)]
struct EthtoolFlags {
    command: u32,
    flags: u32,
}

const _: () = assert!(size_of::<DriverInfo>() == 196 && size_of::<Channels>() == 36);

// SAFETY: `ethtool_drvinfo` is 196 bytes of numbers and characters; the constructor sets the command.
unsafe impl Command for DriverInfo {
    const COMMAND: u32 = 0x3;
}

// SAFETY: `ethtool_channels` is nine numbers; the constructor sets the command.
unsafe impl Command for Channels {
    const COMMAND: u32 = 0x3c;
}

// SAFETY: `ethtool_value` is two numbers; the constructor sets the command.
unsafe impl Command for EthtoolFlags {
    const COMMAND: u32 = 0x25;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::netns;

    #[test]
    fn an_interface_is_known_in_the_namespace_of_whoever_asks() {
        netns::run(|| {
            let near = Nic::look("near");
            assert_eq!((near.driver.as_deref(), near.queues, near.mtu), (Some("veth"), Some(1), Some(1500)));
            assert_eq!(near.to_string(), "driver veth, 1 receive queue, MTU 1500");
            netns::ip("link add wide numrxqueues 4 numtxqueues 4 type veth peer name other");
            netns::ip("link set wide mtu 9000");
            let wide = Nic::look("wide");
            assert_eq!((wide.queues, wide.mtu), (Some(4), Some(9000)));
            assert_eq!(wide.to_string(), "driver veth, 4 receive queues, MTU 9000");
        });
    }

    #[test]
    fn stripping_of_tags_is_seen() {
        netns::run(|| {
            for (state, strips) in [("on", true), ("off", false)] {
                let ethtool = ["-K", "near", "rxvlan", state];
                let status = std::process::Command::new("ethtool").args(ethtool).status().expect("ethtool");
                assert!(status.success());
                assert_eq!(Nic::look("near").strips_vlan_tags, strips);
            }
        });
    }

    #[test]
    fn what_is_not_there_is_unknown() {
        for name in ["no-such-nic", "", "a-name-longer-than-any-interface", "nul\0in-it"] {
            assert_eq!(Nic::look(name), Nic::default(), "{name:?}");
        }
        assert_eq!(Nic::default().to_string(), "unknown driver");
    }

    #[test]
    fn sysfs_is_not_believed_about_a_namesake() {
        netns::run(|| {
            // The sysfs of this thread's mount namespace shows the interfaces of another network namespace.
            let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
            let near = InterfaceQuery::new(socket, "near").unwrap();
            assert_eq!(near.queues_of_sysfs(), None);
            assert_eq!(near.channels(), Some(1));
        });
        // Every machine has this one, without channels.
        let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
        let loopback = InterfaceQuery::new(socket, "lo").unwrap();
        assert_eq!(loopback.channels(), None);
        assert_eq!(loopback.queues_of_sysfs(), Some(1));
        assert_eq!(Nic::look("lo").queues, Some(1));
    }
}
