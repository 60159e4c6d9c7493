//! Frame of an XDP context.

use aya_ebpf::{helpers::bpf_xdp_get_buff_len, programs::XdpContext};
use ringdns_abi::Packet;

/// Bytes of one frame, from its Ethernet header on.
///
/// Borrows the context, since helpers that move the ends of the packet make these pointers stale.
pub struct Frame<'a> {
    context: &'a XdpContext,
}

impl<'a> Frame<'a> {
    #[inline(always)]
    pub fn new(context: &'a XdpContext) -> Self {
        Self { context }
    }
}

impl Frame<'_> {
    /// Returns the number of bytes that the program can read: all, or those in the first buffer.
    #[inline(always)]
    pub fn linear_len(&self) -> usize {
        self.context.data_end() - self.context.data()
    }

    /// Returns the number of bytes in all buffers. Linux before 5.18 refuses programs that call it.
    #[inline(always)]
    pub fn total_len(&self) -> usize {
        // SAFETY: the context is the one that the kernel called the program with.
        unsafe { bpf_xdp_get_buff_len(self.context.ctx) as usize }
    }
}

impl Packet for Frame<'_> {
    #[inline(always)]
    fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        let start = self.context.data() + offset;
        if start + N > self.context.data_end() {
            return None;
        }
        // SAFETY: the N bytes from `start` on end before `data_end`, as just compared, and the
        // kernel keeps the bytes between `data` and `data_end` readable as long as the program
        // runs. Bytes need no alignment.
        Some(unsafe { &*(start as *const [u8; N]) })
    }

    #[inline(always)]
    fn reaches(&self, length: usize) -> bool {
        // A length in network order has been byte-swapped. Verifiers before Linux 6.19 then know no
        // bounds of it, and refuse to add it to a packet pointer. The difference of the two ends is
        // a number that they can compare with anything.
        length <= self.linear_len()
    }
}
