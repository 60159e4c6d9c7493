//! `[server]`: addresses that queries arrive at, and the way that they are received.

use crate::{bounds::within, error::Problem, listen, table::table, values::choice};
use ringdns_common::units::TimeSpan;
use ringdns_dataplane::{
    dns::{self, option::NSID_MAX},
    port::udp::LISTEN_MAX,
};
use std::{net::SocketAddr, time::Duration};

/// Largest UDP payload in bytes that an Ethernet frame holds over IPv6.
const UDP_MAX: u16 = 1452;
/// Highest id of a VLAN (IEEE 802.1Q reserves 4095).
const VLAN_MAX: u16 = 4094;

table! {
    /// Addresses that queries arrive at, and the way that they are received.
    "[server]" RawServer {
        /// Addresses and ports to answer on, over UDP and TCP: `"10.53.0.2:53"`, `"[fd53::2]:53"`,
        /// `"[fe80::2%eth0]:53"`.
        /// Required.
        listen: Vec<String> = Vec::new(),
        /// Interface that carries these addresses, to be read through AF_XDP. Absent: kernel UDP
        /// sockets, which need neither a NIC nor privileges.
        interface: Option<String> = None,
        /// AF_XDP mode: `"auto"`, `"zero-copy"`, `"copy"` or `"generic"`. Every mode but `auto`
        /// fails if the interface cannot offer it.
        mode: XdpMode = XdpMode::Auto,
        /// Number of worker threads. With AF_XDP there is exactly one worker per queue, and the key
        /// is refused. Absent: one per core of the process, less one for the control plane.
        workers: Option<usize> = None,
        /// Receive queues of the interface to serve. Absent: all of them. The kernel answers on the
        /// other queues.
        queues: Option<Vec<u32>> = None,
        /// 802.1Q VLANs, by id, whose frames AF_XDP receives, besides frames without a VLAN and those
        /// of VLAN devices on the interface that are up. Needed where no VLAN device exists. The
        /// kernel gets frames of all other VLANs.
        vlans: Vec<u16> = Vec::new(),
        /// Whether the checksums of received packets are trusted without verifying them. Use it
        /// only on links that cannot corrupt packets. Partial checksums, which the kernel leaves on
        /// links within one machine, do not need this key: copy mode recognises them.
        trust_checksums: bool = false,
        /// Time that a worker keeps polling for packets before it sleeps. A longer time saves
        /// wake-ups and costs CPU. `"0s"`: the worker sleeps at once, as does a worker that shares
        /// its core with the control plane.
        spin: TimeSpan = TimeSpan(std::time::Duration::from_micros(50)),
        /// Whether workers drive the NIC themselves instead of being interrupted (preferred busy
        /// polling, Linux 5.11). Set `napi_defer_hard_irqs` and `gro_flush_timeout` on the
        /// interface as well.
        busy_poll: bool = false,
        /// Whether kernel sockets replace AF_XDP when it cannot be started or is lost. `false`:
        /// ringdnsd stops with an error if AF_XDP cannot be started; if AF_XDP is lost later,
        /// ringdnsd serves over kernel sockets until it is back, and `/readyz` answers 503.
        fallback: bool = true,
        /// Largest answer sent over UDP, in bytes, whatever a client offers, if it fits the MTU of
        /// the interface where it leaves. Clients fetch larger answers over TCP (RFC 9715).
        udp_limit: u16 = 1232,
        /// Identity of this server, returned for `id.server` and `hostname.bind` in class CH (RFC
        /// 4892). At most 64 bytes. Absent: REFUSED. The version is never disclosed.
        identity: Option<String> = None,
        /// Identity of this server in the NSID option of EDNS (RFC 5001), which tells its answers
        /// from those of other servers at an anycast address. At most 64 bytes. Absent: no NSID.
        nsid: Option<String> = None,
    }
}

