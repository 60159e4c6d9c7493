//! Accounts for every row: each row taken in is stored, spooled, in hand or dropped, at any moment.

use parking_lot::Mutex;
use ringdns_common::{counters::Total, fault::Fault};

/// Reason for dropping rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The spool was full, and these rows were the oldest.
    Full,
    /// The spool could not be written or read.
    Disk,
    /// The segment of the rows is damaged.
    Damaged,
    /// ClickHouse has stored a part of the segment, and would store that part twice.
    Torn,
    /// ClickHouse takes other segments, and not this one.
    Refused,
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
            /// Returns the counters, which only rise, with names and help texts.
            pub fn totals(&self) -> Vec<Total> {
                sums!(@list self $rising)
            }

            /// Returns the gauges, with names and help texts.
            pub fn gauges(&self) -> Vec<Total> {
                sums!(@list self $now)
            }
        }
    };
    (@fields { $($(#[doc = $doc:literal])+ $field:ident,)* } { $($(#[doc = $other:literal])+ $gauge:ident,)* }) => {
        /// Counts of rows and segments.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Sums {
            $($(#[doc = $doc])+ pub $field: u64,)*
            $($(#[doc = $other])+ pub $gauge: u64,)*
        }
    };
}

sums! {
    rising {
        /// Query log rows that came from the workers and the TCP listener.
        taken,
        /// Query log rows that were in the spool when it was opened.
        found,
        /// Query log rows stored in ClickHouse.
        stored,
        /// Query log rows dropped because the spool was full, the oldest first.
        dropped_spool_full,
        /// Query log rows dropped because the spool could not be written or read.
        dropped_disk,
        /// Query log rows dropped because their segment was damaged.
        dropped_damaged,
        /// Query log rows dropped because ClickHouse had already stored a part of their segment.
        dropped_torn,
        /// Query log rows dropped because ClickHouse refused their segment and took others.
        dropped_refused,
        /// Query log segments stored in ClickHouse.
        segments_stored,
        /// Query log segments found to be stored in ClickHouse, though no response confirmed it.
        segments_recognised,
        /// Damaged query log segments; their rows are counted where their number could be read.
        segments_damaged,
        /// Failed attempts to store a query log segment.
        attempts_failed,
    }
    now {
        /// Query log rows in the spool.
        spooled,
        /// Query log rows in memory, in a batch or in flight to ClickHouse.
        in_hand,
        /// Bytes of the query log's spool on disk.
        spool_bytes,
    }
}

impl Sums {
    /// Returns the number of all dropped rows.
    pub fn dropped(&self) -> u64 {
        self.dropped_spool_full
            + self.dropped_disk
            + self.dropped_damaged
            + self.dropped_torn
            + self.dropped_refused
    }

    /// Returns the number of rows whose place is unknown; always 0.
    pub fn unaccounted(&self) -> i64 {
        let known = self.stored + self.spooled + self.in_hand + self.dropped();
        (self.taken + self.found).cast_signed() - known.cast_signed()
    }
}

/// Sums that change atomically: a reader never sees half of a change. Beside them, the faults of the places
/// that rows go to.
#[derive(Debug, Default)]
pub struct Ledger {
    sums: Mutex<Sums>,
    /// Fault of ClickHouse.
    pub clickhouse: Fault,
    /// Fault of the spool on disk.
    pub spool: Fault,
}

impl Ledger {
    /// Returns the current sums.
    pub fn sums(&self) -> Sums {
        *self.sums.lock()
    }

    /// Counts rows that came in.
    pub fn take(&self, rows: usize) {
        self.change(|sums| {
            sums.taken += rows as u64;
            sums.in_hand += rows as u64;
        });
    }

    /// Counts the rows of a segment found in the spool.
    pub fn find(&self, rows: u32) {
        self.change(|sums| {
            sums.found += u64::from(rows);
            sums.spooled += u64::from(rows);
        });
    }

    /// Moves rows from memory to the spool.
    pub fn spool(&self, rows: u32) {
        self.change(|sums| {
            sums.in_hand -= u64::from(rows);
            sums.spooled += u64::from(rows);
        });
    }

    /// Counts rows of `place` as stored in ClickHouse.
    pub fn store(&self, rows: u32, place: RowPlace) {
        self.change(|sums| {
            *place.of(sums) -= u64::from(rows);
            sums.stored += u64::from(rows);
        });
    }

    /// Counts rows of `place` as dropped.
    pub fn lose(&self, rows: u32, place: RowPlace, loss: Loss) {
        self.change(|sums| {
            *place.of(sums) -= u64::from(rows);
            let dropped = match loss {
                Loss::Full => &mut sums.dropped_spool_full,
                Loss::Disk => &mut sums.dropped_disk,
                Loss::Damaged => &mut sums.dropped_damaged,
                Loss::Torn => &mut sums.dropped_torn,
                Loss::Refused => &mut sums.dropped_refused,
            };
            *dropped += u64::from(rows);
        });
    }

    /// Changes sums that do not count rows.
    pub fn change(&self, change: impl FnOnce(&mut Sums)) {
        change(&mut self.sums.lock());
    }
}

/// Place of rows that are neither stored nor dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowPlace {
    /// In memory.
    Hand,
    /// On disk.
    Spool,
}

impl RowPlace {
    fn of(self, sums: &mut Sums) -> &mut u64 {
        match self {
            RowPlace::Hand => &mut sums.in_hand,
            RowPlace::Spool => &mut sums.spooled,
        }
    }
}
