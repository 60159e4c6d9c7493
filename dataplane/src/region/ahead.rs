//! Pages that another thread populates ahead of their use.
//!
//! The first write to a page makes the kernel find one and clear it. For a page of 2 MiB that takes a tenth
//! of a millisecond, in a virtual machine some milliseconds, and more where the kernel has to compact memory
//! first. The worker whose cache grows would answer nothing meanwhile. So it asks for the pages that it is
//! about to use, and the thread of a [`Populator`] has the kernel populate them. A page that comes too late
//! costs the worker the first write, as without the thread.

use super::{HUGE_PAGE, populate};
use std::{
    io,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle, Thread},
};

/// Bits of a word of a set of pages.
const WORD: usize = u64::BITS as usize;

/// Handle of the thread that populates pages: regions ask it.
#[derive(Clone, Debug)]
pub struct Populator {
    shared: Arc<Shared>,
    thread: Thread,
}

/// The thread that populates pages. Dropping it ends the thread.
#[derive(Debug)]
pub struct PopulatorThread {
    populator: Populator,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    regions: Mutex<Vec<Arc<Ahead>>>,
    is_stopped: AtomicBool,
}

/// Pages of one region that the thread is asked for.
#[derive(Debug)]
pub struct Ahead {
    /// Addresses of the region; `None`: it is no longer mapped.
    mapped: Mutex<Option<Range<usize>>>,
    /// Number of the page with the region's first byte.
    first: usize,
    /// Pages that were ever asked for, a bit each.
    asked: Box<[AtomicU64]>,
    /// Pages of these that the thread has yet to look at.
    wanted: Box<[AtomicU64]>,
    populator: Populator,
}

impl PopulatorThread {
    /// Starts the thread with this name, which first calls `begin`.
    pub fn start(name: &str, begin: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let work = shared.clone();
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            begin();
            work.run();
        })?;
        let populator = Populator { shared, thread: thread.thread().clone() };
        Ok(PopulatorThread { populator, thread: Some(thread) })
    }

    /// Returns a handle for regions.
    pub fn populator(&self) -> Populator {
        self.populator.clone()
    }
}

impl Drop for PopulatorThread {
    fn drop(&mut self) {
        self.populator.shared.is_stopped.store(true, Ordering::Release);
        self.populator.thread.unpark();
        if let Some(thread) = self.thread.take() {
            // It cannot panic but for a failed allocation.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Populates pages until the thread is stopped.
    fn run(&self) {
        while !self.is_stopped.load(Ordering::Acquire) {
            let regions = lock(&self.regions).clone();
            let populated: usize = regions.iter().map(|region| region.populate()).sum();
            if populated == 0 {
                drop(regions);
                thread::park();
            }
        }
    }
}

impl Populator {
    /// Takes on the region at these addresses.
    pub(super) fn take_on(&self, mapped: Range<usize>) -> Arc<Ahead> {
        let first = mapped.start / HUGE_PAGE;
        let words = (mapped.end / HUGE_PAGE - first + 1).div_ceil(WORD);
        let set = || (0..words).map(|_| AtomicU64::new(0)).collect();
        let mapped = Mutex::new(Some(mapped));
        let ahead = Arc::new(Ahead { mapped, first, asked: set(), wanted: set(), populator: self.clone() });
        lock(&self.shared.regions).push(ahead.clone());
        ahead
    }
}

impl Ahead {
    /// Asks for the pages with these addresses, of each only once.
    pub(super) fn ask(&self, addresses: Range<usize>) {
        if addresses.is_empty() {
            return;
        }
        let mut is_new = false;
        for page in addresses.start / HUGE_PAGE..=(addresses.end - 1) / HUGE_PAGE {
            let (word, bit) = self.place(page);
            if let (Some(asked), Some(wanted)) = (self.asked.get(word), self.wanted.get(word))
                && asked.fetch_or(bit, Ordering::Relaxed) & bit == 0
            {
                // Before the thread is woken: it sees the bit if it sees the wake.
                wanted.fetch_or(bit, Ordering::Release);
                is_new = true;
            }
        }
        if is_new {
            self.populator.thread.unpark();
        }
    }

    /// Whether the page with this address was ever asked for.
    #[cfg(test)]
    pub(super) fn was_asked(&self, address: usize) -> bool {
        let (word, bit) = self.place(address / HUGE_PAGE);
        self.asked[word].load(Ordering::Relaxed) & bit != 0
    }

    fn place(&self, page: usize) -> (usize, u64) {
        let nth = page.wrapping_sub(self.first);
        (nth / WORD, 1 << (nth % WORD))
    }

    /// Populates the pages that were asked for, and returns their number.
    fn populate(&self) -> usize {
        let mut count = 0;
        for (word, wanted) in self.wanted.iter().enumerate() {
            let mut pages = wanted.swap(0, Ordering::Acquire);
            while pages != 0 {
                let nth = word * WORD + pages.trailing_zeros() as usize;
                pages &= pages - 1;
                count += 1;
                // Locked for one page: who unmaps the region waits for that.
                let mapped = lock(&self.mapped);
                let Some(mapped) = mapped.as_ref() else { return 0 };
                let start = (self.first + nth) * HUGE_PAGE;
                let page = start.max(mapped.start)..(start + HUGE_PAGE).min(mapped.end);
                if let Err(error) = populate(page) {
                    // Kernels before 5.14 have no such advice. The first write populates the page then.
                    tracing::debug!(%error, "cannot populate memory ahead of its use");
                }
            }
        }
        count
    }

    /// Ends the population of the region, which is about to be unmapped.
    pub(super) fn close(&self) {
        *lock(&self.mapped) = None;
        lock(&self.populator.shared.regions).retain(|region| !std::ptr::eq(&**region, self));
    }
}

/// Locks a mutex, whose data no panic leaves half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{super::Region, *};
    use std::{
        fs::File,
        os::unix::fs::FileExt,
        time::{Duration, Instant},
    };

    /// Returns the number of bytes of `region` that are in memory (Documentation/admin-guide/mm/pagemap.rst).
    fn resident(region: &Region) -> usize {
        const PAGE: usize = 4096;
        let (start, len) = (region.base().as_ptr().addr(), region.bytes().len());
        let mut entries = vec![0; len / PAGE * size_of::<u64>()];
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        pagemap.read_exact_at(&mut entries, (start / PAGE * size_of::<u64>()) as u64).unwrap();
        // The highest bit says that the page is present.
        PAGE * entries.chunks_exact(size_of::<u64>()).filter(|entry| entry[7] & 0x80 != 0).count()
    }

    /// Waits until `is` holds, for as long as a loaded machine may take.
    fn wait_for(what: &str, is: impl Fn() -> bool) {
        let began = Instant::now();
        while !is() {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}");
            thread::yield_now();
        }
    }

