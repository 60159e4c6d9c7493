//! What the steering program decided about a packet, and why.

macro_rules! verdicts {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// What became of a packet. Every packet is counted under exactly one of these, at this index of
        /// [`VERDICTS_MAP`](crate::VERDICTS_MAP). All but [`Redirected`](Self::Redirected) go to the kernel
        /// untouched.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Verdict {
            $($(#[$doc])* $variant,)+
        }

        impl Verdict {
            /// In the order of their indices.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// As metrics and reports call it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

verdicts! {
    /// A UDP datagram to a listener, handed to the AF_XDP socket of its queue.
    Redirected = "redirected",
    /// ARP, LLDP, 802.3, PPPoE and the like, or an IP version that contradicts the EtherType.
    NotIp = "not_ip",
    /// More than two VLAN tags.
    VlanTooDeep = "vlan_too_deep",
    /// DNS over TCP among it: the kernel's to handle.
    Tcp = "tcp",
    /// ICMP and every other protocol over IP.
    NotUdp = "not_udp",
    /// Part of a fragmented datagram: only the kernel can put it together.
    Fragment = "fragment",
    /// An IPv4 header longer than 20 bytes.
    IpOptions = "ip_options",
    /// An IPv6 extension header between IP and UDP.
    ExtensionHeader = "extension_header",
    /// Cut short, or the lengths of frame, IP and UDP contradict each other.
    BadLength = "bad_length",
    /// UDP in a frame to a broadcast or multicast MAC: an answer would let one packet raise many.
    GroupAddress = "group_address",
    /// UDP to an address or port that is not a listener's.
    OtherDestination = "other_address_or_port",
    /// For a listener, but its queue has no socket: the kernel's socket answers, if there is one.
    NoSocket = "no_socket",
    /// Longer than [`MAX_FRAME`](crate::MAX_FRAME): for a listener, or in several buffers of which the program sees the
    /// first. Only the kernel can take it whole.
    Oversize = "oversize",
}

impl Verdict {
    pub const COUNT: u32 = Self::ALL.len() as u32;

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
