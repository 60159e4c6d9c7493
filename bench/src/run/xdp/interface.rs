//! Interface of the generator: its addresses and its counters.

use anyhow::{Context, Result, bail, ensure};
use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};
use procfs::{
    FromRead,
    net::{DeviceStatus, InterfaceDeviceStatus},
};
use serde_json::Value;
use std::{
    net::IpAddr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// Time within which a link must come back.
const LINK_PATIENCE: Duration = Duration::from_secs(15);
const LINK_CHECK: Duration = Duration::from_millis(20);

/// Interface of this network namespace.
#[derive(Debug)]
pub struct Device {
    /// Name of the interface.
    pub name: String,
    /// Index of the interface.
    pub index: u32,
    /// MAC address.
    pub mac: [u8; 6],
    /// IP address, of the target's family.
    pub address: IpAddr,
}

/// Counters of packets since the interface was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Number of packets received.
    pub rx_packets: u64,
    /// Number of packets sent.
    pub tx_packets: u64,
    /// Bytes received, from Ethernet header to the end of the packet.
    pub rx_bytes: u64,
}

impl Device {
    /// Finds the interface called `name`, with an address to ask `target` from.
    pub fn find(name: &str, target: IpAddr) -> Result<Self> {
        let mut link = None;
        let mut address = None;
        for found in getifaddrs().context("cannot list the interfaces")?.filter(|i| i.interface_name == name)
        {
            let Some(of) = found.address else { continue };
            if let Some(ethernet) = of.as_link_addr() {
                link = Some((ethernet.ifindex() as u32, ethernet.addr()));
            }
            let ip = match target {
                IpAddr::V4(_) => of.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip())),
                IpAddr::V6(_) => of.as_sockaddr_in6().map(|v6| v6.ip()).filter(is_routed).map(IpAddr::from),
            };
            address = address.or(ip);
        }
        let Some((index, mac)) = link else {
            bail!("there is no interface \"{name}\" in this network namespace: see `ip link`");
        };
        let family = if target.is_ipv4() { "IPv4" } else { "IPv6" };
        Ok(Device {
            name: name.into(),
            index,
            mac: mac.with_context(|| format!("{name} is not an Ethernet interface"))?,
            address: address.with_context(|| {
                format!(
                    "{name} has no {family} address to ask {target} from: give it one with `ip address add`"
                )
            })?,
        })
    }

    /// Returns the MAC address of a neighbour, from the kernel's table.
    pub fn neighbour(&self, ip_address: IpAddr) -> Result<[u8; 6]> {
        let table = ip(&["neighbour", "show", "to", &ip_address.to_string(), "dev", &self.name])?;
        let known = table.as_array().into_iter().flatten().find_map(|entry| entry["lladdr"].as_str());
        let known = known.with_context(|| {
            format!(
                "the kernel does not know the MAC address of {ip_address} on {}: ping it first, or give --server-mac",
                self.name
            )
        })?;
        parse_mac(known).map_err(anyhow::Error::msg)
    }

    /// Waits until the interface has a link: some drivers take it down for seconds when an XDP program comes or goes.
    pub fn wait_for_link(&self) -> Result<()> {
        let deadline = Instant::now() + LINK_PATIENCE;
        while !self.is_running()? {
            ensure!(
                Instant::now() < deadline,
                "{} has had no link for {LINK_PATIENCE:?}: is it up (`ip link set {} up`), and is the cable plugged in?",
                self.name,
                self.name
            );
            thread::sleep(LINK_CHECK);
        }
        Ok(())
    }

    fn is_running(&self) -> Result<bool> {
        let mut all = getifaddrs().context("cannot list the interfaces")?;
        Ok(all.any(|i| i.interface_name == self.name && i.flags.contains(InterfaceFlags::IFF_RUNNING)))
    }

    /// Returns the interface's counters so far.
    pub fn counters(&self) -> Result<Counters> {
        // The file of this thread's network namespace; sysfs shows the namespace of its mount.
        const FILE: &str = "/proc/thread-self/net/dev";
        let all = InterfaceDeviceStatus::from_file(FILE).with_context(|| format!("cannot read {FILE}"))?;
        let DeviceStatus { recv_packets, sent_packets, recv_bytes, .. } =
            all.0.get(&self.name).with_context(|| format!("{FILE} does not list {}", self.name))?;
        Ok(Counters { rx_packets: *recv_packets, tx_packets: *sent_packets, rx_bytes: *recv_bytes })
    }
}

/// Runs `ip -json`, and returns its output.
pub fn ip(arguments: &[&str]) -> Result<Value> {
    let output = Command::new("ip").arg("-json").args(arguments).output();
    let output = output.context("cannot run `ip`: install iproute2")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip {}` failed: {}", arguments.join(" "), said.trim());
    // `ip -json` prints an empty list as nothing at all.
    if output.stdout.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_slice(&output.stdout)
        .context("the output of `ip -json` is not JSON: is it iproute2's `ip`?")
}

/// Whether an address works without a zone, which link-local addresses need.
fn is_routed(ip: &std::net::Ipv6Addr) -> bool {
    !ip.is_unicast_link_local()
}

/// Parses a MAC address, six bytes in hexadecimal.
pub fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let mac = bytes.and_then(|bytes| bytes.try_into().ok());
    mac.ok_or_else(|| format!("\"{text}\" is not a MAC address: write six bytes, as in 02:00:00:00:53:02"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_have_six_bytes() {
        assert_eq!(parse_mac("02:00:00:00:53:fe"), Ok([2, 0, 0, 0, 0x53, 0xfe]));
        assert!(parse_mac("02:00:00:00:53").is_err());
        assert!(parse_mac("02:00:00:00:53:fg").is_err());
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let error = Device::find("none0", "192.0.2.1".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("none0"), "{error}");
    }
}