choice! {
    /// Mode in which AF_XDP is attached.
    XdpMode {
        /// The best mode that the interface and its driver offer.
        #[default]
        Auto = "auto",
        /// In the driver; the NIC writes packets straight into the UMEM.
        ZeroCopy = "zero-copy",
        /// In the driver; the kernel copies packets.
        Copy = "copy",
        /// Behind the driver: works with every interface, and is slow.
        Generic = "generic",
    }
}

/// Addresses that queries arrive at, and the way that they are received.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Addresses for UDP and TCP; at least one.
    pub listen: Vec<SocketAddr>,
    /// Interface for AF_XDP; `None`: kernel sockets.
    pub interface: Option<String>,
    /// Mode in which AF_XDP is attached.
    pub mode: XdpMode,
    /// Number of worker threads over kernel sockets; `None`: by the number of cores.
    pub workers: Option<usize>,
    /// Queues to serve; `None`: all.
    pub queues: Option<Vec<u32>>,
    /// 802.1Q VLANs to steer besides those that have a device on the interface.
    pub vlans: Vec<u16>,
    /// Whether received checksums are trusted without verifying them.
    pub trust_checksums: bool,
    /// Time that a worker polls for packets before it sleeps.
    pub spin: Duration,
    /// Whether workers drive the NIC.
    pub busy_poll: bool,
    /// Whether kernel sockets may replace AF_XDP.
    pub fallback: bool,
    /// Largest answer over UDP, in bytes.
    pub udp_limit: u16,
    /// Identity of this server in class CH.
    pub identity: Option<String>,
    /// Identity of this server in EDNS (NSID).
    pub nsid: Option<String>,
}

impl RawServer {
    /// Returns the checked values.
    pub fn check(self) -> Result<ServerConfig, Problem> {
        let listen = self.addresses()?;
        self.check_queues()?;
        self.check_vlans()?;
        if !(dns::UDP_MIN..=UDP_MAX).contains(&self.udp_limit) {
            let reason =
                format!("{} bytes is too little for DNS or too much for an Ethernet frame", self.udp_limit);
            return Err(Problem::new(
                "server.udp_limit",
                reason,
                "Give 512 to 1452; 1232 avoids fragments (RFC 9715)",
            ));
        }
        let spin = [TimeSpan::secs(0), TimeSpan::secs(1)];
        let remedy = "Give at most \"1s\"; a few tens of microseconds are enough";
        let spin = within("server.spin", self.spin, spin, remedy)?;
        if self.busy_poll && self.interface.is_none() {
            let remedy = "Set server.interface, or remove the key";
            return Err(Problem::new(
                "server.busy_poll",
                "there is no NIC to drive without an interface",
                remedy,
            ));
        }
        Ok(ServerConfig {
            listen,
            interface: self.interface,
            mode: self.mode,
            workers: self.workers,
            queues: self.queues,
            vlans: self.vlans,
            trust_checksums: self.trust_checksums,
            spin,
            busy_poll: self.busy_poll,
            fallback: self.fallback,
            udp_limit: self.udp_limit,
            identity: name("server.identity", self.identity)?,
            nsid: name("server.nsid", self.nsid)?,
        })
    }

    /// Returns the addresses to listen on.
    fn addresses(&self) -> Result<Vec<SocketAddr>, Problem> {
        if self.listen.is_empty() {
            return Err(Problem::new(
                "server.listen",
                "no address to listen on",
                "Give at least one, such as listen = [\"127.0.0.1:53\"]",
            ));
        }
        if self.listen.len() > LISTEN_MAX {
            let reason = format!("{} addresses are more than a worker can serve", self.listen.len());
            let remedy = format!("List at most {LISTEN_MAX}, or 0.0.0.0 or [::] in place of many");
            return Err(Problem::new("server.listen", reason, remedy));
        }
        let mut listen = Vec::with_capacity(self.listen.len());
        for (i, text) in self.listen.iter().enumerate() {
            let key = format!("server.listen[{i}]");
            let address = listen::address(&key, text, "Write \"10.53.0.2:53\" or \"[fd53::2]:53\"")?;
            if self.interface.is_some() && address.port() == 0 {
                let remedy = "Give the port, or remove server.interface";
                return Err(Problem::new(&key, "port 0 cannot be steered to AF_XDP", remedy));
            }
            if listen.contains(&address) && address.port() != 0 {
                return Err(Problem::new(
                    &key,
                    format!("{address} is listed twice"),
                    "Remove one of the two",
                ));
            }
            if let Some(other) = listen.iter().find(|other| listen::exclude_each_other(address, **other)) {
                let reason = format!("the kernel does not let {address} and {other} be listened on both");
                let remedy = "Remove one of the two; 0.0.0.0 and [::] include all addresses of their family";
                return Err(Problem::new(&key, reason, remedy));
            }
            listen.push(address);
        }
        Ok(listen)
    }

