//! VLAN tags of a frame, in the form that the kernel hashes.

/// Most VLANs of an interface whose frames are steered.
pub const MAX_VLANS: u32 = 4096;

/// EtherType of an 802.1Q tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of an 802.1ad tag.
pub const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;

/// Bits of a tag's control field that are the VLAN's id. The others are priorities.
const ID_BITS: u16 = 0x0fff;

/// Key of [`VLANS_MAP`](crate::VLANS_MAP): the VLAN that a frame's tags name, outermost first.
///
/// Each tag is its EtherType and its id, zero where there is none. A tag with id 0 has a priority
/// alone, and names no VLAN.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VlanKey {
    outer: u32,
    inner: u32,
}

impl VlanKey {
    /// Returns the key with one more tag inside. A third one has no place.
    #[inline(always)]
    pub fn with(self, ethertype: u16, control: u16) -> Self {
        let id = control & ID_BITS;
        let tag = (ethertype as u32) << 16 | id as u32;
        if id == 0 {
            self
        } else if self.outer == 0 {
            Self { outer: tag, ..self }
        } else {
            Self { inner: tag, ..self }
        }
    }

    /// Whether the frame is in no VLAN.
    #[inline(always)]
    pub fn is_none(&self) -> bool {
        self.outer == 0
    }

    /// Whether there is no place for another tag.
    pub fn is_full(&self) -> bool {
        self.inner != 0
    }
}

// SAFETY: `repr(C)`, two numbers of one size, so without padding, and any numbers are a valid value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for VlanKey {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_name_no_vlan() {
        let none = VlanKey::default();
        assert!(none.with(ETHERTYPE_VLAN, 0xe000).is_none());
        let seven = none.with(ETHERTYPE_VLAN, 7);
        assert!(!seven.is_none() && !seven.is_full());
        assert_eq!(none.with(ETHERTYPE_VLAN, 0x6000).with(ETHERTYPE_VLAN, 0xe007), seven);
        assert_eq!(seven.with(ETHERTYPE_VLAN, 0x2000), seven);
        assert_ne!(none.with(ETHERTYPE_SERVICE_VLAN, 7), seven);
    }

    #[test]
    fn the_order_of_tags_counts() {
        let key = |outer, inner| VlanKey::default().with(ETHERTYPE_VLAN, outer).with(ETHERTYPE_VLAN, inner);
        assert!(key(7, 8).is_full());
        assert_ne!(key(7, 8), key(8, 7));
    }
}
