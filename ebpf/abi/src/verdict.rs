//! Verdicts of the steering program about packets.

macro_rules! verdicts {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Verdict about a packet. Every packet is counted under exactly one of these, at this
        /// index of [`VERDICTS_MAP`](crate::VERDICTS_MAP). All but [`Redirected`](Self::Redirected)
        /// and those [about the source](Self::is_about_source) go to the kernel unchanged.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Verdict {
            $($(#[$doc])* $variant,)+
        }

        impl Verdict {
            /// All verdicts, in the order of their indices.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Returns the name in metrics and reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

verdicts! {
    /// A UDP datagram to a listener, redirected to the AF_XDP socket of its queue.
    Redirected = "redirected",
    /// ARP, LLDP, 802.3, PPPoE and the like, or an IP version that contradicts the EtherType.
    NotIp = "not_ip",
    /// More than two VLAN tags.
    VlanTooDeep = "vlan_too_deep",
    /// TCP, including DNS over TCP: handled by the kernel.
    Tcp = "tcp",
    /// ICMP and every other protocol over IP.
    NotUdp = "not_udp",
    /// Part of a fragmented datagram, which only the kernel can reassemble.
    Fragment = "fragment",
    /// An IPv4 header longer than 20 bytes.
    IpOptions = "ip_options",
    /// An IPv6 extension header between IP and UDP.
    ExtensionHeader = "extension_header",
    /// Truncated, or the lengths of frame, IP and UDP contradict each other.
    BadLength = "bad_length",
    /// UDP in a frame to a broadcast or multicast MAC: with answers, one packet would cause many.
    GroupAddress = "group_address",
    /// To a listener, from an address of this host or the broadcast address of a network that it is
    /// in: no host asks itself over a wire. Dropped.
    OwnSource = "own_source",
    /// To a listener, from an address that no packet on a link has: unspecified, loopback, multicast,
    /// reserved, broadcast, or a form of an IPv4 address in IPv6. Dropped.
    MartianSource = "martian_source",
    /// To a listener, from a multicast or broadcast MAC address, which no host has. Dropped.
    GroupSource = "group_source",
    /// To a listener, from a client that is banned for a time, since it is far above the rate limit.
    /// Dropped.
    Banned = "banned",
    /// To a listener, from a client that the access list denies, if denied clients get no answer
    /// (`access.refused = "drop"`). Dropped.
    Denied = "denied",
    /// To a listener, in a frame to another host: a NIC in promiscuous mode receives such frames.
    OtherLinkAddress = "other_link_address",
    /// To a listener, in a VLAN that is neither listed nor has a device on the interface.
    OtherVlan = "other_vlan",
    /// To a listener's port, at an address that this host does not have: in transit, or a broadcast.
    NotLocal = "not_local",
    /// UDP to an address or port without a listener.
    OtherDestination = "other_address_or_port",
    /// To a listener, but its queue has no socket: the kernel's socket answers, if there is one.
    NoSocket = "no_socket",
    /// Longer than [`MAX_FRAME`](crate::MAX_FRAME): to a listener, or in several buffers, of which
    /// the program sees only the first. Only the kernel can receive it whole.
    Oversize = "oversize",
}

impl Verdict {
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// Whether the packet is dropped for its source, unless it came in on the loopback interface.
    #[inline(always)]
    pub const fn is_about_source(self) -> bool {
        matches!(
            self,
            Self::OwnSource | Self::MartianSource | Self::GroupSource | Self::Banned | Self::Denied
        )
    }

    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_in_index_order() {
        for (position, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(verdict.index() as usize, position, "{}", verdict.name());
        }
    }
}