    /// Checks the VLANs.
    fn check_vlans(&self) -> Result<(), Problem> {
        if self.interface.is_none() && !self.vlans.is_empty() {
            let reason = "without an interface, the kernel's VLAN devices decide";
            return Err(Problem::new("server.vlans", reason, "Set server.interface, or remove the key"));
        }
        if let Some(id) = self.vlans.iter().find(|id| !(1..=VLAN_MAX).contains(*id)) {
            let remedy =
                format!("Give ids from 1 to {VLAN_MAX}; frames with a priority tag (id 0) need no key");
            return Err(Problem::new("server.vlans", format!("{id} is no id of a VLAN"), remedy));
        }
        Ok(())
    }

    /// Checks the interface with its queues, and the number of workers without one.
    fn check_queues(&self) -> Result<(), Problem> {
        if self.interface.as_deref() == Some("") {
            let remedy = "Name one as `ip link` shows it, or remove the key to use kernel sockets";
            return Err(Problem::new("server.interface", "the name is empty", remedy));
        }
        if self.interface.is_some() && self.workers.is_some() {
            let reason = "with an interface there is one worker a queue";
            let remedy = "Remove the key, or choose queues with server.queues";
            return Err(Problem::new("server.workers", reason, remedy));
        }
        if self.interface.is_none() && self.queues.is_some() {
            let remedy = "Set server.interface, or remove the key";
            return Err(Problem::new("server.queues", "there are no queues without an interface", remedy));
        }
        if let Some(workers @ (0 | 1025..)) = self.workers {
            let remedy = "Give 1 to 1024, or remove the key for one a core";
            return Err(Problem::new(
                "server.workers",
                format!("{workers} workers are not possible"),
                remedy,
            ));
        }
        if let Some(queues) = &self.queues {
            let mut seen = queues.clone();
            seen.sort_unstable();
            seen.dedup();
            if queues.is_empty() || seen.len() != queues.len() {
                let remedy = "List each queue once, such as [0, 1], or remove the key for all";
                return Err(Problem::new(
                    "server.queues",
                    "the list is empty or names a queue twice",
                    remedy,
                ));
            }
        }
        Ok(())
    }
}

