//! Memory of a ring, mapped from its socket.

use super::ring::{RingCounter, RingEntry, RingMemory};
use rustix::{
    mm::{MapFlags, ProtFlags},
    net::xdp::XdpRingOffset,
};
use std::{
    io,
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Mapped ring; unmapped when dropped.
///
/// The mapping may outlive the socket's file descriptor: the kernel keeps the ring as long as it is
/// mapped.
pub(super) struct RingMap {
    base: NonNull<u8>,
    len: usize,
    /// Counters, indexed by [`Counter`].
    counters: [NonNull<AtomicU32>; 3],
    words: NonNull<AtomicU64>,
    /// Number of entries: a power of two.
    size: u32,
    /// Number of words less one: a power of two less one.
    mask: u32,
}

// SAFETY: the mapping belongs to this value alone on our side, and every access to it is atomic.
unsafe impl Send for RingMap {}

impl RingMap {
    /// Maps the ring of `size` entries of type `T` that the kernel offers at `page_offset`, laid out as `offsets` says.
    pub(super) fn new<T: RingEntry>(
        socket: BorrowedFd<'_>,
        page_offset: u64,
        offsets: &XdpRingOffset,
        size: u32,
    ) -> io::Result<RingMap> {
        let layout = Layout::check::<T>(offsets, size).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the kernel lays rings out in an unknown way")
        })?;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no existing memory.
        let base = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                layout.len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
                socket,
                page_offset,
            )
        }?;
        let base =
            NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::other("mmap returned the null page"))?;
        let at = |offset: usize| {
            debug_assert!(offset < layout.len);
            // SAFETY: `Layout` holds only offsets that it has checked to lie, with what stands there, within `len` bytes
            // of the mapping that was just made.
            unsafe { base.add(offset) }
        };
        Ok(RingMap {
            base,
            len: layout.len,
            counters: layout.counters.map(|offset| at(offset).cast()),
            words: at(layout.words).cast(),
            size,
            mask: layout.mask,
        })
    }

    #[inline(always)]
    fn counter(&self, counter: RingCounter) -> &AtomicU32 {
        let counter = self.counters[counter as usize];
        // SAFETY: aligned and within the mapping (`Layout`), which lives as long as `self`. The kernel has given it a
        // value, and both sides access it atomically.
        unsafe { counter.as_ref() }
    }

    #[inline(always)]
    fn atomic_word(&self, index: u32) -> &AtomicU64 {
        // SAFETY: `mask` is the number of words less one, and `Layout` has checked that as many lie in the mapping.
        let word = unsafe { self.words.add((index & self.mask) as usize) };
        // SAFETY: as in `counter`.
        unsafe { word.as_ref() }
    }
}

impl RingMemory for RingMap {
    #[inline(always)]
    fn size(&self) -> u32 {
        self.size
    }

    #[inline(always)]
    fn load(&self, counter: RingCounter, order: Ordering) -> u32 {
        self.counter(counter).load(order)
    }

    #[inline(always)]
    fn store(&self, counter: RingCounter, value: u32, order: Ordering) {
        self.counter(counter).store(value, order);
    }

    #[inline(always)]
    fn word(&self, index: u32) -> u64 {
        self.atomic_word(index).load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn set_word(&self, index: u32, word: u64) {
        self.atomic_word(index).store(word, Ordering::Relaxed);
    }
}

impl Drop for RingMap {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and no borrow of it outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of an own mapping");
    }
}

/// Offsets of the parts of a ring, in bytes from the start of its mapping: aligned, and within its
/// length.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    /// Offsets of the counters, indexed by [`Counter`].
    counters: [usize; 3],
    words: usize,
    len: usize,
    mask: u32,
}

impl Layout {
    /// Checks the kernel's offsets of a ring of `size` entries. Returns `None` if they are invalid,
    /// or if the kernel is too old to have flags (before Linux 5.4).
    fn check<T: RingEntry>(offsets: &XdpRingOffset, size: u32) -> Option<Layout> {
        let count = size.checked_mul(T::WORDS)?;
        let words = usize::try_from(offsets.desc).ok()?;
        let len = (count as usize).checked_mul(size_of::<AtomicU64>())?.checked_add(words)?;
        let counter = |offset: u64| {
            let offset = usize::try_from(offset).ok()?;
            let end = offset.checked_add(size_of::<AtomicU32>())?;
            (offset.is_multiple_of(align_of::<AtomicU32>()) && end <= len).then_some(offset)
        };
        let layout = Layout {
            counters: [counter(offsets.producer)?, counter(offsets.consumer)?, counter(offsets.flags?)?],
            words,
            len,
            mask: count.checked_sub(1)?,
        };
        (count.is_power_of_two() && words.is_multiple_of(align_of::<AtomicU64>())).then_some(layout)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ring::Desc, *};

    /// Offsets of Linux 6.18 on x86-64.
    const OFFSETS: XdpRingOffset = XdpRingOffset { producer: 0, consumer: 64, flags: Some(128), desc: 192 };

    #[test]
    fn the_kernels_layout_is_taken() {
        let layout = Layout::check::<Desc>(&OFFSETS, 64).unwrap();
        assert_eq!((layout.words, layout.len, layout.mask), (192, 192 + 64 * 16, 127));
        let layout = Layout::check::<u64>(&OFFSETS, 64).unwrap();
        assert_eq!((layout.words, layout.len, layout.mask), (192, 192 + 64 * 8, 63));
    }

    #[test]
    fn a_layout_that_leaves_its_mapping_or_is_not_aligned_is_refused() {
        let end = 192 + 64 * 8;
        for offsets in [
            XdpRingOffset { producer: end - 3, ..OFFSETS },
            XdpRingOffset { producer: 2, ..OFFSETS },
            XdpRingOffset { consumer: end, ..OFFSETS },
            XdpRingOffset { consumer: u64::MAX, ..OFFSETS },
            XdpRingOffset { flags: Some(u64::MAX - 3), ..OFFSETS },
            XdpRingOffset { flags: None, ..OFFSETS },
            XdpRingOffset { desc: u64::MAX - 7, ..OFFSETS },
            XdpRingOffset { desc: 196, ..OFFSETS },
        ] {
            assert_eq!(Layout::check::<u64>(&offsets, 64), None, "{offsets:?}");
        }
        assert_eq!(Layout::check::<u64>(&OFFSETS, 0), None);
        assert_eq!(Layout::check::<u64>(&OFFSETS, 63), None);
        assert_eq!(Layout::check::<Desc>(&OFFSETS, u32::MAX), None);
    }
}
