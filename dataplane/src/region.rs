//! Anonymous memory for frames, cache slabs and the index, on huge pages if the host has reserved
//! any.

mod ahead;

use ahead::Ahead;
pub use ahead::{Populator, PopulatorThread};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::{
    io,
    marker::PhantomData,
    ops::{Deref, DerefMut, Range},
    ptr::{self, NonNull},
    slice,
    sync::Arc,
};
use zerocopy::FromZeros;

/// A private, zeroed, page-aligned mapping; unmapped when dropped.
#[derive(Debug)]
pub struct Region {
    base: NonNull<u8>,
    len: usize,
    pages: Pages,
    /// Pages that are populated ahead of their use; `None`: none are.
    ahead: Option<Arc<Ahead>>,
}

/// Kind of pages that back a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Reserved pages of 2 MiB (`vm.nr_hugepages`).
    Huge,
    /// Ordinary pages, which the kernel may merge (transparent huge pages).
    Ordinary,
}

// SAFETY: the mapping is private to this value, which hands out its bytes only by `&self` and `&mut self`.
unsafe impl Send for Region {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Region {}

/// Size of a huge page in bytes.
pub const HUGE_PAGE: usize = 2 << 20;

impl Region {
    /// Maps at least `len` bytes: on huge pages if enough are reserved, else on ordinary ones.
    ///
    /// The kernel allocates ordinary pages when they are first written, on the NUMA node of the
    /// writing thread: map from the worker.
    pub fn new(len: usize) -> io::Result<Self> {
        let huge = len.next_multiple_of(HUGE_PAGE);
        if let Ok(base) = map(huge, MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::POPULATE) {
            return Ok(Region { base, len: huge, pages: Pages::Huge, ahead: None });
        }
        let len = len.next_multiple_of(4096);
        let base = map(len, MapFlags::PRIVATE)?;
        // SAFETY: the range is the mapping just made, which this value owns. The advice changes no contents.
        let advised = unsafe { rustix::mm::madvise(base.as_ptr().cast(), len, Advice::LinuxHugepage) };
        if let Err(error) = advised {
            // Kernels without transparent huge pages return EINVAL; the region then uses ordinary
            // pages.
            tracing::debug!(%error, "no transparent huge pages");
        }
        Ok(Region { base, len, pages: Pages::Ordinary, ahead: None })
    }

    /// Returns the kind of pages that back the region.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// Has `populator` populate pages that [`will_use`](Self::will_use) asks for from now on. Call it on the
    /// thread that uses the region: the pages will be on the NUMA node of its core.
    ///
    /// Changes nothing for reserved pages, which are populated already, and where the node cannot be chosen.
    pub fn populate_by(&mut self, populator: &Populator) {
        if self.pages == Pages::Huge || self.ahead.is_some() {
            return;
        }
        let start = self.base.as_ptr().addr();
        let addresses = start..start + self.len;
        match prefer_own_node(addresses.clone()) {
            Ok(()) => self.ahead = Some(populator.take_on(addresses)),
            // Another thread would get pages of its own node, which may be another.
            Err(error) => tracing::debug!(%error, "memory is not populated ahead of its use"),
        }
    }

    /// Asks for the pages with these bytes, if another thread populates the region's. Bytes beyond the
    /// region are ignored. Cheap enough for each half of a huge page, not for each byte.
    #[cold]
    pub fn will_use(&self, bytes: Range<usize>) {
        if let Some(ahead) = &self.ahead {
            let start = self.base.as_ptr().addr();
            ahead.ask(start + bytes.start.min(self.len)..start + bytes.end.min(self.len));
        }
    }

    /// Whether the page with this byte was ever asked for; `None`: no thread populates the region's pages.
    #[cfg(test)]
    pub fn was_asked(&self, byte: usize) -> Option<bool> {
        self.ahead.as_ref().map(|ahead| ahead.was_asked(self.base.as_ptr().addr() + byte))
    }

