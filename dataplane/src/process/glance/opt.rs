//! OPT record of a query, and of its reply.

use crate::packet::plain::{Window, bytes, bytes_mut};
use zerocopy::transmute;

/// First eight of the eleven bytes of an OPT record of version 0 without options (RFC 6891 section
/// 6.1.2), as on the wire. The other three are zero.
#[derive(Clone, Copy, Debug)]
pub struct Opt(u64);

impl Opt {
    const BARE: u64 = u64::from_ne_bytes([0, 0, 41, 0, 0, 0, 0, 0]);
    const SIZE: u64 = u64::from_ne_bytes([0, 0, 0, 0xff, 0xff, 0, 0, 0]);
    const DO: u64 = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, 0x80]);

    #[inline(always)]
    pub(super) fn read(window: &Window, at: usize) -> Option<Self> {
        let opt = u64::from_ne_bytes(*bytes(window, at));
        let [_, rest @ ..]: [u8; 4] = *bytes(window, at + 7);
        (opt & !(Self::SIZE | Self::DO) == Self::BARE && rest == [0; 3]).then_some(Opt(opt))
    }

    /// Returns a record that may have options, without them, and their length in bytes.
    #[inline(always)]
    pub fn read_with_options(window: &Window, at: usize) -> Option<(Self, usize)> {
        let opt = u64::from_ne_bytes(*bytes(window, at));
        let [flags, l1, l0] = *bytes(window, at + 8);
        let is_known = opt & !(Self::SIZE | Self::DO) == Self::BARE && flags == 0;
        is_known.then_some((Opt(opt), usize::from(u16::from_be_bytes([l1, l0]))))
    }

    #[inline(always)]
    pub fn udp_size(self) -> u16 {
        let [_, _, _, size1, size0, ..] = self.0.to_ne_bytes();
        u16::from_be_bytes([size1, size0])
    }

    #[inline(always)]
    pub fn dnssec_ok(self) -> u8 {
        let [.., flags] = self.0.to_ne_bytes();
        flags >> 7
    }

    /// Returns the OPT record that advertises `udp_size`.
    pub fn of(udp_size: u16) -> Self {
        let [size1, size0] = udp_size.to_be_bytes();
        Opt(u64::from_ne_bytes([0, 0, 41, size1, size0, 0, 0, 0]))
    }

    /// Returns the record with the client's DO flag.
    #[inline(always)]
    pub(super) fn with_do(self, dnssec_ok: u8) -> Self {
        Opt(self.0 | (u64::from(dnssec_ok) << 63).to_le())
    }

    #[inline(always)]
    pub(super) fn write(self, window: &mut Window, at: usize) {
        *bytes_mut(window, at) = self.0.to_ne_bytes();
        *bytes_mut(window, at + 8) = [0; 3];
    }

    /// Returns the record's sum at offset `at` of a message, less than 2^26.
    #[inline(always)]
    pub fn sum(self, at: usize) -> u32 {
        let words: [u16; 4] = transmute!(self.0);
        words.map(u32::from).iter().sum::<u32>() << (8 * (at & 1))
    }
}