    fn region(pages: usize, thread: &PopulatorThread) -> Option<Region> {
        let mut region = Region::new(pages * HUGE_PAGE).unwrap();
        region.populate_by(&thread.populator());
        // On reserved pages, or where the node cannot be chosen, there is nothing to do.
        region.ahead.is_some().then_some(region)
    }

    #[test]
    fn pages_that_are_asked_for_are_populated_and_no_others() {
        let thread = PopulatorThread::start("memory", || {}).unwrap();
        let Some(region) = region(16, &thread) else { return };
        assert_eq!(resident(&region), 0);
        let start = region.base().as_ptr().addr();
        let page = |nth: usize| {
            let at = start.next_multiple_of(HUGE_PAGE) - start + nth * HUGE_PAGE;
            at..at + HUGE_PAGE
        };
        region.will_use(page(3).start..page(3).start + 1);
        wait_for("a page", || resident(&region) == HUGE_PAGE);
        // Known already; nothing; beyond the region.
        region.will_use(page(3));
        region.will_use(page(5).start..page(5).start);
        region.will_use(usize::MAX - 1..usize::MAX);
        // Handled after those.
        region.will_use(page(7).start + 1..page(8).end);
        wait_for("more pages", || resident(&region) >= 3 * HUGE_PAGE);
        assert_eq!(resident(&region), 3 * HUGE_PAGE);
        assert!(region.bytes().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn regions_come_and_go_while_the_thread_populates_them() {
        let thread = PopulatorThread::start("memory", || {}).unwrap();
        for round in 0..50 {
            let Some(mut region) = region(1 + round % 3, &thread) else { return };
            region.will_use(0..usize::MAX);
            region.bytes_mut()[round] = 1;
            drop(region);
            assert!(lock(&thread.populator.shared.regions).is_empty());
        }
    }

    #[test]
    fn a_region_may_outlive_the_thread() {
        let thread = PopulatorThread::start("memory", || {}).unwrap();
        let Some(mut region) = region(2, &thread) else { return };
        drop(thread);
        region.will_use(0..HUGE_PAGE);
        region.bytes_mut().fill(7);
        assert_eq!(region.bytes()[HUGE_PAGE], 7);
    }
}
