//! Link addresses of this host, in the form that the program compares.

/// Most link addresses for which packets are steered: of the interface, and of others on top of it.
pub const MAX_LINK_ADDRESSES: u32 = 8;

/// Returns a MAC address as a value of [`LINK_ADDRESSES_MAP`](crate::LINK_ADDRESSES_MAP). Zero, which
/// no NIC has, marks a place as free.
#[inline(always)]
pub fn link_address(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

/// Whether a frame to `mac` is for this host. `known` returns the values of the map. If it has none,
/// every frame is.
#[inline(always)]
pub fn is_for_this_host(mac: [u8; 6], known: impl Fn(u32) -> Option<u64>) -> bool {
    let address = link_address(mac);
    for index in 0..MAX_LINK_ADDRESSES {
        match known(index) {
            None | Some(0) => return index == 0,
            Some(own) if own == address => return true,
            Some(_) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_for_the_known_addresses_or_for_all() {
        let macs = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]];
        let known = |count: usize| {
            move |index: u32| Some(macs[..count].get(index as usize).map_or(0, |mac| link_address(*mac)))
        };
        for (count, for_us) in [(0, [true; 3]), (1, [true, false, false]), (2, [true, true, false])] {
            assert_eq!(macs.map(|mac| is_for_this_host(mac, known(count))), for_us, "{count}");
        }
        let full = |_| Some(link_address(macs[0]));
        assert!(is_for_this_host(macs[0], full) && !is_for_this_host(macs[1], full));
    }
}