/// Checks a name that clients are told.
fn name(key: &str, name: Option<String>) -> Result<Option<String>, Problem> {
    match name {
        Some(name) if name.is_empty() || name.len() > NSID_MAX => {
            let reason = format!("{} bytes are too few or too many for a name", name.len());
            Err(Problem::new(key, reason, format!("Give 1 to {NSID_MAX} bytes, or remove the key")))
        }
        name => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{parse, refused};

    const HEAD: &str = "[[upstream]]\naddress = \"127.0.0.1:5301\"\n[server]\n";

    #[test]
    fn addresses_that_cannot_be_listened_on_are_refused() {
        let many = format!("listen = {:?}", (1..=17).map(|i| format!("127.0.0.{i}:53")).collect::<Vec<_>>());
        refused(
            HEAD,
            &[
                ["listen = []", "4", "server.listen", "no address", "at least one"],
                ["listen = [\"127.0.0.1:53\",\n\"nowhere\"]", "5", "server.listen[1]", "nowhere", "Write"],
                ["listen = [\"127.0.0.1:53\", \"127.0.0.1:53\"]", "4", "server.listen[1]", "twice", "Remove"],
                [&many, "4", "server.listen", "17 addresses", "at most 16"],
                [
                    "listen = [\"0.0.0.0:53\", \"10.0.0.1:53\"]",
                    "4",
                    "server.listen[1]",
                    "does not let",
                    "Remove",
                ],
                ["listen = [\"[fe80::1]:53\"]", "4", "server.listen[0]", "link-local", "%eth0"],
                ["listen = [\"224.0.0.1:53\"]", "4", "server.listen[0]", "multicast", "this host"],
                ["listen = [\"255.255.255.255:53\"]", "4", "server.listen[0]", "broadcast", "this host"],
                [
                    "listen = [\"[::ffff:10.0.0.1]:53\"]",
                    "4",
                    "server.listen[0]",
                    "in IPv6 form",
                    "10.0.0.1:53",
                ],
                ["listen = [\"10.0.0.1:0\"]\ninterface = \"vs\"", "4", "server.listen[0]", "port 0", "port"],
            ],
        );
    }

    #[test]
    fn wrong_values_are_refused() {
        let long = format!("nsid = \"{}\"", "x".repeat(65));
        refused(
            &format!("{HEAD}listen = [\"127.0.0.1:5300\"]\n"),
            &[
                ["interface = \"\"", "5", "server.interface", "empty", "ip link"],
                ["interface = \"vs\"\nworkers = 2", "6", "server.workers", "one worker a queue", "queues"],
                ["queues = [0]", "5", "server.queues", "without an interface", "interface"],
                ["vlans = [7]", "5", "server.vlans", "without an interface", "interface"],
                ["interface = \"vs\"\nvlans = [7, 0]", "6", "server.vlans", "0 is no id", "4094"],
                ["interface = \"vs\"\nvlans = [4095]", "6", "server.vlans", "4095 is no id", "4094"],
                ["interface = \"vs\"\nqueues = [1, 1]", "6", "server.queues", "twice", "each queue once"],
                ["interface = \"vs\"\nqueues = []", "6", "server.queues", "empty", "each queue once"],
                ["workers = 0", "5", "server.workers", "0 workers", "1 to 1024"],
                ["workers = -1", "5", "server.workers", "-1", "Correct the value"],
                [
                    "mode = \"native\"",
                    "5",
                    "server.mode",
                    "\"auto\", \"zero-copy\", \"copy\" or \"generic\", found the string \"native\"",
                    "Correct the value",
                ],
                ["udp_limit = 100", "5", "server.udp_limit", "100 bytes", "1232"],
                ["udp_limit = 9000", "5", "server.udp_limit", "9000 bytes", "1232"],
                ["spin = \"2s\"", "5", "server.spin", "too long", "at most"],
                ["spin = 5", "5", "server.spin", "found the number 5", "spin = \"5s\""],
                ["identity = \"\"", "5", "server.identity", "0 bytes", "1 to 64"],
                [&long, "5", "server.nsid", "65 bytes", "1 to 64"],
                ["busy_poll = true", "5", "server.busy_poll", "no NIC", "interface"],
                ["lisen = []", "5", "server.lisen", "unknown key", "Did you mean \"listen\""],
                [
                    "fallback = \"yes\"",
                    "5",
                    "server.fallback",
                    "expected true or false, found the string \"yes\"",
                    "without quotes",
                ],
            ],
        );
    }

    #[test]
    fn modes_have_the_words_of_the_reference() {
        for mode in [XdpMode::Auto, XdpMode::ZeroCopy, XdpMode::Copy, XdpMode::Generic] {
            let line = format!("listen = [\"127.0.0.1:5300\"]\nmode = \"{}\"\n", mode.label());
            assert_eq!(parse(&format!("{HEAD}{line}")).unwrap().server.mode, mode);
        }
    }
}