    /// Returns the address of the first byte, for memory that others also write: no reference may
    /// cover what they write.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Returns the whole region.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `base..base + len` is mapped readable until drop, and `&self` excludes writers.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// Returns the whole region, for writing.
    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `base..base + len` is mapped writable until drop, and `&mut self` is exclusive.
        unsafe { slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

/// Table of a fixed number of values in a region: a large table that is read at random needs the
/// reach of huge pages, or nearly every access misses the TLB.
#[derive(Debug)]
pub struct Table<T> {
    region: Region,
    len: usize,
    values: PhantomData<T>,
}

impl<T: FromZeros> Table<T> {
    /// Maps a table of `len` values whose bytes are all zero.
    pub fn new(len: usize) -> io::Result<Self> {
        const { assert!(align_of::<T>() <= 4096 && size_of::<T>() > 0) };
        let bytes = len.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Table { region: Region::new(bytes)?, len, values: PhantomData })
    }

    /// Has `populator` populate pages ahead of their use: see [`Region::populate_by`].
    pub fn populate_by(&mut self, populator: &Populator) {
        self.region.populate_by(populator);
    }

    /// Asks for the pages with these values: see [`Region::will_use`].
    pub fn will_use(&self, values: Range<usize>) {
        let place = |value: usize| value.min(self.len) * size_of::<T>();
        self.region.will_use(place(values.start)..place(values.end));
    }
}

#[cfg(test)]
impl<T> Table<T> {
    /// Whether the page with this value was ever asked for: see [`Region::was_asked`].
    pub fn was_asked(&self, value: usize) -> Option<bool> {
        self.region.was_asked(value * size_of::<T>())
    }
}

impl<T: FromZeros> Deref for Table<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the region has at least `len` values' bytes and the alignment of a page. They are zeros, which
        // `FromZeros` makes values of `T`, or were written as `T`; `&self` excludes writers.
        unsafe { slice::from_raw_parts(self.region.base.as_ptr().cast(), self.len) }
    }
}

impl<T: FromZeros> DerefMut for Table<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` is exclusive.
        unsafe { slice::from_raw_parts_mut(self.region.base.as_ptr().cast(), self.len) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(ahead) = &self.ahead {
            ahead.close();
        }
        // SAFETY: the mapping was made by `new` with this length, and no borrow of it outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of an own mapping");
    }
}

fn map(len: usize, flags: MapFlags) -> io::Result<NonNull<u8>> {
    // SAFETY: a new anonymous mapping at an address of the kernel's choice disturbs no existing memory.
    let base = unsafe {
        rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags)
    }?;
    NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mmap returned the null page"))
}

/// Populates the pages at these addresses, which an own mapping has, as a write would.
fn populate(addresses: Range<usize>) -> io::Result<()> {
    let start = ptr::without_provenance_mut(addresses.start);
    // SAFETY: the advice changes no contents, and the addresses are only a number to the kernel.
    unsafe { rustix::mm::madvise(start, addresses.len(), Advice::LinuxPopulateWrite) }?;
    Ok(())
}

/// Has the kernel take the pages at these addresses from the NUMA node of this thread's core, as long as it
/// has free ones, whichever thread writes to them first.
fn prefer_own_node(addresses: Range<usize>) -> io::Result<()> {
    let (mut core, mut node) = (0u32, 0u32);
    // SAFETY: the kernel writes two numbers to the places given; the third argument is unused.
    let read = unsafe { libc::syscall(libc::SYS_getcpu, &raw mut core, &raw mut node, 0usize) };
    if read != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut nodes = [0 as libc::c_ulong; NODES / libc::c_ulong::BITS as usize];
    let (word, bit) = (node / libc::c_ulong::BITS, node % libc::c_ulong::BITS);
    let set = nodes.get_mut(word as usize).ok_or(io::ErrorKind::Unsupported)?;
    *set = 1 << bit;
    // The kernel reads one bit less than it is told (mbind(2)).
    let (mask, bits) = (nodes.as_ptr(), NODES + 1);
    // SAFETY: the mask has as many bits as the kernel reads, and a policy for pages changes no contents.
    let chosen = unsafe {
        libc::syscall(libc::SYS_mbind, addresses.start, addresses.len(), libc::MPOL_PREFERRED, mask, bits, 0)
    };
    let error = io::Error::last_os_error();
    // A kernel without NUMA has one node.
    if chosen == 0 || error.raw_os_error() == Some(libc::ENOSYS) { Ok(()) } else { Err(error) }
}

/// Most NUMA nodes that Linux has (`CONFIG_NODES_SHIFT` is at most 10).
const NODES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_begins_as_zeros_and_keeps_what_is_written() {
        let mut table = Table::<[u32; 3]>::new(100_000).unwrap();
        assert_eq!(table.len(), 100_000);
        assert!(table.iter().all(|value| *value == [0; 3]));
        table[0] = [1, 2, 3];
        table[99_999] = [4, 5, 6];
        assert_eq!((table[0], table[1], table[99_999]), ([1, 2, 3], [0; 3], [4, 5, 6]));
    }

    #[test]
    fn a_table_that_no_memory_can_hold_is_refused() {
        assert!(Table::<u64>::new(usize::MAX / 2).is_err());
        assert!(Table::<u64>::new(1 << 58).is_err());
    }
}
