//! Where every row is: what was taken in is stored, spooled, in hand or dropped, at any moment.

use parking_lot::Mutex;
use ringdns_common::counters::Total;

/// Why rows were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The spool was full, and they were the oldest.
    Full,
    /// The spool could not be written or read.
    Disk,
    /// Their segment was found damaged.
    Damaged,
    /// ClickHouse had stored a part of their segment, and would have stored that part twice.
    Torn,
}

macro_rules! sums {
    (@list $sums:ident { $($(#[doc = $doc:literal])+ $field:ident,)* }) => {
        vec![$(Total {
            name: stringify!($field),
            doc: concat!($($doc),+).trim_ascii(),
            value: $sums.$field,
        }),*]
    };
    (rising $rising:tt now $now:tt) => {
        sums!(@fields $rising $now);

        impl Sums {
            /// Those that only rise, with names and meanings.
            pub fn totals(&self) -> Vec<Total> {
                sums!(@list self $rising)
            }

            /// Those that are of now.
            pub fn gauges(&self) -> Vec<Total> {
                sums!(@list self $now)
            }
        }
    };
    (@fields { $($(#[doc = $doc:literal])+ $field:ident,)* } { $($(#[doc = $other:literal])+ $gauge:ident,)* }) => {
        /// Rows and segments, counted.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Sums {
            $($(#[doc = $doc])+ pub $field: u64,)*
            $($(#[doc = $other])+ pub $gauge: u64,)*
        }
    };
}

sums! {
    rising {
        /// Rows that came from the workers and listeners.
        taken,
        /// Rows that were in the spool when it was opened.
        found,
        /// Rows that ClickHouse has stored.
        stored,
        /// Rows dropped because the spool was full, the oldest first.
        dropped_spool_full,
        /// Rows dropped because the spool could not be written or read.
        dropped_disk,
        /// Rows dropped because their segment was found damaged.
        dropped_damaged,
        /// Rows dropped because ClickHouse had stored a part of their segment already.
        dropped_torn,
        /// Segments stored.
        segments_stored,
        /// Segments that ClickHouse turned out to have, though it never said so.
        segments_recognised,
        /// Segments found damaged; their rows are counted where their number could be read.
        segments_damaged,
        /// Attempts to store a segment that failed.
        attempts_failed,
    }
    now {
        /// Rows that are in the spool.
        spooled,
        /// Rows that are in memory, in a batch or on their way to ClickHouse.
        in_hand,
        /// Bytes of the spool on disk.
        spool_bytes,
    }
}

impl Sums {
    /// All dropped rows.
    pub fn dropped(&self) -> u64 {
        self.dropped_spool_full + self.dropped_disk + self.dropped_damaged + self.dropped_torn
    }

    /// Rows of which nobody knows where they are; always 0.
    pub fn unaccounted(&self) -> i64 {
        let known = self.stored + self.spooled + self.in_hand + self.dropped();
        (self.taken + self.found).cast_signed() - known.cast_signed()
    }
}

/// The sums, each change of which is whole.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Sums>);

impl Ledger {
    /// As things are.
    pub fn sums(&self) -> Sums {
        *self.0.lock()
    }

    /// Rows came in.
    pub fn take(&self, rows: usize) {
        self.change(|sums| {
            sums.taken += rows as u64;
            sums.in_hand += rows as u64;
        });
    }

    /// A segment that lay there was found; its rows are spooled.
    pub fn find(&self, rows: u32) {
        self.change(|sums| {
            sums.found += u64::from(rows);
            sums.spooled += u64::from(rows);
        });
    }

    /// Rows in hand are in the spool now.
    pub fn spool(&self, rows: u32) {
        self.change(|sums| {
            sums.in_hand -= u64::from(rows);
            sums.spooled += u64::from(rows);
        });
    }

    /// Rows are not in the place any more that they were in, since ClickHouse has them.
    pub fn store(&self, rows: u32, place: Place) {
        self.change(|sums| {
            *place.of(sums) -= u64::from(rows);
            sums.stored += u64::from(rows);
        });
    }

    /// The same, since they are lost.
    pub fn lose(&self, rows: u32, place: Place, loss: Loss) {
        self.change(|sums| {
            *place.of(sums) -= u64::from(rows);
            let dropped = match loss {
                Loss::Full => &mut sums.dropped_spool_full,
                Loss::Disk => &mut sums.dropped_disk,
                Loss::Damaged => &mut sums.dropped_damaged,
                Loss::Torn => &mut sums.dropped_torn,
            };
            *dropped += u64::from(rows);
        });
    }

    /// Counts what is no row.
    pub fn change(&self, change: impl FnOnce(&mut Sums)) {
        change(&mut self.0.lock());
    }
}

/// Where rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In memory.
    Hand,
    /// On disk.
    Spool,
}

impl Place {
    fn of(self, sums: &mut Sums) -> &mut u64 {
        match self {
            Place::Hand => &mut sums.in_hand,
            Place::Spool => &mut sums.spooled,
        }
    }
}
